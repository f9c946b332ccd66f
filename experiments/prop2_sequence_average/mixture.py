r"""The mixture behind proposition 2, fitted to training examples by maximum likelihood.

.. math:: p(x \mid s) = \lambda p_0(x) + (1 - \lambda) e^{\tau \langle\phi(x), \bar\phi(s)\rangle}
          / Z_s
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.models.towers import discount_from
from kernlens.types import Array

SCALES = tuple(2.0**k for k in range(-4, 13))
"""Values of tau that are tried, in units of one over the trace of the items' covariance."""

STEPS = 60


class Mixture(NamedTuple):
    r"""The likeliest mixture.

    Attributes:
      lam: share of popularity, :math:`\lambda`.
      log_z: median over histories of :math:`\log Z_s`.
      scale: :math:`\tau`, which a table times :math:`c` divides by :math:`c^2`.
      alpha: :math:`(1 - \lambda) / (\lambda Z)`.
      low: the same of the :math:`Z_s` that 95% of the histories lie below.
      high: of the one that 5% lie below.
      gain: log likelihood an example beyond that of popularity alone, nats.
    """

    lam: float
    log_z: float
    scale: float
    alpha: float
    low: float
    high: float
    gain: float


def fit(queries: np.ndarray, items: np.ndarray, share: np.ndarray, target: np.ndarray) -> Mixture:
    r"""The mixture of some examples, of embeddings with their mean taken out.

    Proposition 2 takes one :math:`Z` for all histories. Products with the mean of the embeddings,
    which says nothing of an item, make :math:`Z_s` range over dozens of orders of magnitude, and
    its mean that of a few outliers; so the items are centred, and :math:`Z` is the median, of
    logarithms. All but :math:`\tau` is the same for a table of any scale.

    Args:
      queries: average of each history, ``[n, d]``.
      items: ``[m, d]``.
      share: :math:`p_0`, ``[m]``, positive at every target.
      target: ``[n]``.

    Raises:
      ValueError: items that are all the same.
    """
    centre = np.mean(items, axis=0, dtype=np.float64).astype(np.float32)
    unit = np.sqrt(np.mean(np.sum(np.square(items - centre, dtype=np.float64), axis=1)))
    if not unit > 0:
        raise ValueError(f"items: expected vectors that differ; got {len(items)} of one value")
    parts = _fit(
        jnp.asarray((queries - centre) / unit, jnp.float32),
        jnp.asarray((items - centre) / unit, jnp.float32),
        jnp.asarray(share, jnp.float32),
        target,
    )
    lams, log_z, gains = (np.asarray(part, np.float64) for part in parts)
    best = int(np.argmax(gains))
    # One that is all popularity, or none, has no discount to speak of: the ends of the range.
    lam = float(np.clip(lams[best], 1e-4, 1 - 1e-4))
    middle, most, least = map(float, np.quantile(log_z[best], (0.5, 0.95, 0.05)))
    # Float64 holds every Z up to e^700.
    alpha, low, high = (discount_from(lam, math.exp(min(z, 700))) for z in (middle, most, least))
    return Mixture(lam, middle, SCALES[best] / unit**2, alpha, low, high, float(gains[best]))


@jax.jit
def _fit(queries: Array, items: Array, share: Array, target: Array):
    logits = jnp.matmul(queries, items.T, precision="highest")
    popular = share[target]

    def at(scale: Array):
        log_z = jax.nn.logsumexp(scale * logits, axis=1)
        own = jnp.exp(scale * logits[jnp.arange(len(target)), target] - log_z)

        def step(_: int, lam: Array) -> Array:
            total = lam * popular + (1 - lam) * own
            return jnp.mean(lam * popular / total)

        lam = jax.lax.fori_loop(0, STEPS, step, jnp.asarray(0.5, logits.dtype))
        gain = jnp.mean(jnp.log(lam * popular + (1 - lam) * own) - jnp.log(popular))
        return lam, log_z, gain

    return jax.lax.map(at, jnp.asarray(SCALES, logits.dtype))

r"""The mixture behind proposition 2, fitted to training examples by maximum likelihood.

.. math:: p(x \mid s) = \lambda p_0(x) + (1 - \lambda) e^{\tau \langle\phi(x), \bar\phi(s)\rangle}
          / Z_s
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.models.towers import discount_from
from kernlens.types import Array

SCALES = tuple(2.0**k for k in range(-4, 9))
STEPS = 60


class Mixture(NamedTuple):
    r"""The likeliest mixture.

    Attributes:
      lam: share of popularity, :math:`\lambda`.
      z: mean of :math:`Z_s`.
      scale: :math:`\tau`, of the average of a history.
      alpha: :math:`(1 - \lambda) / (\lambda Z)`.
      gain: log likelihood an example beyond that of popularity alone, nats.
    """

    lam: float
    z: float
    scale: float
    alpha: float
    gain: float


def fit(queries: np.ndarray, items: np.ndarray, share: np.ndarray, target: np.ndarray) -> Mixture:
    """The mixture of some examples.

    Args:
      queries: average of each history, ``[n, d]``.
      items: ``[m, d]``.
      share: :math:`p_0`, ``[m]``, positive at every target.
      target: ``[n]``.
    """
    lams, means, gains = (
        np.asarray(part)
        for part in _fit(
            jnp.asarray(queries), jnp.asarray(items), jnp.asarray(share, jnp.float32), target
        )
    )
    best = int(np.argmax(gains))
    # One that is all popularity, or none, has no discount to speak of: the ends of the range.
    lam = float(np.clip(lams[best], 1e-4, 1 - 1e-4))
    z = float(min(means[best], 1e30))
    return Mixture(lam, z, SCALES[best], discount_from(lam, z), float(gains[best]))


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
        return lam, jnp.mean(jnp.exp(log_z)), gain

    return jax.lax.map(at, jnp.asarray(SCALES, logits.dtype))

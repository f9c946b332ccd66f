r"""Transfer from a source classifier: what its posteriors on the target rows say of their labels.

:math:`\theta_{iz}` is the source model's probability of its class ``z`` on row ``i``. Posteriors
that are no probabilities and labels that are none are a ValueError, except under ``jit``.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from kernlens.moments import Moments, class_sums
from kernlens.scores import checks
from kernlens.scores.checks import checked
from kernlens.scores.estimator import Estimator, ratio
from kernlens.types import Array

TINY = 1e-10
"""What the PACTran authors add before logarithms."""


def hard(posteriors: Array) -> Array:
    """One-hot rows of the likeliest source class, a feature map for :func:`nce`, ``[n, Z]``."""
    likeliest = jax.nn.one_hot(
        jnp.argmax(posteriors, axis=1), posteriors.shape[1], dtype=posteriors.dtype
    )
    return jnp.where(jnp.isfinite(posteriors).all(axis=1, keepdims=True), likeliest, jnp.nan)


@checked(moments=checks.moments)
@jax.jit
def nce(moments: Moments) -> Array:
    r"""Negative conditional entropy of the label given the source class.

    .. math:: \sum_{yz} P(y, z) \log P(y | z), \qquad
              P(y, z) = \tfrac1n \sum_{i: y_i = y} \theta_{iz}

    Args:
      moments: moments of the :func:`hard` posteriors; every row with a label.

    Returns:
      Value in ``[-log C, 0]``, the negative entropy of the labels expected for noise, ``[]``.

    Raises:
      ValueError: moments of a row that is not finite, or without a label at all.

    References:
      Tran, Nguyen and Hassner (2019), equation 4.
    """
    joint = _joint(moments)
    given = ratio(joint, joint.sum(axis=0))
    return jnp.sum(joint * jnp.log(jnp.where(given > 0, given, 1.0)))


@checked(moments=checks.moments, posteriors=checks.posteriors, codes=checks.met_codes)
@jax.jit
def leep(moments: Moments, posteriors: Array, codes: Array) -> Array:
    r"""LEEP, mean log probability of the label under the empirical predictor.

    .. math:: \frac1n \sum_i \log \sum_z P(y_i | z)\, \theta_{iz}

    Args:
      moments: moments of the posteriors of all rows.
      posteriors: of the rows, or of a chunk of them (weigh the means by rows), ``[m, Z]``, ``m`` at
        least 1.
      codes: class of each, ``[m]``.

    Returns:
      Value at most 0, the negative entropy of the labels expected for noise, ``[]``. A probability
      below the least normal number of the dtype counts as that.

    Raises:
      ValueError: no row, posteriors that are no probabilities, or a class that the moments do not
        hold, whose log probability would be infinite.

    References:
      Nguyen et al. (2020), equation 2.
    """
    chex.assert_rank([posteriors, codes], [2, 1])
    joint = _joint(moments)
    given = ratio(joint, joint.sum(axis=0))
    likely = jnp.sum(given[codes] * posteriors, axis=1)
    return jnp.mean(jnp.log(jnp.maximum(likely, jnp.finfo(likely.dtype).tiny)))


@checked(posteriors=checks.posteriors, codes=checks.codes, alpha=checks.positive)
@partial(jax.jit, static_argnames=("num_classes", "iterations"))
def pactran_dirichlet(
    posteriors: Array, codes: Array, num_classes: int, *, alpha: float = 1.0, iterations: int = 10
) -> Array:
    r"""PACTran bound with a Dirichlet prior on :math:`P(y | z)`.

    Variational steps between the posterior :math:`q_{iz}` of the source class of a row and the
    Dirichlet counts :math:`a_{yz} = a^0_y + \sum_{i: y_i = y} q_{iz}`; the bound over ``n C``.

    Args:
      posteriors: ``[n, Z]``.
      codes: class of each row, ``[n]``.
      num_classes: ``C``.
      alpha: total prior count, positive.
      iterations: variational steps.

    Returns:
      Bound, less is better, ``[]``.

    Raises:
      ValueError: no row, posteriors that are no probabilities, a code outside
        ``0..num_classes-1``, or ``alpha`` not positive.

    References:
      Ding et al. (2022), PACTran, equation 12.
    """
    labels, prior, log_source = _prior(posteriors, codes, num_classes, alpha)

    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        counts = prior + labels.T @ state[0]
        logits = log_source + labels @ digamma(counts) - digamma(counts.sum(axis=0))
        log_q = jax.nn.log_softmax(logits, axis=1)
        return jnp.exp(log_q), log_q, counts

    start = (
        posteriors,
        log_source,
        prior + jnp.zeros((num_classes, posteriors.shape[1]), prior.dtype),
    )
    q, log_q, counts = jax.lax.fori_loop(0, iterations, step, start)
    before = gammaln(prior.sum()) - gammaln(prior).sum()
    after = gammaln(counts.sum(axis=0)) - gammaln(counts).sum(axis=0)
    bound = jnp.sum(before - after - jnp.sum(q * (log_q - log_source), axis=0))
    return -bound / labels.size


@checked(posteriors=checks.posteriors, codes=checks.codes, alpha=checks.positive)
@partial(jax.jit, static_argnames=("num_classes", "iterations"))
def pactran_gamma(
    posteriors: Array, codes: Array, num_classes: int, *, alpha: float = 1.0, iterations: int = 10
) -> Array:
    r"""PACTran bound with a Gamma prior on unnormalised :math:`P(y | z)`.

    Args:
      posteriors: ``[n, Z]``.
      codes: class of each row, ``[n]``.
      num_classes: ``C``.
      alpha: total prior shape, positive; the prior rate is 1.
      iterations: variational steps.

    Returns:
      Bound, less is better, ``[]``.

    Raises:
      ValueError: no row, posteriors that are no probabilities, a code outside
        ``0..num_classes-1``, or ``alpha`` not positive.

    References:
      Ding et al. (2022), PACTran, equation 16.
    """
    labels, prior, log_source = _prior(posteriors, codes, num_classes, alpha)

    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        shapes = prior + labels.T @ state[0]
        log_q = jax.nn.log_softmax(log_source + labels @ digamma(shapes), axis=1)
        return jnp.exp(log_q), log_q, shapes

    start = (
        posteriors,
        log_source,
        prior + jnp.zeros((num_classes, posteriors.shape[1]), prior.dtype),
    )
    q, log_q, shapes = jax.lax.fori_loop(0, iterations, step, start)
    rates = posteriors @ shapes.sum(axis=0)
    bound = jnp.sum(gammaln(prior) - gammaln(shapes)) + jnp.sum(
        jnp.sum(q * (log_q - log_source), axis=1) + jnp.log(rates) - 1.0
    )
    return bound / labels.size + 1.0


def _joint(moments: Moments) -> Array:
    return ratio(jnp.maximum(class_sums(moments), 0.0), moments.class_counts.sum())


def _prior(
    posteriors: Array, codes: Array, num_classes: int, alpha: float
) -> tuple[Array, Array, Array]:
    chex.assert_rank([posteriors, codes], [2, 1])
    labels = jax.nn.one_hot(codes, num_classes, dtype=posteriors.dtype)
    prior = alpha * labels.mean(axis=0)[:, None] + TINY
    return labels, prior, jnp.log(posteriors + TINY)


SOURCES: dict[str, Estimator] = {
    "nce": Estimator(
        nce,
        formula=r"\sum_{yz} P(y, z) \log P(y | z)",
        source="Tran, Nguyen and Hassner (2019), equation 4",
        range="[-log C, 0]",
        null="the negative entropy of the labels, for many rows a source class",
        predicts="transfer of a source classifier's last layer",
        pitfalls="needs a source model; sees its hard answers alone; in sample, so it rises with "
        "the number of source classes",
        features=hard,
        scale_free=False,
        rotation_free=False,
    ),
    "leep": Estimator(
        leep,
        formula=r"\tfrac1n \sum_i \log \sum_z P(y_i | z)\, \theta_{iz}",
        source="Nguyen et al. (2020), equation 2",
        range="(-inf, 0]",
        null="the negative entropy of the labels, for many rows a source class",
        predicts="transfer of a source classifier's last layer",
        pitfalls="needs a source model with calibrated posteriors; in sample",
        scale_free=False,
        rotation_free=False,
    ),
    "pactran_dirichlet": Estimator(
        pactran_dirichlet,
        formula=r"-\tfrac{1}{nC} \log\text{ evidence of } P(y | z) \sim \mathrm{Dirichlet}",
        source="Ding et al. (2022), PACTran, equation 12",
        range="(-inf, inf)",
        null="none",
        predicts="transfer of a source classifier's last layer, less for better",
        pitfalls="needs a source model; over n C, so comparable for equal labels alone",
        sign=-1,
        scale_free=False,
        rotation_free=False,
    ),
    "pactran_gamma": Estimator(
        pactran_gamma,
        formula=r"-\tfrac{1}{nC} \log\text{ evidence of } P(y | z) \sim \mathrm{Gamma}",
        source="Ding et al. (2022), PACTran, equation 16",
        range="(-inf, inf)",
        null="none",
        predicts="transfer of a source classifier's last layer, less for better",
        pitfalls="needs a source model; over n C, so comparable for equal labels alone",
        sign=-1,
        scale_free=False,
        rotation_free=False,
    ),
}
"""Scores of a source classifier's posteriors, by name."""

"""Bhattacharyya overlaps of the classes as Gaussians."""

import jax
import jax.numpy as jnp

from kernlens.moments import Moments, column_scatters
from kernlens.scores.basis import cholesky
from kernlens.scores.estimator import (
    Estimator,
    Score,
    check_class_scatters,
    dot,
    ratio,
    root,
    spread,
    where_defined,
)
from kernlens.types import Array


@jax.jit
def gbc_diagonal(moments: Moments, *, floor: float = 1e-6) -> Score:
    r"""Gaussian Bhattacharyya coefficient of the classes, with diagonal covariances.

    .. math:: -\sum_{c \ne c'} e^{-D_{cc'}}, \qquad
              D = \tfrac18 \sum_i \frac{(\mu_{ci} - \mu_{c'i})^2}{\bar\sigma_i}
              + \tfrac12 \sum_i \log \frac{\bar\sigma_i}{\sqrt{\sigma_{ci} \sigma_{c'i}}}

    over ordered pairs, with :math:`\bar\sigma` the mean of the two variances.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      floor: least variance, relative to that of the feature over all rows.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    References:
      Pándy et al. (2022), equation 3.
    """
    totals = column_scatters(moments) / _rows(moments.count)
    return _overlap(moments, _variances(moments, floor), root(totals), 1.0)


@jax.jit
def gbc_spherical(moments: Moments, *, floor: float = 1e-6) -> Score:
    r"""The same with one variance a class, the mean of its diagonal, as published.

    .. math:: D = \tfrac18 \frac{\|\mu_c - \mu_{c'}\|^2}{\bar\sigma}
              + \tfrac12 \log \frac{\bar\sigma}{\sqrt{\sigma_c \sigma_{c'}}}

    The Gaussian's own distance has ``p`` times the second term; the published code has it once.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      floor: least variance of a feature, relative to that over all rows.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    References:
      Pándy et al. (2022), equation 3, and their released code.
    """
    _, trace = spread(moments)
    weights = column_scatters(moments) / trace
    variances = _variances(moments, floor)
    alike = jnp.broadcast_to(dot(variances, weights)[:, None], variances.shape)
    unit = root(trace / len(weights) / _rows(moments.count))
    return _overlap(moments, alike, unit, 1.0 / len(weights))


@jax.jit
def gbc_full(moments: Moments, *, ridge: float = 1e-3) -> Score:
    r"""The same with a full covariance a class.

    .. math:: D = \tfrac18 \delta^\top \bar\Sigma^{-1} \delta
              + \tfrac12 \log \frac{|\bar\Sigma|}{\sqrt{|\Sigma_c| |\Sigma_{c'}|}}

    Args:
      moments: moments of the features as they are, with the scatter of each class.
      ridge: added to every covariance, relative to the mean variance of a feature over all rows; a
        class with fewer rows than features has no inverse without it.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Pándy et al. (2022), equation 3.
    """
    check_class_scatters(moments)
    defined, trace = spread(moments)
    counts, dim = moments.class_counts, moments.mean.shape[0]
    scale = jnp.sqrt(trace / dim / _rows(moments.count))
    means = ratio(moments.class_deviations, counts[:, None]) / scale
    covariances = ratio(moments.class_scatters, counts[:, None, None]) / scale**2
    covariances = covariances + ridge * jnp.eye(dim, dtype=scale.dtype)
    rates = jax.lax.map(_log_determinant, covariances)
    first, second = jnp.triu_indices(counts.shape[0], 1)

    def distance(pair: tuple[Array, Array]) -> Array:
        a, b = pair
        factor = cholesky(0.5 * (covariances[a] + covariances[b]))
        delta = jax.scipy.linalg.solve_triangular(factor, means[a] - means[b], lower=True)
        rate = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * (rates[a] + rates[b])
        return 0.125 * jnp.sum(delta**2) + 0.5 * rate

    distances = jax.lax.map(distance, (first, second))
    present = (counts > 0)[first] & (counts > 0)[second]
    value = -2.0 * jnp.sum(jnp.where(present, jnp.exp(-distances), 0.0))
    return where_defined(defined, value, _all_pairs(moments))


OVERLAPS: dict[str, Estimator] = {
    "gbc_diagonal": Estimator(
        gbc_diagonal,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), equation 3",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks class-mean and linear classifiers",
        scatter=False,
        pitfalls="takes features for independent, so it depends on the axes; "
        "grows with the number of classes",
        shift_free=True,
        rotation_free=False,
    ),
    "gbc_spherical": Estimator(
        gbc_spherical,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), released code",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks class-mean classifiers",
        scatter=False,
        pitfalls="blind to the shape of classes; published without the p of the volume term; "
        "grows with the number of classes",
        shift_free=True,
    ),
    "gbc_full": Estimator(
        gbc_full,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), equation 3",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks linear and quadratic classifiers",
        pitfalls="needs more rows in each class than features, else the ridge decides",
        class_scatters=True,
        shift_free=True,
    ),
}
"""Overlaps by name."""


def _variances(moments: Moments, floor: float) -> Array:
    """Variance of each feature in each class over that in all rows, floored, ``[C, p]``."""
    totals = column_scatters(moments) / _rows(moments.count)
    variances = ratio(moments.class_squares, moments.class_counts[:, None])
    return jnp.maximum(ratio(variances, totals), floor)


def _overlap(moments: Moments, variances: Array, unit: Array, volume: float) -> Score:
    """From variances ``[C, p]`` over the squared unit; the log term times ``volume``."""
    defined, _ = spread(moments)
    means = ratio(ratio(moments.class_deviations, moments.class_counts[:, None]), unit)
    logs = jnp.log(variances).sum(axis=1)

    def against(one: tuple[Array, Array, Array]) -> Array:
        mean, variance, log = one
        middle = 0.5 * (variance + variances)
        apart = 0.125 * jnp.sum((mean - means) ** 2 / middle, axis=1)
        return apart + 0.5 * volume * (jnp.log(middle).sum(axis=1) - 0.5 * (log + logs))

    distances = jax.lax.map(against, (means, variances, logs))
    present = moments.class_counts > 0
    counted = present[:, None] & present & ~jnp.eye(len(present), dtype=bool)
    value = -jnp.sum(jnp.where(counted, jnp.exp(-distances), 0.0))
    return where_defined(defined, value, _all_pairs(moments))


def _all_pairs(moments: Moments) -> Array:
    present = jnp.sum(moments.class_counts > 0).astype(moments.count.dtype)
    return -present * (present - 1.0)


def _log_determinant(matrix: Array) -> Array:
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))


def _rows(count: Array) -> Array:
    return jnp.maximum(count, 1.0)

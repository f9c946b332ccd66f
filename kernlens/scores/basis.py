r"""The eigenbasis in which ridge, evidence and spectra are sums over directions.

Features are divided by the root mean eigenvalue of their scatter first, so that float32 holds the
squares at any scale, and a common mean is kept apart from the scatter: what concerns uncentred
features, :math:`X^\top X = S + n \mu\mu^\top`, is worked out by rank-one formulas that never form
that sum, where a mean far above the spread would leave no digits for the spread.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments import Moments, full_scatter
from kernlens.scores.estimator import dot, ratio, root, spread
from kernlens.types import Array


class Basis(NamedTuple):
    r"""Moments in the eigenbasis of the scatter, features divided by :math:`\sqrt u`.

    Attributes:
      defined: whether the features vary beyond rounding, ``[]``.
      unit: :math:`u`, the mean eigenvalue of the scatter in the features' own squared unit, ``[]``.
      count: number of rows, ``[]``.
      values: eigenvalues of the scatter over ``u``, falling, 0 where only rounding, ``[p]``.
      vectors: a column for each, ``[p, p]``.
      mean: mean of the rows along each, ``[p]``.
      deviations: :math:`n_c (\mu_c - \mu)` along each, ``[C, p]``.
      class_counts: ``[C]``.
    """

    defined: Array
    unit: Array
    count: Array
    values: Array
    vectors: Array
    mean: Array
    deviations: Array
    class_counts: Array


def eigenbasis(moments: Moments) -> Basis:
    """The eigenbasis of the scatter of all rows."""
    defined, trace = spread(moments)
    dim = moments.mean.shape[0]
    unit = trace / dim
    values, vectors = eigh(jnp.where(defined, full_scatter(moments) / unit, 0.0))
    scale = jnp.sqrt(unit)
    deviations = jnp.where(defined, dot(moments.class_deviations / scale, vectors), 0.0)
    mean = (moments.mean + moments.mean_low) / scale
    return Basis(
        defined=defined,
        unit=unit,
        count=moments.count,
        values=values,
        vectors=vectors,
        mean=dot(mean, vectors),
        deviations=jnp.where(values > 0, deviations, 0.0),
        class_counts=moments.class_counts,
    )


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues of a positive semi-definite matrix, falling, rounding set to 0; eigenvectors."""
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    return jnp.where(values > rounding(matrix, jnp.max(values)), values, 0.0), vectors


def cholesky(matrix: Array) -> Array:
    """Lower Cholesky factor of a symmetric matrix; NaN where it is not positive definite.

    LAPACK reads columns: the transpose, which is the same matrix, lies in memory as it wants it,
    and the copies and the mirroring that are saved took as long as the factorisation.
    """
    return jax.lax.linalg.cholesky(matrix.T, symmetrize_input=False)


def rounding(matrix: Array, largest: Array) -> Array:
    """What an eigenvalue has to exceed not to be taken for rounding, given the largest."""
    floor = 4.0 * matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps) * largest
    return jnp.maximum(floor, 0.0)


def label_scatters(counted: Basis | Moments) -> Array:
    r"""Scatter of each class's indicator, :math:`n_c (1 - n_c / n)`, ``[C]``."""
    counts, n = counted.class_counts, counted.count
    return counts * ratio(n - counts, n)


def fitted(basis: Basis) -> Array:
    r"""Squared coefficient of each class's indicator along each direction of the rows, ``[C, p]``.

    :math:`g_{ci}^2 = (v_i^\top Z^\top y_c)^2 / s_i`; their sum is what least squares explains of
    :func:`label_scatters`.
    """
    return ratio(basis.deviations**2, basis.values)


def unexplained(basis: Basis) -> Array:
    """What least squares leaves of :func:`label_scatters`, ``[C]``."""
    return jnp.maximum(label_scatters(basis) - fitted(basis).sum(axis=1), 0.0)


def uncentred_values(moments: Moments) -> tuple[Array, Array]:
    r"""Eigenvalues of :math:`X^\top X = S + n\mu\mu^\top`, falling, and their unit.

    Each root of the secular equation :math:`1 + n \sum_j \mu_j^2 / (s_j - \lambda) = 0` is found
    as its distance from the eigenvalue of :math:`S` below it, by bisection: small eigenvalues keep
    their digits however large the mean.

    Args:
      moments: of ``p`` features.

    Returns:
      Eigenvalues over the unit, ``[p]``, and the unit, the squared unit of the features, ``[]``.

    References:
      Golub (1973), section 5.
    """
    basis = eigenbasis(moments)
    poles = basis.values[::-1]
    weights = basis.count * basis.mean[::-1] ** 2
    total = weights.sum()
    gaps = poles[None, :] - poles[:, None]
    widths = jnp.append(poles[1:] - poles[:-1], total)

    def value(step: Array) -> Array:
        distance = gaps - step[:, None]
        safe = jnp.where(distance == 0, 1.0, distance)
        return 1.0 + jnp.sum(jnp.where(weights > 0, weights / safe, 0.0), axis=1)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = value(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    bracket = (jnp.zeros_like(widths), widths)
    low, high = jax.lax.fori_loop(0, jnp.finfo(poles.dtype).nmant + 20, halve, bracket)
    unit = jnp.where(basis.defined, basis.unit, 1.0)
    return jnp.maximum(poles + 0.5 * (low + high), 0.0)[::-1], unit


def whitening(matrix: Array) -> Array:
    """Symmetric ``W`` with ``W matrix W`` the projector on the span of ``matrix``."""
    size = jnp.trace(matrix)
    values, vectors = eigh(ratio(matrix, size))
    inverse = ratio(jnp.ones_like(values), root(values) * root(size))
    return dot(vectors * inverse, vectors.T)


def stretch(moments: Moments) -> Array:
    """Symmetric map of the columns after which mean and spread have one size, ``[p, p]``.

    The span of the columns stays what it was, and their uncentred second moment then has a
    condition number of that of the covariance, however large the mean.
    """
    mean = moments.mean + moments.mean_low
    squared = jnp.sum(mean**2)
    across = ratio(mean, root(squared))
    variance = ratio(jnp.trace(moments.scatter), moments.count) / mean.shape[0]
    size = jnp.where(variance > 0, ratio(root(variance), root(variance + squared)), 1.0)
    return jnp.eye(mean.shape[0], dtype=mean.dtype) - (1.0 - size) * jnp.outer(across, across)

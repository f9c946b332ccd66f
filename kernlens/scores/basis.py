r"""The eigenbasis in which ridge, evidence and spectra are sums over directions.

An entry of the scatter has the digits of its own two columns, whatever their scales, so nothing
here may measure one column by another: rank is decided on columns of unit size, and eigenvalues
far below the largest are found as squared singular values of a factor, in float64. A common mean is
kept apart from the scatter: what concerns uncentred features,
:math:`X^\top X = S + n \mu\mu^\top`, is worked out by rank-one formulas that never form that sum,
where a mean far above the spread would leave no digits for the spread.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments import Moments, column_scatters, full_scatter
from kernlens.scores.estimator import dot, norm, ratio, root, spread, varying, wide
from kernlens.types import Array

NEAR, FAR = 16.0, 1e4
"""Ratio of the largest column to the smallest up to which eigenvalues of the scatter tell its rank,
and up to which float64 holds them all."""


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
      rank: number of eigenvalues that are not rounding, ``[]``.
      eps: relative rounding of the moments, ``[]``.
    """

    defined: Array
    unit: Array
    count: Array
    values: Array
    vectors: Array
    mean: Array
    deviations: Array
    class_counts: Array
    rank: Array
    eps: Array


def eigenbasis(moments: Moments) -> Basis:
    """The eigenbasis of the scatter of all rows, in float64 inside ``in_float64``."""
    defined, trace = spread(moments)
    dim, eps = moments.mean.shape[0], float(jnp.finfo(moments.count.dtype).eps)
    unit = wide(trace) / dim
    scatter = wide(full_scatter(moments)) / unit
    values, vectors = graded_eigh(jnp.where(varying(moments), scatter, 0.0), eps=eps)
    scale = jnp.sqrt(unit)
    deviations = dot(wide(moments.class_deviations) / scale, vectors)
    mean = (wide(moments.mean) + wide(moments.mean_low)) / scale
    return Basis(
        defined=defined,
        unit=unit,
        count=wide(moments.count),
        values=values,
        vectors=vectors,
        mean=dot(mean, vectors),
        deviations=jnp.where(values > 0, deviations, 0.0),
        class_counts=wide(moments.class_counts),
        rank=jnp.sum(values > 0).astype(values.dtype),
        eps=jnp.asarray(eps, values.dtype),
    )


def graded_eigh(matrix: Array, *, eps: float) -> tuple[Array, Array]:
    r"""Eigenvalues of a positive semi-definite matrix, each to its own digits; eigenvectors.

    With :math:`M = D R D` and ``R`` of unit diagonal, the rank is that of ``R``, and the
    eigenvalues are the squared singular values of :math:`R^{1/2} D`, where those of a small column
    are not lost next to the square of a large one.

    Args:
      matrix: float64, symmetric, ``[p, p]``; a row and column of zeros for one that is not there.
      eps: rounding of its entries, relative to the sizes of their row and column.

    Returns:
      Eigenvalues, falling, 0 where only rounding, ``[p]``, and a column for each, ``[p, p]``.

    References:
      Demmel and Veselić (1992), Jacobi's method is more accurate than QR, theorem 2.3.
    """
    dim = matrix.shape[0]
    sizes = root(jnp.diagonal(matrix))
    present = sizes > 0
    safe = jnp.where(present, sizes, 1.0)
    unit = jnp.where(jnp.outer(present, present), matrix / safe / safe[:, None], 0.0)
    floor = 4.0 * dim * eps
    apart = jnp.max(sizes, initial=0.0) / jnp.min(
        jnp.where(present, sizes, jnp.inf), initial=jnp.inf
    )
    whole = unit + jnp.diag(jnp.where(present, 0.0, 1.0))
    eye = jnp.eye(dim, dtype=matrix.dtype)
    regular = jnp.isfinite(cholesky(whole - floor * norm(whole) * eye)).all()
    near = apart <= NEAR
    order = jnp.arange(dim)

    def direct() -> tuple[Array, Array]:
        values, vectors = (a[..., ::-1] for a in jnp.linalg.eigh(matrix))
        kept = jnp.where(near, values > floor * values[0], order < present.sum())
        return jnp.where(kept & (values > 0), values, 0.0), vectors

    def by_factor() -> tuple[Array, Array]:
        shares, turn = jnp.linalg.eigh(unit)
        real = shares > floor * shares[-1]
        factor = jnp.where(real, root(shares), 0.0)[:, None] * turn.T * sizes
        _, sigma, vectors = jnp.linalg.svd(factor)
        return jnp.where(order < real.sum(), sigma**2, 0.0), vectors.T

    return jax.lax.cond(near | (regular & (apart <= FAR)), direct, by_factor)


def column_units(moments: Moments) -> Array:
    """A power of two near the spread of each column, or its mean where it is constant, ``[p]``."""
    spreads = root(ratio(column_scatters(moments), moments.count))
    size = jnp.where(varying(moments), spreads, jnp.abs(moments.mean))
    return jax.lax.reduce_precision(jnp.where(size > 0, size, 1.0), jnp.finfo(size.dtype).nexp, 0)


def in_units(moments: Moments, units: Array) -> Moments:
    """First and second moments of the columns over ``units``, powers of two, to the bit."""
    nothing = jnp.zeros((0,), units.dtype)
    return moments._replace(
        mean=moments.mean / units,
        mean_low=moments.mean_low / units,
        scatter=full_scatter(moments) / units / units[:, None],
        third=nothing,
        fourth=nothing,
        class_deviations=moments.class_deviations / units,
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
    """What least squares leaves of :func:`label_scatters`, ``[C]``; 0 at a rank of ``n - 1``."""
    left = jnp.maximum(label_scatters(basis) - fitted(basis).sum(axis=1), 0.0)
    return jnp.where(basis.rank > basis.count - 1.5, 0.0, left)


def uncentred_values(moments: Moments) -> tuple[Array, Array]:
    r"""Eigenvalues of :math:`X^\top X = S + n\mu\mu^\top`, falling, and their unit.

    Each root of the secular equation :math:`1 + n \sum_j \mu_j^2 / (s_j - \lambda) = 0` is found
    as its distance from the eigenvalue of :math:`S` below it, by bisection: small eigenvalues keep
    their digits however large the mean.

    Args:
      moments: moments of ``p`` features.

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
    """Symmetric ``W`` with ``W matrix W`` the projector on the span of ``matrix``.

    Columns have to be of one size (:func:`in_units`): what is far below the largest is dropped.
    """
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

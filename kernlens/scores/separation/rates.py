"""Coding rates of all rows and of those of each class."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.arrays.device import on_device
from kernlens.arrays.rows import unit_rows
from kernlens.moments import Moments, from_arrays, full_scatter
from kernlens.moments.arrays import check_codes
from kernlens.scores.basis import column_units, eigenbasis, graded_eigh, in_units
from kernlens.scores.estimator import (
    Estimator,
    Score,
    check_class_scatters,
    dot,
    in_float64,
    ratio,
    where_defined,
    wide,
)
from kernlens.scores.separation.pivots import (
    MOST_LOST,
    gap_less_log,
    lost_of,
    rate_of,
    reflection,
    taken_of,
)
from kernlens.types import Array

CLASSES_TOGETHER = 4
"""Classes whose small products are made side by side."""


class Rates(NamedTuple):
    """Coding rates in nats, each ``[]``.

    Attributes:
      whole: of all rows.
      gain: what it is above the mean over classes of that of their rows, to its own digits.
    """

    whole: Array
    gain: Array


@partial(jax.jit, static_argnames=("weighted", "centred", "relative", "per_rank"))
def coding_rates(
    moments: Moments,
    *,
    epsilon: float,
    weighted: bool,
    centred: bool = True,
    relative: bool = False,
    per_rank: bool = False,
) -> Rates:
    r"""Coding rate of all rows, and the mean over classes of that of their rows.

    .. math:: R(M) = \tfrac12 \log|I + M / \epsilon|, \qquad
              M = \tfrac1n X^\top X, \quad M_c = \tfrac1{n_c} X_c^\top X_c

    With :math:`q_i` and :math:`q_{ci}` the pivots less 1 of the whole and of class c, and
    :math:`u_{ci} = (q_{ci} - q_i) / (1 + q_i)`, the gain is :math:`-\tfrac12 \sum_i \sum_c w_c
    \log(1 + u_{ci})`, not a subtraction of rates. Its part of first order in u is nearly nothing,
    since the classes' second moments add up to the whole's, and is taken from what does not cancel.

    Args:
      moments: moments of ``p`` features, with the scatter of each class.
      epsilon: distortion :math:`\epsilon > 0` in the squared unit of the features (the
        :math:`\epsilon^2` of some texts).
      weighted: whether classes count by their rows, else each the same.
      centred: whether the mean of all rows is taken off first (class means never are).
      relative: whether :math:`\epsilon` is relative to the trace of ``M``.
      per_rank: whether both are divided by the rank of ``M``.

    Returns:
      :math:`R(M)` and what it is above the mean of :math:`R(M_c)`, in nats, each ``[]``.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Ma et al. (2007), equation 7; Huang et al. (2022), equation 3.
    """
    check_class_scatters(moments)
    counts, n = moments.class_counts, moments.count
    mean = moments.mean + moments.mean_low
    mean = jnp.zeros_like(mean) if centred else mean
    total = ratio(jnp.trace(moments.scatter), n) + jnp.sum(mean**2)
    distortion = epsilon * total if relative else jnp.asarray(epsilon, mean.dtype)
    distortion = jnp.where(distortion > 0, distortion, 1.0)
    # A mean far above the spread goes to the first coordinate: its pivot alone is large then, and
    # what a class is off it keeps its digits in the others.
    turn = reflection(mean)
    centre = turn(mean) * jnp.eye(1, len(mean), dtype=mean.dtype)[0]

    def turned(scatter: Array, offset: Array, count: Array) -> Array:
        spread = turn(turn(ratio(scatter, count)).T)
        offset = turn(offset) + centre
        return (spread + jnp.outer(offset, offset)) / distortion

    def pivots(group: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        matrix = turned(*group)
        taken = taken_of(matrix)
        return jnp.diagonal(matrix), taken, jnp.diagonal(matrix) - taken

    offsets = ratio(moments.class_deviations, counts[:, None])
    diagonal, taken, above = pivots((full_scatter(moments), jnp.zeros_like(mean), n))
    diagonals, takens, aboves = jax.lax.map(pivots, (moments.class_scatters, offsets, counts))
    present, labelled = counts > 0, counts.sum()
    sizes = counts if weighted else present.astype(mean.dtype)
    weights, shares = ratio(sizes, sizes.sum()), ratio(counts, labelled)
    # Of counts, not of shares that are rounded: classes of nearly equal size have little of it.
    beyond = ratio(sizes * labelled - counts * sizes.sum(), sizes.sum() * labelled)

    def by_pivots() -> tuple[Array, Array]:
        unlabelled = jnp.where(n > labelled, dot(shares, diagonals) - diagonal, 0.0)
        first = dot(beyond, diagonals - diagonal) + unlabelled - (dot(weights, takens) - taken)
        least = jnp.maximum(above, 0.0)
        second = dot(weights, gap_less_log(jnp.maximum(aboves, 0.0), least))
        gain = 0.5 * (jnp.sum(second) - jnp.sum(first / (1.0 + least)))
        return 0.5 * jnp.sum(jnp.log1p(least)), gain

    def by_eigenvalues() -> tuple[Array, Array]:
        rate, rates = _rates_by_eigenvalues(moments, mean, offsets + mean, distortion)
        return rate, jnp.sum(jnp.where(present, rate - rates, 0.0) * weights)

    # A class of fewer rows than features, with entries far above 1, has pivots of rounding alone.
    lost = jax.vmap(lost_of)(jnp.vstack([diagonals, diagonal]), jnp.vstack([takens, taken]))
    whole, gain = jax.lax.cond((lost <= MOST_LOST).all(), by_pivots, by_eigenvalues)
    if per_rank:
        rank = jnp.maximum(_rank(moments, mean), 1.0)
        whole, gain = whole / rank, gain / rank
    return Rates(whole, gain)


def transrate_of_rows(
    x: Array | np.ndarray, codes: np.ndarray, num_classes: int, *, epsilon: float = 1e-4
) -> Score:
    r"""The same as :func:`transrate` from rows in memory, where classes are small.

    A class of fewer rows than features has as few eigenvalues as rows, and
    :math:`|I + X_c^\top X_c / (n_c \epsilon)| = |I + X_c X_c^\top / (n_c \epsilon)|` needs no
    matrix of the features: the cost is that of the scatter of all rows. A gain far below the rate
    of the whole has the rounding of that rate, which :func:`transrate` has not. Where that matrix
    would lose digits, of columns of unlike scales, :func:`transrate` takes over.

    Args:
      x: features, ``[n, p]``.
      codes: class of each row, integers ``[n]`` in ``0..C-1``; ``-1`` for none.
      num_classes: number of classes ``C``.
      epsilon: distortion, in the squared unit of the features.

    Returns:
      Value in nats, and its null.

    Raises:
      ValueError: codes out of range or rows that are not finite.

    References:
      Huang et al. (2022), listing 1.
    """
    x, codes = on_device(x), np.asarray(codes)
    check_codes(codes, num_classes)
    largest = max(int(np.bincount(codes[codes >= 0], minlength=1).max()), 1)

    def of_moments() -> Score:
        moments = from_arrays(x, codes, num_classes, class_scatters=True)
        return transrate(moments, epsilon=epsilon)

    if largest >= x.shape[1]:
        return of_moments()
    # As many Gram matrices are held as there is room for beside the rows.
    held = min(max(x.size // largest**2, 1), max(num_classes, 1))
    filled = -(-num_classes // held) * held
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(filled + 1))
    place = starts[:-1, None] + np.arange(largest)
    member = place < starts[1:, None]
    taken = order[np.minimum(place, len(order) - 1)]
    # Classes are read from their rows, so that the moments need not tell them apart.
    moments = from_arrays(x, np.full_like(codes, -1), 0)
    groups = (a.reshape(-1, held, largest) for a in (taken, member))
    parts, lost = _rates_of_rows(moments, x, *groups, epsilon)
    found, lost_of_all = _gain(moments, parts.ravel(), member.any(axis=1), epsilon)
    exact = bool((lost <= MOST_LOST).all() & (lost_of_all <= MOST_LOST))
    return found if exact else of_moments()


@jax.jit
def _rates_of_rows(
    moments: Moments, x: Array, taken: Array, member: Array, epsilon: float
) -> tuple[Array, Array]:
    """Coding rates of groups of classes of rows ``[., C, m]``, of which some are no members, and
    what rounding may take from each."""

    def gram(one: tuple[Array, Array]) -> Array:
        rows, own = one
        z = jnp.where(own[:, None], (x[rows] - moments.mean) - moments.mean_low, 0.0)
        return ratio(dot(z, z.T), own.sum(dtype=z.dtype) * epsilon)

    def of_group(group: tuple[Array, Array]) -> tuple[Array, Array]:
        # All products before all factors: LAPACK's threads and XLA's are in each other's way.
        return jax.lax.map(rate_of, jax.lax.map(gram, group, batch_size=CLASSES_TOGETHER))

    return jax.lax.map(of_group, (taken, member))


@jax.jit
def _gain(moments: Moments, parts: Array, present: Array, epsilon: float) -> tuple[Score, Array]:
    """TransRate from the coding rates of the classes that are present. It is compiled separately,
    so that its factor and their products are not in memory together."""
    whole, lost = rate_of(ratio(moments.scatter, moments.count * epsilon))
    present = present.astype(parts.dtype)
    gain = whole - ratio(jnp.sum(present * parts), present.sum())
    return where_defined(present.any(), gain, jnp.zeros_like(gain)), lost


@in_float64
def projected_coding_rates(moments: Moments, *, epsilon: float) -> Rates:
    r"""Coding rates of the authors' projected TransRate.

    As :func:`coding_rates` weighted, relative and per rank, but of the singular values of
    :math:`M \Sigma^{+} B` in the place of those of ``M``: :math:`\Sigma` the covariance, ``B`` the
    between-class covariance, and ``M`` either :math:`\Sigma` or the covariance of a class.

    Args:
      moments: moments of ``p`` features, with the scatter of each class.
      epsilon: distortion, relative to the sum of the singular values of the whole.

    Returns:
      Rate of the whole and what it is above the mean over classes, in nats, each ``[]``.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), released code, ``pre_transrate_low_dim_proj``.

    Examples:
      >>> from kernlens import moments
      >>> rows = jnp.array([[0.0, 1.0], [0.2, -1.0], [5.0, 1.0], [5.2, -1.0]])
      >>> m = moments.from_arrays(rows, jnp.array([0, 0, 1, 1]), 2, class_scatters=True)
      >>> whole, gain = projected_coding_rates(m, epsilon=1e-2)
      >>> bool(0 < gain <= whole)
      True
    """
    check_class_scatters(moments)
    basis = eigenbasis(moments)
    counts, eye = basis.class_counts, jnp.eye(len(basis.values), dtype=basis.values.dtype)
    between = dot(basis.deviations.T, ratio(basis.deviations, counts[:, None]))
    # In the eigenbasis, where the scatter is diagonal, its inverse is a division of rows.
    projection = ratio(between, basis.values[:, None])

    def values(covariance: Array) -> Array:
        return jnp.linalg.svd(dot(covariance, projection), compute_uv=False)

    def of_class(one: tuple[Array, Array]) -> Array:
        scatter, count = wide(one)
        turned = dot(basis.vectors.T, dot(scatter / basis.unit, basis.vectors))
        return values(ratio(turned, count))

    whole = values(eye * ratio(basis.values, basis.count))
    parts = jax.lax.map(of_class, (moments.class_scatters, counts))
    distortion = epsilon * whole.sum()
    distortion = jnp.where(distortion > 0, distortion, 1.0)
    floor = len(whole) * basis.eps * whole[0]
    rank = jnp.maximum(jnp.sum(whole > floor), 1).astype(whole.dtype)
    rates = 0.5 * jnp.log1p(parts / distortion).sum(axis=1)
    mean_rate = ratio(jnp.sum(rates * counts), counts.sum())
    rate = 0.5 * jnp.log1p(whole / distortion).sum()
    return Rates(rate / rank, (rate - mean_rate) / rank)


def transrate(moments: Moments, *, epsilon: float = 1e-4) -> Score:
    r"""TransRate as in the paper's listing: :math:`R(M) - \frac1C \sum_c R(M_c)`, centred.

    Args:
      moments: moments of the features as they are, with the scatter of each class.
      epsilon: distortion, in the squared unit of the features.

    Returns:
      Value in nats; its null is 0, the limit of many rows.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), listing 1.
    """
    return _transrate(moments, coding_rates(moments, epsilon=epsilon, weighted=False))


def transrate_weighted(moments: Moments, *, epsilon: float = 1e-4) -> Score:
    r"""TransRate as in the authors' repository: unit rows, classes weighted by their rows.

    .. math:: \frac1r \Big(R(M) - \sum_c \frac{n_c}{n} R(M_c)\Big)

    with :math:`M` of trace 1 and rank ``r``; the rows are not centred after their norms are taken.

    Args:
      moments: of unit rows (:func:`kernlens.arrays.rows.unit_rows`), with each class's scatter.
      epsilon: distortion, relative to the trace of ``M``.

    Returns:
      Value in nats per direction; its null is 0, the limit of many rows.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), definition 1, and their repository's ``process_transrate_logs``.
    """
    rates = coding_rates(
        moments, epsilon=epsilon, weighted=True, centred=False, relative=True, per_rank=True
    )
    return _transrate(moments, rates)


RATES: dict[str, Estimator] = {
    "transrate": Estimator(
        transrate,
        formula=r"R(M) - \tfrac1C \sum_c R(M_c), R(M) = \tfrac12 \log|I + M / \epsilon|",
        source="Huang et al. (2022), listing 1",
        range="(-inf, inf)",
        null="0, the limit of many rows",
        predicts="meant to rank fine-tuning, as mutual information of features and labels",
        pitfalls="the distortion is absolute, so it grows with the scale; rises with dimension; "
        "few rows in a class look like separation; unequal classes: see transrate_weighted",
        class_scatters=True,
        scale_free=False,
        shift_free=True,
    ),
    "transrate_weighted": Estimator(
        transrate_weighted,
        formula=r"(R(M) - \sum_c \tfrac{n_c}{n} R(M_c)) / r",
        source="Huang et al. (2022), released code",
        range="(-inf, inf)",
        null="0, the limit of many rows",
        predicts="meant to rank fine-tuning",
        pitfalls="few rows in a class look like separation; a common mean swamps it",
        features=unit_rows,
        class_scatters=True,
    ),
}
"""Scores from coding rates by name."""


def _transrate(moments: Moments, rates: Rates) -> Score:
    defined = (moments.class_counts > 0).any()
    return where_defined(defined, rates.gain, jnp.zeros_like(rates.gain))


@in_float64
def _rank(moments: Moments, offset: Array) -> Array:
    """Rank of the rows less the mean, plus the offset."""
    units = column_units(moments)
    basis, offset = eigenbasis(in_units(moments, units)), wide(offset / units)
    outside = jnp.where(basis.values > 0, 0.0, dot(offset, basis.vectors) ** 2).sum()
    floor = len(offset) * basis.eps * jnp.sum(offset**2)
    return basis.rank + jnp.where(outside > floor, 1.0, 0.0)


@in_float64
def _rates_by_eigenvalues(
    moments: Moments, mean: Array, offsets: Array, distortion: Array
) -> tuple[Array, Array]:
    """Coding rates of all rows and of each class in nats; means join by the determinant lemma."""
    eps, distortion = float(jnp.finfo(mean.dtype).eps), wide(distortion)

    def rate(group: tuple[Array, Array, Array]) -> Array:
        scatter, offset, count = wide(group)
        values, vectors = graded_eigh(ratio(scatter, count) / distortion, eps=eps)
        along = dot(offset, vectors) ** 2 / (1.0 + values)
        return 0.5 * (jnp.log1p(values).sum() + jnp.log1p(jnp.sum(along) / distortion))

    classes = (moments.class_scatters, offsets, moments.class_counts)
    return rate((full_scatter(moments), mean, moments.count)), jax.lax.map(rate, classes)

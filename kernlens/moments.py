r"""Moments of features and targets: a commutative monoid, filled in one pass.

:func:`init` is the identity, :func:`merge` the operation, :func:`update` takes a batch of rows;
so a file of any size streams, and shards merge across devices and machines in any order. All second
and higher moments are centred and merged with the pairwise updates of Chan, Golub and LeVeque, and
the mean is carried in two words, so a mean far larger than the spread costs no accuracy.

Weights are multiplicities: a row of weight 2 counts as two equal rows, a row of weight 0 (padding)
as none. A row without a label (code below 0) counts in everything that does not name a class.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array

BLOCK = 64
"""Rows of one class that are multiplied together for the scatter of each class."""


class Moments(NamedTuple):
    r"""Sums over rows :math:`x_i` of ``p`` features with weight :math:`w_i`, class and targets.

    With :math:`z_i = x_i - \mu` and :math:`\mu` the mean over all rows:

    Attributes:
      count: :math:`n = \sum_i w_i`, ``[]``.
      mean: :math:`\mu`, rounded, ``[p]``.
      mean_low: what rounding took off; ``mean + mean_low`` is :math:`\mu` in two words, ``[p]``.
      scatter: :math:`\sum_i w_i z_i z_i^\top`, ``[p, p]``.
      third: :math:`\sum_i w_i \|z_i\|^2 z_i`, ``[p]``.
      fourth: :math:`\sum_i w_i \|z_i\|^4`, ``[]``.
      class_counts: :math:`n_c`, weight of each class, ``[C]``.
      class_deviations: :math:`\sum_{i \in c} w_i z_i = n_c (\mu_c - \mu)`, ``[C, p]``.
      class_squares: :math:`\sum_{i \in c} w_i (x_i - \mu_c)^2`, elementwise, ``[C, p]``.
      within: :math:`\sum_c \sum_{i \in c} w_i (x_i - \mu_c)(x_i - \mu_c)^\top`, the pooled
        within-class scatter of the labelled rows, ``[p, p]``.
      class_scatters: the terms of that sum, ``[C, p, p]``; ``[0, p, p]`` where not asked for.
      target_mean: mean :math:`\bar t` of the regression targets, rounded, ``[T]``.
      target_mean_low: what rounding took off, ``[T]``.
      target_scatter: :math:`\sum_i w_i (t_i - \bar t)(t_i - \bar t)^\top`, ``[T, T]``.
      cross: :math:`\sum_i w_i z_i (t_i - \bar t)^\top`, ``[p, T]``.
    """

    count: Array
    mean: Array
    mean_low: Array
    scatter: Array
    third: Array
    fourth: Array
    class_counts: Array
    class_deviations: Array
    class_squares: Array
    within: Array
    class_scatters: Array
    target_mean: Array
    target_mean_low: Array
    target_scatter: Array
    cross: Array


def init(
    dim: int, num_classes: int, num_targets: int = 0, *, class_scatters: bool = False, dtype=None
) -> Moments:
    """The identity of :func:`merge`: moments of no rows.

    Args:
      dim: number of features ``p``.
      num_classes: number of classes ``C``, 0 for none.
      num_targets: number of regression targets ``T``.
      class_scatters: whether to keep a scatter for each class, which costs ``C * p * p`` numbers
        and as many operations again as the scatter of all rows.
      dtype: float dtype in which to accumulate, at least float32; by default jax's float.

    Returns:
      Moments with every entry zero.
    """
    dtype = jnp.result_type(float) if dtype is None else dtype
    zeros = partial(jnp.zeros, dtype=dtype)
    return Moments(
        count=zeros(()),
        mean=zeros((dim,)),
        mean_low=zeros((dim,)),
        scatter=zeros((dim, dim)),
        third=zeros((dim,)),
        fourth=zeros(()),
        class_counts=zeros((num_classes,)),
        class_deviations=zeros((num_classes, dim)),
        class_squares=zeros((num_classes, dim)),
        within=zeros((dim, dim)),
        class_scatters=zeros((num_classes if class_scatters else 0, dim, dim)),
        target_mean=zeros((num_targets,)),
        target_mean_low=zeros((num_targets,)),
        target_scatter=zeros((num_targets, num_targets)),
        cross=zeros((dim, num_targets)),
    )


@jax.jit
def update(
    moments: Moments,
    x: Array,
    codes: Array,
    targets: Array | None = None,
    weights: Array | None = None,
) -> Moments:
    """Takes in a batch of rows; memory is ``[B, C]`` and ``[B, p]`` for a batch of ``B``.

    Args:
      moments: what came before.
      x: features, ``[B, p]``; cast to the dtype of the moments.
      codes: class of each row, integers ``[B]`` in ``0..C-1``; other values count as no label.
      targets: regression targets, ``[B, T]``; may be left out where ``T`` is 0.
      weights: multiplicity of each row, ``[B]``, at least 0; 1 by default. The content of a row of
        weight 0 is not looked at.

    Returns:
      Moments of all rows so far.
    """
    dtype = moments.count.dtype
    chex.assert_rank([x, codes], [2, 1])
    batch = x.shape[0]
    targets = jnp.zeros((batch, 0), dtype) if targets is None else targets
    weights = jnp.ones((batch,), dtype) if weights is None else weights
    chex.assert_shape(x, (batch, moments.mean.shape[0]))
    chex.assert_shape([codes, weights], (batch,))
    chex.assert_shape(targets, (batch, moments.target_mean.shape[0]))
    return merge(moments, _of_batch(moments, x, jnp.asarray(codes), targets, weights))


@jax.jit
def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both; commutative and associative up to rounding.

    Args:
      a: moments of some rows.
      b: moments of other rows, of the same features, classes and targets.

    Returns:
      Moments of the rows together.

    References:
      Chan, Golub and LeVeque (1983), equation 2.1, and its analogues for higher moments (Pébay
      2008, section 3).
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    count = a.count + b.count
    share = _divide(b.count, count)
    mean, mean_low, gap = _joint_mean(a, b, "mean", share)
    target_mean, target_mean_low, target_gap = _joint_mean(a, b, "target_mean", share)
    shift_a, shift_b = -share * gap, (1.0 - share) * gap
    third_a, fourth_a = _shifted(a, shift_a)
    third_b, fourth_b = _shifted(b, shift_b)
    harmonic = a.count * share

    class_counts = a.class_counts + b.class_counts
    class_harmonic = a.class_counts * _divide(b.class_counts, class_counts)
    class_gap = (_class_offsets(b) + shift_b) - (_class_offsets(a) + shift_a)
    class_gap = jnp.where((class_harmonic > 0)[:, None], class_gap, 0.0)
    kept = a.class_scatters.shape[0]
    gaps = class_harmonic[:kept, None, None] * jnp.einsum(
        "cp,cq->cpq", class_gap[:kept], class_gap[:kept]
    )
    return Moments(
        count=count,
        mean=mean,
        mean_low=mean_low,
        scatter=a.scatter + b.scatter + harmonic * jnp.outer(gap, gap),
        third=third_a + third_b,
        fourth=fourth_a + fourth_b,
        class_counts=class_counts,
        class_deviations=a.class_deviations
        + jnp.outer(a.class_counts, shift_a)
        + b.class_deviations
        + jnp.outer(b.class_counts, shift_b),
        class_squares=a.class_squares + b.class_squares + class_harmonic[:, None] * class_gap**2,
        within=a.within + b.within + _dot(class_gap.T, class_harmonic[:, None] * class_gap),
        class_scatters=a.class_scatters + b.class_scatters + gaps,
        target_mean=target_mean,
        target_mean_low=target_mean_low,
        target_scatter=a.target_scatter
        + b.target_scatter
        + harmonic * jnp.outer(target_gap, target_gap),
        cross=a.cross + b.cross + harmonic * jnp.outer(gap, target_gap),
    )


def from_arrays(
    x: Array | np.ndarray,
    codes: Array | np.ndarray,
    num_classes: int,
    targets: Array | np.ndarray | None = None,
    weights: Array | np.ndarray | None = None,
    *,
    class_scatters: bool = False,
    chunk: int = 4096,
) -> Moments:
    """Moments of arrays that are in memory, chunk by chunk in one compiled scan.

    Rows that do not fit the device go through :func:`update` in a loop instead.

    Args:
      x: features, ``[n, p]``.
      codes: class of each row, integers ``[n]`` in ``0..num_classes-1``; ``-1`` for none.
      num_classes: number of classes ``C``.
      targets: regression targets, ``[n, T]``.
      weights: multiplicity of each row, ``[n]``; 1 by default.
      class_scatters: whether to keep a scatter for each class, as in :func:`init`.
      chunk: rows taken at a time; the working memory is ``[chunk, C]`` and ``[chunk, p]``.

    Returns:
      Moments in the dtype of ``x``, float32 for anything narrower.

    Raises:
      ValueError: NumPy codes outside ``-1..num_classes-1``, or ``chunk`` below 1.
    """
    if isinstance(codes, np.ndarray) and codes.size:
        bad = np.flatnonzero((codes < -1) | (codes >= num_classes))
        if bad.size:
            found = f"{codes[bad[0]]} at row {bad[0]}"
            raise ValueError(f"class codes must lie in -1..{num_classes - 1}; got {found}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 row; got {chunk}")
    x, codes = jnp.asarray(x), jnp.asarray(codes)
    chex.assert_rank([x, codes], [2, 1])
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    n = x.shape[0]
    targets = jnp.zeros((n, 0), dtype) if targets is None else jnp.asarray(targets)
    weights = jnp.ones((n,), dtype) if weights is None else jnp.asarray(weights)
    chex.assert_equal_shape_prefix([x, codes, targets, weights], 1)
    start = init(
        x.shape[1], num_classes, targets.shape[1], class_scatters=class_scatters, dtype=dtype
    )
    return _accumulate(start, (x, codes, targets, weights), chunk=chunk)


def covariance(moments: Moments) -> Array:
    r"""Covariance of all rows with divisor :math:`n`, ``[p, p]``; zero for no rows."""
    return _divide(moments.scatter, moments.count)


def second_moment(moments: Moments) -> Array:
    r"""Uncentred second moment, :math:`\frac1n \sum_i w_i x_i x_i^\top`, ``[p, p]``."""
    return covariance(moments) + jnp.outer(moments.mean, moments.mean)


def class_sums(moments: Moments) -> Array:
    r"""Sum of the rows of each class, :math:`\sum_{i \in c} w_i x_i`, ``[C, p]``."""
    mean = moments.mean + moments.mean_low
    return moments.class_deviations + jnp.outer(moments.class_counts, mean)


def class_means(moments: Moments) -> Array:
    """Mean of each class, ``[C, p]``; the overall mean for a class without rows."""
    return (moments.mean_low + _class_offsets(moments)) + moments.mean


def between_scatter(moments: Moments) -> Array:
    r"""Between-class scatter, :math:`\sum_c n_c (\mu_c - \mu)(\mu_c - \mu)^\top`, ``[p, p]``.

    Where every row has a label, ``scatter = between_scatter + within``.
    """
    return _dot(moments.class_deviations.T, _class_offsets(moments))


def class_spreads(moments: Moments) -> Array:
    r"""Squared distance to the overall mean summed over each class, ``[C]``.

    :math:`\sum_{i \in c} w_i \|z_i\|^2`; the trace of the scatter where every row has a label.
    """
    offsets = _class_offsets(moments)
    return moments.class_squares.sum(axis=1) + jnp.sum(moments.class_deviations * offsets, axis=1)


@partial(jax.jit, static_argnames="chunk")
def _accumulate(start: Moments, rows: tuple[Array, ...], *, chunk: int) -> Moments:
    n = rows[0].shape[0]
    if 0 < n <= chunk:  # Nothing to merge, which would be most of what there is to compile.
        return _of_batch(start, *rows)
    whole = n - n % chunk
    if whole:
        chunks = tuple(a[:whole].reshape(whole // chunk, chunk, *a.shape[1:]) for a in rows)
        start, _ = jax.lax.scan(lambda m, batch: (update(m, *batch), None), start, chunks)
    if whole < n:
        start = update(start, *(a[whole:] for a in rows))
    return start


def _of_batch(like: Moments, x: Array, codes: Array, targets: Array, weights: Array) -> Moments:
    """Moments of one batch, in the dtype of ``like`` and with what it keeps."""
    num_classes, kept = like.class_counts.shape[0], like.class_scatters.shape[0]
    x, targets, weights = (jnp.asarray(a).astype(like.count.dtype) for a in (x, targets, weights))
    present = (weights > 0)[:, None]
    x, targets = jnp.where(present, x, 0.0), jnp.where(present, targets, 0.0)
    count = weights.sum()
    mean, mean_low, z = _centred(x, weights, count)
    target_mean, target_mean_low, t = _centred(targets, weights, count)
    indicator = jax.nn.one_hot(codes, num_classes, dtype=x.dtype)
    weighted = indicator * weights[:, None]
    class_counts = weighted.sum(axis=0)
    class_deviations = _dot(weighted.T, z)
    means = _divide(class_deviations, class_counts[:, None])
    residuals = z - _dot(indicator, means)
    labelled = weighted.sum(axis=1)[:, None]
    squared_norms = jnp.sum(z**2, axis=1)
    return Moments(
        count=count,
        mean=mean,
        mean_low=mean_low,
        scatter=_dot(z.T, weights[:, None] * z),
        third=_dot(z.T, weights * squared_norms),
        fourth=jnp.sum(weights * squared_norms**2),
        class_counts=class_counts,
        class_deviations=class_deviations,
        class_squares=_dot(weighted.T, residuals**2),
        within=_dot(residuals.T, labelled * residuals),
        class_scatters=_class_scatters(residuals, codes, labelled[:, 0], kept),
        target_mean=target_mean,
        target_mean_low=target_mean_low,
        target_scatter=_dot(t.T, weights[:, None] * t),
        cross=_dot(z.T, weights[:, None] * t),
    )


def _class_scatters(residuals: Array, codes: Array, weights: Array, num_classes: int) -> Array:
    """Scatter of the residuals of each class, ``[C, p, p]``.

    The rows are sorted by class and cut into blocks of one class each, so the cost is that of the
    scatter of all rows (and half a block a class), not ``C`` times it.
    """
    batch, dim = residuals.shape
    start = jnp.zeros((num_classes, dim, dim), residuals.dtype)
    if not (batch and num_classes):
        return start
    codes = jnp.where((codes >= 0) & (codes < num_classes), codes, num_classes)
    order = jnp.argsort(codes)
    counts = jnp.bincount(codes, length=num_classes + 1)[:num_classes]
    blocks = (counts + BLOCK - 1) // BLOCK
    last = jnp.cumsum(blocks)
    offsets = jnp.cumsum(counts) - counts
    num_blocks = batch // BLOCK + min(num_classes, batch)

    def step(block: Array, scatters: Array) -> Array:
        owner = jnp.minimum(jnp.searchsorted(last, block, side="right"), num_classes - 1)
        within = (block - (last - blocks)[owner]) * BLOCK + jnp.arange(BLOCK)
        taken = order[jnp.minimum(offsets[owner] + within, batch - 1)]
        weight = jnp.where(within < counts[owner], weights[taken], 0.0)
        rows = residuals[taken]
        return scatters.at[owner].add(_dot(rows.T, weight[:, None] * rows))

    return jax.lax.fori_loop(0, num_blocks, step, start)


def _centred(x: Array, weights: Array, count: Array) -> tuple[Array, Array, Array]:
    # The first mean is off by rounding of numbers as large as the mean; the mean of what is left
    # is off by rounding of numbers as large as the spread.
    # Rounding it to one bit less than the dtype has keeps a compiler from fusing the division into
    # the subtraction, where it would stay unrounded and differ from the mean that is stored.
    info = jnp.finfo(x.dtype)
    mean = jax.lax.reduce_precision(_divide(_dot(weights, x), count), info.nexp, info.nmant - 1)
    z = x - mean
    low = _divide(_dot(weights, z), count)
    return mean, low, z - low


def _joint_mean(a: Moments, b: Moments, name: str, share: Array) -> tuple[Array, Array, Array]:
    """Mean of both in two words, and by how much the mean of ``b`` exceeds that of ``a``."""
    high_a, low_a = getattr(a, name), getattr(a, f"{name}_low")
    high_b, low_b = getattr(b, name), getattr(b, f"{name}_low")
    gap = (high_b - high_a) + (low_b - low_a)
    gap = jnp.where((a.count > 0) & (b.count > 0), gap, 0.0)
    step = low_a + share * gap
    high = high_a + step
    low = step - (high - high_a)
    # A side without rows changes nothing, to the bit.
    for only, kept_high, kept_low in ((b.count == 0, high_a, low_a), (a.count == 0, high_b, low_b)):
        high, low = jnp.where(only, kept_high, high), jnp.where(only, kept_low, low)
    return high, low, gap


def _shifted(m: Moments, shift: Array) -> tuple[Array, Array]:
    """Third and fourth moments about ``mean - shift`` instead of the mean."""
    trace, along, squared = jnp.trace(m.scatter), _dot(m.scatter, shift), jnp.sum(shift**2)
    third = m.third + trace * shift + 2.0 * along + m.count * squared * shift
    fourth = (
        m.fourth
        + 4.0 * _dot(shift, m.third)
        + 2.0 * squared * trace
        + 4.0 * _dot(shift, along)
        + m.count * squared**2
    )
    return third, fourth


def _class_offsets(m: Moments) -> Array:
    return _divide(m.class_deviations, m.class_counts[:, None])


def _divide(value: Array, by: Array) -> Array:
    positive = by > 0
    return jnp.where(positive, value / jnp.where(positive, by, 1.0), 0.0)


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")

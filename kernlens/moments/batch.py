"""Moments of one batch of rows: one multiplication for the scatters, whatever is kept."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments.state import Moments, divide, dot
from kernlens.types import Array

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 512
"""Rows of one class that are multiplied together for the scatter of each class."""

GROUPS = 64
"""Parts in which the rows of a class are summed, so that rounding does not add up."""


class Rows(NamedTuple):
    r"""A batch with its means taken out.

    Attributes:
      weights: multiplicity of each row, ``[B]``.
      codes: class of each row, ``C`` for none, ``[B]``.
      mean, mean_low: of the features, in two words, ``[p]``.
      z: features less their mean, ``[B, p]``.
      residuals: features less the mean of their class, or of the rows without one, ``[B, p]``.
      target_mean, target_mean_low: of the targets, ``[T]``.
      t: targets less their mean, ``[B, T]``.
      counts: weight of each class, the rows without one last, ``[C + 1]``.
      offsets: mean of each class less that of all rows, ``[C + 1, p]``.
    """

    weights: Array
    codes: Array
    mean: Array
    mean_low: Array
    z: Array
    residuals: Array
    target_mean: Array
    target_mean_low: Array
    t: Array
    counts: Array
    offsets: Array


def of_rows(like: Moments, x: Array, codes: Array, targets: Array, weights: Array) -> Moments:
    """Moments of one batch, in the dtype of ``like`` and with what it keeps."""
    rows = centred_rows(like, x, codes, targets, weights)
    if not like.class_scatters.shape[0]:
        return moments_of(like, rows)
    scatters = add_class_scatters(jnp.zeros_like(like.class_scatters), rows)
    return moments_of(like, rows, first_axis_sum(scatters))._replace(class_scatters=scatters)


def centred_rows(like: Moments, x: Array, codes: Array, targets: Array, weights: Array) -> Rows:
    """A batch in the dtype of ``like``, its means taken out; rows of weight 0 are not looked at."""
    num_classes = like.class_counts.shape[0]
    x, targets, weights = (jnp.asarray(a).astype(like.count.dtype) for a in (x, targets, weights))
    present = (weights > 0)[:, None]
    x, targets = jnp.where(present, x, 0.0), jnp.where(present, targets, 0.0)
    count = weights.sum()
    mean, mean_low, z = _centred(x, weights, count)
    target_mean, target_mean_low, t = _centred(targets, weights, count)
    codes = jnp.where((codes >= 0) & (codes < num_classes), codes, num_classes)
    counts = _class_sums(weights[:, None], codes, num_classes)[:, 0]
    offsets = divide(_class_sums(weights[:, None] * z, codes, num_classes), counts[:, None])
    residuals = z - offsets[codes] if num_classes else z
    return Rows(
        weights, codes, mean, mean_low, z, residuals,
        target_mean, target_mean_low, t, counts, offsets,
    )  # fmt: skip


def moments_of(like: Moments, rows: Rows, pooled: Array | None = None) -> Moments:
    """Moments of a batch, without the scatter of each class.

    Args:
      like: what is kept, and how many classes there are.
      rows: the batch.
      pooled: within-class scatter of the labelled rows where it is known, ``[p, p]``.

    Returns:
      Moments; ``class_scatters`` is ``[0, p, p]``.
    """
    dim, num_classes = like.mean.shape[0], like.class_counts.shape[0]
    z, t, weights, residuals, counts = rows.z, rows.t, rows.weights, rows.residuals, rows.counts
    scatter, within = like.scatter, like.within
    if scatter.size:
        named = (rows.codes < num_classes)[:, None]

        def product(chosen: Array) -> Array:
            return dot(residuals.T, jnp.where(chosen, weights[:, None] * residuals, 0.0))

        within = jnp.zeros_like(within)
        if num_classes:
            within = product(named) if pooled is None else pooled
            rest = jax.lax.cond(counts[-1] > 0, lambda: product(~named), lambda: like.within * 0.0)
        else:
            rest = product(~named)
        # A sum of squares: no digits are lost, as they would be in ``scatter - between``.
        scatter = within + rest + dot(rows.offsets.T, counts[:, None] * rows.offsets)
    third, fourth, thirds, fourths = like.third, like.fourth, like.thirds, like.fourths
    squares = z**2
    norms = squares.sum(axis=1)
    if third.size:
        third = dot(weights * norms, z)
    if not fourth.ndim:
        fourth = jnp.sum(weights * norms**2)
    if thirds.size:
        thirds = dot(squares.T, weights[:, None] * z)
        fourths = dot(squares.T, weights[:, None] * squares)
    return Moments(
        count=weights.sum(),
        mean=rows.mean,
        mean_low=rows.mean_low,
        scatter=scatter,
        third=third,
        fourth=fourth,
        thirds=thirds,
        fourths=fourths,
        class_counts=counts[:-1],
        class_deviations=(counts[:, None] * rows.offsets)[:-1],
        class_squares=_class_sums(weights[:, None] * residuals**2, rows.codes, num_classes)[:-1],
        within=within,
        class_scatters=jnp.zeros((0, dim, dim), z.dtype),
        target_mean=rows.target_mean,
        target_mean_low=rows.target_mean_low,
        target_scatter=dot(t.T, weights[:, None] * t),
        cross=dot(z.T, weights[:, None] * t),
    )


def add_class_scatters(
    scatters: Array, rows: Rows, gaps: tuple[Array, Array] | None = None
) -> Array:
    """Adds the scatter of each class of a batch where it stands: nothing else of its size is made.

    The rows are sorted by class and cut into blocks of one class each, so the cost is that of the
    scatter of all rows (and half a block a class), not ``C`` times it.

    Args:
      scatters: of each class, ``[C, p, p]``.
      rows: the batch.
      gaps: weight ``[C]`` and direction ``[C, p]`` of one more row for each class of the batch, by
        which the mean of the class moves.

    Returns:
      Scatters with those of the batch and the gaps.
    """
    num_classes, batch = scatters.shape[0], rows.codes.shape[0]
    if not (batch and num_classes):
        return scatters
    size = min(max(batch // (4 * num_classes), SMALLEST_BLOCK), LARGEST_BLOCK)
    order = jnp.argsort(rows.codes)
    counts = jnp.bincount(rows.codes, length=num_classes + 1)[:num_classes]
    blocks = (counts + size - 1) // size
    last = jnp.cumsum(blocks)
    firsts, offsets = last - blocks, jnp.cumsum(counts) - counts

    def step(block: Array, scatters: Array) -> Array:
        owner = jnp.minimum(jnp.searchsorted(last, block, side="right"), num_classes - 1)
        place = (block - firsts[owner]) * size + jnp.arange(size)
        taken = order[jnp.minimum(offsets[owner] + place, batch - 1)]
        weights = jnp.where(place < counts[owner], rows.weights[taken], 0.0)
        chosen = rows.residuals[taken]
        product = dot(chosen.T, weights[:, None] * chosen)
        if gaps is not None:
            moved = jnp.where(block == firsts[owner], gaps[0][owner], 0.0)
            product = product + moved * jnp.outer(gaps[1][owner], gaps[1][owner])
        return scatters.at[owner].add(product)

    most = batch // size + min(num_classes, batch)
    return jax.lax.fori_loop(0, most, step, scatters)


def _class_sums(values: Array, codes: Array, num_classes: int) -> Array:
    """Sum of the rows of each class, rows without one last, ``[C + 1, ...]``."""
    batch, segments = values.shape[0], num_classes + 1
    if not num_classes:
        return dot(jnp.ones((1, batch), values.dtype), values)
    groups = min(max(batch // (4 * segments), 1), GROUPS)
    part = jnp.arange(batch) * groups // max(batch, 1)
    sums = jax.ops.segment_sum(
        values, part.astype(codes.dtype) * segments + codes, groups * segments
    )
    return first_axis_sum(sums.reshape(groups, segments, -1))


def first_axis_sum(values: Array) -> Array:
    """Sum over the first axis, as a product: XLA's own walks the others one by one on a CPU."""
    count, *rest = values.shape
    return dot(jnp.ones(count, values.dtype), values.reshape(count, math.prod(rest))).reshape(rest)


def _centred(x: Array, weights: Array, count: Array) -> tuple[Array, Array, Array]:
    # The first mean is off by rounding of numbers as large as the mean; the mean of what is left
    # is off by rounding of numbers as large as the spread.
    # Rounding it to one bit less than the dtype has keeps a compiler from fusing the division into
    # the subtraction, where it would stay unrounded and differ from the mean that is stored.
    mean = rounded(divide(dot(weights, x), count))
    z = x - mean
    low = divide(dot(weights, z), count)
    return mean, low, z - low


def rounded(mean: Array) -> Array:
    """The first word of a mean."""
    info = jnp.finfo(mean.dtype)
    return jax.lax.reduce_precision(mean, info.nexp, info.nmant - 1)

"""Scatter of each class of a batch, added where it stands: nothing else of its size is made."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.moments.state import dot
from kernlens.moments.symmetric import Strips, added, no_strips, strips_of, whole
from kernlens.types import Array

SMALLEST_BLOCK, BLOCK, LARGEST_BLOCK = 16, 320, 512
"""Rows of one class that are multiplied together: least, about how many, most."""


class ClassProducts(NamedTuple):
    """What the rows of a batch give.

    Attributes:
      scatters: those given, with that of the rows of each class about its mean, and a row for each
        gap, ``[C, p, p]``.
      pooled: sum over classes of what the rows alone add, ``[p, p]``.
      squares: diagonal of what they add to each class, ``[C, p]``.
    """

    scatters: Array
    pooled: Array
    squares: Array


@jax.custom_jvp
def add_class_products(
    scatters: Array,
    x: Array,
    features: Partial,
    weights: Array,
    codes: Array,
    means: Array,
    gap_weights: Array,
    gaps: Array,
) -> ClassProducts:
    """Adds the scatter of each class of a batch, at the cost of that of all rows, not C times it.

    The rows are sorted by class and cut into blocks of one class each.

    Args:
      scatters: of each class, ``[C, p, p]``.
      x: rows, ``[B, d]``.
      features: their map to ``[., p]``, without arrays of its own.
      weights: multiplicity of each row, ``[B]``; rows of weight 0 are not looked at.
      codes: class of each row, ``C`` for none, ``[B]``.
      means: what to take off the rows of each class, and of those without one, in two words,
        ``[2, C + 1, p]``.
      gap_weights, gaps: weight ``[C]`` and direction ``[C, p]`` of one more row for each class of
        the batch, by which the mean of the class moves.

    Returns:
      ClassProducts.
    """
    (count, dim, _), batch = scatters.shape, x.shape[0]
    dtype = scatters.dtype
    found = ClassProducts(scatters, jnp.zeros((dim, dim), dtype), jnp.zeros((count, dim), dtype))
    if not (batch and count):
        return found
    size, order = _block(batch, count), jnp.argsort(codes)
    counts = jnp.bincount(codes, length=count + 1)[:count]
    starts = jnp.cumsum(counts) - counts
    present = jnp.nonzero(counts, size=min(count, batch), fill_value=0)[0]

    def of_class(at: Array, found: ClassProducts) -> ClassProducts:
        c = present[at]

        def add(block: Array, strips: Strips) -> Strips:
            place = block * size + jnp.arange(size)
            taken = order[jnp.minimum(starts[c] + place, batch - 1)]
            own = jnp.where(place < counts[c], weights[taken], 0)
            rows = _residuals(features(x[taken]), own, means[0, c], means[1, c])
            return added(strips, strips_of(rows, own[:, None] * rows))

        blocks = (counts[c] + size - 1) // size
        product = whole(jax.lax.fori_loop(0, blocks, add, no_strips(dim, dtype)))
        moved = gap_weights[c] * jnp.outer(gaps[c], gaps[c])
        return ClassProducts(
            found.scatters.at[c].add(product + moved),
            found.pooled + product,
            found.squares.at[c].set(jnp.diagonal(product)),
        )

    return jax.lax.fori_loop(0, jnp.sum(counts > 0), of_class, found)


@add_class_products.defjvp
def _derivative(primals: tuple, tangents: tuple) -> tuple[ClassProducts, ClassProducts]:
    # How many blocks a class has depends on the rows, so the loop above has no reverse.
    return jax.jvp(in_equal_blocks, primals, tangents)


def in_equal_blocks(
    scatters: Array,
    x: Array,
    features: Partial,
    weights: Array,
    codes: Array,
    means: Array,
    gap_weights: Array,
    gaps: Array,
) -> ClassProducts:
    """The same as :func:`add_class_products`, in a loop that can be differentiated."""
    (count, dim, _), batch = scatters.shape, x.shape[0]
    rows = _residuals(features(x), weights, means[0, codes], means[1, codes])
    weighted = weights[:, None] * rows
    squares = jax.ops.segment_sum(weighted * rows, codes, count + 1)[:count]
    size, order = _block(batch, count), jnp.argsort(codes)
    counts = jnp.bincount(codes, length=count + 1)[:count]
    last = jnp.cumsum((counts + size - 1) // size)
    firsts, starts = last - (counts + size - 1) // size, jnp.cumsum(counts) - counts

    def add(block: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        scatters, pooled = state
        c = jnp.minimum(jnp.searchsorted(last, block, side="right"), count - 1)
        place = (block - firsts[c]) * size + jnp.arange(size)
        taken = order[jnp.minimum(starts[c] + place, batch - 1)]
        own = jnp.where(place < counts[c], 1.0, 0.0).astype(rows.dtype)
        product = dot(rows[taken].T, own[:, None] * weighted[taken])
        return scatters.at[c].add(product), pooled + product

    most = batch // size + min(count, batch)
    pooled = jnp.zeros((dim, dim), scatters.dtype)
    scatters, pooled = jax.lax.fori_loop(0, most, add, (scatters, pooled))
    weighted_gaps = jnp.where(counts > 0, gap_weights, 0.0)[:, None] * gaps
    moved = jnp.einsum("cp,cq->cpq", weighted_gaps, gaps, precision="highest")
    return ClassProducts(scatters + moved, pooled, squares)


def _block(batch: int, count: int) -> int:
    """Rows of a block: a class of expected size, and two deviations, fills a whole number."""
    expected = batch / count
    blocks = max(round(expected / BLOCK), 1)
    filled = math.ceil((expected + 2.0 * math.sqrt(expected)) / blocks)
    return min(max(filled, SMALLEST_BLOCK), LARGEST_BLOCK)


def _residuals(x: Array, weights: Array, near: Array, offset: Array) -> Array:
    present = (weights > 0)[:, None]
    return jnp.where(present, (x.astype(weights.dtype) - near) - offset, 0.0)

"""Resampled moments: a monoid, filled in one pass over arrays or a stream."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kernlens import moments as moments_of
from kernlens.arrays.rows import identity
from kernlens.moments import Moments
from kernlens.moments.arrays import check_codes
from kernlens.scores.intervals.hashes import MAX_ROW, block_of, digest_of, multiplicity
from kernlens.types import Array, Chunk, Stream

Features: TypeAlias = Any
"""An array ``[m, p]``, or a tree of them (tuple, dictionary, ``Pair``); moments have its shape."""


STREAMED = 4096
"""Rows of a stream that are read at a time."""

PADDED = 256
"""Chunks are padded to a multiple of this many rows."""


class Jackknife(NamedTuple):
    """Delete-one-block jackknife.

    Attributes:
      blocks: how many, at least 2; 32 give a t quantile within 4% of the normal one.
      seed: random seed of the assignment of rows.
    """

    blocks: int = 32
    seed: int = 0


class Bootstrap(NamedTuple):
    """Poisson bootstrap.

    Attributes:
      draws: how many, at least 2.
      seed: random seed of the multiplicities.
    """

    draws: int = 200
    seed: int = 0


class Blocks(NamedTuple):
    """Moments of blocks of rows; merges as they do.

    Attributes:
      parts: tree of Moments, each field with a leading axis ``[1 + G]``; the first block stays
        empty, so that leaving it out gives all rows.
      seed: uint32 ``[]``.
      digest: sum over rows of hashes of row number and class, uint32 ``[2]``.
    """

    parts: Any
    seed: Array
    digest: Array


class Draws(NamedTuple):
    """Moments of weighted draws; merges as they do.

    Attributes:
      parts: tree of Moments, each field with a leading axis ``[1 + B]``; the first draw has every
        row once.
      seed: uint32 ``[]``.
      digest: as in :class:`Blocks`.
    """

    parts: Any
    seed: Array
    digest: Array


def init(
    method: Jackknife | Bootstrap,
    dims: Any,
    num_classes: int,
    *,
    class_scatters: bool = False,
    dtype=None,
) -> Blocks | Draws:
    """Resampled moments of no rows.

    Args:
      method: how to resample.
      dims: number of features of each array of the rows, a tree of integers.
      num_classes: number of classes ``C``.
      class_scatters: whether to keep a scatter for each class, as :func:`kernlens.moments.init`.
      dtype: dtype of the moments; by default jax's float.

    Returns:
      The identity of :func:`merge`.

    Raises:
      ValueError: fewer than 2 blocks or draws, or a seed outside ``0..2^32 - 1``.
    """
    count = method[0]
    if count < 2 or not 0 <= method.seed <= MAX_ROW:
        raise ValueError(f"resampling needs at least 2 blocks or draws and a seed >= 0: {method}")

    def empty(dim: int) -> Moments:
        one = moments_of.init(dim, num_classes, class_scatters=class_scatters, dtype=dtype)
        return jax.tree.map(lambda leaf: jnp.zeros((1 + count, *leaf.shape), leaf.dtype), one)

    state = Blocks if isinstance(method, Jackknife) else Draws
    return state(jax.tree.map(empty, dims), jnp.uint32(method.seed), jnp.zeros(2, jnp.uint32))


def update(
    state: Blocks | Draws,
    x: Features,
    codes: Array | np.ndarray,
    rows: Array | np.ndarray,
    weights: Array | np.ndarray | None = None,
) -> Blocks | Draws:
    """Takes in a batch of rows; memory beyond the moments is that of one update of moments.

    Args:
      state: what came before.
      x: features, ``[m, p]``, or a tree of them.
      codes: class of each row, ``[m]``, as in :func:`kernlens.moments.update`.
      rows: row numbers, ``[m]``, each in one batch alone.
      weights: multiplicities of the rows, ``[m]``; a row of weight 0 (padding) is not looked at.

    Returns:
      The state with the rows.
    """
    return _update(state, x, codes, rows, weights)


def merge(a: Any, b: Any) -> Any:
    """State of the rows of both, filled with the same method and seed.

    Raises:
      ValueError: seeds that differ (unless traced), whose blocks or draws cannot be joined.

    Examples:
      >>> rows, codes = jnp.array([[0.0], [2.0], [4.0]]), jnp.array([0, 1, 1])
      >>> empty = init(Jackknife(2), 1, 2)
      >>> first = update(empty, rows[:1], codes[:1], np.arange(1))  # on one machine
      >>> second = update(empty, rows[1:], codes[1:], np.arange(1, 3))  # on another
      >>> float(merge(first, second).parts.count.sum())
      3.0
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    traced = any(isinstance(seed, Tracer) for seed in (a.seed, b.seed))
    if not traced and np.any(np.asarray(a.seed) != np.asarray(b.seed)):
        raise ValueError(f"states to merge must have one seed; got {a.seed} and {b.seed}")
    return a._replace(parts=jax.vmap(merge_trees)(a.parts, b.parts), digest=a.digest + b.digest)


def from_arrays(
    x: Features,
    codes: Array | np.ndarray,
    num_classes: int,
    *,
    method: Jackknife | Bootstrap = Jackknife(),  # noqa: B008
    class_scatters: bool = False,
    chunk: int = 16384,
) -> Blocks | Draws:
    """Resampled moments of arrays in memory, whose row numbers are ``0..n-1``.

    Args:
      x: features, ``[n, p]``, or a tree of them.
      codes: class of each row, integers ``[n]`` in ``0..num_classes-1``; ``-1`` for none.
      num_classes: number of classes ``C``.
      method: how to resample.
      class_scatters: whether to keep a scatter for each class, as :func:`kernlens.moments.init`.
      chunk: rows taken at a time.

    Returns:
      State for :func:`replicate`.

    Raises:
      ValueError: arrays of unlike length, codes out of range, or a method out of its range.
    """
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves(x)]
    n = len(codes)
    if set(sizes) != {n}:
        raise ValueError(f"features and codes must have as many rows; got {sizes} and {n}")

    starts = range(0, max(n, 1), chunk)
    chunks = (part_of(x, slice(start, start + chunk)) for start in starts)
    return from_stream(
        chunks, np.asarray(codes), num_classes, method=method, class_scatters=class_scatters
    )


def from_stream(
    chunks: Stream | Iterable[Any],
    codes: np.ndarray,
    num_classes: int,
    *,
    features: Callable[[Any], Features] = identity,
    method: Jackknife | Bootstrap = Jackknife(),  # noqa: B008
    class_scatters: bool = False,
) -> Blocks | Draws:
    """Resampled moments of chunks of rows, read once.

    Args:
      chunks: a :class:`kernlens.types.Stream`, such as :class:`kernlens.io.EmbeddingFiles`; or an
        iterable of arrays ``[b, p]`` whose rows follow each other, numbered from 0; or an iterable
        of :class:`kernlens.types.Chunk`, with each row number once in all chunks of all shards. For
        two embeddings the values are a tuple of both.
      codes: class of each row by its number, integers ``[n]`` in ``0..num_classes-1``; ``-1`` for
        none.
      num_classes: number of classes ``C``.
      features: makes the features of a chunk from its values, row by row: an array or a tree of
        arrays. It may see rows of zeros behind those of the chunk.
      method: how to resample.
      class_scatters: whether to keep a scatter for each class, as :func:`kernlens.moments.init`.

    Returns:
      State for :func:`replicate`, in the dtype of the features, float32 for anything narrower.

    Raises:
      ValueError: no chunk, codes or row numbers out of range, codes that are not one a row, or a
        method out of its range.
    """
    codes = np.asarray(codes)
    check_codes(codes, num_classes)
    state, start, size = None, 0, 0
    for x, rows in _numbered(chunks, len(codes)):
        # Padded, so that chunks of nearly one length, and a shorter last one, compile once.
        size = max(size, -(-len(rows) // PADDED) * PADDED)
        weights = np.ones(len(rows), np.float32)
        batch = x, codes[rows], rows.astype(np.uint32), weights
        x, own, rows, weights = _padded(batch, size)
        phi = jax.tree.map(as_array, features(x))
        if state is None:
            leaves = jax.tree.leaves(phi)
            dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
            dims = jax.tree.map(lambda leaf: leaf.shape[1], phi)
            state = init(method, dims, num_classes, class_scatters=class_scatters, dtype=dtype)
        state = _update_in_place(state, phi, own, rows, weights)
        start += int(weights.sum())
    if state is None:
        raise ValueError("intervals need at least one chunk of rows; got none")
    return state


def as_array(x: Any) -> Array:
    """On the device; what its dtype does not hold is infinite, and refused as that later."""
    with np.errstate(over="ignore"):
        return jnp.asarray(x)


def _numbered(chunks: Stream | Iterable[Any], n: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Values and their row numbers, of ``n`` rows with a code."""
    if isinstance(chunks, Stream):
        if chunks.shape[0] != n:
            raise ValueError(f"a stream of {chunks.shape[0]} rows needs as many codes; got {n}")
        chunks = chunks.chunks(rows=STREAMED)
    start, numbered = 0, False
    for chunk in chunks:
        numbered = isinstance(chunk, Chunk)
        x = chunk.values if isinstance(chunk, Chunk) else chunk
        count = len(jax.tree.leaves(x)[0])
        rows = chunk.rows if isinstance(chunk, Chunk) else np.arange(start, start + count)
        rows = np.asarray(rows)
        if rows.shape != (count,):
            raise ValueError(f"a chunk of {count} rows needs as many numbers; got {rows.shape}")
        if count and not 0 <= rows.min() <= rows.max() < min(n, MAX_ROW + 1):
            raise ValueError(
                f"row numbers must lie in 0..{min(n - 1, MAX_ROW)}, one code a row; got "
                f"{rows.min()}..{rows.max()}"
            )
        start += count
        yield x, rows
    if not numbered and start < n:
        raise ValueError(f"the chunks hold {start} rows; codes are for {n}")


def is_moments(tree: Any) -> bool:
    """Where a tree of moments ends."""
    return isinstance(tree, Moments)


def merge_trees(a: Any, b: Any) -> Any:
    """Trees of moments of the rows of both."""
    return jax.tree.map(moments_of.merge, a, b, is_leaf=is_moments)


def part_of(stacked: Any, i: Any) -> Any:
    """What stands at an index, or slice, of the leading axis."""
    return jax.tree.map(lambda leaf: leaf[i], stacked)


def _updated(
    state: Blocks | Draws,
    x: Features,
    codes: Array,
    rows: Array,
    weights: Array | np.ndarray | None,
) -> Blocks | Draws:
    dtype = jax.tree.leaves(state.parts)[0].dtype
    codes = jnp.asarray(codes)
    weights = jnp.ones(codes.shape, dtype) if weights is None else jnp.asarray(weights, dtype)
    chex.assert_equal_shape([codes, rows, weights])
    digest = state.digest + digest_of(codes, rows, weights)
    if isinstance(state, Blocks):
        parts = _into_blocks(state, x, codes, rows, weights)
        return state._replace(parts=parts, digest=digest)

    def step(draw: Array, parts: Any) -> Any:
        taken = jnp.where(draw > 0, multiplicity(state.seed, rows, draw - 1), 1).astype(dtype)
        return _set(parts, draw, _take_in(part_of(parts, draw), x, codes, weights * taken))

    count = jax.tree.leaves(state.parts)[0].shape[0]
    return state._replace(parts=jax.lax.fori_loop(0, count, step, state.parts), digest=digest)


_update = jax.jit(_updated)


_update_in_place = jax.jit(_updated, donate_argnums=0)


def _into_blocks(state: Blocks, x: Features, codes: Array, rows: Array, weights: Array) -> Any:
    """Sorts the batch by block and takes it in by cells of rows of one block each."""
    batch, blocks = codes.shape[0], jax.tree.leaves(state.parts)[0].shape[0] - 1
    if not batch:
        return state.parts
    owner = jnp.where(weights > 0, block_of(state.seed, rows, blocks), blocks)
    order = jnp.argsort(owner)
    counts = jnp.bincount(owner, length=blocks + 1)[:blocks]
    starts = jnp.cumsum(counts) - counts
    cell = -(-5 * batch // (4 * blocks))  # Few blocks have a quarter more than their share.
    cells = (counts + cell - 1) // cell
    last = jnp.cumsum(cells)

    def step(k: Array, parts: Any) -> Any:
        block = jnp.searchsorted(last, k, side="right")
        within = (k - (last - cells)[block]) * cell + jnp.arange(cell)
        taken = order[jnp.minimum(starts[block] + within, batch - 1)]
        weight = jnp.where(within < counts[block], weights[taken], 0.0)
        chosen = jax.tree.map(lambda leaf: leaf[taken], x)
        taken_in = _take_in(part_of(parts, 1 + block), chosen, codes[taken], weight)
        return _set(parts, 1 + block, taken_in)

    return jax.lax.fori_loop(0, last[-1], step, state.parts)


def _take_in(state: Any, x: Features, codes: Array, weights: Array) -> Any:
    return jax.tree.map(
        lambda m, rows: moments_of.update(m, rows, codes, None, weights),
        state,
        x,
        is_leaf=is_moments,
    )


def _set(stacked: Any, i: Array, one: Any) -> Any:
    return jax.tree.map(lambda leaf, value: leaf.at[i].set(value), stacked, one)


def _padded(arrays: Any, size: int) -> Any:
    """Arrays of rows with rows of zeros behind them."""

    def pad(rows: Any) -> Any:
        behind = ((0, size - rows.shape[0]), *((0, 0),) * (rows.ndim - 1))
        return np.pad(rows, behind) if isinstance(rows, np.ndarray) else jnp.pad(rows, behind)

    return jax.tree.map(pad, arrays)

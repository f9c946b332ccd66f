"""Moments of rows that come in chunks: files of any size, over devices and processes."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial
from jax.typing import DTypeLike

from kernlens.arrays.memory import aligned_empty, is_aligned
from kernlens.arrays.rows import identity
from kernlens.moments.arrays import check_codes, is_finite, rows_of_chunk
from kernlens.moments.mesh import over_devices, reduced, start_on, step
from kernlens.moments.state import Moments, init
from kernlens.types import CheckedStream, Chunk, FeatureMap, Stream

ProgressFn: TypeAlias = Callable[[int, int | None], Any]
"""``progress(done, total)``, in rows; the total is None where it is not known."""

AHEAD = 2
"""Chunks that are read before the first of them has to be computed."""

FEW = 16
"""Chunks that are made equally large where their size is not given."""


def from_stream(
    chunks: Stream | Iterable[Any],
    codes: np.ndarray | None,
    num_classes: int,
    targets: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    *,
    features: FeatureMap = identity,
    scatter: bool = True,
    class_scatters: bool = False,
    fourths: bool = False,
    rows: int | None = None,
    dtype: DTypeLike | None = None,
    mesh: Mesh | None = None,
    progress: ProgressFn | None = None,
) -> Moments:
    """Moments of a stream, in one pass; memory is a few chunks.

    A chunk is read while the one before is computed. All have one shape: the last is filled up
    with rows of weight 0.

    Args:
      chunks: a :class:`kernlens.types.Stream`, such as :class:`kernlens.io.EmbeddingFiles`, that
        does not write again to what it gave; or an iterable of arrays ``[b, d]`` whose rows follow
        each other; or an iterable of :class:`kernlens.types.Chunk`.
      codes: class of each row by its number in the stream, integers ``[n]`` in
        ``0..num_classes-1``; ``-1`` for none; None for no labels at all.
      num_classes: number of classes ``C``.
      targets: regression targets by row number, ``[n, T]``, as a memory map if they are large. The
        rows of another embedding, to get ``cross`` for :func:`kernlens.moments.concatenate`.
      weights: multiplicity of each row by row number, ``[n]``; 1 by default.
      features: map of the rows of a chunk; :func:`kernlens.arrays.rows.identity` by
        default. A map without arrays of its own is applied twice, once by each walk; a map with
        arrays is applied once.
      scatter: whether to keep the scatter, or its diagonal alone, as in :func:`init`.
      class_scatters: whether to keep a scatter for each class, as in :func:`init`.
      fourths: whether to keep fourth moments of pairs of dimensions, as in :func:`init`.
      rows: in a chunk; by default what a few megabytes hold at most, more for a scatter of wide
        rows and for many class scatters.
      dtype: float dtype in which to accumulate; by default that of the features, at least float32.
      mesh: devices over which the rows of each chunk are spread, all axes taken together. Where it
        spans processes, each calls this with the same arguments: a stream is cut into one run of
        rows a process, an iterable has to hold rows of this process alone.
      progress: told of rows done and rows in all, by this process, after each chunk.

    Returns:
      Moments, on every process the same.

    Raises:
      ValueError: no rows; codes, targets or weights not one a row of the stream, or codes out of
        range; chunks that are not ``[b, d]`` floats of one width; rows that are not finite;
        ``rows`` below 1.
    """
    n = _check(chunks, codes, num_classes, targets, weights, rows)
    source = getattr(chunks, "source", "the stream")
    devices = over_devices(mesh)
    kept = num_classes if class_scatters else 0
    whole = chunks if isinstance(chunks, Stream) else None

    def rows_together(width: int, itemsize: int) -> int:
        most = rows or rows_of_chunk(width, itemsize, scatter=scatter, kept=kept)
        if n is None or mesh is not None:
            return devices.whole(most)  # over a mesh they stay together, as they would be alone
        count = -(-n // most)
        # Few chunks share the rows evenly, so that the last is not mostly filler; many have one
        # program for any n.
        return min(most, n) if rows or count > FEW else -(-n // count)

    if isinstance(chunks, Stream):
        count = chunks.shape[0]
        bounds = [count * (devices.process + i) // devices.processes for i in (0, 1)]
        size = rows_together(chunks.shape[1], np.dtype(chunks.dtype).itemsize)
        # A row that is not finite shows in the moments, unless a map of the rows hides it.
        if isinstance(chunks, CheckedStream) and features is identity:
            chunks = chunks.unchecked()
        chunks = chunks.chunks(rows=size, start=bounds[0], stop=bounds[1])
    pieces = _pieces(chunks, n)
    first = next(pieces, None)
    if first is None:
        raise ValueError("the stream holds no rows for this process; expected at least one")
    values = first[0]
    size = rows_together(values.shape[1], values.dtype.itemsize)
    map_fn = features if isinstance(features, Partial) else Partial(features)
    example = jax.eval_shape(
        jnp.asarray, jax.ShapeDtypeStruct((size, values.shape[1]), values.dtype)
    )
    example = jax.eval_shape(map_fn, example)
    wide = jnp.finfo(example.dtype).bits >= 32
    start = init(
        example.shape[1],
        num_classes,
        0 if targets is None else targets.shape[1],
        scatter=scatter,
        class_scatters=class_scatters,
        fourths=fourths,
        dtype=(example.dtype if wide else jnp.float32) if dtype is None else dtype,
    )
    state, done, waiting = start_on(start, devices), 0, []
    # New memory is slow to touch: what a chunk was copied to is used again once it is computed.
    held: list[np.ndarray] = []
    copied = 0
    for parts, numbers in _regrouped(itertools.chain([first], pieces), size):
        if whole is not None and len(parts[0]) == size and is_aligned(parts[0]):
            x = parts[0]
        else:
            if len(held) <= AHEAD:
                held.append(aligned_empty((size, values.shape[1]), values.dtype))
            x = _filled(held[copied % (AHEAD + 1)], parts)
            copied += 1
        batch = x, *_beside(numbers, codes, targets, weights, size)
        # The computation runs on while the next chunk is read; a few at most wait for it.
        state, token = step(state, batch, map_fn, local=devices.local)
        waiting.append(token)
        if len(waiting) > AHEAD:
            jax.block_until_ready(waiting.pop(0))
        done += len(numbers)
        if progress is not None:
            progress(done, n)
    found = reduced(state, devices)
    if not is_finite(found):
        if whole is not None:  # names the rows
            for _ in whole.chunks(rows=size):
                pass
        raise ValueError(
            f"{source} holds NaN, infinity or values too large to sum; open it with "
            "drop_nonfinite=True, or drop these rows from the chunks"
        )
    return found


def in_chunks(
    chunks: Any, codes: np.ndarray, num_classes: int, weights: np.ndarray | None, rows: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Rows, codes, no targets and weights of an array or a stream, in chunks of one shape."""
    chunks = [chunks] if isinstance(chunks, np.ndarray | jax.Array) else chunks
    n = _check(chunks, codes, num_classes, None, weights, rows)
    pieces = _pieces(chunks.chunks(rows=rows) if isinstance(chunks, Stream) else chunks, n)
    for parts, numbers in _regrouped(pieces, rows):
        x = _filled(np.empty((rows, parts[0].shape[1]), parts[0].dtype), parts)
        yield x, *_beside(numbers, codes, None, weights, rows)


def _check(
    chunks: Any,
    codes: np.ndarray | None,
    num_classes: int,
    targets: np.ndarray | None,
    weights: np.ndarray | None,
    rows: int | None,
) -> int | None:
    """Refuses what cannot belong together; the number of rows where it is known."""
    n = chunks.shape[0] if isinstance(chunks, Stream) else None
    source = getattr(chunks, "source", "the stream")
    for name, array, rank in (
        ("codes", codes, 1),
        ("targets", targets, 2),
        ("weights", weights, 1),
    ):
        if array is None:
            continue
        if np.ndim(array) != rank or n not in (None, len(array)):
            expected = f"[{'n' if n is None else n}{', T' * (rank - 1)}]"
            raise ValueError(
                f"{name} have shape {np.shape(array)}; expected {expected}, one for each row of "
                f"{source}"
            )
        n = len(array)
    if codes is None and num_classes:
        raise ValueError(f"got {num_classes} classes and no codes; expected a code for each row")
    if codes is not None:
        check_codes(np.asarray(codes), num_classes)
    if weights is not None and not np.all(np.isfinite(weights) & (np.asarray(weights) >= 0)):
        bad = int(np.flatnonzero(~(np.asarray(weights) >= 0) | ~np.isfinite(weights))[0])
        raise ValueError(f"weights must be finite and at least 0; got {weights[bad]} at row {bad}")
    if n == 0:
        raise ValueError(f"{source} holds no rows; expected at least one")
    if rows is not None and rows < 1:
        raise ValueError(f"rows of a chunk must be at least 1; got {rows}")
    return n


def _pieces(chunks: Iterable[Any], n: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values and row numbers, as they come."""
    count, width, numbered = 0, None, True
    for chunk in chunks:
        numbered = isinstance(chunk, Chunk)
        values = np.asarray(chunk.values if isinstance(chunk, Chunk) else chunk)
        width = values.shape[-1] if width is None and values.ndim else width
        if values.ndim != 2 or values.shape[1] != width or not _is_float(values):
            raise ValueError(
                f"the chunk at row {count} is {values.dtype} of shape {values.shape}; expected "
                f"floats of shape [rows, {width}]"
            )
        numbers = chunk.rows if isinstance(chunk, Chunk) else np.arange(count, count + len(values))
        if len(values) and n is not None and not 0 <= numbers.min() <= numbers.max() < n:
            found = f"rows {numbers.min()}..{numbers.max()}"
            raise ValueError(
                f"the stream holds {found}; codes, targets or weights are for {n} rows"
            )
        count += len(values)
        if len(values):
            yield values, numbers
    if not numbered and n is not None and count < n:
        raise ValueError(f"the stream holds {count} rows; codes, targets or weights are for {n}")


def _is_float(values: np.ndarray) -> bool:
    return bool(jnp.issubdtype(values.dtype, jnp.floating))


def _regrouped(
    pieces: Iterable[tuple[np.ndarray, np.ndarray]], size: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """The same rows, ``size`` at a time: views of the pieces they lie in, and their numbers."""
    parts: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    count = 0
    for values, own in pieces:
        at = 0
        while at < len(own):
            taken = slice(at, at + size - count)
            parts.append(values[taken])
            numbers.append(own[taken])
            count += len(numbers[-1])
            at += len(numbers[-1])
            if count == size:
                yield parts, np.concatenate(numbers)
                parts, numbers, count = [], [], 0
    if parts:
        yield parts, np.concatenate(numbers)


def _filled(x: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """The rows in memory of their own, and zeros: pages of a mapped file do not stay there."""
    at = 0
    for part in parts:
        x[at : at + len(part)] = part
        at += len(part)
    x[at:] = 0
    return x


def _beside(
    numbers: np.ndarray,
    codes: np.ndarray | None,
    targets: np.ndarray | None,
    weights: np.ndarray | None,
    size: int,
) -> tuple[np.ndarray, ...]:
    """Codes, targets and weights of a chunk, filled up to ``size`` rows of weight 0."""
    count = len(numbers)
    own_codes = np.full(size, -1, np.int32)
    own_weights = np.zeros(size, np.float32 if weights is None else np.asarray(weights).dtype)
    width = 0 if targets is None else targets.shape[1]
    own_targets = np.zeros((size, width), np.float32 if targets is None else targets.dtype)
    own_weights[:count] = 1 if weights is None else weights[numbers]
    if codes is not None:
        own_codes[:count] = codes[numbers]
    if targets is not None:
        own_targets[:count] = targets[numbers]
    return own_codes, own_targets, own_weights

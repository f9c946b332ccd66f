"""Labelled rows in blocks, from memory or from a stream."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernlens.types import Chunk, Labels, Stream

MAX_BYTES = 2**25
"""Bytes of a block in float64."""

LARGEST = 1e150
"""Largest value whose square, summed over rows, float64 holds."""


def check_rows(features: Any, num_rows: int) -> Any:
    """Features that a probe can take: a stream as it is, else a NumPy array.

    Args:
      features: real, ``[n, p]``, or a stream of such.
      num_rows: ``n`` of the target.

    Returns:
      The stream, or the array.

    Raises:
      ValueError: another rank, no column, another number of rows than the target, or a dtype that
        is not of real numbers.
    """
    features = features if isinstance(features, Stream) else np.asarray(features)
    shape = tuple(features.shape)
    if len(shape) != 2 or shape[1] < 1 or shape[0] != num_rows:
        raise ValueError(
            "features must be [n, p] with p >= 1, and the target must have n rows; "
            f"got features {shape} and a target of {num_rows} rows"
        )
    if not jnp.issubdtype(features.dtype, jnp.number) or features.dtype.kind == "c":
        raise ValueError(f"features must be real numbers; got dtype {features.dtype}")
    return features


def known_classes(labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows with a label, and their classes renumbered to those that occur.

    Args:
      labels: one label per row, ``[n]``; ``-1`` for none.

    Returns:
      Whether a row has a label, bool ``[n]``; the code of each class that occurs, rising, ``[C]``;
      and the class of each labelled row, in ``0..C-1``.

    Raises:
      ValueError: fewer than two classes.
    """
    codes = np.asarray(labels.codes)
    kept = codes >= 0
    classes, own = np.unique(codes[kept], return_inverse=True)
    if len(classes) < 2:
        found = [labels.names[c] for c in classes]
        raise ValueError(f"a probe needs two classes or more among the rows; got {found}")
    return kept, classes, own


def blocks(features: Any, kept: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows kept, in order, as float64 blocks.

    Args:
      features: an array or a stream, as :func:`check_rows` returns.
      kept: whether a row counts, bool ``[n]``.

    Yields:
      Rows ``[b, p]`` and their numbers ``[b]``; blocks without a row are passed over.

    Raises:
      ValueError: a value that is not finite, or beyond :data:`LARGEST`; names the first such row.
    """
    size = max(1, MAX_BYTES // (8 * features.shape[1]))
    for values, rows in raw_blocks(features, size):
        chosen = kept[rows]
        if not np.any(chosen):
            continue
        values, rows = values[chosen].astype(np.float64), rows[chosen]
        finite = np.all(np.isfinite(values), axis=1)
        if not np.all(finite):
            raise ValueError(
                f"features must be finite; {np.count_nonzero(~finite)} labelled rows near row "
                f"{rows[np.argmin(finite)]} are not"
            )
        large = np.max(np.abs(values), axis=1) > LARGEST
        if np.any(large):
            raise ValueError(
                f"features must lie within {LARGEST:g} of 0, so that float64 holds their squares; "
                f"row {rows[np.argmax(large)]} does not. Rescale them"
            )
        yield values, rows


def numbered(features: Any, kept: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As :func:`blocks`, the rows numbered among those kept."""
    start = 0
    for values, _ in blocks(features, kept):
        yield values, np.arange(start, start + len(values))
        start += len(values)


def raw_blocks(features: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows as they come, ``size`` at most at a time, and their numbers."""
    if isinstance(features, Stream):
        for chunk in features.chunks(rows=size):
            if not isinstance(chunk, Chunk):
                raise ValueError(
                    "chunks of a stream need values and rows, as those of io.open_embeddings have; "
                    f"got {type(chunk).__name__}"
                )
            yield np.asarray(chunk.values), np.asarray(chunk.rows)
        return
    for start in range(0, len(features), size):
        part = np.asarray(features[start : start + size])
        yield part, np.arange(start, start + len(part))

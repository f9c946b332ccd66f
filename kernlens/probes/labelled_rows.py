"""Labelled rows as the leave-one-out probes read them: checked, shifted, scaled, in chunks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens.probes import copies
from kernlens.types import Array, Chunk, Labels, Stream

MAX_CHUNK_BYTES = 2**25
MAX_STREAMED = 4096
"""Rows of a stream looked at together before the sizes of chunks are known."""

CHUNK_STRENGTHS = 16
"""Chunks are sized for the products of rows, classes and this many strengths."""


class Streamed(NamedTuple):
    """Labelled rows that stay in their files.

    Attributes:
      stream: the rows, with and without a label.
      codes: class of each row of the stream, ``[m]``; ``-1`` for none.
      shape: labelled rows and features, ``(n, p)``.
    """

    stream: Stream
    codes: np.ndarray
    shape: tuple[int, int]

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labelled rows, ``size`` at most at a time, and their numbers in the stream."""
        for chunk in self.stream.chunks(rows=size):
            if not isinstance(chunk, Chunk):
                raise ValueError(
                    "chunks of a stream need values and rows, as those of io.open_embeddings have; "
                    f"got {type(chunk).__name__}"
                )
            kept = self.codes[chunk.rows] >= 0
            if kept.any():
                yield chunk.values[kept], chunk.rows[kept]


class LabelledRows(NamedTuple):
    """Labelled rows, their codes renumbered to the classes that occur.

    Attributes:
      features: ``[n, p]``, in memory or streamed, or ``[n, n]`` coordinates of the same rows where
        ``p > n``.
      codes: class of each row, int32 ``[n]``, in ``0..C-1``, each with a row at least.
      classes: the code that each class has in the labels, ``[C]``, rising.
      shift: a row to subtract before all else, float64 ``[p]``.
      scale: what to divide each column by after that, positive ``[p]``.
      num_features: the ``p`` of the features given.
      groups: equal for copies of one row, ``[n]``.
      copies: how many rows a row's group has, the row itself among them, int32 ``[n]``.
    """

    features: np.ndarray | Streamed
    codes: np.ndarray
    classes: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    num_features: int
    groups: np.ndarray
    copies: np.ndarray


def select_rows(
    features: Any,
    labels: Labels,
    *,
    standardised: bool = True,
    groups: np.ndarray | None = None,
) -> LabelledRows:
    """Labelled rows, checked.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, which is read through
        three times here and three times after.
      labels: one label per row, ``[n]``; ``-1`` for none.
      standardised: whether each column is divided by its standard deviation, not all by one number.
      groups: equal for copies of one row, ``[n]``; those of :func:`kernlens.probes.copies.groups`
        by default.

    Returns:
      LabelledRows.

    Raises:
      ValueError: shapes that differ, a value that is not finite, a code without a name, fewer than
        two classes, or fewer than two rows more than classes.
    """
    streamed, codes = isinstance(features, Stream), np.asarray(labels.codes)
    given, given_codes = features, codes
    features = features if streamed else np.asarray(features)
    if len(features.shape) != 2 or features.shape[1] < 1 or codes.shape != features.shape[:1]:
        raise ValueError(
            "features must be [n, p] with p >= 1 and labels [n]; "
            f"got features {features.shape} and labels {codes.shape}"
        )
    if not jnp.issubdtype(features.dtype, jnp.number) or features.dtype.kind == "c":
        raise ValueError(f"features must be real numbers; got dtype {features.dtype}")
    if codes.size and (codes.min() < -1 or codes.max() >= len(labels.names)):
        raise ValueError(
            f"label codes must lie in -1..{len(labels.names) - 1}, one name a class; "
            f"got {codes.min()}..{codes.max()}"
        )
    if streamed:
        source = Streamed(features, codes, features.shape)
        low, high, labelled, shift = _extremes(source)
        classes, codes = _classes(labels, codes[labelled])
        features = source._replace(shape=(len(labelled), features.shape[1]))
    else:
        labelled = np.flatnonzero(codes >= 0)
        if len(labelled) < len(codes):
            features, codes = features[labelled], codes[labelled]
        classes, codes = _classes(labels, codes)
        # The extremes of a column are finite only where all of it is.
        low, high = (np.asarray(f(features, axis=0), np.float64) for f in (np.min, np.max))
        shift = features[0].astype(np.float64)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        if streamed:  # one of kernlens.io has told of its rows before
            raise ValueError("features must be finite; those of the stream are not")
        bad = np.flatnonzero(~np.all(np.isfinite(features.astype(np.float64)), axis=1))
        raise ValueError(
            f"features must be finite; {bad.size} of {len(features)} labelled rows are not, "
            f"the first is row {labelled[bad[0]]}, counted from 0"
        )
    with np.errstate(over="ignore"):
        span = high - low
    if not np.all(np.isfinite(span)):
        raise ValueError("features span more than float64 holds; rescale them")
    if standardised:
        scale = _deviations(features, shift, span, len(codes))
    else:
        scale = np.full(len(span), np.max(span) or 1.0)
    if groups is None:
        groups = copies.groups(given, given_codes)
    groups = np.unique(np.asarray(groups)[labelled], return_inverse=True)[1]
    num_features = features.shape[1]
    if num_features > len(codes):
        if streamed:
            features = np.concatenate([x for x, _ in features.blocks(MAX_STREAMED)])
        # In these units both probes are blind to rotation: the triangular factor has the same
        # rows in n columns.
        centred = (features.astype(np.float64) - shift) / scale
        centred -= np.mean(centred, axis=0)
        features = np.ascontiguousarray(np.transpose(np.linalg.qr(centred.T, mode="r")))
        shift, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    number = np.bincount(groups)[groups].astype(np.int32)
    return LabelledRows(
        features, codes.astype(np.int32), classes, shift, scale, num_features, groups, number
    )


def chunks(rows: LabelledRows) -> Iterator[tuple[Array, Array, int]]:
    """Float64 chunks of a fixed size, which one compilation serves; padding has code ``C``.

    Yields:
      Rows ``[b, p]``, their codes ``[b]``, and how many of them are filled.
    """
    n, width = rows.features.shape
    limit = MAX_CHUNK_BYTES // (8 * max(width, CHUNK_STRENGTHS * len(rows.classes)))
    size = min(4096, 1 << (n - 1).bit_length(), max(256, 1 << limit.bit_length() - 1))
    start = 0
    for x in _blocks(rows.features, size):
        filled = len(x)
        padded = np.zeros((size, width))
        padded[:filled] = (x.astype(np.float64) - rows.shift) / rows.scale
        padded_codes = np.full(size, len(rows.classes), np.int32)
        padded_codes[:filled] = rows.codes[start : start + filled]
        start += filled
        yield jnp.asarray(padded), jnp.asarray(padded_codes), filled


def _classes(labels: Labels, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur, and codes renumbered to them; too few of either are a ValueError."""
    classes, codes = np.unique(codes, return_inverse=True)
    if len(classes) < 2:
        found = [labels.names[c] for c in classes]
        raise ValueError(f"a probe needs two classes or more among the rows; got {found}")
    if len(codes) < len(classes) + 2:
        raise ValueError(
            f"a probe needs at least two labelled rows more than classes; got {len(codes)} "
            f"labelled rows of {len(classes)} classes"
        )
    return classes, codes


def _blocks(features: np.ndarray | Streamed, size: int) -> Iterator[np.ndarray]:
    if isinstance(features, Streamed):
        return (x for x, _ in features.blocks(size))
    return (features[start : start + size] for start in range(0, len(features), size))


def _deviations(features: Any, shift: np.ndarray, span: np.ndarray, n: int) -> np.ndarray:
    """Standard deviation of each column, ``[p]``; 1 of a constant one."""
    unit = np.where(span > 0, span, 1.0)
    total, squares = np.zeros(len(span)), np.zeros(len(span))
    for x in _blocks(features, MAX_STREAMED):
        z = (x.astype(np.float64) - shift) / unit
        total += z.sum(axis=0)
        squares += np.sum(z**2, axis=0)
    variances = squares / n - (total / n) ** 2
    # Two rows at least lie a span apart, which bounds the variance where rounding has eaten it.
    return np.where(span > 0, unit * np.sqrt(np.maximum(variances, 0.5 / n)), 1.0)


def _extremes(source: Streamed) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest of each feature, numbers of the labelled rows, and the first of them."""
    low, high = np.full((2, source.shape[1]), np.inf) * [[1.0], [-1.0]]
    numbers, first = [np.empty(0, np.int64)], np.zeros(source.shape[1])
    for x, rows in source.blocks(MAX_STREAMED):
        x = x.astype(np.float64)
        first = x[0] if len(numbers) == 1 else first
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        numbers.append(rows)
    return low, high, np.concatenate(numbers), first

"""Embeddings of any size: opened without being read, then read in chunks, as often as asked."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens.io.stored import BFLOAT16, Stored

_READ_VALUES = 2**22
_LISTED = 5


class Embeddings(NamedTuple):
    """Rows of embeddings in memory.

    Attributes:
      values: real and finite, ``[n, d]``; a read-only memory map of the file where it can be.
      ids: id of each row as text, each once, ``[n]``; None for row numbers.
      source: what to call the file in an error.
      dropped: how many rows were left out because they were not finite.
      dropped_ids: their ids, or row numbers, as text, ``[dropped]``.
      numbered: whether the ids are row numbers, as where rows of a file without ids were dropped.
      told: what was taken for ids and dimensions.
    """

    values: np.ndarray
    ids: np.ndarray | None = None
    source: str = "embeddings"
    dropped: int = 0
    dropped_ids: np.ndarray = np.empty(0, str)
    numbered: bool = False
    told: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions, ``(n, d)``."""
        return self.values.shape[0], self.values.shape[1]


class Chunk(NamedTuple):
    """Rows that follow each other.

    Attributes:
      values: real and finite, ``[b, d]``.
      rows: number of each row in the stream, int64 ``[b]``, rising; what is missing was dropped.
      ids: id of each row as text, ``[b]``; None where the stream has none.
    """

    values: np.ndarray
    rows: np.ndarray
    ids: np.ndarray | None = None


class Part(NamedTuple):
    """One file of a stream.

    Attributes:
      path: the file.
      stored: what it holds.
      scale: what its integers are multiplied with, ``[1, 1]``, ``[1, d]`` or ``[rows, 1]``; None
        for 1.
      stamp: its size and time of change when it was opened.
    """

    path: Path
    stored: Stored
    scale: np.ndarray | None
    stamp: tuple[int, int]


class EmbeddingFiles(NamedTuple):
    """Embeddings in files, a :class:`kernlens.types.Stream`.

    Only ids are in memory, and no file stays open.

    Attributes:
      shape: rows and dimensions in the files, ``(n, d)``.
      dtype: dtype of the values that are read: that of the file for float16, bfloat16, float32 and
        float64, float32 for integers.
      ids: id of each row as text, each once, ``[n]``; None for row numbers.
      source: what to call the files in an error.
      parts: the files, whose rows follow each other.
      drop_nonfinite: whether rows that are not finite are left out, or refused.
      checked: whether they are looked for; see :meth:`unchecked`.
      told: what was taken for ids and dimensions.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    ids: np.ndarray | None
    source: str
    parts: tuple[Part, ...]
    drop_nonfinite: bool = False
    checked: bool = True
    told: str = ""

    def unchecked(self) -> "EmbeddingFiles":
        """The same for a reader that would notice a row that is not finite.

        Such a reader then reads :meth:`chunks` of the checked stream, which names the rows. Where
        rows are to be left out, they are looked for all the same.
        """
        return self._replace(checked=self.drop_nonfinite)

    def chunks(
        self, *, rows: int = 4096, start: int = 0, stop: int | None = None
    ) -> Iterator[Chunk]:
        """Reads rows in order; each call reads the files again.

        Memory is a few chunks, and what the format unpacks at a time: a page of each column of a
        Parquet file, a batch of a packed Arrow file.

        Args:
          rows: in a chunk, at least 1; the last one may be shorter.
          start: first row, in ``0..n``.
          stop: row after the last, in ``start..n``; ``n`` by default.

        Yields:
          Chunks, whatever batches the files are written in.

        Raises:
          ValueError: rows out of range; while reading, a row that is not finite (unless dropped;
            all of them always), a damaged or ragged part of a file, or a file that has changed.
        """
        stop = self.shape[0] if stop is None else stop
        if rows < 1 or not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(
                f"{self.source}: got rows={rows}, start={start}, stop={stop}; expected rows of at "
                f"least 1 and 0 <= start <= stop <= {self.shape[0]}"
            )
        return self._chunks(rows, start, stop)

    def read(self) -> Embeddings:
        """Reads all rows into memory, or maps the file where it holds just what is asked for.

        Returns:
          Embeddings. Where rows were dropped from a stream without ids, row numbers become ids.

        Raises:
          ValueError: as :meth:`chunks`.
        """
        chunk = max(1, _READ_VALUES // self.shape[1])
        whole = self.parts[0].stored.whole
        as_stored = len(self.parts) == 1 and self.dtype == self.parts[0].stored.dtype
        if as_stored and whole is not None:
            finite = sum(len(found.rows) for found in self.chunks(rows=chunk))
            if finite == self.shape[0]:
                return Embeddings(whole(), self.ids, self.source, told=self.told)
        values, rows = np.empty(self.shape, self.dtype), np.empty(self.shape[0], np.int64)
        count = 0
        for found in self.chunks(rows=chunk):
            values[count : count + len(found.rows)] = found.values
            rows[count : count + len(found.rows)] = found.rows
            count += len(found.rows)
        if count == self.shape[0]:
            return Embeddings(values, self.ids, self.source, told=self.told)
        every = np.arange(self.shape[0]).astype(str) if self.ids is None else self.ids
        left_out = np.delete(every, rows[:count])
        return Embeddings(
            values[:count],
            every[rows[:count]],
            self.source,
            len(left_out),
            left_out,
            numbered=self.ids is None,
            told=self.told,
        )

    def _chunks(self, rows: int, start: int, stop: int) -> Iterator[Chunk]:
        kept = 0
        for values, numbers in regroup(self._finite(rows, start, stop), rows):
            kept += len(numbers)
            yield Chunk(values, numbers, None if self.ids is None else self.ids[numbers])
        if not kept and start < stop:
            raise ValueError(
                f"{self.source}: all of the rows {start}..{stop - 1} hold NaN, infinity or no value"
            )

    def _finite(self, rows: int, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Finite values and their row numbers, in blocks as the files give them."""
        blocks = self._blocks(rows, start, stop)
        for first, values in blocks:
            good = _finite_rows(values) if self.checked else None
            if good is None:
                yield values, np.arange(first, first + len(values))
                continue
            bad = first + np.flatnonzero(~good)
            if not self.drop_nonfinite:
                raise self._nonfinite(bad, blocks, stop - start)
            yield values[good], first + np.flatnonzero(good)

    def _blocks(self, rows: int, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """First row and values, which may not be finite."""
        before = 0
        for part in self.parts:
            own = part.stored.shape[0]
            low, high = max(start - before, 0), min(stop - before, own)
            if low < high:
                if stamp(part.path) != part.stamp:
                    raise ValueError(f"{part.path}: has changed since it was opened; open it again")
                for block in part.stored.blocks(low, high, rows):
                    yield before + low, _floats(block, self.dtype, part.scale, low)
                    low += len(block)
                if low != high:
                    raise ValueError(f"{part.path}: ends before row {low}; expected {own} rows")
            before += own

    def _nonfinite(
        self, bad: np.ndarray, rest: Iterator[tuple[int, np.ndarray]], rows: int
    ) -> ValueError:
        """Reads on to count them all."""
        count, shown = len(bad), bad[:_LISTED].tolist()
        for first, values in rest:
            good = _finite_rows(values)
            if good is not None:
                more = first + np.flatnonzero(~good)
                count += len(more)
                shown += more[: _LISTED - len(shown)].tolist()
        listed = ", ".join(map(str, shown)) + (", ..." if count > len(shown) else "")
        within = ""
        if len(self.parts) > 1:
            ends = np.cumsum([part.stored.shape[0] for part in self.parts])
            place = int(np.searchsorted(ends, shown[0], side="right"))
            row = shown[0] - int(ends[place]) + self.parts[place].stored.shape[0]
            within = f" (the first is row {row} of {self.parts[place].path.name})"
        return ValueError(
            f"{self.source}: {count} of {rows} rows hold NaN, infinity or no value, in rows "
            f"{listed}, counted from 0{within}; expected finite numbers; --drop-nonfinite leaves "
            "such rows out"
        )


def fingerprint(stream: EmbeddingFiles, *, rows: int = 4096) -> str:
    """A name for the content, from one pass: equal for equal content in any format.

    It is the SHA-256 of shape, dtype, values and ids as the stream gives them, row after row.

    Args:
      stream: embeddings.
      rows: read at a time; does not change the outcome.

    Returns:
      ``sha256:`` and 64 hexadecimal digits.

    Raises:
      ValueError: as :meth:`EmbeddingFiles.chunks`.
    """
    values, texts = hashlib.sha256(), hashlib.sha256()
    little = stream.dtype if stream.dtype == BFLOAT16 else stream.dtype.newbyteorder("<")
    count = 0
    for chunk in stream.chunks(rows=rows):
        content = np.ascontiguousarray(chunk.values.astype(little, copy=False))
        values.update(content.view(np.uint8).data)
        count += len(chunk.rows)
        for id_ in () if chunk.ids is None else chunk.ids.tolist():
            text = id_.encode()
            texts.update(len(text).to_bytes(8, "little") + text)
    head = f"{count} {stream.shape[1]} {stream.dtype.name} {stream.ids is not None}"
    parts = head.encode(), values.digest(), texts.digest()
    return "sha256:" + hashlib.sha256(b"\n".join(parts)).hexdigest()


def regroup(pieces: Iterator[tuple[Any, ...]], rows: int) -> Iterator[tuple[Any, ...]]:
    """Pieces of any lengths as pieces of ``rows`` rows, the last one shorter where need be.

    Args:
      pieces: arrays of equal length, ``[m, ...]`` each; ``m`` may change from piece to piece.
      rows: in each piece that comes out.

    Yields:
      The same rows in the same order; views where a piece need not be joined.
    """
    held: list[tuple[np.ndarray, ...]] = []
    count = 0
    for piece in pieces:
        at = 0
        while at < len(piece[0]):
            taken = tuple(array[at : at + rows - count] for array in piece)
            held.append(taken)
            count += len(taken[0])
            at += len(taken[0])
            if count == rows:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does: its size and its time of change, in nanoseconds."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _joined(pieces: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    if len(pieces) == 1:
        return pieces[0]
    return tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))


def _finite_rows(values: np.ndarray) -> np.ndarray | None:
    """Which rows are finite, bool ``[b]``; None for all."""
    # A sum is finite only where all its terms are, and takes a fraction of the time.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return None
    good = np.all(np.isfinite(values), axis=1)
    return None if good.all() else good


def _floats(block: np.ndarray, dtype: np.dtype, scale: np.ndarray | None, first: int) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is infinite, and treated as that
        values = block.astype(dtype, copy=False)
        if scale is None:
            return values
        return values * (scale[first : first + len(block)] if len(scale) > 1 else scale)

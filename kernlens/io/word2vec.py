"""Word vectors: the text and binary forms of word2vec, and GloVe's text without a header.

The files have no index, so opening reads through one once, to find where each row starts; a
damaged file, or a word that occurs twice, is refused then.
"""

import mmap
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernlens.io import packed, roles
from kernlens.io.columns import check_ids
from kernlens.io.limits import Asked
from kernlens.io.stored import Stored, forget, matrix_shape

_LONGEST_HEADER, _LONGEST_NUMBER = 64, 64
_HELD_BYTES = 2**26
_SPREAD, _LARGEST = 1e15, 1e18


class _Lines(NamedTuple):
    """How the rows of a text file are found again.

    Attributes:
      dim: numbers in each.
      separator: between them.
      header: lines before the first row.
      edges: where each row starts, and where the last one ends; None in a packed file.
    """

    dim: int
    separator: bytes
    header: int
    edges: np.ndarray | None


def open_text(path: Path, asked: Asked) -> Stored:
    """Lines of a word and its numbers, one space or tab apart.

    A first line ``rows dims`` is word2vec's header, and there have to be as many rows.
    """
    found = packed.lines(path, asked.limits)
    line = next(found)
    separator = b"\t" if b"\t" in line else b" "
    fields = line.split()
    header = len(fields) == 2 and all(f.isdigit() and len(f) < 19 for f in fields)
    declared, dim = (int(fields[0]), int(fields[1])) if header else (None, len(fields) - 1)
    if dim < 1:
        raise ValueError(
            f"{path}, line 1: found {line[:40]!r}; expected word2vec's header, 'rows dims', or a "
            "word and its numbers"
        )
    if dim > asked.limits.columns:
        raise ValueError(f"{path}, line 1: {dim:,} numbers; expected {asked.limits.columns:,}")
    words: list[str] = []
    edges = [len(line)] if header else [0, len(line)]
    if not header:
        words.append(_word_of(path, 1, line, separator, dim))
    for number, line in enumerate(found, start=2):
        if len(words) == declared:
            raise ValueError(
                f"{path}, line {number}: found more rows than the {declared} of the header"
            )
        words.append(_word_of(path, number, line, separator, dim))
        edges.append(edges[-1] + len(line))
    # Without a header nothing says how many rows there are, and many a file lacks the last end.
    if declared is not None and (len(words) < declared or not line.endswith(b"\n")):
        cut = "" if line.endswith(b"\n") else ", the last without an end of line"
        raise ValueError(
            f"{path}: truncated? found {len(words)} rows{cut}; the header says {declared}"
        )
    shape = matrix_shape(path, (len(words), dim))
    ids = None if asked.by_row else check_ids(path, "word", np.array(words, object), asked.limits)
    is_packed = path.suffix.lower() == ".gz"
    layout = _Lines(dim, separator, int(header), None if is_packed else np.array(edges, np.int64))
    blocks = partial(_text_blocks, path, asked, layout)
    told = roles.told(None if asked.by_row else "word", dim, "")
    return Stored(shape, np.dtype(np.float32), blocks, ids, told=told)


def _word_of(path: Path, number: int, line: bytes, separator: bytes, dim: int) -> str:
    """The word of a line. It may hold spaces, if what follows the first of them is no number."""
    word, *fields = line.rstrip(b" \t\r\n").split(separator)
    extra = fields[: max(0, len(fields) - dim)]
    if len(fields) < dim or any(not field or _is_number(field) for field in extra):
        raise ValueError(
            f"{path}, line {number}: found {len(fields) + 1} fields, expected a word and "
            f"{dim} numbers, one space apart"
        )
    return _word(f"{path}, line {number}", separator.join([word, *extra]))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field


def open_binary(path: Path, asked: Asked) -> Stored:
    """A header line ``rows dims``, then a word, a space and its little-endian float32 numbers."""
    with path.open("rb") as file:
        shape = _shape(path, file.readline(_LONGEST_HEADER))
        position = file.tell()
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if shape[0] * (4 * shape[1] + 2) > len(data):
        raise ValueError(
            f"{path}: truncated? found {len(data)} bytes; the header says {shape[0]} rows of "
            f"{shape[1]} float32"
        )
    words, starts, forgotten, ended = [], np.empty(shape[0], np.int64), 0, None
    for row in range(shape[0]):
        if row:  # some writers end each row with a line feed, others none
            feed = data[position : position + 1] == b"\n"
            if ended not in (None, feed):
                raise _misread(path, row - 1, words[-1])
            position, ended = position + feed, feed
        space = data.find(b" ", position, position + 4 * asked.limits.text)
        starts[row] = space + 1
        end = space + 1 + 4 * shape[1]
        if space < 0 or end > len(data):
            raise ValueError(
                f"{path}, row {row} of {shape[0]}, byte {position}: truncated or damaged; expected "
                f"a word, a space and {shape[1]} float32"
            )
        word = _word(f"{path}, row {row}", data[position:space])
        if any(char < " " for char in word):
            raise _misread(path, max(0, row - 1), words[-1] if words else word)
        words.append(word)
        position = end
        if position - forgotten >= _HELD_BYTES:
            forget(data)
            forgotten = position
    if data[position : position + 2] not in (b"", b"\n"):
        raise ValueError(
            f"{path}: found {len(data) - position} bytes after the {shape[0]} rows of the header"
        )
    data.close()
    ids = None if asked.by_row else check_ids(path, "word", np.array(words, object), asked.limits)
    blocks = partial(_binary_blocks, path, shape[1], starts, words)
    told = roles.told(None if asked.by_row else "word", shape[1], "")
    return Stored(shape, np.dtype(np.float32), blocks, ids, told=told)


def _misread(path: Path, row: int, word: str) -> ValueError:
    return ValueError(
        f"{path}, row {row}: what follows the word {word[:60]!r} is no row of float32; does a word "
        "hold a space, which this format cannot tell from the end of a word? Save the vectors as "
        ".npy or Parquet"
    )


def _shape(path: Path, line: bytes) -> tuple[int, int]:
    fields = line.split()
    if not line.endswith(b"\n") or len(fields) != 2 or not all(map(bytes.isdigit, fields)):
        raise ValueError(
            f"{path}, line 1: found {line[:40]!r}; expected word2vec's header, 'rows dims' "
            "with a line feed"
        )
    return matrix_shape(path, (int(fields[0]), int(fields[1])))


def _word(where: str, word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: word {word[:60]!r}: {error}; expected UTF-8") from error


def _text_blocks(
    path: Path, asked: Asked, layout: _Lines, start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    pieces = _pieces(path, asked, layout, start, stop, rows)
    for first, found in zip(range(start, stop, rows), pieces, strict=False):
        fields = [line.rstrip(b" \t\r\n").split(layout.separator)[-layout.dim :] for line in found]
        longest = max(len(field) for line in fields for field in line)
        try:
            if longest > _LONGEST_NUMBER:
                raise ValueError("too long for a number")
            block = np.array(fields).astype(np.float32)
        except ValueError:
            _refuse_number(path, first + layout.header + 1, fields)
            raise
        yield block.reshape(len(found), layout.dim)


def _pieces(
    path: Path, asked: Asked, layout: _Lines, start: int, stop: int, rows: int
) -> Iterator[list[bytes]]:
    """Lines of ``rows`` rows at a time."""
    edges = layout.edges
    if edges is None:
        found = islice(packed.lines(path, asked.limits), layout.header + start, None)
        for first in range(start, stop, rows):
            yield list(islice(found, min(rows, stop - first)))
        return
    with path.open("rb") as file:
        file.seek(edges[start])
        for first in range(start, stop, rows):
            last = min(first + rows, stop)
            yield file.read(edges[last] - edges[first]).split(b"\n")[: last - first]


def _refuse_number(path: Path, first: int, fields: list[list[bytes]]) -> None:
    for number, line in enumerate(fields, start=first):
        for column, field in enumerate(line):
            if len(field) > _LONGEST_NUMBER or not _is_number(field):
                raise ValueError(
                    f"{path}, line {number}, number {column}: found {field[:60]!r}, expected a "
                    "number"
                ) from None


def _binary_blocks(
    path: Path, dim: int, starts: np.ndarray, words: list[str], start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        for first in range(start, stop, rows):
            own = starts[first : min(first + rows, stop)]
            file.seek(own[0])
            data = file.read(own[-1] - own[0] + 4 * dim)
            places = (own - own[0]).tolist()
            block = np.stack([np.frombuffer(data, "<f4", dim, place) for place in places])
            garbage = np.flatnonzero(_mixed_scales(block))
            if garbage.size:
                row = first + int(garbage[0])
                raise _misread(path, row, words[row])
            yield block


def _mixed_scales(block: np.ndarray) -> np.ndarray:
    """Rows whose sizes are too unlike to be those of one vector, as in bytes read out of step."""
    sizes = np.abs(block.astype(np.float64))
    sizes[~np.isfinite(sizes)] = 0  # refused, or left out, as rows that are not finite
    least = np.where(sizes > 0, sizes, np.inf).min(axis=1)
    most = sizes.max(axis=1)
    return (most > _LARGEST) | (most > _SPREAD * least)

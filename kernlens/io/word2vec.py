"""Word vectors in the text and binary forms of word2vec.

The files have no index, so opening reads through one once, to find where each row starts; a
damaged file, or a word that occurs twice, is refused then.
"""

import mmap
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from kernlens.io.columns import check_ids
from kernlens.io.stored import Stored, forget, matrix_shape

_LONGEST_HEADER, _LONGEST_WORD = 64, 2**12
_HELD_BYTES = 2**26


def open_text(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A header line ``rows dims``, then lines of a word and its numbers, all one space apart."""
    del id_column, key
    words, starts = [], []
    with path.open("rb") as file:
        shape = _shape(path, file.readline(_LONGEST_HEADER))
        position, line = file.tell(), b"\n"
        for number, line in enumerate(file, start=2):
            if len(words) == shape[0]:
                raise ValueError(
                    f"{path}, line {number}: found more rows than the {shape[0]} of the header"
                )
            word, *_ = fields = line.rstrip(b" \r\n").split(b" ")
            if len(fields) != shape[1] + 1:
                raise ValueError(
                    f"{path}, line {number}: found {len(fields)} fields, expected a word and "
                    f"{shape[1]} numbers, one space apart"
                )
            words.append(_word(path, len(words), word))
            starts.append(position)
            position += len(line)
    if len(words) < shape[0] or not line.endswith(b"\n"):
        cut = "" if line.endswith(b"\n") else ", the last without an end of line"
        raise ValueError(
            f"{path}: truncated? found {len(words)} rows{cut}; the header says {shape[0]}"
        )
    ids = check_ids(path, "word", np.array(words, str))
    edges = np.array([*starts, position], np.int64)
    blocks = partial(_text_blocks, path, shape[1], edges)
    return Stored(shape, np.dtype(np.float32), blocks, ids)


def open_binary(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A header line ``rows dims``, then a word, a space and its little-endian float32 numbers."""
    del id_column, key
    with path.open("rb") as file:
        shape = _shape(path, file.readline(_LONGEST_HEADER))
        position = file.tell()
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if shape[0] * (4 * shape[1] + 2) > len(data):
        raise ValueError(
            f"{path}: truncated? found {len(data)} bytes; the header says {shape[0]} rows of "
            f"{shape[1]} float32"
        )
    words, starts, forgotten = [], np.empty(shape[0], np.int64), 0
    for row in range(shape[0]):
        while data[position : position + 1] == b"\n":  # some writers end a row with one
            position += 1
        space = data.find(b" ", position, position + _LONGEST_WORD)
        starts[row] = space + 1
        end = space + 1 + 4 * shape[1]
        if space < 0 or end > len(data):
            raise ValueError(
                f"{path}, row {row} of {shape[0]}, byte {position}: truncated or damaged; expected "
                f"a word, a space and {shape[1]} float32"
            )
        words.append(_word(path, row, data[position:space]))
        position = end
        if position - forgotten >= _HELD_BYTES:
            forget(data)
            forgotten = position
    if data[position : position + 2] not in (b"", b"\n"):
        raise ValueError(
            f"{path}: found {len(data) - position} bytes after the {shape[0]} rows of the header"
        )
    data.close()
    ids = check_ids(path, "word", np.array(words, str))
    blocks = partial(_binary_blocks, path, shape[1], starts)
    return Stored(shape, np.dtype(np.float32), blocks, ids)


def _shape(path: Path, line: bytes) -> tuple[int, int]:
    fields = line.split()
    if not line.endswith(b"\n") or len(fields) != 2 or not all(f.isdigit() for f in fields):
        raise ValueError(
            f"{path}, line 1: found {line[:40]!r}; expected word2vec's header, 'rows dims' "
            "(GloVe's files have none: write it above the first row)"
        )
    return matrix_shape(path, (int(fields[0]), int(fields[1])))


def _word(path: Path, row: int, word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, row {row}: word {word!r}: {error}; expected UTF-8") from error


def _text_blocks(
    path: Path, dim: int, edges: np.ndarray, start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        file.seek(edges[start])
        for first in range(start, stop, rows):
            last = min(first + rows, stop)
            lines = file.read(edges[last] - edges[first]).split(b"\n")[: last - first]
            fields = [line.rstrip(b" \r").split(b" ")[1:] for line in lines]
            try:
                block = np.array(fields).astype(np.float32)
            except ValueError:
                _refuse_number(path, first, fields)
                raise
            yield block.reshape(last - first, dim)


def _refuse_number(path: Path, first: int, fields: list[list[bytes]]) -> None:
    for row, line in enumerate(fields, start=first):
        for column, field in enumerate(line):
            try:
                float(field)
            except ValueError:
                raise ValueError(
                    f"{path}, line {row + 2}, number {column}: found {field!r}, expected a number"
                ) from None


def _binary_blocks(
    path: Path, dim: int, starts: np.ndarray, start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        for first in range(start, stop, rows):
            own = starts[first : min(first + rows, stop)]
            file.seek(own[0])
            data = file.read(own[-1] - own[0] + 4 * dim)
            places = (own - own[0]).tolist()
            yield np.stack([np.frombuffer(data, "<f4", dim, place) for place in places])

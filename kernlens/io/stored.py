"""What every format gives: the embeddings of one file, as they lie in it."""

import mmap
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from kernlens.arrays.memory import aligned_empty
from kernlens.io import roles
from kernlens.io.limits import ASKED, Asked

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8 = tuple(np.dtype(kind) for kind in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2))
_HELD_BYTES = 2**26
_AHEAD_BYTES = 2**24


class Stored(NamedTuple):
    """The embeddings of one file; nothing of the file stays open.

    Attributes:
      shape: rows and dimensions, ``(n, d)``.
      dtype: dtype of the values as they are stored.
      blocks: ``blocks(start, stop, rows)`` reads the rows ``start..stop-1`` in order, at most
        ``rows`` at a time, ``[at most rows, d]`` each.
      ids: id of each row as text, each once, ``[n]``; None where the file has none.
      scale: what integers are to be multiplied with; None where the file has none.
      whole: a memory map of all values; None where there can be none.
      told: what was taken for ids and dimensions.
      index: the row numbers that pandas saved in place of ids, where they are all that there is.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    blocks: Callable[[int, int, int], Iterator[np.ndarray]]
    ids: np.ndarray | None = None
    scale: np.ndarray | None = None
    whole: Callable[[], np.ndarray] | None = None
    told: str = ""
    index: range | None = None


class EmptyError(ValueError):
    """A file without rows, which is passed over among others."""


class StoredArray(NamedTuple):
    """Shape and dtype of a named array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype | str


def suffix_of(path: Path) -> str:
    """The suffix in lower case; two where the second says how the file is packed: ``.csv.gz``."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() + suffix if suffix == ".gz" else suffix


def unknown_suffix(path: Path, readers: Collection[str]) -> ValueError:
    """The error of a file that no reader takes."""
    return ValueError(
        f"{path}: cannot read files ending in {suffix_of(path)!r}; choose one of "
        f"{', '.join(readers)}"
    )


def choose_reader(path: Path, readers: Mapping[str, Callable]) -> Callable:
    """The reader for a file's suffix; an unknown suffix or an empty file is a ValueError."""
    suffix = suffix_of(path)
    if suffix not in readers:
        raise unknown_suffix(path, readers)
    if path.stat().st_size == 0:
        raise EmptyError(f"{path}: empty file, 0 bytes; expected {suffix}")
    return readers[suffix]


def matrix_shape(
    path: Path, shape: tuple[int, ...], dtype: np.dtype | None = None, asked: Asked = ASKED
) -> tuple[int, int]:
    """The shape itself where it is that of embeddings; another is a ValueError.

    With a dtype, a shape that a file of this size should not hold is refused too.
    """
    if len(shape) != 2:
        raise ValueError(f"{path}: found an array of shape {shape}; expected [rows, dims]")
    if 0 in shape:
        raise EmptyError(f"{path}: empty, shape {shape}; expected rows of numbers")
    if dtype is not None:
        asked.limits.check_shape(path, shape, dtype)
    return int(shape[0]), int(shape[1])


def real_dtype(path: Path, dtype: np.dtype | str) -> np.dtype:
    """The dtype itself where it is one of real numbers or bool; another is a ValueError."""
    if isinstance(dtype, str) or not (dtype.kind in "iufb" or dtype in (BFLOAT16, *FLOAT8)):
        raise ValueError(f"{path}: values are {dtype}; expected real numbers")
    return dtype


def choose_arrays(
    path: Path, arrays: Mapping[str, StoredArray], asked: Asked
) -> tuple[str, str | None, str | None, str]:
    """Which of a file's arrays are the embeddings, their ids and their scale.

    Args:
      path: file, for the error.
      arrays: what the file holds, by name.
      asked: ``key`` names the embeddings; without it, they are the only array of rank 2, or the
        only array. ``id_column`` names the ids, where there is such an array; else they have the
        name of an id, such as ``ids`` or ``item_id``, and one entry a row.

    Returns:
      Names of the embeddings, ids and scale, None for ids or a scale that are not there; and what
      was taken, for the reader.

    Raises:
      ValueError: no array of that name, or several that can be meant; lists what was found.
    """
    key = asked.key
    listed = [f"{n!r} {list(a.shape)} {a.dtype}" for n, a in arrays.items()]
    shown = roles.some(listed) if listed else "no array"
    if key is not None and key not in arrays:
        raise ValueError(f"{path}: no array {key!r}; found {shown}")
    last = {name: name.rpartition("/")[2].lower() for name in arrays}
    scale = next((name for name in arrays if name != key and last[name] == "scale"), None)
    if key is None:
        free = [n for n in arrays if n not in (asked.id_column, scale)]
        free = [n for n in free if last[n] not in ("id", "ids")]
        matrices = [name for name in free if len(arrays[name].shape) == 2] or free
        if len(matrices) != 1:
            raise ValueError(
                f"{path}: which array holds the embeddings? found {shown}; name it with --key"
            )
        (key,) = matrices
    ids = None if asked.by_row else _ids_among(path, arrays, key, scale, asked.id_column)
    left = [name for name in arrays if name not in (key, ids, scale)]
    dim = arrays[key].shape[1] if len(arrays[key].shape) == 2 else 0
    return key, ids, scale, roles.told(ids, dim, f"in {key}", left)


def _ids_among(
    path: Path,
    arrays: Mapping[str, StoredArray],
    key: str,
    scale: str | None,
    named: str | None,
) -> str | None:
    others = [name for name in arrays if name not in (key, scale)]
    if named in others:
        return named
    rows = arrays[key].shape[:1]
    found = [n for n in others if n.rpartition("/")[2].lower() in ("id", "ids")]
    found = found or [n for n in others if roles.is_id_name(n.rpartition("/")[2])]
    one_a_row = [n for n in found if arrays[n].shape == rows] or found
    if len(one_a_row) > 1:
        raise ValueError(
            f"{path}: which array holds the ids? found {roles.some(one_a_row)}; name it with "
            "--id-column, or join by row number with --by-row"
        )
    return one_a_row[0] if one_a_row else None


def mapped_blocks(
    path: Path, dtype: np.dtype, shape: tuple[int, int], offset: int
) -> Callable[[int, int, int], Iterator[np.ndarray]]:
    """``Stored.blocks`` of values in Fortran order, mapped."""

    def blocks(start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(mapped, dtype, shape[0] * shape[1], offset)
        values = values.reshape(shape, order="F")
        held = 0
        for first in range(start, stop, rows):
            block = values[first : min(first + rows, stop)]
            yield block
            held += block.nbytes
            if held >= _HELD_BYTES:
                forget(mapped)
                held = 0

    return blocks


def read_blocks(
    path: Path, dtype: np.dtype, shape: tuple[int, int], offset: int
) -> Callable[[int, int, int], Iterator[np.ndarray]]:
    """``Stored.blocks`` of rows that follow each other in a file, read into memory of their own.

    Reading is faster than mapping where each page is touched once, and a device can take what was
    read without another copy.
    """

    def blocks(start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
        with path.open("rb", buffering=0) as file:
            file.seek(offset + start * shape[1] * dtype.itemsize)
            for first in range(start, stop, rows):
                block = aligned_empty((min(rows, stop - first), shape[1]), dtype)
                left = block.view(np.uint8).reshape(-1).data
                while len(left):
                    got = file.readinto(left)
                    if not got:
                        raise ValueError(
                            f"{path}: ends before row {stop}; expected {shape[0]} rows"
                        )
                    left = left[got:]
                # The disk reads on while the rows are computed on.
                if hasattr(os, "posix_fadvise"):
                    ahead = file.fileno(), file.tell(), _AHEAD_BYTES
                    os.posix_fadvise(*ahead, os.POSIX_FADV_WILLNEED)
                yield block

    return blocks


def forget(mapped: mmap.mmap) -> None:
    """Lets go of the pages read so far: the next touch reads them again.

    Without this, a pass over a file would count as memory of the file's size.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)

"""What every format gives: the embeddings of one file, as they lie in it."""

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens.arrays import aligned_empty

BFLOAT16 = np.dtype(jnp.bfloat16)
_HELD_BYTES = 2**26
_AHEAD_BYTES = 2**24


class Stored(NamedTuple):
    """The embeddings of one file; nothing of the file stays open.

    Attributes:
      shape: rows and dimensions, ``(n, d)``.
      dtype: of the values as they are stored.
      blocks: ``blocks(start, stop, rows)`` reads the rows ``start..stop-1`` in order, at most
        ``rows`` at a time, ``[at most rows, d]`` each.
      ids: id of each row as text, each once, ``[n]``; None where the file has none.
      scale: what integers are to be multiplied with; None where the file has none.
      whole: a memory map of all values; None where there can be none.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    blocks: Callable[[int, int, int], Iterator[np.ndarray]]
    ids: np.ndarray | None = None
    scale: np.ndarray | None = None
    whole: Callable[[], np.ndarray] | None = None


class StoredArray(NamedTuple):
    """Shape and dtype of a named array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype | str


def choose_reader(path: Path, readers: Mapping[str, Callable]) -> Callable:
    """The reader for a file's suffix; an unknown suffix or an empty file is a ValueError."""
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ValueError(
            f"{path}: cannot read files ending in {suffix!r}; choose one of {', '.join(readers)}"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: empty file, 0 bytes; expected {suffix}")
    return readers[suffix]


def matrix_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape itself where it is that of embeddings; another is a ValueError."""
    if len(shape) != 2:
        raise ValueError(f"{path}: found an array of shape {shape}; expected [rows, dims]")
    if 0 in shape:
        raise ValueError(f"{path}: empty, shape {shape}; expected rows of numbers")
    return shape[0], shape[1]


def real_dtype(path: Path, dtype: np.dtype | str) -> np.dtype:
    """The dtype itself where it is one of real numbers; another is a ValueError."""
    if isinstance(dtype, str) or not (dtype.kind in "iuf" or dtype == BFLOAT16):
        raise ValueError(f"{path}: values are {dtype}; expected real numbers")
    return dtype


def choose_arrays(
    path: Path, arrays: Mapping[str, StoredArray], key: str | None, id_column: str | None
) -> tuple[str, str | None, str | None]:
    """Which of a file's arrays are the embeddings, their ids and their scale.

    Args:
      path: file, for the error.
      arrays: what the file holds, by name.
      key: name of the embeddings; without it, the only array of rank 2, or the only array.
      id_column: name of the ids, where there is such an array; else they are called ``id`` or
        ``ids``, in any case.

    Returns:
      Names of the embeddings, ids and scale; None for ids or a scale that are not there.

    Raises:
      ValueError: no array of that name, or several that can be meant; lists what was found.
    """
    shown = ", ".join(f"{n!r} {list(a.shape)} {a.dtype}" for n, a in arrays.items()) or "no array"
    if key is not None and key not in arrays:
        raise ValueError(f"{path}: no array {key!r}; found {shown}")
    last = {name: name.rpartition("/")[2].lower() for name in arrays}
    others = [name for name in arrays if name != key]
    ids = id_column if id_column in others else None
    ids = ids or next((name for name in others if last[name] in ("id", "ids")), None)
    scale = next((name for name in others if last[name] == "scale"), None)
    if key is None:
        free = [name for name in arrays if name not in (ids, scale)]
        matrices = [name for name in free if len(arrays[name].shape) == 2] or free
        if len(matrices) != 1:
            raise ValueError(
                f"{path}: which array holds the embeddings? found {shown}; name it with key"
            )
        (key,) = matrices
    return key, ids, scale


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

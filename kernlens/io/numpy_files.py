"""Embeddings from NumPy's own files."""

import ast
import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens.io import roles
from kernlens.io.columns import array_ids
from kernlens.io.limits import Asked, Limits
from kernlens.io.stored import (
    BFLOAT16,
    Stored,
    StoredArray,
    choose_arrays,
    mapped_blocks,
    matrix_shape,
    read_blocks,
    real_dtype,
)

_MAGIC = np.lib.format.MAGIC_PREFIX
_LONGEST_HEADER = 10_000
_KEYS = {"descr", "fortran_order", "shape"}


class _Header(NamedTuple):
    """What an array's header declares, and how long it is."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def open_npy(path: Path, asked: Asked) -> Stored:
    """A ``.npy`` file, mapped; it has no ids."""
    with path.open("rb") as file:
        header = _read_header(str(path), file)
    if header.dtype.hasobject:
        raise _pickled(path)
    shape = matrix_shape(path, header.shape)
    dtype = real_dtype(path, header.dtype)
    found = path.stat().st_size - header.length
    if found != header.nbytes:
        raise ValueError(
            f"{path}: truncated or damaged .npy file: found {found} bytes after the header, "
            f"expected {header.nbytes} for shape {shape} of {dtype}"
        )
    by_column = header.fortran and min(shape) > 1
    make = mapped_blocks if by_column else read_blocks
    whole = partial(_mapped, path, header)
    blocks = make(path, dtype, shape, header.length)
    return Stored(shape, dtype, blocks, whole=whole, told=roles.told(None, shape[1], ""))


def _mapped(path: Path, header: _Header) -> np.memmap:
    order = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, "r", header.length, header.shape, order)


def open_npz(path: Path, asked: Asked) -> Stored:
    """An array of a ``.npz`` file, packed or not, unpacked block by block."""
    with _unpacking(path), zipfile.ZipFile(path) as archive:
        arrays, by_column = {}, set()
        for info in archive.infolist():
            plain = info.filename.removesuffix(".npy")
            where = f"{path}, array {plain!r}"
            with archive.open(info) as member:
                header = _read_header(where, member)
            arrays[plain] = StoredArray(header.shape, header.dtype)
            size = info.file_size - header.length
            if size != header.nbytes and not header.dtype.hasobject:
                raise ValueError(
                    f"{where}: found {size} bytes, expected {header.nbytes} for shape "
                    f"{header.shape} of {header.dtype}"
                )
            if header.fortran and len(header.shape) == 2 and min(header.shape) > 1:
                by_column.add(plain)
        key, ids, scale, told = choose_arrays(path, arrays, asked)
        dtype = arrays[key].dtype
        assert isinstance(dtype, np.dtype)
        if dtype.hasobject:
            raise _pickled(f"{path}, array {key!r}")
        dtype = real_dtype(path, dtype)
        shape = matrix_shape(path, arrays[key].shape, dtype, asked)
        if key in by_column:
            raise ValueError(
                f"{path}, array {key!r}: {shape[0] * shape[1] * dtype.itemsize:,} bytes in Fortran "
                "order, which cannot be read row by row; save numpy.ascontiguousarray of it"
            )
        values = {
            name: _load_member(path, archive, name, arrays[name], asked.limits)
            for name in (ids, scale)
            if name
        }
    return Stored(
        shape,
        dtype,
        partial(_npz_blocks, path, key, shape, dtype),
        None if ids is None else array_ids(path, ids, values[ids], shape[0], asked.limits),
        None if scale is None else values[scale],
        told=told,
    )


def _read_header(where: str, file: Any) -> _Header:
    """The header of an array, of any version of the format; nothing of it is evaluated."""
    start = file.read(len(_MAGIC) + 2)
    if start[: len(_MAGIC)] != _MAGIC:
        raise ValueError(
            f"{where}: not a .npy file: starts with {start!r}; save it with numpy.save"
        )
    try:
        version = tuple(start[len(_MAGIC) :])
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} of the format; expected 1.0, 2.0 or 3.0")
        width = 2 if version == (1, 0) else 4
        size = int.from_bytes(_exactly(file, width), "little")
        if size > _LONGEST_HEADER:
            raise ValueError(f"a header of {size:,} bytes; expected at most {_LONGEST_HEADER:,}")
        text = _exactly(file, size).decode("utf-8" if version == (3, 0) else "latin-1")
        found = ast.literal_eval(text.strip())
        if not isinstance(found, dict) or set(found) != _KEYS:
            raise ValueError(f"header {text[:80]!r}; expected {sorted(_KEYS)}")
        shape, dtype = found["shape"], np.dtype(found["descr"])
        sizes = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if not sizes or type(found["fortran_order"]) is not bool:
            raise ValueError(f"shape {str(shape)[:60]}; expected whole numbers")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, EOFError) as error:
        raise ValueError(f"{where}: truncated or damaged .npy file: {error}") from error
    length = len(start) + width + size
    return _Header(shape, found["fortran_order"], _named(dtype), length)


def _exactly(file: Any, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise EOFError("ends in its header")
    return found


def _named(dtype: np.dtype) -> np.dtype:
    """NumPy saves bfloat16 as two bytes without a type."""
    return BFLOAT16 if dtype == np.dtype("V2") else dtype


def _pickled(where: Path | str) -> ValueError:
    return ValueError(
        f"{where}: holds pickled Python objects, which are never loaded; expected numbers, "
        "[rows, dims], or text: save numpy.asarray(values.tolist()) or, for ids, ids.astype(str)"
    )


@contextlib.contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Turns what a damaged archive raises into a ValueError that names the file."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError,
        NotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: truncated or damaged .npz file: {error}") from error


def _load_member(
    path: Path, archive: zipfile.ZipFile, name: str, array: StoredArray, limits: Limits
) -> np.ndarray:
    where = f"{path}, array {name!r}"
    dtype = array.dtype
    assert isinstance(dtype, np.dtype)
    if dtype.hasobject:
        raise _pickled(where)
    if dtype.kind in "US":
        limits.check_text(where, dtype.itemsize // (4 if dtype.kind == "U" else 1))
    limits.check_shape(path, array.shape, dtype)
    with archive.open(f"{name}.npy") as member:
        header = _read_header(where, member)
        data = member.read(header.nbytes + 1)
    if len(data) != header.nbytes:
        raise EOFError(f"array {name!r} has {len(data)} bytes, expected {header.nbytes}")
    order = "F" if header.fortran else "C"
    return np.frombuffer(data, dtype).reshape(header.shape, order=order)


def _npz_blocks(
    path: Path,
    key: str,
    shape: tuple[int, int],
    dtype: np.dtype,
    start: int,
    stop: int,
    rows: int,
) -> Iterator[np.ndarray]:
    width = shape[1] * dtype.itemsize
    with _unpacking(path), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        _read_header(f"{path}, array {key!r}", member)
        member.seek(start * width, 1)
        for first in range(start, stop, rows):
            count = min(rows, stop - first)
            data = member.read(count * width)
            if len(data) < count * width:
                raise EOFError(f"ends in row {first + len(data) // width}")
            yield np.frombuffer(data, dtype).reshape(count, shape[1])
        if stop == shape[0]:
            member.read(1)  # the checksum is looked at when the end is met

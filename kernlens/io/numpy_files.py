"""Embeddings from NumPy's own files."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernlens.io.columns import array_ids
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


def open_npy(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A ``.npy`` file, mapped; it has no ids."""
    del id_column, key
    values = _load_npy(path)
    shape = matrix_shape(path, values.shape)
    dtype = real_dtype(path, values.dtype)
    if path.stat().st_size != values.offset + values.nbytes:
        found = path.stat().st_size - values.offset
        raise ValueError(
            f"{path}: found {found} bytes after the header, expected {values.nbytes} for shape "
            f"{shape} of {dtype}"
        )
    if values.flags.c_contiguous:
        blocks = read_blocks(path, dtype, shape, values.offset)
    else:
        blocks = mapped_blocks(path, dtype, shape, values.offset)
    return Stored(shape, dtype, blocks, whole=partial(_load_npy, path))


def open_npz(path: Path, id_column: str | None, key: str | None) -> Stored:
    """An array of a ``.npz`` file, packed or not, unpacked block by block."""
    with _unpacking(path), zipfile.ZipFile(path) as archive:
        arrays, rows_last = {}, set()
        for name in archive.namelist():
            with archive.open(name) as member:
                shape, fortran, dtype = _header(path, name, member)
                size = archive.getinfo(name).file_size - member.tell()
            plain = name.removesuffix(".npy")
            arrays[plain] = StoredArray(shape, dtype)
            expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if size != expected and not dtype.hasobject:
                raise ValueError(
                    f"{path}, array {plain!r}: found {size} bytes, expected {expected} for shape "
                    f"{shape} of {dtype}"
                )
            if fortran and len(shape) == 2 and min(shape) > 1:
                rows_last.add(plain)
        key, ids, scale = choose_arrays(path, arrays, key, id_column)
        shape = matrix_shape(path, arrays[key].shape)
        dtype = arrays[key].dtype
        assert isinstance(dtype, np.dtype)
        if dtype.hasobject:
            raise _pickled(f"{path}, array {key!r}")
        dtype = real_dtype(path, dtype)
        if key in rows_last:
            raise ValueError(
                f"{path}, array {key!r}: {shape[0] * shape[1] * dtype.itemsize:,} bytes in Fortran "
                "order, which cannot be read row by row; save numpy.ascontiguousarray of it"
            )
        values = {name: _load_member(path, archive, name) for name in (ids, scale) if name}
    return Stored(
        shape,
        dtype,
        partial(_npz_blocks, path, key, shape, dtype),
        None if ids is None else array_ids(path, ids, values[ids], shape[0]),
        None if scale is None else values[scale],
    )


def _load_npy(path: Path) -> np.memmap:
    with path.open("rb") as file:
        start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise ValueError(f"{path}: not a .npy file: starts with {start!r}; save it with numpy.save")
    try:
        with np.errstate(over="raise"):
            values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, ArithmeticError) as error:
        if "Python objects" in str(error):
            raise _pickled(path) from error
        raise ValueError(f"{path}: truncated or damaged .npy file: {error}") from error
    return values.view(_named(values.dtype))


def _named(dtype: np.dtype) -> np.dtype:
    """NumPy saves bfloat16 as two bytes without a type."""
    return BFLOAT16 if dtype == np.dtype("V2") else dtype


def _pickled(where: Path | str) -> ValueError:
    return ValueError(
        f"{where}: holds pickled Python objects, which are never loaded; expected numbers, "
        "[rows, dims]"
    )


@contextlib.contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Turns what a damaged archive raises into a ValueError that names the file."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: truncated or damaged .npz file: {error}") from error


def _header(path: Path, name: str, member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    formats = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(member)
        if version not in formats:
            raise ValueError(f"version {version}; expected one of {list(formats)}")
        shape, fortran, dtype = formats[version](member)
    except ValueError as error:
        raise ValueError(f"{path}, array {name!r}: not an array: {error}") from error
    return shape, fortran, _named(dtype)


def _load_member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}, array {name!r}: {error}") from error


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
        _header(path, key, member)
        member.seek(start * width, 1)
        for first in range(start, stop, rows):
            count = min(rows, stop - first)
            data = member.read(count * width)
            if len(data) < count * width:
                raise EOFError(f"ends in row {first + len(data) // width}")
            yield np.frombuffer(data, dtype).reshape(count, shape[1])
        if stop == shape[0]:
            member.read(1)  # the checksum is looked at when the end is met

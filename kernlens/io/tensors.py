"""Embeddings among the named arrays of safetensors and HDF5 files."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io.columns import array_ids
from kernlens.io.stored import (
    BFLOAT16,
    Stored,
    StoredArray,
    choose_arrays,
    matrix_shape,
    real_dtype,
)

_TENSOR_DTYPES = {
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "BF16": BFLOAT16,
}


def open_safetensors(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A tensor of a ``.safetensors`` file; the format has no text, so ids are whole numbers."""
    with open_tensors(path) as file:
        arrays = {}
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            kind: str = part.get_dtype()
            arrays[name] = StoredArray(tuple(part.get_shape()), _TENSOR_DTYPES.get(kind) or kind)
        key, ids, scale = choose_arrays(path, arrays, key, id_column)
        shape = matrix_shape(path, arrays[key].shape)
        dtype = real_dtype(path, arrays[key].dtype)
        found = None if ids is None else array_ids(path, ids, file.get_tensor(ids), shape[0])
        scales = None if scale is None else file.get_tensor(scale)
    return Stored(shape, dtype, partial(_safetensors_blocks, path, key), found, scales)


def open_hdf5(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A data set of an HDF5 file, in any group."""
    h5py = files.optional("h5py", extra="hdf5")
    with _hdf5(path) as file:
        arrays = {}

        def note(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                arrays[name] = StoredArray(found.shape or (), found.dtype)

        file.visititems(note)
        key, ids, scale = choose_arrays(path, arrays, key, id_column)
        shape = matrix_shape(path, arrays[key].shape)
        dtype = real_dtype(path, arrays[key].dtype)
        found = None
        if ids is not None:
            text = h5py.check_string_dtype(file[ids].dtype) is not None
            found = array_ids(path, ids, (file[ids].asstr() if text else file[ids])[()], shape[0])
        scales = None if scale is None else np.asarray(file[scale][()])
    return Stored(shape, dtype, partial(_hdf5_blocks, path, key), found, scales)


def open_tensors(path: Path) -> Any:
    """A safetensors file as a context manager; a damaged one is a ValueError."""
    package = files.optional("safetensors", extra="text")
    try:
        return package.safe_open(path, framework="np")
    except (package.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged .safetensors file: {error}") from error


def _safetensors_blocks(
    path: Path, key: str, start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    with open_tensors(path) as file:
        part = file.get_slice(key)
        for first in range(start, stop, rows):
            yield part[first : min(first + rows, stop)]


def _hdf5(path: Path) -> Any:
    h5py = files.optional("h5py", extra="hdf5")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise _damaged_hdf5(path, error) from error


def _hdf5_blocks(path: Path, key: str, start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
    with _hdf5(path) as file:
        for first in range(start, stop, rows):
            try:
                block = file[key][first : min(first + rows, stop)]
            except OSError as error:
                raise _damaged_hdf5(path, error) from error
            yield block


def _damaged_hdf5(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: truncated or damaged HDF5 file: {error}")

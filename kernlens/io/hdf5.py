"""Embeddings among the data sets of an HDF5 file.

A file can say that its values lie in another file: as external storage, through an external link,
or as a virtual data set. None of these is followed, for they read what the user did not name.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io.columns import array_ids, reading
from kernlens.io.limits import Asked
from kernlens.io.stored import Stored, StoredArray, choose_arrays, matrix_shape, real_dtype

_DEEPEST, _MOST = 32, 10_000


def open_hdf5(path: Path, asked: Asked) -> Stored:
    """A data set of an HDF5 file, in any group."""
    h5py = files.optional("h5py", extra="hdf5")
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        arrays = {
            name: StoredArray(found.shape or (), found.dtype)
            for name, found in _datasets(path, file)
        }
        key, ids, scale, told = choose_arrays(path, arrays, asked)
        dtype = real_dtype(path, arrays[key].dtype)
        shape = matrix_shape(path, arrays[key].shape, dtype, asked)
        for name in (key, ids, scale):
            if name is not None:
                _check_written(path, name, file[name], asked)
        found = None
        if ids is not None:
            text = h5py.check_string_dtype(file[ids].dtype)
            if text is not None and text.length:
                asked.limits.check_text(f"{path}, ids {ids!r}", text.length)
            values = (file[ids].asstr() if text is not None else file[ids])[()]
            found = array_ids(path, ids, np.asarray(values), shape[0], asked.limits)
        scales = None if scale is None else np.asarray(file[scale][()])
    blocks = partial(_hdf5_blocks, path, key)
    return Stored(shape, dtype, blocks, found, scales, told=told)


def _datasets(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    """Data sets by their path in the file; what points out of the file is refused."""
    h5py = files.optional("h5py", extra="hdf5")
    seen, groups, count = set(), [("", file, 0)], 0
    while groups:
        prefix, group, depth = groups.pop()
        for name in group:
            count += 1
            if count > _MOST or depth > _DEEPEST:
                raise ValueError(f"{path}: more than {_MOST:,} objects, or groups nested too deep")
            link, full = group.get(name, getlink=True), f"{prefix}{name}"
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(
                    f"{path}: {full!r} is a link into the file {link.filename!r}, which is not "
                    "followed; copy the values into this file"
                )
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            if isinstance(found, h5py.Group):
                place = h5py.h5o.get_info(found.id).addr
                if place not in seen:
                    seen.add(place)
                    groups.append((f"{full}/", found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                _check_inside(path, full, found)
                yield full, found


def _check_inside(path: Path, name: str, found: Any) -> None:
    if found.external:
        raise ValueError(
            f"{path}: data set {name!r} lies in another file, {found.external[0][0]!r}, which is "
            "not read; copy the values into this file"
        )
    if found.is_virtual:
        raise ValueError(
            f"{path}: data set {name!r} is virtual: its values lie in other files, and read as "
            "zeros where those are missing; copy the values into this file"
        )


def _check_written(path: Path, name: str, found: Any, asked: Asked) -> None:
    """Refuses what was declared and never written, and reads as zeros."""
    if found.dtype.kind != "O":
        asked.limits.check_shape(path, found.shape, found.dtype)
    if not found.size:
        return
    written = found.id.get_storage_size()
    chunks = None if found.chunks is None else found.id.get_num_chunks()
    if found.chunks is not None:
        asked.limits.check_shape(path, found.chunks, found.dtype)
        sides = zip(found.shape, found.chunks, strict=True)
        expected = int(np.prod([-(-side // chunk) for side, chunk in sides], dtype=object))
        whole = chunks == expected
    else:
        whole = written > 0
    if not whole:
        raise ValueError(
            f"{path}: data set {name!r} was declared with shape {found.shape} and not written in "
            "full: the rest would read as zeros"
        )


def _hdf5_blocks(path: Path, key: str, start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
    h5py = files.optional("h5py", extra="hdf5")
    with reading(path, "HDF5"):
        file = h5py.File(path, "r")
    with file:
        for first in range(start, stop, rows):
            with reading(path, "HDF5"):
                block = file[key][first : min(first + rows, stop)]
            yield block

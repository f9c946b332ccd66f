"""Embeddings among the named tensors of a safetensors file."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io.columns import array_ids
from kernlens.io.limits import Asked
from kernlens.io.stored import (
    BFLOAT16,
    FLOAT8,
    Stored,
    StoredArray,
    choose_arrays,
    matrix_shape,
    read_blocks,
    real_dtype,
)

_DTYPES = {
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BF16": BFLOAT16,
    "F8_E4M3": FLOAT8[0],
    "F8_E5M2": FLOAT8[1],
    "BOOL": np.dtype(np.bool_),
}
_LONGEST_HEADER = 2**24


def open_safetensors(path: Path, asked: Asked) -> Stored:
    """A tensor of a ``.safetensors`` file; the format has no text, so ids are whole numbers."""
    start, described = _header(path)
    arrays, offsets = {}, {}
    for name, tensor in described.items():
        arrays[name], offsets[name] = _tensor(path, name, tensor, path.stat().st_size - start)
    key, ids, scale, told = choose_arrays(path, arrays, asked)
    dtype = real_dtype(path, arrays[key].dtype)
    shape = matrix_shape(path, arrays[key].shape)

    def load(name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        found = arrays[name]
        kind = real_dtype(path, found.dtype)
        return np.fromfile(
            path, kind, int(np.prod(found.shape)), offset=start + offsets[name]
        ).reshape(found.shape)

    found, scales = load(ids), load(scale)
    return Stored(
        shape,
        dtype,
        read_blocks(path, dtype, shape, start + offsets[key]),
        None if ids is None or found is None else array_ids(path, ids, found, shape[0]),
        scales,
        told=told,
    )


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and what the header says of each."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
        try:
            found = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise _damaged(path, f"its header is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _damaged(path, "its header is no JSON object")
    found.pop("__metadata__", None)
    return 8 + length, found


def _tensor(path: Path, name: str, found: Any, size: int) -> tuple[StoredArray, int]:
    """What the header says of a tensor, checked against the ``size`` bytes that there are."""
    try:
        kind, shape, (low, high) = found["dtype"], tuple(found["shape"]), found["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, low, high))
    except (KeyError, TypeError, ValueError):
        whole, kind, shape, low, high = False, "", (), 0, 0
    if not whole or not isinstance(kind, str) or not low <= high <= size:
        raise _damaged(path, f"tensor {name!r} is described as {str(found)[:120]}")
    dtype = _DTYPES.get(kind)
    if dtype is None:
        return StoredArray(shape, kind), low
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if high - low != expected:
        raise _damaged(
            path, f"tensor {name!r} has {high - low:,} bytes, expected {expected:,} of {shape}"
        )
    return StoredArray(shape, dtype), low


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path}: truncated or damaged .safetensors file: {why}")


def open_tensors(path: Path) -> Any:
    """A safetensors file as a context manager; a damaged one is a ValueError."""
    package = files.optional("safetensors", extra="text")
    try:
        return package.safe_open(path, framework="np")
    except (package.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged .safetensors file: {error}") from error

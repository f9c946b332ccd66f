"""Memory of the host: arrays that a device takes as they lie, mapped files, and what is free."""

import contextlib
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 64
"""Bytes at whose multiples a CPU device takes an array as it lies, without a copy."""


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of unspecified values that a CPU device need not copy.

    Args:
      shape: of the array.
      dtype: of the array.

    Returns:
      Array, in C order, that starts at a multiple of ``ALIGNMENT``.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def is_aligned(array: np.ndarray) -> bool:
    """Whether an array is in C order and starts where :func:`aligned_empty` would start it."""
    return array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def let_go(values: Any) -> None:
    """Frees the memory of a mapped file's values, which are read again where they are asked for.

    Args:
      values: an array; one that maps no file, or whose values may have been changed, is left.
    """
    base, fixed = values, True
    while isinstance(base, np.ndarray):
        fixed = not base.flags.writeable
        base = base.base
    if fixed and isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def free_bytes() -> int:
    """Bytes free on the host, or half of what it has where it does not tell what is free."""
    found = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(s.split()[1]) * 1024 for s in lines if s.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=sys.maxsize)

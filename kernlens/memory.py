"""Memory of arrays on the host."""

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

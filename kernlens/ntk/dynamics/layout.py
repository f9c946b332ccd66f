"""Outputs and kernels as matrices, and the refusal of those that do not fit together.

A kernel of outputs ``[n, O]`` is ``[n1, n2, O, O]``, its output axes in pairs after the rows'; an
axis in ``trace_axes`` is absent from it, the kernel then being the same for each entry along it.
As a matrix it is ``[R1, R2]``, row by row and then output by output, and the outputs are
``[R, C]``: ``C`` entries along the traced axes, which share the kernel.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kernlens.types import Array


class Layout(NamedTuple):
    """How outputs become a matrix.

    Attributes:
      shape: shape of the training outputs, rows first.
      traced: axes without a pair in the kernel, as negative numbers, rising.
      dtype: dtype of the kernel, which all else takes on.
    """

    shape: tuple[int, ...]
    traced: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Number of training outputs."""
        return prod(self.shape)

    @property
    def kept(self) -> tuple[int, ...]:
        """Sizes of the axes that the kernel has pairs of, after the rows."""
        ndim = len(self.shape)
        return tuple(self.shape[a] for a in range(-ndim + 1, 0) if a not in self.traced)

    @property
    def rows(self) -> int:
        """Rows of the training kernel as a matrix."""
        return self.shape[0] * prod(self.kept)

    def flatten(self, outputs: Array) -> Array:
        """Outputs, ``[n, ...]``, as a matrix, ``[R, C]``."""
        last = range(-len(self.traced), 0)
        moved = jnp.moveaxis(outputs, self.traced, tuple(last))
        return moved.reshape(outputs.shape[0] * prod(self.kept), -1)

    def unflatten(self, matrix: Array) -> Array:
        """A matrix, ``[..., R, C]``, as outputs, ``[..., n, ...]``."""
        n = matrix.shape[-2] // prod(self.kept)
        traced = tuple(self.shape[a] for a in self.traced)
        split = matrix.reshape(*matrix.shape[:-2], n, *self.kept, *traced)
        return jnp.moveaxis(split, tuple(range(-len(traced), 0)), self.traced)

    def interleave(self, matrix: Array) -> Array:
        """A square matrix, ``[..., R, R]``, as a kernel, ``[..., n, n, ...]``."""
        n = matrix.shape[-1] // prod(self.kept)
        lead, half = matrix.shape[:-2], 1 + len(self.kept)
        split = matrix.reshape(*lead, *(n, *self.kept) * 2)
        pairs = [len(lead) + axis for i in range(half) for axis in (i, half + i)]
        return split.transpose(*range(len(lead)), *pairs)

    def outputs(self, name: str, values: Any, n: int) -> Array:
        """Outputs of ``n`` rows out of an array or number that broadcasts to them."""
        values, shape = jnp.asarray(values), (n, *self.shape[1:])
        refuse_non_finite(name, values)
        try:
            return jnp.broadcast_to(values.astype(self.dtype), shape)
        except ValueError:
            raise ValueError(
                f"{name} must be a number or of shape {shape}; got {values.shape}"
            ) from None

    def cross(self, name: str, kernel: Array | None) -> Array:
        """A kernel between any rows and the training rows as a matrix, ``[R1, R]``."""
        if kernel is None:
            raise ValueError(
                f"outputs on test rows need {name}, their kernel with the training rows"
            )
        return self._matrix(name, jnp.asarray(kernel), None, self.shape[0])

    def square(self, name: str, kernel: Array, n: int) -> Array:
        """A kernel among ``n`` rows as a matrix, ``[R1, R1]``."""
        return self._matrix(name, kernel, n, n)

    def _matrix(self, name: str, kernel: Array, n1: int | None, n2: int) -> Array:
        n1 = n1 if n1 is not None or not kernel.ndim else kernel.shape[0]
        expected = (n1, n2, *(size for o in self.kept for size in (o, o)))
        if kernel.shape != expected:
            raise ValueError(
                f"{name} must be of shape {expected} for training outputs of shape {self.shape} "
                f"with trace_axes={self.traced}; got {kernel.shape}"
            )
        refuse_non_finite(name, kernel)
        return as_matrix(kernel.astype(self.dtype))


def layout_of(kernel: Array, y_train: Array, trace_axes: Sequence[int]) -> Layout:
    """The layout of targets ``y_train`` under a kernel of this dtype.

    Raises:
      ValueError: targets without rows, an axis that they lack, or the row axis among the traced.
    """
    ndim = y_train.ndim
    if not y_train.size:
        raise ValueError(f"y_train must have rows and outputs; got shape {y_train.shape}")
    traced = tuple(sorted({a - ndim if a >= 0 else a for a in trace_axes}))
    if any(not -ndim < a < 0 for a in traced):
        raise ValueError(
            f"trace_axes must be output axes of y_train, which has shape {y_train.shape} with its "
            f"rows first; got {tuple(trace_axes)}. Targets of shape [n] need trace_axes=()"
        )
    return Layout(y_train.shape, traced, float_dtype(kernel))


def float_dtype(kernel: Array) -> Any:
    """The dtype to work in: the kernel's, or float32 where it has no decomposition."""
    wide = kernel.dtype in (jnp.float32, jnp.float64)
    return kernel.dtype if wide else jnp.dtype(jnp.float32)


def as_matrix(kernel: Array) -> Array:
    """A kernel with interleaved axes, ``[n1, n2, O, O, ...]``, as ``[R1, R2]``."""
    first, second = range(0, kernel.ndim, 2), range(1, kernel.ndim, 2)
    rows = prod(kernel.shape[::2])
    return kernel.transpose(*first, *second).reshape(rows, -1)


def is_traced(*arrays: Any) -> bool:
    """Whether a value is not known yet, under ``jit``, ``vmap`` or ``grad``."""
    return any(isinstance(array, Tracer) for array in arrays)


def refuse_non_finite(name: str, values: Array) -> None:
    """Raises ValueError where a known value is NaN or infinite."""
    if is_traced(values):
        return
    with jax.ensure_compile_time_eval():
        bad = int(_count_non_finite(values))
    if bad:
        raise ValueError(f"{name}: {bad} of {values.size} values are not finite")


def refuse_negative(name: str, value: Any, *, strictly: bool = False) -> None:
    """Raises ValueError where a known number is below 0, or not above it, or NaN."""
    if is_traced(value):
        return
    low = np.min(np.asarray(value), initial=1)
    wrong = not (low > 0 if strictly else low >= 0)
    if wrong:
        raise ValueError(f"{name} must be {'above' if strictly else 'at least'} 0; got {value}")


@jax.jit
def _count_non_finite(values: Array) -> Array:
    return jnp.sum(~jnp.isfinite(values))

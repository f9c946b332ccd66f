"""Products that are symmetric: no more than half of the blocks are multiplied."""

from itertools import pairwise
from typing import TypeAlias

import jax.numpy as jnp

from kernlens.moments.state import dot
from kernlens.types import Array

Strips: TypeAlias = tuple[Array, ...]
"""Rows of a symmetric matrix from the diagonal on: ``[w_0, p]``, ``[w_1, p - w_0]``, ..."""

STRIP, STRIPS = 192, 4
"""Least width of a strip, below which products are slow, and the most strips."""


def strips_of(a: Array, b: Array) -> Strips:
    """``a.T @ b`` for ``[n, p]`` each, where that is symmetric."""
    return tuple(dot(a[:, i:j].T, b[:, i:]) for i, j in _edges(a.shape[1]))


def no_strips(dim: int, dtype: jnp.dtype) -> Strips:
    """Those of the zero matrix."""
    return tuple(jnp.zeros((j - i, dim - i), dtype) for i, j in _edges(dim))


def whole(strips: Strips) -> Array:
    """The matrix ``[p, p]``, exactly symmetric."""
    dim = strips[0].shape[1]
    upper = jnp.concatenate([jnp.pad(s, ((0, 0), (dim - s.shape[1], 0))) for s in strips])
    return jnp.where(jnp.tri(dim, dtype=bool), upper.T, upper)


def _edges(dim: int) -> list[tuple[int, int]]:
    count = max(min(dim // STRIP, STRIPS), 1)
    return list(pairwise(dim * i // count for i in range(count + 1)))

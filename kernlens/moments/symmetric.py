"""Products that are symmetric: no more than half of the blocks are multiplied."""

from itertools import accumulate, pairwise
from typing import TypeAlias

import jax
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


def added(a: Strips, b: Strips) -> Strips:
    """Those of the sum."""
    return jax.tree.map(jnp.add, a, b)


def whole(strips: Strips) -> Array:
    """The matrix ``[p, p]``, exactly symmetric."""
    edges = [0, *accumulate(strip.shape[0] for strip in strips)]
    rows = []
    for k, (i, j) in enumerate(pairwise(edges)):
        square = strips[k][:, : j - i]
        mirrored = jnp.where(jnp.tri(j - i, dtype=bool), square.T, square)
        # Block by block: a mirror of the whole matrix costs as much as its product by a few rows.
        left = [above[:, i - e : j - e].T for above, e in zip(strips[:k], edges, strict=False)]
        rows.append(jnp.concatenate([*left, mirrored, strips[k][:, j - i :]], axis=1))
    return jnp.concatenate(rows)


def _edges(dim: int) -> list[tuple[int, int]]:
    count = max(min(dim // STRIP, STRIPS), 1)
    return list(pairwise(dim * i // count for i in range(count + 1)))

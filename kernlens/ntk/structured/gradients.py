"""Gradients of a leaf, and of the bias that goes with it, from the factors of examples."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import walk
from kernlens.ntk.precision import HIGHEST
from kernlens.ntk.structured.plans import Part, Share
from kernlens.types import Array


def gradients(share: Share, parts: Sequence[tuple[Any, Array]], which: int) -> Array:
    """Gradients from the factors of all parts of a leaf.

    Args:
      share: the leaf.
      parts: for each part, ``(left, right)``, left ``[n, positions, left]`` or a lookup and right
        ``[n, positions, diagonal, full, traced, right]``.
      which: 0 or 1, the side.

    Returns:
      ``[n, diagonal, full, traced * size]``.
    """
    total: Any = None
    for part, (left, right) in zip(share.parts[which], parts, strict=True):
        block = outer(left_factor(share, part, left, right.dtype), right)
        block = block.swapaxes(-1, -2) if part.flipped else block
        total = block if total is None else total + block
    return total.reshape(*total.shape[:3], -1)


def left_factor(share: Share, part: Part, left: Any, dtype: Any) -> Array:
    """A left factor as an array, ones for the bias at its end."""
    if isinstance(left, walk.WeightedIds):
        return _one_hot(left, part.left, dtype)
    if share.bias is None:
        return left
    return jnp.concatenate([left, jnp.ones_like(left[..., :1])], axis=-1)


def outer(left: Array, right: Array) -> Array:
    """Gradients ``[n, d, f, t, b, a]``: batch, then right, then left, as a product gives them."""
    return jnp.einsum("npdftb,npa->ndftba", right, left, precision=HIGHEST)


def _one_hot(left: walk.WeightedIds, num_rows: int, dtype: Any) -> Array:
    hot = jax.nn.one_hot(left.ids, num_rows, dtype=dtype)
    return jnp.einsum("npsv,nps->npv", hot, left.weights.astype(dtype), precision=HIGHEST)

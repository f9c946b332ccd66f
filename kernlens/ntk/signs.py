"""Random signs, drawn from a key and an index where they are needed; never held whole."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import walk
from kernlens.ntk.precision import HIGHEST
from kernlens.types import Array

DRAW = 64
"""Signs that one index draws: features that are made together from factors."""


def rows(key: Array, index: Array, dtype: Any) -> Array:
    """``DRAW`` signs for each index, the same wherever it stands, ``[*index.shape, DRAW]``."""
    # A threefry key folded with a number is 64 random bits.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index.reshape(-1))
    return _unpack(jax.random.key_data(keys), dtype).reshape(*index.shape, DRAW)


def array(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of signs, the same in every dtype."""
    size = prod(shape)
    words = jax.random.bits(key, (-(-size // 32),), jnp.uint32)
    return _unpack(words, dtype).reshape(-1)[:size].reshape(shape)


def read(key: Array, left: Any, offsets: Array, dtype: Any) -> Array:
    """Left factors ``[n, q, left]`` or lookups times signs, ``[n, q, *offsets, DRAW]``.

    The sign of coordinate ``c`` is that of index ``offset + c``.
    """
    if isinstance(left, walk.WeightedIds):
        signs = rows(key, left.ids[..., None].astype(jnp.uint32) + offsets, dtype)
        weights = jnp.where(left.ids >= 0, left.weights, 0).astype(dtype)
        return jnp.einsum("nqs,nqstk->nqtk", weights, signs, precision=HIGHEST)
    signs = rows(key, offsets + numbers(left.shape[-1])[:, None], dtype)
    return jnp.einsum("nqa,atk->nqtk", left.astype(dtype), signs, precision=HIGHEST)


def dot(x: Array, signs: Array) -> Array:
    """Matrix product with signs, at full precision."""
    return jnp.matmul(x, signs.astype(x.dtype), precision=HIGHEST)


def keys(key: Array, count: int) -> Array:
    """The keys of the indices up to ``count``, ``[count]``."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers(count))


def numbers(size: int) -> Array:
    """The indices up to ``size``, ``[size]`` uint32."""
    return jnp.arange(size, dtype=jnp.uint32)


def _unpack(words: Array, dtype: Any) -> Array:
    bits = (words[..., None] >> numbers(32)) & jnp.uint32(1)
    return 1 - 2 * bits.astype(dtype)

"""Random numbers of rows: functions of a seed and the number of the row alone."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array

MAX_ROW = 2**32 - 1
"""Largest row number."""


POISSON = np.array(
    [int(2**32 * sum(math.exp(-1.0) / math.factorial(j) for j in range(k + 1))) for k in range(12)],
    np.uint32,
)
"""Distribution function of a Poisson variable of mean 1, times 2^32; above 12 it is below 2^-32."""


BLOCK, DRAW, ROW = 0, 1, 2
"""What a random number is for, folded into its key."""


@partial(jax.jit, static_argnames="blocks")
def block_of(seed: int | Array, rows: Array | np.ndarray, blocks: int) -> Array:
    """The block of each row, uniform and independent of the others.

    Args:
      seed: random seed of the assignment.
      rows: row numbers in ``0..2^32 - 1``, ``[m]``.
      blocks: ``G``.

    Returns:
      Integers in ``0..G-1``, int32 ``[m]``.
    """
    bits = _bits(_key(seed, BLOCK), rows)
    return (bits % jnp.uint32(blocks)).astype(jnp.int32)


@partial(jax.jit, static_argnames="draws")
def bootstrap_weights(seed: int | Array, rows: Array | np.ndarray, draws: int) -> Array:
    """How often each row counts in each draw, Poisson of mean 1.

    Args:
      seed: random seed of the draws.
      rows: row numbers in ``0..2^32 - 1``, ``[m]``.
      draws: ``B``.

    Returns:
      Multiplicities in ``0..12``, int32 ``[B, m]``, each a function of seed, row and draw alone.
    """
    return jax.vmap(partial(multiplicity, seed, rows))(jnp.arange(draws))


def multiplicity(seed: int | Array, rows: Array | np.ndarray, draw: Array) -> Array:
    """How often each row counts in one draw, int32 ``[m]``."""
    bits = _bits(jax.random.fold_in(_key(seed, DRAW), draw), rows)
    return jnp.searchsorted(jnp.asarray(POISSON), bits, side="right").astype(jnp.int32)


def digest_of(codes: Array, rows: Array, weights: Array) -> Array:
    """Sum of hashes of number and class of the rows of positive weight, uint32 ``[2]``."""

    def one(row: Array, code: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(_key(0, ROW), row), code)
        return jax.random.bits(key, (2,), jnp.uint32)

    codes = jnp.maximum(codes, -1).astype(jnp.uint32)
    words = jax.vmap(one)(jnp.asarray(rows).astype(jnp.uint32), codes)
    return jnp.sum(jnp.where(weights[:, None] > 0, words, 0), axis=0, dtype=jnp.uint32)


def _key(seed: int | Array, purpose: int) -> Array:
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


def _bits(key: Array, rows: Array | np.ndarray) -> Array:
    """Random 32 bits for each row."""
    rows = jnp.asarray(rows).astype(jnp.uint32)
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row), (), jnp.uint32))(rows)

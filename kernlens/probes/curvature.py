"""What preconditions a softmax regression: the part of its Hessian within each class.

Of few columns it is a block for each class, inverted whole; of many its diagonal, which in
principal axes is most of it. Of many rows a sample is enough to know the blocks to an eighth.
"""

import jax
import jax.numpy as jnp

from kernlens.types import Array

MAX_BLOCK = 192
"""Most columns of which the blocks are inverted."""

MAX_BLOCKS = 2**24
"""Most numbers of all such blocks."""

SAMPLED = 64
"""Rows to a column that the blocks are made of, at least."""


def is_blocked(width: int, num_classes: int) -> bool:
    """Whether the part within each class is kept whole, or its diagonal alone."""
    return width <= MAX_BLOCK and num_classes * width**2 <= MAX_BLOCKS


def stride(num_rows: int, width: int) -> int:
    """Of how many rows one goes into the blocks.

    Odd, since rows may come in turns of two, four or ten.
    """
    times = num_rows // (SAMPLED * width)
    return max(1, times - 1 + times % 2)


@jax.jit
def first(x: Array, codes: Array, shares: Array) -> Array:
    """Curvature where all logits are those of the shares of the classes ``[C]``.

    Args:
      x: rows in blocks, ``[B, b, r + 1]``.
      codes: class of each, ``[B, b]``; ``-1`` of rows that do not count.
      shares: of the classes, ``[C]``.

    Returns:
      Array, ``[C, r + 1, r + 1]``; ``[C, r + 1]`` of many columns.
    """
    spread = shares * (1.0 - shares)
    width = x.shape[-1]
    blocked = is_blocked(width, len(shares))

    def add(total, given):
        rows, own = given
        rows = jnp.where((own >= 0)[:, None], rows, 0.0)
        return total + (rows.T @ rows if blocked else jnp.sum(jnp.square(rows), axis=0)), None

    # By blocks, since products of all rows at once copy them.
    start = jnp.zeros((width, width) if blocked else width, x.dtype)
    with jax.default_matmul_precision("highest"):
        total, _ = jax.lax.scan(add, start, (x, codes))
    return spread[:, None, None] * total if blocked else spread[:, None] * total


def within_classes(x: Array, probabilities: Array, weights: Array, like: Array) -> Array:
    """Curvature at some probabilities, of a sample of the rows where they are many.

    Args:
      x: rows in blocks, ``[B, b, r + 1]``.
      probabilities: of the classes, ``[B, C, b]``.
      weights: of the rows, ``[B, b]``.
      like: of the shape of what is asked.
    """
    step = stride(weights.size, x.shape[-1])

    def block(total, given):
        rows, p, w = given[0][::step], given[1][:, ::step], step * given[2][::step]
        spread = w * p * (1.0 - p)
        if like.ndim == 2:
            return total + spread @ jnp.square(rows), None
        return total + jax.lax.map(lambda own: (rows.T * own) @ rows, spread), None

    return jax.lax.scan(block, jnp.zeros_like(like), (x, probabilities, weights))[0]


def inverse(curvature: Array, rough: Array) -> Array:
    """Of the curvature and the penalty, of the shape of the curvature."""
    if curvature.ndim == 2:
        found = curvature + jnp.diagonal(rough)
        return 1.0 / jnp.maximum(found, 1e-7 * jnp.max(found))

    def one(block):
        block = block + rough
        floor = 1e-6 * jnp.max(jnp.diagonal(block))
        found = jnp.linalg.inv(block + floor * jnp.eye(len(block), dtype=block.dtype))
        return 0.5 * (found + found.T)

    return jax.lax.map(one, curvature)


def preconditioned(inverted: Array, residual: Array) -> Array:
    """The inverse times a residual ``[C, r + 1]``, less what it gives all classes alike.

    Solutions sum to 0 over classes, but for the free column, of which nothing hangs on that.
    """
    if inverted.ndim == 3:
        found = jnp.einsum("cij,cj->ci", inverted, residual)
    else:
        found = inverted * residual
    return found - jnp.mean(found, axis=0)

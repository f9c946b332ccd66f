"""Rows as features: as they are, or at unit length."""

import chex
import jax
import jax.numpy as jnp

from kernlens.types import Array


def identity(x: Array) -> Array:
    """The rows themselves: the features of the linear kernel."""
    return x


@jax.jit
def unit_rows(x: Array) -> Array:
    r"""Rows divided by their Euclidean norm; a zero row stays zero, with a zero gradient.

    They are the features of the cosine kernel.

    Args:
      x: rows, ``[n, d]``, of any scale that the dtype holds.

    Returns:
      Rows of norm 1 or 0, ``[n, d]``; NaN where a row is not finite.
    """
    chex.assert_rank(x, 2)
    # The result does not depend on the peak, so its gradient may be dropped; dividing by it first
    # keeps the squares of very small and very large rows inside the range of the dtype.
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True, initial=0.0))
    zero = peak == 0
    safe = jnp.where(zero, 1.0, x / jnp.where(zero, 1.0, peak))
    unit = safe / jnp.sqrt(jnp.sum(safe**2, axis=1, keepdims=True))
    # A row that is not finite has no direction, and its finite entries must not pass for one.
    return jnp.where(zero, 0.0, jnp.where(jnp.isfinite(peak), unit, jnp.nan))

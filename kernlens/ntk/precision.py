"""The precision that kernels are contracted and returned in."""

from typing import Any

import jax
import jax.numpy as jnp

from kernlens.types import Array

HIGHEST = jax.lax.Precision.HIGHEST
"""Products in the full precision of their dtype, where a device would round to fewer digits."""


def wide_dtype(dtype: Any) -> Any:
    """The dtype itself, float32 in place of a narrower floating dtype."""
    return jnp.dtype(jnp.float32) if is_narrow(dtype) else jnp.dtype(dtype)


def widen(x: Array) -> Array:
    """An array in :func:`wide_dtype`; integers stay as they are."""
    return x.astype(jnp.float32) if is_narrow(x.dtype) else x


def is_narrow(dtype: Any) -> bool:
    """Whether a floating dtype has fewer digits than float32."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4

"""The way of arrays from the host to a device; rows at unit length."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import chex
import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from kernlens.host import ALIGNMENT
from kernlens.types import Array


def on_device(x: Array | np.ndarray) -> Array:
    """An array on the default device, as ``jnp.asarray`` has it, which copies NumPy's twice.

    Args:
      x: an array; NumPy's may be read until the result is there.

    Returns:
      The same values, in a dtype that JAX has; no memory is shared with NumPy.
    """
    if isinstance(x, np.ndarray) and x.ctypes.data % ALIGNMENT:
        return jax.device_put(x)  # which takes aligned memory as it lies
    return jnp.asarray(x)


@jax.jit
def unit_rows(x: Array) -> Array:
    r"""Rows divided by their Euclidean norm; a zero row stays zero, with a zero gradient.

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


@contextmanager
def calm_threads() -> Iterator[None]:
    """Linear algebra on the host in a single thread while the machine has more work than cores.

    The threads of a factorisation wait for each other at every step, and each may be off its core.
    On two cores under a load of 20, eigenvalues of 1,500 rows took 27 s in two threads and 5.5 s
    in one. As a context, or a decorator of a function.
    """
    if is_busy():
        with threadpool_limits(1, user_api="blas"):
            yield
    else:
        yield


def is_busy() -> bool:
    """Whether half as many programs again as there are cores waited to run in the last minute."""
    if not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)

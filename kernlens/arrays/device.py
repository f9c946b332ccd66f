"""The way of arrays from the host to a device, and threads on a busy host."""

import functools
import importlib
import math
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from kernlens.arrays.memory import ALIGNMENT
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


SMALL = 2**30
"""Multiplications up to which threads of linear algebra on the host wait longer than they work."""


@contextmanager
def calm_threads(work: float = math.inf) -> Iterator[None]:
    """Linear algebra on the host in a single thread where threads would hinder each other.

    That is while the machine has more work than cores, and in small problems. The threads of a
    factorisation wait for each other at every step, and each may be off its core: on two cores
    under a load of 20, eigenvalues of 1,500 rows took 27 s in two threads and 5.5 s in one, and
    logistic regression of 4,000 x 32 took three times the processor time in two. As a context, or
    a decorator of a function.

    Args:
      work: multiplications of the largest product within.
    """
    if work <= SMALL or is_busy():
        _CALM.enter()
        try:
            yield
        finally:
            _CALM.leave()
    else:
        yield


class _Calm:
    """The limit, which is one of the process: the first to come sets it, the last lifts it."""

    def __init__(self):
        self._lock, self._inside, self._limit = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit.enter_context(_libraries().limit(limits=1, user_api="blas"))
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.close()


_CALM = _Calm()


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries of linear algebra, looked up once, which takes 4 ms."""
    importlib.import_module("scipy.linalg")  # JAX calls its LAPACK, and loads it where first needed
    return ThreadpoolController()


def is_busy() -> bool:
    """Whether half as many programs again as there are cores waited to run in the last minute."""
    if not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)

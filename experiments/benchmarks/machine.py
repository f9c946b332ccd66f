"""What the machine does: seconds, memory, and its rate of matrix products.

Imports JAX alone, so that it runs in a peer's environment too.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


class Memory:
    """Most bytes in use at once after ``Memory()``, over those in use then; None where unknown."""

    def __init__(self):
        gc.collect()
        self.device = jax.devices()[0]
        self.before = self._read()[0]

    def peak(self) -> int | None:
        """The bytes so far."""
        now = self._read()[1]
        return None if self.before is None or now is None else max(now - self.before, 0)

    def _read(self) -> tuple[int | None, int | None]:
        if self.device.platform != "cpu":
            stats = self.device.memory_stats() or {}
            return stats.get("bytes_in_use"), stats.get("peak_bytes_in_use")
        if sys.platform != "linux":
            return None, None
        if not hasattr(self, "before"):
            # What compilation freed goes back, and the kernel's high-water mark starts again.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        lines = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        resident, highest = (int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return resident, highest


def peak_bytes() -> int | None:
    """Most resident bytes that this process has had; None where the system does not tell.

    ``getrusage`` says what the process that started this one has had, where that is more.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(text.split()[1]) * 1024 for text in lines if text.startswith("VmHWM")), None)


def timed(call: Callable[..., T], *args: Any) -> tuple[T, float]:
    """The call's value, when it is there, and its wall seconds."""
    start = time.perf_counter()
    value = jax.block_until_ready(call(*args))
    return value, time.perf_counter() - start


def matmul_peak(dtype: Any, sizes: list[int], repeats: int) -> dict[str, Any]:
    """Median GFLOP/s of square matrix products of each size, and the greatest of them."""
    rates = {}
    for size in sizes:
        x = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), dtype)
        product = jax.jit(lambda a, b: a @ b).lower(x, x).compile()
        timed(product, x, x)
        rates[str(size)] = (
            2e-9 * size**3 / np.median([timed(product, x, x)[1] for _ in range(repeats)])
        )
    return {"rates": rates, "peak": max(rates.values())}

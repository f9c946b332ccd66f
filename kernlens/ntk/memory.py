"""How much memory there is, and whether a result would fit."""

import contextlib
import os
import sys
from pathlib import Path

import jax


def available_bytes() -> int:
    """Bytes free on the default device: of its allocator where it tells, else of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return host_bytes()


def host_bytes() -> int:
    """Bytes free on the host, or half of what it has where it does not tell what is free."""
    found = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(s.split()[1]) * 1024 for s in lines if s.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=sys.maxsize)


def check_fits(what: str, shape: tuple[int, ...], itemsize: int, advice: str) -> None:
    """Refuses an array that would not fit.

    Args:
      what: name of the array, for the message.
      shape: its shape.
      itemsize: bytes of an entry.
      advice: what to do in place of it.

    Raises:
      ValueError: more bytes than are free, with both numbers.
    """
    size, free = itemsize, available_bytes()
    for axis in shape:
        size *= axis
    if size > free:
        sizes = " x ".join(f"{axis:,}" for axis in shape)
        raise ValueError(
            f"{what} of {sizes} needs {size / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB are "
            f"free: {advice}"
        )

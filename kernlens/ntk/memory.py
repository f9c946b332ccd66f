"""How much memory there is, and whether a result would fit."""

import jax

from kernlens.arrays.memory import free_bytes


def available_bytes() -> int:
    """Bytes free on the default device: of its allocator where it tells, else of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return free_bytes()


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

"""A kernel in batches of rows and columns, over devices: neural-tangents' ``batch``.

The kernels of this package are computed in blocks already, within the memory at hand. This serves
kernel functions from elsewhere, infinite-width kernels of images, and code that calls ``nt.batch``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk import checks


def batch(
    kernel_fn: Callable[..., Any],
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
) -> Callable[..., Any]:
    """The same kernel, a block of ``batch_size`` rows and columns at a time.

    Any number of rows will do: the last block has those that are left over.

    Args:
      kernel_fn: ``kernel_fn(x1, x2, *args, **kwargs)`` that gives arrays ``[n1, n2, ...]``, or a
        pytree of them; ``x2=None`` stands for ``x1``.
      batch_size: rows and columns of a block, at least 0; 0 for all at once.
      device_count: devices that the blocks are dealt to in turn: -1 for all, 0 or 1 for the default
        one.
      store_on_device: whether the blocks stay on the device until they are put together; False
        moves each to the host and gives NumPy arrays.

    Returns:
      ``batched(x1, x2=None, *args, **kwargs)``. Rows of ``x1`` and ``x2`` are cut, all other
      arguments are handed on as they are.

    Raises:
      ValueError: a negative batch size, more devices than there are, and, when the kernel is
        called in several blocks, a result that is not ``[n1, n2, ...]``.
    """
    if batch_size < 0:
        raise ValueError(f"batch_size must be at least 0; got {batch_size}")
    available = jax.device_count()
    if not -1 <= device_count <= available:
        raise ValueError(
            f"device_count must be -1, for all, or in 0..{available}; got {device_count}"
        )
    devices = jax.devices()[: available if device_count < 0 else max(device_count, 1)]

    def batched(x1: Any, x2: Any = None, *args: Any, **kwargs: Any) -> Any:
        n1 = checks.count(x1, "x1")
        n2 = n1 if x2 is None else checks.count(x2, "x2")
        rows = batch_size or (n1 if len(devices) == 1 else -(-n1 // len(devices)))
        columns = batch_size or n2
        if rows >= n1 and columns >= n2:
            return _stored(kernel_fn(x1, x2, *args, **kwargs), store_on_device)
        others = [_on((args, kwargs), device, len(devices)) for device in devices]
        blocks: list[list[Any]] = []
        dealt = 0
        for i in range(0, n1, rows):
            blocks.append([])
            for j in range(0, n2, columns):
                which = dealt % len(devices)
                own_args, own_kwargs = others[which]
                left = _on(_cut(x1, i, rows), devices[which], len(devices))
                # On the diagonal of a symmetric kernel a block is symmetric too.
                if x2 is None and i == j and rows == columns:
                    right, size2 = None, min(rows, n1 - i)
                else:
                    right = _on(
                        _cut(x1 if x2 is None else x2, j, columns), devices[which], len(devices)
                    )
                    size2 = min(columns, n2 - j)
                block = kernel_fn(left, right, *own_args, **own_kwargs)
                _check(block, (min(rows, n1 - i), size2))
                blocks[-1].append(_stored(block, store_on_device))
                dealt += 1
        if store_on_device and len(devices) > 1:
            blocks = jax.device_put(blocks, devices[0])
        join = jnp.concatenate if store_on_device else np.concatenate
        lines = [jax.tree.map(lambda *k: join(k, axis=1), *line) for line in blocks]
        return jax.tree.map(lambda *k: join(k, axis=0), *lines)

    return batched


def _cut(x: Any, start: int, size: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start : start + size], x)


def _on(tree: Any, device: Any, count: int) -> Any:
    """Arrays on a device; as they are where there is one device alone."""
    if count == 1:
        return tree
    return jax.tree.map(
        lambda v: jax.device_put(v, device) if isinstance(v, jax.Array | np.ndarray) else v, tree
    )


def _stored(block: Any, on_device: bool) -> Any:
    return block if on_device else jax.tree.map(np.asarray, block)


def _check(block: Any, expected: tuple[int, int]) -> None:
    for leaf in jax.tree.leaves(block):
        if jnp.shape(leaf)[:2] != expected:
            raise ValueError(
                f"batch puts blocks [n1, n2, ...] together; kernel_fn gave {jnp.shape(leaf)} for "
                f"{expected[0]} rows and {expected[1]} columns (a trace or diagonal over the batch "
                "axis? such kernels are small: call them without batch)"
            )

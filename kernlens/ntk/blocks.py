"""A kernel in blocks of rows: bounded memory, half of the blocks where it is symmetric."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import memory, structured
from kernlens.types import Array

CACHE_BYTES = 40 * 2**20
"""Bytes of a block's own entries on a CPU: larger blocks fall out of its caches."""

GRAM_ROWS = 256
"""Rows of a block on a CPU where nothing is built for it: larger products are no faster, and
half of a symmetric kernel is saved from there on."""

FACTOR_BYTES = 8 * 2**20
"""Bytes of factors computed at a time; what their backward pass holds is a multiple of that."""


def block_rows(plan: structured.Plan, n: int, itemsize: int) -> int:
    """Rows of a block, from the bytes its contraction needs and the bytes there are."""
    on_cpu = jax.default_backend() == "cpu"
    budget = memory.available_bytes() // 8
    pair = 3 * itemsize * prod(plan.axes.kernel_shape) + max(s.pair_bytes for s in plan.shares)
    gradient = structured.Contraction.GRADIENT
    builds = any(s.contraction is gradient and not s.built for s in plan.shares)
    rows = 4096 if builds or not on_cpu else GRAM_ROWS
    while rows > 1 and rows * rows * pair > (min(budget, CACHE_BYTES) if on_cpu else budget):
        rows //= 2
    return min(rows, n)


def kernel(
    plan: structured.Plan,
    leaves: tuple[Sequence[Array], Sequence[Array]],
    x1: Sequence[Array],
    x2: Sequence[Array] | None,
    *,
    block_size: int,
) -> Array:
    """The kernel of all pairs.

    Args:
      plan: how to compute it.
      leaves: parameters of either model.
      x1: flat inputs of ``n1`` examples.
      x2: flat inputs of ``n2`` examples; None where both sides are the same, so that half of the
        blocks are enough.
      block_size: rows of a block; the last block overlaps the one before it.

    Returns:
      The kernel, ``[n1, n2, *plan.axes.kernel_shape]``.
    """
    n1 = x1[0].shape[0]
    n2 = n1 if x2 is None else x2[0].shape[0]
    rows1, rows2 = min(block_size, n1), min(block_size, n2)
    take1 = _blocks(plan, 0, leaves[0], x1, rows1)
    take2 = take1 if x2 is None else _blocks(plan, 1, leaves[1], x2, rows2)
    starts1, starts2 = _starts(n1, rows1), _starts(n2, rows2)
    pairs = [
        (i, j)
        for a, i in enumerate(starts1)
        for b, j in enumerate(starts2)
        if x2 is not None or a <= b
    ]
    shape = plan.axes.kernel_shape

    def block(i: Any, j: Any) -> Array:
        return structured.contract(plan, take1(i), take2(j))

    if len(pairs) == 1:
        first = take1(0)
        return structured.contract(plan, first, first if x2 is None else take2(0))
    dtype = jax.eval_shape(lambda: block(0, 0)).dtype
    corners = jnp.array(pairs, jnp.int32)
    origin = [jnp.int32(0)] * len(shape)

    def fill(t: Array, k: Array) -> Array:
        i, j = corners[t, 0], corners[t, 1]
        return jax.lax.dynamic_update_slice(k, block(i, j), (i, j, *origin))

    k = jax.lax.fori_loop(0, len(pairs), fill, jnp.zeros((n1, n2, *shape), dtype))
    if x2 is not None:
        return k
    # A loop of its own: a block that is read twice, once across, would be computed twice.
    corners = jnp.array([(i, j) for i, j in pairs if i != j], jnp.int32)
    order = (1, 0, *_mirror(plan.axes))

    def mirror(t: Array, k: Array) -> Array:
        i, j = corners[t, 0], corners[t, 1]
        values = jax.lax.dynamic_slice(k, (i, j, *origin), (rows1, rows2, *shape))
        return jax.lax.dynamic_update_slice(k, values.transpose(order), (j, i, *origin))

    return jax.lax.fori_loop(0, len(corners), mirror, k)


def diagonal(
    plan: structured.Plan,
    leaves: tuple[Sequence[Array], Sequence[Array]],
    x1: Sequence[Array],
    x2: Sequence[Array] | None,
    *,
    block_size: int,
) -> Array:
    """The kernel of each example with its namesake, ``[n, *plan.axes.kernel_shape]``."""

    def one(rows: tuple[Any, Any]) -> Array:
        first, second = rows
        factors1 = structured.factors(plan, 0, leaves[0], first)
        factors2 = structured.factors(plan, 1, leaves[1], second) if x2 is not None else factors1
        blocks = [jax.tree.map(lambda z: z[None], f) for f in (factors1, factors2)]
        return structured.contract(plan, *blocks)[0, 0]

    first = [leaf[:, None] for leaf in x1]
    second = [leaf[:, None] for leaf in x2] if x2 is not None else first
    if first[0].shape[0] <= block_size:
        return jax.vmap(one)((first, second))
    return jax.lax.map(one, (first, second), batch_size=block_size)


def _starts(n: int, rows: int) -> list[int]:
    return [min(start, n - rows) for start in range(0, n, rows)]


def _mirror(axes: structured.OutputAxes) -> list[int]:
    """Where the kernel's own axes go when the two sides change places."""
    order: list[int] = []
    for axis in range(len(axes.shape)):
        place = 2 + len(order)
        if axis in axes.diagonal:
            order.append(place)
        elif axis in axes.full:
            order += [place + 1, place]
    return order


def _blocks(
    plan: structured.Plan, which: int, leaves: Sequence[Array], x: Sequence[Array], rows: int
) -> Callable[[Any], structured.Factors]:
    """``start -> factors of a block``, kept for all rows where they fit, else computed anew."""
    n = x[0].shape[0]
    # Compiled as part of what calls it, but traced once, for its sizes and for its values.
    one = jax.jit(partial(structured.factors, plan, which))
    row = jax.eval_shape(one, list(leaves), [leaf[:1] for leaf in x])
    size = sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    widest = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    passing = max(size, widest * sum(share.passing for share in plan.shares))
    at_once = FACTOR_BYTES // max(passing, 1) if jax.default_backend() == "cpu" else rows
    at_once = _even(min(max(8, at_once), n), n)

    def factors(x: Sequence[Array]) -> structured.Factors:
        return structured.batched(one, leaves, x, at_once)

    def cut(start: Any, tree: Any) -> Any:
        return jax.tree.map(lambda z: jax.lax.dynamic_slice_in_dim(z, start, rows), tree)

    if rows == n:
        whole = factors(x)
        return lambda start: whole
    if 4 * n * size <= memory.available_bytes():
        stored = factors(x)
        return lambda start: cut(start, stored)
    return lambda start: factors(cut(start, list(x)))


def _even(rows: int, n: int) -> int:
    """At most ``rows``, and a divisor of ``n`` where one is near: a remainder costs a copy."""
    return next((k for k in range(rows, rows // 2, -1) if n % k == 0), rows)

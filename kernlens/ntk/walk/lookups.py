"""Rules for rows of a table: read, weighted, summed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.flow import (
    CONSTANTS,
    Rows,
    Spread,
    Stopped,
    TableRows,
    Walk,
    bind,
    lookup_site,
    number_of,
    plain,
)
from kernlens.ntk.walk.sites import Read, WeightedIds
from kernlens.ntk.walk.views import View
from kernlens.types import Array


def gather(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Whole rows of a table, or whole slices along one axis of a leaf."""
    view, indices = values
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not isinstance(view, View) or len(numbers.start_index_map) != 1 or view.repeats():
        return None
    (row,) = numbers.start_index_map
    shape = view.value.shape
    whole = all(size == shape[d] for d, size in enumerate(sizes) if d != row)
    kept = numbers.collapsed_slice_dims not in ((), (row,)) or sizes[row] != 1
    if kept or numbers.operand_batching_dims or not whole:
        return None
    indices = walk.settle(indices)
    value = bind(eqn, [view.value, indices])[0]
    ids = indices[..., 0]
    if eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        ids = jnp.clip(ids, 0, shape[row] - 1)
    # Dimensions of the view behind those of the value that are no positions.
    behind = [d for d in range(len(shape)) if d not in numbers.collapsed_slice_dims]
    return rows_of(walk, view, row, value, ids, list(zip(behind, numbers.offset_dims, strict=True)))


def rows_of(
    walk: Walk, view: View, row: int, value: Array, ids: Array, kept: list[tuple[int, int]]
) -> list[Any] | None:
    """What a lookup along one dimension of a view gives.

    Args:
      walk: the walk.
      view: the view.
      row: its dimension that is looked up.
      value: what was read.
      ids: numbers along ``row``, of the shape of the value's other dimensions.
      kept: dimensions of the view and those of the value that they became, ``row`` with size 1.
    """
    shape = view.value.shape
    width = value.ndim - 1
    table = len(shape) == 2 and [place for _, place in kept] == [width]
    parts, found = [], []
    for block in view.blocks:
        local = ids - block.starts[row]
        inside = (local >= 0) & (local < block.sizes[row])
        own = jnp.where(inside, local, -1)[..., None]
        weights = jnp.broadcast_to(jnp.asarray(block.scale, value.dtype), own.shape)
        if table:
            d = 1 - row
            parts.append(Rows(block, row, block.starts[d], block.sizes[d], own, weights))
            continue
        cuts = [
            (place, block.starts[d], block.sizes[d])
            for d, place in kept
            if d != row and block.sizes[d] < shape[d]
        ]
        right = [place for _, place in kept]
        site = lookup_site(block, value, row, own, cuts, right)
        read = WeightedIds(own.reshape(1, -1, 1), weights.reshape(1, -1, 1))
        found.append((site, Read(read)))
    if table:
        return [TableRows(value, tuple(parts))]
    return [walk.add(value, found)]


def select(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """``where(mask, rows, 0)``, the mask one number a row, or one of two for a leaf."""
    if len(values) == 3 and any(isinstance(value, View) for value in values[1:]):
        return _select_view(walk, eqn, values)
    if len(values) != 3 or not isinstance(values[0], Spread):
        return None
    which = [i for i, value in enumerate(values) if isinstance(value, TableRows)]
    if len(which) != 1:
        return None
    rows, other = values[which[0]], values[3 - which[0]]
    other = other.narrow if isinstance(other, Spread) else other
    if not isinstance(other, CONSTANTS) or np.any(np.asarray(other) != 0):
        return None
    value = bind(eqn, [plain(v) for v in values])[0]
    kept = values[0].narrow if which[0] == 2 else ~values[0].narrow
    return [rows.change(value, lambda ids: ids, lambda w: jnp.where(kept, w, 0.0))]


def _select_view(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf or something else, by one number: conditionals on an example become that."""
    which = values[0]
    which = which if np.ndim(plain(which)) == 0 else number_of(which)
    if which is None:
        return None
    which = jnp.asarray(walk.settle(which), bool)
    taken = [v.value if isinstance(v, View) else walk.settle(v) for v in values[1:]]
    sources = [v.source if isinstance(v, Stopped) else plain(v) for v in values[1:]]
    # A leaf or itself, its gradient stopped: a choice by example would copy it for each.
    same = sources[0] is sources[1]
    value = sources[0] if same else bind(eqn, [plain(values[0]), *taken])[0]
    blocks = []
    for view, chosen in zip(values[1:], (~which, which), strict=True):
        for block in view.blocks if isinstance(view, View) else ():
            scale = jnp.asarray(block.scale, value.dtype)
            blocks.append(block._replace(scale=jnp.where(chosen, scale, jnp.zeros_like(scale))))
    return [View(value, tuple(blocks), True)]


def pool(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A weighted sum of rows, written as a matrix product with one number a row."""
    index = 0 if isinstance(values[0], TableRows) else 1
    rows, other = values[index], walk.settle(values[1 - index])
    contracts, batches = eqn.params["dimension_numbers"]
    contract, batch = contracts[index], batches[index]
    last = rows.value.ndim - 1
    if last in contract or last in batch or other.ndim != len(contract) + len(batch):
        return None
    value = bind(eqn, [rows.value if i == index else other for i in range(2)])[0]
    own = [*batches[1 - index], *contracts[1 - index]]
    number = other.transpose(own)
    free = [d for d in range(last) if d not in contract and d not in batch]
    order = [*batch, *free, *contract, last]
    number = number.reshape(
        *number.shape[: len(batch)], *[1] * len(free), *number.shape[len(batch) :], 1
    )
    kept = len(batch) + len(free)

    def fold(x: Array) -> Array:
        return x.reshape(*x.shape[:kept], -1)

    return [
        rows.change(
            value,
            lambda ids: fold(ids.transpose(order)),
            lambda weights: fold(weights.transpose(order) * number.astype(weights.dtype)),
        )
    ]


def sum_rows(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A sum of rows over axes other than their width."""
    (rows,) = values
    axes = eqn.params["axes"]
    if not isinstance(rows, TableRows) or rows.value.ndim - 1 in axes:
        return None
    value = bind(eqn, [rows.value])[0]

    def fold(x: Array) -> Array:
        kept = [d for d in range(x.ndim - 1) if d not in axes]
        x = x.transpose([*kept, *axes, x.ndim - 1])
        return x.reshape(*x.shape[: len(kept)], -1)

    return [rows.change(value, fold)]

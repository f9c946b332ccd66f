"""Rules for rows of a table: read, weighted, summed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.flow import (
    CONSTANTS,
    Spread,
    TableRows,
    View,
    Walk,
    bind,
    lookup_site,
    plain,
    split_of,
    tiled,
)
from kernlens.ntk.walk.sites import Read, WeightedIds
from kernlens.types import Array


def gather(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Whole rows of a table, or whole slices along one axis of a leaf."""
    view, indices = values
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not isinstance(view, View) or view.axes is None or len(numbers.collapsed_slice_dims) != 1:
        return None
    if tiled(view):
        return None
    (row,) = numbers.collapsed_slice_dims
    shape = view.value.shape
    whole = all(size == shape[d] for d, size in enumerate(sizes) if d != row)
    if numbers.start_index_map != (row,) or numbers.operand_batching_dims or not whole:
        return None
    indices = walk.settle(indices)
    value = bind(eqn, [view.value, indices])[0]
    offsets = numbers.offset_dims
    batch = value.ndim - len(offsets)
    ids = indices[..., 0]
    if eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        ids = jnp.clip(ids, 0, shape[row] - 1)
    inside = (ids >= 0) & (ids < shape[row])
    ids = jnp.where(inside, ids, -1)
    weights = jnp.broadcast_to(jnp.asarray(view.scale, value.dtype), ids.shape)
    split = split_of(view, (row,), [d for d in range(len(shape)) if d != row])
    if len(shape) == 2 and offsets == (batch,):
        rows = TableRows(view.leaf, value, ids[..., None], weights[..., None], split, shape[row])
        return [rows]
    site = lookup_site(view.leaf, value, ids[..., None], split, shape[row], offsets)
    read = WeightedIds(ids.reshape(-1, 1), weights.reshape(-1, 1))
    return [walk.add(site, value, Read(read))]


def select(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """``where(mask, rows, 0)``, the mask one number a row."""
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
    return [rows._replace(value=value, weights=jnp.where(kept, rows.weights, 0.0))]


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
    ids, weights = rows.ids.transpose(order), rows.weights.transpose(order)
    number = number.reshape(
        *number.shape[: len(batch)], *[1] * len(free), *number.shape[len(batch) :], 1
    )
    kept = len(batch) + len(free)
    weights = weights * number.astype(weights.dtype)
    ids, weights = (x.reshape(*x.shape[:kept], -1) for x in (ids, weights))
    return [rows._replace(value=value, ids=ids, weights=weights)]


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

    return [rows._replace(value=value, ids=fold(rows.ids), weights=fold(rows.weights))]

"""Rules for what changes the shape, the order or the dtype, or takes parts and joins them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk import views
from kernlens.ntk.walk.flow import (
    CONSTANTS,
    Bent,
    Spread,
    Stopped,
    TableRows,
    Tapped,
    Walk,
    bind,
    dims_of,
    plain,
)
from kernlens.ntk.walk.lookups import rows_of
from kernlens.ntk.walk.views import Block, Cut, View
from kernlens.types import Array


def transpose(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf or what a site wrote in another order, or rows whose width stays last."""
    (rows,) = values
    order = tuple(eqn.params["permutation"])
    if isinstance(rows, View):
        blocks = tuple(views.transposed(block, order) for block in rows.blocks)
        return [View(bind(eqn, [rows.value])[0], blocks, rows.mixed)]
    if isinstance(rows, Tapped):
        walk.exits.setdefault(rows.tap, []).append(None)
        before = rows.order or tuple(range(len(order)))
        return [Tapped(bind(eqn, [rows.value])[0], rows.tap, tuple(before[d] for d in order))]
    if not isinstance(rows, TableRows) or order[-1] != len(order) - 1:
        return None
    return [rows.change(bind(eqn, [rows.value])[0], lambda x: x.transpose(order))]


def reshape(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf, rows whose width stays last, or what a site wrote, in another shape."""
    rows = values[0]
    new = eqn.outvars[0].aval.shape
    if len(values) > 1:
        return None
    if isinstance(rows, Tapped | Bent):
        return _reshape_bent(eqn, rows)
    if isinstance(rows, View):
        old = rows.value.shape
        if 0 in old:
            return None
        blocks = [views.reshaped(block, old, new) for block in rows.blocks]
        known = tuple(block for block in blocks if block is not None)
        if len(known) < len(blocks):
            return None
        return [View(bind(eqn, [rows.value])[0], known, rows.mixed)]
    if not isinstance(rows, TableRows) or not new or new[-1] != rows.value.shape[-1]:
        return None
    value = bind(eqn, [rows.value])[0]
    return [rows.change(value, lambda x: x.reshape(*new[:-1], x.shape[-1]))]


def _reshape_bent(eqn: Any, bent: Any) -> list[Any] | None:
    old, new = jnp.shape(bent.value), eqn.outvars[0].aval.shape
    known = [d for d, size in zip(dims_of(bent), old, strict=True) if size > 1]
    kept = [size for size in old if size > 1] == [size for size in new if size > 1]
    same = isinstance(bent, Tapped) or bent.same
    if not same and not kept:
        return None
    dims = tuple(known.pop(0) if kept and size > 1 else None for size in new)
    return [Bent(bind(eqn, [bent.value])[0], bent.tap, same, dims)]


def pool_dims(eqn: Any, dims: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
    """The dimensions that are left of some by a pool, None in place of those that it mixes.

    None where an equation is no pool.
    """
    name, p = eqn.primitive.name, eqn.params
    if name in ("reduce_sum", "reduce_max", "reduce_min"):
        return tuple(dim for d, dim in enumerate(dims) if d not in p["axes"])
    if name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min"):
        names = ("window_dimensions", "window_strides", "base_dilation", "padding")
        windows = zip(*(p[name] for name in names), strict=True)
        return tuple(
            dim if (*sizes, tuple(around)) == (1, 1, 1, (0, 0)) else None
            for dim, (*sizes, around) in zip(dims, windows, strict=True)
        )
    return None


def broadcast(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf along new axes, or a value that is constant along its last one."""
    view = values[0]
    if len(values) > 1:
        return None
    if not isinstance(view, View | Tapped | Bent | TableRows):
        return _spread(walk, eqn, view)
    if not isinstance(view, View):
        return None
    value = bind(eqn, [view.value])[0]
    old, places = view.value.shape, eqn.params["broadcast_dimensions"]
    blocks = tuple(views.broadcast(block, old, value.shape, places) for block in view.blocks)
    return [View(value, blocks, view.mixed)]


def _spread(walk: Walk, eqn: Any, value: Any) -> list[Any] | None:
    if isinstance(value, CONSTANTS) and np.ndim(value) == 0:
        return [Spread(bind(eqn, [value])[0], value, value)]
    source = walk.settle(value)
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    last = len(shape) - 1
    if not shape or (last in dims and jnp.shape(source)[dims.index(last)] != 1):
        return None
    out = bind(eqn, [source])[0]
    number = jnp.reshape(source, ()) if jnp.size(source) == 1 else None
    return [Spread(out, jax.lax.broadcast_in_dim(source, (*shape[:-1], 1), dims), number)]


def cast(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf in another floating dtype, or as it is."""
    (view,) = values
    floating = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating)
    if not isinstance(view, View) or not floating:
        return None
    return [view._replace(value=bind(eqn, [view.value])[0])]


def same(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Several arrays, each as it is."""
    outs = bind(eqn, [v.value if isinstance(v, View) else walk.settle(v) for v in values])
    return [
        value._replace(value=out) if isinstance(value, View) else out
        for value, out in zip(values, outs, strict=True)
    ]


def take(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A slice of a leaf."""
    (view,) = values
    if not isinstance(view, View):
        return None
    p = eqn.params
    steps = p["strides"] or [1] * len(p["start_indices"])
    cuts = list(zip(range(len(steps)), p["start_indices"], p["limit_indices"], steps, strict=True))
    return [_slice(view, bind(eqn, [view.value])[0], cuts)]


def _slice(view: View, value: Any, cuts: Sequence[Cut]) -> Any:
    blocks = views.sliced_all(view.blocks, cuts)
    return View(value, blocks, view.mixed) if blocks else value


def take_from(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A slice of a leaf whose place is a constant, or one row of it, whose number is not."""
    view, *starts = values
    if not isinstance(view, View):
        return None
    shape, sizes = view.value.shape, eqn.params["slice_sizes"]
    known = [isinstance(start, CONSTANTS) for start in starts]
    settled = [walk.settle(start) for start in starts]
    partial = [d for d, size in enumerate(sizes) if size < shape[d]]
    if all(known[d] for d in partial):
        value = bind(eqn, [view.value, *settled])[0]
        cuts = []
        for d in partial:
            start = min(max(int(starts[d]), 0), shape[d] - sizes[d])
            cuts.append((d, start, start + sizes[d], 1))
        return [_slice(view, value, cuts)]
    if len(partial) != 1 or sizes[partial[0]] != 1 or view.repeats():
        return None
    (row,) = partial
    value = bind(eqn, [view.value, *settled])[0]
    ids = jnp.clip(jnp.asarray(settled[row]), 0, shape[row] - 1)
    return rows_of(walk, view, row, value, ids, [(d, d) for d in range(len(shape))])


def split(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf in parts."""
    (view,) = values
    if not isinstance(view, View):
        return None
    outs, start, axis = [], 0, eqn.params["axis"]
    for value, size in zip(bind(eqn, [view.value]), eqn.params["sizes"], strict=True):
        outs.append(_slice(view, value, [(axis, start, start + size, 1)]))
        start += size
    return outs


def concatenate(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Leaves, or a leaf and other values, one after the other."""
    axis = eqn.params["dimension"]
    return _joined(walk, eqn, values, axis, lambda block: block)


def stack(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Leaves, or a leaf and other values, along a new axis."""
    axis = eqn.params["axis"]

    def widened(block: Block) -> Block:
        return block._replace(
            axes=(*block.axes[:axis], None, *block.axes[axis:]),
            starts=(*block.starts[:axis], 0, *block.starts[axis:]),
            sizes=(*block.sizes[:axis], 1, *block.sizes[axis:]),
        )

    return _joined(walk, eqn, values, axis, widened)


def _joined(
    walk: Walk, eqn: Any, values: list[Any], axis: int, change: Callable[[Block], Block]
) -> list[Any] | None:
    if not any(isinstance(value, View) for value in values):
        return None
    wide = eqn.primitive.name == "concatenate"
    blocks, taken, start, mixed = [], [], 0, False
    for value in values:
        if isinstance(value, View):
            taken.append(value.value)
            blocks += [views.shifted(change(block), {axis: start}) for block in value.blocks]
            mixed = mixed or value.mixed
        else:
            taken.append(walk.settle(value))
            mixed = mixed or not isinstance(plain(value), CONSTANTS)
        start += jnp.shape(taken[-1])[axis] if wide else 1
    return [View(bind(eqn, taken)[0], tuple(blocks), mixed)]


def pad(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf with something around it."""
    view, filling = values
    config = eqn.params["padding_config"]
    if not isinstance(view, View) or any(inside for _, _, inside in config):
        return None
    shape = view.value.shape
    cuts = [
        (d, max(0, -low), shape[d] - max(0, -high), 1) for d, (low, high, _) in enumerate(config)
    ]
    before = {d: max(0, int(low)) for d, (low, _, _) in enumerate(config)}
    kept = views.sliced_all(view.blocks, cuts)
    value = bind(eqn, [view.value, walk.settle(filling)])[0]
    blocks = tuple(views.shifted(block, before) for block in kept)
    return [View(value, blocks, view.mixed) if blocks else value]


def stop(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf through which no gradient passes."""
    (view,) = values
    # No gradient passes, so this is no use of the leaf at all.
    return [Stopped(bind(eqn, [view.value])[0], view.value)] if isinstance(view, View) else None


FOLDED: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "max": np.maximum,
    "min": np.minimum,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "select_n": lambda which, *cases: cases[int(which)],
    "convert_element_type": lambda x: x,
}
"""Arithmetic of single integers, such as places of slices, that is done while walking."""


def fold(eqn: Any, values: Sequence[Any]) -> Any:
    """The result of an equation among constant integers; None for any other."""
    (out, *more) = eqn.outvars
    rule = FOLDED.get(eqn.primitive.name)
    if rule is None or more or out.aval.shape != () or out.aval.dtype.kind not in "iub":
        return None
    if not all(isinstance(v, CONSTANTS) and np.ndim(v) == 0 for v in values):
        return None
    if any(np.asarray(v).dtype.kind not in "iub" for v in values):
        return None
    return np.asarray(rule(*values)).astype(out.aval.dtype)[()]


def shape_of(values: Sequence[Array]) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of arrays."""
    return [jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)) for v in values]

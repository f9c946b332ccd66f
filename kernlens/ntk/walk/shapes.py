"""Rules for what changes the shape, the order or the dtype."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.flow import (
    CONSTANTS,
    Bent,
    Spread,
    TableRows,
    Tapped,
    View,
    Walk,
    bind,
    tiled,
)
from kernlens.types import Array


def transpose(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf in another order, or rows whose width stays last."""
    (rows,) = values
    if not isinstance(rows, TableRows):
        return _transpose_view(walk, eqn, values)
    order = tuple(eqn.params["permutation"])
    if order[-1] != len(order) - 1:
        return None
    return _reorder_rows(rows, eqn, lambda x, bag: x.transpose(order))


def _transpose_view(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    (view,) = values
    if not isinstance(view, View):
        return None
    order = eqn.params["permutation"]
    axes = None if view.axes is None else tuple(view.axes[i] for i in order)
    history = view.history if view.axes is not None else (*view.history, ("transpose", order))
    return [view._replace(value=bind(eqn, [view.value])[0], axes=axes, history=history)]


def reshape(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf, rows whose width stays last, or what a site wrote, in another shape."""
    rows = values[0]
    if isinstance(rows, Tapped | Bent) and len(values) == 1:
        return _reshape_bent(eqn, rows)
    if not isinstance(rows, TableRows):
        return _reshape_view(walk, eqn, values)
    new = eqn.outvars[0].aval.shape
    if not new or new[-1] != rows.value.shape[-1] or len(values) > 1:
        return None
    return _reorder_rows(rows, eqn, lambda x, bag: x.reshape(*new[:-1], bag))


def _reshape_view(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    view = values[0]
    if not isinstance(view, View) or len(values) > 1:
        return None
    value = bind(eqn, [view.value])[0]
    old, new = view.value.shape, value.shape
    axes = None
    if view.axes is not None and [s for s in old if s > 1] == [s for s in new if s > 1]:
        rest = iter([a for a, s in zip(view.axes, old, strict=True) if s > 1])
        axes = tuple(next(rest) if s > 1 else None for s in new)
    if axes is None and tiled(view):
        return None
    history = view.history if axes is not None else (*view.history, (old, new))
    return [view._replace(value=value, axes=axes, history=history)]


def _reshape_bent(eqn: Any, bent: Any) -> list[Any] | None:
    if isinstance(bent, Bent) and not bent.same:
        return None
    return [Bent(bind(eqn, [bent.value])[0], bent.site, True)]


def _reorder_rows(rows: TableRows, eqn: Any, change: Callable[[Array, int], Array]) -> list[Any]:
    value = bind(eqn, [rows.value])[0]
    bag = rows.ids.shape[-1]
    ids, weights = change(rows.ids, bag), change(rows.weights, bag)
    return [rows._replace(value=value, ids=ids, weights=weights)]


def broadcast(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf along new axes, or a value that is constant along its last one."""
    view = values[0]
    if len(values) > 1:
        return None
    if not isinstance(view, View | Tapped | Bent | TableRows):
        return _spread(walk, eqn, view)
    if not isinstance(view, View) or view.axes is None:
        return None
    value = bind(eqn, [view.value])[0]
    axes: list[int | None] = [None] * value.ndim
    for source, target in enumerate(eqn.params["broadcast_dimensions"]):
        axes[target] = view.axes[source]
    return [view._replace(value=value, axes=tuple(axes))]


def _spread(walk: Walk, eqn: Any, value: Any) -> list[Any] | None:
    if isinstance(value, CONSTANTS) and np.ndim(value) == 0:
        return [Spread(bind(eqn, [value])[0], value)]
    source = walk.settle(value)
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    last = len(shape) - 1
    if not shape or (last in dims and jnp.shape(source)[dims.index(last)] != 1):
        return None
    out = bind(eqn, [source])[0]
    return [Spread(out, jax.lax.broadcast_in_dim(source, (*shape[:-1], 1), dims))]


def cast(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf in another floating dtype."""
    (view,) = values
    floating = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating)
    if not isinstance(view, View) or not floating:
        return None
    return [view._replace(value=bind(eqn, [view.value])[0])]


def stop(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf through which no gradient passes."""
    (view,) = values
    # No gradient passes, so this is no use of the leaf at all.
    return bind(eqn, [view.value]) if isinstance(view, View) else None

"""Rules for products with leaves, their multiples and their biases."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.flow import (
    Bent,
    Spread,
    TableRows,
    Tapped,
    View,
    Walk,
    bind,
    plain,
    scaled,
    split_of,
    tiled,
)
from kernlens.ntk.walk.lookups import pool
from kernlens.ntk.walk.sites import Kind, Read, Site
from kernlens.types import Array


def matmul(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A product of a leaf with anything that is no leaf."""
    first, second = values
    (contract1, contract2), (batch, _) = eqn.params["dimension_numbers"]
    if isinstance(first, TableRows) != isinstance(second, TableRows) and not any(
        isinstance(value, View) for value in values
    ):
        return pool(walk, eqn, values)
    if batch or isinstance(first, View) == isinstance(second, View):
        return None
    view, other, read_dims, own_dims = (
        (second, first, contract1, contract2)
        if isinstance(second, View)
        else (first, second, contract2, contract1)
    )
    if tiled(view):
        return None
    written = other.site if isinstance(other, Tapped | Bent) else None
    if written is not None:
        # An exit, if this turns out to be all that reads it.
        site = walk.sites[written]
        same = site.positions == 1 and tuple(read_dims) == site.right_dims
        same = same and jnp.shape(other.value) == site.shape
        walk.exits.setdefault(written, []).append(len(walk.sites) if same else None)
        written = written if same else None
    other = plain(other) if isinstance(other, Tapped | Bent) else walk.settle(other)
    value = bind(eqn, [view.value if v is view else other for v in values])[0]
    free = [d for d in range(other.ndim) if d not in read_dims]
    own_free = [d for d in range(view.value.ndim) if d not in own_dims]
    positions = prod(other.shape[d] for d in free)
    read = other.transpose([*free, *read_dims]).reshape(positions, -1)
    first_right = len(free) if view is second else 0
    site = Site(
        leaf=view.leaf,
        kind=Kind.MATMUL,
        split=split_of(view, own_dims, own_free),
        positions=positions,
        left=read.shape[1],
        right=prod(view.value.shape[d] for d in own_free),
        shape=value.shape,
        right_dims=tuple(range(first_right, first_right + len(own_free))),
        bag=1,
        bias=None,
        dtype=value.dtype,
    )
    weights = view.value.transpose([*own_dims, *own_free]).reshape(site.left, site.right)
    activation = other if written is not None else None
    return [walk.add(site, value, Read(scaled(read, view.scale), weights, activation))]


def convolve(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A convolution of an image by a leaf."""
    image, view = values
    p = eqn.params
    if not isinstance(view, View) or p["feature_group_count"] > 1 or p["batch_group_count"] > 1:
        return None
    if isinstance(image, View) or tiled(view):
        return None
    image = walk.settle(image)
    rhs, out = p["dimension_numbers"].rhs_spec, p["dimension_numbers"].out_spec
    read = _patches(image, [view.value.shape[d] for d in rhs[2:]], p)
    positions = prod(read.shape[:-1])
    # A product of patches: on a CPU the gradient of a convolution is many times slower in a loop.
    weights = view.value.transpose([*rhs[2:], rhs[1], rhs[0]]).reshape(read.shape[-1], -1)
    value = jnp.matmul(read, weights, precision=p["precision"])
    value = jnp.moveaxis(value, -1, out[1]).astype(eqn.outvars[0].aval.dtype)
    site = Site(
        leaf=view.leaf,
        kind=Kind.CONVOLUTION,
        split=((view.axes, view.history, rhs, "window"), (view.axes, view.history, rhs, "out")),
        positions=positions,
        left=read.shape[-1],
        right=view.value.shape[rhs[0]],
        shape=value.shape,
        right_dims=(out[1],),
        bag=1,
        bias=None,
        dtype=value.dtype,
    )
    return [walk.add(site, value, Read(scaled(read.reshape(positions, -1), view.scale)))]


def _patches(image: Array, window: Sequence[int], p: dict[str, Any]) -> Array:
    """What each window sees, ``[*positions, features]``, by slices of the padded image."""
    lhs, out = p["dimension_numbers"].lhs_spec, p["dimension_numbers"].out_spec
    image = image.transpose([lhs[0], *lhs[2:], lhs[1]])
    zero = jnp.zeros((), image.dtype)
    spread = [
        (low, high, d - 1) for (low, high), d in zip(p["padding"], p["lhs_dilation"], strict=True)
    ]
    image = jax.lax.pad(image, zero, [(0, 0, 0), *spread, (0, 0, 0)])
    strides, dilation = p["window_strides"], p["rhs_dilation"]
    counts = [
        (size - (w - 1) * d - 1) // stride + 1
        for size, w, d, stride in zip(image.shape[1:-1], window, dilation, strides, strict=True)
    ]
    pieces = []
    for offset in np.ndindex(*window):
        first = [o * d for o, d in zip(offset, dilation, strict=True)]
        last = [
            f + (count - 1) * stride + 1
            for f, count, stride in zip(first, counts, strides, strict=True)
        ]
        start, stop = [0, *first, 0], [image.shape[0], *last, image.shape[-1]]
        pieces.append(jax.lax.slice(image, start, stop, [1, *strides, 1]))
    patches = jnp.concatenate(pieces, axis=-1)
    # Positions in the order in which the output has them.
    dims = sorted(range(len(out) - 1), key=lambda i: [out[0], *out[2:]][i])
    return patches.transpose([*dims, patches.ndim - 1])


def multiply(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf times one number, or rows times a number each; the same of quotients."""
    first, second = values
    divide = eqn.primitive.name == "div"
    if not divide and isinstance(second, View | TableRows):
        first, second = second, first
    if isinstance(second, View | TableRows) or not isinstance(first, View | TableRows):
        return None
    narrow = second.narrow if isinstance(second, Spread) else None
    factor = walk.settle(second)
    value = bind(eqn, [first.value if v is first else factor for v in values])[0]
    if value.shape != first.value.shape:
        return None
    if isinstance(first, View):
        if np.size(factor) != 1:
            return None
        factor = jnp.reshape(jnp.asarray(factor), ())
        scale = jnp.asarray(first.scale, factor.dtype)
        scale = scale / factor if divide else scale * factor
        return [first._replace(value=value, scale=scale)]
    number = factor if narrow is None else narrow
    if np.shape(number) and np.shape(number)[-1] != 1:
        return None
    weights = first.weights
    number = jnp.broadcast_to(jnp.asarray(number), weights.shape)
    return [first._replace(value=value, weights=weights / number if divide else weights * number)]


def add(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf that is added to what a site wrote as its bias."""
    first, second = values
    if isinstance(second, Tapped):
        first, second = second, first
    if not (isinstance(first, Tapped) and isinstance(second, View)):
        return None
    site = walk.sites[first.site]
    shape = second.value.shape
    if second.axes is None or not isinstance(second.scale, float):
        return None
    if len(shape) != len(site.shape) or site.kind is Kind.LOOKUP:
        return None
    right = [second.axes[d] for d in site.right_dims if site.shape[d] > 1]
    others = [second.axes[d] for d in range(len(shape)) if d not in site.right_dims]
    own = [axis for axis in second.axes if axis is not None]
    sizes = all(shape[d] == site.shape[d] for d in site.right_dims)
    if not sizes or right != own or right != sorted(own) or any(a is not None for a in others):
        return None
    walk.sites[first.site] = site._replace(bias=second.leaf)
    walk.biases.setdefault(second.leaf, []).append(first.site)
    value = bind(eqn, [first.value if v is first else second.value for v in values])[0]
    return [Bent(value, first.site, True)]

"""Rules for what holds jaxprs of its own: loops and conditionals."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from kernlens.ntk.walk import views
from kernlens.ntk.walk.flow import CONSTANTS, Walk, bind, plain
from kernlens.ntk.walk.shapes import shape_of
from kernlens.ntk.walk.sites import Read, Site, WeightedIds
from kernlens.ntk.walk.views import Block, Loop, View
from kernlens.types import Array

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}
"""Primitives that only call a jaxpr, and the name under which they hold it."""


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def scan(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A loop whose body uses leaves, or slices of leaves that it scans over."""
    p = eqn.params
    length = p["length"]
    body, body_consts = opened(p["jaxpr"])
    # Which are constants, carried or scanned shows in the shapes; its parameters change with jax.
    num_xs = _fewer_axes(body.invars, eqn.invars)
    num_carry = len(body.outvars) - _fewer_axes(body.outvars, eqn.outvars)
    num_consts = len(values) - num_xs - num_carry
    carried = range(num_consts, num_consts + num_carry)
    # What a loop carries without a change is a constant of it.
    fixed = {
        *range(num_consts),
        *(i for i in carried if body.outvars[i - num_consts] is body.invars[i]),
    }
    seen: list[Any] = []
    for i, value in enumerate(values):
        if isinstance(value, View) and i in fixed:
            seen.append(value)
        elif isinstance(value, View) and i >= num_consts + num_carry:
            seen.append(
                View(None, tuple(_entered(b, walk.depth + 1) for b in value.blocks), value.mixed)
            )
        else:
            seen.append(None)
    if not any(isinstance(value, View) for value in seen):
        return None
    plains = [
        plain(v) if own is not None else walk.settle(v) for v, own in zip(values, seen, strict=True)
    ]
    moving = [i for i in range(len(values)) if i >= num_consts and i not in fixed]
    init = [plains[i] for i in moving if i in carried]
    xs = [plains[i] for i in moving if i not in carried]
    places = [i for i in moving if i in carried]
    inner: list[Walk] = []

    def step(taps: Sequence[Array] | None, carry: list[Array], x: list[Array]) -> Any:
        inner.append(walk.inner(taps, 1))
        new = dict(zip(moving, [*carry, *x], strict=True))
        args = []
        for i, own in enumerate(seen):
            value = new.get(i, plains[i])
            args.append(value if own is None else own if i in fixed else own._replace(value=value))
        outs = inner[-1].run(inner[-1], body, body_consts, args)
        kept = [outs[i - num_consts] for i in places]
        carry = [inner[-1].settle(out) for out in kept]
        ys = [
            _alone(inner[-1], out, body.outvars[k + num_carry], body, num_consts + num_carry)
            for k, out in enumerate(outs[num_carry:])
        ]
        return carry, (ys, [Read(read.left) for read in inner[-1].read if read is not None])

    slices = [jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for s in shape_of(xs)]
    jax.eval_shape(lambda c, x: step(None, c, x), shape_of(init), slices)
    found = inner[-1]
    first = len(walk.shapes)
    start = len(walk.sites)
    walk.opaque |= found.opaque
    for leaf, sites in found.biases.items():
        walk.biases.setdefault(leaf, []).extend(start + i for i in sites)
    taps = [walk.note((length, *shape.shape), shape.dtype, []) for shape in found.shapes]
    moved = [_left(site, length, found.depth) for site in found.sites]
    walk.sites += [site._replace(tap=site.tap + first) for site in moved]
    if walk.taps is None:
        walk.read.extend([None] * len(found.sites))
        outs = bind(eqn, plains)
    else:
        carry, (ys, read) = jax.lax.scan(
            lambda c, x: step(x[1], c, x[0]),
            init,
            (xs, taps),
            length=length,
            reverse=p["reverse"],
            unroll=p["unroll"],
        )
        for site, one in zip(found.sites, read, strict=True):
            walk.read.append(
                Read(jax.tree.map(lambda x, s=site: _stacked(s, x, found.depth), one.left))
            )
        new = dict(zip(places, carry, strict=True))
        outs = [new.get(i, plains[i]) for i in carried] + list(ys)
    # A leaf that comes out as it went in is itself.
    for k, var in enumerate(body.outvars):
        source = _source(var, body)
        if source is not None and isinstance(values[source], View) and seen[source] is not None:
            is_slice = source >= num_consts + num_carry
            if (k < num_carry and source == num_consts + k) or (k >= num_carry and is_slice):
                outs[k] = values[source]
    return outs


def _fewer_axes(inside: Sequence[Any], outside: Sequence[Any]) -> int:
    """Number of a loop body's variables that are slices of those outside."""
    return sum(len(a.aval.shape) != len(b.aval.shape) for a, b in zip(inside, outside, strict=True))


def _source(var: Any, body: Any) -> int | None:
    """The input that an output of a jaxpr is, if it is one."""
    if isinstance(var, Literal):
        return None
    return next((i for i, own in enumerate(body.invars) if own is var), None)


def _alone(walk: Walk, value: Any, var: Any, body: Any, first_slice: int) -> Any:
    """What a body gives out; a slice of a leaf that passes through it is no use of the leaf."""
    source = _source(var, body)
    if isinstance(value, View) and source is not None and source >= first_slice:
        return value.value
    return walk.settle(value)


def _entered(block: Block, depth: int) -> Block:
    loop = Loop(depth, block.axes[0], block.starts[0], block.sizes[0])
    return views.without(block, 0)._replace(loops=(*block.loops, loop))


def _loop_of(site: Site, depth: int) -> Loop | None:
    return next((loop for loop in site.loops if loop.depth == depth), None)


def _left(site: Site, length: int, depth: int) -> Site:
    """A site as it is seen from outside of a loop around it."""
    loop = _loop_of(site, depth)
    start, steps = (0, length) if loop is None else loop[2:]
    axis = None if loop is None else loop.axis
    along = axis is not None
    left, right, group = site.split
    return site._replace(
        split=(left, right, (axis, *group)) if along else site.split,
        groups=site.groups * steps if along else site.groups,
        positions=site.positions if along else site.positions * steps,
        shape=(length, *site.shape),
        group_dims=(*[0] * along, *(d + 1 for d in site.group_dims)),
        right_dims=tuple(d + 1 for d in site.right_dims),
        cuts=(
            *[(0, start, steps)] * (steps < length),
            *((d + 1, first, size) for d, first, size in site.cuts),
        ),
        loops=tuple(own for own in site.loops if own.depth != depth),
    )


def _stacked(site: Site, read: Array, depth: int) -> Array:
    """What a site read in all steps, ``[steps, groups, positions, width]``, as one read."""
    loop = _loop_of(site, depth)
    if loop is not None:
        read = read[loop.start : loop.start + loop.size]
    if loop is None or loop.axis is None:
        read = read.swapaxes(0, 1)
        return read.reshape(read.shape[0], -1, read.shape[-1])
    return read.reshape(-1, *read.shape[2:])


def switch(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A conditional whose branches use leaves: the sites of all, silent where not taken."""
    index, *operands = values
    branches = [opened(branch) for branch in eqn.params["branches"]]
    if isinstance(index, CONSTANTS):
        chosen = branches[min(max(int(index), 0), len(branches) - 1)]
        return walk.run(walk, *chosen, operands)
    if not any(isinstance(value, View) for value in operands):
        return None
    index = walk.settle(index)
    known = [value if isinstance(value, View) else walk.settle(value) for value in operands]
    outs: list[Any] = []
    for k, branch in enumerate(branches):
        taken = index == k
        # All branches are evaluated: a batch takes them all, and jax would copy each leaf for
        # each example to choose between its gradients.
        inner = walk.branch(taken)
        args = [v if isinstance(v, View) else _guarded(taken, v) for v in known]
        made = [inner.settle(out) for out in inner.run(inner, *branch, args)]
        first, start = len(walk.shapes), len(walk.sites)
        walk.opaque |= inner.opaque
        for leaf, sites in inner.biases.items():
            walk.biases.setdefault(leaf, []).extend(start + i for i in sites)
        walk.shapes += inner.shapes
        walk.sites += [site._replace(tap=site.tap + first) for site in inner.sites]
        walk.read += [None if read is None else Read(_silenced(taken, read)) for read in inner.read]
        outs = [jnp.where(taken, a, b) for a, b in zip(made, outs, strict=True)] if k else made
    return outs


def _guarded(taken: Array, value: Any) -> Any:
    """A value through which no gradient passes where a branch is not taken, not even a NaN."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        return value
    return jnp.where(taken, value, jax.lax.stop_gradient(value))


def _silenced(taken: Array, read: Read) -> Any:
    """What a site read, or zeros where its branch was not taken."""
    if isinstance(read.left, WeightedIds):
        weights = jnp.where(taken, read.left.weights, jnp.zeros_like(read.left.weights))
        return read.left._replace(weights=weights)
    return jnp.where(taken, read.left, jnp.zeros_like(read.left))

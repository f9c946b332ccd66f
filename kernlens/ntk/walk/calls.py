"""Rules for what holds jaxprs of its own: loops, conditionals, and derivatives by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from kernlens.ntk.walk import views
from kernlens.ntk.walk.flow import CONSTANTS, Walk, bind, plain
from kernlens.ntk.walk.products import Roles, product_sites
from kernlens.ntk.walk.shapes import shape_of
from kernlens.ntk.walk.sites import Read, Site
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
    for shape in found.shapes:
        walk.note((length, *shape.shape), shape.dtype, [])
    moved = [_left(site, length, found.depth) for site in found.sites]
    walk.sites += [site._replace(tap=site.tap + first) for site in moved]
    if walk.taps is None:
        walk.read.extend([None] * len(found.sites))
        outs = bind(eqn, plains)
    else:
        taps = list(walk.taps[first : first + len(found.shapes)])
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
    given = [value for value in known if not isinstance(value, View)]

    def run(branch: Any, taps: Sequence[Array] | None, given: Sequence[Array]) -> Any:
        inner = walk.inner(taps)
        rest = iter(given)
        args = [value if isinstance(value, View) else next(rest) for value in known]
        outs = [inner.settle(out) for out in inner.run(inner, *branch, args)]
        reads = [Read(read.left) for read in inner.read if read is not None]
        return outs, reads, inner

    found: list[Walk] = []

    def outline(branch: Any, given: Sequence[Array]) -> Any:
        outs, reads, inner = run(branch, None, given)
        found.append(inner)
        return outs, reads

    shapes = []
    for branch in branches:
        shapes.append(jax.eval_shape(lambda g, b=branch: outline(b, g), shape_of(given))[1])
    taps, first_of = [], []
    for inner in found:
        first, start = len(walk.shapes), len(walk.sites)
        first_of.append(len(taps))
        walk.opaque |= inner.opaque
        for leaf, sites in inner.biases.items():
            walk.biases.setdefault(leaf, []).extend(start + i for i in sites)
        for shape in inner.shapes:
            taps.append(walk.note(shape.shape, shape.dtype, []))
        walk.sites += [site._replace(tap=site.tap + first) for site in inner.sites]
    if walk.taps is None:
        walk.read.extend([None] * sum(len(inner.sites) for inner in found))
        return bind(eqn, [index, *map(plain, known)])

    def taken(k: int) -> Any:
        def branch(taps: list[Array], given: list[Array]) -> Any:
            own = taps[first_of[k] : first_of[k] + len(found[k].shapes)]
            outs, reads, _ = run(branches[k], own, given)
            silent = [jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), one) for one in shapes]
            return outs, [*silent[:k], reads, *silent[k + 1 :]]

        return branch

    outs, reads = jax.lax.switch(index, [taken(k) for k in range(len(branches))], taps, given)
    walk.read.extend(read for own in reads for read in own)
    return outs


class _Linear(NamedTuple):
    """A value that is linear in cotangents; ``source`` is the number of the one that it is."""

    value: Any
    source: int | None


class _Product(NamedTuple):
    """A product of a value that no cotangent enters with one that is linear in them.

    ``dims`` tells for each dimension where it comes from: ``("left", d)`` of the one, ``("right",
    d)`` of the other, or ``("both", d)``. Both factors have those first that both have, then those
    that are summed over, then their own.
    """

    value: Any
    left: Any
    right: Any
    dims: tuple[tuple[str, int], ...]


def custom(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A function with derivatives by hand whose cotangent of a leaf is a product, or its own."""
    views_at = [i for i, value in enumerate(values) if isinstance(value, View)]
    outs = [var.aval for var in eqn.outvars]
    if not views_at or not all(jnp.issubdtype(out.dtype, jnp.floating) for out in outs):
        return None
    ops = [plain(value) for value in values]
    floats = [i for i, op in enumerate(ops) if jnp.issubdtype(jnp.result_type(op), jnp.floating)]

    def pull(ops: Sequence[Array], cotangents: Sequence[Array]) -> Any:
        def call(*own: Array) -> Any:
            args = list(ops)
            for i, value in zip(floats, own, strict=True):
                args[i] = value
            return bind(eqn, args)

        return jax.vjp(call, *[ops[i] for i in floats])[1](list(cotangents))

    units = [jax.ShapeDtypeStruct(out.shape, out.dtype) for out in outs]
    closed = jax.make_jaxpr(pull)(shape_of(ops), units)

    def trace(ops: Sequence[Array], cotangents: Sequence[Array]) -> list[Any]:
        marked = [_Linear(ct, k) for k, ct in enumerate(cotangents)]
        return _trace(closed.jaxpr, closed.consts, [*ops, *marked])

    met = trace(ops, [jnp.zeros(out.shape, out.dtype) for out in outs])
    at = {i: met[floats.index(i)] for i in views_at if i in floats}
    passed = {i: own.source for i, own in at.items() if _is_passed(values[i], own, outs)}
    taps: dict[int, Any] = {}
    for i in views_at:
        own = at.get(i)
        if i in passed:
            continue
        found = _product_of(values[i], own) if isinstance(own, _Product) else None
        if found is None:
            walk.settle(values[i])
            continue
        taps[i] = walk.note(own.right.shape, own.right.dtype, found)
    plains = [op if i in views_at else walk.settle(values[i]) for i, op in enumerate(ops)]
    if walk.taps is None or not taps:
        results = bind(eqn, plains)
    else:
        results = _call(lambda args: bind(eqn, args), trace, floats, taps)(
            plains, list(taps.values())
        )
    for k in set(passed.values()):
        blocks = [b for i, source in passed.items() if source == k for b in values[i].blocks]
        results[k] = View(results[k], tuple(blocks), len(values) > 1)
    return results


def _is_passed(view: View, own: Any, outs: Sequence[Any]) -> bool:
    if not isinstance(own, _Linear) or own.source is None:
        return False
    return outs[own.source].shape == view.value.shape


def _product_of(view: View, product: _Product) -> list[tuple[Site, Read]] | None:
    shared = sum(kind == "both" for kind, _ in product.dims)
    roles = Roles(
        tuple((d, place) for d, (kind, place) in enumerate(product.dims) if kind == "left"),
        tuple((d, place) for d, (kind, place) in enumerate(product.dims) if kind == "right"),
        tuple((d, place, place) for d, (kind, place) in enumerate(product.dims) if kind == "both"),
    )
    if shared + len(roles.contract) + len(roles.free) != view.value.ndim:
        return None
    return product_sites(view, roles, product.left, product.right.shape, product.right.dtype)


def _call(bound: Any, trace: Any, floats: Sequence[int], taps: dict[int, Any]) -> Any:
    """The function with taps whose cotangents are the right factors of its products."""

    @jax.custom_vjp
    def call(ops: list[Array], taps: list[Array]) -> list[Array]:
        return bound(ops)

    def forward(ops: list[Array], taps: list[Array]) -> Any:
        return bound(ops), ops

    def backward(ops: list[Array], cotangents: list[Array]) -> Any:
        traced = trace(ops, cotangents)
        rights = [traced[floats.index(i)].right for i in taps]
        found = dict(zip(floats, (_flat(own) for own in traced), strict=True))
        own = [
            found[i] if i in found else np.zeros(jnp.shape(op), jax.dtypes.float0)
            for i, op in enumerate(ops)
        ]
        return own, rights

    call.defvjp(forward, backward)
    return call


def _flat(value: Any) -> Any:
    return value.value if isinstance(value, _Linear | _Product) else value


def _trace(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr, and notes which values are products with cotangents."""
    env: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True)
    )

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else env[var]

    for eqn in jaxpr.eqns:
        values = [read(var) for var in eqn.invars]
        inner = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
        if inner is not None:
            outs = _trace(*opened(inner), values)
        elif any(isinstance(value, _Linear | _Product) for value in values):
            flat = bind(eqn, [_flat(value) for value in values])
            outs = [_linear_rule(eqn, values, flat[0])] if len(flat) == 1 else flat
            outs = [
                out if isinstance(out, _Linear | _Product) else _Linear(out, None) for out in outs
            ]
        else:
            outs = bind(eqn, values)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _linear_rule(eqn: Any, values: Sequence[Any], out: Any) -> Any:
    """What is known of a function of values of which some are linear in cotangents."""
    name = eqn.primitive.name
    moving = [value for value in values if isinstance(value, _Linear | _Product)]
    (first, *more) = moving
    if more:
        return out
    others = [value for value in values if value is not first]
    if name in ("convert_element_type", "copy", "mul", "div", "neg") and isinstance(
        first, _Product
    ):
        if name == "div" and values[0] is not first:
            return out
        factors = [jnp.asarray(other, first.left.dtype) for other in others]
        if any(jnp.size(factor) != 1 for factor in factors):
            return out
        left = -first.left if name == "neg" else first.left
        for factor in factors:
            number = jnp.reshape(factor, ())
            left = left / number if name == "div" else left * number
        return first._replace(value=out, left=left)
    if name in ("convert_element_type", "copy"):
        return _Linear(out, first.source)
    if name == "transpose" and isinstance(first, _Product):
        return first._replace(
            value=out, dims=tuple(first.dims[d] for d in eqn.params["permutation"])
        )
    if name == "dot_general":
        return _dot(eqn, values, out)
    if name == "reduce_sum" and isinstance(first, _Linear):
        axes = sorted(eqn.params["axes"])
        rest = [d for d in range(first.value.ndim) if d not in axes]
        right = first.value.transpose([*axes, *rest])
        left = jnp.ones(right.shape[: len(axes)], right.dtype)
        dims = tuple(("right", len(axes) + i) for i in range(len(rest)))
        return _Product(out, left, right, dims)
    return out


def _dot(eqn: Any, values: Sequence[Any], out: Any) -> Any:
    contracts, batches = eqn.params["dimension_numbers"]
    moving = 0 if isinstance(values[0], _Linear | _Product) else 1
    factors, own = [], []
    for i, value in enumerate(values):
        flat = jnp.asarray(_flat(value))
        rest = [d for d in range(flat.ndim) if d not in (*contracts[i], *batches[i])]
        factors.append(flat.transpose([*batches[i], *contracts[i], *rest]))
        own.append(len(rest))
    shared, before = len(batches[0]), len(batches[0]) + len(contracts[0])
    dims = [("both", i) for i in range(shared)]
    for i in range(2):
        dims += [("right" if i == moving else "left", before + k) for k in range(own[i])]
    return _Product(out, factors[1 - moving], factors[moving], tuple(dims))

"""The walk over a jaxpr, equation by equation."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from kernlens.ntk.walk import lookups, products, shapes
from kernlens.ntk.walk.flow import (
    CONSTANTS,
    OUTPUT,
    Bent,
    Spread,
    TableRows,
    Tapped,
    View,
    Walk,
    bind,
    plain,
    settle_rows,
)
from kernlens.ntk.walk.sites import Kind, Read, Sites
from kernlens.types import Array


def find(closed: ClosedJaxpr, num_leaves: int, tracked: frozenset[int]) -> Sites:
    """Finds the sites of some leaves, without computing anything.

    Args:
      closed: a function of one example, ``(*leaves, *x) -> outputs``.
      num_leaves: how many of its arguments are parameter leaves.
      tracked: leaves to look for.

    Returns:
      Sites of leaves that have no other use; the rest of ``tracked`` is opaque.
    """
    found: list[Walk] = []

    def run(*args: Array) -> list[Array]:
        found.append(Walk(None))
        return _run(found[-1], closed, num_leaves, tracked, args)

    avals = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals]
    jax.eval_shape(run, *avals)
    walk = found[-1]
    biases = {leaf: tuple(sites) for leaf, sites in walk.biases.items()}
    exits = {site: out[0] for site, out in walk.exits.items() if len(out) == 1}
    last = {site for site, out in exits.items() if out == OUTPUT}
    before = {site: out for site, out in exits.items() if out in last and out is not None}
    return Sites(tuple(walk.sites), frozenset(walk.opaque), biases, frozenset(last), before)


def evaluate(
    closed: ClosedJaxpr,
    num_leaves: int,
    tracked: frozenset[int],
    taps: Sequence[Array],
    args: Sequence[Array],
) -> tuple[list[Array], list[Read]]:
    """Evaluates the function with a tap added to what each site wrote.

    Args:
      closed: a function of one example, ``(*leaves, *x) -> outputs``.
      num_leaves: how many of its arguments are parameter leaves.
      tracked: leaves whose sites are tapped, none of them opaque.
      taps: one array for each site that :func:`find` found for ``tracked``.
      args: the function's arguments.

    Returns:
      Its outputs, and what each site read.
    """
    walk = Walk(taps)
    outputs = _run(walk, closed, num_leaves, tracked, args)
    return outputs, [read for read in walk.read if read is not None]


def _run(
    walk: Walk,
    closed: ClosedJaxpr,
    num_leaves: int,
    tracked: frozenset[int],
    args: Sequence[Array],
) -> list[Array]:
    values = [
        View(i, arg, tuple(_axis(i, s) for i, s in enumerate(arg.shape)), (), 1.0)
        if i < num_leaves and i in tracked
        else arg
        for i, arg in enumerate(args)
    ]
    return [_emit(walk, out) for out in _walk(walk, closed.jaxpr, closed.consts, values)]


def _emit(walk: Walk, value: Any) -> Any:
    same = isinstance(value, Tapped) or (isinstance(value, Bent) and value.same)
    if not same or walk.sites[value.site].kind is not Kind.MATMUL:
        return walk.settle(value)
    site = walk.sites[value.site]
    ordered = site.positions == 1 and list(site.right_dims) == sorted(site.right_dims)
    walk.exits.setdefault(value.site, []).append(OUTPUT if ordered else None)
    return value.value


def _axis(axis: int, size: int) -> int | None:
    return axis if size > 1 else None


def _walk(walk: Walk, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    names = [*jaxpr.constvars, *jaxpr.invars]
    env: dict[Any, Any] = dict(zip(names, [*consts, *args], strict=True))
    readers = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    readers.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def read(var: Any) -> Any:
        if isinstance(var, Literal):
            return var.val
        value = env[var]
        if isinstance(value, TableRows) and readers[var] > 1:
            value = settle_rows(walk, value)
        if isinstance(value, Tapped) and readers[var] > 1:
            # Two readers: a bias that one of them adds has not the cotangent of both.
            value = Bent(value.value, value.site, True)
        env[var] = value
        return value

    for eqn in jaxpr.eqns:
        values = [read(var) for var in eqn.invars]
        outs = _apply(walk, eqn, values)
        for var, out in zip(eqn.outvars, outs, strict=True):
            env[var] = out
    return [read(var) for var in jaxpr.outvars]


def _apply(walk: Walk, eqn: Any, values: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    inner = eqn.params.get(CALLS.get(name, ""))
    if inner is not None:
        if isinstance(inner, ClosedJaxpr):
            return _walk(walk, inner.jaxpr, inner.consts, values)
        return _walk(walk, inner, (), values)
    if any(isinstance(value, View | Tapped | Bent | TableRows) for value in values) or (
        name == SPREAD
    ):
        rule = RULES.get(name)
        out = None if rule is None else rule(walk, eqn, values)
        out = _bend(eqn, values) if out is None else out
        if out is not None:
            return out
    return bind(eqn, [walk.settle(value) for value in values])


def _bend(eqn: Any, values: list[Any]) -> list[Any] | None:
    """Elementwise functions of what one site wrote, and of constants."""
    bent = [value for value in values if isinstance(value, Tapped | Bent)]
    if not bent or len({value.site for value in bent}) != 1 or len(eqn.outvars) != 1:
        return None
    shape = jnp.shape(bent[0].value)
    if eqn.outvars[0].aval.shape != shape or not _is_elementwise(eqn):
        return None
    for value in values:
        own = isinstance(value, Tapped | Bent) and jnp.shape(value.value) == shape
        spread = isinstance(value, Spread) and isinstance(value.narrow, CONSTANTS)
        if not (own or spread or (isinstance(value, CONSTANTS) and np.ndim(value) == 0)):
            return None
    out = bind(eqn, [plain(value) for value in values])[0]
    return [Bent(out, bent[0].site, False)]


def _is_elementwise(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name in ELEMENTWISE:
        return True
    inner = eqn.params.get("jaxpr" if name in CALLS else "call_jaxpr")
    if name not in CALLS and name != "custom_jvp_call":
        return False
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    shape = eqn.outvars[0].aval.shape
    return jaxpr is not None and all(
        _is_elementwise(own) and own.outvars[0].aval.shape in ((), shape) for own in jaxpr.eqns
    )


# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "asin", "asinh", "atan", "atanh", "ceil", "clamp", "convert_element_type",
    "copy", "cos", "cosh", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
    "integer_pow", "log", "log1p", "logistic", "max", "min", "mul", "neg", "pow", "round",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "ge",
    "gt", "le", "lt", "eq", "ne", "and", "or", "not", "broadcast_in_dim", "stop_gradient",
))
# fmt: on
"""Primitives that treat each entry alone (a broadcast, of a number to the shape of the whole)."""


CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
"""Primitives that only call a jaxpr, and the name under which they hold it."""


def _scan(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    p = eqn.params
    length, inner_jaxpr = p["length"], p["jaxpr"]
    closed = isinstance(inner_jaxpr, ClosedJaxpr)
    body, body_consts = (inner_jaxpr.jaxpr, inner_jaxpr.consts) if closed else (inner_jaxpr, ())
    # Which are constants, carried or scanned shows in the shapes; its parameters change with jax.
    num_xs = _fewer_axes(body.invars, eqn.invars)
    num_carry = len(body.outvars) - _fewer_axes(body.outvars, eqn.outvars)
    num_consts = len(values) - num_xs - num_carry
    consts = [v if isinstance(v, View) else walk.settle(v) for v in values[:num_consts]]
    if not any(isinstance(v, View) for v in consts):
        return None
    rest = [walk.settle(v) for v in values[num_consts:]]
    init, xs = rest[:num_carry], rest[num_carry:]
    inner: list[Walk] = []

    def step(taps: Sequence[Array] | None, carry: list[Array], x: list[Array]) -> Any:
        inner.append(Walk(taps))
        outs = _walk(inner[-1], body, body_consts, [*consts, *carry, *x])
        outs = [inner[-1].settle(out) for out in outs]
        return outs[:num_carry], (outs[num_carry:], inner[-1].read)

    slices = [jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.asarray(x).dtype) for x in xs]
    starts = [jax.ShapeDtypeStruct(jnp.shape(c), jnp.asarray(c).dtype) for c in init]
    jax.eval_shape(lambda c, x: step(None, c, x)[0], starts, slices)
    found = inner[-1]
    start = len(walk.sites)
    for site in found.sites:
        dims = tuple(d + 1 for d in site.right_dims)
        positions = length * site.positions
        walk.sites.append(
            site._replace(positions=positions, shape=(length, *site.shape), right_dims=dims)
        )
    walk.opaque |= found.opaque
    for leaf, sites in found.biases.items():
        walk.biases.setdefault(leaf, []).extend(start + i for i in sites)
    if walk.taps is None:
        walk.read.extend([None] * len(found.sites))
        return bind(eqn, [*(plain(c) for c in consts), *rest])
    taps = list(walk.taps[start : start + len(found.sites)])
    carry, (ys, read) = jax.lax.scan(
        lambda c, x: step(x[1], c, x[0]),
        init,
        (xs, taps),
        length=length,
        reverse=p["reverse"],
        unroll=p["unroll"],
    )
    for one in read:
        left = jax.tree.map(lambda r: r.reshape(-1, r.shape[-1]), one.left)
        walk.read.append(Read(left))
    return [*carry, *ys]


def _fewer_axes(inside: Sequence[Any], outside: Sequence[Any]) -> int:
    """Number of a loop body's variables that are slices of those outside."""
    return sum(len(a.aval.shape) != len(b.aval.shape) for a, b in zip(inside, outside, strict=True))


SPREAD = "broadcast_in_dim"
"""The primitive whose rule also sees plain values."""

RULES: dict[str, Callable[[Walk, Any, list[Any]], list[Any] | None]] = {
    "transpose": shapes.transpose,
    "reshape": shapes.reshape,
    "squeeze": shapes.reshape,
    "expand_dims": shapes.reshape,
    SPREAD: shapes.broadcast,
    "convert_element_type": shapes.cast,
    "copy": shapes.cast,
    "stop_gradient": shapes.stop,
    "mul": products.multiply,
    "div": products.multiply,
    "dot_general": products.matmul,
    "conv_general_dilated": products.convolve,
    "gather": lookups.gather,
    "add": products.add,
    "add_any": products.add,
    "select_n": lookups.select,
    "reduce_sum": lookups.sum_rows,
    "scan": _scan,
}
"""How views, taps and rows pass through each primitive; None means: settle them first."""

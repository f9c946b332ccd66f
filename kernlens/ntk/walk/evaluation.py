"""The walk over a jaxpr, equation by equation."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from kernlens.ntk.walk import calls, convolutions, custom, lookups, products, shapes
from kernlens.ntk.walk.calls import CALLS, opened
from kernlens.ntk.walk.flow import (
    OUTPUT,
    Bent,
    Stopped,
    TableRows,
    Tapped,
    Walk,
    bind,
    dims_of,
    plain,
    settle_rows,
)
from kernlens.ntk.walk.shapes import fold, pool_dims
from kernlens.ntk.walk.sites import Kind, Read, Sites
from kernlens.ntk.walk.views import View, leaf_view
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
        found.append(Walk(None, _walk, 0))
        return _run(found[-1], closed, num_leaves, tracked, args)

    avals = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals]
    jax.eval_shape(run, *avals)
    walk = found[-1]
    biases = {leaf: tuple(sites) for leaf, sites in walk.biases.items()}
    exits = {tap: out[0] for tap, out in walk.exits.items() if len(out) == 1}
    alone = {tap: own[0] for tap in exits if len(own := walk.sites_of(tap)) == 1}
    last = {tap for tap, out in exits.items() if out == OUTPUT}
    before = {
        alone[tap]: alone[out]
        for tap, out in exits.items()
        if out in last and out is not None and walk.only_site(tap) is not None
    }
    return Sites(
        tuple(walk.sites),
        tuple(walk.shapes),
        frozenset(walk.opaque),
        biases,
        frozenset(alone[tap] for tap in last),
        before,
    )


def evaluate(
    closed: ClosedJaxpr,
    num_leaves: int,
    tracked: frozenset[int],
    taps: Sequence[Array],
    args: Sequence[Array],
) -> tuple[list[Array], list[Read]]:
    """Evaluates the function with a tap added to what sites wrote.

    Args:
      closed: a function of one example, ``(*leaves, *x) -> outputs``.
      num_leaves: how many of its arguments are parameter leaves.
      tracked: leaves whose sites are tapped, none of them opaque.
      taps: one array for each tap that :func:`find` found for ``tracked``.
      args: the function's arguments.

    Returns:
      Its outputs, and what each site read.
    """
    walk = Walk(taps, _walk, 0)
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
        leaf_view(i, arg) if i < num_leaves and i in tracked else arg for i, arg in enumerate(args)
    ]
    return [_emit(walk, out) for out in _walk(walk, closed.jaxpr, closed.consts, values)]


def _emit(walk: Walk, value: Any) -> Any:
    same = isinstance(value, Tapped) or (isinstance(value, Bent) and value.same)
    site = walk.only_site(value.tap) if same else None
    if site is None or site.kind is not Kind.MATMUL:
        return walk.settle(value)
    ordered = site.positions == 1 and list(site.right_dims) == sorted(site.right_dims)
    walk.exits.setdefault(value.tap, []).append(OUTPUT if ordered else None)
    return value.value


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
            value = Bent(value.value, value.tap, True, dims_of(value))
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
        return _walk(walk, *opened(inner), values)
    known = fold(eqn, values)
    if known is not None:
        return [known]
    if any(isinstance(value, View | Tapped | Bent | TableRows) for value in values) or (
        name in UNASKED
    ):
        rule = RULES.get(name)
        out = None if rule is None else rule(walk, eqn, values)
        out = _bend(eqn, values) if out is None else out
        if out is not None:
            return out
    return bind(eqn, [walk.settle(value) for value in values])


def _bend(eqn: Any, values: list[Any]) -> list[Any] | None:
    """Elementwise functions of what one site wrote, and of other values, and their pools."""
    bent = [value for value in values if isinstance(value, Tapped | Bent)]
    if not bent or len({value.tap for value in bent}) != 1 or len(eqn.outvars) != 1:
        return None
    dims = dims_of(bent[0])
    pooled = pool_dims(eqn, dims)
    if pooled is not None:
        return [Bent(bind(eqn, [bent[0].value])[0], bent[0].tap, False, pooled)]
    shape = jnp.shape(bent[0].value)
    if any(dims_of(value) != dims for value in bent):
        return None
    if eqn.outvars[0].aval.shape != shape or not _is_elementwise(eqn):
        return None
    for value in values:
        # Other values may be anything: one that depends on this tap has read it, another exit.
        if isinstance(value, View | TableRows | Stopped):
            return None
        if jnp.shape(plain(value)) not in ((), shape):
            return None
    out = bind(eqn, [plain(value) for value in values])[0]
    return [Bent(out, bent[0].tap, False, dims)]


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


UNASKED = frozenset(("broadcast_in_dim", "cond"))
"""Primitives whose rules also see plain values."""

RULES: dict[str, Callable[[Walk, Any, list[Any]], list[Any] | None]] = {
    "transpose": shapes.transpose,
    "reshape": shapes.reshape,
    "squeeze": shapes.reshape,
    "expand_dims": shapes.reshape,
    "broadcast_in_dim": shapes.broadcast,
    "convert_element_type": shapes.cast,
    "copy": shapes.cast,
    "sharding_constraint": shapes.cast,
    "optimization_barrier": shapes.same,
    "stop_gradient": shapes.stop,
    "slice": shapes.take,
    "dynamic_slice": shapes.take_from,
    "split": shapes.split,
    "concatenate": shapes.concatenate,
    "stack": shapes.stack,
    "pad": shapes.pad,
    "mul": products.multiply,
    "div": products.multiply,
    "neg": products.negate,
    "dot_general": products.matmul,
    "conv_general_dilated": convolutions.convolve,
    "gather": lookups.gather,
    "add": products.add,
    "add_any": products.add,
    "sub": products.add,
    "select_n": lookups.select,
    "reduce_sum": lookups.sum_rows,
    "scan": calls.scan,
    "cond": calls.switch,
    "custom_vjp_call": custom.custom,
    "custom_vjp_call_jaxpr": custom.custom,
    "custom_jvp_call": custom.custom,
}
"""How views, taps and rows pass through each primitive; None means: settle them first."""

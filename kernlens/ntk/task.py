"""A kernel to be computed: all that its functions and shapes decide."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from kernlens.ntk import blocks, jaxprs, models, structured
from kernlens.ntk.axes import output_axes
from kernlens.ntk.methods import Method
from kernlens.ntk.models import PathFilter
from kernlens.ntk.precision import wide_dtype
from kernlens.types import Array, Params

Bound = Callable[..., Any]
"""``f(params, x, arrays=arrays)``, with the rest of its keyword arguments bound."""


class Settings(NamedTuple):
    """What a user set of a kernel, as :func:`kernlens.ntk.empirical_ntk_fn` takes it."""

    trace_axes: tuple[int, ...]
    diagonal_axes: tuple[int, ...]
    method: Method
    params_filter: PathFilter | None
    block_size: int | Literal["auto"]


class Call(NamedTuple):
    """What a kernel is called with; None for the second model or rows stands for the first.

    ``arrays`` are those of the keyword arguments, which both functions are given.
    """

    params1: Params
    params2: Params
    x1: Any
    x2: Any
    arrays: list[Array]


class Task(NamedTuple):
    """A kernel with all that its shapes decide."""

    closed: tuple[ClosedJaxpr, ClosedJaxpr]
    order: tuple[list[int], list[int]]
    paths: list[tuple[str, ...]]
    selected: list[int]
    axes: structured.OutputAxes
    batch: Literal["pairs", "diagonal", "mean"]
    plan: structured.Plan
    method: Method
    operations: dict[Method, float]
    block_size: int


def task_of(settings: Settings, f1: Bound, f2: Bound | None, call: Call) -> Task:
    """Everything about a kernel that its shapes decide."""
    params1, params2, x1, x2, arrays = call
    first = models.flatten(params1)
    second = first if params2 is None else models.flatten(params2)
    kept = models.select(first, settings.params_filter)
    order, shared = models.meet(first, second)
    x = x1 if x2 is None else x2
    functions = [partial(f, arrays=arrays) for f in (f1, f1 if f2 is None else f2)]
    closed1 = models.trace(functions[0], first, x1, order[0])
    same = f2 is None and models.alike((first.leaves, x1), (second.leaves, x))
    closed2 = closed1 if same else models.trace(functions[1], second, x, order[1])
    selected = frozenset(i for i, leaf in enumerate(order[0][:shared]) if leaf in kept)
    if not selected:
        raise ValueError("the two models have none of the selected parameters in common")
    shapes = (tuple(closed.out_avals[0].shape) for closed in (closed1, closed2))
    axes, batch = output_axes(settings.trace_axes, settings.diagonal_axes, *shapes)
    closed = (closed1, closed2)
    counts = [len(first.leaves), len(second.leaves)]
    given = list(zip(closed, counts, strict=True))
    sides, used = structured.sides(
        given[:1] if same else given, selected, settings.method is not Method.JACOBIAN
    )
    if not used:
        raise ValueError(
            "f does not depend on the selected parameters, or only through operations without a "
            "gradient (rounding, arg-max, integers, stop_gradient)"
        )
    both = (sides[0], sides[-1])
    sizes = {i: int(jnp.size(first.leaves[order[0][i]])) for i in sorted(used)}
    itemsize = wide_dtype(closed1.out_avals[0].dtype).itemsize
    alone = f2 is None and params2 is None
    plan = structured.plan(both, axes, sizes, itemsize, same_params=alone)
    outputs = prod(axes.shape)
    operations = {
        Method.STRUCTURED: plan.operations,
        Method.JACOBIAN: sum(sizes.values()) * outputs * axes.size(axes.full),
        Method.VECTOR_PRODUCTS: 2.0 * outputs * jaxprs.operations(closed1),
    }
    if settings.method is Method.JACOBIAN:
        operations[Method.JACOBIAN] = operations.pop(Method.STRUCTURED)
    method = settings.method
    obstacle = _obstacle(closed)
    if method is Method.VECTOR_PRODUCTS and obstacle is not None:
        raise ValueError(f"{obstacle}; use method='auto'")
    if method is Method.AUTO:
        products = operations[Method.VECTOR_PRODUCTS] < operations[Method.STRUCTURED]
        jacobians = not any(share.parts[0] for share in plan.shares)
        allowed = batch == "pairs" and obstacle is None and jacobians
        method = Method.VECTOR_PRODUCTS if products and allowed else Method.STRUCTURED
    n = jax.tree.leaves(x1)[0].shape[0]
    block = settings.block_size
    if block == "auto":
        block = blocks.block_rows(plan, n, itemsize)
    paths = [first.paths[i] for i in order[0]]
    return Task(closed, order, paths, sorted(used), axes, batch, plan, method, operations, block)


def _obstacle(closed: tuple[ClosedJaxpr, ClosedJaxpr]) -> str | None:
    """Why a kernel cannot come from vector products."""
    if any(jaxprs.has_custom_vjp(one) for one in closed):
        return "vector products need forward-mode derivatives, and f holds a custom_vjp function"
    if any(jaxprs.is_rounded(one) for one in closed):
        return (
            "vector products are contracted in the arithmetic of f, and f has numbers narrower "
            "than float32"
        )
    return None

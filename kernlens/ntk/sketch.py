r"""Features of a tangent kernel: random projections of per-example gradients.

With :math:`J_t(x)` the gradient of output :math:`t` of ``T`` traced ones, feature ``k`` is

.. math:: \Phi_k(x) = \frac{1}{\sqrt{pT}} \sum_{t=1}^{T} \langle J_t(x), R_{tk}\rangle, \qquad
    \mathbb{E}[R_{tk} \otimes R_{t'k}] = \delta_{tt'} I,

so that :math:`\langle\Phi(x), \Phi(x')\rangle` is the traced kernel in the mean. All random numbers
are signs, drawn from the key and an index as they are needed: the projection is never held whole,
and a row's features do not depend on the rows beside it.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.tree_util import Partial

from kernlens.ntk import checks, jaxprs, memory, models, projections, structured, trials, walk
from kernlens.ntk.axes import Axes
from kernlens.ntk.methods import Method
from kernlens.ntk.models import PathFilter
from kernlens.ntk.precision import wide_dtype
from kernlens.types import ApplyFn, Array, Params

MethodName: TypeAlias = Literal["auto", "structured", "vector_products"] | Method
"""A :class:`Method` that gives features, or its name."""

METHODS = {m.value: m for m in (Method.AUTO, Method.STRUCTURED, Method.VECTOR_PRODUCTS)}
"""Ways to project a gradient, by name."""

MAX_BLOCK_ROWS = 1024
"""Rows of a block: random numbers are drawn anew for each, and cost little beside that many."""


class KernelEstimate(NamedTuple):
    """A kernel value from features, and how far it may be off.

    Attributes:
      value: the unbiased estimate.
      standard_error: that of ``value`` over keys, itself estimated from the features.
    """

    value: Array
    standard_error: Array


class _Settings(NamedTuple):
    num_features: int
    trace_axes: tuple[int, ...]
    params_filter: PathFilter | None
    method: Method
    block_size: int | Literal["auto"]


def features(
    key: Array,
    f: ApplyFn,
    params: Params,
    num_features: int,
    *,
    trace_axes: Axes = (-1,),
    params_filter: PathFilter | None = None,
    method: MethodName = "auto",
    block_size: int | Literal["auto"] = "auto",
) -> Callable[[Any], Array]:
    r"""Features whose inner products estimate the empirical tangent kernel, without bias.

    Two ways give them, by different random numbers. ``VECTOR_PRODUCTS`` takes one Jacobian-vector
    product a feature, :math:`R_{tk} = s_{tk} v_k`: signs over outputs times signs over parameters,
    as one product gives the derivatives of all outputs. (To keep these as ``T`` features would be
    cheaper, but features that share a direction are not independent, and the error is known from
    their independence.) ``STRUCTURED`` takes a leaf's layer inputs and output
    cotangents (:mod:`kernlens.ntk.structured`) and projects either,

    .. math:: \langle J_t(x), R_{tk}\rangle
        = \sum_{\text{leaves}} \sum_q \langle a_q, u_k\rangle \langle \delta_{tq}, w_{tk}\rangle,

    the sign of a table's row drawn from its id; a leaf that enters otherwise is projected whole.

    The standard error of an entry is at most :math:`3\sqrt{K_{ii} K_{jj} / p}`, with
    :math:`\sqrt3` for 3 by vector products of a single output; :func:`estimate` tells what it is.

    Args:
      key: a PRNG key. Equal keys give equal projections: by one method, fewer features are the
        first of more up to scale, those of disjoint sets of layers add up to those of all, and
        those of two sets of parameters have the kernel between the two models as inner product.
      f: ``f(params, x) -> outputs``, a batch axis first on every leaf of ``x`` and on the output.
      params: parameters, any pytree.
      num_features: ``p``, at least 1.
      trace_axes: output axes to sum over; the kernel is divided by their size. Axes that are not
        traced stay, as in the kernel.
      params_filter: ``params_filter(path) -> bool``: the leaves that the kernel is about, by the
        tuple of keys that lead to each; all by default.
      method: one of :data:`METHODS`; "auto" takes the one of fewer operations by the shapes.
      block_size: rows at a time; "auto" from the bytes of their factors.

    Returns:
      A map from rows, any pytree of ``[n, ...]``, to features ``[n, *untraced, p]``. It is a
      pytree of the key and the parameters.

    Raises:
      ValueError: an unknown method, ``num_features`` or ``block_size`` below 1, a filter that
        keeps nothing, parameters that are not finite; and, when the map is called: an empty or
        ragged batch, a function that couples its batch, has no gradient or no floating-point
        output, features that would not fit in memory.

    References:
      Achlioptas (2003), section 2, for projections by signs; Kar and Karnick (2012), section 4,
      for products of them.
    """
    if num_features < 1:
        raise ValueError(f"num_features must be at least 1; got {num_features}")
    if block_size != "auto" and block_size < 1:
        raise ValueError(f"block_size must be at least 1, or 'auto'; got {block_size}")
    settings = _Settings(
        num_features,
        (trace_axes,) if isinstance(trace_axes, int) else tuple(trace_axes),
        params_filter,
        _method(method),
        block_size,
    )
    checks.check_callable(f, "f")
    checks.check_params(params)
    models.select(models.flatten(params), params_filter)
    checks.warn_of_statistics(params, params_filter)
    run = jax.jit(partial(_run, settings, f))
    separate = False

    def apply(key: Array, params: Params, x: Any) -> Array:
        nonlocal separate
        checks.check_inputs(x, "x")
        n, closed = _check(settings, f, params, x)
        if not separate and n > 1 and models.concrete((params, x)):
            trials.check_function(f, closed, params, x, "x")
            separate = True
        return run(key, params, x)

    return Partial(apply, key, params)


@jax.jit
def estimate(features1: Array, features2: Array) -> KernelEstimate:
    r"""Kernel values from features, each with its standard error.

    The features of a sketch are independent, so :math:`p\,\Phi_k(x)\Phi_k(x')` are ``p``
    independent unbiased estimates of :math:`K(x, x')`: their mean is the inner product, and their
    spread over :math:`\sqrt p` is its standard error.

    Args:
      features1: ``[..., p]``, of one :func:`features` map; ``p`` at least 2.
      features2: ``[..., p]``, of the same map, row for row, or to be broadcast: ``phi1[:, None]``
        and ``phi2[None]`` for all pairs.

    Returns:
      Values and standard errors, of the broadcast shape without ``p``.

    Raises:
      ValueError: fewer than two features, or unequal numbers of them.

    Examples:
      >>> rows, slope = jnp.array([[3.0, 4.0], [0.0, 2.0]]), jnp.ones((2, 1))
      >>> phi = features(jax.random.key(0), lambda w, x: x @ w, slope, 400)(rows)
      >>> found = estimate(phi[0], phi[1])  # of 8, the inner product of the rows
      >>> bool(abs(found.value - 8.0) < 4 * found.standard_error)
      True
    """
    p = features1.shape[-1]
    if p < 2 or features2.shape[-1] != p:
        raise ValueError(
            "an error needs the same two or more features on both sides; "
            f"got {p} and {features2.shape[-1]}"
        )
    products = p * features1 * features2
    value = jnp.mean(products, axis=-1)
    spread = jnp.std(products, axis=-1, ddof=1)
    return KernelEstimate(value, spread / p**0.5)


def _method(method: MethodName) -> Method:
    chosen = METHODS.get(method.value if isinstance(method, Method) else method)
    if chosen is None:
        names = ", ".join(repr(name) for name in METHODS)
        raise ValueError(f"unknown method {method!r}; expected one of {names}")
    return chosen


def _check(settings: _Settings, f: ApplyFn, params: Params, x: Any) -> tuple[int, ClosedJaxpr]:
    """Number of rows and jaxpr of the outputs, where all is well that shapes can tell."""
    n = checks.count(x, "x")
    closed, out = checks.outline(f, params, x, "x")
    axes = _axes(settings.trace_axes, checks.check_output(out, n, "x"))
    itemsize = wide_dtype(out.dtype).itemsize
    shape = (n, axes.size(axes.full), settings.num_features)
    memory.check_fits("the feature array", shape, itemsize, "pass the rows in batches")
    return n, closed


def _axes(trace_axes: tuple[int, ...], shape: tuple[int, ...]) -> structured.OutputAxes:
    ndim = len(shape) + 1
    for axis in trace_axes:
        if not -ndim <= axis < ndim or axis % ndim == 0:
            raise ValueError(
                f"axis {axis} is not an output axis of outputs of shape {('n', *shape)}, of which "
                "the first is the batch; for one number an example pass trace_axes=()"
            )
    traced = tuple(sorted({axis % ndim - 1 for axis in trace_axes}))
    full = tuple(axis for axis in range(len(shape)) if axis not in traced)
    return structured.OutputAxes(shape, traced, (), full)


def _task(settings: _Settings, f: ApplyFn, params: Params, x: Any) -> projections.Task:
    flat = models.flatten(params)
    selected = frozenset(models.select(flat, settings.params_filter))
    closed = models.trace(f, flat, x, range(len(flat.leaves)))
    axes = _axes(settings.trace_axes, tuple(closed.out_avals[0].shape))
    (side,), used = structured.sides([(closed, len(flat.leaves))], selected, True)
    if not used:
        raise ValueError(
            "f does not depend on the selected parameters, or only through operations without a "
            "gradient (rounding, arg-max, integers, stop_gradient)"
        )
    sizes = {i: int(jnp.size(flat.leaves[i])) for i in sorted(used)}
    itemsize = wide_dtype(closed.out_avals[0].dtype).itemsize
    # No factor may be one of these parameters alone: the same key serves others of their shapes.
    plan = structured.plan(
        (side, side),
        axes,
        sizes,
        itemsize,
        same_params=False,
        contraction=structured.Contraction.GRAM,
    )
    # Of one row; what is drawn once a block is shared by its rows.
    p, forward, outputs = settings.num_features, jaxprs.operations(closed), prod(axes.shape)
    drawn = structured.ELEMENTWISE_COST * sum(sizes.values()) / MAX_BLOCK_ROWS
    operations = {
        Method.STRUCTURED: 2 * outputs * forward + p * _projection_operations(plan),
        Method.VECTOR_PRODUCTS: p * (2 * forward + drawn),
    }
    return projections.Task(flat, plan, sorted(used), operations)


def _projection_operations(plan: structured.Plan) -> float:
    """Multiply-adds of one feature of one example, from its factors."""
    outputs = prod(plan.axes.shape)
    total = 0.0
    for share in plan.shares:
        if not share.parts[0]:
            total += outputs * share.size
        for part in share.parts[0]:
            lookup = part.kind is walk.Kind.LOOKUP
            left = structured.ELEMENTWISE_COST * part.bag if lookup else part.left
            total += (
                part.groups
                * part.positions
                * (left + outputs * part.right + structured.ELEMENTWISE_COST)
            )
    return total


def _run(settings: _Settings, f: ApplyFn, key: Array, params: Params, x: Any) -> Array:
    task = _task(settings, f, params, x)
    method = settings.method
    if method is Method.AUTO:
        method = min(task.operations, key=lambda known: task.operations[known])
    # Indexed draws need a generator whose batched keys are independent; not all are.
    key = jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
    if method is Method.STRUCTURED:
        most = projections.BLOCK_BYTES // max(projections.factor_bytes(task, x), 1)
        project = partial(projections.by_factors, task, key, settings.num_features)
    else:
        most = MAX_BLOCK_ROWS
        project = partial(projections.by_products, task, f, key, settings.num_features)
    rows = min(max(8, most), MAX_BLOCK_ROWS)
    made = _in_blocks(project, x, rows if settings.block_size == "auto" else settings.block_size)
    axes = task.axes
    made = made / (settings.num_features * axes.size(axes.traced)) ** 0.5
    return made.reshape(made.shape[0], *(axes.shape[axis] for axis in axes.full), -1)


def _in_blocks(project: Callable[[Any], Array], x: Any, most: int) -> Array:
    """``project`` of all rows, some at a time, in blocks of nearly equal size."""
    n = jax.tree.leaves(x)[0].shape[0]
    blocks = -(-n // most)
    if blocks == 1:
        return project(x)
    rows = -(-n // blocks)
    places = jnp.minimum(jnp.arange(blocks * rows), n - 1).reshape(blocks, rows)
    made = jax.lax.map(lambda place: project(jax.tree.map(lambda leaf: leaf[place], x)), places)
    return made.reshape(-1, *made.shape[2:])[:n]

r"""Empirical tangent kernels of any function, :math:`\Theta = J(x_1) J(x_2)^\top`.

The calling conventions are those of neural-tangents, so that a user of it changes the import:
``kernel_fn(x1, x2, params)`` with ``x2=None`` for the symmetric case, output axes interleaved,
traced axes divided by their size. ``f(params, x)`` is any function with a batch axis first on
every leaf of ``x`` and on its output, one example independent of the others.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kernlens.ntk import (
    blocks,
    checks,
    keyword_batches,
    keywords,
    linear,
    memory,
    models,
    structured,
    trials,
)
from kernlens.ntk.axes import (
    Axes,
    axes_tuple,
    batch_axes,
    batch_back,
    batch_first,
)
from kernlens.ntk.coupled import coupled_ntk_fn
from kernlens.ntk.methods import Explanation, LeafChoice, Method, MethodName, method_of
from kernlens.ntk.models import PathFilter
from kernlens.ntk.precision import wide_dtype
from kernlens.ntk.task import Bound, Call, Settings, Task, task_of
from kernlens.types import ApplyFn, Array, Params


def empirical_ntk_fn(
    f: ApplyFn,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    method: MethodName = "auto",
    params_filter: PathFilter | None = None,
    block_size: int | Literal["auto"] = "auto",
    *,
    coupled: bool = False,
    explain: bool = False,
    implementation: MethodName | None = None,
) -> Callable[..., Any]:
    r"""The tangent kernel, :math:`\langle\nabla f_o(x_i), \nabla f_{o'}(x_j)\rangle`.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``: a batch axis first on every leaf of ``x`` and on
        every output; a pytree of outputs gives a pytree of kernels.
      trace_axes: output axes to sum over (equal pairs) and divide by their size.
      diagonal_axes: output axes of which only equal pairs are kept. Axis 0, the batch, may stand
        in either: the kernel of each example with its namesake.
      vmap_axes: where the batch axis of ``x`` is: ``(in_axes, 0, {})`` with an int or a pytree of
        ints as for ``jax.vmap``; 0 or None for the first. ``f`` is given ``x`` in this layout.
        ``{}`` may name keyword arguments that have a batch axis too, ``{"mask": 0}``: each is then
        passed as a tuple of two, of ``x1`` and of ``x2``, or as one value for both.
      method: a :class:`Method` or its name.
      params_filter: ``params_filter(path) -> bool``: the leaves that the kernel is about, by the
        tuple of keys that lead to each; all by default.
      block_size: rows of a block; "auto" from the bytes at hand.
      coupled: whether ``f`` may couple its batch, as batch norm in training does. The kernel is
        then that of the batches as they are given, from exact Jacobians of whole batches, for
        small ``n``; ``method`` and ``block_size`` do not matter.
      explain: the returned function then gives an :class:`Explanation` in place of the kernel.
      implementation: neural-tangents' name for ``method``.

    Returns:
      ``kernel_fn(x1, x2, params, **kwargs)``; ``x2=None`` is ``x2=x1`` at half the cost. Its
      result has ``[n1, n2]`` first, then for each output axis in order: nothing if traced, the
      axis once if diagonal, twice otherwise, and the dtype of the outputs, float32 at least.
      ``kwargs`` go to ``f``: their arrays (of jax or NumPy, leaves of pytrees included) as values
      that a program of ``f`` is compiled for once, all else as it is, one program for each.
      A complex parameter counts as its real and its imaginary part, two leaves of one path.

    Raises:
      ValueError: an unknown method, and, when the kernel is called: an empty or ragged batch, a
        function that couples its batch, has no gradient or no real floating-point output,
        parameters or inputs that are not finite, a keyword argument that is neither an array nor
        hashable, a kernel that would not fit in memory.

    Warns:
      UserWarning: running statistics (``batch_stats``) among the parameters; parameters whose
        exact Jacobians take nearly all of the time, by name.

    References:
      Novak, Sohl-Dickstein and Schoenholz (2022), equation 3.
    """
    checks.check_callable(f, "f")
    if coupled:
        in_axes, kwargs_axes = batch_axes(vmap_axes)
        if any(jax.tree.leaves(in_axes)) or kwargs_axes or explain:
            raise ValueError(
                "coupled=True takes batches as f does, the batch axis first, and has nothing to "
                f"explain; got vmap_axes={vmap_axes}, explain={explain}"
            )
        return coupled_ntk_fn(f, trace_axes, diagonal_axes, params_filter)
    cross = cross_ntk_fn(
        f,
        None,
        trace_axes,
        diagonal_axes,
        vmap_axes,
        method if implementation is None else implementation,
        params_filter,
        block_size,
        explain=explain,
    )

    def kernel_fn(x1: Any, x2: Any, params: Params, **kwargs: Any) -> Any:
        return cross(x1, x2, params, None, **kwargs)

    return kernel_fn


def cross_ntk_fn(
    f1: ApplyFn,
    f2: ApplyFn | None = None,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    method: MethodName = "auto",
    params_filter: PathFilter | None = None,
    block_size: int | Literal["auto"] = "auto",
    *,
    explain: bool = False,
) -> Callable[..., Any]:
    r"""The kernel between two models, :math:`\langle\nabla f_1(x_i; A), \nabla f_2(x_j; B)\rangle`.

    The inner product is over the parameters that both have: the leaves of equal path. So the
    kernel between a pretraining model and the downstream model that took its encoder, or between
    two moments of one training run.

    Args:
      f1: model of the rows.
      f2: model of the columns; None for the same function.
      trace_axes: as for :func:`empirical_ntk_fn`; both outputs have these axes alike.
      diagonal_axes: likewise.
      vmap_axes: likewise.
      method: likewise.
      params_filter: likewise.
      block_size: likewise.
      explain: likewise.

    Returns:
      ``kernel_fn(x1, x2, params1, params2, **kwargs)``; None for ``x2`` or ``params2`` stands for
      the first. The kernel, as that of :func:`empirical_ntk_fn`.

    Raises:
      ValueError: as there; also parameters of equal path and unequal shape, or none in common.
    """
    if block_size != "auto" and block_size < 1:
        raise ValueError(f"block_size must be at least 1, or 'auto'; got {block_size}")
    settings = Settings(
        axes_tuple(trace_axes),
        axes_tuple(diagonal_axes),
        method_of(method),
        params_filter,
        block_size,
    )
    for f, name in ((f1, "f1"), (f2, "f2")):
        if f is not None:
            checks.check_callable(f, name)
    in_axes, kwargs_axes = batch_axes(vmap_axes)
    if kwargs_axes:
        packed = cross_ntk_fn(
            keyword_batches.into_inputs(f1),
            f2 and keyword_batches.into_inputs(f2),
            trace_axes,
            diagonal_axes,
            ((0 if in_axes is None else in_axes, kwargs_axes), 0, {}),
            method,
            params_filter,
            block_size,
            explain=explain,
        )
        return keyword_batches.from_inputs(packed, kwargs_axes)
    runners: dict[Any, Callable[..., Any]] = {}

    def kernel_fn(x1: Any, x2: Any, params1: Params, params2: Params = None, **kwargs: Any) -> Any:
        arrays, fixed = keywords.split(kwargs)
        for x, name in ((x1, "x1"), (x2, "x2")):
            checks.check_inputs(x, name)
        for params in (params1, params2):
            checks.check_params(params)
        x1, x2 = (batch_first(x, in_axes) for x in (x1, x2))
        call = Call(params1, params2, x1, x2, arrays)
        shapes = tuple(models.signature(leaf) for leaf in jax.tree.leaves(call))
        key = (jax.tree.structure(call), shapes, fixed.key)
        if key not in runners:
            checks.warn_of_statistics(params1, params_filter)
            own = partial(keywords.call, batch_back(f1, in_axes), fixed)
            other = f2 and partial(keywords.call, batch_back(f2, in_axes), fixed)
            runners[key] = _runner(settings, own, other, call, explain)
        return runners[key](call)

    return kernel_fn


def _runner(
    settings: Settings, f1: Bound, f2: Bound | None, call: Call, explain: bool
) -> Callable[[Call], Any]:
    """Checks a call's functions and shapes, and makes what computes it."""
    params1, params2, x1, x2, arrays = call
    if f2 is None and x2 is not None:
        checks.check_like(x1, x2, ("x1", "x2"))
    if f2 is None and params2 is not None:
        checks.check_like(params1, params2, ("params1", "params2"))
    n1 = checks.count(x1, "x1")
    n2 = n1 if x2 is None else checks.count(x2, "x2")
    bound = partial(f1, arrays=arrays)
    closed, out = checks.outline(bound, params1, x1, "x1")
    if not isinstance(out, jax.ShapeDtypeStruct):
        tree = jax.tree.structure(out)
        parts = [
            _runner(
                settings,
                partial(_pick, f1, k),
                None if f2 is None else partial(_pick, f2, k),
                call,
                explain,
            )
            for k in range(tree.num_leaves)
        ]
        return lambda call: jax.tree.unflatten(tree, [part(call) for part in parts])
    checks.check_output(out, n1, "x1")
    most = None if settings.block_size == "auto" else settings.block_size
    trials.check_function(bound, closed, params1, x1, "x1", most)
    trial = trials.trial_of(closed, n1, most)
    if f2 is not None or params2 is not None or x2 is not None:
        bound = partial(f1 if f2 is None else f2, arrays=arrays)
        params = params1 if params2 is None else params2
        x, name = (x1, "x1") if x2 is None else (x2, "x2")
        closed, other = checks.outline(bound, params, x, name)
        checks.check_output(other, n2, name)
        trials.check_function(bound, closed, params, x, name, most)
    task = task_of(settings, f1, f2, call)
    if task.batch != "pairs" and n1 != n2:
        raise ValueError(f"a diagonal over the batch needs n1 = n2; got {n1} and {n2}")
    if task.batch == "pairs":
        shape = (n1, n2, *task.axes.kernel_shape)
        advice = "trace or take the diagonal of output axes, or see kernlens.ntk.operators"
        memory.check_fits("the kernel", shape, wide_dtype(out.dtype).itemsize, advice)
    if explain:
        return lambda call: _explanation(task, trial)
    _warn_of_exact(task, n1 * n2 if task.batch == "pairs" else n1)
    return jax.jit(partial(_run, settings, f1, f2))


def _run(settings: Settings, f1: Bound, f2: Bound | None, call: Call) -> Array:
    task = task_of(settings, f1, f2, call)
    params1, params2, x1, x2, _ = call
    both = (params1, params1 if params2 is None else params2)
    leaves = tuple(
        [models.flatten(params).leaves[i] for i in order]
        for params, order in zip(both, task.order, strict=True)
    )
    leaves = (leaves[0], leaves[1])
    flat1 = jax.tree.leaves(x1)
    flat2 = flat1 if x2 is None else jax.tree.leaves(x2)
    other = None if params2 is None and f2 is None and x2 is None else flat2
    if task.batch != "pairs":
        k = blocks.diagonal(task.plan, leaves, flat1, other, block_size=task.block_size)
        return jnp.mean(k, axis=0) if task.batch == "mean" else k
    if task.method is Method.VECTOR_PRODUCTS:
        pair = ((task.closed[0], leaves[0]), (task.closed[1], leaves[1]))
        return linear.kernel(
            pair, task.selected, task.axes, flat1, flat2, block_size=task.block_size
        )
    return blocks.kernel(task.plan, leaves, flat1, other, block_size=task.block_size)


DEAR = 1e9
"""Multiply-adds of a kernel below which it is not worth a warning how they are spent."""


def _warn_of_exact(task: Task, pairs: int) -> None:
    """Warns where leaves that are differentiated exactly take nearly all of the time."""
    if task.method is not Method.STRUCTURED:
        return
    exact = {
        share.leaf: share.operations
        for share in task.plan.shares
        if share.contraction is structured.Contraction.JACOBIAN
    }
    dear = sum(exact.values())
    if dear <= 10 * (task.plan.operations - dear) or dear * pairs < DEAR:
        return
    named = sorted(exact, key=lambda leaf: -exact[leaf])
    most = [leaf for leaf in named if exact[leaf] >= 0.01 * dear]
    listed = ", ".join(f"{'/'.join(task.paths[leaf])} ({exact[leaf]:.2g})" for leaf in most[:4])
    listed += f" and {len(most) - 4} more" if most[4:] else ""
    warnings.warn(
        f"exact Jacobians take {dear:.2g} of {task.plan.operations:.2g} multiply-adds a pair of "
        f"examples, for parameters that f uses otherwise than in products, lookups, convolutions "
        f"or as biases: {listed}. Use the leaf itself, or a slice of it, in the product, leave it "
        "out by params_filter, or see kernlens.ntk.features",
        stacklevel=4,
    )


def _explanation(task: Task, trial: trials.Trial) -> Explanation:
    choices = []
    for leaf in dict.fromkeys(share.leaf for share in task.plan.shares):
        own = [share for share in task.plan.shares if share.leaf == leaf]
        dearest = max(own, key=lambda share: share.operations)
        bias = next((share.bias for share in own if share.bias is not None), None)
        choices.append(
            LeafChoice(
                task.paths[leaf],
                None if bias is None else task.paths[bias],
                dearest.contraction,
                sum(part.positions for part in dearest.parts[0]) or 1,
                sum(share.operations for share in own),
            )
        )
    by_leaf = task.method is not Method.VECTOR_PRODUCTS
    return Explanation(
        task.method,
        tuple(choices) if by_leaf else (),
        task.operations,
        task.block_size,
        trial.rows,
        trial.bytes,
    )


def _pick(f: Bound, k: int, params: Params, x: Any, *, arrays: list[Array]) -> Array:
    return jax.tree.leaves(f(params, x, arrays=arrays))[k]

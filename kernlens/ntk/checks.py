"""What is refused of a function, its parameters and its inputs, and in which words."""

import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr

from kernlens.ntk import jaxprs
from kernlens.ntk.models import Flat, PathFilter, concrete, flatten, named_leaves, select
from kernlens.types import ApplyFn, Array, Params

TRIAL_ROWS = 256
"""Examples at which a derivative is looked for."""

STATISTICS = "batch_stats"
"""Linen's name for running statistics."""


def count(x: Any, name: str) -> int:
    """Number of examples in a batch.

    Raises:
      ValueError: no array, an array without a batch axis, unequal batch axes, or none at all.
    """
    leaves = named_leaves(x)
    if not leaves:
        raise ValueError(f"{name} holds no array")
    sizes = {}
    for path, leaf in leaves:
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{_place(name, path)} is a scalar; every input needs a batch axis")
        sizes[_place(name, path)] = jnp.shape(leaf)[0]
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{place}: {size}" for place, size in sizes.items())
        raise ValueError(
            f"{name} has unequal batch sizes ({listed}); expected one batch axis, first"
        )
    (n,) = set(sizes.values())
    if n == 0:
        raise ValueError(f"{name} is an empty batch; expected at least one example")
    return n


def check_like(one: Any, two: Any, names: tuple[str, str]) -> None:
    """Refuses a tree that is not built like another.

    Raises:
      ValueError: another structure, or leaves of another number of axes.
    """
    first, second = jax.tree.structure(one), jax.tree.structure(two)
    if first != second:
        raise ValueError(
            f"{names[1]} is built differently from {names[0]}: got {second}, expected {first}"
        )
    for (path, a), (_, b) in zip(named_leaves(one), named_leaves(two), strict=True):
        if jnp.ndim(a) != jnp.ndim(b):
            raise ValueError(
                f"{_place(names[1], path)} has shape {jnp.shape(b)}; expected {jnp.ndim(a)} axes "
                f"as {_place(names[0], path)} has, {jnp.shape(a)}"
            )


def _place(name: str, path: tuple[str, ...]) -> str:
    return name + "".join(f"[{key}]" for key in path)


def check_params(params: Params) -> None:
    """Refuses parameters that are not finite, where their values are known.

    Raises:
      ValueError: which leaf, and how many of its entries.
    """
    for path, leaf in named_leaves(params):
        _check_finite("parameter " + ("/".join(path) or "params"), leaf)


def check_inputs(x: Any, name: str) -> None:
    """Refuses inputs that are not finite, where their values are known.

    Raises:
      ValueError: which leaf, and how many of its entries.
    """
    for path, leaf in named_leaves(x):
        _check_finite(_place(name, path), leaf)


_finite: dict[int, weakref.ref] = {}


def _check_finite(name: str, leaf: Any) -> None:
    """Refuses an array that is not finite; each array of jax is read once in its life."""
    if isinstance(leaf, Tracer) or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return
    known = _finite.get(id(leaf))
    if known is not None and known() is leaf:
        return
    with jax.ensure_compile_time_eval():
        bad = int(_count_bad(jnp.asarray(leaf)))
    if bad:
        raise ValueError(f"{name} has {bad:,} entries that are NaN or infinite")
    if isinstance(leaf, jax.Array):
        key = id(leaf)
        _finite[key] = weakref.ref(leaf, lambda _, key=key: _finite.pop(key, None))


@jax.jit
def _count_bad(leaf: Array) -> Array:
    return jnp.sum(~jnp.isfinite(leaf))


def warn_of_statistics(params: Params, params_filter: PathFilter | None) -> None:
    """Warns where running statistics are among the parameters that a kernel is about.

    They are no parameters, since no gradient descends on them, but they are floating-point leaves
    with a gradient as any other. Those of Linen stand under ``batch_stats``, those of NNX are
    variables of the type ``BatchStat``.
    """
    marked = jax.tree.map(_unless_statistic, params, is_leaf=_is_statistic)
    left = {path for path, _ in named_leaves(marked) if STATISTICS not in path}
    flat = flatten(params)
    kept = [flat.owners[i] for i in select(flat, params_filter)]
    found = ["/".join(path) for path in dict.fromkeys(kept) if path not in left]
    if found:
        listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if found[4:] else "")
        warnings.warn(
            f"params hold running statistics, which the kernel counts as parameters: {listed}. "
            "Pass what is trained alone, variables['params'] in Linen and nnx.split(model, "
            "nnx.Param, ...) in NNX, or leave them out by params_filter",
            stacklevel=4,
        )


def _is_statistic(node: Any) -> bool:
    return any(kind.__name__ == "BatchStat" for kind in type(node).__mro__)


def _unless_statistic(node: Any) -> Any:
    return None if _is_statistic(node) else node


def outline(f: ApplyFn, params: Params, x: Any, name: str) -> tuple[ClosedJaxpr, Any]:
    """Jaxpr of a function of a batch, and the shapes of its outputs.

    Raises:
      ValueError: the function cannot take these inputs with these parameters.
    """
    try:
        return jax.make_jaxpr(f, return_shape=True)(params, x)
    except (TypeError, IndexError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"f cannot take {name} with these parameters: {first}") from error


def check_output(out: Any, n: int, name: str) -> tuple[int, ...]:
    """Shape of one example's output, from the shapes of a batch's.

    Raises:
      ValueError: not one array, not floating point, or a leading axis that is not the batch.
    """
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(
            f"f({name}) gives {type(out).__name__}, not one array: pick the output, "
            "f = lambda params, x: model(params, x)['logits']"
        )
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise ValueError(
            f"f({name}) has dtype {out.dtype}; expected real floating point: give both parts, "
            "jnp.stack([z.real, z.imag], -1)"
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(
            f"f({name}) has dtype {out.dtype}, which has no gradient; expected real floating point"
        )
    if out.ndim == 0 or out.shape[0] != n:
        raise ValueError(
            f"f({name}) has shape {out.shape} for a batch of {n}; expected {n} on the first axis, "
            "one output per example"
        )
    return out.shape[1:]


def check_function(f: ApplyFn, closed: ClosedJaxpr, params: Params, x: Any, name: str) -> None:
    """Refuses a function that couples its batch, or that has no gradient.

    The outputs of three examples together are compared with theirs one by one, and their
    derivative is looked at, at parameters moved a little so that layers that start at zero speak.
    Nothing is looked at where a value is being traced, one that the function closes over included.

    Args:
      f: the function.
      closed: its jaxpr, of :func:`outline`.
      params: parameters.
      x: inputs.
      name: what the inputs are called.

    Raises:
      ValueError: outputs that depend on the other examples, or a derivative that is zero.
    """
    if not concrete((params, x, closed.consts)):
        return
    with jax.ensure_compile_time_eval():
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:3], x)
        step = -(-count(x, name) // TRIAL_ROWS)
        spread = jax.tree.map(lambda leaf: jnp.asarray(leaf)[::step], x)
        flat = flatten(params)
        try:
            together, single, slope = _trial(f, flat, rows, spread)
        except TypeError:  # no forward mode (a custom_vjp): values alone
            together, single, slope = _trial(f, flat, rows, None)
    tolerance = 1e-3 if together.dtype.itemsize > 2 else 5e-2
    together, single = (np.asarray(out, np.float64) for out in (together, single))
    scale = np.nanmax(np.abs(single), initial=0.0)
    if not np.allclose(together, single, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        coupled = f"the output for one example of {name} changes with the others"
        if jaxprs.draws_random(closed):
            raise ValueError(
                f"f draws random numbers for its batch: {coupled} (dropout in training mode?); the "
                "kernel is per example. Turn dropout off (deterministic=True, or model.eval())"
            )
        raise ValueError(
            f"f is coupled over its batch: {coupled} (batch norm in training mode, or a mean over "
            "the batch?); the kernel is per example. Use running statistics (train=False)"
        )
    if slope is not None and not np.any(np.asarray(slope, np.float64) != 0):
        raise ValueError(
            f"f has no gradient at {name}: its derivative with respect to the parameters is zero "
            "(rounding, arg-max, comparisons, stop_gradient, or parameters that are not used)"
        )


def _trial(f: ApplyFn, flat: Flat, rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
    """Outputs of rows together, one by one, and a derivative at other rows (None: without)."""
    chosen = select(flat, None)

    @jax.jit
    def trial(leaves: list[Any], rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
        leaves = [_moved(leaf) for leaf in leaves]
        moved = flat.restore(leaves)
        single = [
            f(moved, jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], rows))[0]
            for i in range(count(rows, "x"))
        ]
        together = f(moved, rows)
        if spread is None:
            return together, jnp.stack(single), None

        def at(values: list[Array]) -> Array:
            own = list(leaves)
            for i, value in zip(chosen, values, strict=True):
                own[i] = value
            return f(flat.restore(own), spread)

        values = [leaves[i] for i in chosen]
        _, slope = jax.jvp(at, (values,), ([_direction(value) for value in values],))
        return together, jnp.stack(single), slope

    return trial(flat.leaves, rows, spread)


def _direction(leaf: Array) -> Array:
    if leaf.size > 2**20:
        return jnp.ones_like(leaf)
    return (
        jnp.sin(1.0 + jnp.arange(leaf.size, dtype=jnp.float32))
        .reshape(leaf.shape)
        .astype(leaf.dtype)
    )


def _moved(leaf: Any) -> Any:
    dtype = jnp.result_type(leaf)
    # A large table is not copied for this, and does not start at zero.
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.size(leaf) > 2**20:
        return leaf
    return leaf + jnp.asarray(0.03, dtype)

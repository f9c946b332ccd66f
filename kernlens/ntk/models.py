"""What a kernel is asked of: a function, its parameters and its inputs, checked and made flat."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr

from kernlens.types import ApplyFn, Array, Params

PathFilter = Callable[[tuple[str, ...]], bool]
"""``params_filter(path) -> whether the kernel is about this leaf``; a path is its keys."""


class Flat(NamedTuple):
    """A pytree taken apart.

    Attributes:
      leaves: its arrays.
      paths: the keys that lead to each.
      tree: what puts them together again.
    """

    leaves: list[Any]
    paths: list[tuple[str, ...]]
    tree: Any


def flatten(tree: Any) -> Flat:
    """Takes a pytree apart, leaf by leaf."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [tuple(_name(key) for key in path) for path, _ in pairs]
    return Flat([leaf for _, leaf in pairs], paths, structure)


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def select(flat: Flat, params_filter: PathFilter | None) -> list[int]:
    """Indices of the floating-point leaves that the filter keeps.

    Raises:
      ValueError: the filter keeps none.
    """
    kept = [
        i
        for i, (leaf, path) in enumerate(zip(flat.leaves, flat.paths, strict=True))
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        and (params_filter is None or params_filter(path))
    ]
    if not kept:
        names = ", ".join("/".join(path) for path in flat.paths) or "none"
        what = (
            "params hold no floating-point leaf"
            if params_filter is None
            else ("params_filter keeps no floating-point leaf")
        )
        raise ValueError(f"{what}; the leaves are: {names}")
    return kept


def count(x: Any, name: str) -> int:
    """Number of examples in a batch.

    Raises:
      ValueError: no array, an array without a batch axis, unequal batch axes, or none at all.
    """
    flat = flatten(x)
    if not flat.leaves:
        raise ValueError(f"{name} holds no array")
    sizes = {}
    for path, leaf in zip(flat.paths, flat.leaves, strict=True):
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


def _place(name: str, path: tuple[str, ...]) -> str:
    return name + "".join(f"[{key}]" for key in path)


def trace(f: ApplyFn, flat: Flat, x: Any, order: Sequence[int]) -> ClosedJaxpr:
    """Jaxpr of one example's output, ``(*leaves in some order, *flat x [1, ...]) -> output``.

    Args:
      f: ``f(params, x) -> outputs [n, ...]``.
      flat: the parameters.
      x: a batch, of which shapes and dtypes matter.
      order: indices of the leaves, in the order in which the jaxpr is to take them.

    Raises:
      ValueError: an output that is not floating point, or has no batch axis.
    """
    leaves, tree = jax.tree.flatten(x)

    def one(*args: Array) -> Any:
        values: list[Any] = [None] * len(flat.leaves)
        for index, value in zip(order, args, strict=False):
            values[index] = value
        params = jax.tree.unflatten(flat.tree, values)
        out = f(params, jax.tree.unflatten(tree, args[len(values) :]))
        return jax.lax.squeeze(out, (0,))

    shapes = [shape_of(flat.leaves[i]) for i in order]
    rows = [
        jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), jnp.result_type(leaf)) for leaf in leaves
    ]
    return jax.make_jaxpr(one)(*shapes, *rows)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a number or an abstract value."""
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


def check_output(f: ApplyFn, params: Params, x: Any, n: int, name: str) -> tuple[int, ...]:
    """Shape of one example's output.

    Raises:
      ValueError: not one array, not floating point, or a leading axis that is not the batch.
    """
    try:
        out = jax.eval_shape(f, params, x)
    except (TypeError, IndexError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"f cannot take {name} with these parameters: {first}") from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(
            f"f({name}) gives {type(out).__name__}, not one array: pick the output, "
            "f = lambda params, x: model(params, x)['logits']"
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


def meet(first: Flat, second: Flat) -> tuple[tuple[list[int], list[int]], int]:
    """Orders the leaves of two models so that those of equal path come first, and alike.

    Returns:
      The order of either model's leaves, and how many they share.

    Raises:
      ValueError: leaves of equal path and unequal shape.
    """
    places = {path: i for i, path in enumerate(second.paths)}
    shared = [i for i, path in enumerate(first.paths) if path in places]
    partners = [places[first.paths[i]] for i in shared]
    for i, j in zip(shared, partners, strict=True):
        shapes = jnp.shape(first.leaves[i]), jnp.shape(second.leaves[j])
        if shapes[0] != shapes[1]:
            name = "/".join(first.paths[i])
            raise ValueError(
                f"parameter {name} has shape {shapes[0]} in the first model and {shapes[1]} in "
                "the second; leaves of equal path must match (params_filter, or another path)"
            )
    order1 = shared + [i for i in range(len(first.leaves)) if i not in set(shared)]
    order2 = partners + [i for i in range(len(second.leaves)) if i not in set(partners)]
    return (order1, order2), len(shared)


def alike(one: Any, two: Any) -> bool:
    """Whether two trees have the same structure, and arrays of the same shapes but the batch."""

    def shape(tree: Any) -> Any:
        params, x = tree
        rows = [(jnp.shape(leaf)[1:], jnp.result_type(leaf)) for leaf in jax.tree.leaves(x)]
        own = [signature(leaf) for leaf in params]
        return own, rows, jax.tree.structure(x)

    return shape(one) == shape(two)


def signature(leaf: Any) -> Any:
    """Shape and dtype of an array, hashable."""
    return jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "weak_type", False)


def check_like(one: Any, two: Any, names: tuple[str, str]) -> None:
    """Refuses a tree that is not built like another.

    Raises:
      ValueError: another structure, or leaves of another number of axes.
    """
    first, second = flatten(one), flatten(two)
    if first.tree != second.tree:
        raise ValueError(
            f"{names[1]} is built differently from {names[0]}: got {second.tree}, expected "
            f"{first.tree}"
        )
    for path, a, b in zip(first.paths, first.leaves, second.leaves, strict=True):
        if jnp.ndim(a) != jnp.ndim(b):
            raise ValueError(
                f"{_place(names[1], path)} has shape {jnp.shape(b)}; expected {jnp.ndim(a)} axes "
                f"as {_place(names[0], path)} has, {jnp.shape(a)}"
            )


def concrete(tree: Any) -> bool:
    """Whether no leaf is being traced, so that values can be looked at."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


_finite: dict[int, weakref.ref] = {}


def check_finite(params: Params) -> None:
    """Refuses parameters that are not finite; each array is read once in its life.

    Raises:
      ValueError: which leaf, and how many of its entries.
    """
    flat = flatten(params)
    for path, leaf in zip(flat.paths, flat.leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            continue
        known = _finite.get(id(leaf))
        if known is not None and known() is leaf:
            continue
        with jax.ensure_compile_time_eval():
            bad = int(_count_bad(jnp.asarray(leaf)))
        if bad:
            name = "/".join(path) or "params"
            raise ValueError(f"parameter {name} has {bad:,} entries that are NaN or infinite")
        if isinstance(leaf, jax.Array):
            key = id(leaf)
            _finite[key] = weakref.ref(leaf, lambda _, key=key: _finite.pop(key, None))


@jax.jit
def _count_bad(leaf: Array) -> Array:
    return jnp.sum(~jnp.isfinite(leaf))


def check_function(f: ApplyFn, params: Params, x: Any, name: str) -> None:
    """Refuses a function that couples its batch, or that has no gradient.

    The outputs of three examples together are compared with theirs one by one, and their
    derivative is looked at, at parameters moved a little so that layers that start at zero speak.

    Raises:
      ValueError: outputs that depend on the other examples, or a derivative that is zero.
    """
    with jax.ensure_compile_time_eval():
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:3], x)
        step = -(-count(x, name) // TRIAL_ROWS)
        spread = jax.tree.map(lambda leaf: jnp.asarray(leaf)[::step], x)
        try:
            together, single, slope = _trial(f, params, rows, spread)
        except TypeError:  # no forward mode (a custom_vjp): values alone
            together, single, slope = _trial(f, params, rows, None)
    tolerance = 1e-3 if together.dtype.itemsize > 2 else 5e-2
    together, single = (np.asarray(out, np.float64) for out in (together, single))
    scale = np.nanmax(np.abs(single), initial=0.0)
    if not np.allclose(together, single, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        raise ValueError(
            f"f is coupled over its batch: the output for one example of {name} changes with the "
            "others (batch norm in training mode, or a mean over the batch?); the kernel is per "
            "example. Use running statistics (train=False)"
        )
    if slope is not None and not np.any(np.asarray(slope, np.float64) != 0):
        raise ValueError(
            f"f has no gradient at {name}: its derivative with respect to the parameters is zero "
            "(rounding, arg-max, comparisons, stop_gradient, or parameters that are not used)"
        )


TRIAL_ROWS = 256
"""Examples at which a derivative is looked for."""


def _trial(f: ApplyFn, params: Params, rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
    """Outputs of rows together, one by one, and a derivative at other rows (None: without)."""

    @jax.jit
    def trial(params: Params, rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
        moved = jax.tree.map(_moved, params)
        single = [
            f(moved, jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], rows))[0]
            for i in range(count(rows, "x"))
        ]
        together = f(moved, rows)
        if spread is None:
            return together, jnp.stack(single), None
        flat = flatten(moved)
        chosen = select(flat, None)

        def at(values: list[Array]) -> Array:
            leaves = list(flat.leaves)
            for i, value in zip(chosen, values, strict=True):
                leaves[i] = value
            return f(jax.tree.unflatten(flat.tree, leaves), spread)

        values = [flat.leaves[i] for i in chosen]
        _, slope = jax.jvp(at, (values,), ([_direction(value) for value in values],))
        return together, jnp.stack(single), slope

    return trial(params, rows, spread)


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

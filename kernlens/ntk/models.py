"""A function and its parameters taken apart: leaves, their paths, and the jaxpr of one example."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from kernlens.types import ApplyFn, Array, Params

PathFilter = Callable[[tuple[str, ...]], bool]
"""``params_filter(path) -> whether the kernel is about this leaf``; a path is its keys."""


class Flat(NamedTuple):
    """Parameters taken apart into real arrays: a complex one is its real and its imaginary part.

    Attributes:
      leaves: the arrays.
      paths: the keys that lead to each, and ``"real"`` or ``"imag"`` after those of a complex one.
      owners: the keys that lead to the user's own array behind each.
      is_complex: for each of the user's arrays, whether it is two leaves.
      tree: structure of the parameters.
    """

    leaves: list[Any]
    paths: list[tuple[str, ...]]
    owners: list[tuple[str, ...]]
    is_complex: list[bool]
    tree: Any

    def restore(self, values: Sequence[Any]) -> Params:
        """The parameters with other values for leaves."""
        rest = iter(values)
        whole = [
            jax.lax.complex(next(rest), next(rest)) if is_complex else next(rest)
            for is_complex in self.is_complex
        ]
        return jax.tree.unflatten(self.tree, whole)


def flatten(params: Params) -> Flat:
    """Takes parameters apart, leaf by leaf."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(params)
    flat = Flat([], [], [], [], structure)
    for path, leaf in pairs:
        own = keys_of(path)
        flat.is_complex.append(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating))
        parts = {(): leaf}
        if flat.is_complex[-1]:
            parts = {("real",): jnp.real(leaf), ("imag",): jnp.imag(leaf)}
        for part, value in parts.items():
            flat.leaves.append(value)
            flat.paths.append((*own, *part))
            flat.owners.append(own)
    return flat


def named_leaves(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves of any pytree, each with the keys that lead to it."""
    return [(keys_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def keys_of(path: Sequence[Any]) -> tuple[str, ...]:
    """The keys of a path of jax, as words."""
    return tuple(_name(key) for key in path)


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
        for i, (leaf, owner) in enumerate(zip(flat.leaves, flat.owners, strict=True))
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        and (params_filter is None or params_filter(owner))
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
        params = flat.restore(values)
        out = f(params, jax.tree.unflatten(tree, args[len(values) :]))
        return jax.lax.squeeze(out, (0,))

    shapes = [shape_of(flat.leaves[i]) for i in order]
    rows = [
        jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), jnp.result_type(leaf)) for leaf in leaves
    ]
    closed = jax.make_jaxpr(one)(*shapes, *rows)
    # What is computed and not used, such as parameters that a loop hands on, is no use of a leaf.
    jaxpr, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return ClosedJaxpr(jaxpr, closed.consts)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a number or an abstract value."""
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


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


def concrete(tree: Any) -> bool:
    """Whether no leaf is being traced, so that values can be looked at."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))

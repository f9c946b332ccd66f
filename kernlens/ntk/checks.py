"""What is refused of a function, its parameters and its inputs, and in which words."""

import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr

from kernlens.ntk.models import PathFilter, flatten, named_leaves, select
from kernlens.types import ApplyFn, Array, Params

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
    """Refuses parameters that are no arrays, or not finite where their values are known.

    Raises:
      ValueError: a module in the place of its parameters; which leaf, and how many of its entries.
    """
    library = library_of(params)
    if library == "flax.linen":
        raise ValueError(
            f"params is a Flax module ({type(params).__name__}), not its parameters: pass "
            "module.init(key, x)['params'] and f = lambda p, x: module.apply({'params': p}, x)"
        )
    for path, leaf in named_leaves(params):
        place = "parameter " + ("/".join(path) or "params")
        if not _is_number(leaf):
            remedy = MODULES.get(library or "", "pass a pytree of arrays")
            raise ValueError(f"{place} is {_words(leaf)}, not an array: {remedy}")
        _check_finite("parameter " + ("/".join(path) or "params"), leaf)


MODULES = {
    "equinox": (
        "split the Equinox module, params, static = eqx.partition(model, eqx.is_inexact_array), "
        "and pass f = lambda p, x: jax.vmap(eqx.combine(p, static))(x)"
    ),
    "flax.linen": (
        "pass f = lambda p, x: module.apply({'params': p}, x) and the parameters of "
        "module.init(key, x)['params']"
    ),
    "flax.nnx": (
        "split the NNX module, graph, params, rest = nnx.split(model, nnx.Param, ...), and pass "
        "f = lambda p, x: nnx.merge(graph, p, rest)(x)"
    ),
}
"""What to do in place of passing a module whole, by the library that it is of."""


def library_of(value: Any) -> str | None:
    """The key of :data:`MODULES` of a library's module; None for anything else."""
    # The wrappers of transformations, such as eqx.filter_jit(f), are functions.
    if type(value).__module__.startswith("equinox._"):
        return None
    for kind in type(value).__mro__:
        if kind.__name__ == "Module":
            for library in MODULES:
                if kind.__module__.startswith(library):
                    return library
    return None


def check_callable(f: Any, name: str) -> None:
    """Refuses a module in the place of a function of parameters and inputs.

    Raises:
      ValueError: a module, or what cannot be called.
    """
    library = library_of(f)
    if library is not None:
        raise ValueError(
            f"{name} is a module ({type(f).__name__}), not a function f(params, x): "
            f"{MODULES[library]}"
        )
    if not callable(f):
        raise ValueError(f"{name} is {_words(f)}; expected a function f(params, x)")


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, str | bytes):
        return False
    try:
        jnp.result_type(leaf)
    except TypeError:
        return False
    return True


def _words(value: Any) -> str:
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    return f"of type {type(value).__name__}"


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
    except Exception as error:
        ours = isinstance(error, TypeError | IndexError | ValueError)
        if not ours and not type(error).__module__.startswith("flax"):
            raise
        if takes_one(f, params, x):
            raise ValueError(_one_example(name)) from error
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"f cannot take {name} {_shapes(x)} with these parameters: {first}"
        ) from error


def takes_one(f: ApplyFn, params: Params, x: Any) -> bool:
    """Whether a function takes one example, without a batch axis, and gives one or more numbers."""
    one = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), x
    )
    try:
        out = jax.eval_shape(f, params, one)
    except Exception:
        return False
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(out))


def _one_example(name: str) -> str:
    return (
        f"f takes one example, and {name} is a batch: pass jax.vmap(f, in_axes=(None, 0)), whose "
        "inputs and outputs have a batch axis first"
    )


def _shapes(x: Any) -> str:
    leaves = [f"{_place('', path)} {list(jnp.shape(leaf))}" for path, leaf in named_leaves(x)]
    return "of shape " + ", ".join(leaf.strip() for leaf in leaves)


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
            "one output per example; a function of one example needs jax.vmap(f, in_axes=(None, 0))"
        )
    return out.shape[1:]

"""Models written plainly and as libraries write them, and how long their tangent kernels take.

Run as a script, it measures with the kernlens that Python finds, so that an earlier one can be
timed by the same lines. Imports JAX, NumPy and kernlens alone.
"""

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

OUTPUTS = 10
LAYERS, EXPERTS, TABLE = 4, 8, 1000


class Pair(NamedTuple):
    """One function in two forms, of the same numbers: ``f(params, x)``."""

    plain: Callable[[Any, Any], jax.Array]
    plain_params: Any
    written: Callable[[Any, Any], jax.Array]
    written_params: Any
    x: Any


def matrix(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights of about unit gain."""
    return rng.standard_normal(shape) / math.sqrt(shape[-2])


def loop(rng: np.random.Generator, n: int, d: int) -> Pair:
    """Layers one by one, or a loop over their stacked weights."""
    layers, head = matrix(rng, LAYERS, d, d), matrix(rng, d, OUTPUTS)

    def plain(p: Any, x: jax.Array) -> jax.Array:
        for w in p["layers"]:
            x = jnp.tanh(x @ w)
        return x @ p["head"]

    def written(p: Any, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["layers"])[0] @ p["head"]

    params = {"layers": list(layers), "head": head}
    return Pair(plain, params, written, {**params, "layers": layers}, rng.standard_normal((n, d)))


def joined(rng: np.random.Generator, n: int, d: int) -> Pair:
    """Two products, or one with both matrices side by side."""
    params = {"a": matrix(rng, d, d), "b": matrix(rng, d, d), "head": matrix(rng, 2 * d, OUTPUTS)}

    def plain(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.concatenate([x @ p["a"], x @ p["b"]], axis=1)) @ p["head"]

    def written(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ jnp.concatenate([p["a"], p["b"]], axis=1)) @ p["head"]

    return Pair(plain, params, written, params, rng.standard_normal((n, d)))


def tables(rng: np.random.Generator, n: int, d: int) -> Pair:
    """Lookups in two tables, or one in both, one after the other."""
    params = {"a": matrix(rng, TABLE, d), "b": matrix(rng, TABLE, d), "w": matrix(rng, d, OUTPUTS)}

    def plain(p: Any, ids: jax.Array) -> jax.Array:
        first = p["a"][jnp.minimum(ids, TABLE - 1)]
        second = p["b"][jnp.maximum(ids - TABLE, 0)]
        return jnp.tanh(jnp.where((ids < TABLE)[:, None], first, second)) @ p["w"]

    def written(p: Any, ids: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.concatenate([p["a"], p["b"]])[ids]) @ p["w"]

    return Pair(plain, params, written, params, rng.integers(0, 2 * TABLE, n).astype(np.int32))


def conditional(rng: np.random.Generator, n: int, d: int) -> Pair:
    """A layer, or one that each example takes where its first feature says so (all do here)."""
    params = {"w": matrix(rng, d, d), "head": matrix(rng, d, OUTPUTS)}
    x = rng.standard_normal((n, d))
    x[:, 0] = np.abs(x[:, 0])

    def plain(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ p["w"]) @ p["head"]

    def written(p: Any, x: jax.Array) -> jax.Array:
        def one(row: jax.Array) -> jax.Array:
            return jax.lax.cond(row[0] >= 0, lambda r: jnp.tanh(r @ p["w"]), lambda r: r, row)

        return jax.vmap(one)(x) @ p["head"]

    return Pair(plain, params, written, params, x)


@jax.custom_vjp
def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """A product with derivatives by hand, as quantised and hand-written kernels have them."""
    return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, ct: (ct @ kept[1].T, kept[0].T @ ct))


def by_hand(rng: np.random.Generator, n: int, d: int) -> Pair:
    """A layer, or one whose product has derivatives by hand."""
    params = {"w": matrix(rng, d, d), "head": matrix(rng, d, OUTPUTS)}

    def plain(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ p["w"]) @ p["head"]

    def written(p: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(product(x, p["w"])) @ p["head"]

    return Pair(plain, params, written, params, rng.standard_normal((n, d)))


def experts(rng: np.random.Generator, n: int, d: int) -> Pair:
    """Experts of two layers as leaves, or as one batched product each."""
    up, down = matrix(rng, EXPERTS, d, d // 4), matrix(rng, EXPERTS, d // 4, OUTPUTS)
    router = matrix(rng, d, EXPERTS)

    def plain(p: Any, x: jax.Array) -> jax.Array:
        gates = jax.nn.softmax(x @ p["router"])
        each = zip(p["up"], p["down"], strict=True)
        total = jnp.zeros((x.shape[0], OUTPUTS), x.dtype)
        for e, (u, v) in enumerate(each):
            total = total + gates[:, e, None] * (jnp.tanh(x @ u) @ v)
        return total

    def written(p: Any, x: jax.Array) -> jax.Array:
        h = jnp.tanh(jnp.einsum("bd,edf->ebf", x, p["up"]))
        out = jnp.einsum("ebf,efk->ebk", h, p["down"])
        return jnp.einsum("be,ebk->bk", jax.nn.softmax(x @ p["router"]), out)

    params = {"up": up, "down": down, "router": router}
    leaves = {**params, "up": list(up), "down": list(down)}
    return Pair(plain, leaves, written, params, rng.standard_normal((n, d)))


class Structure(NamedTuple):
    """What two forms there are, how to make them, and the most that the second may take."""

    plain: str
    written: str
    make: Callable[[np.random.Generator, int, int], Pair]
    most: float


STRUCTURES = {
    "loop": Structure("layers unrolled", "lax.scan over stacked layers", loop, 2.0),
    "joined": Structure("x@a, x@b", "x@concatenate(a, b)", joined, 2.0),
    "tables": Structure("two tables", "lookup in their concatenation", tables, 2.0),
    "conditional": Structure("a layer", "a layer inside lax.cond", conditional, 3.0),
    "by hand": Structure("a product", "a custom_vjp product", by_hand, 3.0),
    "experts": Structure("experts as leaves", "bd,edf->ebf", experts, 2.0),
}
"""Structures, by name."""


def kernel_of(f: Any, params: Any, x: Any) -> Any:
    """The traced kernel of all rows, compiled."""
    from kernlens import ntk

    warnings.simplefilter("ignore")
    kernel = ntk.empirical_ntk_fn(f, trace_axes=(-1,))
    return jax.jit(lambda x, params: kernel(x, None, params)).lower(x, params).compile()


def measure(name: str, n: int, width: int, repeats: int, forms: list[str]) -> dict[str, Any]:
    """Milliseconds of every repeat by form, in turn, and how far the two kernels differ.

    Of wall time and of the processor, all threads together: the second leaves out what other work
    on the machine took.
    """
    made = STRUCTURES[name].make(np.random.default_rng(0), n, width)
    made = jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf, None if leaf.dtype.kind == "i" else jnp.float32)
            if isinstance(leaf, np.ndarray)
            else leaf
        ),
        made,
    )
    given = {
        "plain": (made.plain, made.plain_params),
        "written": (made.written, made.written_params),
    }
    calls = {form: kernel_of(given[form][0], given[form][1], made.x) for form in forms}
    values = {
        form: np.asarray(call(made.x, given[form][1]), np.float64) for form, call in calls.items()
    }
    clocks = {"milliseconds": time.perf_counter, "processor_milliseconds": time.process_time}
    found: dict[str, dict[str, list[float]]] = {
        clock: {form: [] for form in forms} for clock in clocks
    }
    for _ in range(repeats):
        for form, call in calls.items():
            start = {name: clock() for name, clock in clocks.items()}
            jax.block_until_ready(call(made.x, given[form][1]))
            for name, clock in clocks.items():
                found[name][form].append(1e3 * (clock() - start[name]))
    difference = None
    if len(values) == 2:
        one, two = values.values()
        difference = float(np.abs(one - two).max() / np.abs(one).max())
    return {**found, "difference": difference}


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    out = Path(spec.pop("out"))
    out.write_text(json.dumps(measure(**spec)))

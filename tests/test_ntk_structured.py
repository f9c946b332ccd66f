"""Every way to compute a tangent kernel against plain float64 Jacobians, over a table of models."""

from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.example_libraries import stax

from kernlens.ntk import empirical_ntk_fn, structured
from kernlens.ntk.structured import Contraction
from tests.tangent_models import (
    Convolutions,
    Pair,
    Pooled,
    Recurrent,
    Transformer,
    Upward,
    attention_pool,
    bag,
    branches,
    channels_first,
    clipped,
    cubic,
    dense,
    gated,
    gated_by_itself,
    joined,
    lookups,
    mixtures,
    mlp,
    nested,
    odd_uses,
    pooled,
    recurrence,
    scaled,
    shared_bias,
    sliced,
    stacked_loops,
    stopped,
    towers,
    ways_through,
)

ROWS = 7
FIRST, SECOND = slice(0, 4), slice(2, ROWS)
BLOCKS = ["auto", 1, 3, 50]

# Sums of a few hundred products, each rounded; the deepest model amplifies by less than 1e3.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}

_seeds = count()


def draw(*shape, scale=0.6):
    return scale * np.random.default_rng(next(_seeds)).standard_normal(shape)


def ids(*shape, high):
    return np.random.default_rng(next(_seeds)).integers(0, high, (ROWS, *shape)).astype(np.int32)


def mask(length):
    lengths = np.random.default_rng(next(_seeds)).integers(1, length + 1, ROWS)
    return (np.arange(length) < lengths[:, None]).astype(np.float64)


class Case(NamedTuple):
    """A model ``f(params, x)``, float64 params, ``ROWS`` rows; has a jvp?"""

    name: str
    f: Any
    params: Any
    x: Any
    forward: bool = True


def linen(name, model, *x):
    """A Flax module, its parameters drawn: none is zero or one."""
    with jax.enable_x64(False):
        shapes = jax.eval_shape(model.init, jax.random.key(0), *jax.tree.map(jnp.asarray, x))
    params = jax.tree.map(lambda leaf: draw(*leaf.shape), shapes)
    return Case(name, lambda p, x: model.apply(p, *x), params, x)


def cast(tree, dtype):
    """Floating leaves to ``dtype``, on the device."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype if np.asarray(leaf).dtype.kind == "f" else None), tree
    )


def products(f, params, x):
    """Products of the rows of one Jacobian of the whole batch in float64, ``[n, *o, n, *o]``."""
    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(cast(params, "float64"))
        x = cast(x, "float64")
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype.kind == "f"]

        def outputs(values):
            own = list(leaves)
            for i, value in zip(chosen, values, strict=True):
                own[i] = value
            return f(jax.tree.unflatten(tree, own), x)

        values = [leaves[i] for i in chosen]
        shape = jax.eval_shape(outputs, values).shape
        jacobians = compiled(jax.jacrev(outputs), values)
    flat = [np.asarray(j).reshape(np.prod(shape), -1) for j in jacobians]
    rows = np.concatenate(flat, axis=1)
    return (rows @ rows.T).reshape(*shape, *shape)


def arrange(k, trace_axes=(), diagonal_axes=()):
    """``[n, *outputs, n, *outputs]`` to the interleaved axes of the convention, by an einsum."""
    ndim = k.ndim // 2
    letters = list("abcdefgh"[:ndim])
    traced, diagonal = ([axis % ndim for axis in axes] for axes in (trace_axes, diagonal_axes))
    partners = [c if axis in traced + diagonal else c.upper() for axis, c in enumerate(letters)]
    kept = [
        c + partner * (partner != c)
        for axis, (c, partner) in enumerate(zip(letters, partners, strict=True))
        if axis not in traced
    ]
    scale = np.prod([k.shape[axis] for axis in traced])
    return np.einsum(f"{''.join(letters + partners)}->{''.join(kept)}", k) / scale


def reference(f, params, x, trace_axes=(), diagonal_axes=()):
    return arrange(products(f, params, x), trace_axes, diagonal_axes)


def compiled(f, *args):
    """``f(*args)``, compiled in haste: these tests are all compile time."""
    return jax.jit(f).lower(*args).compile({"xla_backend_optimization_level": 0})(*args)


def take(x, rows):
    return jax.tree.map(lambda leaf: leaf[rows], x)


def error(got, expected):
    """Largest difference over the largest entry."""
    assert got.shape == expected.shape
    return np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max()


def layer(read, write):
    return {"w": draw(read, write), "b": draw(write)}


PLAIN = draw(ROWS, 3)
ITEMS, KEEP, CANDIDATES = ids(4, high=6), mask(4), ids(2, high=6)
ITEMS[:, 1] = ITEMS[:, 0]
TABLE = {"table": draw(6, 3), **layer(3, 2)}
WIDE = draw(3, 200)
stax_init, stax_apply = stax.serial(stax.Dense(4), stax.Relu, stax.Dense(2))
stax_params = [(draw(3, 4), draw(4)), (), (draw(4, 2), draw(2))]

CASES = [
    Case("mlp", mlp, [layer(3, 4), layer(4, 5), layer(5, 2)], PLAIN),
    Case("stax", stax_apply, stax_params, PLAIN),
    linen("convolutions", Convolutions(), draw(ROWS, 5, 4, 2)),
    linen("grouped and transposed convolutions", Upward(), draw(ROWS, 4, 2)),
    linen("transformer", Transformer(), ITEMS, KEEP.astype(bool)),
    linen("recurrent", Recurrent(), ITEMS),
    Case("bag, product", bag(lambda e, m: (e * m[..., None]).sum(1)), TABLE, (ITEMS, KEEP)),
    Case(
        "bag, where",
        bag(
            lambda e, m: (
                jnp.where(m[..., None] > 0, e, jnp.zeros_like(e)).sum(1) / m.sum(1)[:, None]
            )
        ),
        TABLE,
        (ITEMS, KEEP),
    ),
    Case("bag, einsum", bag(lambda e, m: jnp.einsum("nld,nl->nd", e, m)), TABLE, (ITEMS, KEEP)),
    Case("bag, mean", bag(lambda e, m: jnp.mean(e, axis=1)), TABLE, (ITEMS, KEEP)),
    Case("bag, product of rows", bag(lambda e, m: jnp.tanh(e).prod(1)), TABLE, (ITEMS, KEEP)),
    Case("two towers", towers, TABLE, (ITEMS, KEEP, CANDIDATES)),
    Case("attention pool", attention_pool, {**TABLE, "query": draw(3)}, ITEMS),
    Case(
        "table also sliced",
        lambda p, x: (p["table"][x].sum(1) @ p["w"]) @ p["table"][:, :2].T,
        {"table": draw(6, 3), "w": draw(3, 2)},
        ITEMS,
    ),
    Case(
        "tied logits",
        lambda p, x: jnp.tanh(p["table"][x].sum(1) @ p["w"]) @ p["table"].T,
        {"table": draw(6, 3), "w": draw(3, 3)},
        ITEMS,
    ),
    Case(
        "lookups",
        lookups,
        {
            "table": draw(6, 3),
            "matrices": draw(6, 2, 3),
            "columns": draw(2, 6),
            "offsets": draw(6),
        },
        ITEMS,
    ),
    Case(
        "recurrence",
        recurrence,
        {"w": draw(3, 3), "b": draw(3), "table": draw(6, 3), "out": draw(3, 2)},
        ITEMS,
    ),
    Case("nested loops", nested, {**layer(3, 3), "stack": draw(2, 3, 3)}, PLAIN),
    Case(
        "odd uses",
        odd_uses,
        {
            "exp": draw(3, 4),
            "square": draw(3, 4),
            "left": draw(4, 2),
            "right": draw(4, 1),
            "sliced": draw(5, 2),
            "gain": draw(2),
            "normed": draw(3),
        },
        PLAIN,
    ),
    Case(
        "scaled",
        scaled,
        {"a": draw(3, 4), "b": draw(2, 4), "c": draw(3, 4), "d": draw(4, 2), "gain": draw(2)},
        PLAIN,
    ),
    Case("transposed", lambda p, x: jnp.tanh(x @ p.T) @ p + (p @ x.T).T[:, :3], draw(4, 3), PLAIN),
    Case(
        "shared bias",
        shared_bias,
        {
            "w": draw(3, 2),
            "v": draw(3, 2),
            "z": draw(3, 2),
            "b": draw(2),
            "one": draw(1),
            "apart": np.array([0.3, -0.8]),
        },
        PLAIN,
    ),
    Case(
        "bilinear and reshaped",
        lambda p, x: jnp.einsum("ni,ijk,nj->nk", x, p[0], x) + x @ p[1].reshape(3, 2),
        [draw(3, 3, 2), draw(6)],
        PLAIN,
    ),
    Case(
        "tiled and broadcast",
        lambda p, x: x @ jnp.broadcast_to(p[0], (3, 2)) + x @ jnp.tile(p[1], (3, 1)),
        [draw(2), draw(1, 2)],
        PLAIN,
    ),
    Case(
        "low rank",
        lambda p, x: x @ (p[0] @ p[1]) + (x @ p[2]) @ p[1],
        [draw(3, 2), draw(2, 3), draw(3, 2)],
        PLAIN,
    ),
    Case(
        "custom derivatives",
        lambda p, x: clipped(dense(p[1], cubic(dense(p[0], x)))),
        [layer(3, 4), layer(4, 2)],
        PLAIN,
        forward=False,
    ),
    Case("ways through", ways_through, [layer(3, 4), layer(4, 4), draw(3, 4, 2)], PLAIN),
    Case("stopped", stopped, [layer(3, 4), layer(4, 2), draw(2)], PLAIN),
    Case("gated", gated, [layer(3, 3), layer(3, 2)], PLAIN),
    Case("gated by itself", gated_by_itself, [layer(3, 3), layer(3, 2)], PLAIN),
    Case("pooled", partial(pooled, False), [layer(3, 3), layer(3, 4)], PLAIN),
    Case("pooled across", partial(pooled, True), [layer(3, 3), layer(3, 4)], PLAIN),
    linen("pooled by a window", Pooled(window=True), draw(ROWS, 4, 3, 2)),
    linen("pooled by a mean", Pooled(window=False), draw(ROWS, 4, 3, 2)),
    *(
        Case(
            f"channels first, pooled by {channels}",
            partial(channels_first, channels),
            {"kernels": [draw(3, 2, 3, 3), draw(3, 3, 2, 2)], **layer(3, 2)},
            draw(ROWS, 2, 4, 3),
        )
        for channels in (1, 2)
    ),
    Case("sliced", sliced, {"w": draw(3, 4), "b": draw(4), "layers": draw(3, 2, 2)}, PLAIN),
    Case(
        "joined",
        joined,
        {
            "a": draw(3, 2),
            "b": draw(3, 1),
            "c": draw(2),
            "d": draw(1),
            "e": draw(1, 2),
            "f": draw(2, 2),
        },
        PLAIN,
    ),
    Case(
        "stacked loops",
        stacked_loops,
        {"w": draw(12, 3), "b": draw(3), "v": draw(2, 3, 3), "c": draw(2, 3)},
        PLAIN,
    ),
    Case(
        "mixtures",
        mixtures,
        {"up": draw(2, 4, 3, 2), "b": draw(2, 4, 2), "down": draw(2, 4, 2, 3)},
        PLAIN,
    ),
    Case("branches", branches, {"w": draw(3, 3), "v": draw(3, 3), "u": draw(3, 3)}, PLAIN),
    Case(
        "containers, unused and integers",
        lambda p, x: dense(p.first, x) + (x @ p.rest[0]["v"]) @ p.rest[1][0],
        Pair(layer(3, 2), [{"v": draw(3, 3), "unused": draw(4)}, (draw(3, 2), np.arange(3))]),
        PLAIN,
    ),
]

BY_NAME = {case.name: case for case in CASES}


ROWS_OF_TABLE = [pytest.param(case, id=case.name) for case in CASES]
FEW_ROWS = [
    row
    if row.id in {"mlp", "lookups", "two towers"}
    else pytest.param(*row.values, id=row.id, marks=pytest.mark.thorough)
    for row in ROWS_OF_TABLE
]


@cache
def products_of(name):
    return products(BY_NAME[name].f, BY_NAME[name].params, BY_NAME[name].x)


def agree(case, method, block_size, dtype, contraction=None):
    """Largest errors of the full kernel of two sets of rows, and of the traced one of the first."""
    k = products_of(case.name)
    axes = tuple(range(1, k.ndim // 2))

    def both(params, first, second):
        return [
            empirical_ntk_fn(case.f, trace_axes, (), None, method, None, block_size)(*x, params)
            for trace_axes, x in [((), (first, second)), (axes, (first, None))]
        ]

    with jax.enable_x64(dtype == "float64"), pytest.MonkeyPatch.context() as patch:
        if contraction is not None:
            patch.setattr(structured, "plan", partial(structured.plan, contraction=contraction))
        params, x = cast(case.params, dtype), cast(case.x, dtype)
        got = jax.device_get(compiled(both, params, take(x, FIRST), take(x, SECOND)))
    pairs, traced = arrange(k), arrange(k, axes)
    return max(error(got[0], pairs[FIRST, SECOND]), error(got[1], traced[FIRST, FIRST]))


@pytest.mark.parametrize("case", FEW_ROWS)
def test_structured_is_the_product_of_jacobians(case):
    block_size = BLOCKS[CASES.index(case) % len(BLOCKS)]
    assert agree(case, "structured", block_size, "float64") < TOLERANCE["float64"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "method", "block_size", "dtype", "contraction"),
    [
        ("mlp", "auto", 3, "float32", None),
        ("mlp", "jacobian", 1, "float64", None),
        ("mlp", "vector_products", "auto", "float64", None),
        ("mlp", "structured", 3, "float64", Contraction.GRADIENT),
        ("two towers", "auto", 50, "float32", None),
        ("two towers", "jacobian", "auto", "float32", None),
        ("two towers", "vector_products", 3, "float32", None),
        ("two towers", "structured", 1, "float64", Contraction.GRADIENT),
        ("tied logits", "structured", 1, "float64", Contraction.GRADIENT),
        ("tied logits", "structured", 3, "float64", Contraction.GRAM),
        ("lookups", "structured", 3, "float64", Contraction.GRAM),
        ("recurrence", "jacobian", 50, "float64", None),
        ("transposed", "structured", "auto", "float64", Contraction.GRADIENT),
        ("convolutions", "structured", "auto", "float32", Contraction.GRAM),
        ("mixtures", "structured", 3, "float64", Contraction.GRADIENT),
        ("odd uses", "vector_products", 1, "float32", None),
    ],
)
def test_methods_agree(name, method, block_size, dtype, contraction):
    found = agree(BY_NAME[name], method, block_size, dtype, contraction)
    assert found < TOLERANCE[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", ROWS_OF_TABLE)
def test_all_methods_agree_on_all_models(case, dtype):
    ways = [
        ("auto", None),
        ("structured", Contraction.GRAM),
        ("structured", Contraction.GRADIENT),
        ("jacobian", None),
        *[("vector_products", None)] * case.forward,
    ]
    for place, (method, contraction) in enumerate(ways):
        block_size = BLOCKS[(CASES.index(case) + place) % len(BLOCKS)]
        found = agree(case, method, block_size, dtype, contraction)
        assert found < TOLERANCE[dtype], (method, contraction, block_size)


@pytest.mark.thorough
@pytest.mark.parametrize("layout", ["pooled by a mean", "channels first, pooled by 1"])
def test_kernels_of_convolutions_have_derivatives_of_both_modes(layout):
    case = BY_NAME[layout]
    with jax.enable_x64(True):
        params, x, step = (cast(v, "float64") for v in (case.params, case.x, case.params))
        kernel_fn = empirical_ntk_fn(case.f)

        def total(p):
            return jnp.sin(kernel_fn(x, None, p)).sum()

        slopes = compiled(jax.grad(total), params)
        pairs = zip(*map(jax.tree.leaves, (slopes, step)), strict=True)
        reverse = sum(float(jnp.vdot(a, b)) for a, b in pairs)
        forward = float(compiled(lambda p: jax.jvp(total, (p,), (step,))[1], params))
        width = 1e-6
        ends = jax.vmap(lambda t: total(jax.tree.map(lambda a, b: a + t * b, params, step)))
        behind, ahead = np.asarray(compiled(ends, jnp.array([-width, width])))
    assert forward == pytest.approx(reverse, rel=1e-9)
    # A central difference over 2e-6 of totals that are rounded to 1e-14.
    assert forward == pytest.approx((ahead - behind) / (2 * width), rel=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["mlp", "two towers"])
def test_half_precision_parameters(name):
    case = BY_NAME[name]
    params, x = cast(case.params, jnp.bfloat16), cast(case.x, jnp.bfloat16)
    k = empirical_ntk_fn(case.f, trace_axes=())(x, None, params)
    assert k.dtype == jnp.float32
    rounded = jax.tree.map(
        lambda leaf: np.asarray(leaf).astype(np.float64), cast(params, "float32")
    )
    # Eight bits of mantissa, through a model a few layers deep.
    assert error(k, reference(case.f, rounded, case.x)) < 0.03

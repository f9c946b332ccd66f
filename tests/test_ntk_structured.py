"""Every way to compute a tangent kernel against plain float64 Jacobians, over a table of models."""

from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.example_libraries import stax

from kernlens.ntk import Method, empirical_ntk_fn, structured
from kernlens.ntk.structured import Contraction

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


def dense(p, x):
    return x @ p["w"] + p["b"]


def layer(read, write):
    return {"w": draw(read, write), "b": draw(write)}


def mlp(p, x):
    for each in p[:-1]:
        x = jnp.tanh(dense(each, x))
    return dense(p[-1], x)


@jax.custom_jvp
def cubic(x):
    return x**3


@cubic.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return cubic(x), 3.0 * x**2 * t


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (2.0 * jnp.cos(x) * ct,))


class Pair(NamedTuple):
    """Parameters as a NamedTuple of other containers."""

    first: Any
    rest: Any


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 2), strides=(2, 1), padding="SAME")(x)
        x = nn.Conv(2, (2, 2), padding=((1, 0), (0, 2)), kernel_dilation=(1, 2), use_bias=False)(
            jnp.tanh(x)
        )
        return x.mean((1, 2))


class Pooled(nn.Module):
    """Convolutions without strides, and a pool of each channel over all positions."""

    window: bool
    outputs: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 2), kernel_dilation=(1, 2))(x)
        x = nn.gelu(nn.Conv(4, (2, 2), padding=((1, 0), (0, 2)))(jnp.tanh(x)))
        x = nn.max_pool(x, x.shape[1:3]).reshape(len(x), -1) if self.window else x.mean((1, 2))
        return nn.Dense(self.outputs)(x)


class Upward(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (2,), feature_group_count=2, padding="CIRCULAR")(x)
        x = nn.ConvTranspose(3, (3,), strides=(2,))(jnp.tanh(x))
        return x.sum(1)


class Transformer(nn.Module):
    """One block over tokens, with a mask, positions and tied logits of the last token."""

    @nn.compact
    def __call__(self, tokens, keep):
        embed = nn.Embed(6, 4)
        positions = self.param("positions", nn.initializers.normal(), (9, 4))
        x = embed(tokens) + positions[: tokens.shape[1]]
        norm = partial(nn.LayerNorm, param_dtype=x.dtype, force_float32_reductions=False)
        attend = nn.make_attention_mask(keep, keep, pairwise_fn=jnp.logical_and, dtype=bool)
        x = x + nn.MultiHeadDotProductAttention(2)(norm()(x), mask=attend)
        x = x + nn.Dense(4)(nn.gelu(nn.Dense(5)(norm()(x))))
        return embed.attend(x[:, -1])[:, :3]


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(6, 3)(tokens)
        carry = jnp.zeros((x.shape[0], 3), x.dtype)
        return nn.Dense(2)(nn.RNN(nn.GRUCell(3))(x, initial_carry=carry)[:, -1])


def bag(pool):
    """Mean of the embeddings of a masked list of items, then a layer."""

    def f(p, x):
        items, keep = x
        return dense(p, jnp.tanh(pool(p["table"][items], keep)))

    return f


def towers(p, x):
    """Scores of candidates for a history, all items from one table, towers that share a layer."""
    items, keep, candidates = x
    user = (p["table"][items] * keep[..., None]).sum(1) / keep.sum(1, keepdims=True)
    user = jnp.tanh(dense(p, user))
    item = jnp.tanh(dense(p, p["table"][candidates]))
    return jnp.einsum("nd,nad->na", user, item)


def recurrence(p, x):
    """Shared weights in a loop and outside of it, rows of a table read within it."""

    def step(h, token):
        h = jnp.tanh(h @ p["w"] + p["table"][token] + p["b"])
        return h, h @ p["out"]

    h, ys = jax.lax.scan(step, jnp.zeros((x.shape[0], 3), p["w"].dtype), x.T, reverse=True)
    return ys.sum(0) + (h @ p["w"]) @ p["out"]


def nested(p, x):
    """A loop in a loop, with a layer that is scanned over as well."""

    def outer(h, w):
        h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(dense(p, h)), None), h, None, length=2)
        return jnp.tanh(h @ w), None

    return jax.lax.scan(outer, x, p["stack"])[0]


def odd_uses(p, x):
    h = jnp.tanh(x @ jnp.exp(p["exp"]) + (x @ (p["square"] * p["square"])))
    h = h @ jnp.concatenate([p["left"], p["right"]], axis=1)
    return h @ p["sliced"][1:4] * p["gain"] / jnp.linalg.norm(p["normed"])


def scaled(p, x):
    h = jnp.tanh(x @ (p["a"] / np.sqrt(3.0).item()) - 0.3 * (x @ p["c"]))
    return h @ (p["b"].T * 0.7) * 2.0 + jnp.sum(p["gain"]) * (h @ (p["d"] * p["gain"][0]))


def shared_bias(p, x):
    h = p["b"] + x @ p["w"]
    u = x @ p["v"]
    # "apart" is no bias of the site that wrote u: others read u too.
    return jnp.tanh(h + u + p["b"]) + u * (x @ p["z"] + p["one"]) + jnp.sin(u + p["apart"])


def stopped(p, x):
    h = jnp.tanh(dense(p[0], x))
    return dense(p[1], h) * jax.lax.stop_gradient(h @ p[1]["w"]) + jax.lax.stop_gradient(p[2])


def ways_through(p, x):
    """Inner jit, checkpoint and a map over a stack of layers."""
    h = jax.jit(dense)(p[0], x)
    h = jax.checkpoint(lambda q, h: jnp.tanh(dense(q, h)))(p[1], jnp.tanh(h))
    return jax.vmap(lambda w: h @ w, out_axes=1)(p[2])


def lookups(p, x):
    """Negative and clipped ids, a table of numbers, one of matrices, a lookup of columns."""
    negative = p["table"][x - 4]
    clipped = jnp.take(p["table"], x + 3, axis=0, mode="clip")
    filled = jnp.take(p["table"], x + 1, axis=0, mode="fill", fill_value=0.5)
    matrix = jnp.einsum("nlij->nj", p["matrices"][x])
    column = p["columns"][:, x].sum((0, 2))
    pooled = jnp.tanh(negative).sum(1) + jnp.sin(clipped).sum(1) + filled.prod(1)
    return pooled + matrix + (column + p["offsets"][x].prod(1))[:, None]


def attention_pool(p, x):
    """Weights of the pool that depend on the rows themselves."""
    rows = p["table"][x]
    weights = jax.nn.softmax(rows @ p["query"], axis=-1)
    return dense(p, jnp.einsum("nld,nl->nd", rows, weights))


def branches(p, x):
    h = jax.lax.cond(True, lambda w: x @ w, lambda w: x @ w.T, p["w"])
    h = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ p["v"]), h)
    return jnp.where(x > 0, h @ p["u"], h)


def gated(p, x):
    """A layer next to the last, gated by the example and chosen by it, and added to it."""
    h = jnp.tanh(dense(p[0], x)) * jnp.sin(x) + x
    return dense(p[1], jnp.where(x[:, :1] > 0, h, x))


def gated_by_itself(p, x):
    """A layer next to the last whose gate depends on it, so that its slopes are no diagonal."""
    h = dense(p[0], x)
    return dense(p[1], jnp.tanh(h) * jnp.cumsum(h, axis=1))


def pooled(across, p, x):
    """Rows of a layer, pooled over positions or across what the layer wrote at each."""
    h = jnp.tanh(dense(p[0], jnp.sin(jnp.stack([x, 2.0 * x, x - 1.0], axis=1)))) * x[:, :, None]
    return dense(p[1], h.sum(2 if across else 1))


def channels_first(channels, p, x):
    """Convolutions of images with channels first, pooled by a window of one or more channels."""
    for kernel in p["kernels"]:
        x = jnp.tanh(jax.lax.conv(x, kernel, (1, 1), "SAME"))
    window, pads = (1, channels, *x.shape[2:]), ((0, 0), (0, channels - 1), (0, 0), (0, 0))
    x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1, 1), pads)
    return dense(p, x.reshape(len(x), -1))


def sliced(p, x):
    """Slices of a matrix and of its bias, some of them with steps or by their number."""
    even, odd = x @ p["w"][:, ::2], x @ p["w"][:, 1::2]
    h = jnp.tanh(even + p["b"][:2]) * (odd + p["b"][2:])
    for i in range(2):
        h = jnp.tanh(h @ jax.lax.dynamic_index_in_dim(p["layers"], i, 0, False))
    return h @ p["layers"][-1]


def joined(p, x):
    """Products with matrices side by side and one above the other, biases likewise."""
    h = x @ jnp.concatenate([p["a"], 2.0 * p["b"]], 1) + jnp.concatenate([p["c"], p["d"]])
    return jnp.tanh(h) @ jnp.concatenate([p["e"], p["f"]])


def stacked_loops(p, x):
    """A loop over stacked matrices in a loop over stacks of them, reshaped before."""

    def outer(h, layer):
        h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w + p["b"]), None), h, layer["w"])
        return jnp.tanh(h @ layer["v"] + layer["c"]), layer["v"]

    layers = {"w": p["w"].reshape(2, 2, 3, 3), "v": p["v"], "c": p["c"]}
    return jax.lax.scan(outer, x, layers, reverse=True)[0]


def mixtures(p, x):
    """Layers of experts in a loop, weighted."""

    def layer(h, w):
        inner = jnp.tanh(jnp.einsum("nd,edf->enf", h, w["up"]) + w["b"][:, None])
        return jnp.einsum("enf,efd->nd", inner, w["down"]), None

    return jax.lax.scan(layer, x, p)[0]


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


@pytest.mark.parametrize("case", ROWS_OF_TABLE)
def test_structured_is_the_product_of_jacobians(case):
    block_size = BLOCKS[CASES.index(case) % len(BLOCKS)]
    assert agree(case, "structured", block_size, "float64") < TOLERANCE["float64"]


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


def explain(f, x1, x2, params, **settings):
    return empirical_ntk_fn(f, explain=True, **settings)(x1, x2, params)


def test_auto_needs_no_forward_derivative():
    # Weights that only an exact Jacobian serves are where products would be cheapest.
    def f(p, x):
        return clipped(x @ jnp.exp(p["w"])).sum(-1)

    params, x = cast(({"w": WIDE}, PLAIN), "float32")
    k = empirical_ntk_fn(f, trace_axes=())(x, None, params)
    assert error(k, reference(f, {"w": WIDE}, PLAIN)) < TOLERANCE["float32"]


@pytest.mark.parametrize("outputs", ["scores", "vectors"])
def test_no_gradient_of_a_table_is_built(outputs):
    items, n = 20_000, 16
    x = (jnp.zeros((n, 4), jnp.int32), jnp.ones((n, 4), jnp.float32), jnp.zeros((n, 2), jnp.int32))
    params = cast({"table": draw(items, 3), **layer(3, 2)}, "float32")
    f = towers if outputs == "scores" else lambda p, x: dense(p, p["table"][x[0]].sum(1))
    kernel_fn = empirical_ntk_fn(f, trace_axes=())
    program = jax.jit(lambda x, params: kernel_fn(x, None, params)).lower(x, params).compile()
    memory = program.memory_analysis()
    # One gradient of the table is 240 kB; the sixteen of the batch would be 3.8 MB.
    assert memory.temp_size_in_bytes < 4 * 3 * items
    choice = next(c for c in explain(f, x, None, params, trace_axes=()).leaves if c.bias is None)
    assert choice.path == ("table",)
    assert choice.contraction is Contraction.GRAM


def test_memory_does_not_grow_with_the_table():
    used = []
    for items in (20_000, 200_000):
        x = (
            jnp.zeros((16, 4), jnp.int32),
            jnp.ones((16, 4), jnp.float32),
            jnp.zeros((16, 2), jnp.int32),
        )
        params = {"table": jnp.zeros((items, 3), jnp.float32), **cast(layer(3, 2), "float32")}
        kernel_fn = empirical_ntk_fn(towers)
        program = jax.jit(kernel_fn).lower(x, x, params).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    assert used[1] == used[0]


def test_explanation_names_leaves_ways_and_costs():
    params = cast({"table": draw(20_000, 3), "free": draw(2), **layer(3, 2)}, "float32")
    x = (jnp.zeros((5, 4), jnp.int32), jnp.ones((5, 4), jnp.float32), jnp.zeros((5, 2), jnp.int32))
    why = explain(
        lambda p, x: towers(p, x) * jnp.exp(p["free"]), x, None, params, method="structured"
    )
    assert why.method is Method.STRUCTURED
    assert {c.path: (c.bias, c.contraction) for c in why.leaves} == {
        ("free",): (None, Contraction.JACOBIAN),
        ("table",): (None, Contraction.GRAM),
        ("w",): (("b",), why.leaves[-1].contraction),
    }
    assert why.block_size == 5
    assert set(why.operations) == {Method.STRUCTURED, Method.JACOBIAN, Method.VECTOR_PRODUCTS}
    assert why.operations[Method.STRUCTURED] == pytest.approx(sum(c.operations for c in why.leaves))
    lines = str(why).splitlines()
    assert lines[0].startswith("structured, blocks of 5 rows; multiply-adds a pair: ")
    assert lines[1].startswith("  free: exact Jacobian, 1 position, ")
    assert lines[2].startswith("  table: Grams of factors, ")
    assert lines[3].startswith("  w with b: ")
    assert len(lines) == 4


def test_a_layer_before_a_pool_costs_the_same_for_any_number_of_outputs():
    for window in (True, False):
        costs = []
        for outputs in (2, 20):
            case = linen("", Pooled(window, outputs), draw(2, 6, 6, 3))
            params, x = cast((case.params, case.x), "float32")
            why = explain(case.f, x, None, params)
            costs.append({choice.path[-2]: choice.operations for choice in why.leaves})
        assert costs[0]["Conv_1"] == costs[1]["Conv_1"]
        assert 5 * costs[0]["Conv_0"] < costs[1]["Conv_0"]


def test_gradients_smaller_than_their_factors_are_kept_in_their_place():
    used = []
    for n in (64, 512):
        case = linen("", Pooled(False), draw(n, 32, 32, 3))
        params, x = cast((case.params, case.x), "float32")
        program = jax.jit(empirical_ntk_fn(case.f)).lower(x, None, params).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    # The second layer reads 12 numbers at 32 * 32 positions; its gradient has 52.
    assert used[1] - used[0] < (512 - 64) * 32 * 32 * 12 * 4


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

"""Models as libraries and papers write them, with the leaves that only an exact Jacobian serves.

A quick test reads the plan of each; the slow one compares all methods with a float64 Jacobian.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

ROWS, TOKENS, WIDTH, VOCABULARY = 4, 5, 8, 7


class Model(NamedTuple):
    """A model: ``f(params, x)``, its float64 parameters and inputs of ``ROWS`` rows.

    ``exact`` lists paths of leaves that enter otherwise than in products, joined by slashes;
    ``forward`` tells whether it has a forward-mode derivative.
    """

    f: Callable[[Any, Any], Any]
    params: Any
    x: Any
    exact: tuple[str, ...] = ()
    forward: bool = True


def rng(seed: int) -> np.random.Generator:
    """A generator of a seed."""
    return np.random.default_rng(seed)


def filled(tree: Any, seed: int) -> Any:
    """Parameters of the shapes of a tree, none of them zero or one."""
    draw = rng(seed)
    return jax.tree.map(lambda leaf: 0.5 * draw.standard_normal(leaf.shape), tree)


def rows(*shape: int) -> np.ndarray:
    """Inputs."""
    return rng(1).standard_normal((ROWS, *shape))


def tokens() -> np.ndarray:
    """Tokens."""
    return rng(2).integers(0, VOCABULARY, (ROWS, TOKENS)).astype(np.int32)


def linen(module: nn.Module, x: Any, seed: int, **options: Any) -> Model:
    """A Linen module."""
    with jax.enable_x64(False):
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(x))
    params = filled(shapes["params"], seed)
    return Model(lambda p, x: module.apply({"params": p}, x), params, x, **options)


# Plain JAX


def rms_norm(scale: Any, x: Any) -> Any:
    """Root-mean-square norm."""
    mean = jnp.mean(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean + jnp.asarray(1e-5, x.dtype)) * scale


def rope(x: Any) -> Any:
    """Rotary positions of ``[n, t, h, k]``."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / 100.0 ** (np.arange(half) / half)
    cos, sin = (jnp.asarray(f(angles), x.dtype)[:, None] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def attention(p: Any, x: Any) -> Any:
    """Causal attention of four query heads over two key-value heads, one fused projection."""
    n, t, d = x.shape
    qkv = x @ jnp.concatenate([p["q"], p["kv"]], axis=1)
    q, k, v = jnp.split(qkv, [d, d + d // 2], axis=-1)
    q = rope(q.reshape(n, t, 4, d // 4)).reshape(n, t, 2, 2, d // 4)
    k, v = rope(k.reshape(n, t, 2, d // 4)), v.reshape(n, t, 2, d // 4)
    logits = jnp.einsum("ntghk,nsgk->nghts", q, k)
    keep = jnp.tril(jnp.ones((t, t), bool))
    weights = jax.nn.softmax(jnp.where(keep, logits, jnp.asarray(-1e9, x.dtype)))
    return jnp.einsum("nghts,nsgk->ntghk", weights, v).reshape(n, t, d) @ p["out"]


def gated(p: Any, x: Any) -> Any:
    """A gated layer, gate and value from one matrix by slices."""
    width = p["down"].shape[0]
    gate, value = x @ p["up"][:, :width], x @ p["up"][:, width:]
    return (jax.nn.silu(gate) * value) @ p["down"]


def llama_layer(p: Any, x: Any) -> Any:
    """A pre-norm block with RMSNorm, RoPE, grouped queries and a gated layer."""
    x = x + attention(p, rms_norm(p["norms"][0], x))
    return x + gated(p, rms_norm(p["norms"][1], x))


def llama(p: Any, ids: Any) -> Any:
    """Two layers in a loop over their stacked parameters, rematerialised, weight-tied logits."""
    body = jax.checkpoint(lambda x, layer: (llama_layer(layer, x), None))
    x, _ = jax.lax.scan(body, p["table"][ids], p["layers"])
    return jnp.mean(rms_norm(p["norm"], x), axis=1) @ p["table"].T


def llama_params() -> Any:
    """Parameters of :func:`llama`."""
    d, hidden = WIDTH, 6
    layer = {
        "norms": np.zeros((2, 2, d)),
        "q": np.zeros((2, d, d)),
        "kv": np.zeros((2, d, d)),
        "out": np.zeros((2, d, d)),
        "up": np.zeros((2, d, 2 * hidden)),
        "down": np.zeros((2, hidden, d)),
    }
    return filled({"table": np.zeros((VOCABULARY, d)), "layers": layer, "norm": np.zeros(d)}, 3)


def experts(p: Any, x: Any) -> Any:
    """Four experts of two layers, the top two of which count."""
    logits = x @ p["router"]
    kept = logits >= jax.lax.top_k(logits, 2)[0][:, -1:]
    gates = jax.nn.softmax(jnp.where(kept, logits, jnp.asarray(-1e9, x.dtype)))
    hidden = jax.nn.gelu(jnp.einsum("nd,edf->enf", x, p["up"]) + p["bias"][:, None])
    return jnp.einsum("ne,enk->nk", gates, jnp.einsum("enf,efk->enk", hidden, p["down"]))


def low_rank(p: Any, x: Any) -> Any:
    """Layers with low-rank updates, one beside the product and one merged into the weights."""
    x = jnp.tanh(x @ p["w1"] + 0.5 * ((x @ p["a1"]) @ p["b1"]))
    return x @ (p["w2"] + p["a2"] @ p["b2"])


def two_tables(p: Any, ids: Any) -> Any:
    """A lookup in two tables, one after the other, and positions by a slice."""
    x = jnp.concatenate([p["common"], p["rare"]])[ids] + p["positions"][:TOKENS]
    return jnp.tanh(x @ p["w"] + p["b"]).mean(1)


def by_case(p: Any, x: Any) -> Any:
    """One of two layers for each example."""

    def one(row: Any) -> Any:
        ways = (lambda r: jnp.tanh(r @ p["first"]), lambda r: r @ p["second"])
        return jax.lax.cond(row[0] > 0, *ways, row)

    return jax.vmap(one)(x) @ p["out"]


def in_turn(p: Any, x: Any) -> Any:
    """One of two layers at each step of a loop."""

    def step(h: Any, i: Any) -> tuple[Any, None]:
        ways = [lambda h: jnp.tanh(h @ p["first"]), lambda h: jnp.sin(h @ p["second"])]
        return jax.lax.switch(i, ways, h), None

    return jax.lax.scan(step, x, jnp.array([0, 1, 0]))[0]


@jax.custom_vjp
def quantised(x: Any, w: Any, b: Any) -> Any:
    """A layer with rounded weights, and derivatives as if they were not."""
    return x @ (jnp.round(w * 16) / 16) + b


quantised.defvjp(
    lambda x, w, b: (quantised(x, w, b), (x, w)),
    lambda kept, ct: (ct @ kept[1].T, kept[0].T @ ct, jnp.sum(ct, axis=0)),
)


@jax.custom_vjp
def rounded(w: Any) -> Any:
    """Rounded weights with the derivative of the identity."""
    return jnp.round(w * 16) / 16


rounded.defvjp(lambda w: (rounded(w), None), lambda _, ct: (ct,))


def quantised_mlp(p: Any, x: Any) -> Any:
    """A layer with derivatives by hand, and one of rounded weights."""
    return jnp.tanh(quantised(x, p["w"], p["b"])) @ rounded(p["out"])


def ensemble(p: Any, x: Any) -> Any:
    """Three networks by vmap, averaged."""

    def member(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["w"] + p["b"]) @ p["out"]

    return jax.vmap(member, (0, None))(p, x).mean(0)


def padded(p: Any, x: Any) -> Any:
    """Layers from a list stacked and looped over, the first padded."""
    first = jnp.pad(p[0], ((0, WIDTH - p[0].shape[0]), (0, 0)))
    layers = jnp.stack([first, *p[1:]])
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, layers)[0]


# Linen


class Cell(nn.Module):
    """A recurrent cell over tokens."""

    cell: Any

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        x = nn.Embed(VOCABULARY, 3)(ids)
        cell = self.cell(4)
        start = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
        carry = jax.tree.map(lambda leaf: leaf.astype(x.dtype), start)
        return nn.Dense(2)(nn.RNN(cell)(x, initial_carry=carry)[:, -1])


class ConvNext(nn.Module):
    """A patch convolution and a ConvNeXt block: depthwise, norm, two layers, a scale."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(4, (2, 2), strides=(2, 2))(x)
        h = nn.Conv(4, (3, 3), feature_group_count=4)(x)
        h = nn.LayerNorm(param_dtype=x.dtype, force_float32_reductions=False)(h)
        h = nn.Dense(4)(nn.gelu(nn.Dense(6)(h)))
        x = x + h * self.param("gamma", nn.initializers.ones, (4,), x.dtype)
        return nn.Dense(2)(x.mean((1, 2)))


class Block(nn.Module):
    """A layer for a loop of Linen's."""

    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return x + nn.Dense(WIDTH)(nn.tanh(nn.Dense(6)(x))), None


class Scanned(nn.Module):
    """Layers by ``nn.scan`` over ``nn.remat``."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        layers = nn.scan(
            nn.remat(Block, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        return nn.Dense(2)(layers()(x, None)[0])


class Vit(nn.Module):
    """Patches with positions and a class token, one attention block."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(WIDTH)(x)
        token = self.param("token", nn.initializers.normal(), (1, 1, WIDTH), x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, WIDTH)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(), (1, 6, WIDTH), x.dtype)
        return nn.Dense(2)((x + nn.MultiHeadDotProductAttention(2)(x))[:, 0])


# NNX


def nnx_model(make: Callable[[nnx.Rngs], nnx.Module], x: Any, seed: int, **options: Any) -> Model:
    """An NNX module."""
    with jax.enable_x64(False):
        graph, params, rest = nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)
    return Model(lambda p, x: nnx.merge(graph, p, rest)(x), filled(params, seed), x, **options)


class Loop(nnx.Module):
    """Layers by ``nnx.scan`` over stacked modules."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        self.layers = make(rngs)
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(layer: nnx.Linear, x: Any) -> Any:
            return jnp.tanh(layer(x))

        return self.head(run(self.layers, x))


def equinox_model() -> Model:
    """An Equinox module."""
    import equinox as eqx

    with jax.enable_x64(False):
        made = eqx.nn.MLP(WIDTH, 2, 6, 2, activation=jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(made, eqx.is_inexact_array)
    return Model(lambda p, x: jax.vmap(eqx.combine(p, static))(x), filled(params, 30), rows(WIDTH))


def haiku_model() -> Model:
    """A Haiku network."""
    import haiku as hk  # pyright: ignore[reportMissingImports]

    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([6, 2])(x)))
    with jax.enable_x64(False):
        params = net.init(jax.random.key(0), jnp.zeros((1, WIDTH)))
    return Model(net.apply, filled(params, 31), rows(WIDTH))


def shapes(**sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays by name and shape."""
    return {name: np.zeros(shape) for name, shape in sizes.items()}


D = WIDTH
ZOO: dict[str, Callable[[], Model]] = {
    "transformer: scan, remat, RoPE, RMSNorm, GQA, tied softmax": lambda: Model(
        llama, llama_params(), tokens(), ("layers/norms", "norm")
    ),
    "mixture of experts, top 2": lambda: Model(
        experts,
        filled(shapes(router=(D, 4), up=(4, D, 5), bias=(4, 5), down=(4, 5, 2)), 4),
        rows(D),
    ),
    "low-rank updates": lambda: Model(
        low_rank,
        filled(shapes(w1=(D, D), a1=(D, 2), b1=(2, D), w2=(D, 3), a2=(D, 2), b2=(2, 3)), 5),
        rows(D),
        ("b2",),
    ),
    "two tables joined": lambda: Model(
        two_tables,
        filled(shapes(common=(3, D), rare=(4, D), positions=(9, D), w=(D, 3), b=(3,)), 6),
        tokens(),
        ("positions",),
    ),
    "a conditional by example": lambda: Model(
        by_case, filled(shapes(first=(D, D), second=(D, D), out=(D, 2)), 7), rows(D)
    ),
    "a switch in a loop": lambda: Model(
        in_turn, filled(shapes(first=(D, D), second=(D, D)), 8), rows(D)
    ),
    "quantised layers with derivatives by hand": lambda: Model(
        quantised_mlp, filled(shapes(w=(D, D), b=(D,), out=(D, 2)), 9), rows(D), forward=False
    ),
    "an ensemble by vmap": lambda: Model(
        ensemble, filled(shapes(w=(3, D, 5), b=(3, 5), out=(3, 5, 2)), 10), rows(D)
    ),
    "layers stacked and padded": lambda: Model(
        padded, filled([np.zeros((D - 2, D)), *[np.zeros((D, D))] * 2], 11), rows(D)
    ),
    "Linen LSTM": lambda: linen(Cell(nn.LSTMCell), tokens(), 12),
    "Linen optimised LSTM": lambda: linen(Cell(nn.OptimizedLSTMCell), tokens(), 13),
    "Linen GRU": lambda: linen(Cell(nn.GRUCell), tokens(), 14),
    "Linen simple RNN": lambda: linen(Cell(nn.SimpleCell), tokens(), 15),
    "Linen ConvNeXt": lambda: linen(
        ConvNext(),
        rows(4, 4, 3),
        16,
        exact=("Conv_1/bias", "Conv_1/kernel", "LayerNorm_0/bias", "LayerNorm_0/scale", "gamma"),
    ),
    "Linen nn.scan of nn.remat": lambda: linen(Scanned(), rows(D), 17),
    "Linen vision transformer": lambda: linen(
        Vit(), rows(TOKENS, 3), 18, exact=("positions", "token")
    ),
    "NNX MLP": lambda: nnx_model(
        lambda rngs: nnx.Sequential(
            nnx.Linear(D, 6, rngs=rngs), jnp.tanh, nnx.Linear(6, 2, rngs=rngs)
        ),
        rows(D),
        19,
    ),
    "NNX nnx.scan": lambda: nnx_model(Loop, rows(D), 20),
    "Equinox MLP": equinox_model,
    "Haiku MLP": haiku_model,
}
"""Models by name, each made when it is asked for."""

NEEDS = {"Equinox MLP": "equinox", "Haiku MLP": "haiku"}
"""Packages that a model needs and this project does not."""


def missing(name: str) -> str | None:
    """The package that a model needs and is not installed, or None."""
    package = NEEDS.get(name)
    return package if package and importlib.util.find_spec(package) is None else None

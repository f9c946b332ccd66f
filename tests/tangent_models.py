"""Models whose tangent kernels are known by their Jacobians."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def dense(p, x):
    return x @ p["w"] + p["b"]


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

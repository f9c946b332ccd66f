"""BERT in Flax: tokens -> hidden states -> one vector a text."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from kernlens.types import Array

Pooling: TypeAlias = Callable[[Array, Array], Array]
"""``pooling(hidden [b, t, d], mask [b, t]) -> [b, d]``."""


class Tokens(NamedTuple):
    """Texts as an encoder reads them, filled up to one length.

    Attributes:
      ids: token ids, int32 ``[b, t]``; any id where the mask is False.
      mask: True where there is a token, bool ``[b, t]``.
    """

    ids: Any
    mask: Any


class Layer(nn.Module):
    """One layer: attention and a two-layer net, each added to its input and then normalised.

    Attributes:
      heads: number of attention heads; divides the width.
      intermediate: width inside the net.
      eps: added to the variance in layer normalisation.
    """

    heads: int
    intermediate: int
    eps: float

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """Hidden states ``[b, t, d]`` from those of the layer below and the mask ``[b, t]``."""
        width = x.shape[-1]

        def in_heads(name: str) -> Array:
            return _dense(width, name)(x).reshape(*x.shape[:-1], self.heads, -1)

        q, k, v = in_heads("query"), in_heads("key"), in_heads("value")
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width // self.heads)
        # Finite, so that a row without a token has finite weights and gradients too.
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(x.shape)
        x = _norm(self.eps, "attention_norm")(x + _dense(width, "attention_out")(mixed))
        inside = jax.nn.gelu(_dense(self.intermediate, "up")(x), approximate=False)
        return _norm(self.eps, "norm")(x + _dense(width, "down")(inside))


class Bert(nn.Module):
    """BERT's encoder, without its pooler and its pretraining heads; every text is segment 0.

    The attributes are named as in a published ``config.json``. There is no dropout.

    Attributes:
      vocab_size: number of token ids.
      hidden_size: width d.
      num_hidden_layers: number of layers.
      num_attention_heads: heads a layer; divides ``hidden_size``.
      intermediate_size: width inside a layer's net.
      max_position_embeddings: most tokens of a text.
      type_vocab_size: number of segment ids.
      layer_norm_eps: added to the variance in layer normalisation.

    References:
      Devlin et al. (2019), section 3; Vaswani et al. (2017), equation 1.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    @nn.compact
    def __call__(self, tokens: Tokens) -> Array:
        """Last hidden states ``[b, t, d]``; what stands at a masked place has no meaning."""
        ids, mask = jnp.asarray(tokens.ids), jnp.asarray(tokens.mask)
        chex.assert_rank(ids, 2)
        chex.assert_equal_shape([ids, mask])
        chex.assert_type([ids, mask], [int, bool])
        chex.assert_axis_dimension_lteq(ids, 1, self.max_position_embeddings)

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(rows, self.hidden_size, embedding_init=_INIT, name=name)

        x = (
            table(self.vocab_size, "words")(ids)
            + table(self.max_position_embeddings, "positions")(jnp.arange(ids.shape[1]))
            + table(self.type_vocab_size, "types")(jnp.zeros((), jnp.int32))
        )
        x = _norm(self.layer_norm_eps, "norm")(x)
        for i in range(self.num_hidden_layers):
            layer = Layer(
                self.num_attention_heads,
                self.intermediate_size,
                self.layer_norm_eps,
                name=f"layer_{i}",
            )
            x = layer(x, mask)
        return x


_INIT = nn.initializers.normal(0.02)


def _dense(width: int, name: str) -> nn.Dense:
    return nn.Dense(width, kernel_init=_INIT, name=name)


def _norm(eps: float, name: str) -> nn.LayerNorm:
    # The fast variance, a difference of two means, loses digits where the mean is large.
    return nn.LayerNorm(epsilon=eps, use_fast_variance=False, name=name)


def mean_pooling(hidden: Array, mask: Array) -> Array:
    """Mean over a text's tokens, [CLS] and [SEP] among them; zero where there is none."""
    weight = mask[..., None].astype(hidden.dtype)
    return jnp.sum(hidden * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1)


def first_pooling(hidden: Array, mask: Array) -> Array:
    """Hidden state of the first token, [CLS]."""
    del mask
    return hidden[:, 0]


def pooled(hidden: Array, mask: Array, pooling: Pooling, normalise: bool) -> Array:
    """One vector a text ``[b, d]``, of norm 1 if asked; a zero vector has a finite gradient."""
    z = pooling(hidden, mask)
    if not normalise:
        return z
    return z / jnp.sqrt(jnp.maximum(jnp.sum(z**2, axis=-1, keepdims=True), 1e-24))


class SentenceEncoder(nn.Module):
    r"""One vector a text, :math:`\phi(s) = p(h) / \|p(h)\|`.

    Attributes:
      bert: gives the hidden states h.
      pooling: p, from hidden states and mask to a vector.
      normalise: whether to divide by the norm; a zero vector stays zero.

    References:
      Reimers and Gurevych (2019), section 3.
    """

    bert: nn.Module
    pooling: Pooling = mean_pooling
    normalise: bool = True

    def __call__(self, tokens: Tokens) -> Array:
        """Embeddings ``[b, d]`` of tokens ``[b, t]``."""
        return pooled(self.bert(tokens), jnp.asarray(tokens.mask), self.pooling, self.normalise)

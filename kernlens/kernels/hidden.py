"""Random features of a network: its hidden layers as they are drawn, beside the rows."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.kernels.features import FeatureMap
from kernlens.types import Array

MLP_PENALTY = 10.0
"""Penalty of the weights in the recipe that trains MLPs, of :mod:`kernlens.train.heads`."""


def hidden_features(dim: int, widths: tuple[int, ...], *, seed: int = 0) -> FeatureMap:
    r"""Rows, and the hidden layers of a ReLU network of random weights on top of them.

    Layer :math:`h_l = \max(0, W_l h_{l-1})` has weights of variance two over its inputs (one for
    the first), so that rows of standardised columns have features of the same size in each layer.
    The rows themselves are there because the first layer is trained too: the part of the tangent
    kernel that comes from it is nearly linear in the rows.

    Args:
      dim: width of the rows.
      widths: of the layers, first to last.
      seed: of the weights.

    Returns:
      A map to ``dim + sum(widths)`` features.

    References:
      Rahimi and Recht (2008), for random features; Cho and Saul (2009), for their kernel.
    """
    weights, inputs = [], dim
    for i, width in enumerate(widths):
        key = jax.random.key(seed) if i == 0 else jax.random.fold_in(jax.random.key(seed), i)
        scale = (1.0 if i == 0 else 2.0) / inputs
        weights.append(jax.random.normal(key, (inputs, width)) * scale**0.5)
        inputs = width
    return Partial(_hidden, tuple(weights))


def _hidden(weights: tuple[Array, ...], x: Array) -> Array:
    layers = [x]
    for weight in weights:
        h = jnp.matmul(layers[-1], weight.astype(x.dtype), precision="highest")
        layers.append(jax.nn.relu(h))
    return jnp.concatenate(layers, axis=1)

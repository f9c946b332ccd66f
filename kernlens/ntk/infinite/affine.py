"""The layer of weights and biases, and its scales in either parameterisation."""

from dataclasses import replace
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from kernlens.ntk.infinite.layers import Layer
from kernlens.ntk.infinite.pairs import Pair, Signal, pair, pointwise, scaled, sum_of
from kernlens.types import Array


def split_scale(std: float, parameterization: str) -> tuple[float, float]:
    """Standard deviation at the start, and factor in the layer; their product is ``std``.

    Raises:
      ValueError: a parameterisation other than ``"ntk"`` and ``"standard"``.
    """
    if parameterization not in ("ntk", "standard"):
        raise ValueError(f"parameterization must be 'ntk' or 'standard'; got {parameterization!r}")
    return (1.0, std) if parameterization == "ntk" else (std, 1.0)


def with_bias(layer: Any, outputs: Array) -> Array:
    """Outputs ``[..., width]`` of a layer's weights plus its bias, where it has one."""
    if layer.b_std is None:
        return outputs
    start, scale = split_scale(layer.b_std, layer.parameterization)
    normal = nn.initializers.normal(start)
    return outputs + scale * layer.param("bias", normal, (layer.width,), outputs.dtype)


class Dense(nn.Module):
    r"""Affine map :math:`\sigma_w W^\top x / \sqrt{d} + \sigma_b b`, or :math:`W^\top x + b`.

    The first is the NTK parameterisation, all entries starting standard normal; in the second,
    the standard one, the scales stand in the initialisation instead. See :func:`dense`.
    """

    width: int
    W_std: float
    b_std: float | None
    parameterization: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[..., d]`` to ``[..., width]``."""
        dim = x.shape[-1]
        start, scale = split_scale(self.W_std / dim**0.5, self.parameterization)
        normal, shape = nn.initializers.normal(start), (dim, self.width)
        outputs = scale * (x @ self.param("kernel", normal, shape, x.dtype))
        return with_bias(self, outputs)


def dense(
    width: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    *,
    parameterization: Literal["ntk", "standard"] = "ntk",
) -> Layer:
    r"""A dense layer, :math:`n \to \sigma_w^2 n + \sigma_b^2`.

    The tangent kernel becomes :math:`\sigma_w^2 \Theta` plus that of the layer's own parameters:
    the new NNGP kernel in the NTK parameterisation, and :math:`d\, n + 1` (without the 1 where
    there is no bias) of the old one in the standard parameterisation, where :math:`d` is the
    width of the finite layer below.

    Args:
      width: outputs of the finite layer, at least 1.
      W_std: :math:`\sigma_w \ge 0`; weights have variance :math:`\sigma_w^2 / d`.
      b_std: :math:`\sigma_b \ge 0`; None for no bias.
      parameterization: where the scales stand: ``"ntk"``, in the layer, or ``"standard"``, in
        the initialisation.

    Raises:
      ValueError: a value out of range.

    References:
      Jacot, Gabriel and Hongler (2018), proposition 1 and theorem 1; Sohl-Dickstein, Novak,
      Schoenholz and Lee (2020), section 2, for the standard parameterisation.
    """
    check_affine("dense", width, W_std, b_std, parameterization)

    @pointwise
    def propagate(signal: Signal) -> Pair:
        before = pair(signal)
        if before.fresh and not before.normal and before.width == 1:
            raise ValueError("a two-tower's score is one channel: no dense layer may follow it")
        return affine(before, before.width, width, W_std, b_std, parameterization)

    return Layer(lambda: Dense(width, W_std, b_std, parameterization), propagate)


def check_affine(
    name: str, width: int, W_std: float, b_std: float | None, parameterization: str
) -> None:
    """Raises ``ValueError`` for what no layer of weights can have."""
    split_scale(W_std, parameterization)
    if width < 1 or W_std < 0 or (b_std or 0.0) < 0:
        raise ValueError(
            f"{name} needs width >= 1 and scales >= 0; got width={width}, {W_std=}, {b_std=}"
        )


def affine(
    before: Pair,
    inputs: int,
    width: int,
    W_std: float,
    b_std: float | None,
    parameterization: str,
) -> Pair:
    """What a layer of weights and biases makes of the mean of its inputs' kernels.

    Args:
      before: means over the inputs of one output.
      inputs: number of them in the finite layer, for the standard parameterisation.
      width: outputs of the finite layer.
      W_std: as in :func:`dense`.
      b_std: as in :func:`dense`.
      parameterization: as in :func:`dense`.
    """
    after = scaled(before, W_std)
    if b_std:
        constant = replace(
            before,
            var1=jnp.full_like(before.var1, b_std**2),
            var2=jnp.full_like(before.var2, b_std**2),
            apart=jnp.zeros_like(before.apart),
            across=jnp.full_like(before.across, 2.0**0.5 * b_std),
            ntk=jnp.zeros_like(before.ntk),
        )
        after = sum_of(after, constant)
    if parameterization == "ntk":
        layer_ntk = after.nngp
    else:
        layer_ntk = inputs * before.nngp + (0.0 if b_std is None else 1.0)
    return replace(after, ntk=after.ntk + layer_ntk, width=width, normal=True, fresh=True)

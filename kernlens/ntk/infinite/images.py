r"""Layers that read images: convolutions, pools, and what ends them.

Example inputs are ``[*positions, channels]``: images, or sequences with one axis of positions. The
kernel of two examples then has entries at pairs of positions :math:`(s, t)`. A convolution shifts
along both, so without a pool the pairs :math:`s = t` are enough, and a kernel value costs as much
as there are positions. A pool needs all pairs, of each example with itself too: positions squared.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.infinite import positions
from kernlens.ntk.infinite.affine import affine, check_affine, split_scale, with_bias
from kernlens.ntk.infinite.layers import Layer
from kernlens.ntk.infinite.pairs import Inputs, Pair, Signal, pair, scaled
from kernlens.types import Array

PADDINGS = ("VALID", "SAME", "CIRCULAR")
Padding = Literal["VALID", "SAME", "CIRCULAR"]


class Conv(nn.Module):
    """A convolution in either parameterisation. See :func:`conv`."""

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    W_std: float
    b_std: float | None
    parameterization: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[n, *positions, d]`` to ``[n, *positions, width]``."""
        channels = x.shape[-1]
        inputs = channels * prod(self.filter_shape)
        start, scale = split_scale(self.W_std / inputs**0.5, self.parameterization)
        shape = (*self.filter_shape, channels, self.width)
        kernel = self.param("kernel", nn.initializers.normal(start), shape, x.dtype)
        x = positions.padded_array(
            x, range(1, x.ndim - 1), self.filter_shape, self.strides, self.padding
        )
        letters = "HWDTUVXY"[: len(self.filter_shape)]
        outputs = scale * jax.lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            "VALID",
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        return with_bias(self, outputs)


def conv(
    width: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    W_std: float = 1.0,
    b_std: float | None = None,
    *,
    parameterization: Literal["ntk", "standard"] = "ntk",
) -> Layer:
    r"""A convolution: the mean over a filter of what it pairs, scaled as in a dense layer.

    .. math:: n(s, t) \to \sigma_w^2\, |F|^{-1} \sum_{f \in F} n(s + f, t + f) + \sigma_b^2

    Otherwise it is a :func:`dense` layer of the entries under the filter.

    Args:
      width: channels of the finite layer, at least 1.
      filter_shape: of the filter, an axis for each of the positions.
      strides: of the filter; 1 by default.
      padding: ``"VALID"``, ``"SAME"`` with zeros, or ``"CIRCULAR"``, the same of a torus.
      W_std: :math:`\sigma_w \ge 0`; weights have variance :math:`\sigma_w^2 / (|F| d)`.
      b_std: :math:`\sigma_b \ge 0`; None for no bias.
      parameterization: as in :func:`dense`.

    Raises:
      ValueError: a value out of range; on use, inputs without as many axes of positions as the
        filter has, or smaller than it.

    References:
      Novak et al. (2019), equation 7, for the NNGP; Arora et al. (2019), section 4, for the NTK.
    """
    check_affine("conv", width, W_std, b_std, parameterization)
    shape = _sizes("filter_shape", filter_shape)
    steps = _strides(strides, shape)
    _check_padding(padding)

    def at(before: Pair, full: bool) -> Pair:
        mean = scaled(positions.under(before, full, shape, steps, padding), prod(shape) ** -0.5)
        inputs = before.width * prod(shape)
        return affine(mean, inputs, width, W_std, b_std, parameterization)

    return Layer(
        lambda: Conv(width, shape, steps, padding, W_std, b_std, parameterization),
        lambda signal: positions.everywhere(at, positions.at_positions(signal, "conv", len(shape))),
    )


class AvgPool(nn.Module):
    """Means over windows of positions. See :func:`avg_pool`."""

    window_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __call__(self, x: Array) -> Array:
        """Maps ``[n, *positions, d]`` to ``[n, *positions, d]``."""
        x = positions.padded_array(
            x, range(1, x.ndim - 1), self.window_shape, self.strides, self.padding
        )
        window, strides = (1, *self.window_shape, 1), (1, *self.strides, 1)
        zero = np.zeros((), x.dtype)  # known, so that it is a sum with a gradient
        sums = jax.lax.reduce_window(x, zero, jax.lax.add, window, strides, "VALID")
        return sums / prod(window)


def avg_pool(
    window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    r"""Means over windows of positions, :math:`n \to |F|^{-2} \sum_{f, g \in F} n(s+f, t+g)`.

    Args:
      window_shape: of the window, an axis for each of the positions.
      strides: of the window; 1 by default, as in ``stax``.
      padding: as in :func:`conv`; zeros count in the mean.

    Raises:
      ValueError: as :func:`conv`.
    """
    shape = _sizes("window_shape", window_shape)
    steps = _strides(strides, shape)
    _check_padding(padding)

    def pooled(values: Array) -> Array:
        both, twice = shape * 2, steps * 2
        padded = positions.padded_array(values, range(values.ndim), both, twice, padding)
        zero = np.zeros((), values.dtype)  # known, so that it is a sum with a gradient
        sums = jax.lax.reduce_window(padded, zero, jax.lax.add, both, twice, "VALID")
        return sums / prod(both)

    return Layer(
        lambda: AvgPool(shape, steps, padding),
        lambda signal: positions.pooled(
            positions.at_positions(signal, "avg_pool", len(shape), full=True),
            pooled,
            8.0 * prod(shape),
        ),
        pools=True,
    )


class GlobalAvgPool(nn.Module):
    """The mean over all positions."""

    def __call__(self, x: Array) -> Array:
        """Maps ``[n, *positions, d]`` to ``[n, d]``."""
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


def global_avg_pool() -> Layer:
    r"""The mean over all positions, :math:`n \to S^{-2} \sum_{st} n(s, t)`.

    Raises:
      ValueError: on use, inputs without positions.
    """

    def propagate(signal: Signal) -> Pair:
        before = positions.at_positions(signal, "global_avg_pool", None, full=True)
        after = positions.pooled(before, jnp.mean, 8.0 * before.var1.size)
        own1, own2 = positions.own_pairs(after)
        return replace(after, var1=own1.nngp, var2=own2.nngp, own1=None, own2=None)

    return Layer(GlobalAvgPool, propagate, pools=True)


class Flatten(nn.Module):
    """Positions and channels as one axis."""

    def __call__(self, x: Array) -> Array:
        """Maps ``[n, ...]`` to ``[n, d]``."""
        return x.reshape(x.shape[0], -1)


def flatten() -> Layer:
    r"""Positions and channels as one axis, :math:`n \to S^{-1} \sum_s n(s, s)`.

    A dense layer has to follow before an activation: positions differ in variance, so what is one
    channel now is no normal variable of one variance.
    """

    def propagate(signal: Signal) -> Pair:
        if isinstance(signal, Inputs):
            return pair(Inputs(signal.x1.reshape(-1), signal.x2.reshape(-1)))
        if signal.apart.ndim == 0:
            return signal
        full = signal.own1 is not None
        if full:
            size = signal.var1.size
            here = {
                name: jnp.diagonal(getattr(signal, name).reshape(size, size))
                for name in ("apart", "across", "ntk")
            }
            variances = {name: getattr(signal, name).reshape(-1) for name in ("var1", "var2")}
            signal = replace(signal, **here, **variances, own1=None, own2=None)
        size = signal.apart.size
        flat = positions.each_array(lambda array: array.reshape(-1), signal)
        mean = scaled(positions.total(flat), size**-0.5)
        return replace(mean, width=signal.width * size, normal=False)

    return Layer(Flatten, propagate)


def _sizes(name: str, given: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(given)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} must hold a size of at least 1 for each axis; got {given}")
    return sizes


def _strides(given: Sequence[int] | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = (1,) * len(shape) if given is None else _sizes("strides", given)
    if len(strides) != len(shape):
        raise ValueError(f"strides must be one for each axis of {shape}; got {given}")
    return strides


def _check_padding(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}; got {padding!r}")

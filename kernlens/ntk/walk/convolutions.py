"""The rule for convolutions by leaves."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from kernlens.ntk.walk.flow import Walk, scaled
from kernlens.ntk.walk.sites import Kind, Read, Site
from kernlens.ntk.walk.views import View
from kernlens.types import Array


def convolve(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A convolution of an image by a leaf."""
    image, view = values
    p = eqn.params
    if not isinstance(view, View) or p["feature_group_count"] > 1 or p["batch_group_count"] > 1:
        return None
    lhs, rhs, out = p["dimension_numbers"]
    whole = all(
        size == view.value.shape[d]
        for block in view.blocks
        for d, size in enumerate(block.sizes)
        if d != rhs[0]
    )
    if view.repeats() or not whole:
        return None
    # Channels last and examples first, the kernel's inputs before its outputs.
    image = walk.settle(image).transpose([lhs[0], *lhs[2:], lhs[1]])
    kernel = view.value.transpose([*rhs[2:], rhs[1], rhs[0]])
    patches = _patches(image, kernel.shape[:-2], p)
    value = _written(image, kernel, patches, p)
    # Dimensions in the order in which the output has them.
    order = sorted(range(len(out)), key=lambda d: [out[0], *out[2:], out[1]][d])
    value = value.transpose(order).astype(eqn.outvars[0].aval.dtype)
    read = patches.transpose([*(d for d in order if d < len(out) - 1), len(out) - 1])
    positions = prod(read.shape[:-1])
    found = []
    for block in view.blocks:
        part = block.sizes[rhs[0]] < view.value.shape[rhs[0]]
        site = Site(
            leaf=block.leaf,
            region=block.region,
            kind=Kind.CONVOLUTION,
            split=((block.axes, rhs, "window"), (block.axes, rhs, "out"), ()),
            positions=positions,
            left=read.shape[-1],
            right=block.sizes[rhs[0]],
            groups=1,
            shape=value.shape,
            group_dims=(),
            right_dims=(out[1],),
            cuts=((out[1], block.starts[rhs[0]], block.sizes[rhs[0]]),) if part else (),
            loops=block.loops,
            bag=1,
            bias=None,
            bias_region=(),
            dtype=value.dtype,
        )
        found.append((site, Read(scaled(read.reshape(1, positions, -1), block.scale))))
    return [walk.add(value, found)]


def _written(image: Array, kernel: Array, patches: Array, p: dict[str, Any]) -> Array:
    """The convolution itself, by XLA's where its derivative is one that XLA is fast at.

    A product with the patches has the patches' transpose as its derivative, whose sums over windows
    cost a CPU more than the product. But the derivative of a convolution with strides is over an
    image that is mostly zeros.
    """
    dense = {*p["window_strides"], *p["lhs_dilation"]} == {1}
    if dense and prod(kernel.shape[:-2]) > 1 and image.dtype.itemsize >= 4:
        return _convolution(image, kernel, p)
    weights = kernel.reshape(-1, kernel.shape[-1])
    return jnp.matmul(
        patches, weights, precision=p["precision"],
        preferred_element_type=p["preferred_element_type"],
    )  # fmt: skip


def _convolution(image: Array, kernel: Array, p: dict[str, Any]) -> Array:
    """XLA's convolution, with a derivative that has the kernel's inputs before its outputs too.

    The transpose of a convolution reads the kernel with inputs and outputs exchanged, for which
    XLA has no fast program on a CPU. The derivative is therefore written with a kernel that has
    them exchanged already.
    """
    last = image.ndim - 1
    channels_last = (0, last, *range(1, last))

    def convolved(image: Array, kernel: Array, outputs: int, inputs: int) -> Array:
        rhs = (outputs, inputs, *range(last - 1))
        numbers = jax.lax.ConvDimensionNumbers(channels_last, rhs, channels_last)
        return jax.lax.conv_general_dilated(image, kernel, **{**p, "dimension_numbers": numbers})

    @jax.custom_jvp
    def convolution(image: Array, kernel: Array) -> Array:
        return convolved(image, kernel, last, last - 1)

    def derivative(primals: Any, tangents: Any) -> Any:
        (image, kernel), (moved, turned) = primals, tangents
        out = convolution(image, kernel)
        slope = jnp.zeros_like(out)
        if not isinstance(moved, SymbolicZero):
            slope += convolved(moved, kernel.swapaxes(-1, -2), last - 1, last)
        if not isinstance(turned, SymbolicZero):
            slope += convolved(image, turned, last, last - 1)
        return out, slope

    convolution.defjvp(derivative, symbolic_zeros=True)
    return convolution(image, kernel)


def _patches(image: Array, window: Sequence[int], p: dict[str, Any]) -> Array:
    """What each window of an image, ``[n, ..., channels]``, sees: ``[n, *positions, features]``."""
    zero = jnp.zeros((), image.dtype)
    spread = [
        (low, high, d - 1) for (low, high), d in zip(p["padding"], p["lhs_dilation"], strict=True)
    ]
    image = jax.lax.pad(image, zero, [(0, 0, 0), *spread, (0, 0, 0)])
    strides, dilation = p["window_strides"], p["rhs_dilation"]
    counts = [
        (size - (w - 1) * d - 1) // stride + 1
        for size, w, d, stride in zip(image.shape[1:-1], window, dilation, strides, strict=True)
    ]
    pieces = []
    for offset in np.ndindex(*window):
        first = [o * d for o, d in zip(offset, dilation, strict=True)]
        last = [
            f + (count - 1) * stride + 1
            for f, count, stride in zip(first, counts, strides, strict=True)
        ]
        start, stop = [0, *first, 0], [image.shape[0], *last, image.shape[-1]]
        pieces.append(jax.lax.slice(image, start, stop, [1, *strides, 1]))
    return jnp.concatenate(pieces, axis=-1)

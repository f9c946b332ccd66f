r"""Layers that read images: convolutions, pools, and what ends them.

Example inputs are ``[*positions, channels]``: images, or sequences with one axis of positions. The
kernel of two examples then has entries at pairs of positions :math:`(s, t)`. A convolution shifts
along both, so without a pool the pairs :math:`s = t` are enough, and a kernel value costs as much
as there are positions. A pool needs all pairs, of each example with itself too: positions squared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.infinite.layers import Layer, affine, check_affine, split_scale
from kernlens.ntk.infinite.pairs import Inputs, Pair, Signal, gaps, grid, pair, scaled, sum_of
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
        channels, normal = x.shape[-1], nn.initializers.normal
        inputs = channels * prod(self.filter_shape)
        start, scale = split_scale(self.W_std / inputs**0.5, self.parameterization)
        shape = (*self.filter_shape, channels, self.width)
        kernel = self.param("kernel", normal(start), shape, x.dtype)
        x = _padded(x, range(1, x.ndim - 1), self.filter_shape, self.strides, self.padding)
        letters = "HWDTUVXY"[: len(self.filter_shape)]
        outputs = scale * jax.lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            "VALID",
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        if self.b_std is not None:
            start, scale = split_scale(self.b_std, self.parameterization)
            outputs = outputs + scale * self.param("bias", normal(start), (self.width,), x.dtype)
        return outputs


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
        mean = scaled(_under(before, full, shape, steps, padding), prod(shape) ** -0.5)
        inputs = before.width * prod(shape)
        return affine(mean, inputs, width, W_std, b_std, parameterization)

    return Layer(
        lambda: Conv(width, shape, steps, padding, W_std, b_std, parameterization),
        lambda signal: _everywhere(at, _positions(signal, "conv", len(shape))),
    )


class AvgPool(nn.Module):
    """Means over windows of positions. See :func:`avg_pool`."""

    window_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __call__(self, x: Array) -> Array:
        """Maps ``[n, *positions, d]`` to ``[n, *positions, d]``."""
        x = _padded(x, range(1, x.ndim - 1), self.window_shape, self.strides, self.padding)
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
        padded = _padded(values, range(values.ndim), both, twice, padding)
        zero = np.zeros((), values.dtype)  # known, so that it is a sum with a gradient
        sums = jax.lax.reduce_window(padded, zero, jax.lax.add, both, twice, "VALID")
        return sums / prod(both)

    return Layer(
        lambda: AvgPool(shape, steps, padding),
        lambda signal: _pooled(
            _positions(signal, "avg_pool", len(shape), full=True), pooled, 8.0 * prod(shape)
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
        before = _positions(signal, "global_avg_pool", None, full=True)
        after = _pooled(before, jnp.mean, 8.0 * before.var1.size)
        own1, own2 = _own(after)
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
        flat = _each_array(lambda array: array.reshape(-1), signal)
        mean = scaled(_total(flat), size**-0.5)
        return replace(mean, width=signal.width * size, normal=False)

    return Layer(Flatten, propagate)


def _positions(signal: Signal, name: str, axes: int | None, *, full: bool = False) -> Pair:
    """The signal at positions, with the kernels of each example with itself where they are needed.

    Raises:
      ValueError: another number of axes of positions than asked for, or none.
    """
    if isinstance(signal, Inputs):
        ranks = {jnp.ndim(x) - 1 for x in (signal.x1, signal.x2)}
        if len(ranks) != 1 or 0 in ranks:
            raise ValueError(
                f"{name} reads examples [*positions, channels], images or sequences; got shapes "
                f"{jnp.shape(signal.x1)} and {jnp.shape(signal.x2)}"
            )
        made = _raw(signal._replace(full=signal.full or full))
    else:
        made = signal
    found = made.apart.ndim // (1 if made.own1 is None else 2)
    if found == 0 or axes not in (None, found):
        raise ValueError(
            f"{name} has {'any number of' if axes is None else axes} axes of positions; what is "
            f"before it has {found}"
        )
    return made


def _raw(signal: Inputs) -> Pair:
    def pixels(x: Array) -> Array:
        return x.reshape(-1, x.shape[-1])

    space1, space2 = signal.x1.shape[:-1], signal.x2.shape[:-1]
    first, second = pixels(signal.x1), pixels(signal.x2)
    if not signal.full:
        if space1 != space2:
            raise ValueError(
                f"images of different sizes, {space1} and {space2}, need global_avg_pool"
            )
        made = jax.vmap(lambda a, b: pair(Inputs(a, b)))(first, second)
        return _each_array(lambda array: array.reshape(space1), made)

    def of(a: Array, b: Array, space_a: tuple[int, ...], space_b: tuple[int, ...]) -> Pair:
        made = grid(pair, a, b)
        ones_a, ones_b = (1,) * len(space_a), (1,) * len(space_b)
        return replace(
            _each_array(lambda array: array.reshape(*space_a, *space_b), made),
            var1=made.var1[:, 0].reshape(*space_a, *ones_b),
            var2=made.var2[0].reshape(*ones_a, *space_b),
        )

    return replace(
        of(first, second, space1, space2),
        own1=of(first, first, space1, space1),
        own2=of(second, second, space2, space2),
    )


def _everywhere(at: Callable[[Pair, bool], Pair], p: Pair) -> Pair:
    """A layer at all pairs of positions that are kept, of both examples and of each with itself."""
    if p.own1 is None:
        return at(p, False)
    own1, own2 = _own(p)
    after = at(replace(p, own1=None, own2=None), True)
    return replace(after, own1=at(own1, True), own2=at(own2, True))


def _own(p: Pair) -> tuple[Pair, Pair]:
    assert p.own1 is not None  # what a layer that pools has asked for
    assert p.own2 is not None
    return p.own1, p.own2


def _under(
    p: Pair, full: bool, shape: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> Pair:
    """The sum of what is under the entries of a filter, one after another."""
    k = len(shape)
    groups = {"var1": [0], "var2": [1], "apart": [0, 1], "across": [0, 1], "ntk": [0, 1]}
    padded = {}
    for name, of in groups.items():
        array = getattr(p, name)
        axes = [k * g + i for g in of for i in range(k)] if full else list(range(k))
        times = len(axes) // k
        padded[name] = (
            _padded(array, axes, shape * times, strides * times, padding),
            axes,
        )

    def at(offset: Array) -> Pair:
        cut = {}
        for name, (array, axes) in padded.items():
            starts, sizes = [jnp.zeros((), offset.dtype)] * array.ndim, list(array.shape)
            steps = [1] * array.ndim
            for j, axis in enumerate(axes):
                count = (array.shape[axis] - shape[j % k]) // strides[j % k] + 1
                starts[axis], steps[axis] = offset[j % k], strides[j % k]
                sizes[axis] = strides[j % k] * (count - 1) + 1
            window = jax.lax.dynamic_slice(array, starts, sizes)
            cut[name] = window[tuple(slice(None, None, step) for step in steps)]
        return replace(p, **cut)

    # A loop: each sum is some forty operations, which would be compiled for every entry.
    offsets = jnp.asarray(list(product(*(range(size) for size in shape))), jnp.int32)
    total, _ = jax.lax.scan(
        lambda total, offset: (sum_of(total, at(offset)), None), at(offsets[0]), offsets[1:]
    )
    return total


def _pooled(p: Pair, mean: Callable[[Array], Array], noise: float) -> Pair:
    """Means over positions on both sides; what is left of equal means by rounding is ``noise``."""
    pairs = (p, *_own(p))
    covariances = [mean(of.nngp) for of in pairs]
    k = covariances[0].ndim // 2

    def variances(own: Array) -> tuple[Array, Array]:
        """Of one example, along the first and along the second side."""
        space = own.shape[:k]
        flat = jnp.diagonal(own.reshape(prod(space), prod(space)))
        return flat.reshape(*space, *(1,) * k), flat.reshape(*(1,) * k, *space)

    own = [variances(c) for c in covariances[1:]]
    sides = [(own[0][0], own[1][1]), own[0], own[1]]

    def of(one: Pair, nngp: Array, var1: Array, var2: Array) -> Pair:
        return replace(
            one,
            var1=var1,
            var2=var2,
            ntk=mean(one.ntk),
            **gaps(nngp, var1, var2, noise=noise, below=jnp.zeros_like(nngp)),
        )

    made = [of(one, c, *side) for one, c, side in zip(pairs, covariances, sides, strict=True)]
    return replace(made[0], own1=made[1], own2=made[2])


def _total(p: Pair) -> Pair:
    """The sum of uncorrelated signals along the only axis."""
    while p.apart.shape[0] > 1:
        half = (p.apart.shape[0] + 1) // 2
        padded = _each_array(
            lambda array, half=half: jnp.pad(array, (0, 2 * half - array.shape[0])), p
        )
        p = sum_of(
            _each_array(lambda array, half=half: array[:half], padded),
            _each_array(lambda array, half=half: array[half:], padded),
        )
    return _each_array(lambda array: array[0], p)


def _each_array(fn: Callable[[Array], Array], p: Pair) -> Pair:
    names = ("var1", "var2", "apart", "across", "ntk")
    return replace(p, **{name: fn(getattr(p, name)) for name in names})


def _padded(
    array: Array,
    axes: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
) -> Array:
    """An array with as much beyond its ends as a window needs."""
    axes = list(axes)
    sizes = [array.shape[axis] for axis in axes]
    if padding == "VALID":
        for size, window in zip(sizes, shape, strict=True):
            if size < window:
                raise ValueError(f"a window of {window} does not fit into {size} positions")
        return array
    pads = jax.lax.padtype_to_pads(sizes, shape, strides, "SAME")
    widths = [(0, 0)] * array.ndim
    for axis, (low, high) in zip(axes, pads, strict=True):
        widths[axis] = (int(low), int(high))
    return jnp.pad(array, widths, mode="wrap" if padding == "CIRCULAR" else "constant")


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

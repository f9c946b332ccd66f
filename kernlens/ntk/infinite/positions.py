"""Signals at the positions of images: kernels at pairs of positions, windows, sums and means."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk.infinite.pairs import Inputs, Pair, Signal, gaps, grid, pair, sum_of
from kernlens.types import Array


def at_positions(signal: Signal, name: str, axes: int | None, *, full: bool = False) -> Pair:
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
        return each_array(lambda array: array.reshape(space1), made)

    def of(a: Array, b: Array, space_a: tuple[int, ...], space_b: tuple[int, ...]) -> Pair:
        made = grid(pair, a, b)
        ones_a, ones_b = (1,) * len(space_a), (1,) * len(space_b)
        return replace(
            each_array(lambda array: array.reshape(*space_a, *space_b), made),
            var1=made.var1[:, 0].reshape(*space_a, *ones_b),
            var2=made.var2[0].reshape(*ones_a, *space_b),
        )

    return replace(
        of(first, second, space1, space2),
        own1=of(first, first, space1, space1),
        own2=of(second, second, space2, space2),
    )


def everywhere(at: Callable[[Pair, bool], Pair], p: Pair) -> Pair:
    """A layer at all pairs of positions that are kept, of both examples and of each with itself."""
    if p.own1 is None:
        return at(p, False)
    own1, own2 = own_pairs(p)
    after = at(replace(p, own1=None, own2=None), True)
    return replace(after, own1=at(own1, True), own2=at(own2, True))


def own_pairs(p: Pair) -> tuple[Pair, Pair]:
    """The kernels of each example with itself."""
    assert p.own1 is not None  # what a layer that pools has asked for
    assert p.own2 is not None
    return p.own1, p.own2


def under(
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
            padded_array(array, axes, shape * times, strides * times, padding),
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
    made, _ = jax.lax.scan(
        lambda made, offset: (sum_of(made, at(offset)), None), at(offsets[0]), offsets[1:]
    )
    return made


def pooled(p: Pair, mean: Callable[[Array], Array], noise: float) -> Pair:
    """Means over positions on both sides; what is left of equal means by rounding is ``noise``."""
    pairs = (p, *own_pairs(p))
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


def total(p: Pair) -> Pair:
    """The sum of uncorrelated signals along the only axis."""
    while p.apart.shape[0] > 1:
        half = (p.apart.shape[0] + 1) // 2
        padded = each_array(
            lambda array, half=half: jnp.pad(array, (0, 2 * half - array.shape[0])), p
        )
        p = sum_of(
            each_array(lambda array, half=half: array[:half], padded),
            each_array(lambda array, half=half: array[half:], padded),
        )
    return each_array(lambda array: array[0], p)


def each_array(fn: Callable[[Array], Array], p: Pair) -> Pair:
    """A function of each array of a pair."""
    names = ("var1", "var2", "apart", "across", "ntk")
    return replace(p, **{name: fn(getattr(p, name)) for name in names})


def padded_array(
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

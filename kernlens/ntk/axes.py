"""Axes of a model's outputs and of its batch, as a user names them."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from kernlens.ntk import structured

Axes: TypeAlias = int | Sequence[int]
"""Axes of ``f(params, x)``, the batch axis 0 included; negative ones count from the end."""


def output_axes(
    trace_axes: Axes,
    diagonal_axes: Axes,
    shape1: tuple[int, ...],
    shape2: tuple[int, ...],
) -> tuple[structured.Axes, Literal["pairs", "diagonal", "mean"]]:
    """What becomes of each axis of the outputs, and of the batch.

    Args:
      trace_axes: axes to trace, the batch counted as axis 0.
      diagonal_axes: axes of which the diagonal is kept.
      shape1: shape of one example's output under the first model.
      shape2: the same under the second.

    Returns:
      The roles of the output's axes, and whether the kernel is of all pairs of examples, of
      namesakes, or the mean over namesakes.

    Raises:
      ValueError: axes that are not there, or have two roles; outputs of unequal shape.
    """
    traced, diagonal = (
        _canonical(axes_tuple(axes), len(shape1) + 1, shape1)
        for axes in (trace_axes, diagonal_axes)
    )
    both = set(traced) & set(diagonal)
    if both:
        raise ValueError(f"output axes {sorted(both)} are in trace_axes and in diagonal_axes")
    if shape1 != shape2:
        raise ValueError(f"the two models have outputs {shape1} and {shape2} an example")
    batch = "mean" if 0 in traced else "diagonal" if 0 in diagonal else "pairs"
    roles = [tuple(axis - 1 for axis in axes if axis > 0) for axes in (traced, diagonal)]
    full = tuple(axis for axis in range(len(shape1)) if axis not in roles[0] + roles[1])
    return structured.Axes(shape1, roles[0], roles[1], full), batch


def axes_tuple(axes: Axes) -> tuple[int, ...]:
    """One axis or several, as a tuple."""
    return (axes,) if isinstance(axes, int) else tuple(axes)


def _canonical(axes: tuple[int, ...], ndim: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    out = []
    for axis in axes:
        if not -ndim <= axis < ndim:
            raise ValueError(f"axis {axis} is not an axis of outputs of shape {('n', *shape)}")
        if axis < 0 and axis + ndim == 0:
            raise ValueError(
                f"axis {axis} of outputs of shape {('n', *shape)} is the batch; for one number an "
                "example pass trace_axes=(), and 0 to mean the batch"
            )
        out.append(axis % ndim)
    return tuple(sorted(out))


def in_axes_of(vmap_axes: Any) -> Any:
    """The axes of the batch in ``x``, from what ``jax.vmap`` or neural-tangents take."""
    if not isinstance(vmap_axes, tuple) or len(vmap_axes) != 3:
        return vmap_axes
    in_axes, out_axes, kwargs_axes = vmap_axes
    if out_axes not in (0, None) or kwargs_axes:
        raise ValueError(
            f"vmap_axes={vmap_axes}: outputs must have their batch axis first, and batched keyword "
            "arguments belong into x, as leaves of a pytree"
        )
    return in_axes


def batch_first(x: Any, in_axes: Any) -> Any:
    """``x`` with its batch axis first on every leaf."""
    if x is None or in_axes is None or in_axes == 0:
        return x
    if isinstance(in_axes, int):
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, in_axes, 0), x)
    return jax.tree.map(lambda axis, leaf: jnp.moveaxis(leaf, axis, 0), in_axes, x)

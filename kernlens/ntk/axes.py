"""Axes of a model's outputs and of its batch, as a user names them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from kernlens.ntk import structured
from kernlens.types import ApplyFn, Params

Axes: TypeAlias = int | Sequence[int]
"""Axes of ``f(params, x)``, the batch axis 0 included; negative ones count from the end."""


def output_axes(
    trace_axes: Axes,
    diagonal_axes: Axes,
    shape1: tuple[int, ...],
    shape2: tuple[int, ...],
) -> tuple[structured.OutputAxes, Literal["pairs", "diagonal", "mean"]]:
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
    return structured.OutputAxes(shape1, roles[0], roles[1], full), batch


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


def batch_axes(vmap_axes: Any) -> tuple[Any, dict[str, Any]]:
    """The axes of the batch in ``x`` and in keyword arguments, as neural-tangents takes them.

    Args:
      vmap_axes: ``(in_axes, out_axes, kwargs_axes)``; else both ``in_axes`` and ``out_axes``.

    Returns:
      The axes of ``x``, and those of keyword arguments by name.

    Raises:
      ValueError: outputs whose batch axis is not the first.
    """
    triple = isinstance(vmap_axes, tuple) and len(vmap_axes) == 3
    in_axes, out_axes, kwargs_axes = vmap_axes if triple else (vmap_axes, vmap_axes, {})
    if any(axis != 0 for axis in jax.tree.leaves(out_axes)):
        raise ValueError(
            f"vmap_axes={vmap_axes}: outputs must have their batch axis first; expected 0 or "
            "(in_axes, 0, {keyword: axis})"
        )
    return in_axes, kwargs_axes or {}


def batch_first(x: Any, in_axes: Any) -> Any:
    """``x`` with its batch axis first on every leaf."""
    return _move(x, in_axes, lambda leaf, axis: jnp.moveaxis(leaf, axis, 0))


def batch_back(f: ApplyFn, in_axes: Any) -> ApplyFn:
    """A function of inputs as :func:`batch_first` gives them, which hands on their own layout."""
    if not any(jax.tree.leaves(in_axes)):
        return f

    def moved(params: Params, x: Any, **kwargs: Any) -> Any:
        x = _move(x, in_axes, lambda leaf, axis: jnp.moveaxis(leaf, 0, axis))
        return f(params, x, **kwargs)

    return moved


def _move(x: Any, in_axes: Any, move: Callable[[Any, int], Any]) -> Any:
    if x is None or not any(jax.tree.leaves(in_axes)):
        return x

    def part(axis: int, own: Any) -> Any:
        return jax.tree.map(lambda leaf: move(leaf, axis), own) if axis else own

    return jax.tree.map(part, in_axes, x)

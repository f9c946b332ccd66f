"""Keyword arguments of a function: arrays that its program takes, and the rest, which it holds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.models import keys_of
from kernlens.types import Array, Params


class Fixed(NamedTuple):
    """Keyword arguments without their arrays.

    Attributes:
      tree: structure of the arguments.
      values: their leaves, with :data:`ARRAY` in the place of each array.
    """

    tree: Any
    values: tuple[Any, ...]

    @property
    def key(self) -> Any:
        """What is equal for equal arguments alone, and hashable."""
        return self.tree, tuple(_key(value) for value in self.values)

    def join(self, arrays: list[Array]) -> dict[str, Any]:
        """The arguments with arrays in their places."""
        rest = iter(arrays)
        return jax.tree.unflatten(
            self.tree, [next(rest) if value is ARRAY else value for value in self.values]
        )


ARRAY = object()
"""The place of an array."""


def split(kwargs: dict[str, Any]) -> tuple[list[Any], Fixed]:
    """Takes keyword arguments apart.

    Args:
      kwargs: arguments, any pytrees.

    Returns:
      The arrays of jax and NumPy among their leaves, and the rest.

    Raises:
      ValueError: a leaf that is neither an array of numbers nor hashable.
    """
    pairs, tree = jax.tree_util.tree_flatten_with_path(kwargs)
    arrays, values = [], []
    for path, leaf in pairs:
        if _is_array(leaf):
            arrays.append(leaf)
            values.append(ARRAY)
            continue
        try:
            hash(leaf)
        except TypeError:
            name, *rest = keys_of(path)
            place = name + "".join(f"[{key}]" for key in rest)
            raise ValueError(
                f"keyword argument {place} is of {type(leaf).__name__}, which is no array and not "
                f"hashable: bind it to the function, functools.partial(f, {name}=...)"
            ) from None
        values.append(leaf)
    return arrays, Fixed(tree, tuple(values))


def call(
    f: Callable[..., Any], fixed: Fixed, params: Params, x: Any, *, arrays: list[Array]
) -> Any:
    """``f(params, x, **kwargs)`` with the arguments put together again."""
    return f(params, x, **fixed.join(arrays))


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray):
        return jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool
    return isinstance(leaf, jax.Array)


def _key(value: Any) -> Any:
    """Equality tells neither ``True`` from 1 nor -0.0 from 0.0, even within a value; print does."""
    shown = None if type(value).__repr__ is object.__repr__ else repr(value)
    return type(value), value, shown

"""Keyword arguments that hold a value for each example, such as masks, as a part of the inputs."""

from collections.abc import Callable, Mapping
from typing import Any

from kernlens.types import ApplyFn, Params


def into_inputs(f: ApplyFn) -> ApplyFn:
    """``f(params, x, **own, **rest)`` as a function of inputs ``(x, own)`` and ``**rest``."""

    def packed(params: Params, both: tuple[Any, dict[str, Any]], **rest: Any) -> Any:
        x, own = both
        return f(params, x, **own, **rest)

    return packed


def from_inputs(kernel_fn: Callable[..., Any], axes: Mapping[str, Any]) -> Callable[..., Any]:
    """A kernel of inputs ``(x, own)`` as one that takes ``own`` by keyword.

    Args:
      kernel_fn: ``kernel_fn(x1, x2, params1, params2, **rest)``.
      axes: by name, the batch axis of each such argument.

    Returns:
      The same of plain ``x1`` and ``x2``. Each argument is a tuple of two, of ``x1`` and of ``x2``,
      or one value for both.
    """

    def unpacked(x1: Any, x2: Any, params1: Params, params2: Params = None, **kwargs: Any) -> Any:
        own1, own2, split = {}, {}, False
        for name in axes:
            if name not in kwargs:
                raise ValueError(
                    f"vmap_axes gives the keyword argument {name} a batch axis; it is not among "
                    f"those of the call: {', '.join(kwargs) or 'none'}"
                )
            value = kwargs.pop(name)
            two = isinstance(value, tuple) and len(value) == 2
            split |= two
            own1[name], own2[name] = value if two else (value, value)
        both = None if x2 is None and not split else (x1 if x2 is None else x2, own2)
        return kernel_fn((x1, own1), both, params1, params2, **kwargs)

    return unpacked

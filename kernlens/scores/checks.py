"""What scores of rows refuse, looked at outside ``jit``; traced arrays pass, as they hold nothing.

:func:`checked` stands above ``jax.jit`` and names a check for each argument. A check gets what to
call the argument, its value and all arguments, and returns the value that the function is to see.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Check: TypeAlias = Callable[[str, Any, Mapping[str, Any]], Any]
"""``check(where, value, arguments) -> value``, or a ValueError."""


def checked(**checks: Check) -> Callable[[Callable], Callable]:
    """The function with its arguments checked before, and its result after.

    Args:
      checks: by the name of the argument; one that is not given, or None, is passed over.

    Returns:
      A decorator. What it makes raises ValueError, with the function's name, where a check does and
      where the result is not finite.
    """

    def wrap(fn: Callable) -> Callable:
        signature = inspect.signature(fn)

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            for name, check in checks.items():
                if given.get(name) is not None and not _traced(given[name]):
                    given[name] = check(f"{fn.__name__}: {name}", given[name], given)
            found = fn(*bound.args, **bound.kwargs)
            if not _traced(found) and not all(np.isfinite(v).all() for v in jax.tree.leaves(found)):
                raise ValueError(
                    f"{fn.__name__}: the result is not finite, of finite arguments: their values "
                    "are too large or too far apart for their dtype; scale them"
                )
            return found

        return call

    return wrap


def rows(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """Finite rows, one at least, as floats of 32 bits or more."""
    del arguments
    given = value if isinstance(value, jax.Array) else np.asarray(value)
    if given.dtype.kind == "c" or not jnp.issubdtype(given.dtype, jnp.number):
        raise ValueError(f"{where} must be real numbers; got {given.dtype}")
    wide = jnp.issubdtype(given.dtype, jnp.floating) and jnp.finfo(given.dtype).bits > 32
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as that
        found = jnp.asarray(given, jnp.result_type(float) if wide else jnp.float32)
    if not found.shape[:1] or not found.shape[0]:
        raise ValueError(f"{where} needs at least one row; got shape {found.shape}")
    good = np.isfinite(np.asarray(found))
    if not good.all():
        bad = np.flatnonzero(~good.reshape(len(found), -1).all(axis=1))
        raise ValueError(
            f"{where} must be finite; {len(bad)} of {len(found)} rows are not in {found.dtype}, "
            f"the first is row {bad[0]}, counted from 0"
        )
    return found


def codes(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """Class codes in ``0..num_classes-1``; of any size where the function has no number of them."""
    found = np.asarray(value)
    distances = arguments.get("class_distances")
    most = arguments.get("num_classes", np.inf if distances is None else len(distances))
    _integers(where, found, most, "class codes, one a row (every row needs a label)")
    return jnp.asarray(found)


def met_codes(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """Codes of classes that the argument ``moments`` holds."""
    found = np.asarray(value)
    counts = arguments["moments"].class_counts
    _integers(where, found, len(counts), "class codes, one a row (every row needs a label)")
    if not _traced(counts):
        unmet = np.unique(found[np.asarray(counts)[found] <= 0])
        if unmet.size:
            raise ValueError(f"{where}: moments hold no row of the classes {unmet.tolist()}")
    return jnp.asarray(found)


def all_codes(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """The same, of two classes at least, with a row of every class."""
    found = codes(where, value, arguments)
    counts = np.bincount(np.asarray(found), minlength=arguments["num_classes"])
    if len(counts) < 2 or not counts.all():
        raise ValueError(
            f"{where} must hold two classes or more, a row of each at least; got {len(counts)} "
            f"classes, without a row {np.flatnonzero(counts == 0).tolist()}"
        )
    return found


def places(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """Numbers of rows of the argument ``a``, one at least."""
    found = np.asarray(value)
    if not found.size:
        raise ValueError(f"{where} must name at least one row; got none")
    _integers(where, found, len(arguments["a"]), "row numbers")
    return jnp.asarray(found)


def posteriors(where: str, value: Any, arguments: Mapping[str, Any]) -> jax.Array:
    """Rows of probabilities, each of sum 1 to a hundredth."""
    found = rows(where, value, arguments)
    sums = np.asarray(found).sum(axis=1)
    bad = np.flatnonzero((np.asarray(found) < 0).any(axis=1) | (np.abs(sums - 1.0) > 0.01))
    if bad.size:
        raise ValueError(
            f"{where} must be probabilities of sum 1; {len(bad)} of {len(found)} rows are not, the "
            f"first is row {bad[0]}, counted from 0, with sum {sums[bad[0]]:g}"
        )
    return found


def finite_moments(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Moments of finite rows."""
    del arguments
    if not np.isfinite(np.asarray(value.mean)).all():
        raise ValueError(f"{where} hold a row that is NaN or infinite")
    return value


def moments(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """The same, one row at least with a label."""
    finite_moments(where, value, arguments)
    if not np.asarray(value.class_counts).sum() > 0:
        raise ValueError(f"{where} hold no row with a label")
    return value


def finite(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Finite numbers."""
    return _numbers(where, value, -np.inf, "finite")


def at_least_0(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Finite numbers from 0."""
    return _numbers(where, value, 0.0, "finite and at least 0")


def positive(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Finite numbers above 0."""
    return _numbers(where, value, np.nextafter(0.0, 1.0), "finite and positive")


def sizes(where: str, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Numbers of labels, each at least 2."""
    return _numbers(where, value, 2.0, "numbers of labels, each at least 2")


def _numbers(where: str, value: Any, least: float, wanted: str) -> Any:
    found = np.asarray(value, np.float64)
    bad = found[~(np.isfinite(found) & (found >= least))]
    if bad.size:
        raise ValueError(f"{where} must be {wanted}; got {bad.flat[0]:g}")
    return value


def _integers(where: str, found: np.ndarray, most: float, wanted: str) -> None:
    if found.dtype.kind not in "iu":
        raise ValueError(f"{where} must be {wanted}; got {found.dtype}")
    bad = np.flatnonzero((found < 0) | (found >= most))
    if bad.size:
        end = "" if most == np.inf else f"{most - 1}"
        raise ValueError(
            f"{where} must be {wanted}, in 0..{end}; got {found.flat[bad[0]]} at {bad[0]}"
        )


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))

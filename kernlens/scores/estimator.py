"""What a score is and what to know before using it; the arithmetic that all scores share."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernlens.arrays.rows import identity
from kernlens.moments import Moments, column_scatters
from kernlens.types import Array, FeatureMap


class Score(NamedTuple):
    """A score and its null.

    Attributes:
      value: the score, ``[]``.
      null: what labels that carry nothing give, ``[]``; how exactly, the estimator says.
    """

    value: Array
    null: Array


class Estimator(NamedTuple):
    """A score with what to know before using it.

    Attributes:
      fn: ``Moments -> Score``; in the tables without labels, to an array.
      formula: in TeX.
      source: paper and equation.
      range: the values it can take.
      null: what its null is.
      predicts: what it is meant to rank.
      pitfalls: where it misleads.
      features: the feature map whose moments it is defined on; those of a kernel's features turn
        it into that kernel's score.
      sign: 1 where more is better, -1 where less is.
      scatter: whether it reads more of the scatter of all rows than its diagonal.
      class_scatters: whether it reads the scatter of each class.
      scale_free: whether it is blind to the scale of the features.
      shift_free: whether it is blind to a common mean.
      rotation_free: whether it is blind to a rotation of the features.
      smooth: whether its gradient is finite everywhere; the others pass through an
        eigendecomposition.
    """

    fn: Callable
    formula: str
    source: str
    range: str
    null: str
    predicts: str
    pitfalls: str
    features: FeatureMap = identity
    sign: int = 1
    scatter: bool = True
    class_scatters: bool = False
    scale_free: bool = True
    shift_free: bool = False
    rotation_free: bool = True
    smooth: bool = False


def in_float64(
    fn: Callable | None = None, *, static_argnames: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Compiles a score whose arithmetic after the pass over rows is in float64.

    The sums over rows keep their dtype, since each entry is accurate to that. What follows is of
    size ``[p, p]`` and smaller, and would lose columns of small scale next to those of large.

    Args:
      fn: score of arrays; what it makes by :func:`wide` is float64.
      static_argnames: as of :func:`jax.jit`.

    Returns:
      The score, of a result in the dtype of its first argument's floats.
    """
    if fn is None:
        return partial(in_float64, static_argnames=static_argnames)

    @partial(jax.jit, static_argnames=static_argnames)
    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        static = {name: kwargs.pop(name) for name in static_argnames if name in kwargs}
        leaves = jax.tree.leaves((args, kwargs))
        dtype = next(a.dtype for a in leaves if jnp.issubdtype(a.dtype, jnp.floating))

        def score(given: tuple[tuple, dict[str, Any]]) -> Any:
            with jax.enable_x64(True):
                found = fn(*given[0], **given[1], **static)
                return jax.tree.map(lambda a: a.astype(dtype), found)

        # The way back is traced when float64 is off again, so it is told to be on.
        differentiable = jax.custom_vjp(score)
        differentiable.defvjp(lambda given: (score(given), given), partial(_pulled_back, score))
        return differentiable((args, kwargs))

    return call


def _pulled_back(score: Callable, given: Any, cotangent: Any) -> tuple[Any]:
    with jax.enable_x64(True):
        return jax.vjp(score, given)[1](cotangent)


def wide(tree: Any) -> Any:
    """Arrays as float64, inside :func:`in_float64`."""
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


def spread(moments: Moments) -> tuple[Array, Array]:
    """Whether the features vary beyond rounding, and the trace of their scatter (1 if not)."""
    trace = jnp.sum(column_scatters(moments))
    defined = varying(moments).any()
    return defined, jnp.where(defined, trace, 1.0)


def varying(moments: Moments) -> Array:
    """Whether each feature varies: what scatter equal values have is rounding, ``[p]``."""
    rounding = 4.0 * float(jnp.finfo(moments.count.dtype).eps) * jnp.sqrt(moments.count)
    return column_scatters(moments) > (rounding * moments.mean) ** 2


def per_row(moments: Moments, value: Array) -> Array:
    """``value / n``, 0 for no rows."""
    return ratio(value, moments.count)


def ratio(value: Array, by: Array) -> Array:
    """``value / by`` where ``by`` is positive, else 0, with a finite gradient."""
    positive = by > 0
    return jnp.where(positive, value / jnp.where(positive, by, 1.0), 0.0)


def root(squared: Array) -> Array:
    """Square root of what is positive, else 0, with a finite gradient."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def norm(matrix: Array) -> Array:
    """Frobenius norm, with a zero gradient at zero."""
    return root(jnp.sum(matrix**2))


def where_defined(defined: Array, value: Array, null: Array) -> Score:
    """The score, or zeros where it is undefined."""
    return Score(jnp.where(defined, value, 0.0), jnp.where(defined, null, 0.0))


def dot(a: Array, b: Array) -> Array:
    """Matrix product at the full precision of the dtype."""
    return jnp.matmul(a, b, precision="highest")


def check_class_scatters(moments: Moments) -> None:
    """Refuses moments without the scatter of each class."""
    if moments.class_scatters.shape[0] != moments.class_counts.shape[0]:
        raise ValueError(
            f"this score reads the scatter of each of the {moments.class_counts.shape[0]} classes, "
            "which these moments do not hold: build them with class_scatters=True"
        )

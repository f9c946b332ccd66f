"""Coding rates by elimination: pivots of one plus a matrix, and the digits that they keep."""

from collections.abc import Callable

import jax.numpy as jnp

from kernlens.scores.basis import cholesky
from kernlens.scores.estimator import ratio
from kernlens.types import Array

MOST_LOST = 2e-3
"""Share of a rate that rounding may reach in the worst case, some fifty times what it comes to.
Beyond it, rates are taken from eigenvalues in float64."""

MOST_LOST_OF_PIVOT = 0.05
"""The same share of one pivot."""


def reflection(vector: Array) -> Callable[[Array], Array]:
    """The reflection that takes a vector to the first axis, over the columns of a matrix."""
    axis = jnp.zeros_like(vector).at[0].set(1.0)
    size = jnp.linalg.norm(vector)
    normal = vector + jnp.where(vector[0] < 0, -size, size) * axis
    normal = ratio(normal, jnp.linalg.norm(normal))
    return lambda x: x - 2.0 * jnp.tensordot(normal, jnp.tensordot(normal, x, 1), 0)


def taken_of(matrix: Array) -> Array:
    """What elimination takes from each pivot of one plus a matrix, summed up, never subtracted."""
    factor = cholesky(jnp.eye(len(matrix), dtype=matrix.dtype) + matrix)
    return jnp.sum(jnp.tril(factor, -1) ** 2, axis=1)


def rate_of(matrix: Array) -> tuple[Array, Array]:
    """Coding rate in nats of a second moment over the distortion, and its :func:`lost_of`."""
    diagonal, taken = jnp.diagonal(matrix), taken_of(matrix)
    return 0.5 * jnp.sum(jnp.log1p(jnp.maximum(diagonal - taken, 0.0))), lost_of(diagonal, taken)


def gap_less_log(x: Array, base: Array) -> Array:
    """``u - log(1 + u)`` of ``u = (x - base) / (1 + base)``, which begins with ``u**2 / 2``."""
    u = (x - base) / (1.0 + base)
    small = jnp.abs(u) < 0.2
    inside = jnp.where(small, u, 0.0)
    series = jnp.zeros_like(u)
    for power in range(12, 1, -1):
        series = 1.0 / power - inside * series
    return jnp.where(small, inside**2 * series, u - (jnp.log1p(x) - jnp.log1p(base)))


def lost_of(diagonal: Array, taken: Array) -> Array:
    """Share of its rate that a matrix may lose to rounding; NaN where its factor failed."""
    above = jnp.maximum(diagonal - taken, 0.0)
    lost = float(jnp.finfo(diagonal.dtype).eps) * diagonal / (1.0 + above)
    share = jnp.sum(lost) / jnp.maximum(0.5 * jnp.sum(jnp.log1p(above)), 1.0)
    # A pivot of rounding alone tells nothing of what should stand there.
    return jnp.where(jnp.max(lost) > MOST_LOST_OF_PIVOT, jnp.inf, share)

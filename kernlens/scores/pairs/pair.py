"""What two embeddings of the same rows are compared by: moments of each, and side by side."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens import moments as moments_of
from kernlens.moments import Moments
from kernlens.scores.basis import column_units, eigh, in_units, stretch
from kernlens.scores.estimator import dot, ratio, root
from kernlens.types import Array


class Pair(NamedTuple):
    """Moments of two embeddings of the same rows.

    Attributes:
      first: of ``A``, ``p`` features.
      second: of ``B``, ``q`` features.
      both: of ``[A, B]``, ``p + q`` features.
    """

    first: Moments
    second: Moments
    both: Moments


def from_arrays(
    a: Array | np.ndarray,
    b: Array | np.ndarray,
    weights: Array | np.ndarray | None = None,
    *,
    chunk: int = 4096,
) -> Pair:
    """Moments of a pair of arrays in memory.

    Args:
      a: first embedding, ``[n, p]``.
      b: second embedding of the same rows, ``[n, q]``, of the same dtype.
      weights: multiplicity of each row, ``[n]``; 1 by default.
      chunk: rows taken at a time.

    Returns:
      Pair.

    Raises:
      ValueError: numbers of rows that differ.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            "two embeddings of the same rows must have as many rows, in the same order; "
            f"got {a.shape[0]} and {b.shape[0]}"
        )
    codes = jnp.full(a.shape[0], -1)
    rows = (a, b, jnp.concatenate([a, b], axis=1))
    return Pair(*(moments_of.from_arrays(x, codes, 0, None, weights, chunk=chunk) for x in rows))


def merge(a: Pair, b: Pair) -> Pair:
    """Pair of the rows of both.

    Examples:
      >>> from kernlens.scores import pairs
      >>> rows = jnp.array([[0.0], [2.0], [4.0]])
      >>> whole = pairs.from_arrays(rows, -rows)
      >>> parts = [pairs.from_arrays(own, -own) for own in (rows[:1], rows[1:])]
      >>> joined = merge(*parts)
      >>> bool(jnp.array_equal(joined[0].scatter, whole[0].scatter))
      True
    """
    return Pair(*(moments_of.merge(x, y) for x, y in zip(a, b, strict=True)))


def mean_of(m: Moments) -> Array:
    """Mean of the rows, ``[p]``."""
    return m.mean + m.mean_low


def scatters(pair: Pair) -> tuple[Array, Array, Array]:
    """Scatter of ``A``, of ``B``, and between the two."""
    return _blocks(pair, pair.both.scatter)


def seconds(pair: Pair) -> tuple[Array, Array, Array]:
    """The same, uncentred."""
    return _blocks(pair, uncentred(pair.both))


def uncentred(m: Moments) -> Array:
    """Sum of the outer products of the rows, ``[p, p]``."""
    return m.scatter + m.count * jnp.outer(mean_of(m), mean_of(m))


def equilibrated(pair: Pair) -> Pair:
    """The same columns, each in its own unit: the spans stay, and no column is lost to rounding."""
    first, second = column_units(pair.first), column_units(pair.second)
    return Pair(
        in_units(pair.first, first),
        in_units(pair.second, second),
        in_units(pair.both, jnp.concatenate([first, second])),
    )


def unit_scatters(pair: Pair, *, rows: bool = False) -> tuple[Array, Array, Array]:
    """Scatters and cross scatter over the Frobenius norms of the scatters, or of the rows."""
    a, b, cross = scatters(pair)
    if rows:
        unit_a, unit_b = jnp.trace(a), jnp.trace(b)
    else:
        unit_a, unit_b = size_of(pair.first), size_of(pair.second)
    return ratio(a, unit_a), ratio(b, unit_b), ratio(ratio(cross, root(unit_a)), root(unit_b))


def conditioned(pair: Pair) -> tuple[Array, Array, Array]:
    """Second moments, uncentred, after :func:`stretch` of each, of a pair in its own units."""
    scatter_a, scatter_b, cross = scatters(pair)
    stretch_a, stretch_b = stretch(pair.first), stretch(pair.second)
    mean_a, mean_b = dot(stretch_a, mean_of(pair.first)), dot(stretch_b, mean_of(pair.second))
    n = pair.both.count
    return (
        dot(stretch_a, dot(scatter_a, stretch_a)) + n * jnp.outer(mean_a, mean_a),
        dot(stretch_b, dot(scatter_b, stretch_b)) + n * jnp.outer(mean_b, mean_b),
        dot(stretch_a, dot(cross, stretch_b)) + n * jnp.outer(mean_a, mean_b),
    )


def size_of(m: Moments) -> Array:
    """Frobenius norm of the scatter."""
    return root(jnp.sum((m.scatter / _positive(jnp.trace(m.scatter))) ** 2)) * jnp.trace(m.scatter)


def scaled_eigh(matrix: Array) -> tuple[Array, Array]:
    """:func:`eigh` in the matrix's own unit, at any scale."""
    size = _positive(jnp.trace(matrix))
    values, vectors = eigh(matrix / size)
    return values * size, vectors


def _positive(value: Array) -> Array:
    return jnp.where(value > 0, value, 1.0)


def _blocks(pair: Pair, matrix: Array) -> tuple[Array, Array, Array]:
    width = pair.first.mean.shape[0]
    return matrix[:width, :width], matrix[width:, width:], matrix[:width, width:]

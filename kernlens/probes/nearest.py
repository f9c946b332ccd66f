"""The nearest rows of each row, exactly, in blocks of one matrix product each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array

SPARE = 8
"""Candidates beyond those asked for: products find them, differences put them in order."""

MAX_BYTES = 2**25
"""Bytes of a block of distances, and of the differences to its candidates."""

MIN_BLOCK, MAX_BLOCK = 16, 1024

ROUNDING = 8.0
"""Rounding of a squared distance from a product, in units of the dtype's epsilon."""


def nearest(
    x: np.ndarray, apart: np.ndarray, num: int, *, queries: np.ndarray | None = None
) -> np.ndarray:
    r"""The ``num`` rows nearest to each row by Euclidean distance, none of its own set.

    Candidates come from :math:`\|x_j\|^2 - 2 \langle x_i, x_j\rangle` in float32, which runs at the
    rate of a matrix product; their order from :math:`\|x_i - x_j\|^2`, which keeps its digits. A
    row for which rounding could have hidden a nearer row, as where one column is far larger than
    the others, is done again in float64.

    Args:
      x: rows, finite, ``[n, p]``.
      apart: set of each row, integers ``[n]``, at least -1: rows of one set are not neighbours,
        such as the rows of a fold. A row is in its own set.
      num: neighbours wanted, at least 1.
      queries: numbers of the rows whose neighbours are wanted, ``[q]``; all by default.

    Returns:
      Row numbers, nearest first, of equal distances the smaller number first, int32 ``[q, num]``;
      ``-1`` where there are no more rows of other sets.
    """
    x = np.asarray(x, np.float64)
    x = x - np.mean(x, axis=0)
    x = x / (np.max(np.abs(x), initial=0.0) or 1.0)
    queries = np.arange(len(x)) if queries is None else queries
    found, unsure = _found(x.astype(np.float32), apart, queries, num)
    again = np.flatnonzero(unsure)
    if len(again):
        with jax.enable_x64(True):
            found[again], _ = _found(x, apart, queries[again], num)
    return found


def _found(
    x: np.ndarray, apart: np.ndarray, queries: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of some rows ``[q, num]``, and whether rounding may have hidden one, ``[q]``."""
    n, p = x.shape
    candidates = min(num + SPARE, n)
    limit = MAX_BYTES // (x.itemsize * max(n, candidates * p))
    size = min(MAX_BLOCK, max(MIN_BLOCK, 1 << max(limit, 1).bit_length() - 1))
    size = min(size, 1 << (len(queries) - 1).bit_length())
    rows, sets = jnp.asarray(x), jnp.asarray(apart, jnp.int32)
    squares = jnp.sum(rows**2, axis=1)
    found = np.full((len(queries), num), -1, np.int32)
    unsure = np.zeros(len(queries), bool)
    for start in range(0, len(queries), size):
        at = queries[start : start + size]
        padded = np.concatenate([at, np.zeros(size - len(at), at.dtype)]).astype(np.int32)
        # Two programs: in one, XLA's top_k on a CPU becomes a full sort.
        far, places = _candidates(jnp.asarray(padded), rows, sets, squares, candidates=candidates)
        made, doubtful = _ordered(jnp.asarray(padded), rows, squares, far, places, num=num)
        stop = start + len(at)
        found[start:stop, : made.shape[1]] = np.asarray(made)[: len(at)]
        unsure[start:stop] = (candidates < n) & np.asarray(doubtful)[: len(at)]
    return found, unsure


@partial(jax.jit, static_argnames="candidates")
def _candidates(
    at: Array, rows: Array, sets: Array, squares: Array, *, candidates: int
) -> tuple[Array, Array]:
    """The rows of least distance by products, less the query's own square, and those distances."""
    inner = jnp.matmul(rows[at], rows.T, precision="highest")
    own = sets[None, :] == sets[at][:, None]
    far = jnp.where(own, jnp.inf, squares - 2.0 * inner)
    least, places = jax.lax.top_k(-far, candidates)
    return -least, places.astype(jnp.int32)


@partial(jax.jit, static_argnames="num")
def _ordered(
    at: Array, rows: Array, squares: Array, far: Array, places: Array, *, num: int
) -> tuple[Array, Array]:
    """The nearest of the candidates, in order, and whether a nearer row may not be among them."""
    # By differences: products lose the digits of near rows that are far from the mean.
    exact = jnp.sum((rows[places] - rows[at][:, None, :]) ** 2, axis=2)
    exact = jnp.where(jnp.isinf(far), jnp.inf, exact)
    exact, places = jax.lax.sort((exact, places), num_keys=2)
    exact, places = exact[:, :num], places[:, :num]
    # Rows beyond the candidates are at least so far, up to rounding.
    norm = squares[at]
    beyond = norm + far[:, -1]
    slack = ROUNDING * jnp.finfo(rows.dtype).eps * (norm + jnp.maximum(beyond, 0.0))
    hidden = jnp.isfinite(beyond) & (exact[:, -1] > beyond - slack)
    return jnp.where(jnp.isinf(exact), -1, places), hidden

"""Where each query's target stands among all items, from scores or from vectors in blocks."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array


class Place(NamedTuple):
    """Where the target of each query stands among the candidates.

    Attributes:
      above: candidates scored above the target, int64 ``[n]``; ``num_items`` for a miss, a target
        that cannot be ranked, so that no metric credits it and every mean counts it.
      tied: other candidates scored as the target is, int64 ``[n]``.
      num_items: candidates of a query, the target included (before any are excluded).
    """

    above: np.ndarray
    tied: np.ndarray
    num_items: int


def place(
    scores: np.ndarray | Array,
    target: np.ndarray | Array,
    excluded: np.ndarray | Array | None = None,
) -> Place:
    """Places from scores of all items.

    Args:
      scores: the higher the better, real, ``[n, m]``. An item without a score (NaN) comes after
        all that have one.
      target: the item that came, integers ``[n]`` in ``0..m-1``; ``-1`` where no item of the ``m``
        is it. That, or a score of NaN, is a miss.
      excluded: items that are no candidates, such as those of the history, integers ``[n, e]``
        with ``-1`` for none and repeats allowed; the target stays a candidate.

    Returns:
      Place.

    Raises:
      ValueError: an item id out of range.
    """
    scores, target = np.asarray(scores), np.asarray(target)
    chex.assert_rank([scores, target], [2, 1])
    n, m = scores.shape
    target, excluded = check_ids(target, excluded, n, m)
    rows = np.arange(n)
    own = scores[rows, np.maximum(target, 0)]
    candidate = np.ones((n, m + 1), bool)  # padding marks the spare last place
    candidate[rows[:, None], excluded] = False
    candidate[rows, target] = False
    above = np.sum((scores > own[:, None]) & candidate[:, :m], axis=1)
    tied = np.sum((scores == own[:, None]) & candidate[:, :m], axis=1)
    return _placed((above, tied, (target < 0) | np.isnan(own)), m)


def place_by_inner_product(
    queries: np.ndarray | Array,
    items: np.ndarray | Array,
    target: np.ndarray | Array,
    *,
    bias: np.ndarray | Array | None = None,
    excluded: np.ndarray | Array | None = None,
    block: int = 2048,
) -> Place:
    r"""Places where an item's score is :math:`\langle q_i, x_j\rangle + b_j`.

    Scores are made for ``block`` queries and ``block`` items at a time and only counted. The
    target's own score comes out of a product of the same shape as all others, so that items with
    equal vectors tie to the last bit, wherever they stand.

    Args:
      queries: ``[n, h]``; ``h`` may be 0, which ranks by ``bias`` alone.
      items: vectors of all items, ``[m, h]``, ``m`` at least 1.
      target: as :func:`place`.
      bias: of each item, ``[m]``; none by default.
      excluded: as :func:`place`.
      block: queries, and items, at a time.

    Returns:
      Place, of the rounding of the wider dtype of queries and items (float32 at least).

    Raises:
      ValueError: an item id or ``block`` out of range.
    """
    queries, items = np.asarray(queries), np.asarray(items)
    chex.assert_rank([queries, items, target], [2, 2, 1])
    chex.assert_equal_shape_suffix([queries, items], 1)
    (n, _), m = queries.shape, items.shape[0]
    target, excluded = check_ids(np.asarray(target), excluded, n, m)
    if block < 1:
        raise ValueError(f"block must be at least 1; got {block}")
    block = min(block, max(n, m))
    queries, items = with_bias(queries, items, bias)
    whole = _padded(items, -(-m // block) * block, 0)
    blocks = jnp.asarray(whole.reshape(-1, block, items.shape[1]))
    parts = []
    for start in range(0, n, block):
        rows = slice(start, start + block)
        filled = (queries[rows], 0), (target[rows], -1), (excluded[rows], -1)
        parts.append(_count(*on_device(filled, block), blocks, num_items=m))
    return joined(parts, n, m)


@partial(jax.jit, static_argnames="num_items")
def _count(queries: Array, target: Array, excluded: Array, blocks: Array, *, num_items: int):
    """Above, tied and missed, ``[block]`` each."""
    size = queries.shape[0]
    items = blocks.reshape(-1, blocks.shape[-1])
    wanted = items[jnp.maximum(target, 0)]
    starts = size * jnp.arange(-1, blocks.shape[0], dtype=jnp.int32)
    columns = jnp.arange(size, dtype=jnp.int32)

    def step(carry: tuple[Array, ...], block: tuple[Array, Array]):
        own, above, tied = carry
        start, vectors = block
        scores = jnp.matmul(queries, vectors.T, precision="highest")
        # The first block holds the targets themselves, in the order of the queries.
        own = jnp.where(start < 0, jnp.diagonal(scores), own)
        ids = start + columns
        candidate = (ids >= 0) & (ids < num_items) & (ids != target[:, None])
        if excluded.shape[1]:
            inside = (excluded >= start) & (excluded < start + size)
            at = jnp.where(inside, excluded - start, size)
            none = jnp.zeros((size, size), bool)
            candidate &= ~none.at[columns[:, None], at].set(True, mode="drop")
        above += jnp.sum((scores > own[:, None]) & candidate, axis=1, dtype=jnp.int32)
        tied += jnp.sum((scores == own[:, None]) & candidate, axis=1, dtype=jnp.int32)
        return (own, above, tied), None

    zeros = jnp.zeros(size, jnp.int32)
    init = (jnp.zeros(size, queries.dtype), zeros, zeros)
    (own, above, tied), _ = jax.lax.scan(
        step, init, (starts, jnp.concatenate([wanted[None], blocks]))
    )
    return above, tied, (target < 0) | jnp.isnan(own)


def with_bias(
    queries: np.ndarray, items: np.ndarray, bias: np.ndarray | Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both in one float dtype, the bias as one more column of the items."""
    parts = [queries, items] if bias is None else [queries, items, np.asarray(bias)]
    dtype = np.result_type(np.float32, *parts)
    queries, items = queries.astype(dtype), items.astype(dtype)
    if bias is None:
        return queries, items
    chex.assert_shape(bias, (len(items),))
    ones = np.ones((len(queries), 1), dtype)
    column = np.asarray(bias, dtype)[:, None]
    return np.concatenate([queries, ones], axis=1), np.concatenate([items, column], axis=1)


def check_ids(
    target: np.ndarray, excluded: np.ndarray | Array | None, n: int, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both in int32, after a check: ``[n]`` and ``[n, e]``."""
    chex.assert_shape(target, (n,))
    if m < 1:
        raise ValueError("a ranking needs an item at least; got none")
    check_range("target", target, m)
    excluded = np.zeros((n, 0), np.int32) if excluded is None else np.asarray(excluded)
    chex.assert_shape(excluded, (n, None))
    check_range("excluded", excluded, m)
    return target.astype(np.int32), excluded.astype(np.int32)


def check_range(name: str, ids: np.ndarray, m: int) -> None:
    """Refuses ids that are neither an item's nor ``-1``."""
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name} ids must be integers; got dtype {ids.dtype}")
    outside = (ids < -1) | (ids >= m)
    if np.any(outside):
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"{name} ids must be in 0..{m - 1}, or -1 for none; got {ids[where]} in row {where[0]}"
        )


def on_device(parts: Sequence[tuple[np.ndarray, int]], size: int) -> list[Array]:
    """Arrays filled up to ``size`` rows, so that one program serves all blocks."""
    return [jnp.asarray(_padded(array, size, fill)) for array, fill in parts]


def joined(parts: Sequence[Sequence[Array]], n: int, num_items: int) -> Place:
    """Place of all queries, from above, tied and missed of each block."""
    if not parts:
        return Place(np.zeros(0, np.int64), np.zeros(0, np.int64), num_items)
    columns = [[np.asarray(v) for v in column] for column in zip(*parts, strict=True)]
    return _placed([np.concatenate(column)[:n] for column in columns], num_items)


def _padded(array: np.ndarray, size: int, fill: int) -> np.ndarray:
    made = np.full((size, *array.shape[1:]), fill, array.dtype)
    made[: len(array)] = array
    return made


def _placed(counts: Sequence[np.ndarray], num_items: int) -> Place:
    """Place from above, tied and missed."""
    above, tied, missed = counts
    return Place(
        np.where(missed, num_items, above).astype(np.int64),
        np.where(missed, 0, tied).astype(np.int64),
        num_items,
    )

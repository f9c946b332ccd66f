"""Where each query's target stands among all items, from scores or from vectors in blocks."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.targets.sequences import Past
from kernlens.types import Array

MASKED = 2**26
"""Entries of the table of what is left out, queries times items, that are held at once."""


class Place(NamedTuple):
    """Where the target of each query stands among the candidates.

    Attributes:
      above: candidates scored above the target, int64 ``[n]``; ``num_items`` for a miss, a target
        that cannot be ranked, so that no metric credits it and every mean counts it.
      tied: other candidates scored as the target is, int64 ``[n]``.
      num_items: items, before any are left out.
      cold: items that no query has a score for (NaN), such as those without a vector. They are no
        candidates; as targets they are misses.
    """

    above: np.ndarray
    tied: np.ndarray
    num_items: int
    cold: int = 0

    @property
    def missed(self) -> np.ndarray:
        """Whether the target could not be ranked, bool ``[n]``."""
        return self.above >= self.num_items


def place(
    scores: np.ndarray | Array, target: np.ndarray | Array, *, left_out: Past | None = None
) -> Place:
    """Places from scores of all items.

    Args:
      scores: the higher the better, real, ``[n, m]``. An item without a score (NaN) is no
        candidate.
      target: the item that came, integers ``[n]`` in ``0..m-1``; ``-1`` where no item of the ``m``
        is it. That, or a score of NaN, is a miss.
      left_out: pasts whose items are no candidates, those of ``ranking.new_items``; none by
        default.

    Returns:
      Place.

    Raises:
      ValueError: an item id out of range, or a target that is itself left out.
    """
    scores, target = np.asarray(scores), np.asarray(target)
    chex.assert_rank([scores, target], [2, 1])
    n, m = scores.shape
    target = check_target(target, n, m)
    check_left_out(left_out, target, m)
    rows = np.arange(n)
    own = scores[rows, np.maximum(target, 0)]
    candidate = np.ones((n, m), bool) if left_out is None else ~left_out.mask(m)
    candidate[rows[target >= 0], target[target >= 0]] = False
    above = np.sum((scores > own[:, None]) & candidate, axis=1)
    tied = np.sum((scores == own[:, None]) & candidate, axis=1)
    cold = int(np.sum(np.all(np.isnan(scores), axis=0))) if n else 0
    return _placed((above, tied, (target < 0) | np.isnan(own)), m, cold)


def place_by_inner_product(
    queries: np.ndarray | Array,
    items: np.ndarray | Array,
    target: np.ndarray | Array,
    *,
    bias: np.ndarray | Array | None = None,
    left_out: Past | None = None,
    block: int = 2048,
) -> Place:
    r"""Places where an item's score is :math:`\langle q_i, x_j\rangle + b_j`.

    Scores are made for ``block`` queries and ``block`` items at a time and only counted. The
    target's own score comes out of a product of the same shape as all others, so that items with
    equal vectors tie to the last bit, wherever they stand.

    Args:
      queries: ``[n, h]``; ``h`` may be 0, which ranks by ``bias`` alone.
      items: vectors of all items, ``[m, h]``, ``m`` at least 1; one that is not finite is cold.
      target: as :func:`place`.
      bias: of each item, ``[m]``; none by default.
      left_out: as :func:`place`.
      block: queries, and items, at a time.

    Returns:
      Place, of the rounding of the wider dtype of queries and items (float32 at least).

    Raises:
      ValueError: an item id or ``block`` out of range, or a target that is itself left out.
    """
    queries, items = np.asarray(queries), np.asarray(items)
    chex.assert_rank([queries, items, target], [2, 2, 1])
    chex.assert_equal_shape_suffix([queries, items], 1)
    (n, _), m = queries.shape, items.shape[0]
    target = check_target(np.asarray(target), n, m)
    check_left_out(left_out, target, m)
    if block < 1:
        raise ValueError(f"block must be at least 1; got {block}")
    block = min(block, max(n, m))
    if left_out is not None:
        block = max(min(block, MASKED // m), 1)
    queries, items = with_bias(queries, items, bias)
    cold = ~np.all(np.isfinite(items), axis=1)
    items[cold] = np.nan
    whole = _padded(items, -(-m // block) * block, 0)
    blocks = jnp.asarray(whole.reshape(-1, block, items.shape[1]))
    parts = []
    for start in range(0, n, block):
        rows = slice(start, start + block)
        filled = on_device([(queries[rows], 0), (target[rows], -1)], block)
        parts.append(_count(*filled, _blocked(left_out, rows, block, len(whole)), blocks, m=m))
    return joined(parts, n, m, int(cold.sum()))


def _blocked(left_out: Past | None, rows: slice, block: int, width: int) -> Array | None:
    """What is left out of each block of items, bool ``[blocks, block, block]``."""
    if left_out is None:
        return None
    some = Past(left_out.items, left_out.start[rows], left_out.stop[rows])
    mask = _padded(some.mask(width), block, 0)
    return jnp.asarray(mask.reshape(block, -1, block).transpose(1, 0, 2))


@partial(jax.jit, static_argnames="m")
def _count(queries: Array, target: Array, left_out: Array | None, blocks: Array, *, m: int):
    """Above, tied and missed, ``[block]`` each."""
    size = queries.shape[0]
    wanted = blocks.reshape(-1, blocks.shape[-1])[jnp.maximum(target, 0)]
    starts = size * jnp.arange(-1, blocks.shape[0], dtype=jnp.int32)
    columns = jnp.arange(size, dtype=jnp.int32)
    if left_out is not None:
        left_out = jnp.concatenate([jnp.zeros_like(left_out[:1]), left_out])

    def step(carry: tuple[Array, ...], block: tuple[Array, Array, Array | None]):
        own, above, tied = carry
        start, vectors, out = block
        scores = jnp.matmul(queries, vectors.T, precision="highest")
        # The first block holds the targets themselves, in the order of the queries.
        own = jnp.where(start < 0, jnp.diagonal(scores), own)
        ids = start + columns
        candidate = (ids >= 0) & (ids < m) & (ids != target[:, None])
        if out is not None:
            candidate &= ~out
        above += jnp.sum((scores > own[:, None]) & candidate, axis=1, dtype=jnp.int32)
        tied += jnp.sum((scores == own[:, None]) & candidate, axis=1, dtype=jnp.int32)
        return (own, above, tied), None

    zeros = jnp.zeros(size, jnp.int32)
    init = (jnp.zeros(size, queries.dtype), zeros, zeros)
    (own, above, tied), _ = jax.lax.scan(
        step, init, (starts, jnp.concatenate([wanted[None], blocks]), left_out)
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


def check_target(target: np.ndarray, n: int, m: int) -> np.ndarray:
    """The targets in int32 ``[n]``, after a check."""
    chex.assert_shape(target, (n,))
    if m < 1:
        raise ValueError("a ranking needs an item at least; got none")
    check_range("target", target, m)
    return target.astype(np.int32)


def check_left_out(left_out: Past | None, target: np.ndarray, m: int) -> None:
    """Refuses pasts of other queries, items that there are not, and targets that are left out."""
    if left_out is None:
        return
    chex.assert_shape([left_out.start, left_out.stop], (len(target),))
    check_range("left out", left_out.items, m)
    itself = left_out.holds(target)
    if np.any(itself):
        row = int(np.argmax(itself))
        raise ValueError(
            f"the target of row {row}, item {target[row]}, is among the items that are left out of "
            "it, so the others of its past would vanish and it alone would stay; "
            "ranking.new_items asks only queries whose target is new"
        )


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


def joined(parts: Sequence[Sequence[Array]], n: int, num_items: int, cold: int = 0) -> Place:
    """Place of all queries, from above, tied and missed of each block."""
    if not parts:
        return Place(np.zeros(0, np.int64), np.zeros(0, np.int64), num_items, cold)
    columns = [[np.asarray(v) for v in column] for column in zip(*parts, strict=True)]
    return _placed([np.concatenate(column)[:n] for column in columns], num_items, cold)


def _padded(array: np.ndarray, size: int, fill: int) -> np.ndarray:
    made = np.full((size, *array.shape[1:]), fill, array.dtype)
    made[: len(array)] = array
    return made


def _placed(counts: Sequence[np.ndarray], num_items: int, cold: int = 0) -> Place:
    """Place from above, tied and missed."""
    above, tied, missed = counts
    return Place(
        np.where(missed, num_items, above).astype(np.int64),
        np.where(missed, 0, tied).astype(np.int64),
        num_items,
        cold,
    )

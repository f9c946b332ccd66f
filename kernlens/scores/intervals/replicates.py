"""A score on the rows as they are and on each resample, from one program."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.scores.intervals.state import Blocks, Draws, is_moments, merge_trees, part_of


class Replicates(NamedTuple):
    """A score and its values on resampled rows.

    Attributes:
      value: on the rows as they are.
      values: on all blocks but one, or on each draw, float64 ``[R]``; blocks without rows left out.
      shares: share of the rows in the block left out, of sum 1, ``[R]``; None for draws.
      rows: what tells the rows, their classes and the resampling from others.
      null: what labels that carry nothing would give, for a score that has such a null.
    """

    value: float
    values: np.ndarray
    shares: np.ndarray | None
    rows: tuple[int, ...]
    null: float | None = None


def replicate(fn: Callable, state: Blocks | Draws) -> Any:
    """A score on the rows as they are and on each resample.

    One program a ``fn``, whatever the number of resamples. Leaving out a block takes about six
    merges a block, and memory for ``2 sqrt(G)`` Moments besides the ``G`` of the state.

    Args:
      fn: tree of Moments to a number, or to a tree of numbers; the same function object each time,
        or it is compiled again.
      state: resampled moments.

    Returns:
      Replicates, in the tree that ``fn`` gives.

    Raises:
      ValueError: fewer than two rows, all rows in one block, a row that is not finite, or a score
        that is not finite on some resample.
    """
    parts = jax.tree.leaves(state.parts, is_leaf=is_moments)
    counts = np.asarray(parts[0].count, np.float64)
    # A score may take what is not finite for constant rows, and be 0 of it.
    finite = np.all(np.isfinite(np.stack([part.fourth for part in parts])), axis=0)
    if not finite.all():
        raise ValueError(
            f"{len(finite) - np.count_nonzero(finite)} of {len(finite) - 1} resamples hold a row "
            "that is not finite, or whose square exceeds the dtype"
        )
    values = jax.tree.map(np.asarray, _resampled(fn, state))
    if isinstance(state, Blocks):
        kept, total = np.flatnonzero(counts), counts.sum()
        shares = counts[kept] / max(total, 1.0)
    else:
        kept, total, shares = np.arange(1, len(counts)), counts[0], None
    if total < 2 or len(kept) < 2:
        raise ValueError(
            "an interval over rows needs at least 2 rows, in 2 blocks at least; got "
            f"{total:g} rows in {len(kept)}"
        )
    digest = (int(word) for word in np.asarray(state.digest))
    rows = (len(counts) - 1, int(state.seed), int(total), *digest)

    def made(values: np.ndarray) -> Replicates:
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            raise ValueError(
                f"the score is not finite on {bad} of {len(values)} resamples: a row that is not "
                "finite, or features too large for their dtype"
            )
        return Replicates(float(values[0]), values[kept].astype(np.float64), shares, rows)

    return jax.tree.map(made, values)


@partial(jax.jit, static_argnums=0)
def _resampled(fn: Callable, state: Blocks | Draws) -> Any:
    """``fn`` of all parts but each in turn, or of each part, ``[1 + R]``."""
    if isinstance(state, Draws):
        return jax.lax.map(fn, state.parts)
    # Two levels, groups and members of a group, so that the sums kept are few.
    count = jax.tree.leaves(state.parts)[0].shape[0]
    width = next(w for w in range(math.isqrt(count), 0, -1) if count % w == 0)
    groups = jax.tree.map(
        lambda leaf: leaf.reshape(width, count // width, *leaf.shape[1:]), state.parts
    )
    empty = jax.tree.map(jnp.zeros_like, part_of(state.parts, 0))

    def total(group: Any) -> Any:
        return jax.lax.scan(lambda sum_, part: (merge_trees(sum_, part), None), empty, group)[0]

    def without_members(group: Any, others: Any) -> Any:
        return _without_each(group, others, lambda part: part, lambda _, rest: fn(rest))

    values = _without_each(groups, empty, total, without_members)
    return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), values)


def _without_each(parts: Any, others: Any, total: Callable, visit: Callable) -> Any:
    """``visit(part, others merged with all parts but it)`` for each part."""

    def back(after: Any, part: Any) -> tuple[Any, Any]:
        return merge_trees(total(part), after), after

    def forth(before: Any, step: tuple[Any, Any]) -> tuple[Any, Any]:
        part, after = step
        return merge_trees(before, total(part)), visit(part, merge_trees(before, after))

    empty = jax.tree.map(jnp.zeros_like, others)
    _, afters = jax.lax.scan(back, empty, parts, reverse=True)
    return jax.lax.scan(forth, others, (parts, afters))[1]

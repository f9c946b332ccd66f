"""Where each query's target stands among sampled negatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.metrics.ranking import places
from kernlens.metrics.ranking.places import Place
from kernlens.types import Array


def sampled_place(
    queries: np.ndarray | Array,
    items: np.ndarray | Array,
    target: np.ndarray | Array,
    *,
    seed: int,
    count: int = 100,
    weights: np.ndarray | Array | None = None,
    bias: np.ndarray | Array | None = None,
    block: int = 2048,
) -> Place:
    r"""Places among the target and negatives drawn for each query: the protocol of many papers.

    Metrics of such places are far higher than of full rankings and can order recommenders
    otherwise; they are for comparison with numbers published that way. Negatives are independent
    draws, never the target, so one item may stand twice among a query's.

    Args:
      queries: ``[n, h]``.
      items: vectors of all items, ``[m, h]``, ``m`` at least 2.
      target: as :func:`place`; a miss draws as any other.
      seed: of the draws, which depend on nothing else but ``target``, ``m``, ``count`` and
        ``weights``: two rankers of the same queries meet the same negatives.
      count: negatives of each query, at least 1.
      weights: chance of each item up to a factor, ``[m]``, non-negative and finite, such as how
        often it occurs; uniform by default.
      bias: of each item, ``[m]``; none by default.
      block: queries at a time.

    Returns:
      Place among ``count + 1`` candidates.

    Raises:
      ValueError: an argument out of range, or a target that has all the weight.

    References:
      Krichene and Rendle (2020), section 4, on metrics of sampled negatives.
    """
    queries, items = np.asarray(queries), np.asarray(items)
    chex.assert_rank([queries, items, target], [2, 2, 1])
    chex.assert_equal_shape_suffix([queries, items], 1)
    (n, _), m = queries.shape, items.shape[0]
    target = places.check_target(np.asarray(target), n, m)
    for name, value in (("count", count), ("block", block)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    edges = _edges(weights, m)
    own = np.maximum(target, 0)
    # The target's share is cut out of the line of weights; a draw past the cut steps over it.
    low, size = edges[own], np.where(target >= 0, edges[own + 1] - edges[own], 0)
    if np.any(size == edges[-1]):
        row = int(np.argmax(size == edges[-1]))
        raise ValueError(
            f"no negative can be drawn in row {row}: its target, item {target[row]}, has all the "
            "weight"
        )
    queries, items = places.with_bias(queries, items, bias)
    table, rng = jnp.asarray(items), np.random.default_rng(seed)
    parts = []
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        cut, width = low[rows, None], size[rows, None]
        at = rng.integers(0, edges[-1] - width, (rows.stop - start, count))
        drawn = np.searchsorted(edges, np.where(at >= cut, at + width, at), side="right") - 1
        filled = (queries[rows], 0), (target[rows], -1), (drawn.astype(np.int32), 0)
        parts.append(_count_drawn(*places.on_device(filled, block), table))
    cold = int(np.sum(~np.all(np.isfinite(items), axis=1)))
    return places.joined(parts, n, count + 1, cold)


@jax.jit
def _count_drawn(queries: Array, target: Array, drawn: Array, items: Array):
    """Above, tied and missed, ``[block]`` each."""
    candidates = jnp.concatenate([jnp.maximum(target, 0)[:, None], drawn], axis=1)
    scores = jnp.sum(queries[:, None, :] * items[candidates], axis=-1)
    own, others = scores[:, :1], scores[:, 1:]
    above, tied = (jnp.sum(v, axis=1, dtype=jnp.int32) for v in (others > own, others == own))
    return above, tied, (target < 0) | jnp.isnan(own[:, 0])


def _edges(weights: np.ndarray | Array | None, m: int) -> np.ndarray:
    """Ends of the items' shares of a line of whole numbers, int64 ``[m + 1]``."""
    if weights is None:
        return np.arange(m + 1)
    weights = np.asarray(weights, np.float64)
    chex.assert_shape(weights, (m,))
    total = np.sum(weights)
    if not (np.all(weights >= 0) and 0 < total < np.inf):
        raise ValueError("weights must be finite and non-negative, with a positive sum")
    # Whole numbers leave no draw to rounding; a chance below 2^-52 is none.
    return np.concatenate([[0], np.cumsum((weights / total * 2.0**52).astype(np.int64))])

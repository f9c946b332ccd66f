"""The first items of a ranking."""

import chex
import numpy as np

from kernlens.targets.sequences import Past
from kernlens.types import Array


def top(scores: np.ndarray | Array, k: int, *, left_out: Past | None = None) -> np.ndarray:
    """The ``k`` items of highest score of each query, best first.

    Args:
      scores: scores of all items, real, ``[n, m]``; an item without a score (NaN) is no candidate.
      k: length of the lists, at least 1; at most ``m`` are given.
      left_out: pasts whose items are no candidates, as in :func:`kernlens.metrics.ranking.place`.

    Returns:
      Item ids, int32 ``[n, min(k, m)]``, the lower id first among ties that the list holds; ``-1``
      where there are fewer candidates.

    Raises:
      ValueError: ``k`` below 1.
    """
    scores = np.array(scores)
    chex.assert_rank(scores, 2)
    n, m = scores.shape
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    if left_out is not None:
        chex.assert_shape(left_out.start, (n,))
        scores[left_out.mask(m)] = -np.inf
    scores[np.isnan(scores)] = -np.inf
    k = min(k, m)
    best = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    found = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    best, found = (np.take_along_axis(part, order, axis=1) for part in (best, found))
    return np.where(found > -np.inf, best, -1).astype(np.int32)

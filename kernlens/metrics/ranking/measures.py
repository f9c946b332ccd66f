"""Ranking metrics of a query: recall, NDCG and reciprocal rank, as expectations over ties."""

from collections.abc import Callable

import numpy as np

from kernlens.metrics.ranking.places import Place


def recall(place: Place, k: int) -> np.ndarray:
    r"""Recall at ``k`` of the one target: 1 where it is among the first ``k``, expected over ties.

    With ``a`` items above and ``t`` tied, :math:`\mathrm{clip}(k - a, 0, t + 1) / (t + 1)`.

    Args:
      place: of each target.
      k: an integer in ``1..num_items``; a greater one, at which every ranking would have recall 1,
        is refused.

    Returns:
      In ``[0, 1]``, float64 ``[n]``; 0 for a miss.

    Raises:
      ValueError: ``k`` no integer or out of range.
    """
    return _expected(place, k, np.ones_like)


def ndcg(place: Place, k: int | None = None) -> np.ndarray:
    r"""Normalised discounted cumulative gain of the one target, expected over ties.

    :math:`1/\log_2(r + 1)` where it stands at rank :math:`r \le k`, else 0; the mean of that over
    the ranks that the items tied with it share. With one target the ideal gain is 1.

    Args:
      place: of each target.
      k: an integer in ``1..num_items``; all ranks by default.

    Returns:
      In ``[0, 1]``, float64 ``[n]``; 0 for a miss.

    Raises:
      ValueError: ``k`` no integer or out of range.

    References:
      Järvelin and Kekäläinen (2002), with base 2; McSherry and Najork (2008) for ties.
    """
    return _expected(place, k, lambda rank: 1.0 / np.log2(rank + 1.0))


def reciprocal_rank(place: Place, k: int | None = None) -> np.ndarray:
    r"""Reciprocal rank of the one target, :math:`1/r` where :math:`r \le k`, expected over ties.

    Its mean over queries is the MRR.

    Args:
      place: of each target.
      k: an integer in ``1..num_items``; all ranks by default.

    Returns:
      In ``[0, 1]``, float64 ``[n]``; 0 for a miss.

    Raises:
      ValueError: ``k`` no integer or out of range.

    References:
      Voorhees (1999); McSherry and Najork (2008) for ties.
    """
    return _expected(place, k, lambda rank: 1.0 / rank)


METRICS: dict[str, Callable[[Place, int], np.ndarray]] = {
    "recall": recall,
    "ndcg": ndcg,
    "reciprocal_rank": reciprocal_rank,
}
"""Metrics by name, of a place and ``k``."""


def _expected(place: Place, k: int | None, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mean over the ranks that the target shares of ``gain`` at ranks up to ``k``, 0 beyond."""
    if k is None:
        k = place.num_items
    elif not isinstance(k, int | np.integer) or not 1 <= k <= place.num_items:
        raise ValueError(
            f"k must be an integer in 1..{place.num_items}, the number of items; got {k}"
        )
    # A miss stands at num_items + 1; the last 0 is for ends of runs.
    gains = np.zeros(place.num_items + 2)
    gains[:k] = gain(np.arange(1.0, k + 1.0))
    # Sums over each run itself, not differences of prefix sums, which cancel at large ranks; the
    # runs of many queries are the same.
    width = place.num_items + 1
    runs, inverse = np.unique(place.above * width + place.tied, return_inverse=True)
    above, tied = np.divmod(runs, width)
    edges = np.stack([above, above + tied + 1], axis=1).ravel()
    return (np.add.reduceat(gains, edges)[::2] / (tied + 1))[inverse]

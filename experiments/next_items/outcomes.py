"""What a ranking is worth: full, and among sampled negatives for comparison with the paper."""

from typing import Any

import numpy as np

from kernlens.datasets.sequences import Histories
from kernlens.metrics import ranking

K = 10
METRICS = ("recall", "ndcg", "mrr")
SAMPLED = ("uniform", "popular")


def values(place: ranking.Place) -> dict[str, np.ndarray]:
    """Recall@10, NDCG@10 and reciprocal rank of each query."""
    k = min(K, place.num_items)
    return {
        "recall": ranking.recall(place, k),
        "ndcg": ranking.ndcg(place, k),
        "mrr": ranking.reciprocal_rank(place),
    }


def outcome(place: ranking.Place, users: np.ndarray) -> dict[str, Any]:
    """Means over queries, each with its interval over users."""
    return {
        name: ranking.mean_with_interval(metric, users)._asdict()
        for name, metric in values(place).items()
    }


def ranked(
    queries: np.ndarray,
    items: np.ndarray,
    test: Histories,
    *,
    bias: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> dict[str, Any]:
    """Outcome of an inner-product ranking; items of the history are no candidates.

    Args:
      queries: ``[n, h]``.
      items: ``[m, h]``.
      test: what is ranked.
      bias: of each item.
      counts: popularity of each item; given, the sampled protocols of 100 negatives stand beside.
    """
    found: dict[str, Any] = outcome(
        ranking.place_by_inner_product(queries, items, test.target, bias=bias, excluded=test.items),
        test.user,
    )
    if counts is not None:
        for name, weights in zip(SAMPLED, (None, counts), strict=True):
            place = ranking.sampled_place(
                queries, items, test.target, seed=0, bias=bias, weights=weights
            )
            found[name] = {key: float(v.mean()) for key, v in values(place).items()}
    return found

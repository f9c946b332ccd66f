"""What a ranking is worth: full, and among sampled negatives for comparison with the paper."""

from typing import Any

import numpy as np

from kernlens.metrics import ranking
from kernlens.scores import intervals

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


def outcome(place: ranking.Place, queries: ranking.Queries) -> dict[str, Any]:
    """Means over queries, each with its interval over users; recall by kind of target; misses."""
    users, every = queries.histories.user, values(place)
    split = intervals.mean_by_target(every["recall"], users, queries.repeated)
    return {
        **{name: intervals.mean_with_interval(one, users)._asdict() for name, one in every.items()},
        "by target": {k: None if v is None else v._asdict() for k, v in split.items()},
        "missed": int(place.missed.sum()),
    }


def ranked(
    queries: np.ndarray,
    items: np.ndarray,
    asked: ranking.Queries,
    *,
    bias: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> dict[str, Any]:
    """Outcome of an inner-product ranking.

    Args:
      queries: ``[n, h]``.
      items: ``[m, h]``.
      asked: what is ranked, and among what.
      bias: of each item.
      counts: popularity of each item; given, the sampled protocols of 100 negatives stand beside.
    """
    target = asked.histories.target
    found: dict[str, Any] = outcome(
        ranking.place_by_inner_product(queries, items, target, bias=bias, left_out=asked.left_out),
        asked,
    )
    if counts is not None:
        for name, weights in zip(SAMPLED, (None, counts), strict=True):
            place = ranking.sampled_place(
                queries, items, target, seed=0, bias=bias, weights=weights
            )
            found[name] = {key: float(v.mean()) for key, v in values(place).items()}
    return found

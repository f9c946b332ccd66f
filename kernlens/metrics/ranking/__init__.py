"""Ranking: where each query's target stands among all items, and what that is worth.

A :class:`Place` keeps what a metric needs and no more: how many items are scored above the target
and how many tie with it. Items that tie stand in random order, so every metric is its expectation
over that order: a recommender that gives all items one score earns what a random one earns. Metrics
come from counts in float64, rankings of any number of items from blocks.

Which items are candidates is a protocol: :func:`all_items` where items recur,
:func:`new_to_sequence` where a sequence never holds an item twice, :func:`new_items` where only
what the user has never met counts. Each gives :class:`Queries`, which no answer can leak from.

    queries = ranking.all_items(split.test)
    x = ranking.session_matrix(known)
    for name, baseline in ranking.BASELINES.items():
        print(name, ranking.recall(baseline(x, queries), 10).mean())

:func:`user_ridge` takes the same two arguments; its cost is that of users², which not all data
allow, so it is not among the baselines that are always run.
"""

from collections.abc import Callable
from typing import Any

from kernlens.metrics.ranking.baselines import (
    item_knn,
    last_item,
    near_last,
    own_past,
    popular,
    popularity,
    session_matrix,
)
from kernlens.metrics.ranking.ease import Ease, ease, fit_ease
from kernlens.metrics.ranking.lists import top
from kernlens.metrics.ranking.means import (
    mean_by_target,
    mean_difference,
    mean_with_interval,
    resampled,
)
from kernlens.metrics.ranking.measures import METRICS, ndcg, recall, reciprocal_rank
from kernlens.metrics.ranking.places import Place, place, place_by_inner_product
from kernlens.metrics.ranking.protocol import (
    PROTOCOLS,
    Queries,
    all_items,
    new_items,
    new_to_sequence,
)
from kernlens.metrics.ranking.sampled import sampled_place
from kernlens.metrics.ranking.user_ridge import (
    UserRidge,
    fit_user_ridge,
    infinite_autoencoder,
    linear_rows,
    user_ridge,
)

BASELINES: dict[str, Callable[[Any, Queries], Place]] = {
    "popularity": popular,
    "own past": own_past,
    "near the last item": near_last,
    "item k-NN": item_knn,
    "EASE": ease,
}
"""Rankers to beat by name, of a session matrix and the queries of a protocol."""

__all__ = [
    "BASELINES",
    "METRICS",
    "PROTOCOLS",
    "Ease",
    "Place",
    "Queries",
    "UserRidge",
    "all_items",
    "ease",
    "fit_ease",
    "fit_user_ridge",
    "infinite_autoencoder",
    "item_knn",
    "last_item",
    "linear_rows",
    "mean_by_target",
    "mean_difference",
    "mean_with_interval",
    "ndcg",
    "near_last",
    "new_items",
    "new_to_sequence",
    "own_past",
    "place",
    "place_by_inner_product",
    "popular",
    "popularity",
    "recall",
    "reciprocal_rank",
    "resampled",
    "sampled_place",
    "session_matrix",
    "top",
    "user_ridge",
]

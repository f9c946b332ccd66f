"""Ranking: where each query's target stands among all items, and what that is worth.

A :class:`Place` keeps what a metric needs and no more: how many items are scored above the target
and how many tie with it. Items that tie stand in random order, so every metric is its expectation
over that order: a recommender that gives all items one score earns what a random one earns. Metrics
come from counts in float64, rankings of any number of items from blocks.

Which items are candidates is a protocol: :func:`all_items` where items recur,
:func:`new_to_sequence` where a sequence never holds an item twice, :func:`new_items` where only
what the user has never met counts. Each gives :class:`Queries`, which no answer can leak from.

    queries = ranking.all_items(split.test)
    place = ranking.place(scores, queries.histories.target)
    print(ranking.recall(place, 10).mean())
"""

from kernlens.metrics.ranking.lists import top
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

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Place",
    "Queries",
    "all_items",
    "ndcg",
    "new_items",
    "new_to_sequence",
    "place",
    "place_by_inner_product",
    "recall",
    "reciprocal_rank",
    "sampled_place",
    "top",
]

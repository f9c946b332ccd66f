"""Ranking: where each query's target stands among all items, and what that is worth.

A :class:`Place` keeps what a metric needs and no more: how many items are scored above the target
and how many tie with it. Items that tie stand in random order, so every metric is its expectation
over that order: a recommender that gives all items one score earns what a random one earns. Metrics
come from counts in float64, rankings of any number of items from blocks.
"""

from kernlens.metrics.ranking.baselines import last_item, popularity
from kernlens.metrics.ranking.means import mean_difference, mean_with_interval
from kernlens.metrics.ranking.measures import METRICS, ndcg, recall, reciprocal_rank
from kernlens.metrics.ranking.places import Place, place, place_by_inner_product
from kernlens.metrics.ranking.sampled import sampled_place

__all__ = [
    "METRICS",
    "Place",
    "last_item",
    "mean_difference",
    "mean_with_interval",
    "ndcg",
    "place",
    "place_by_inner_product",
    "popularity",
    "recall",
    "reciprocal_rank",
    "sampled_place",
]

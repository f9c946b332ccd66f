"""Metrics of classifiers and of rankings, and the agreement of predictions with outcomes."""

from kernlens.metrics.classification import (
    auc,
    by_chance,
    classification,
    confusion,
    counts,
    from_confusion,
    from_counts,
    majority,
)

__all__ = [
    "auc",
    "by_chance",
    "classification",
    "confusion",
    "counts",
    "from_confusion",
    "from_counts",
    "majority",
]

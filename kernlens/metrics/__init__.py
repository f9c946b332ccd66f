"""Metrics: of classifiers, of rankings, and how far predictions agree with outcomes."""

from kernlens.metrics.classification import (
    auc,
    classification,
    confusion,
    counts,
    from_confusion,
    from_counts,
    log_loss,
    resampled,
)

__all__ = [
    "auc",
    "classification",
    "confusion",
    "counts",
    "from_confusion",
    "from_counts",
    "log_loss",
    "resampled",
]

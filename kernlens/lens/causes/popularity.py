"""Causes that lie in how often items were met: rare items starve, lengths tell popularity."""

from functools import partial

import numpy as np

from kernlens.lens.causes import remedies
from kernlens.lens.causes.cause import Measure, blame
from kernlens.lens.causes.evidence import Evidence
from kernlens.lens.causes.labels import held_accuracy

LEAST_SIGNAL = 0.05
"""Kappa of the frequent third below which there is no signal to be starved of."""


def starvation(evidence: Evidence) -> Measure | None:
    """Kappa of a linear head on the rarest third of the rows over that on the most frequent."""
    held, counts = evidence.held_out, evidence.counts
    if held is None or counts is None or len(held.folds) != len(evidence.sample):
        return None
    own = counts[evidence.sample]
    order = np.argsort(own, kind="stable")
    order = order[held.folds[order] >= 0]
    third = len(order) // 3
    if third < 10:
        return None
    rare, frequent = (held_accuracy(held, part) for part in (order[:third], order[-third:]))
    if frequent < LEAST_SIGNAL:
        return None
    said = f"kappa {rare:.2f} on the rarest third of the items, {frequent:.2f} on the most frequent"
    middle = max(float(np.median(counts)), 1.0)
    return Measure(
        rare / frequent, 1.0, said, blame(middle / (3.0 * (counts + 0.5))),
        partial(remedies.shrunk_by_counts, counts=counts), "shrink rare rows towards the mean",
    )  # fmt: skip


def popularity_in_norms(evidence: Evidence) -> Measure | None:
    """Squared correlation of a row's log length with the log of its count."""
    if evidence.counts is None:
        return None
    lengths, logs = evidence.log_lengths, np.log1p(evidence.counts)
    if not (np.std(lengths) > 1e-9 and np.std(logs) > 1e-9):
        return None
    score = float(np.corrcoef(lengths, logs)[0, 1] ** 2)
    said = f"counts explain {score:.0%} of the variance of log lengths"
    return Measure(
        score, 0.0, said, remedy=partial(remedies.without_popularity, log_counts=logs),
        action="take popularity out of the lengths",
    )  # fmt: skip

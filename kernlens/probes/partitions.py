"""What a tuned head reaches, averaged over what one partition of the rows decides by chance.

Two things of a value by folds are chance: how the rows fell into folds, and which of nearly equal
penalties a fold took. A head that is trained has drawn both anew, so that the mean over trainings
is a mean over them. On the digits the standard deviation of a value of five folds falls from .0032
to .0018 of macro-F1 (64 columns), .0053 to .0030 (16) and .0032 to .0015 (4); that of the least
flattered choice, the best penalty of the same folds, is .0025, .0022 and .0027.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kernlens import metrics
from kernlens.probes.folds import FOLDS
from kernlens.probes.prediction import LOG_LOSS

PARTITIONS = 3
"""Partitions of the rows into folds."""

MAX_ROWS = 20_000
"""Most rows that are shared out more than once: of more, a partition decides less than a rounded
digit, and fits cost more."""

DRAWS = 50
"""Samples of the rows that choose a penalty."""

TOGETHER = 2**20
"""Counts of such samples that are held at once."""


def chances(
    codes: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    predicted: np.ndarray,
    metric: str,
    *,
    seed: int = 0,
) -> np.ndarray:
    """How likely each penalty is to be the best of a path on the rows outside a fold.

    The rows are drawn anew with replacement, copies together, so often as :data:`DRAWS` says.

    Args:
      codes: true classes, integers from 0, ``[n]``.
      folds: fold that holds a row out, ``[n]``; ``-1`` for none.
      groups: equal for copies, integers from 0, ``[n]``.
      predicted: classes by the row's own fold, along the path, strongest penalty first, ``[P, n]``.
      metric: a field of ``Classification``.
      seed: random seed of the draws.

    Returns:
      Shares of the draws, ``[FOLDS, P]``; each row sums to 1. Of equals the strongest is taken.
    """
    kept = folds >= 0
    own, fold, given = codes[kept], folds[kept], predicted[:, kept]
    size = int(max(codes.max(), predicted.max())) + 1
    rng = np.random.default_rng([seed, 2])
    times = rng.poisson(1.0, (DRAWS, int(groups.max()) + 1))[:, groups[kept]].astype(np.float64)
    # A row of the table for each penalty, fold and class.
    place = (np.arange(len(given))[:, None] * FOLDS + fold) * size
    answered, right = (place + given).ravel(), np.where(given == own, place + given, -1)
    true = (place + own).ravel()
    counted = right >= 0
    right, row = right[counted], np.nonzero(counted)[1]
    shape = (len(given), FOLDS, size)

    def others(places, weights):
        """Counts of all folds, less each fold's own."""
        counts = np.bincount(places, weights, math.prod(shape)).reshape(shape)
        return counts.sum(axis=1, keepdims=True) - counts

    def best(draws):
        """The best penalty without each fold, ``[draws, FOLDS]``."""
        every = [np.tile(draw, len(given)) for draw in draws]
        hits = np.stack([others(right, draw[row]) for draw in draws])
        asked = np.stack([others(answered, draw) for draw in every])
        support = np.stack([others(true, draw) for draw in every])
        quality = np.nan_to_num(getattr(metrics.from_counts(hits, asked, support), metric))
        return np.argmax(np.round(quality, 12), axis=1)

    at_once = max(1, TOGETHER // math.prod(shape))
    parts = [times[i : i + at_once] for i in range(0, DRAWS, at_once)]
    taken = np.concatenate([best(draws) for draws in parts])
    return np.stack([np.mean(taken == i, axis=0) for i in range(len(given))], axis=1)


def averaged(
    values: Mapping[str, np.ndarray],
    chance: np.ndarray,
    best: int,
    others: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    """Metrics of a head that chooses its penalty, by what is known of one partition and of more.

    A value is the mean over folds, each at the penalties that it may take. What other partitions
    say at one penalty moves it by as much as it moves the value of that penalty.

    Args:
      values: of each metric, by penalty and fold, ``[P, K]``.
      chance: of each penalty, by fold, ``[K, P]``.
      best: the penalty that the other partitions were asked at.
      others: means over the folds of other partitions, by metric.

    Returns:
      Values by metric.
    """
    found = {}
    for name, own in values.items():
        moved = [float(np.mean(own[best])), *(other[name] for other in others)]
        # A penalty that is never taken may have diverged.
        mean = float(np.mean(np.sum(np.where(chance > 0, chance * own.T, 0.0), axis=1)))
        value = mean + float(np.mean(moved)) - moved[0]
        found[name] = max(value, 0.0) if name == LOG_LOSS else min(max(value, 0.0), 1.0)
    return found

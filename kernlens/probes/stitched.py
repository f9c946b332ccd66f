"""One prediction from several: each fold's answers by the classifier whose making it did not see.

Features that were learnt on some rows flatter those rows. So features are learnt once without each
fold, a probe reads each of them, and of the features made without a fold only its answers count.
"""

from collections.abc import Sequence

import numpy as np

from kernlens.probes.by_folds import answered
from kernlens.probes.folds import tested
from kernlens.probes.paths import NULLS
from kernlens.probes.prediction import LOG_LOSS, Prediction, normal_quantile
from kernlens.types import Interval


def stitched(
    predictions: Sequence[Prediction], *, draws: int = 200, level: float = 0.9, seed: int = 0
) -> Prediction:
    """The prediction whose answers to fold ``k`` are those of the ``k``-th prediction.

    Args:
      predictions: one for each fold, of classes, by folds, of the same rows in the same folds.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the draws.

    Returns:
      Prediction, with a log loss where all of them have probabilities.

    Raises:
      ValueError: predictions without folds, or of other folds.
    """
    helds = [own.held_out for own in predictions if own.held_out is not None]
    folds = [held.folds for held in helds]
    if len(helds) < len(predictions) or any(not np.array_equal(f, folds[0]) for f in folds):
        raise ValueError("only predictions by the same folds can be put together; got others")
    first = helds[0]
    given, logs = first.predicted.copy(), first.log_probabilities
    logs = None if logs is None else logs.copy()
    for k, own in enumerate(helds):
        rows = first.folds == k
        given[rows] = own.predicted[rows]
        if logs is not None and own.log_probabilities is not None:
            logs[rows] = own.log_probabilities[rows]
    classes = np.unique(first.target)
    held = first._replace(
        predicted=np.searchsorted(classes, given), target=np.searchsorted(classes, first.target),
        log_probabilities=logs,
    )  # fmt: skip
    found = answered(held, classes, num_folds=len(predictions), draws=draws, level=level, seed=seed)
    found = found._replace(metric=predictions[0].metric)
    return found if logs is None else _with_log_loss(found, len(predictions), level)


def _with_log_loss(found: Prediction, num_folds: int, level: float) -> Prediction:
    held = found.held_out
    assert held is not None
    assert held.log_probabilities is not None
    losses = -held.log_probabilities[np.arange(len(held.target)), held.target]
    counted = held.folds >= 0
    losses[~counted] = np.inf
    classes, codes = np.unique(held.target, return_inverse=True)
    del classes
    tests = tested(codes, held.folds, num_folds=num_folds)
    value = float(np.mean([np.mean(losses[rows]) for rows in tests]))
    reach = normal_quantile(level) * float(np.std(losses[counted], ddof=1))
    reach /= float(np.sqrt(np.count_nonzero(counted)))
    null = NULLS[LOG_LOSS](np.bincount(codes) / len(codes))
    interval = Interval(value, max(value - reach, 0.0), value + reach, level, null)
    return found._replace(
        metrics={**found.metrics, LOG_LOSS: interval}, loss=LOG_LOSS, losses=losses
    )

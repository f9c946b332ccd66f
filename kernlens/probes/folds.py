"""Folds: a row is read by a classifier that was fitted on the other folds."""

import numpy as np

from kernlens.probes import paths
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import (
    ACCURACY,
    ERROR_RATE,
    MACRO_F1,
    Prediction,
    normal_quantile,
)
from kernlens.types import Interval

FOLDS = 5
"""Default number of folds: a fit on the other four sees what an 80/20 split trains on."""


def stratified(
    codes: np.ndarray, groups: np.ndarray, *, num_folds: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """Folds that share out every class evenly and hold copies of a row together.

    Distinct rows are dealt out class by class, in random order, going on at the fold where the last
    class ended: the distinct rows of a class differ by one at most between folds, and so do those
    of all classes.

    Args:
      codes: class of each row, integers from 0, ``[n]``.
      groups: equal for copies of one row, which are of one class, integers from 0, ``[n]``.
      num_folds: at least 2.
      seed: of the order.

    Returns:
      The fold of each row, int32 ``[n]``; ``-1`` for a class of one distinct row: held out, it
      would leave no row of its class.
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    own = codes[first]
    order = np.lexsort((np.random.default_rng(seed).random(len(own)), own))
    order = order[np.bincount(own)[own[order]] > 1]
    dealt = np.full(len(own), -1, np.int32)
    dealt[order] = np.arange(len(order)) % num_folds
    return dealt[inverse]


def answered(
    held: HeldOut,
    classes: np.ndarray,
    *,
    draws: int,
    level: float,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """The prediction of a classifier that gives classes alone, from its held-out answers.

    Args:
      held: codes of the classes that occur, in ``0..C-1``, but names of all.
      classes: the code that each of them has in the labels, ``[C]``.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the draws.
      notes: of the prediction.

    Returns:
      Prediction; its loss is the error rate. Metrics are over the rows that a fold held out; the
      loss of another row is infinite.

    Raises:
      ValueError: no row is held out by a fold.
    """
    counted = held.folds >= 0
    if not np.any(counted):
        raise ValueError(
            "a row can be held out where its class has another row that is no copy of it; none of "
            f"the {len(classes)} classes has"
        )
    target, predicted = held.target[counted], held.predicted[counted]
    found = paths.classes(target, predicted, draws=draws, level=level, seed=seed)
    wrong = (held.predicted != held.target).astype(np.float32)
    error = float(np.mean(wrong[counted], dtype=np.float64))
    reach = normal_quantile(level) * float(np.std(wrong[counted])) / np.sqrt(len(target))
    chance = 1.0 - (found[ACCURACY].null or 0.0)
    low, high = max(error - reach, 0.0), min(error + reach, 1.0)
    held = held._replace(
        predicted=classes[held.predicted].astype(np.int32),
        target=classes[held.target].astype(np.int32),
    )
    return Prediction(
        metrics={**found, ERROR_RATE: Interval(error, low, high, level, chance)},
        metric=MACRO_F1,
        loss=ERROR_RATE,
        predicted=held.predicted,
        target=held.target,
        losses=np.where(counted, wrong, np.float32(np.inf)),
        names=held.names,
        notes=notes,
        held_out=held,
    )

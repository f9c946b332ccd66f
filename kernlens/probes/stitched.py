"""One prediction from several: each fold's answers by the classifier whose making it did not see.

Features that were learnt on some rows flatter those rows. So features are learnt once without each
fold, a probe reads each of them, and of the features made without a fold only its answers count.
"""

from collections.abc import Sequence

import numpy as np

from kernlens.probes import copies, spread
from kernlens.probes.by_folds import answered, by_fold
from kernlens.probes.folds import held_rows
from kernlens.probes.held_out import HeldOut
from kernlens.probes.paths import NULLS
from kernlens.probes.prediction import LOG_LOSS, Prediction


def stitched(
    predictions: Sequence[Prediction], *, draws: int = 200, level: float = 0.9, seed: int = 0
) -> Prediction:
    """The prediction whose answers to fold ``k`` are those of the ``k``-th prediction.

    Args:
      predictions: one for each fold, of classes, by folds, of the same rows in the same folds.
      draws: test sets, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws.

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
    held = first._replace(predicted=given, log_probabilities=logs)
    asked = {"draws": draws, "level": level, "seed": seed}
    if logs is not None:
        return _with_log_loss(held, predictions[0].metric, **asked)
    classes, own = np.unique(np.stack([held.target, held.predicted]), return_inverse=True)
    target, given = own.reshape(2, -1).astype(np.int32)
    found = answered(
        held._replace(target=target, predicted=given), classes, num_folds=len(helds), **asked
    )
    return found._replace(metric=predictions[0].metric)


def _with_log_loss(
    held: HeldOut, metric: str, *, draws: int, level: float, seed: int
) -> Prediction:
    """The prediction of answers with probabilities, as logistic regression has it."""
    assert held.log_probabilities is not None
    classes, codes = np.unique(held.target, return_inverse=True)
    del classes
    losses = -held.log_probabilities[np.arange(len(codes)), held.target]
    losses[held.folds < 0] = np.inf
    points = by_fold(held.target, held.predicted[None], held.folds)._asdict()
    values = {name: float(np.mean(own)) for name, own in points.items()}
    values[LOG_LOSS] = float(
        np.mean([np.mean(losses[rows]) for rows in held_rows(codes, held.folds)])
    )
    null = NULLS[LOG_LOSS](np.bincount(codes) / len(codes))
    kinds = spread.of_answers(
        held, losses, LOG_LOSS, values=values, null=null, draws=draws, level=level, seed=seed,
    )  # fmt: skip
    return Prediction(
        metrics=kinds.metrics, means=kinds.means, samples=kinds.samples, metric=metric,
        loss=LOG_LOSS, predicted=held.predicted, target=held.target, losses=losses,
        names=held.names, notes=copies.note(held.groups), held_out=held,
    )  # fmt: skip

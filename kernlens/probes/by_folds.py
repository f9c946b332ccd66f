"""Predictions of classes by folds: each metric as a split has it, the mean over folds."""

from collections.abc import Mapping

import numpy as np

from kernlens import metrics
from kernlens.probes import copies, spread
from kernlens.probes.folds import FOLDS, held_rows
from kernlens.probes.held_out import HeldOut
from kernlens.probes.paths import NULLS
from kernlens.probes.prediction import ACCURACY, ERROR_RATE, LOG_LOSS, MACRO_F1, Prediction
from kernlens.types import Classification

MAX_LOSS = np.float32(-np.log(1e-15))
"""Largest log loss of a row: a class that a head never met has probability 1e-15, not 0."""


def by_fold(
    codes: np.ndarray, predicted: np.ndarray, folds: np.ndarray, *, num_folds: int = FOLDS
) -> Classification:
    """Metrics of each fold, over the rows that a split would test.

    Args:
      codes: true classes, integers from 0, ``[n]``.
      predicted: classes given to held-out rows by several classifiers, ``[m, n]``.
      folds: folds of :func:`kernlens.probes.folds.share_out`, ``[n]``.
      num_folds: how many there are.

    Returns:
      Metrics, ``[m, num_folds]`` each.
    """
    num_classes = int(max(codes.max(), predicted.max())) + 1
    found = [
        metrics.from_counts(*metrics.counts(codes[rows], predicted[:, rows], num_classes))
        for rows in held_rows(codes, folds, num_folds=num_folds)
    ]
    return Classification(*(np.stack(own, axis=1) for own in zip(*found, strict=True)))


def answered(
    held: HeldOut,
    classes: np.ndarray,
    *,
    num_folds: int,
    draws: int,
    level: float,
    seed: int,
    values: Mapping[str, float] | None = None,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """The prediction of a classifier, from its held-out answers.

    Args:
      held: codes of the classes that occur, in ``0..C-1``, but names and probabilities of all.
      classes: the code that each of them has in the labels, ``[C]``.
      num_folds: number of folds.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws.
      values: by field of ``Classification``, and of the loss, where the probe has better ones than
        the means over these folds.
      notes: of the prediction.

    Returns:
      Prediction; its loss is the log loss, or the error rate of a classifier that gives classes
      alone. Metrics are means over folds. A row that no fold holds out counts in no metric, and its
      loss is infinite.

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
    if values is None:
        points = by_fold(held.target, held.predicted[None], held.folds, num_folds=num_folds)
        values = {name: float(np.nanmean(own)) for name, own in points._asdict().items()}
    if held.log_probabilities is None:
        loss, most = ERROR_RATE, 1.0
        null = 1.0 - float(metrics.by_chance(target, predicted).accuracy)
        losses = (held.predicted != held.target).astype(np.float32)
        values = {loss: 1.0 - values[ACCURACY], **values}
    else:
        counts = np.bincount(held.target)
        loss, most = LOG_LOSS, np.inf
        null = NULLS[LOG_LOSS](counts[counts > 0] / len(held.target))
        losses = -held.log_probabilities[np.arange(len(held.target)), classes[held.target]]
        losses = np.minimum(losses, MAX_LOSS)
        tests = held_rows(held.target, held.folds, num_folds=num_folds)
        mean = float(np.mean([np.mean(losses[rows], dtype=np.float64) for rows in tests]))
        values = {loss: mean, **values}
    losses = np.where(counted, losses, np.float32(np.inf))
    held = held._replace(
        predicted=classes[held.predicted].astype(np.int32),
        target=classes[held.target].astype(np.int32),
    )
    kinds = spread.of_answers(
        held,
        losses,
        loss,
        values=values,
        null=null,
        most=most,
        draws=draws,
        level=level,
        seed=seed,
    )
    return Prediction(
        metrics=kinds.metrics,
        means=kinds.means,
        samples=kinds.samples,
        metric=MACRO_F1,
        loss=loss,
        predicted=held.predicted,
        target=held.target,
        losses=losses,
        names=held.names,
        notes=(
            *notes,
            *_lonely(held, len(classes)),
            *spread.too_few(held, held.names),
            *copies.note(held.groups),
        ),
        held_out=held,
    )


def _lonely(held: HeldOut, num_classes: int) -> tuple[str, ...]:
    """What is said of classes that no fold holds out."""
    alone = len(np.setdiff1d(held.target, held.target[held.folds >= 0]))
    if not alone:
        return ()
    return (f"{alone} of {num_classes} classes have one distinct row, which is never held out",)

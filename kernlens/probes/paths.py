"""Predictions of classes, from leave-one-out along a path of ridge strengths."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernlens import metrics
from kernlens.probes import copies, labelled_rows, leave_one_out, spread
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import (
    LOG_LOSS,
    MACRO_F1,
    SQUARED_ERROR,
    Path,
    Prediction,
    check_draws,
)
from kernlens.types import Classification, Labels

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.logspace(-4.0, 2.0, 25))
"""Default path of every ridge in this room, four strengths a factor of ten.

A strength is relative to the mean eigenvalue of the covariance of the standardised columns, its
trace over the number of features, so it means the same for columns of any scale and any number of
rows. It is that of the within-class covariance in discriminant analysis.
"""

NEAR = 0.5
"""Standard errors of held-out loss within which the weakest strength is taken. Chosen on 18
Complete Journey embeddings, where any from a quarter to three quarters predicts
logistic regression's macro-F1 to 0.01; one standard error predicts it too high there."""

MIN_STRENGTH = 1e-8
"""Below this, leave-one-out in float64 loses its digits to cancellation."""

NULLS: dict[str, Callable[[np.ndarray], float]] = {
    LOG_LOSS: lambda shares: float(-np.sum(shares * np.log(shares))),
    SQUARED_ERROR: lambda shares: float(1.0 - np.sum(shares**2)),
}
"""Loss of answering the shares of the classes, by name of the loss."""

WEAKEST, ERROR = "weakest", "error"
"""Ways to select a strength, beside the names of the metrics."""


def prediction_of(
    path_fn: Callable[..., leave_one_out.Path],
    loss: str,
    features: Any,
    labels: Labels,
    *,
    strengths: Sequence[float] | np.ndarray,
    select: str,
    standardised: bool,
    groups: np.ndarray | None,
    draws: int,
    level: float,
    seed: int,
) -> Prediction:
    """The prediction of a probe that leaves out one row at a time, for every strength of a path.

    Args:
      path_fn: one of :mod:`kernlens.probes.leave_one_out`'s paths.
      loss: name of its loss.
      features: rows, ``[n, p]``, or a stream of them.
      labels: one label per row, ``[n]``.
      strengths: the path, ``[num_strengths]``, each at least ``MIN_STRENGTH``.
      select: ``"weakest"``, ``"error"`` or a field of ``Classification``.
      standardised: whether columns are standardised, as :func:`discriminant` says.
      groups: equal for copies of one row, ``[n]``, or None.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Prediction.

    Raises:
      ValueError: as the probes say.
    """
    strengths = _checked(strengths, select, draws, level)
    rows = labelled_rows.select_rows(features, labels, standardised=standardised, groups=groups)
    predicted, path_errors, standard_errors, losses = path_fn(rows, strengths)
    if not np.all(np.isfinite(path_errors)):
        raise ValueError(
            f"leave-one-out overflowed at strengths {strengths[~np.isfinite(path_errors)]}"
        )
    path_metrics = metrics.from_counts(*metrics.counts(rows.codes, predicted, len(rows.classes)))
    quality = getattr(path_metrics, select) if select in path_metrics._fields else -path_errors
    best = max(range(len(strengths)), key=lambda i: (quality[i], strengths[i]))
    if select == WEAKEST:
        near = path_errors <= path_errors[best] + NEAR * standard_errors[best]
        best = min(np.flatnonzero(near), key=lambda i: strengths[i])
    held = each_row_left_out(
        rows.classes[predicted[best]], rows.classes[rows.codes], labels.names, rows.groups
    )
    values = {name: float(own[best]) for name, own in path_metrics._asdict().items()}
    values[loss] = float(path_errors[best])
    null = NULLS[loss](np.bincount(rows.codes) / len(rows.codes))
    kinds = spread.of_answers(
        held, losses[best], loss, values=values, null=null, draws=draws, level=level, seed=seed
    )
    return Prediction(
        metrics=kinds.metrics,
        means=kinds.means,
        samples=kinds.samples,
        metric=MACRO_F1,
        loss=loss,
        predicted=held.predicted,
        target=held.target,
        losses=losses[best],
        names=labels.names,
        path=Path(strengths, path_errors, path_metrics._asdict(), float(strengths[best])),
        notes=(
            *_edge(strengths, int(best)),
            *spread.too_few(held, labels.names),
            *copies.note(rows.groups),
        ),
        held_out=held,
    )


def each_row_left_out(
    predicted: np.ndarray, target: np.ndarray, names: tuple[str, ...], groups: np.ndarray
) -> HeldOut:
    """Answers of a probe that leaves out one row at a time: each row is a fold of its own.

    Args:
      predicted: class given to each row, ``[n]``.
      target: true class, ``[n]``.
      names: by code.
      groups: equal for copies of one row, ``[n]``.

    Returns:
      HeldOut without probabilities; the only row of a class is of no fold, for no split tests it.
    """
    target = target.astype(np.int32)
    places = np.arange(len(target), dtype=np.int32)
    folds = np.where(np.bincount(target)[target] > 1, places, -1).astype(np.int32)
    return HeldOut(None, predicted.astype(np.int32), target, folds, names, groups)


def _edge(strengths: np.ndarray, best: int) -> tuple[str, ...]:
    """What is said where the path may have been too short."""
    chosen = strengths[best]
    if len(strengths) == 1 or np.min(strengths) < chosen < np.max(strengths):
        return ()
    which, beyond = (
        ("weakest", "weaker") if chosen == np.min(strengths) else ("strongest", "stronger")
    )
    return (
        f"the ridge strength taken, {chosen:g}, is the {which} of the path; a {beyond} one may "
        "predict otherwise",
    )


def _checked(strengths, select, draws, level) -> np.ndarray:
    check_draws(draws, level)
    if select not in (WEAKEST, ERROR, *Classification._fields):
        raise ValueError(
            f"select must be 'weakest', 'error' or one of {Classification._fields}; got {select!r}"
        )
    strengths = np.array(strengths, np.float64)
    if strengths.ndim != 1 or not strengths.size or not np.all(np.isfinite(strengths)):
        raise ValueError(f"strengths must be finite numbers, [num_strengths]; got {strengths}")
    if np.min(strengths) < MIN_STRENGTH:
        raise ValueError(f"strengths must be at least {MIN_STRENGTH}; got {np.min(strengths)}")
    return strengths

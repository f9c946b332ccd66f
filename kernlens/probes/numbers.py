"""Leave-one-out ridge regression for regression and multi-label targets."""

from collections.abc import Sequence

import numpy as np

from kernlens.metrics import multi_label, regression
from kernlens.probes import copies, outputs, paired
from kernlens.probes.blocks import check_rows
from kernlens.probes.paths import STRENGTHS
from kernlens.probes.prediction import (
    AVERAGE_PRECISION,
    LOWER_IS_BETTER,
    MACRO_F1,
    MAE,
    MICRO_F1,
    R2,
    RMSE,
    SQUARED_ERROR,
    Path,
    Prediction,
    check_draws,
    normal_quantile,
)
from kernlens.probes.spread import FEW_ROWS
from kernlens.types import Array, Interval, MultiLabels, Stream

UNSEEN = 0.5
"""Rows answered by chance that are allowed for where fewer than ``FEW_ROWS`` show hardly any."""


def numbers(
    features: np.ndarray | Array | Stream,
    values: np.ndarray,
    *,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Leave-one-out ridge regression on a number per row: what a trained linear regressor reaches.

    The formula is that of :mod:`kernlens.probes.outputs`; the strength is that of the least squared
    error. Columns are standardised, so their units do not matter.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream, read seven times.
      values: a number for each row, ``[n]``; NaN where there is none.
      strengths: the path, relative to the mean eigenvalue of the covariance.
      draws: not used; intervals are normal, from the influence of each row.
      level: nominal coverage of the intervals over rows, in ``(0, 1)``.
      seed: not used.

    Returns:
      Prediction; the nulls are what the mean of all rows reaches.

    Raises:
      ValueError: shapes that differ, a value that is not finite, or fewer than three rows with a
        number.
    """
    check_draws(draws, level)
    values = np.asarray(values, np.float64)
    features, kept = check_rows(features, len(values)), ~np.isnan(values)
    target = values[kept]
    if not np.all(np.isfinite(target)):
        raise ValueError("the numbers to predict must be finite, or NaN where there is none")
    if target.size and np.all(target == target[0]):
        raise ValueError(f"the numbers are all {target[0]:g}; there is nothing to predict")
    strengths = np.asarray(strengths, np.float64)
    groups = np.full(len(values), -1)
    groups[kept] = np.unique(target, return_inverse=True)[1]
    groups = copies.groups(features, groups)[kept]
    number = np.bincount(groups)[groups]
    fit = outputs.leave_one_out(features, kept, target[:, None], strengths, copies=number)
    path = Path(strengths, np.mean(fit.errors, axis=1), {}, fit.chosen)
    return of_numbers(target, fit.left_out[:, 0], level=level, path=path, notes=copies.note(groups))


def of_numbers(
    target: np.ndarray,
    predicted: np.ndarray,
    *,
    level: float = 0.9,
    path: Path | None = None,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """The prediction that numbers given to held-out rows amount to.

    Args:
      target: true numbers, float64 ``[n]``.
      predicted: given by regressions that did not see the row, float64 ``[n]``.
      level: nominal coverage of the intervals over rows, in ``(0, 1)``.
      path: the strengths that were tried, if any.
      notes: of the prediction.

    Returns:
      Prediction; the nulls are what the mean of all rows reaches.
    """
    found = Prediction(
        metrics={
            R2: regression.r2(target, predicted),
            RMSE: regression.rmse(target, predicted),
            MAE: regression.mae(target, predicted),
            SQUARED_ERROR: float(np.mean((target - predicted) ** 2)),
        },  # pyright: ignore[reportArgumentType]
        metric=R2,
        loss=SQUARED_ERROR,
        predicted=predicted,
        target=target,
        losses=((target - predicted) ** 2).astype(np.float32),
        names=(),
        path=path,
        notes=notes,
    )
    centred = np.abs(target - np.mean(target))
    spread = float(np.mean(centred**2))
    nulls = {R2: 0.0, RMSE: spread**0.5, MAE: float(np.mean(centred)), SQUARED_ERROR: spread}
    return _with_intervals(found, level, nulls)


def many_labels(
    features: np.ndarray | Array | Stream,
    labels: MultiLabels,
    *,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Leave-one-out prediction of any number of labels per row, one linear classifier a label.

    Ridge regression on the 0/1 memberships gives each label a left-out score :math:`s`; with its
    means :math:`\mu_1, \mu_0` over rows with and without the label and their pooled variance
    :math:`\sigma^2`, the label is given where

    .. math:: \log\frac{\pi}{1-\pi} + \frac{\mu_1 - \mu_0}{\sigma^2}
              \Bigl(s - \frac{\mu_0 + \mu_1}2\Bigr) > 0,

    discriminant analysis of the score: the arg-max of a plain regression gives rare labels to
    nobody.

    Args:
      features: as for :func:`numbers`.
      labels: memberships.
      strengths: as for :func:`numbers`.
      draws: not used, as there.
      level: nominal coverage of the intervals over rows, in ``(0, 1)``.
      seed: not used.

    Returns:
      Prediction; the nulls are what guesses in the same proportions reach.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than three labelled rows,
        or no label that some rows have and some have not.
    """
    check_draws(draws, level)
    features, kept = check_rows(features, len(labels.labelled)), np.asarray(labels.labelled)
    target = np.asarray(labels.membership)[kept]
    varies = np.any(target, axis=0) & ~np.all(target, axis=0)
    if not np.any(varies):
        raise ValueError("no label is on some rows and not on others; there is nothing to predict")
    names = tuple(name for name, used in zip(labels.names, varies, strict=True) if used)
    target = target[:, varies]
    strengths = np.asarray(strengths, np.float64)
    groups = np.full(len(kept), -1)
    groups[kept] = np.unique(target, axis=0, return_inverse=True)[1].ravel()
    groups = copies.groups(features, groups)[kept]
    number = np.bincount(groups)[groups]
    fit = outputs.leave_one_out(features, kept, target.astype(np.float64), strengths, copies=number)
    odds = _log_odds(target, fit.left_out)
    losses = np.mean((target - fit.left_out) ** 2, axis=1)
    found = Prediction(
        metrics={
            MICRO_F1: multi_label.micro_f1(target, odds > 0),
            MACRO_F1: multi_label.macro_f1(target, odds > 0),
            AVERAGE_PRECISION: multi_label.average_precision(target, odds),
            SQUARED_ERROR: float(np.mean(losses)),
        },  # pyright: ignore[reportArgumentType]
        metric=MACRO_F1,
        loss=SQUARED_ERROR,
        predicted=odds > 0,
        target=target,
        losses=losses.astype(np.float32),
        names=names,
        scores=odds,
        path=Path(strengths, np.mean(fit.errors, axis=1), {}, fit.chosen),
        notes=copies.note(groups),
    )
    shares, given = np.mean(target, axis=0), np.mean(odds > 0, axis=0)
    guessed = 2.0 * shares * given
    nulls = {
        AVERAGE_PRECISION: float(np.mean(shares)),
        MICRO_F1: float(np.sum(guessed) / np.sum(shares + given)),
        MACRO_F1: float(np.mean(guessed / (shares + given))),
        SQUARED_ERROR: float(np.mean(shares * (1.0 - shares))),
    }
    return _with_intervals(found, level, nulls)


def _with_intervals(found: Prediction, level: float, nulls: dict[str, float]) -> Prediction:
    n = len(found.target)
    reach = normal_quantile(level) / np.sqrt(n)
    values = {name: Interval(float(v), 0.0, 0.0, level) for name, v in found.metrics.items()}
    found = found._replace(metrics=values)
    made = {}
    for name, own in values.items():
        error = float(reach * np.std(paired.influence(found, name), ddof=1))
        if n < FEW_ROWS:
            # So few rows without an error are no proof that none will come.
            worst = nulls[name] if name in LOWER_IS_BETTER else 1.0
            error = max(error, reach * float(np.sqrt(UNSEEN / n)) * worst)
        low = own.value - error if name == R2 else max(own.value - error, 0.0)
        high = own.value + error if name in LOWER_IS_BETTER else min(own.value + error, 1.0)
        made[name] = Interval(own.value, low, high, level, nulls.get(name))
    return found._replace(metrics=made)


def _log_odds(target: np.ndarray, scores: np.ndarray) -> np.ndarray:
    n, having = len(target), np.sum(target, axis=0)
    on = np.sum(np.where(target, scores, 0.0), axis=0) / having
    off = np.sum(np.where(target, 0.0, scores), axis=0) / (n - having)
    spread = np.mean(np.where(target, scores - on, scores - off) ** 2, axis=0)
    slope = (on - off) / np.where(spread > 0, spread, 1.0)
    return np.log(having / (n - having)) + slope * (scores - 0.5 * (on + off))

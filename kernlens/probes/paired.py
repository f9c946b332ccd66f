"""Differences between predictions of the same rows, for one pair or for many pairs at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from kernlens.metrics import influence as influences
from kernlens.probes import copies, spread
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import (
    AVERAGE_PRECISION,
    MACRO_F1,
    MAE,
    MICRO_F1,
    R2,
    RMSE,
    Prediction,
    check_draws,
    check_metric,
    normal_quantile,
)
from kernlens.probes.splits import Answers, answers_of, test_sets
from kernlens.types import Interval

DRAWS = 20_000
"""Normal draws for the largest of many differences."""

RESOLVED = 1e-5
"""Share of a metric that a difference must exceed: below it lie the last digits of float32 losses
and the steps that a solver left out, which differ between copies of an embedding too."""


def paired_difference(
    a: Prediction,
    b: Prediction,
    *,
    metric: str = MACRO_F1,
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> Interval:
    """Difference of a metric between two predictions on the same rows.

    What the two share (hard rows, rare classes) cancels: the interval is narrower than two
    intervals set side by side. Of classes it is that of another sample of items, to which both
    heads are fitted (:func:`differences` has those of one training and of the mean as well); of
    numbers and labels that of the linearised metrics over rows (:func:`influence`).

    Args:
      a: a prediction.
      b: a prediction of the same targets, row by row.
      metric: a metric that both have.
      draws: drawn test sets, at least 1; not used.
      level: nominal coverage of the interval, in ``(0, 1)``.
      seed: random seed of the draws; not used.

    Returns:
      Interval of ``a`` minus ``b``.

    Raises:
      ValueError: targets or names that differ, a metric that one of them lacks, or an argument out
        of its range.
    """
    check_draws(draws, level)
    _check_same(a, b, metric)
    sides = (a.metrics[metric].value, b.metrics[metric].value)
    gaps = influence(a, metric) - influence(b, metric)
    kept = np.isfinite(gaps)
    if a.held_out is not None and b.held_out is not None:
        return _about(sides, gaps[kept], _rows(a.held_out, b.held_out, kept), level=level).sample
    gaps, value = gaps[kept], float(sides[0] - sides[1])
    reach = float(normal_quantile(level) * np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
    found = Interval(value, value - reach, value + reach, level)
    return found if _resolved(sides) else _with_zero(found)


def differences(
    a: Prediction,
    b: Prediction,
    *,
    metric: str = MACRO_F1,
    draws: int = 400,
    level: float = 0.9,
    seed: int = 0,
) -> spread.Intervals:
    """Difference of a metric of classes between two predictions, for each of three questions.

    Args:
      a: a prediction of classes.
      b: a prediction of the same targets, row by row.
      metric: a metric that both have.
      draws: test sets on which both are tested, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Intervals of ``a`` minus ``b``.

    Raises:
      ValueError: as :func:`paired_difference`, or predictions without held-out answers.
    """
    check_draws(draws, level)
    _check_same(a, b, metric)
    if a.held_out is None or b.held_out is None:
        raise ValueError("differences needs predictions of classes, with their held-out answers")
    psi = influence(a, metric) - influence(b, metric)
    kept = np.isfinite(psi)
    rows = _rows(a.held_out, b.held_out, kept)
    sides, drawn = (a.metrics[metric].value, b.metrics[metric].value), None
    if metric in spread.INFLUENCES:
        given = (a.held_out.predicted[kept], b.held_out.predicted[kept])
        first, second = test_sets(rows[0], given, draws=draws, seed=seed).metrics()
        drawn = getattr(first, metric) - getattr(second, metric)
    return _about(sides, psi[kept], rows, drawn=drawn, level=level)


def _rows(a: HeldOut, b: HeldOut, kept: np.ndarray) -> list[Answers]:
    """The rows by the folds of either side; rows that are copies in any share a group."""
    groups = copies.joined(a.groups, b.groups)
    sides = [one._replace(groups=groups, folds=np.where(kept, one.folds, -1)) for one in (a, b)]
    if np.array_equal(sides[0].folds, sides[1].folds):
        sides = sides[:1]
    return [answers_of(one) for one in sides]


def _about(
    sides: tuple[float, float],
    psi: np.ndarray,
    rows: Sequence[Answers],
    *,
    drawn: np.ndarray | None = None,
    level: float,
) -> spread.Intervals:
    """The intervals of a difference, by the folds that differ more where there are two kinds.

    A metric that is a mean over several partitions may differ where no held-out answer does, and
    no row then says how surely: 0 is in the interval, as it is where the sides are the same as far
    as they were computed.
    """
    value = float(sides[0] - sides[1])
    made = [
        spread.about(
            value, psi, own, drawn=drawn, level=level, other=spread.OTHER_GAP, least=-np.inf
        )
        for own in rows
    ]
    found = max(made, key=lambda one: one.sample.high - one.sample.low)
    if np.any(psi) and _resolved(sides):
        return found
    return found._make(map(_with_zero, found))


def _resolved(sides: tuple[float, float]) -> bool:
    return abs(sides[0] - sides[1]) > RESOLVED * max(map(abs, sides))


def _with_zero(found: Interval) -> Interval:
    return found._replace(low=min(found.low, 0.0), high=max(found.high, 0.0))


def _check_same(a: Prediction, b: Prediction, metric: str) -> None:
    for side in (a, b):
        check_metric(side, metric)
    if a.names != b.names or not np.array_equal(a.target, b.target):
        raise ValueError(
            "a paired difference needs the same rows and labels on both sides; got "
            f"{len(a.target)} and {len(b.target)} rows, "
            f"{len(a.names)} and {len(b.names)} classes, or other targets"
        )


def widened(found: Interval, level: float) -> Interval:
    """An interval made as wide as one of a higher level is, each side in proportion.

    Quantiles far out in the tails of a bootstrap would rest on a few draws; the ratio of normal
    quantiles does not.

    Args:
      found: an interval.
      level: whose width it is given, in ``(0, 1)``; its own stays as the nominal one.

    Returns:
      Interval; unchanged where the levels are equal.
    """
    ratio = normal_quantile(level) / normal_quantile(found.level)
    low, high = (found.value + ratio * (end - found.value) for end in (found.low, found.high))
    return found._replace(low=low, high=high)


def influence(prediction: Prediction, metric: str) -> np.ndarray:
    """Influence of each row on a metric of a prediction; see :mod:`kernlens.metrics.influence`.

    Args:
      prediction: of any target.
      metric: one that it has.

    Returns:
      Influences, float64 ``[n]``, of mean 0 over the rows that count; NaN of rows that do not.

    Raises:
      ValueError: a metric that it lacks.
    """
    check_metric(prediction, metric)
    if metric == prediction.loss:
        losses = prediction.losses.astype(np.float64)
        counts = np.isfinite(losses) & _tested(prediction)
        return np.where(counts, losses - np.mean(losses[counts]), np.nan)
    if prediction.target.ndim == 1 and metric in spread.INFLUENCES:
        counts = _tested(prediction)
        found = np.full(len(counts), np.nan)
        found[counts] = spread.INFLUENCES[metric](
            prediction.target[counts], prediction.predicted[counts]
        )
        return found
    of_labels = prediction.target.ndim == 2
    given = prediction.predicted
    if metric == AVERAGE_PRECISION and prediction.scores is not None:
        given = prediction.scores
    return (INFLUENCES_OF_LABELS if of_labels else INFLUENCES)[metric](prediction.target, given)


def _tested(prediction: Prediction) -> np.ndarray:
    """Whether a fold held the row out."""
    held = prediction.held_out
    return np.ones(len(prediction.target), bool) if held is None else held.folds >= 0


def simultaneous_level(
    predictions: Sequence[Prediction],
    metric: str,
    *,
    level: float = 0.9,
    seed: int = 0,
) -> float:
    r"""Level of each pair's interval with which the intervals of all pairs hold together.

    The influences give the covariance of the metrics under sampling of rows; the quantile of the
    largest standardised difference over all pairs, from normal draws of that covariance, is how
    many standard errors all intervals need. Two predictions need no more than ``level``.

    Args:
      predictions: of the same rows.
      metric: one that all have.
      level: coverage of all intervals together, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Level in ``[level, 1)``.

    References:
      Hothorn, Bretz and Westfall (2008), for the largest of correlated differences.
    """
    psi = np.stack([np.nan_to_num(influence(own, metric)) for own in predictions])
    return level_together(psi, level=level, seed=seed)


def level_together(psi: np.ndarray, *, level: float = 0.9, seed: int = 0) -> float:
    """Level of each pair's interval with which the intervals of all pairs hold together.

    Args:
      psi: influences of the units that are sampled (rows, users) on each of ``k`` values, each of
        mean 0, ``[k, n]``.
      level: as :func:`simultaneous_level`.
      seed: as :func:`simultaneous_level`.

    Returns:
      Level in ``[level, 1)``; ``level`` itself of fewer than three values.
    """
    null = _null(psi, seed)
    return _level(null, null.pairs(), level)


def pairwise_differences(
    predictions: Sequence[Prediction], metric: str, *, level: float = 0.9, seed: int = 0
) -> dict[tuple[int, int], Interval]:
    """Differences between all pairs of predictions, whose signs hold together.

    Args:
      predictions: of the same rows.
      metric: one that all have.
      level: with which no difference has the wrong sign, in ``(0, 1)``; see :func:`step_down`.
      seed: random seed of the draws.

    Returns:
      Intervals of prediction ``i`` minus ``j``, by ``(i, j)`` with ``i > j``.

    Raises:
      ValueError: as :func:`paired_difference`.
    """
    gaps = {
        (i, j): paired_difference(a, b, metric=metric, level=level)
        for i, a in enumerate(predictions)
        for j, b in enumerate(predictions[:i])
    }
    psi = np.stack([np.nan_to_num(influence(own, metric)) for own in predictions])
    return step_down(gaps, psi, level=level, seed=seed)


def step_down(
    gaps: Mapping[tuple[int, int], Interval],
    psi: np.ndarray,
    *,
    level: float = 0.9,
    seed: int = 0,
) -> dict[tuple[int, int], Interval]:
    """Intervals of differences, widened until their signs hold together.

    All are as wide as :func:`level_together` asks. Those that then leave out 0 are decided; they
    cannot be mistaken for others any more, so that the rest needs less, and so on until none is
    decided. The chance that any difference of 0 is called is ``1 - level`` at most, as it is where
    all intervals have the first width, and more differences are called.

    Args:
      gaps: intervals at ``level`` of value ``i`` minus value ``j``, by ``(i, j)``.
      psi: as :func:`level_together`, ``[k, n]``.
      level: with which no difference of 0 is called, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      The intervals, each as wide as the step had it that decided it, or the last step.

    References:
      Romano and Wolf (2005), Exact and approximate stepdown methods for multiple hypothesis
      testing.
    """
    null, found, left = _null(psi, seed), {}, dict(gaps)
    while left:
        together = _level(null, left, level)
        made = {pair: widened(own, together) for pair, own in left.items()}
        decided = {pair: own for pair, own in made.items() if own.separated}
        found |= decided or made
        left = {pair: own for pair, own in left.items() if decided and pair not in decided}
    return {pair: found[pair] for pair in gaps}


class _Null(NamedTuple):
    """Normal draws of values that do not differ, ``[DRAWS, k]``, and the standard errors of their
    differences, 0 of values that are the same, ``[k, k]``."""

    drawn: np.ndarray
    errors: np.ndarray

    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(len(self.errors)), 2))


def _null(psi: np.ndarray, seed: int) -> _Null:
    covariance = psi @ psi.T
    variances = np.diag(covariance)
    scale = np.max(variances)
    if not scale > 0:
        return _Null(np.zeros((1, len(psi))), np.zeros_like(covariance))
    gaps = (variances[:, None] + variances[None, :] - 2.0 * covariance) / scale
    values, vectors = np.linalg.eigh(covariance / scale)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = np.random.default_rng(seed).standard_normal((DRAWS, len(psi))) @ root.T
    return _Null(drawn, np.sqrt(np.where(gaps > 1e-12, gaps, 0.0)))


def _level(null: _Null, pairs: Iterable[tuple[int, int]], level: float) -> float:
    """Level of each interval with which those of the pairs hold together."""
    # Predictions that are the same have no difference to draw.
    differ = [pair for pair in pairs if null.errors[pair] > 0]
    if len(differ) < 2:
        return level
    largest = np.zeros(len(null.drawn))
    for i, j in differ:
        gap = np.abs(null.drawn[:, i] - null.drawn[:, j]) / null.errors[i, j]
        np.maximum(largest, gap, out=largest)
    together = 2.0 * NormalDist().cdf(float(np.quantile(largest, level))) - 1.0
    return float(np.clip(together, level, np.nextafter(1.0, 0.0)))


INFLUENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    R2: influences.r2,
    RMSE: influences.rmse,
    MAE: influences.mae,
}
"""Influence of each row on a metric of numbers, by metric."""

INFLUENCES_OF_LABELS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    MICRO_F1: influences.micro_f1_of_labels,
    MACRO_F1: influences.macro_f1_of_labels,
    AVERAGE_PRECISION: influences.average_precision,
}
"""The same for rows of many labels each."""

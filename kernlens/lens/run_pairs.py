r"""Pairs of runs: what their answers agree on, with intervals that hold the spread between runs.

A mean over all pairs of ``R`` runs is a U-statistic of the runs. Its error has two parts: items,
from the influence of each row on the mean, and runs, from the mean without each run in turn,

.. math:: s_R^2 = \frac{R - 1}{R} \sum_r \bigl(U_{-r} - \bar U\bigr)^2,

whose interval is Student's with ``R - 1`` degrees of freedom. Two runs have one pair, and nothing
to leave out: their intervals hold the sampling of items alone.

References:
  Efron and Stein (1981), the jackknife; Arvesen (1969), the jackknife of U-statistics.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kernlens.metrics.disagreement import Disagreement
from kernlens.probes.prediction import normal_quantile, tails
from kernlens.types import Interval

ODD_RATIO = 1.25
"""Least ratio of an odd run's churn to that of the others."""

LEAST_ODD = 4
"""Fewest runs among which one can be odd: of three, one is always farther from the other two."""


class Pairs(NamedTuple):
    """All pairs of some runs.

    Attributes:
      kappa: mean over pairs of the agreement beyond chance.
      churn: mean over pairs of what moves.
      by_pair: kappa and churn of each pair of run numbers, with intervals over items.
      moved: how far each row moves, the mean over pairs, float64 ``[n]``.
      odd: number of the run that is apart from the others, or None.
    """

    kappa: Interval
    churn: Interval
    by_pair: dict[tuple[int, int], tuple[Interval, Interval]]
    moved: np.ndarray
    odd: int | None


def pairs_of(
    answers: Sequence[np.ndarray],
    disagree: Callable[[np.ndarray, np.ndarray], Disagreement],
    *,
    level: float = 0.9,
    most: float = 1.0,
) -> Pairs:
    """Kappa and churn of each pair of runs, and their means.

    Args:
      answers: answers of each run to the same rows, ``R`` arrays ``[n, ...]``, two runs or more.
      disagree: compares two of them.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      most: largest churn that there can be.

    Returns:
      Pairs.
    """
    num, n = len(answers), len(answers[0])
    values = np.full((num, num, 2), np.nan)
    by_pair, moved = {}, np.zeros(n)
    influences, of_run = np.zeros((2, n)), np.zeros((num, n))
    couples = list(itertools.combinations(range(num), 2))
    for i, j in couples:
        own = disagree(answers[i], answers[j])
        values[i, j] = values[j, i] = own.kappa, own.churn
        by_pair[i, j] = tuple(
            _interval(value, _over_items(psi, level), level, low, high)
            for value, psi, (low, high) in zip(
                values[i, j], own.influences, ((-1.0, 1.0), (0.0, most)), strict=True
            )
        )
        moved += own.moved / len(couples)
        influences += own.influences / len(couples)
        of_run[i] += own.influences[1]
        of_run[j] += own.influences[1]
    intervals = []
    for k, (low, high) in enumerate(((-1.0, 1.0), (0.0, most))):
        reach = np.hypot(_over_items(influences[k], level), _over_runs(values[:, :, k], level))
        intervals.append(_interval(_mean(values[:, :, k]), reach, level, low, high))
    odd = _odd(values[:, :, 1], of_run, 2.0 * influences[1] * len(couples), level)
    return Pairs(intervals[0], intervals[1], by_pair, moved, odd)


def spread(
    values: Sequence[float], *, level: float = 0.9, bounds: tuple[float, float] | None = None
) -> Interval:
    """Standard deviation between runs of a value of each, with chi-square's interval.

    Args:
      values: values of each run, two or more.
      level: nominal coverage for normal values, in ``(0, 1)``.

    Returns:
      Interval; infinitely wide above where two runs are all and their values are equal.
    """
    from scipy import special  # half a second, which no other verb has to wait for

    found, free = float(np.std(values, ddof=1)), len(values) - 1
    low, high = tails(level)
    least, most = (
        found * float(np.sqrt(free / special.chdtri(free, tail))) for tail in (low, high)
    )
    if bounds is not None:
        # Values within bounds have no larger standard deviation than half of them at each end.
        most = max(found, min(most, 0.5 * (bounds[1] - bounds[0])))
    return Interval(found, least, most, level)


def mean_over_runs(
    values: Sequence[float], *, level: float = 0.9, bounds: tuple[float, float] | None = None
) -> Interval:
    """Mean over runs of a value of each, with Student's interval, within the bounds of the value;
    NaN ends of one run."""
    found = float(np.mean(values))
    if len(values) < 2:
        return Interval(found, np.nan, np.nan, level)
    reach = _student(len(values) - 1, level) * np.std(values, ddof=1) / np.sqrt(len(values))
    low, high = np.clip((found - reach, found + reach), *(bounds or (-np.inf, np.inf)))
    return Interval(found, float(low), float(high), level)


def _mean(values: np.ndarray) -> float:
    """Mean over the pairs for which a value is defined."""
    upper = values[np.triu_indices(len(values), 1)]
    upper = upper[np.isfinite(upper)]
    return float(np.mean(upper)) if upper.size else np.nan


def _over_items(influences: np.ndarray, level: float) -> float:
    return normal_quantile(level) * float(np.std(influences)) / np.sqrt(influences.shape[-1])


def _over_runs(values: np.ndarray, level: float) -> float:
    """Half the width of the interval that runs alone give; 0 of two runs, which cannot say."""
    num = len(values)
    if num < 3:
        return 0.0
    left = np.array([_mean(np.delete(np.delete(values, r, 0), r, 1)) for r in range(num)])
    if not np.all(np.isfinite(left)):
        return np.nan
    error = np.sqrt((num - 1) / num * np.sum((left - left.mean()) ** 2))
    return _student(num - 1, level) * float(error)


def _student(free: int, level: float) -> float:
    from scipy import special

    return float(special.stdtrit(free, tails(level)[1]))


def _interval(value: float, reach: float, level: float, low: float, high: float) -> Interval:
    ends = np.clip((value - reach, value + reach), low, high)
    return Interval(float(value), float(ends[0]), float(ends[1]), level)


def _odd(churn: np.ndarray, of_run: np.ndarray, twice_all: np.ndarray, level: float) -> int | None:
    """The run whose every pair moves more than any pair without it, clearly and by much."""
    num, n = of_run.shape
    if num < LEAST_ODD:
        return None
    together = 1.0 - (1.0 - level) / num
    for run in range(num):
        others = np.delete(np.delete(churn, run, 0), run, 1)
        rest = others[np.triu_indices(num - 1, 1)]
        own = np.delete(churn[run], run)
        pairs_left = (num - 1) * (num - 2) / 2
        gap = of_run[run] / (num - 1) - (0.5 * twice_all - of_run[run]) / pairs_left
        reach = normal_quantile(together) * float(np.std(gap)) / np.sqrt(n)
        clear = own.mean() - rest.mean() > reach
        if clear and own.min() > rest.max() and own.mean() > ODD_RATIO * rest.mean():
            return run
    return None

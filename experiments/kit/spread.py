"""Between runs and within them: parts of variance with their intervals, and a jackknife over runs.

Intervals of variances are those of normal values: by chi-square and F, which need no large number
of runs. All intervals are at 90%, 5% to either side.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

TAIL = 0.05
LEAST = 3
"""Fewest runs that have a spread."""


def parts(values: np.ndarray) -> tuple[float, float]:
    r"""Variances between runs and within them, unbiased, of ``values [runs, head seeds]``.

    With mean squares :math:`M_b` between and :math:`M_w` within, and S head seeds, they are
    :math:`(M_b - M_w) / S`, which may be negative, and :math:`M_w`; with one head seed
    :math:`M_b` and 0.
    """
    between, within, seeds = _squares(values)
    return (between - within) / seeds, within


def between_sd(values: np.ndarray, tail: float = TAIL) -> dict[str, float]:
    r"""Standard deviation between runs, the heads' noise taken out, with an interval.

    With one head seed the interval is chi-square's. With S seeds it is that of Williams (1962),

    .. math:: \sqrt{\nu_b (M_b - F M_w) / (S \chi^2_{\nu_b})},

    upper quantiles at the lower end and lower ones at the upper end. A mean square :math:`M_b` so
    small that chance rarely gives it would leave nothing; so the tail of the lower quantile of F
    is, as in Read (2002), a share of the chance of a ratio no larger than the one seen. The upper
    end is then above 0 wherever :math:`M_b` is.

    Args:
      values: scores, ``[runs, head seeds]``; a deterministic head has one seed.
      tail: chance beyond either end.

    Returns:
      ``value``, 0 where the variance is not positive, ``low`` and ``high``; ``high`` is NaN where
      all values are equal, which says nothing of their spread.

    Raises:
      ValueError: fewer than three runs.
    """
    count = _counted(len(values))
    between, within, seeds = _squares(values)
    free, noisy = count - 1, count * (seeds - 1)
    if between == 0:
        return {"value": 0.0, "low": 0.0, "high": float("nan")}
    low = high = between
    if within:
        ratio = stats.f(free, noisy)
        low -= within * ratio.isf(tail)
        high -= within * ratio.ppf(tail * ratio.cdf(between / within))
    chi2 = stats.chi2(free)
    ends = (between - within, low * free / chi2.isf(tail), high * free / chi2.ppf(tail))
    value, low, high = np.sqrt(np.maximum(ends, 0.0) / seeds)
    return {"value": float(value), "low": float(low), "high": float(high)}


def ratio_of_sds(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    r"""Standard deviation of a between runs over that of b, of the same runs, with an interval.

    Of deterministic heads the interval is exact: with the ratio of variances w, their correlation
    r and :math:`K = 1 + 2 (1 - r^2) t^2_{n-2} / (n - 2)`, its squared ends are
    :math:`w (K \mp \sqrt{K^2 - 1})` (Morgan 1939, Pitman 1939). Else it is that of all ratios of
    two intervals of 95%, which is wider than it need be.

    Args:
      a, b: scores, ``[runs, head seeds]`` each.

    Returns:
      ``value``, ``low`` and ``high``; NaN or infinite where b does not vary.

    Raises:
      ValueError: fewer than three runs.
    """
    count = _counted(len(a))
    with np.errstate(divide="ignore", invalid="ignore"):
        if a.shape[1] == b.shape[1] == 1:
            x, y = a[:, 0], b[:, 0]
            ratio = np.var(x, ddof=1) / np.var(y, ddof=1)
            r2 = np.corrcoef(x, y)[0, 1] ** 2 if np.ptp(x) and np.ptp(y) else 0.0
            k = 1 + 2 * (1 - r2) * stats.t(count - 2).isf(TAIL) ** 2 / (count - 2)
            root = np.sqrt(k**2 - 1)
            # k - root, without the cancellation that leaves 0 of a large k
            found = np.sqrt([ratio, ratio / (k + root), ratio * (k + root)])
        else:
            one, other = between_sd(a, TAIL / 2), between_sd(b, TAIL / 2)
            found = np.divide(
                [one["value"], one["low"], one["high"]],
                [other["value"], other["high"], other["low"]],
            )
    return dict(zip(("value", "low", "high"), map(float, found), strict=True))


def jackknife(
    runs: int,
    statistic: Callable[[np.ndarray], float],
    *,
    bounds: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Value of ``statistic(indices of runs)`` with Student's interval from leaving each run out.

    Args:
      runs: their number.
      statistic: of some of the runs, at least two.
      bounds: least and largest value that the statistic can take; the interval is cut there.

    Raises:
      ValueError: fewer than three runs.
    """
    every = np.arange(_counted(runs))
    value = statistic(every)
    without = np.array([statistic(np.delete(every, run)) for run in every])
    pseudo = runs * value - (runs - 1) * without
    margin = stats.t(runs - 1).isf(TAIL) * np.std(pseudo, ddof=1) / np.sqrt(runs)
    ends = np.array([value - margin, value + margin])
    low, high = ends if bounds is None else np.clip(ends, *bounds)
    return {"value": float(value), "low": float(low), "high": float(high)}


def more(runs: int, unlike: Callable[..., float], like: Callable[..., float]) -> dict[str, Any]:
    """How far one statistic of runs exceeds another, and twice the other.

    Args:
      runs: their number.
      unlike, like: of indices of runs, both at least 0.

    Returns:
      ``difference``, ``unlike - like``, and ``beyond twice``, ``unlike - 2 like``, with intervals.
    """
    return {
        "difference": jackknife(runs, lambda drawn: unlike(drawn) - like(drawn)),
        "beyond twice": jackknife(runs, lambda drawn: unlike(drawn) - 2 * like(drawn)),
    }


def table(pairs: Sequence[Mapping[str, Any]], runs: int, key: Callable[[Any], float]) -> np.ndarray:
    """A value of each pair of runs, symmetric, ``[runs, runs]``; the diagonal is 0."""
    made = np.zeros((runs, runs))
    for pair in pairs:
        a, b = pair["runs"]
        made[a, b] = made[b, a] = key(pair)
    return made


def off_diagonal(matrix: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Entries of all pairs of the runs that are kept."""
    a, b = np.triu_indices(len(kept), 1)
    return matrix[kept[a], kept[b]]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; NaN where a side is constant, or of fewer than three."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    found: Any = stats.spearmanr(a, b)
    return float(found.statistic)


def _squares(values: np.ndarray) -> tuple[float, float, int]:
    """Mean squares between runs and within them, and the number of head seeds."""
    seeds = values.shape[1]
    between = seeds * float(np.var(values.mean(axis=1), ddof=1))
    within = float(np.mean(np.var(values, axis=1, ddof=1))) if seeds > 1 else 0.0
    return between, within, seeds


def _counted(runs: int) -> int:
    if runs < LEAST:
        raise ValueError(f"a spread between runs needs {LEAST} at least; got {runs}")
    return runs

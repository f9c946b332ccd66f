"""Between runs and within them: unbiased parts of variance, and bootstraps over runs."""

from collections.abc import Callable

import numpy as np


def parts(values: np.ndarray) -> tuple[float, float]:
    r"""Variances between runs and within them, unbiased, of ``values [runs, head seeds]``.

    With mean squares :math:`M_b` between and :math:`M_w` within, and S head seeds, they are
    :math:`(M_b - M_w) / S`, which may be negative, and :math:`M_w`.
    """
    seeds = values.shape[1]
    between = seeds * np.var(values.mean(axis=1), ddof=1)
    if seeds == 1:
        return float(between), 0.0
    within = float(np.mean(np.var(values, axis=1, ddof=1)))
    return float((between - within) / seeds), within


def between_sd(values: np.ndarray) -> float:
    """Standard deviation between runs, heads' noise out, 0 where its variance is not positive."""
    return float(np.sqrt(max(parts(values)[0], 0.0)))


def bootstrap(
    runs: int, statistic: Callable[[np.ndarray], float], draws: int, level: float = 0.9
) -> dict[str, float]:
    """Value and percentile interval of ``statistic(indices of runs)``, over runs redrawn.

    Raises:
      ValueError: fewer than three runs.
    """
    if runs < 3:
        raise ValueError(f"a spread between runs needs three at least; got {runs}")
    rng = np.random.default_rng(0)
    found = []
    while len(found) < draws:
        drawn = rng.integers(runs, size=runs)
        if len(np.unique(drawn)) > 2:  # fewer have no spread, or one pair
            found.append(statistic(drawn))
    kept = np.array(found)[np.isfinite(found)]
    tails = (0.5 - level / 2, 0.5 + level / 2)
    low, high = np.quantile(kept, tails) if len(kept) else (np.nan, np.nan)
    return {"value": float(statistic(np.arange(runs))), "low": float(low), "high": float(high)}


def off_diagonal(matrix: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Entries of pairs of distinct runs among those drawn, each pair as often as drawn."""
    a, b = np.triu_indices(len(drawn), 1)
    a, b = drawn[a], drawn[b]
    return matrix[a[a != b], b[a != b]]


def ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; NaN where a side is constant."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])

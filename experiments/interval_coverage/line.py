"""A line of results: how often the intervals of one score held its target."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.scores import intervals


class Ends(NamedTuple):
    """An interval, and the standard error that it was made from."""

    low: float
    high: float
    standard_error: float


def ends_of(found: intervals.Replicates, level: float, bounds: tuple[float, float]) -> Ends:
    """The interval of a score from its replicates."""
    made = intervals.interval(found, level=level, bounds=bounds)
    return Ends(made.low, made.high, intervals.standard_error(found))


def line(
    method: str,
    table: str,
    score: str,
    size: int,
    targets: Sequence[float] | np.ndarray,
    limit: float,
    found: Sequence[Ends],
) -> dict[str, Any]:
    """Coverage of the target and of the population's value.

    Args:
      method: how intervals were made.
      table: of the score.
      score: its name.
      size: rows in a sample.
      targets: values over samples; their mean is the target.
      limit: value of the whole population.
      found: the intervals.
    """
    target = float(np.mean(targets))
    return {
        "rows": size,
        "method": method,
        "table": table,
        "score": score,
        "samples": len(found),
        "target": target,
        "spread": float(np.std(targets, ddof=1)),
        "population": limit,
        "standard_error": float(np.mean([one.standard_error for one in found])),
        "coverage": float(np.mean([one.low <= target <= one.high for one in found])),
        "population_coverage": float(np.mean([one.low <= limit <= one.high for one in found])),
    }

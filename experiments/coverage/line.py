"""A line of results: how often the intervals of one score held its target."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def line(
    method: str,
    table: str,
    score: str,
    size: int,
    targets: Sequence[float] | np.ndarray,
    limit: float,
    found: Sequence[Any],
) -> dict[str, Any]:
    """Coverage of the target and of the population's value.

    Args:
      method: how intervals were made.
      table: of the score.
      score: its name.
      size: rows in a sample.
      targets: values over samples; their mean is the target.
      limit: value of the whole population.
      found: the intervals, with ``low``, ``high`` and ``standard_error``.
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

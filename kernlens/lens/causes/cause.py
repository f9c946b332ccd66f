"""What a cause of failure is: how it is measured, when it counts, and what can be done."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernlens.types import Interval

FACT, NATURAL, ASKED, HEAD = "fact", "natural", "asked", "head"
"""What a cause that is found says: a fact that is safe to state; a property that healthy embeddings
have too, and a fault only where the named head gains without it; something that one table cannot
settle; or a property of the head."""

REACH = 4.0
"""Greatest severity of a finding, so that findings in unlike units can be put in order."""

Remedy = Callable[[np.ndarray], np.ndarray]
"""``remedy(embeddings [n, d]) -> embeddings [n, d']``, the same rows in the same order."""


class Measure(NamedTuple):
    """What a cause measured on one table.

    Attributes:
      score: the statistic, in its own unit.
      null: its value on a table without the cause.
      said: the numbers in a clause, as in ``"132 of 13,198 rows (1.0%) are ..."``.
      rows: how much each row is to blame, in ``[0, 1]``, blamed above 0.5, float64 ``[n]``; None
        where no row can be.
      remedy: what undoes it in the table, or None where nothing does.
      action: what the remedy does, as in ``"clip the lengths of rows"``.
      gain: of what is no remedy of the table, such as another head, already predicted; else None.
      invalid: why the predicted value itself means something else, or "".
    """

    score: float
    null: float
    said: str
    rows: np.ndarray | None = None
    remedy: Remedy | None = None
    action: str = ""
    gain: Interval | None = None
    invalid: str = ""


class Cause(NamedTuple):
    """A cause of failure.

    Attributes:
      measure: ``(evidence) -> Measure``, or None where the evidence does not allow it.
      group: :data:`FACT`, :data:`NATURAL`, :data:`ASKED` or :data:`HEAD`.
      threshold: score from which the cause is found.
      reason: why that threshold.
      what: what it is.
      why: why it matters.
      do: what to do.
      ratio: whether scores are ratios, compared by their logarithms.
      lower: whether the cause is found below the threshold.
    """

    measure: Callable[[Any], Measure | None]
    group: str
    threshold: float
    reason: str
    what: str
    why: str
    do: str
    ratio: bool = False
    lower: bool = False

    def found(self, score: float) -> bool:
        """Whether a score is beyond the threshold."""
        return bool(score < self.threshold if self.lower else score >= self.threshold)

    def severity(self, score: float, null: float) -> float:
        """How far a score lies from its null, in steps from null to threshold.

        Args:
          score: the statistic.
          null: its value without the cause.

        Returns:
          Steps in ``[0, REACH]``; 1 at the threshold.
        """
        score, null, threshold = (
            math.log(max(v, 1e-12)) if self.ratio else v for v in (score, null, self.threshold)
        )
        step = threshold - null
        if not math.isfinite(score) or step == 0:
            return REACH if self.found(score) else 0.0
        return float(np.clip((score - null) / step, 0.0, REACH))

    def paragraph(self) -> str:
        """What it is, why it matters and what to do."""
        return f"{self.what} {self.why} {self.do}"


def blame(excess: np.ndarray) -> np.ndarray:
    r"""Row scores :math:`e / (1 + e)` of how far rows are beyond a bound, 0.5 at the bound itself.

    >>> blame(np.array([-1.0, 0.0, 1.0, 3.0]))
    array([0.  , 0.  , 0.5 , 0.75])
    """
    excess = np.maximum(excess, 0.0)
    return excess / (1.0 + excess)


def share(count: int, n: int, what: str = "rows") -> str:
    """``"132 of 13,198 rows (1.0%)"``."""
    return f"{count:,} of {n:,} {what} ({count / max(n, 1):.1%})"

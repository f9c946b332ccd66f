"""What an experiment says of a claim: four words, and the rules that lead from intervals to them.

A claim of an effect holds where the whole interval lies beyond none, fails where the interval
rules out every effect that would matter, and is undecided where it allows both: a failure is a
finding, never mere lack of power. An interval without ends, of a statistic that is not defined,
allows everything.
"""

from collections.abc import Iterable, Mapping
from typing import Any

HOLDS, PART, FAILS, UNDECIDED = "holds", "holds in part", "fails", "undecided"
VERDICTS = (HOLDS, PART, FAILS, UNDECIDED)
TWOFOLD = 2.0
"""Least ratio of two spreads that would matter."""


def exceeds(found: Mapping[str, Any], *, none: float = 0.0, matters: float = 0.0) -> str:
    """Whether an effect lies above none, by its interval.

    Args:
      found: the interval's ends ``low`` and ``high``; None or NaN where not defined.
      none: value without an effect: 0 of a difference or a correlation, 1 of a ratio.
      matters: least effect that would matter, at least ``none``; ``none`` itself if every effect
        does. Declare it before looking at the numbers.

    Returns:
      HOLDS if ``low > none``; FAILS if ``high < matters``, or ``high <= none``; else UNDECIDED.

    >>> exceeds({"low": 0.1, "high": 0.4})
    'holds'
    >>> exceeds({"low": 0.6, "high": 3.0}, none=1, matters=2)
    'undecided'
    >>> exceeds({"low": 0.6, "high": 1.9}, none=1, matters=2)
    'fails'
    """
    matters = max(matters, none)
    low, high = found["low"], found["high"]
    if low is not None and low > none:
        return HOLDS
    if high is not None and (high < matters or high <= none):
        return FAILS
    return UNDECIDED


def twofold(found: Mapping[str, Any]) -> str:
    """Holds if more than the other, fails if surely less than twice the other."""
    return exceeds({"low": found["difference"]["low"], "high": found["beyond twice"]["high"]})


def together(parts: Iterable[str]) -> str:
    """Verdict of a claim of several equal parts.

    Returns:
      HOLDS or FAILS if every part does; PART if some part holds, wholly or in part; else
      UNDECIDED.

    Raises:
      ValueError: no part, or a word that is no verdict.
    """
    parts = _checked(parts)
    if all(part == HOLDS for part in parts):
        return HOLDS
    if any(part in (HOLDS, PART) for part in parts):
        return PART
    return FAILS if all(part == FAILS for part in parts) else UNDECIDED


def also(first: str, *further: str) -> str:
    """Verdict of a claim whose first part is needed and whose further parts complete it.

    Returns:
      ``first`` unless it holds; then HOLDS if all further parts hold too, else PART.

    Raises:
      ValueError: a word that is no verdict.
    """
    first, *rest = _checked([first, *further])
    if first != HOLDS:
        return first
    return HOLDS if all(part == HOLDS for part in rest) else PART


def known(fact: bool) -> str:
    """Verdict of a part that is counted, without an interval: HOLDS or FAILS."""
    return HOLDS if fact else FAILS


def _checked(parts: Iterable[str]) -> list[str]:
    parts = list(parts)
    wrong = [part for part in parts if part not in VERDICTS]
    if wrong or not parts:
        raise ValueError(f"verdicts must be of {', '.join(VERDICTS)}; got {wrong or 'none'}")
    return parts

"""Flips: items whose answer changes from one version to the next, and which way.

Of classes an answer is right or wrong. Of numbers it moves nearer to the truth or away from it, by
more than :data:`CLOSE` standard deviations of the target.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import normal_quantile
from kernlens.types import Interval

NEGATIVE, POSITIVE, OTHER, CHURN = "negative_flips", "positive_flips", "other_flips", "churn"
NAMES = (NEGATIVE, POSITIVE, OTHER, CHURN)

CLOSE = 0.1
"""Standard deviations of the target within which two numbers are the same answer."""

TESTED = 0.2
"""Share of the items on which one split judges: what the intervals of flips are for."""


class Flips(NamedTuple):
    """Shares of the items whose class changes, with the items.

    As with the metrics of a prediction, an interval is for what one test set of a fifth of the
    items will show.

    Attributes:
      negative_flips: share that was right and becomes wrong; of numbers, that moves away from the
        truth.
      positive_flips: share that was wrong and becomes right, or moves nearer to the truth.
      other_flips: share that was wrong and becomes wrong otherwise, or moves to a number as far
        from the truth.
      churn: share whose class changes at all, or whose number moves.
      negative_rows: places of the items that become wrong, rising, int ``[m]``.
      positive_rows: of those that become right.
      other_rows: of the others that change.
    """

    negative_flips: Interval
    positive_flips: Interval
    other_flips: Interval
    churn: Interval
    negative_rows: np.ndarray
    positive_rows: np.ndarray
    other_rows: np.ndarray


def flips(
    before: HeldOut,
    after: HeldOut,
    *,
    level: float = 0.9,
    values: Mapping[str, float] | None = None,
) -> Flips:
    """Flips between two answers to the same items.

    Args:
      before: answers of the old version.
      after: answers of the new one; items that no fold holds out do not count.
      level: nominal coverage of the intervals, in ``(0, 1)``: those of Wilson, of as many items as
        vary as these do, whose copies flip together.
      values: the shares by name, where they are known better than by these answers.

    Returns:
      Flips; rows are places among the items of ``before``.

    References:
      Wilson (1927); Yan et al. (2021), Positive-congruent training, for negative flips.
    """
    *masks, moved, counted = _masks(before, after)
    return _shares(tuple(masks), moved, counted, level, values, before.groups)


def shares(before: HeldOut, after: HeldOut) -> dict[str, float]:
    """Shares of the items that flip, by name, of two answers to the same items."""
    *masks, counted = _masks(before, after)
    n = int(np.count_nonzero(counted))
    return dict(zip(NAMES, (np.count_nonzero(mask) / n for mask in masks), strict=True))


def _masks(before: HeldOut, after: HeldOut) -> tuple[np.ndarray, ...]:
    """Items that flip each way, those that move at all, and those that count."""
    counted = before.folds >= 0
    old, new, target = before.predicted, after.predicted, before.target
    moved = counted & (old != new)
    lost, won = moved & (old == target), moved & (new == target)
    return lost, won, moved & ~lost & ~won, moved, counted


def of_numbers(
    before: np.ndarray,
    after: np.ndarray,
    target: np.ndarray,
    counted: np.ndarray,
    *,
    level: float = 0.9,
) -> Flips:
    """Flips between two sets of numbers given to the same items.

    Args:
      before: given on the old version, ``[n]``.
      after: given on the new one, ``[n]``.
      target: true numbers, ``[n]``.
      counted: whether an item counts, bool ``[n]``.
      level: nominal coverage of the intervals, those of Wilson, in ``(0, 1)``.

    Returns:
      Flips; rows are places among the ``n`` items.
    """
    near = CLOSE * float(np.std(target[counted]))
    moved = counted & (np.abs(after - before) > near)
    farther = np.abs(after - target) - np.abs(before - target)
    masks = (moved & (farther > near), moved & (farther < -near))
    return _shares((*masks, moved & ~masks[0] & ~masks[1]), moved, counted, level)


def _shares(
    masks: tuple[np.ndarray, ...],
    moved: np.ndarray,
    counted: np.ndarray,
    level: float,
    values: Mapping[str, float] | None = None,
    groups: np.ndarray | None = None,
) -> Flips:
    n = int(np.count_nonzero(counted))
    counts = {
        name: float(np.count_nonzero(mask))
        for name, mask in zip(NAMES, (*masks, moved), strict=True)
    }
    counts |= {name: value * n for name, value in (values or {}).items()}
    negative, positive, other, churn = (
        share(counts[name], n, level, part=TESTED / _together(mask, counted, groups))
        for name, mask in zip(NAMES, (*masks, moved), strict=True)
    )
    rows = [np.flatnonzero(mask) for mask in masks]
    return Flips(negative, positive, other, churn, rows[0], rows[1], rows[2])


def _together(mask: np.ndarray, counted: np.ndarray, groups: np.ndarray | None) -> float:
    """Times as far as a share varies since copies of an item flip together, in variance; at least
    1. Copies are tested together, so that they tell no more than the item does."""
    if groups is None or not np.any(mask):
        return 1.0
    own = mask[counted] - np.mean(mask[counted])
    by_item = np.bincount(np.unique(groups[counted], return_inverse=True)[1], own)
    return max(1.0, float(np.sum(by_item**2) / max(np.sum(own**2), 1e-300)))


def share(count: float, total: float, level: float, *, part: float = 1.0) -> Interval:
    """A share with Wilson's interval, which holds near 0 too.

    Args:
      count: items that count; a mean over partitions need not be whole.
      total: all items.
      level: nominal coverage, in ``(0, 1)``.
      part: share of the items on which it is judged, for which the interval is.
    """
    z, p, total = normal_quantile(level), count / total, part * total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return Interval(p, float(max(centre - reach, 0.0)), float(min(centre + reach, 1.0)), level)

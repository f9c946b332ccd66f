r"""How far a held-out metric may be from what is seen next: intervals for three questions.

``ONE``, what one training will show: a head is trained on four fifths of the rows and tested on the
rest. Its metric varies with the rows that are tested, a fifth of each class drawn without
replacement, and with the fit to the others. It is what a team sees, so it is shown first.

``MEAN``, the mean over :data:`TRAININGS` such trainings. Most of what the tested rows add cancels.

``SAMPLE``, the mean over trainings on another sample of items of this kind: all rows are drawn
again and heads fitted to them. It is what a choice between embeddings has to survive.

All three are about the same value. With :math:`\psi_i` the influence of row :math:`i` on the
metric, :math:`\tilde\psi_i` the same less the mean of its class, and :math:`T` the variance of a
test set's metric, their variances are

.. math::
  \text{one} = T\,(s + \rho + \gamma), \qquad
  \text{mean} = T\,s\,\gamma + T\,(s + \rho) / 10, \qquad
  \text{sample} = s\,\tau\, \frac{1}{n^2} \sum_g \Bigl(\sum_{i \in g} \psi_i\Bigr)^2,

:math:`g` the groups of copies. :math:`s \ge 1` is how much more the folds differ than rows shared
out by chance would make them. :math:`\rho` (:data:`REFIT`) is what refitting adds without the folds
showing it, and :math:`\gamma` (:data:`CENTRE`) the variance of a value of five folds about the mean
over all splits, both in units of :math:`T`. :math:`\tau` is what other rows to learn from add to
other rows to answer: :data:`OTHER` for a value, :data:`OTHER_GAP` for a difference of two, which
learn from the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernlens import metrics
from kernlens.metrics import influence as influences
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import (
    ACCURACY,
    BALANCED_ACCURACY,
    MACRO_F1,
    MEAN,
    MICRO_F1,
    ONE,
    SAMPLE,
    normal_quantile,
    tails,
)
from kernlens.probes.splits import Answers, answers_of, test_sets
from kernlens.targets import held_out_of
from kernlens.types import Classification, Interval

TRAININGS = 10
"""Trainings of which ``MEAN`` is the mean."""

REFIT = 0.15
"""Variance that refitting adds, in units of a test set's. Chosen, as CENTRE and TRUST, on digits
and on Complete Journey's behaviour embeddings."""

CENTRE = 0.10
"""Variance of a value of five folds about the mean over all splits, in the same unit."""

OTHER, OTHER_GAP = 1.5, 1.2
"""Variance of a value over samples of items in units of what other rows to answer alone would give,
and that of a difference. Chosen on disjoint samples of the same sets."""

TRUST = 8.0
"""Degrees of freedom with which folds are held to differ by chance alone, against their own."""

MOST_FOLDS = 20
"""Beyond it a fold is nearly a row, and how folds differ says nothing of refitting."""

FEW_ROWS = 20
"""A class of fewer rows has fewer than four in a test set: its F1 is a toss of a coin."""

INFLUENCES = {
    ACCURACY: influences.accuracy,
    MICRO_F1: influences.accuracy,
    MACRO_F1: influences.macro_f1,
    BALANCED_ACCURACY: influences.balanced_accuracy,
}
"""Influence of each row on a metric of classes."""


class Intervals(NamedTuple):
    """The same value with an interval for each question: see the head of this module."""

    one: Interval
    mean: Interval
    sample: Interval


class Kinds(NamedTuple):
    """Intervals by metric, for each question: the fields of ``Prediction`` of these names."""

    metrics: dict[str, Interval]
    means: dict[str, Interval]
    samples: dict[str, Interval]


def of_classes(
    held: HeldOut,
    values: Mapping[str, float] | None = None,
    *,
    draws: int = 400,
    level: float = 0.9,
    seed: int = 0,
) -> dict[str, Intervals]:
    """Metrics of classes given to held-out rows.

    Args:
      held: the answers.
      values: of the metrics, where the probe has better ones than the mean over drawn test sets.
      draws: test sets, at least 1.
      level: nominal coverage, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Intervals by field of ``Classification``; their null is what guesses reach.
    """
    kept = held.folds >= 0
    rows, predicted = answers_of(held), held.predicted[kept]
    sets = test_sets(rows, (predicted,), draws=draws, seed=seed)
    (drawn,) = sets.metrics()
    chance = metrics.by_chance(rows.target, predicted)
    found = {}
    for name in Classification._fields:
        psi, own = INFLUENCES[name](rows.target, predicted), getattr(drawn, name)
        found[name] = about(
            sets.mean(own, psi) if values is None else values[name], psi, rows, drawn=own,
            level=level, null=float(getattr(chance, name)),
            unseen=0.5, most=1.0,
        )  # fmt: skip
    return found


def of_mean(
    held: HeldOut,
    losses: np.ndarray,
    value: float | None = None,
    *,
    level: float = 0.9,
    null: float | None = None,
    most: float = np.inf,
) -> Intervals:
    """A metric that is a mean over rows, such as the log loss.

    Args:
      held: whose rows they are.
      losses: losses of each row, ``[n]``; those that are infinite do not count.
      value: where the probe has a better one than the mean over test sets.
      level: nominal coverage, in ``(0, 1)``.
      null: what chance gives.
      most: the largest value there is.

    Returns:
      Intervals.
    """
    counts = np.isfinite(losses) & (held.folds >= 0)
    rows = answers_of(held._replace(folds=np.where(counts, held.folds, -1)))
    own = losses[counts].astype(np.float64)
    if value is None:
        sizes = np.bincount(rows.target)
        shares = held_out_of(sizes) / np.maximum(sizes, 1)
        value = float(np.average(own, weights=shares[rows.target]))
    return about(value, own - np.mean(own), rows, level=level, null=null, most=most)


def of_answers(
    held: HeldOut,
    losses: np.ndarray,
    loss: str,
    *,
    values: Mapping[str, float] | None = None,
    null: float | None = None,
    most: float = np.inf,
    draws: int = 400,
    level: float = 0.9,
    seed: int = 0,
) -> Kinds:
    """What a probe of classes says, in the fields of ``Prediction``.

    Args:
      held: the answers.
      losses: losses of each row, ``[n]``; those that are infinite do not count.
      loss: name of the loss.
      values: of the metrics and the loss, where the probe has better ones than the means over test
        sets and rows.
      null: loss of answering the shares of the classes.
      most: the largest loss there is.
      draws: test sets, at least 1.
      level: nominal coverage, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Kinds.
    """
    found = of_classes(held, values, draws=draws, level=level, seed=seed)
    found[loss] = of_mean(
        held, losses, None if values is None else values[loss],
        level=level, null=null, most=most,
    )  # fmt: skip
    return Kinds(
        {name: own.one for name, own in found.items()},
        {name: own.mean for name, own in found.items()},
        {name: own.sample for name, own in found.items()},
    )


def about(
    value: float,
    psi: np.ndarray,
    rows: Answers,
    *,
    drawn: np.ndarray | None = None,
    level: float = 0.9,
    null: float | None = None,
    unseen: float = 0.0,
    other: float = OTHER,
    least: float = 0.0,
    most: float = np.inf,
) -> Intervals:
    """The three intervals about a value.

    Args:
      value: of the metric, or of a difference.
      psi: influence of each row, ``[n]``, of mean 0.
      rows: the rows.
      drawn: the metric on drawn test sets, ``[draws]``, for the width and the lean of ``one``; by
        default the influences give its width.
      level: nominal coverage, in ``(0, 1)``.
      null: kept with the intervals.
      unseen: mistakes among the ``n`` rows that are allowed for where there is none.
      other: :data:`OTHER` or :data:`OTHER_GAP`.
      least: the smallest value there is.
      most: the largest.

    Returns:
      Intervals; the value lies in each.
    """
    n = len(psi)
    sums = np.bincount(rows.groups, _within(psi, rows.target))
    # No mistake among n rows is no proof that none will come.
    linear = 4.0 * (float(sums @ sums) or unseen) / n**2
    test = 0.0 if drawn is None else float(np.var(drawn))
    test = test or linear
    excess = fold_excess(psi, rows)
    refit = test * (excess + REFIT)
    spread = {
        ONE: refit + test * CENTRE,
        MEAN: test * excess * CENTRE + refit / TRAININGS,
        SAMPLE: excess * other * other_rows(psi, rows),
    }
    reach = normal_quantile(level)
    lean = _lean(drawn)

    def ends(kind: str) -> Interval:
        error = reach * np.sqrt(spread[kind])
        low, high = (side * error for side in (lean if kind == ONE else (1.0, 1.0)))
        low, high = max(value - low, least), min(value + high, most)
        if kind == ONE and drawn is not None:
            # Few mistakes: what a test set shows is one of few values, such as none at all.
            outer = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
            low, high = min(low, outer[0]), max(high, outer[1])
        return Interval(value, float(min(low, value)), float(max(high, value)), level, null)

    return Intervals(ends(ONE), ends(MEAN), ends(SAMPLE))


def other_rows(psi: np.ndarray, rows: Answers) -> float:
    """Variance of a mean of influences over another sample of the groups."""
    sums = np.bincount(rows.groups, psi - np.mean(psi))
    return float(sums @ sums) / len(psi) ** 2


def fold_excess(psi: np.ndarray, rows: Answers) -> float:
    """Variance of a metric between folds, over that of rows shared out by chance; at least 1.

    Five folds say little, so their ratio is drawn towards 1 by ``TRUST``.
    """
    folds = np.unique(rows.folds, return_inverse=True)[1]
    count = int(folds.max()) + 1
    if not 2 <= count <= MOST_FOLDS:
        return 1.0
    own = _within(psi, rows.target)
    by_group = np.bincount(rows.groups, own)
    expected = (1.0 - 1.0 / count) * float(by_group @ by_group)
    if not expected > 0:
        return 1.0
    sums = np.bincount(folds, own)
    ratio = float(sums @ sums) / expected
    return max(1.0, (TRUST + (count - 1) * ratio) / (TRUST + count - 1))


def too_few(held: HeldOut, names: Sequence[str], *, shown: int = 3) -> tuple[str, ...]:
    """A note that names the classes too small to judge, or none.

    Args:
      held: the answers.
      names: by code.
      shown: how many are named.
    """
    counts = np.bincount(held.target)
    few = [int(c) for c in np.argsort(counts, kind="stable") if 0 < counts[c] < FEW_ROWS]
    if not few:
        return ()
    listed = ", ".join(f"{names[c]} ({counts[c]})" for c in few[:shown])
    more = f" and {len(few) - shown} more" if len(few) > shown else ""
    return (
        f"{len(few)} of {np.count_nonzero(counts)} classes have fewer than {FEW_ROWS} rows, too "
        f"few to judge: {listed}{more}",
    )


def _within(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Values less the mean of their class, widened for its degrees of freedom."""
    counts = np.bincount(target)
    means = np.bincount(target, values) / np.maximum(counts, 1)
    widened = np.sqrt(counts / np.maximum(counts - 1, 1))
    return (values - means[target]) * widened[target]


def _lean(drawn: np.ndarray | None) -> tuple[float, float]:
    """How far draws reach to either side, in units of a normal distribution's 90% interval.

    At a fixed level, since further out quantiles would rest on a few draws.
    """
    if drawn is None or not np.std(drawn) > 0:
        return 1.0, 1.0
    unit = normal_quantile(0.9) * np.std(drawn)
    low, high = np.abs(np.quantile(drawn, tails(0.9)) - np.mean(drawn)) / unit
    return float(low), float(high)

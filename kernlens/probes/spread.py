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
learn from the same rows. A known gap of a probe from the head that it stands for
adds its square.
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

MAX_DRAWN = 2**27
"""Rows drawn in all for test sets of rows with copies; of more rows fewer sets are drawn."""

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


class Answers(NamedTuple):
    """Rows that a fold held out, in the order of the probe's.

    Attributes:
      target: class, integers from 0, ``[n]``.
      folds: ``[n]``.
      groups: copies share one, renumbered from 0, ``[n]``.
    """

    target: np.ndarray
    folds: np.ndarray
    groups: np.ndarray


def answers_of(held: HeldOut) -> Answers:
    """The rows that count."""
    kept = held.folds >= 0
    groups = np.unique(held.groups[kept], return_inverse=True)[1]
    return Answers(held.target[kept], held.folds[kept], groups)


def of_classes(
    held: HeldOut,
    values: Mapping[str, float] | None = None,
    *,
    gaps: Mapping[str, float] | None = None,
    draws: int = 400,
    level: float = 0.9,
    seed: int = 0,
) -> dict[str, Intervals]:
    """Metrics of classes given to held-out rows.

    Args:
      held: the answers.
      values: of the metrics, where the probe has better ones than the mean over drawn test sets.
      gaps: standard deviation of the probe's metric about that of the head it stands for, by
        metric; none by default.
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
            level=level, gap=(gaps or {}).get(name, 0.0), null=float(getattr(chance, name)),
            unseen=0.5, most=1.0,
        )  # fmt: skip
    return found


def of_mean(
    held: HeldOut,
    losses: np.ndarray,
    value: float | None = None,
    *,
    gap: float = 0.0,
    level: float = 0.9,
    null: float | None = None,
    most: float = np.inf,
) -> Intervals:
    """A metric that is a mean over rows, such as the log loss.

    Args:
      held: whose rows they are.
      losses: losses of each row, ``[n]``; those that are infinite do not count.
      value: where the probe has a better one than the mean over test sets.
      gap: as :func:`of_classes`.
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
    return about(value, own - np.mean(own), rows, level=level, gap=gap, null=null, most=most)


def of_answers(
    held: HeldOut,
    losses: np.ndarray,
    loss: str,
    *,
    values: Mapping[str, float] | None = None,
    gaps: Mapping[str, float] | None = None,
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
      gaps: as :func:`of_classes`, the loss among them.
      null: loss of answering the shares of the classes.
      most: the largest loss there is.
      draws: test sets, at least 1.
      level: nominal coverage, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Kinds.
    """
    found = of_classes(held, values, gaps=gaps, draws=draws, level=level, seed=seed)
    found[loss] = of_mean(
        held, losses, None if values is None else values[loss],
        gap=(gaps or {}).get(loss, 0.0), level=level, null=null, most=most,
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
    gap: float = 0.0,
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
      gap: standard deviation of the value about that of the head it stands for.
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
        error = reach * np.sqrt(spread[kind] + gap**2)
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


class TestSets(NamedTuple):
    """Test sets that several predictions of the same rows share.

    Attributes:
      target: class of each cell of interchangeable rows, ``[cells]``.
      given: what each prediction says of the cell, ``[cells]`` each.
      place: cell of each row, ``[n]``.
      taken: rows of the cell in each set, ``[draws, cells]``.
      expected: what ``taken`` is on average, ``[cells]``.
    """

    target: np.ndarray
    given: tuple[np.ndarray, ...]
    place: np.ndarray
    taken: np.ndarray
    expected: np.ndarray

    def metrics(self) -> list[Classification]:
        """Metrics of each prediction, ``[draws]`` each."""
        size = int(max(np.max(codes) for codes in (self.target, *self.given))) + 1
        support, found = _sums(self.target, self.taken, size), []
        for own in self.given:
            right = own == self.target
            hits = _sums(own[right], self.taken[:, right], size)
            found.append(metrics.from_counts(hits, _sums(own, self.taken, size), support))
        return found

    def mean(self, drawn: np.ndarray, psi: np.ndarray) -> float:
        """Mean of a metric over all test sets, from those drawn.

        Its linear part is known without drawing: only what bends is averaged over the draws.

        Args:
          drawn: the metric, ``[draws]``.
          psi: influence of each row on it, the same for interchangeable rows, ``[n]``.
        """
        own = np.zeros(len(self.target))
        own[self.place] = psi
        sizes = np.sum(self.taken, axis=1)
        known = self.expected @ own / np.sum(self.expected)
        return float(np.mean(drawn - self.taken @ own / sizes) + known)


def test_sets(
    rows: Answers, predictions: Sequence[np.ndarray], *, draws: int, seed: int
) -> TestSets:
    """Test sets as a split draws them.

    A set has a fifth of each class, :func:`kernlens.targets.held_out_of`, without replacement.
    Rows alike in target and predictions are interchangeable, so that what a set has of each such
    cell is one hypergeometric draw, and its cost does not depend on ``n``. Where rows have copies,
    groups are drawn one by one, each as of the class of its first row.

    Args:
      rows: the rows.
      predictions: classes given, ``[n]`` each.
      draws: how many sets; fewer where rows with copies are very many.
      seed: random seed of the draws.

    Returns:
      TestSets.
    """
    num_classes = int(max(np.max(codes) for codes in (rows.target, *predictions))) + 1
    shape = (num_classes,) * (1 + len(predictions))
    cells, place, sizes = np.unique(
        np.ravel_multi_index((rows.target, *predictions), shape),
        return_inverse=True, return_counts=True,
    )  # fmt: skip
    target, *given = np.unravel_index(cells, shape)
    rng = np.random.default_rng(seed)
    if int(rows.groups.max()) + 1 == len(rows.groups):
        counts = np.bincount(target, sizes)
        quota = held_out_of(counts)
        taken = _cells_drawn(rng, target, sizes, quota, draws)
        expected = sizes * (quota / np.maximum(counts, 1))[target]
    else:
        taken = _groups_drawn(rng, rows, place, len(cells), draws)
        expected = np.mean(taken, axis=0)
    return TestSets(target, tuple(given), place, taken, expected)


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


def _cells_drawn(rng, target, sizes, quota, draws) -> np.ndarray:
    taken = np.zeros((draws, len(sizes)), np.int64)
    for c in np.flatnonzero(quota):
        own = target == c
        taken[:, own] = rng.multivariate_hypergeometric(
            sizes[own], quota[c], size=draws, method="marginals"
        )
    return taken


def _groups_drawn(rng, rows, place, num_cells, draws) -> np.ndarray:
    first = np.unique(rows.groups, return_index=True)[1]
    stratum = rows.target[first]
    quota = held_out_of(np.bincount(stratum))
    draws = int(np.clip(MAX_DRAWN // len(place), 50, draws))
    taken = np.empty((draws, num_cells), np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(stratum))])
    for i in range(draws):
        order = np.lexsort((rng.random(len(stratum)), stratum))
        chosen = np.empty(len(stratum), bool)
        chosen[order] = np.arange(len(order)) - starts[stratum[order]] < quota[stratum[order]]
        taken[i] = np.bincount(place[chosen[rows.groups]], minlength=num_cells)
    return taken


def _sums(codes, taken, num_classes) -> np.ndarray:
    """Sums of ``taken [draws, cells]`` by code, ``[draws, num_classes]``."""
    found = np.zeros((num_classes, len(taken)), np.int64)
    np.add.at(found, codes, taken.T)
    return found.T

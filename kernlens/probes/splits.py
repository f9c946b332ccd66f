"""Rows that folds held out, and the test sets that splits draw of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernlens import metrics
from kernlens.probes.folds import class_of_groups
from kernlens.probes.held_out import HeldOut
from kernlens.targets import held_out_of
from kernlens.types import Classification

MAX_DRAWN = 2**27
"""Rows drawn in all for test sets of rows with copies; of more rows fewer sets are drawn."""


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
    groups are drawn one by one, each as of the class that most of its rows have.

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


def _cells_drawn(rng, target, sizes, quota, draws) -> np.ndarray:
    taken = np.zeros((draws, len(sizes)), np.int64)
    for c in np.flatnonzero(quota):
        own = target == c
        taken[:, own] = rng.multivariate_hypergeometric(
            sizes[own], quota[c], size=draws, method="marginals"
        )
    return taken


def _groups_drawn(rng, rows, place, num_cells, draws) -> np.ndarray:
    stratum = class_of_groups(rows.target, rows.groups)
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

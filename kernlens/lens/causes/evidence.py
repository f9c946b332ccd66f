"""What causes are measured on: a table, its target, and what heads answer on it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kernlens.probes import LOWER_IS_BETTER, HeldOut, Prediction, copies, paired_difference
from kernlens.types import Decoder, Interval, Labels, Target

SPREAD = 6.0 * 1.4826
"""Median absolute deviations about the median within which a row's log length is ordinary: six
standard deviations of a normal law."""

LEAST_SPREAD = 0.01
"""Least median absolute deviation of log lengths: rows of one length differ by rounding."""


@dataclass(frozen=True)
class Evidence:
    """A table of labelled rows and the head that is to read it.

    Attributes:
      rows: float64 ``[n, d]``, finite.
      target: target of each row.
      answer: what the named head answers, of the rows in ``sample``.
      predict: ``(rows, decoder, *, apart=False) -> Prediction`` of another table of the same rows,
        or another head, with the same folds; ``apart`` lets copies lie in several folds.
      decoder: the named head; None for a linear one.
      groups: equal for copies, ``[n]``.
      sample: rows that heads are predicted on, ``[m]``.
      counts: how often each row was met, ``[n]``, or None.
      reference: an older version of the same rows, ``[n, p]``, or None.
      text: rows from the texts of the items, ``[n, q]``, or None.
      metric: what heads are judged by.
      level: level of the intervals.
      seed: random seed of permutations.
    """

    rows: np.ndarray
    target: Target
    answer: Prediction
    predict: Callable[..., Prediction]
    decoder: Decoder | None
    groups: np.ndarray | None
    sample: np.ndarray
    counts: np.ndarray | None
    reference: np.ndarray | None
    text: np.ndarray | None
    metric: str
    level: float
    seed: int

    @property
    def codes(self) -> np.ndarray | None:
        """Class of each row, None of a target without classes."""
        return self.target.codes if isinstance(self.target, Labels) else None

    @cached_property
    def log_lengths(self) -> np.ndarray:
        """Logarithm of each row's Euclidean length; of a row of zeros, the median."""
        lengths = np.linalg.norm(self.rows, axis=1)
        known = lengths > 0
        found = np.log(np.where(known, lengths, 1.0))
        return np.where(known, found, np.median(found[known]) if known.any() else 0.0)

    @cached_property
    def length_bound(self) -> float:
        """Log length above which a row is an outlier."""
        return _bound(self.log_lengths)

    @cached_property
    def variances(self) -> np.ndarray:
        """Variance of each column, 0 where it is no more than rounding, ``[d]``."""
        found = self.rows.var(axis=0)
        return np.where(found > (1e-6 * self.rows.mean(axis=0)) ** 2, found, 0.0)

    @cached_property
    def standard(self) -> np.ndarray:
        """Columns of mean 0 and variance 1, outliers clipped first, constant ones 0, ``[n, d]``."""
        return standardised(clipped(self.rows, self.length_bound))

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Eigenvalues of the correlation matrix, falling, ``[d]``."""
        z = self.standard
        return np.linalg.eigvalsh(z.T @ z / len(z))[::-1]

    @cached_property
    def linear(self) -> Prediction:
        """What a linear head answers."""
        if self.decoder is None:
            return self.answer
        return self.predict(self.rows, None)

    @cached_property
    def naive(self) -> Prediction:
        """What the named head answers where copies of a row may lie in other folds."""
        return self.predict(self.rows, self.decoder, apart=True)

    @cached_property
    def num_distinct(self) -> int:
        """Rows that differ from one another in any column."""
        return int(copies.groups(self.rows, np.zeros(len(self.rows), int)).max()) + 1

    @property
    def held_out(self) -> HeldOut | None:
        """Held-out answers of a linear head of classes."""
        return self.linear.held_out

    def gain(self, found: Prediction, base: Prediction | None = None) -> Interval:
        """How much better a prediction is than the named head's, paired; above 0 is better."""
        gap = paired_difference(
            found, base or self.answer, metric=self.metric, level=self.level, seed=self.seed
        )
        if self.metric in LOWER_IS_BETTER:
            return negated(gap)
        return gap


def negated(gap: Interval) -> Interval:
    """The interval of minus a difference."""
    return gap._replace(value=-gap.value, low=-gap.high, high=-gap.low)


def clipped(rows: np.ndarray, bound: float | None = None) -> np.ndarray:
    """Rows whose log length is beyond the bound, made as long as it."""
    lengths = np.linalg.norm(rows, axis=1)
    if bound is None:
        known = lengths > 0
        bound = _bound(np.log(lengths[known])) if known.any() else 0.0
    longest = np.exp(bound)
    factors = np.where(lengths > longest, longest / np.where(lengths > 0, lengths, 1.0), 1.0)
    return rows * factors[:, None]


def standardised(rows: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; constant ones are 0."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    varied = spread > 1e-6 * np.abs(mean)
    return np.where(varied, rows - mean, 0.0) / np.where(varied, spread, 1.0)


def _bound(log_lengths: np.ndarray) -> float:
    middle = np.median(log_lengths)
    deviation = max(float(np.median(np.abs(log_lengths - middle))), LEAST_SPREAD)
    return float(middle + SPREAD * deviation)

"""Labelled rows as a probe by folds takes them: checked, sampled, shared out."""

from typing import Any, NamedTuple

import numpy as np

from kernlens.probes import copies
from kernlens.probes.blocks import check_rows
from kernlens.probes.folds import FOLDS, share_out
from kernlens.types import Labels

MAX_ROWS = 2_000_000
"""Most rows that logistic regression fits by default."""

MAX_NUMBERS = 2**28
"""Most numbers that rows and their probabilities may be by default, of four bytes each."""


class Given(NamedTuple):
    """Labelled rows, checked and shared out.

    Attributes:
      features: an array or a stream, ``[n_all, p]``.
      kept: whether a row is fitted, bool ``[n_all]``.
      codes: class of each row kept, renumbered to those that occur, ``[n]``.
      classes: code of each such class in the labels, ``[C]``.
      names: of all classes of the labels.
      groups: int32 ``[n]``, equal for copies.
      folds: int32 ``[n]``.
      total: labelled rows, those left out of a sample included.
    """

    features: Any
    kept: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray
    folds: np.ndarray
    total: int

    def lonely(self) -> np.ndarray:
        """Classes that no fold holds out."""
        return np.flatnonzero(self._held() == 0)

    def few(self) -> np.ndarray:
        """Classes of fewer rows than folds."""
        return np.flatnonzero((self._held() > 0) & (self._held() < FOLDS))

    def _held(self) -> np.ndarray:
        return np.bincount(self.codes[self.folds >= 0], minlength=len(self.classes))


def sorted_rows(
    features: Any, labels: Labels, *, max_rows: int | None, groups: np.ndarray | None, seed: int
) -> Given:
    """Rows with a label, a sample of them where there are too many, copies and folds.

    Raises:
      ValueError: as :func:`kernlens.probes.logistic`.
    """
    codes = np.asarray(labels.codes)
    features = check_rows(features, len(codes))
    if codes.size and (codes.min() < -1 or codes.max() >= len(labels.names)):
        raise ValueError(
            f"label codes must lie in -1..{len(labels.names) - 1}, one name a class; "
            f"got {codes.min()}..{codes.max()}"
        )
    kept = codes >= 0
    if max_rows is not None:
        width = int(features.shape[1]) + 1 + 4 * len(labels.names)
        kept = _sample(codes, min(max_rows, max(MAX_NUMBERS // width, 1)), seed)
    if groups is None:
        groups = copies.groups(features, np.where(kept, codes, -1))
    sampled = bool(np.any(kept != (codes >= 0)))
    kept = kept & (groups >= 0)
    classes, own = np.unique(codes[kept], return_inverse=True)
    if len(classes) < 2:
        found = [labels.names[c] for c in classes]
        raise ValueError(f"a probe needs two classes or more among the rows; got {found}")
    groups = np.unique(groups[kept], return_inverse=True)[1].astype(np.int32)
    folds = share_out(own, groups, seed=seed)
    if not np.any(folds >= 0):
        raise ValueError(
            f"too few rows to hold any out: no class has two distinct rows among {len(own)} "
            f"labelled rows of {len(classes)} classes"
        )
    total = int(np.count_nonzero(codes >= 0)) if sampled else len(own)
    return Given(features, kept, own, classes, labels.names, groups, folds, total)


def _sample(codes: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Which rows are fitted: all labelled ones, or of each class its share, few of none."""
    kept = codes >= 0
    n = int(np.count_nonzero(kept))
    if n <= size:
        return kept
    counts = np.bincount(codes[kept])
    quota = np.maximum(np.floor(counts * (size / n)), np.minimum(counts, FOLDS))
    rows = np.flatnonzero(kept)
    order = rows[np.lexsort((np.random.default_rng([seed, 1]).random(n), codes[rows]))]
    place = np.arange(n) - np.searchsorted(codes[order], codes[order])
    chosen = np.zeros(len(codes), bool)
    chosen[order[place < quota[codes[order]]]] = True
    return chosen

"""Rows of a target: which have a label, some of them, and rare classes left out."""

import numpy as np

from kernlens.types import Labels, MultiLabels, Target, Values


def held_out_of(counts: np.ndarray, fraction: float = 0.2) -> np.ndarray:
    """How many rows of each class a split holds out.

    Args:
      counts: rows of each class, ``[C]``.
      fraction: share to hold out, in ``(0, 1)``.

    Returns:
      ``round(m * fraction)`` of a class of ``m`` rows, but at least one and at most ``m - 1``; none
      of a class of one row; int64 ``[C]``.
    """
    counts = np.asarray(counts)
    wanted = np.maximum(np.rint(counts * fraction), 1)
    return np.minimum(wanted, np.maximum(counts - 1, 0)).astype(np.int64)


def drop_rare(labels: Labels, min_count: int) -> Labels:
    """Unlabels the rows of classes with fewer than ``min_count`` rows and renumbers the rest."""
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    kept = np.flatnonzero(counts >= min_count)
    table = np.full(len(labels.names) + 1, -1, np.int32)
    table[kept] = np.arange(len(kept), dtype=np.int32)
    return Labels(table[labels.codes], tuple(labels.names[i] for i in kept))


def labelled_rows(target: Target) -> np.ndarray:
    """Indices of the rows that have a label, or a number."""
    if isinstance(target, Labels):
        return np.flatnonzero(target.codes >= 0)
    if isinstance(target, MultiLabels):
        return np.flatnonzero(target.labelled)
    return np.flatnonzero(~np.isnan(target))


def num_rows(target: Target) -> int:
    """Number of rows, those without a label too."""
    if isinstance(target, Labels):
        return len(target.codes)
    return len(target.labelled) if isinstance(target, MultiLabels) else len(target)


def take(target: Target, rows: np.ndarray) -> Target:
    """The target of some rows.

    Args:
      target: labels or numbers, ``[n]``.
      rows: row numbers in any order, integers ``[m]``; ``-1`` gives a row without a label.

    Returns:
      A target of the same kind with ``m`` rows; classes keep their codes and names.

    Examples:
      >>> from kernlens.targets import labels
      >>> take(labels(["tea", "salt"]), np.array([1, -1, 1])).codes
      array([ 0, -1,  0], dtype=int32)
    """
    rows = np.asarray(rows)
    if isinstance(target, Labels):
        return target._replace(codes=np.append(target.codes, np.int32(-1))[rows])
    if isinstance(target, MultiLabels):
        none = np.zeros((1, len(target.names)), bool)
        return target._replace(
            membership=np.concatenate([target.membership, none])[rows],
            labelled=np.append(target.labelled, False)[rows],
        )
    return np.append(target, np.nan)[rows].view(Values)

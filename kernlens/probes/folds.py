"""Folds: rows shared out class by class, copies of a row kept together, and what a split tests."""

from collections.abc import Sequence

import numpy as np

FOLDS = 5
"""A fold's classifier learns from four fifths of the rows, as that of an 80/20 split does."""


def share_out(
    codes: np.ndarray, groups: np.ndarray, *, folds: int = FOLDS, seed: int | Sequence[int] = 0
) -> np.ndarray:
    """The fold that holds a row out, as equally many of each class as can be.

    Args:
      codes: class of each row, integers from 0, ``[n]``.
      groups: equal for rows that must share a fold, ``[n]``; such a group counts as of the class
        that most of its rows have.
      folds: how many.
      seed: random seed of the order.

    Returns:
      Folds, int32 ``[n]``, in ``0..folds-1``; ``-1`` for the rows of a class of one group, of
      which nothing could be learnt without them.
    """
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    of = class_of_groups(codes, inverse)
    order = np.lexsort((np.random.default_rng(seed).random(len(of)), -sizes, of))
    place = np.empty(len(of), np.int64)
    place[order] = np.arange(len(of))
    own = (place % folds).astype(np.int32)
    own[np.bincount(of)[of] == 1] = -1
    return own[inverse]


def class_of_groups(codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The class that most rows of a group have, of equally many the first.

    Args:
      codes: class of each row, integers from 0, ``[n]``.
      groups: group of each row, integers from 0, each with a row, ``[n]``.

    Returns:
      Classes, ``[G]``.
    """
    size = int(codes.max()) + 1
    cells, counts = np.unique(groups.astype(np.int64) * size + codes, return_counts=True)
    group, code = np.divmod(cells, size)
    order = np.lexsort((code, -counts, group))
    first = np.unique(group, return_index=True)[1]
    return code[order][first]


def in_order(groups: np.ndarray) -> np.ndarray:
    """Groups numbered from 0 as they are met, ``[n]``; of distinct rows, their places."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def halves(rows: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of some rows in their order, those of a group in one.

    Args:
      rows: places of rows, ``[m]``.
      groups: group of each row there is, ``[n]``.
    """
    met = in_order(groups[rows])
    early = met < (met.max(initial=-1) + 2) // 2
    return rows[early], rows[~early]


def held_rows(codes: np.ndarray, folds: np.ndarray, *, num_folds: int = FOLDS) -> list[np.ndarray]:
    """Rows that a split's test set has, one for each fold.

    A split holds out at least one row of every class that has two, but a class of fewer rows than
    folds is in some folds only: the others borrow its rows from them, in turn.

    Args:
      codes: class of each row, ``[n]``.
      folds: folds of :func:`share_out`, ``[n]``.
      num_folds: how many folds there are.

    Returns:
      Places of rows, integers, for each fold.
    """
    held = np.flatnonzero(folds >= 0)
    table = np.zeros((int(codes.max()) + 1, num_folds), np.int64)
    np.add.at(table, (codes[held], folds[held]), 1)
    found = [[np.flatnonzero(folds == k)] for k in range(num_folds)]
    for c in np.flatnonzero(np.any(table > 0, axis=1) & np.any(table == 0, axis=1)):
        rows = np.flatnonzero((codes == c) & (folds >= 0))
        has = np.flatnonzero(table[c])
        for k in np.flatnonzero(table[c] == 0):
            found[k].append(rows[folds[rows] == has[k % len(has)]])
    return [np.concatenate(parts) for parts in found]

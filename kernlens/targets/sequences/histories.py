"""Next-item examples: the latest items before a target, and the whole past that they come from."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

ENTRIES = 2**22
"""Items of the past that are laid out at once."""


class Past(NamedTuple):
    """All that each example's user did before its target: slices of one array of items.

    Attributes:
      items: items of all users, one user after another, each in order, integers ``[total]``.
      start: where the past of each example begins, int64 ``[n]``.
      stop: where it ends, int64 ``[n]``; the target is not in the slice.
    """

    items: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Example and item of every entry, in parts of whole examples.

        Yields:
          Numbers of examples, rising, and the items, int64 and integers ``[entries]``.
        """
        ends = np.cumsum(self.stop - self.start)
        first = 0
        while first < len(ends):
            before = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, before + ENTRIES, side="right")), first + 1)
            sizes = (self.stop - self.start)[first:last]
            rows = np.repeat(np.arange(first, last), sizes)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            yield rows, self.items[self.start[rows] + within]
            first = last

    def holds(self, item: np.ndarray) -> np.ndarray:
        """Whether an item of each example is in its past, bool ``[n]``."""
        found = np.zeros(len(self.start), bool)
        for rows, items in self.pairs():
            found[rows[items == item[rows]]] = True
        return found

    def mask(self, num_items: int) -> np.ndarray:
        """Which items are in the past of each example, bool ``[n, num_items]``."""
        found = np.zeros((len(self.start), num_items), bool)
        for rows, items in self.pairs():
            found[rows, items] = True
        return found

    def counts(self, num_items: int) -> Any:
        """How often each item is in the past of each example, SciPy CSR ``[n, num_items]``."""
        from scipy import sparse

        parts = list(self.pairs())
        rows, items = (np.concatenate([p[i] for p in parts] or [[]]).astype(int) for i in (0, 1))
        # Equal entries are summed.
        return sparse.csr_array(
            (np.ones(len(rows)), (rows, items)), shape=(len(self.start), num_items)
        )


class Histories(NamedTuple):
    """Next-item examples.

    Attributes:
      items: the items before the target, oldest first, int32 ``[n, length]``; the most recent
        stands in the last column, and ``-1`` fills what is free on the left.
      lengths: items in each row, int32 ``[n]``.
      target: the item that came next, int32 ``[n]``.
      user: whose example it is, int32 ``[n]``.
      past: all that the user did before the target, in this sequence and in those stored before it;
        None for histories made by hand.
      sequence: what of it is in this sequence: all of what ``items`` holds the latest of.
    """

    items: np.ndarray
    lengths: np.ndarray
    target: np.ndarray
    user: np.ndarray
    past: Past | None = None
    sequence: Past | None = None

    @property
    def mask(self) -> np.ndarray:
        """True where there is an item, bool ``[n, length]``."""
        return self.items >= 0


def take(histories: Histories, rows: np.ndarray | slice) -> Histories:
    """Some of the examples.

    Args:
      histories: any.
      rows: their numbers, a mask ``[n]`` or a slice.

    Returns:
      These examples, with their pasts.
    """
    items, lengths, target, user = (np.asarray(part)[rows] for part in histories[:4])
    past, sequence = (
        None if part is None else Past(part.items, part.start[rows], part.stop[rows])
        for part in (histories.past, histories.sequence)
    )
    return Histories(items, lengths, target, user, past, sequence)

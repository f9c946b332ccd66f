"""Widths to which histories are cut, so that little of a batch is padding."""

from collections.abc import Sequence

import numpy as np


def widths(lengths: np.ndarray, *, count: int = 4) -> tuple[int, ...]:
    """The ``count`` widths that leave the least padding when each row takes the next one up.

    Args:
      lengths: items of each row, integers ``[n]``, at least 1 each.
      count: most widths, at least 1.

    Returns:
      Widths, rising, the last one the greatest length; fewer than ``count`` where fewer do.

    Raises:
      ValueError: an argument out of range.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    if len(lengths) == 0:
        return ()
    if np.min(lengths) < 1:
        raise ValueError(f"lengths must be at least 1; got {np.min(lengths)}")
    sizes, rows = np.unique(lengths, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(rows)])
    # cells[i, j]: cells of the rows whose sizes are i..j, all as wide as the last of them.
    cells = (upto[None, 1:] - upto[:-1, None]) * sizes.astype(float)
    cells = np.where(np.arange(len(sizes))[:, None] <= np.arange(len(sizes)), cells, np.inf)
    best, cuts = cells[0], []
    for _ in range(min(count, len(sizes)) - 1):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + cells
        cuts.append(np.argmin(total, axis=0))
        best = np.min(total, axis=0)
    end = len(sizes) - 1
    chosen = [int(sizes[end])]
    for cut in reversed(cuts):
        end = int(cut[end]) - 1
        chosen.append(int(sizes[end]))
    return tuple(reversed(chosen))


def by_width(lengths: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Rows that fit each width and no narrower one.

    Args:
      lengths: items of each row, integers ``[n]``.
      widths: rising, the last at least the greatest length.

    Returns:
      For each width the indices of its rows, rising; cut ``items[rows, -width:]`` loses nothing.

    Raises:
      ValueError: widths that do not rise, or a row longer than the last.
    """
    edges = np.asarray(widths)
    if len(edges) == 0 or np.any(np.diff(edges, prepend=0) <= 0):
        raise ValueError(f"widths must rise from at least 1; got {tuple(widths)}")
    if np.max(lengths, initial=0) > edges[-1]:
        raise ValueError(
            f"the last width must hold the longest history, {np.max(lengths)}; got {edges[-1]}"
        )
    place = np.searchsorted(edges, lengths)
    return [np.flatnonzero(place == i) for i in range(len(edges))]

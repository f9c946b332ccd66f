"""Rows that are copies of each other: a held-out row must not be read off its own copy.

An item that is listed five times is in the training part of every split of its other four rows.
What is measured there is memory: k-NN with one neighbour is right wherever labels agree. So probes
leave out a row with all its copies, or hold them in one fold.
"""

from typing import Any

import numpy as np

from kernlens.probes.blocks import raw_blocks

BLOCK = 2**17
"""Values hashed at a time: two arrays of eight bytes a value stay in a cache."""

SAMPLED = 1024
"""Distinct rows on which it is judged whether equal rows are equal by chance."""


def groups(rows: Any, codes: np.ndarray) -> np.ndarray:
    r"""Numbers of the distinct rows: equal for copies of one row.

    Copies are equal in every column and in what is known of them. Two kinds of equal rows are not
    copies, and each counts as a row of its own. Items of different classes that an embedding cannot
    tell apart, such as all items with a vector of zeros. And rows of few values, such as one-hot
    columns, which are equal by chance: with :math:`s_j` the share of pairs of distinct rows that
    are equal in column :math:`j`, rows whose expected number of chance partners
    :math:`n \prod_j s_j` is 1 or more.

    Rows are hashed to 128 bits, so that two different rows among a million share a number with
    probability below 1e-26. ``0.0`` equals ``-0.0``.

    >>> rows = np.array([[1.5, 2.0, 3.0], [0.1, 5.0, 4.0], [1.5, 2.0, 3.0], [0.1, 5.0, 4.0]])
    >>> groups(rows, codes=np.array([0, 1, 0, 0]))
    array([0, 1, 0, 2], dtype=int32)

    Args:
      rows: real, ``[n, p]``, an array or a stream, which is read once, or twice if it holds copies.
      codes: class of each row, integers ``[n]``, or any numbers that are equal where the targets
        are; ``-1`` for rows that do not count.

    Returns:
      Numbers from 0 in order of first appearance, int32 ``[n]``; ``-1`` of rows that do not count
      or that a stream leaves out.
    """
    codes = np.asarray(codes)
    keys, seen = _keys(rows)
    numbers = _numbered(keys, (codes >= 0) & seen)
    n, distinct = int(np.count_nonzero(numbers >= 0)), int(numbers.max(initial=-1)) + 1
    if distinct == n:
        return numbers
    known = np.flatnonzero(numbers >= 0)
    own = numbers[known]
    least, most = np.full(distinct, np.iinfo(np.int64).max), np.full(distinct, -1)
    np.minimum.at(least, own, codes[known])
    np.maximum.at(most, own, codes[known])
    copied = least == most
    if np.any(copied[own] & (np.bincount(own)[own] > 1)) and _by_chance(rows, numbers, n):
        copied[:] = False
    # Rows that are no copies get numbers of their own, then all are numbered again.
    apart = np.where(copied[own], own, distinct + np.arange(n))
    numbers[known] = _in_order(apart)
    return numbers


def _keys(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each row, two columns of 64 bits, ``[n, 2]``, and whether a stream has the row."""
    n, p = (int(size) for size in rows.shape)
    multipliers = np.random.default_rng(0).integers(0, 2**63, (p, 2), np.uint64) * 2 + 1
    keys, seen = np.zeros((n, 2), np.uint64), np.zeros(n, bool)
    for values, numbers in raw_blocks(rows, _size(rows)):
        # Adding 0.0 gives -0.0 the bits of 0.0.
        bits = (values.astype(np.float64) + 0.0).view(np.uint64)
        # Few values have many digits; their bits are spread before they are added up.
        bits = bits ^ (bits >> np.uint64(32))
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(29)
        keys[numbers], seen[numbers] = bits @ multipliers, True
    return keys, seen


def _numbered(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Numbers of equal keys among the rows that count, in order of first appearance; else -1."""
    numbers = np.full(len(keys), -1, np.int32)
    order = np.flatnonzero(counts)
    if not len(order):
        return numbers
    order = order[np.lexsort((keys[order, 1], keys[order, 0]))]
    changed = np.any(keys[order[1:]] != keys[order[:-1]], axis=1)
    place = np.concatenate([[0], np.cumsum(changed)])
    numbers[order] = place
    numbers[counts] = _in_order(numbers[counts])
    return numbers


def _size(rows: Any) -> int:
    return max(1, BLOCK // max(int(rows.shape[1]), 1))


def _in_order(numbers: np.ndarray) -> np.ndarray:
    """The same groups, numbered from 0 in order of first appearance, int32 ``[n]``."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]


def _by_chance(rows: Any, numbers: np.ndarray, n: int) -> bool:
    """Whether rows of so few values are equal by chance."""
    _, first = np.unique(numbers, return_index=True)
    first = first[numbers[first] >= 0]
    chosen = np.random.default_rng(0).permutation(first)[:SAMPLED]
    if len(chosen) < 2:
        return True
    picked = np.zeros(len(numbers), bool)
    picked[chosen] = True
    parts = raw_blocks(rows, _size(rows))
    sample = np.concatenate([values[picked[at]] for values, at in parts if np.any(picked[at])])
    m = len(sample)
    ordered = np.sort(sample.astype(np.float64), axis=0)
    # One pair more than was seen: few distinct rows say little of a column.
    # Pairs of equal values: a run of r equal ones has r (r - 1) / 2, counted place by place.
    equal = np.zeros(sample.shape[1])
    run = np.zeros(sample.shape[1])
    for above, below in zip(ordered[1:], ordered[:-1], strict=True):
        run = np.where(above == below, run + 1, 0)
        equal += run
    return bool(n * np.prod((equal + 1) / (m * (m - 1) / 2 + 1)) >= 1.0)


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The finest groups that hold those of both together."""
    kept = a >= 0
    joined, other = a[kept].copy(), b[kept]
    while True:
        least = np.full(int(other.max(initial=-1)) + 1, np.iinfo(np.int32).max, np.int64)
        np.minimum.at(least, other, joined)
        moved = least[other]
        least = np.full(int(a.max(initial=-1)) + 1, np.iinfo(np.int32).max, np.int64)
        np.minimum.at(least, a[kept], moved)
        moved = least[a[kept]]
        if np.array_equal(moved, joined):
            break
        joined = moved
    found = np.full(len(a), -1, np.int32)
    found[kept] = np.unique(joined, return_inverse=True)[1]
    return found


def note(groups: np.ndarray) -> tuple[str, ...]:
    """What a person should know of the copies among rows; nothing where there are none.

    Args:
      groups: groups of :func:`groups`, ``[n]``.

    Returns:
      One sentence, or none.
    """
    known = groups[groups >= 0]
    copied = len(known) - np.count_nonzero(np.bincount(known))
    if not copied:
        return ()
    return (
        f"{copied:,} of {len(known):,} rows are copies of another row; a row is held out together "
        "with its copies",
    )

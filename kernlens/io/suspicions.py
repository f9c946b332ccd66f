"""What makes an answer too good: rows that occur several times, and dimensions that tell all."""

from collections.abc import Mapping

import numpy as np

from kernlens.io.join import Joined
from kernlens.types import Labels

SAMPLE = 4096
"""Rows that are looked at first."""

ALONE = 0.99
"""Share of rows whose neighbour along one dimension has their class, at which it tells all."""


def without_copies(joined: Joined) -> tuple[Joined, int]:
    """Leaves out rows that repeat another one's embeddings and label.

    A row is predicted from all others, so a copy of it would answer for it. Where rows of equal
    embeddings have several labels (rows of zeros, say), they stay: they answer for nobody.

    Args:
      joined: rows of all files.

    Returns:
      The first row of each group of copies; and how many rows were left out.
    """
    codes = joined.labels.codes
    hashes = np.zeros(len(codes), np.uint64)
    for name in sorted(joined.values):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + _hashes(joined.values[name])
    order = np.argsort(hashes, kind="stable")
    group = np.cumsum(np.concatenate([[0], np.diff(hashes[order]) != 0]))
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    if sizes.max() == 1:
        return joined, 0
    first = order[starts][group]
    same = np.ones(len(order), bool)
    for values in joined.values.values():
        repeated = np.flatnonzero(sizes[group] > 1)
        for part in np.array_split(repeated, len(repeated) // 65_536 + 1):
            same[part] &= np.all(values[order[part]] == values[first[part]], axis=1)
    same &= codes[order] == codes[first]
    # Of a group in which one row differs from the first, none is left out.
    pure = np.minimum.reduceat(same, starts)[group] & (codes[order] >= 0)
    copies = order[pure & (np.arange(len(order)) != starts[group])]
    if not copies.size:
        return joined, 0
    kept = np.ones(len(codes), bool)
    kept[copies] = False
    labels = joined.labels._replace(codes=codes[kept])
    values = {name: own[kept] for name, own in joined.values.items()}
    return joined._replace(values=values, labels=labels), len(copies)


def _hashes(values: np.ndarray) -> np.ndarray:
    """A number for the bytes of each row, uint64 ``[n]``."""
    rows = np.empty(len(values), np.uint64)
    width = values.shape[1] * values.dtype.itemsize
    factors = np.random.default_rng(0).integers(1, 2**63, -(-width // 4), np.uint64) * 2 + 1
    for start in range(0, len(values), 65_536):
        block = np.ascontiguousarray(values[start : start + 65_536])
        data = block.view(np.uint8).reshape(len(block), width)
        padded = np.zeros((len(block), 4 * len(factors)), np.uint8)
        padded[:, :width] = data
        words = padded.view("<u4").astype(np.uint64)
        # The upper half of a product depends on all lower bits, so that no two words cancel.
        words = words * factors
        words ^= words >> np.uint64(29)
        rows[start : start + len(block)] = (words * factors[::-1]).sum(axis=1, dtype=np.uint64)
    return rows


def telling(values: Mapping[str, np.ndarray], labels: Labels) -> dict[str, list[int]]:
    """Dimensions that alone give the label, by embedding.

    Along such a dimension each class lies by itself: a row's neighbour has its class. That is what
    a label among the dimensions looks like, an index sorted by class, or what was made of either.

    Args:
      values: rows by name, ``[n, d]`` each.
      labels: class of each row.

    Returns:
      Numbers of the dimensions, for the embeddings that have any.
    """
    known = np.flatnonzero(labels.codes >= 0)
    rng = np.random.default_rng(0)
    some = known if len(known) <= SAMPLE else np.sort(rng.choice(known, SAMPLE, replace=False))
    codes = labels.codes[some]
    shares = np.bincount(codes) / len(codes)
    classes = np.count_nonzero(shares)
    if len(some) < 5 * classes or len(some) < 50 or shares.max() > 0.95:
        return {}
    found = {}
    for name, rows in values.items():
        # Shuffled first: ties would stand in the order of the rows, which may be that of classes.
        shuffled = rng.permutation(len(some))
        own = rows[some[shuffled]].astype(np.float32)
        order = np.argsort(own, axis=0, kind="stable")
        changes = np.count_nonzero(np.diff(codes[shuffled][order], axis=0), axis=0)
        alone = np.flatnonzero(changes - (classes - 1) <= (1 - ALONE) * len(some))
        if alone.size:
            found[name] = alone.tolist()
    return found

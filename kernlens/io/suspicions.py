"""What makes an answer too good: dimensions that tell all."""

from collections.abc import Mapping

import numpy as np

from kernlens.types import Labels, Target

SAMPLE = 4096
"""Rows that are looked at first."""

ALONE = 0.99
"""Share of rows whose neighbour along one dimension has their class, at which it tells all."""


def telling(values: Mapping[str, np.ndarray], labels: Target) -> dict[str, list[int]]:
    """Dimensions that alone give the label, by embedding.

    Along such a dimension each class lies by itself: a row's neighbour has its class. That is what
    a label among the dimensions looks like, an index sorted by class, or what was made of either.

    Args:
      values: rows by name, ``[n, d]`` each.
      labels: class of each row; other targets have no such dimensions.

    Returns:
      Numbers of the dimensions, for the embeddings that have any.
    """
    if not isinstance(labels, Labels):
        return {}
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

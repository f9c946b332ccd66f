"""Next-item examples of baskets, and what may be known before them."""

from typing import NamedTuple

import numpy as np

from kernlens.datasets import sequences
from kernlens.types import Interactions


class Task(NamedTuple):
    """A next-item task.

    Attributes:
      known: the interactions without the held-out ones: all that pretraining may see.
      split: training examples, and a sample of the held-out ones.
    """

    known: Interactions
    split: sequences.Split


def last_items(
    interactions: Interactions, *, length: int, targets: int | None, most: int, seed: int
) -> Task:
    """Holds out the last item of each basket, shuffled first where its order was not observed.

    Args:
      interactions: baskets.
      length: most items of a history.
      targets: most training targets of a basket; None is all.
      most: held-out examples that are kept, drawn without replacement.
      seed: of the shuffle and the draw.
    """
    shuffled = sequences.shuffle_ties(interactions, seed=seed)
    split = sequences.leave_last_out(shuffled, length=length, targets=targets, seed=None)
    total = len(split.test.target)
    kept = np.sort(np.random.default_rng(seed).permutation(total)[:most])
    test = sequences.Histories(*(np.asarray(part)[kept] for part in split.test))
    return Task(without_last(shuffled), split._replace(test=test))


def without_last(interactions: Interactions, sessions: np.ndarray | None = None) -> Interactions:
    """All but the last item of each session, or of those that a mask names."""
    kept = np.ones(len(interactions.items), bool)
    lengths = np.diff(interactions.offsets)
    cut = (lengths > 0) & (True if sessions is None else sessions)
    kept[(interactions.offsets[1:] - 1)[cut]] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - cut)])
    times = None if interactions.times is None else interactions.times[kept]
    return interactions._replace(items=interactions.items[kept], times=times, offsets=offsets)

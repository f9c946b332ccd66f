"""Next-item examples of baskets, and what may be known before them."""

from typing import NamedTuple

import numpy as np

from kernlens import ranking, sequences
from kernlens.types import Interactions

RECURRING = 0.01
"""Share of targets met before from which items count as recurring."""


class Task(NamedTuple):
    """A next-item task.

    Attributes:
      known: the interactions without the held-out ones: all that pretraining may see.
      train: training examples.
      protocol: what the candidates are, a name in ``ranking.PROTOCOLS``.
      queries: a sample of the held-out examples under it.
    """

    known: Interactions
    train: sequences.Histories
    protocol: str
    queries: ranking.Queries


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
    protocol, queries = asked(sequences.take(split.test, kept))
    return Task(without_last(shuffled), split.train, protocol, queries)


def asked(test: sequences.Histories) -> tuple[str, ranking.Queries]:
    """The protocol by the data, and the examples under it.

    Where items recur, all stay candidates. Where they do not (ratings), what a user has ever met is
    left out, and the queries of the few targets met before with it.
    """
    assert test.past is not None
    recurring = np.mean(test.past.holds(test.target)) >= RECURRING if len(test.target) else True
    name = "all items" if recurring else "new items"
    return name, ranking.PROTOCOLS[name](test)


def without_last(interactions: Interactions, sessions: np.ndarray | None = None) -> Interactions:
    """All but the last item of each session, or of those that a mask names."""
    kept = np.ones(len(interactions.items), bool)
    lengths = np.diff(interactions.offsets)
    cut = (lengths > 0) & (True if sessions is None else sessions)
    kept[(interactions.offsets[1:] - 1)[cut]] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - cut)])
    times = None if interactions.times is None else interactions.times[kept]
    return interactions._replace(items=interactions.items[kept], times=times, offsets=offsets)

"""Next-item examples of baskets, and what may be known before them."""

from typing import NamedTuple

import numpy as np

from kernlens.metrics import ranking
from kernlens.targets import sequences
from kernlens.types import Interactions

RECURRING = 0.01
"""Share of targets met before in a sequence from which items count as recurring in it."""


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

    Where items recur inside a sequence, all stay candidates. Where they do not (baskets without
    repeats, ratings), all that is in the sequence is left out, and the queries of the few targets
    that were in it before with it.
    """
    assert test.sequence is not None
    recurring = np.mean(test.sequence.holds(test.target)) if len(test.target) else 1.0
    name = "all items" if recurring >= RECURRING else "new to the sequence"
    return name, ranking.PROTOCOLS[name](test)


def without_last(interactions: Interactions, sessions: np.ndarray | None = None) -> Interactions:
    """All but the last item of each session, or of those that a mask names."""
    kept = np.ones(len(interactions.items), bool)
    cut = (np.diff(interactions.offsets) > 0) & (True if sessions is None else sessions)
    kept[(interactions.offsets[1:] - 1)[cut]] = False
    return sequences.keep(interactions, kept)

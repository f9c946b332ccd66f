"""Next-item examples of baskets, and what may be known before them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import datasets, sequences
from kernlens.types import Interactions

ORDERED = ("amazon", "movielens", "recbole")
"""Data sets whose order inside a history is a choice."""


@dataclass(frozen=True)
class Source:
    """Where the interactions come from."""

    data: str = "complete_journey"
    """A name that kernlens.datasets.load knows."""
    root: Path | None = None
    """The folder with the data set's files; Complete Journey is found where it is installed."""
    order: str = "time"
    """Inside a history: by time, or random where the data set offers it, to tell the two apart."""
    min_count: int | None = None
    """Items with fewer interactions are left out; by default as the data set's loader has it."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead; 0 for the real."""


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
    """Holds out the last item of each basket, whose order is a seeded shuffle.

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


def interactions(source: Source) -> Interactions:
    """The interactions of a source: baskets, or histories of users."""
    if source.synthetic:
        return datasets.load(
            "synthetic", num_items=200, num_users=150, num_interactions=source.synthetic,
            num_classes=4,
        )  # fmt: skip
    options: dict[str, Any] = {} if source.order == "time" else {"order": source.order}
    if options and source.data not in ORDERED:
        raise ValueError(
            f"{source.data} has no order to choose: its ties are shuffled; those that have are "
            f"{', '.join(ORDERED)}; got --order {source.order}"
        )
    if source.min_count is not None:
        options["min_count"] = source.min_count
    return datasets.load(source.data, source.root, **options)

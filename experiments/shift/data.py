"""Complete Journey before and after a week, in some stores and in others."""

from typing import NamedTuple

import numpy as np

from kernlens import datasets, sequences
from kernlens.types import Interactions, Labels


class Parts(NamedTuple):
    """Baskets by when and where they were bought; all share one numbering of items.

    Attributes:
      before: baskets up to the cut, all stores.
      after: baskets after it, all stores.
      known: those before in one half of the stores.
      later: those after in the same half.
      elsewhere: those before in the other half.
    """

    before: Interactions
    after: Interactions
    known: Interactions
    later: Interactions
    elsewhere: Interactions


def load(synthetic: int) -> Interactions:
    """Complete Journey, or so many synthetic interactions with weeks, stores and brands."""
    if not synthetic:
        return datasets.load("complete_journey")
    data = datasets.load(
        "synthetic", num_items=300, num_users=150, num_interactions=synthetic, num_classes=4
    )
    rng = np.random.default_rng(0)
    sessions, codes = data.num_sessions, data.labels["class"].codes
    flipped = rng.random(data.num_items) < 0.2
    brand = Labels(((codes % 2) ^ flipped).astype(np.int32), ("National", "Private"))
    return data._replace(
        session_attributes={
            "week": rng.integers(1, 54, sessions),
            "store": rng.integers(0, 20, sessions),
        },
        labels={"department": data.labels["class"], "brand": brand},
    )


def parts(interactions: Interactions, *, cut: int, seed: int) -> Parts:
    """Cuts baskets by week and store.

    Args:
      interactions: with ``week`` and ``store`` of each session.
      cut: the last week that is known.
      seed: of the halves of stores.
    """
    week, store = (interactions.session_attributes[key] for key in ("week", "store"))
    names = np.random.default_rng(seed).permutation(np.unique(store))
    here = np.isin(store, names[: len(names) // 2])
    before = week <= cut
    return Parts(
        *(
            sequences.sessions(interactions, kept)
            for kept in (before, ~before, before & here, ~before & here, before & ~here)
        )
    )


def shares(interactions: Interactions, items: np.ndarray) -> np.ndarray:
    """Share of each item in the purchases of the items that a mask keeps, ``[num_items]``."""
    counts = np.where(items, interactions.counts, 0).astype(np.float64)
    if counts.sum() == 0:
        raise ValueError("none of these items was bought here")
    return counts / counts.sum()

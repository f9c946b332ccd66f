"""Evaluation protocols: the queries, and the candidate items of each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernlens.targets.sequences import Histories, Past, take


class Queries(NamedTuple):
    """Examples to be ranked, made by a protocol, a function in ``PROTOCOLS``.

    Attributes:
      histories: the examples that are ranked.
      left_out: pasts whose items are no candidates, or None where all items are.
      repeated: whether the user had met the target before, bool ``[n]``.
      asked: which of the given examples these are, bool ``[given]``; the targets of the others were
        left out.
    """

    histories: Histories
    left_out: Past | None
    repeated: np.ndarray
    asked: np.ndarray

    @property
    def dropped(self) -> int:
        """Examples that are not asked."""
        return int(np.sum(~self.asked))


def all_items(test: Histories) -> Queries:
    """The protocol where items recur, as in baskets: every item is a candidate for every query.

    Args:
      test: examples with their pasts, such as ``sequences.leave_last_out(...).test``.

    Returns:
      All examples, with those whose target the user had met before marked.

    Raises:
      ValueError: examples without pasts.
    """
    repeated = _past(test).holds(test.target)
    return Queries(test, None, repeated, np.ones(len(repeated), bool))


def new_to_sequence(test: Histories) -> Queries:
    """The protocol of completion: no item that is already in the sequence is a candidate.

    For sequences that never hold an item twice: what is in a basket is not offered again, what the
    user bought in another may be. A target that was in the sequence before cannot be found so, and
    its query is not asked, as under :func:`new_items`.

    Args:
      test: examples with their sequences, such as ``sequences.leave_last_out(...).test``.

    Returns:
      The examples whose target is new to the sequence; ``dropped`` counts the others.

    Raises:
      ValueError: examples without pasts or sequences.
    """
    repeated = _past(test).holds(test.target)
    if test.sequence is None:
        raise ValueError("these histories do not tell their whole sequences (sequence=None)")
    asked = ~test.sequence.holds(test.target)
    kept = take(test, asked)
    return Queries(kept, kept.sequence, repeated[asked], asked)


def new_items(test: Histories) -> Queries:
    """The protocol of discovery: no item that the user has ever met is a candidate.

    A target that was met before cannot be found among new items, so its query is not asked, and
    counted. Ranking it among the new items instead would leak the answer: it would be the only item
    of the past that is left.

    Args:
      test: examples with their pasts, such as ``sequences.leave_last_out(...).test``.

    Returns:
      The examples whose target is new; ``dropped`` counts the others.

    Raises:
      ValueError: examples without pasts.
    """
    asked = ~_past(test).holds(test.target)
    kept = take(test, asked)
    return Queries(kept, kept.past, np.zeros(len(kept.target), bool), asked)


PROTOCOLS: dict[str, Callable[[Histories], Queries]] = {
    "all items": all_items,
    "new to the sequence": new_to_sequence,
    "new to the user": new_items,
}
"""Protocols by what the candidates are."""


def _past(test: Histories) -> Past:
    if test.past is None:
        raise ValueError(
            "a protocol needs all that each user did before its target, and these histories have "
            "only their latest items (past=None); sequences.leave_last_out and "
            "sequences.split_by_time give both"
        )
    return test.past

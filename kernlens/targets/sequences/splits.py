"""Interactions to next-item examples, split into training and test."""

from typing import NamedTuple

import numpy as np

from kernlens.targets.sequences.histories import Histories, Past
from kernlens.targets.sequences.order import check, keep, owners, shuffle_ties, times_of
from kernlens.types import Interactions


class Split(NamedTuple):
    """Examples to learn from and to be judged by.

    Attributes:
      train: training examples, sequence after sequence, in order.
      test: test examples, at most one a sequence.
      known: the interactions that may be learnt from: without those held out. An embedding that is
        to be judged by ``test`` is pretrained on these, and baselines count them.
      notes: what was counted: ``empty_sequences`` and ``sequences_of_one_item``, which give no
        example; ``test_targets_unseen_in_training``, items that no training example has as target
        or in its history; ``test_targets_in_history``, items met again among the latest ``length``;
        ``test_targets_in_past``, items that the user had met before at all.
    """

    train: Histories
    test: Histories
    known: Interactions
    notes: dict[str, int]


def leave_last_out(
    interactions: Interactions,
    *,
    length: int = 20,
    per_user: bool = False,
    targets: int | None = None,
    seed: int | None = 0,
) -> Split:
    """Holds out the last item of each sequence; the items before it are the test history.

    Training knows nothing of a held-out item: its targets are the second to the last but one item
    of each sequence, each with what came before. So a sequence of two items has a test example
    alone, one of a single item nothing to predict from: it is left out and counted. An item met
    twice stays twice, in the history and as target; where that is unwanted (ratings), drop repeats
    before.

    Args:
      interactions: the sequences, taken in the order they are stored in.
      length: most items of a history, the latest ones, at least 1.
      per_user: a sequence is all that a user did; otherwise a session.
      targets: most training targets of a sequence, the latest ones; None is all, 1 the published
        code's.
      seed: random seed of `shuffle_ties`; None keeps the stored order.

    Returns:
      The examples.

    Raises:
      ValueError: an argument or an item id out of range, or no sequence of two items.

    References:
      Xu and Yang (2023), the protocol of the sequential tasks.
    """
    _check_choices(length, targets)
    check(interactions)
    if seed is not None:
        interactions = shuffle_ties(interactions, seed=seed)
    starts = _starts(interactions, per_user)
    last = starts[1:] - 1
    test = last[last > starts[:-1]]
    owner = owners(starts)
    position = np.arange(len(owner))
    earliest = starts[:-1] + 1
    if targets is not None:
        earliest = np.maximum(earliest, last - targets)
    train = position[(position >= earliest[owner]) & (position < last[owner])]
    known = np.ones(len(owner), bool)
    known[test] = False
    return _split(interactions, starts, train, test, known, length)


def split_by_time(
    interactions: Interactions,
    time: int,
    *,
    length: int = 20,
    per_user: bool = False,
    targets: int | None = None,
    seed: int | None = 0,
) -> Split:
    """Learns from what was before a moment and is judged by the sequences that ended since.

    Training targets, and so all items of their histories, are earlier than ``time``. A test target
    is the last item of a sequence that ended at ``time`` or later; its history is all that stood
    before it in the sequence, which may reach across ``time``.

    Args:
      interactions: sequences whose times never fall.
      time: seconds since 1970.
      length: most items of a history, the latest ones, at least 1.
      per_user: a sequence is all that a user did; otherwise a session.
      targets: most training targets of a sequence, the latest ones before ``time``; None is all.
      seed: random seed of `shuffle_ties`; None keeps the stored order.

    Returns:
      The examples.

    Raises:
      ValueError: an argument or an item id out of range, no times, times that fall, or no sequence
        of two items.
    """
    _check_choices(length, targets)
    check(interactions)
    times = times_of(interactions)
    starts = _starts(interactions, per_user)
    owner = owners(starts)
    falls = (times[1:] < times[:-1]) & (owner[1:] == owner[:-1])
    if falls.any():
        row = int(np.argmax(falls)) + 1
        raise ValueError(
            f"times must not fall inside a sequence; got {times[row]} after {times[row - 1]} at "
            f"interaction {row}; sort_by_time puts them in order"
        )
    if seed is not None:
        interactions = shuffle_ties(interactions, seed=seed)
    last = starts[1:] - 1
    test = last[last > starts[:-1]]
    test = test[times[test] >= time]
    position = np.arange(len(owner))
    earliest = starts[:-1] + 1
    if targets is not None:
        before = np.concatenate([[0], np.cumsum(times < time)])
        earliest = np.maximum(earliest, starts[:-1] + np.diff(before[starts]) - targets)
    train = position[(position >= earliest[owner]) & (times < time)]
    return _split(interactions, starts, train, test, times < time, length)


def _check_choices(length: int, targets: int | None) -> None:
    if length < 1:
        raise ValueError(f"length must be at least 1; got {length}")
    if targets is not None and targets < 1:
        raise ValueError(f"targets must be None or at least 1; got {targets}")


def _starts(interactions: Interactions, per_user: bool) -> np.ndarray:
    """Where each sequence starts, and where the last ends."""
    if not per_user:
        return interactions.offsets
    first = np.flatnonzero(np.diff(interactions.users, prepend=-1))
    return np.append(interactions.offsets[first], interactions.offsets[-1])


def _split(
    interactions: Interactions,
    starts: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    known: np.ndarray,
    length: int,
) -> Split:
    sizes = np.diff(starts)
    if not np.any(sizes > 1):
        raise ValueError(
            f"no sequence has two items, a history and a target: {len(sizes)} sequences, "
            f"{len(interactions.items)} interactions"
        )
    owner = owners(starts)
    session = owners(interactions.offsets)
    items, users = interactions.items, interactions.users
    everything = _starts(interactions, per_user=True)
    first = everything[:-1][owners(everything)]

    def examples(targets: np.ndarray) -> Histories:
        start = starts[:-1][owner[targets]]
        source = targets[:, None] + np.arange(-length, 0)
        found = np.where(source >= start[:, None], items[np.maximum(source, 0)], -1)
        return Histories(
            items=found.astype(np.int32),
            lengths=np.minimum(targets - start, length).astype(np.int32),
            target=items[targets].astype(np.int32),
            user=users[session[targets]].astype(np.int32),
            past=Past(items, first[targets], targets),
            sequence=Past(items, start, targets),
        )

    trained, tested = examples(train), examples(test)
    assert tested.past is not None
    seen = np.zeros(interactions.num_items + 1, bool)
    seen[trained.target] = True
    seen[trained.items] = True  # padding marks the spare last place
    notes = {
        "empty_sequences": np.sum(sizes == 0),
        "sequences_of_one_item": np.sum(sizes == 1),
        "test_targets_unseen_in_training": np.sum(~seen[tested.target]),
        "test_targets_in_history": np.sum(np.any(tested.items == tested.target[:, None], axis=1)),
        "test_targets_in_past": np.sum(tested.past.holds(tested.target)),
    }
    counted = {name: int(value) for name, value in notes.items()}
    return Split(trained, tested, keep(interactions, known), counted)

"""Sequences: Interactions to next-item examples, split into training and test.

A sequence is a session, or all sessions of a user laid end to end. An example is one of its items,
the target, and the items before it. All is NumPy on the host, with no loop over sequences.
"""

from typing import NamedTuple

import numpy as np

from kernlens.types import Interactions


class Histories(NamedTuple):
    """Next-item examples.

    Attributes:
      items: the items before the target, oldest first, int32 ``[n, length]``; the most recent
        stands in the last column, and ``-1`` fills what is free on the left.
      lengths: items in each row, int32 ``[n]``.
      target: the item that came next, int32 ``[n]``.
      user: whose example it is, int32 ``[n]``.
    """

    items: np.ndarray
    lengths: np.ndarray
    target: np.ndarray
    user: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """True where there is an item, bool ``[n, length]``."""
        return self.items >= 0


class Split(NamedTuple):
    """Examples to learn from and to be judged by.

    Attributes:
      train: training examples, sequence after sequence, in order.
      test: test examples, at most one a sequence.
      notes: what was counted: ``empty_sequences`` and ``sequences_of_one_item``, which give no
        example; ``test_targets_unseen_in_training``, items that no training example has as target
        or in its history; ``test_targets_in_history``, items met again.
    """

    train: Histories
    test: Histories
    notes: dict[str, int]


def check(interactions: Interactions) -> None:
    """Refuses interactions whose parts do not fit each other, as they may when made by hand.

    Args:
      interactions: any.

    Raises:
      ValueError: item ids that are no integers in range; sessions that do not part the items, or
        are not one for each user given; users that fall or are out of range; or times that are not
        one finite number an interaction. Names the row.
    """
    items, offsets, total = interactions.items, interactions.offsets, len(interactions.items)
    _check_ids("item ids", "interaction", items, interactions.num_items)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != total or np.any(np.diff(offsets) < 0):
        raise ValueError(
            f"offsets must rise from 0 to {total}, the number of interactions; got "
            f"{len(offsets)} from {offsets[:1]} to {offsets[-1:]}"
        )
    users, times = interactions.users, interactions.times
    if len(users) != len(offsets) - 1:
        raise ValueError(
            f"users must have one entry a session, {len(offsets) - 1}; got {len(users)}"
        )
    _check_ids("users", "session", users, interactions.num_users)
    falls = np.diff(users) < 0
    if falls.any():
        row = int(np.argmax(falls)) + 1
        raise ValueError(
            f"users must not fall, for each one's sessions stand together; got {users[row]} after "
            f"{users[row - 1]} at session {row}"
        )
    if times is None:
        return
    if len(times) != total:
        raise ValueError(f"times must have one entry an interaction, {total}; got {len(times)}")
    missing = ~np.isfinite(times)
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(f"times must be finite; got {times[row]} at interaction {row}")


def _check_ids(name: str, of: str, ids: np.ndarray, count: int) -> None:
    """Refuses ids that are no integers in ``0..count-1``, naming the row."""
    if len(ids) and ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers; got dtype {ids.dtype}, {ids[0]} at {of} 0")
    outside = (ids < 0) | (ids >= count)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"{name} must be in 0..{count - 1}; got {ids[row]} at {of} {row}")


def sessions(interactions: Interactions, kept: np.ndarray) -> Interactions:
    """The interactions of some sessions; items, users and labels keep their ids.

    Args:
      interactions: any.
      kept: which sessions, a mask ``[num_sessions]`` or their places, each at most once; they come
        in the order in which they are stored.

    Returns:
      Interactions of these sessions alone.

    Raises:
      ValueError: a mask of another length, or places out of range or repeated.
    """
    kept, total = np.asarray(kept), interactions.num_sessions
    if kept.dtype == bool:
        if kept.shape != (total,):
            raise ValueError(f"kept must have one entry a session, {total}; got {kept.shape}")
        mask = kept
    else:
        kept = kept.astype(np.int64)
        if kept.ndim != 1 or np.any((kept < 0) | (kept >= total)):
            raise ValueError(f"kept must name sessions in 0..{total - 1}; got {kept}")
        if len(np.unique(kept)) < len(kept):
            raise ValueError("kept must name each session at most once")
        mask = np.zeros(total, bool)
        mask[kept] = True
    lengths = np.diff(interactions.offsets)
    rows = np.repeat(mask, lengths)
    return interactions._replace(
        items=interactions.items[rows],
        offsets=np.concatenate([[0], np.cumsum(lengths[mask])]).astype(interactions.offsets.dtype),
        users=interactions.users[mask],
        times=None if interactions.times is None else interactions.times[rows],
        session_attributes={k: v[mask] for k, v in interactions.session_attributes.items()},
    )


def shuffle_ties(interactions: Interactions, *, seed: int) -> Interactions:
    """Puts interactions of one session that stand together at one time in random order.

    Their order was never observed, and the stored one may leak: baskets sorted by product number
    teach the catalogue's numbering. The library's loaders shuffle already; this gives a run an
    order of its own, and serves interactions that come from elsewhere.

    Args:
      interactions: any; without times no tie is known, and where the source observed the order
        (``ordered``) a tie tells nothing: either is handed back as it is.
      seed: of the shuffle, at least 0.

    Returns:
      The same interactions, ties reordered.
    """
    times = interactions.times
    if interactions.ordered or times is None or len(times) == 0:
        return interactions
    session = _owners(interactions.offsets)
    run = np.cumsum((np.diff(times, prepend=times[0]) != 0) | (np.diff(session, prepend=0) != 0))
    order = np.lexsort((np.random.default_rng(seed).random(len(run)), run))
    return interactions._replace(items=interactions.items[order])


def sort_by_time(interactions: Interactions) -> Interactions:
    """Puts the sessions of each user, and the interactions of each session, in the order of time.

    Args:
      interactions: any with times; ties keep their order.

    Returns:
      The same interactions in the order of time, sessions by the time of their first one.

    Raises:
      ValueError: there are no times.
    """
    times = _times(interactions)
    session = _owners(interactions.offsets)
    lengths = np.diff(interactions.offsets)
    start = np.full(len(lengths), np.iinfo(np.int64).max)
    np.minimum.at(start, session, times)
    by_start = np.lexsort((start, interactions.users))
    rank = np.empty(len(lengths), np.int64)
    rank[by_start] = np.arange(len(lengths))
    order = np.lexsort((times, rank[session]))
    return interactions._replace(
        items=interactions.items[order],
        times=times[order],
        offsets=np.concatenate([[0], np.cumsum(lengths[by_start])]),
        users=interactions.users[by_start],
        session_attributes={
            name: values[by_start] for name, values in interactions.session_attributes.items()
        },
    )


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
      seed: of `shuffle_ties`; None keeps the stored order.

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
    owner = _owners(starts)
    position = np.arange(len(owner))
    earliest = starts[:-1] + 1
    if targets is not None:
        earliest = np.maximum(earliest, last - targets)
    train = position[(position >= earliest[owner]) & (position < last[owner])]
    return _split(interactions, starts, owner, train, test, length)


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
      seed: of `shuffle_ties`; None keeps the stored order.

    Returns:
      The examples.

    Raises:
      ValueError: an argument or an item id out of range, no times, times that fall, or no sequence
        of two items.
    """
    _check_choices(length, targets)
    check(interactions)
    times = _times(interactions)
    starts = _starts(interactions, per_user)
    owner = _owners(starts)
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
    return _split(interactions, starts, owner, train, test, length)


def _check_choices(length: int, targets: int | None) -> None:
    if length < 1:
        raise ValueError(f"length must be at least 1; got {length}")
    if targets is not None and targets < 1:
        raise ValueError(f"targets must be None or at least 1; got {targets}")


def _times(interactions: Interactions) -> np.ndarray:
    if interactions.times is None:
        raise ValueError("interactions must have times; got None")
    return interactions.times


def _owners(starts: np.ndarray) -> np.ndarray:
    """Place of the sequence that each interaction belongs to."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _starts(interactions: Interactions, per_user: bool) -> np.ndarray:
    """Where each sequence starts, and where the last ends."""
    if not per_user:
        return interactions.offsets
    first = np.flatnonzero(np.diff(interactions.users, prepend=-1))
    return np.append(interactions.offsets[first], interactions.offsets[-1])


def _split(
    interactions: Interactions,
    starts: np.ndarray,
    owner: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    length: int,
) -> Split:
    sizes = np.diff(starts)
    if not np.any(sizes > 1):
        raise ValueError(
            f"no sequence has two items, a history and a target: {len(sizes)} sequences, "
            f"{len(owner)} interactions"
        )
    session = _owners(interactions.offsets)
    items, users = interactions.items, interactions.users

    def examples(targets: np.ndarray) -> Histories:
        start = starts[:-1][owner[targets]]
        source = targets[:, None] + np.arange(-length, 0)
        found = np.where(source >= start[:, None], items[np.maximum(source, 0)], -1)
        return Histories(
            items=found.astype(np.int32),
            lengths=np.minimum(targets - start, length).astype(np.int32),
            target=items[targets].astype(np.int32),
            user=users[session[targets]].astype(np.int32),
        )

    trained, tested = examples(train), examples(test)
    seen = np.zeros(interactions.num_items + 1, bool)
    seen[trained.target] = True
    seen[trained.items] = True  # padding marks the spare last place
    notes = {
        "empty_sequences": np.sum(sizes == 0),
        "sequences_of_one_item": np.sum(sizes == 1),
        "test_targets_unseen_in_training": np.sum(~seen[tested.target]),
        "test_targets_in_history": np.sum(np.any(tested.items == tested.target[:, None], axis=1)),
    }
    return Split(trained, tested, {name: int(value) for name, value in notes.items()})

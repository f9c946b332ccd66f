"""Order and choice of sessions: checks, ties shuffled, time, some sessions alone."""

import numpy as np

from kernlens.types import Interactions


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


def keep(interactions: Interactions, kept: np.ndarray) -> Interactions:
    """Some of the interactions, in the sessions they are in, of which some may be left empty.

    Args:
      interactions: any.
      kept: which, a mask ``[num_interactions]``.

    Returns:
      These interactions; items, users and sessions keep their ids.
    """
    before = np.concatenate([[0], np.cumsum(kept)])
    times = None if interactions.times is None else interactions.times[kept]
    return interactions._replace(
        items=interactions.items[kept], times=times, offsets=before[interactions.offsets]
    )


def shuffle_ties(interactions: Interactions, *, seed: int) -> Interactions:
    """Puts interactions of one session that stand together at one time in random order.

    Their order was never observed, and the stored one may leak: baskets sorted by product number
    teach the catalogue's numbering. The library's loaders shuffle already; this gives a run an
    order of its own, and serves interactions that come from elsewhere.

    Args:
      interactions: any; without times no tie is known, and where the source observed the order
        (``ordered``) a tie tells nothing: either is handed back as it is.
      seed: random seed of the shuffle, at least 0.

    Returns:
      The same interactions, ties reordered.
    """
    times = interactions.times
    if interactions.ordered or times is None or len(times) == 0:
        return interactions
    session = owners(interactions.offsets)
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

    Examples:
      >>> from kernlens import datasets
      >>> data = datasets.load("synthetic", num_items=60, num_interactions=600)
      >>> turned = data._replace(items=data.items[::-1], times=data.times[::-1])
      >>> bool(np.all(np.diff(sort_by_time(turned).times[:10]) >= 0))
      True
    """
    times = times_of(interactions)
    session = owners(interactions.offsets)
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


def times_of(interactions: Interactions) -> np.ndarray:
    """The times; ValueError where there are none."""
    if interactions.times is None:
        raise ValueError("interactions must have times; got None")
    return interactions.times


def owners(starts: np.ndarray) -> np.ndarray:
    """Place of the sequence that each interaction belongs to."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))

"""From flat columns (user, session, time, item) to `Interactions`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens import targets
from kernlens.types import Interactions, Labels

ORDERS = ("time", "position", "random")
TIES = ("shuffle", "stored")


class Coded(NamedTuple):
    """A column as codes into its distinct values.

    Attributes:
      codes: place of each row's value in ``keys``, integers ``[n]``.
      keys: the distinct values, rising, ``[num_keys]``.
    """

    codes: np.ndarray
    keys: np.ndarray


def code(values: Any) -> Coded:
    """Codes of a column.

    Args:
      values: NumPy array or Arrow column of integers or strings, ``[n]``, none missing; a `Coded`
        is handed back as it is.

    Returns:
      Codes and sorted distinct values.
    """
    if isinstance(values, Coded):
        return values
    if hasattr(values, "dictionary_encode"):  # an Arrow column: hashing beats sorting its strings
        if "string" not in str(values.type):
            return code(values.to_numpy())
        encoded = values.combine_chunks().dictionary_encode()
        keys, codes = np.array(encoded.dictionary.to_pylist(), str), encoded.indices.to_numpy()
        order = np.argsort(keys, kind="stable")
        place = np.empty(len(keys), np.int32)
        place[order] = np.arange(len(keys), dtype=np.int32)
        return Coded(place[codes], keys[order])
    values = np.asarray(values)
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if high - low <= 2 * values.size + 100_000:  # close together: count instead of sorting
            offset = np.subtract(values, low, dtype=np.int64)
            present = np.zeros(high - low + 1, bool)
            present[offset] = True
            place = (np.cumsum(present) - 1).astype(np.int32)
            return Coded(place[offset], np.flatnonzero(present) + low)
    keys, codes = np.unique(values, return_inverse=True)
    return Coded(codes.astype(np.int32), keys)


def check_options(source: str, *, min_count: int, seed: int) -> None:
    """Refuses a minimum count below 1 and a negative seed; bools and floats are no counts."""
    for name, value, low in (("min_count", min_count, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
            raise ValueError(f"{source}: {name} must be an integer >= {low}; got {value!r}")


def check_choice(source: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Refuses a value that is not among the choices."""
    if value not in choices:
        raise ValueError(f"{source}: {name} must be one of {', '.join(choices)}; got {value!r}")


def assemble(
    source: str,
    *,
    users: Any,
    items: Any,
    sessions: Any = None,
    times: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    order: str = "time",
    ties: str = "shuffle",
    min_count: int = 1,
    seed: int = 0,
    notes: Mapping[str, int] | None = None,
) -> tuple[Interactions, np.ndarray]:
    """Interactions from one row an event.

    Items that occur fewer than ``min_count`` times are dropped, then sessions and users that have
    none left. Ids go by falling frequency, ties by rising key; users by rising key. A user's
    sessions stand by the time of their first event, ties by rising session.

    Args:
      source: name of the source, for errors.
      users: user of each row, ``[n]`` (array, Arrow column or `Coded`).
      items: item key of each row, ``[n]``.
      sessions: session of each row, ``[n]``; each belongs to one user. Without it a user's whole
        history is one session.
      times: seconds since 1970 of each row, int64 ``[n]``.
      positions: place of each row in its session, non-negative integers ``[n]``.
      order: inside a session by ``"time"`` or ``"position"``, or ``"random"`` where the order was
        never observed.
      ties: rows of one session with one time (or position): ``"shuffle"`` or as ``"stored"``, for
        an order that was observed.
      min_count: least number of rows of an item that is kept, at least 1.
      seed: random seed of the shuffles, at least 0.
      notes: what the loader counted so far.

    Returns:
      Interactions without labels, text and attributes; and the row each interaction came from,
      int64 ``[num_interactions]``.

    Raises:
      ValueError: an unknown choice, no rows left, or a session that two users share.
    """
    check_options(source, min_count=min_count, seed=seed)
    check_choice(source, "order", order, ORDERS)
    check_choice(source, "ties", ties, TIES)
    item, item_keys = code(items)
    user, user_keys = code(users)
    session, session_keys = (user, user_keys) if sessions is None else code(sessions)
    if len(item) == 0:
        raise ValueError(f"{source}: no interactions left to load; notes: {dict(notes or {})}")
    owner = np.empty(len(session_keys), user.dtype)
    owner[session] = user
    shared = owner[session] != user
    if shared.any():
        row = int(np.argmax(shared))
        raise ValueError(
            f"{source}: session {session_keys[session[row]]} belongs to users "
            f"{user_keys[user[row]]} and {user_keys[owner[session[row]]]}; expected one user"
        )

    counts = np.bincount(item, minlength=len(item_keys))
    by_count = np.argsort(-counts, kind="stable")
    by_count = by_count[: int(np.sum(counts >= min_count))]
    if len(by_count) == 0:
        raise ValueError(
            f"{source}: nothing left: none of {np.sum(counts > 0)} items occurs "
            f"min_count={min_count} times; the most frequent occurs {counts.max()} times"
        )
    new_id = np.full(len(item_keys), -1, np.int32)
    new_id[by_count] = np.arange(len(by_count), dtype=np.int32)
    rows = np.flatnonzero(new_id[item] >= 0)
    if ties == "shuffle" or order == "random":
        np.random.default_rng(seed).shuffle(rows)

    rank, present = _rank_sessions(session[rows], owner, None if times is None else times[rows])
    inner = {"time": times, "position": positions, "random": None}[order]
    if inner is None and order != "random":
        raise ValueError(f"{source}: order={order!r} needs a {order} column; pass order='random'")
    rows = rows[_lexorder(rank[session[rows]], None if inner is None else inner[rows])]

    lengths = np.bincount(rank[session[rows]], minlength=len(present))
    found, session_users = np.unique(owner[present], return_inverse=True)
    counted = {
        **(notes or {}),
        "items_under_min_count": int(np.sum(counts > 0)) - len(by_count),
        "interactions_of_items_under_min_count": len(item) - len(rows),
        "users_without_interactions_left": np.count_nonzero(np.bincount(user)) - len(found),
    }
    result = Interactions(
        items=new_id[item[rows]],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        users=session_users.astype(np.int32),
        times=None if times is None else times[rows].astype(np.int64),
        item_keys=item_keys[by_count],
        user_keys=user_keys[found],
        labels={},
        user_labels={},
        text=None,
        session_attributes={},
        notes={name: int(value) for name, value in counted.items()},
        ordered=ties == "stored" and order != "random",
    )
    return result, rows


def _rank_sessions(
    session: np.ndarray, owner: np.ndarray, times: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Place of each session by user, start and key; and the sessions that have rows, so ordered."""
    present = np.flatnonzero(np.bincount(session, minlength=len(owner)))
    if times is None:
        present = present[np.argsort(owner[present], kind="stable")]
    else:
        start = np.full(len(owner), np.iinfo(np.int64).max)
        np.minimum.at(start, session, times)
        present = present[np.lexsort((start[present], owner[present]))]
    rank = np.full(len(owner), -1, np.int64)
    rank[present] = np.arange(len(present))
    return rank, present


def _lexorder(major: np.ndarray, minor: np.ndarray | None) -> np.ndarray:
    """Stable order by ``major``, then ``minor``; one integer key where both fit in 62 bits."""
    key = major
    if minor is not None:
        minor = minor.astype(np.int64) - int(minor.min())
        width = int(minor.max()) + 1
        if (int(major.max()) + 1) * width >= 2**62:
            return np.lexsort((minor, major))
        key = major * width + minor
    if np.all(key[1:] >= key[:-1]):
        return np.arange(len(key))
    return np.argsort(key, kind="stable")


def distinct(sessions: Any, items: Any) -> np.ndarray:
    """Rows that are the first of their item in their session, rising, ``[num_kept]``."""
    session, item = code(sessions), code(items)
    pairs = session.codes.astype(np.int64) * len(item.keys) + item.codes
    order = np.argsort(pairs, kind="stable")
    first = np.ones(len(pairs), bool)
    first[1:] = np.diff(pairs[order]) != 0
    return np.sort(order[first])


def place_in(catalogue: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Row of each key in a catalogue.

    Args:
      catalogue: distinct keys in any order, ``[num_rows]``.
      keys: keys to look up, ``[n]``.

    Returns:
      Rows, int64 ``[n]``; ``-1`` for a key that the catalogue lacks.
    """
    if len(catalogue) == 0:
        return np.full(len(keys), -1, np.int64)
    if catalogue.dtype.kind in "iu":
        low, high = int(catalogue.min()), int(catalogue.max())
        if high - low <= 2 * (len(catalogue) + len(keys)) + 100_000:
            row_of = np.full(high - low + 2, -1, np.int64)
            row_of[np.subtract(catalogue, low, dtype=np.int64)] = np.arange(len(catalogue))
            inside = (keys >= low) & (keys <= high)
            return row_of[np.where(inside, np.subtract(keys, low, dtype=np.int64), -1)]
    order = np.argsort(catalogue, kind="stable")
    at = np.searchsorted(catalogue, keys, sorter=order)
    at = order[np.minimum(at, len(order) - 1)]
    return np.where(catalogue[at] == keys, at, -1)


def take(values: Any, rows: np.ndarray) -> np.ndarray:
    """Values of the given rows as objects; None for row ``-1``."""
    if hasattr(values, "dictionary_encode"):
        values = values.to_numpy()
    extended = np.full(len(values) + 1, None, object)
    extended[:-1] = values
    return extended[rows]


def labels_at(values: Any, rows: np.ndarray) -> Labels:
    """Labels of the given rows; row ``-1`` and missing values have none."""
    return targets.labels(take(values, rows))


def text_at(values: Any, rows: np.ndarray) -> np.ndarray:
    """Texts of the given rows, ``str``; the empty string for row ``-1`` and missing values."""
    return np.array(["" if value is None else value for value in take(values, rows)], str)


def histories(interactions: Interactions) -> Interactions:
    """The sessions of each user joined to one sequence, in the order they stand in.

    Args:
      interactions: any; its sessions stand user after user.

    Returns:
      The same interactions with one session a user. Values that belong to a session
      (``session_attributes``) have no meaning any more and are dropped.

    Examples:
      >>> from kernlens import datasets
      >>> data = datasets.load("synthetic", num_items=60, num_users=9, num_interactions=600)
      >>> joined = histories(data)
      >>> joined.num_sessions == data.num_users, len(joined.items) == len(data.items)
      (True, True)
    """
    users = interactions.users
    first = np.flatnonzero(np.diff(users, prepend=-1))
    return interactions._replace(
        offsets=np.append(interactions.offsets[first], interactions.offsets[-1]),
        users=users[first],
        session_attributes={},
    )

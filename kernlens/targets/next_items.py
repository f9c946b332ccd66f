"""The target "which item comes next?": histories of users and the item that followed each.

From a log of events, one row an event, to :class:`NextItems`, which the verbs take as a target:

    log = pandas.read_csv("events.csv")
    ask = next_items(log["user"], log["item"], log["time"], items=ids)    # ids of embedding rows
    kernlens.compare({"behaviour": x1, "text": x2}, ask)
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from kernlens import arrays
from kernlens.arrays import NUMBER, TEXT, TIME, Cells
from kernlens.targets.sequences import Split, leave_last_out, shuffle_ties, split_by_time
from kernlens.types import Interactions

ALL_ITEMS, NEW_TO_SEQUENCE, NEW_ITEMS = "all items", "new to the sequence", "new to the user"
"""Protocols, by their names in ``metrics.ranking.PROTOCOLS``."""

RECUR = 0.01
"""Share of targets met before from which items count as recurring."""

LENGTH = 20
"""Default number of items of a history."""


class NextItems(NamedTuple):
    """Histories and the items that follow, as the verbs take them.

    Attributes:
      split: training examples, one held-out example a sequence, and the known interactions. An
        embedding to be judged is pretrained on ``split.known`` alone.
      protocol: which items are candidates, a name in ``metrics.ranking.PROTOCOLS``.
      reason: why this protocol was taken, in words; "" where the caller chose it.
      k: length of the list that a user sees, for recall, NDCG and MRR at ``k``.
      known_rows: which rows of the log may be learnt from, bool ``[rows]``: all but the held-out
        ones; None of interactions that have no log.
      notes: what was counted, by name.
    """

    split: Split
    protocol: str
    reason: str
    k: int
    known_rows: np.ndarray | None
    notes: dict[str, int]

    @property
    def num_items(self) -> int:
        """Number of items, the rows that an embedding needs."""
        return self.split.known.num_items

    def __repr__(self) -> str:
        train, test = self.split.train, self.split.test
        counted = ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in self.notes.items() if v)
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"NextItems: {len(test.target):,} held-out next items and {len(train.target):,} "
            f"training examples of {self.num_items:,} items\n"
            f"candidates: {self.protocol}{reason}\ncounted: {counted or 'nothing left aside'}"
        )


def next_items(
    users: Any,
    items: Any,
    times: Any,
    *,
    ids: Any = None,
    cutoff: Any = None,
    protocol: str | None = None,
    k: int = 10,
    length: int = LENGTH,
    seed: int = 0,
) -> NextItems:
    """Asks for the next item of each user, from a log with one row an event, in any order.

    Each user's last event is held out and the events before it are the history. With ``cutoff``,
    events before it alone are learnt from, as in production, and the last event of each user who
    has one since is held out. Events of one user at one time are put in random order.

    >>> ask = next_items(list("aaabbb"), [0, 1, 2, 1, 0, 2], [1, 2, 3, 1, 2, 3], k=2)
    >>> ask.split.test.target, ask.protocol
    (array([2, 2], dtype=int32), 'new to the user')

    Args:
      users: user of each event, ``[rows]``: text or whole numbers, in a column of pandas or polars,
        an array or a list.
      items: item of each event, ``[rows]``.
      times: time of each event, ``[rows]``: numbers in any unit, dates, or text in ISO 8601.
      ids: item of each row of the embeddings, ``[m]``, distinct. Events of other items are left out
        and counted. Default: ``items`` are row numbers of the embeddings already, up to the
        greatest of them; ``range(m)`` says how many there are.
      cutoff: moment from which events are held out, in the form of ``times``. Default: each user's
        last event alone is held out.
      protocol: which items are candidates, a name in ``metrics.ranking.PROTOCOLS``. Default:
        ``"all items"`` where at least one in a hundred known events is of an item that its user had
        met before, else ``"new to the user"``.
      k: length of the list that a user sees, at least 1.
      length: number of items of a history, the latest ones, at least 1. More is slower.
      seed: random seed of the order of events at one time, an integer >= 0.

    Returns:
      NextItems.

    Raises:
      ValueError: columns of unlike lengths, a missing user, item or time, ids that repeat or of
        which the log has none, fewer than two users with a next item, or none with three events.
    """
    user, item = _keys(users, "users"), _keys(items, "items")
    moments = _column(times, "times")
    time = _numbers_of_times(moments)
    cut = None if cutoff is None else _moment(cutoff, moments)
    sizes = {"users": len(user), "items": len(item), "times": len(time)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
        raise ValueError(f"users, items and times need one value an event each; got {told}")
    if len(user) == 0:
        raise ValueError("the log holds no event")
    row, keys = _rows_of_items(item, ids)
    kept = np.flatnonzero(row >= 0)
    user_keys, owner = np.unique(user[kept], return_inverse=True)
    draw = np.random.default_rng(seed).random(len(kept))
    order = np.lexsort((draw, time[kept], owner))
    counts = np.bincount(owner, minlength=len(user_keys))
    # Places among the times are whole numbers in any unit; without a cutoff the order is enough.
    steps = step = None
    if cut is not None:
        steps = np.unique(time)
        step = int(np.searchsorted(steps, cut))
    interactions = Interactions(
        items=row[kept][order].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        users=np.arange(len(user_keys), dtype=np.int32),
        times=None if steps is None else np.searchsorted(steps, time[kept][order]),
        item_keys=keys,
        user_keys=user_keys,
        labels={},
        user_labels={},
        text=None,
        session_attributes={},
        notes={},
    )
    made = next_items_of(
        interactions, cutoff=step, protocol=protocol, k=k, length=length, seed=seed
    )
    past = made.split.test.past
    assert past is not None
    known = row >= 0
    if cut is None:
        known[kept[order][past.stop]] = False
    else:
        known &= time < cut
    unknown = row < 0
    notes = {
        "events_of_unknown_items": int(unknown.sum()),
        "unknown_items": len(np.unique(item[unknown])),
        **made.notes,
    }
    return made._replace(known_rows=known, notes=notes)


def next_items_of(
    interactions: Interactions,
    *,
    per_user: bool = True,
    cutoff: int | None = None,
    protocol: str | None = None,
    k: int = 10,
    length: int = LENGTH,
    seed: int = 0,
) -> NextItems:
    """Asks for the next item of each sequence of interactions, such as ``datasets.load`` gives.

    Args:
      interactions: in the order of time; row ``i`` of an embedding is item ``i``.
      per_user: a sequence is all that a user did; False for sessions (baskets) by themselves.
      cutoff: as :func:`next_items`, in the unit of ``interactions.times``.
      protocol: as :func:`next_items`; for sessions that never hold an item twice, the default is
        ``"new to the sequence"``.
      k: as :func:`next_items`.
      length: as :func:`next_items`.
      seed: as :func:`next_items`.

    Returns:
      NextItems.

    Raises:
      ValueError: as :func:`next_items`.
    """
    names = (ALL_ITEMS, NEW_TO_SEQUENCE, NEW_ITEMS)
    if protocol is not None and protocol not in names:
        raise ValueError(f"protocol must be one of {', '.join(map(repr, names))}; got {protocol!r}")
    if not 1 <= k <= interactions.num_items:
        raise ValueError(f"k must be in 1..{interactions.num_items}, the number of items; got {k}")
    interactions = shuffle_ties(interactions, seed=seed)
    sizes = np.bincount(interactions.users, np.diff(interactions.offsets), interactions.num_users)
    if not per_user:
        sizes = np.diff(interactions.offsets)
    if np.max(sizes, initial=0) < 2:
        what = "user" if per_user else "session"
        raise ValueError(f"no {what} has two events, a history and what follows; got {len(sizes)}")
    if cutoff is None:
        split = leave_last_out(interactions, length=length, per_user=per_user, seed=None)
    else:
        split = split_by_time(interactions, cutoff, length=length, per_user=per_user, seed=None)
    users = len(np.unique(split.test.user))
    if users < 2:
        late = "" if cutoff is None else " whose last event is at the cutoff or later"
        raise ValueError(
            f"intervals are over users, and need two with a next item{late}; got {users}"
        )
    if len(split.train.target) == 0:
        told = "with each last event held out" if cutoff is None else "before the cutoff"
        raise ValueError(
            f"nothing is left to learn from: {told}, no user has a history and what follows it; "
            "expected some with "
            + ("three events or more" if cutoff is None else "two events before it")
        )
    reason = ""
    if protocol is None:
        protocol, reason = _protocol(split.known, per_user)
    one = "users_of_one_event" if per_user else "sessions_of_one_event"
    notes = {
        one: split.notes["sequences_of_one_item"],
        "targets_unseen_in_training": split.notes["test_targets_unseen_in_training"],
        "targets_met_before": split.notes["test_targets_in_past"],
    }
    return NextItems(split, protocol, reason, k, None, notes)


def _protocol(known: Interactions, per_user: bool) -> tuple[str, str]:
    """Protocol by whether items recur among the known events, and the reason."""
    sessions = np.repeat(np.arange(known.num_sessions), np.diff(known.offsets))
    recur = _repeats(known.users[sessions], known)
    if recur < RECUR:
        return NEW_ITEMS, f"{recur:.1%} of known events repeat an item of their user"
    within = _repeats(sessions, known)
    if not per_user and within < RECUR:
        return NEW_TO_SEQUENCE, f"{within:.1%} of known events repeat an item of their session"
    return ALL_ITEMS, f"{recur:.0%} of known events repeat an item of their user"


def _repeats(owners: np.ndarray, known: Interactions) -> float:
    """Share of events whose item their owner had met before."""
    pairs = owners.astype(np.int64) * known.num_items + known.items
    return 1.0 - len(np.unique(pairs)) / len(pairs)


def _keys(values: Any, what: str) -> np.ndarray:
    """A column of ids, none missing: numbers, whole ones as integers, or text."""
    cells = _column(values, what)
    if cells.kind != NUMBER:
        return cells.values.astype(str)
    return cells.values.astype(np.int64) if cells.is_whole else cells.values


def _column(values: Any, what: str) -> Cells:
    cells = arrays.read(values)
    if not isinstance(cells, Cells):
        raise ValueError(f"{what} must be one value an event, [rows]; got several in a row")
    if cells.missing.any():
        raise ValueError(
            f"{what} must not be missing; got {int(cells.missing.sum()):,} missing, the first in "
            f"row {arrays.first(cells.missing)}"
        )
    return cells


def _rows_of_items(item: np.ndarray, ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embedding row of each event, ``-1`` for none, int64 ``[rows]``; and the id of each row."""
    if ids is None:
        if item.dtype.kind not in "iu" or item.min() < 0:
            got = item.min() if item.dtype.kind in "iu" else f"{item[0]!s} in row 0"
            raise ValueError(
                "items are taken for row numbers of the embeddings, 0, 1, ...; got "
                f"{got}: give ids, the item of each embedding row"
            )
        return item.astype(np.int64), np.arange(int(item.max()) + 1)
    keys = _keys(ids, "ids")
    if len(keys) == 0:
        raise ValueError("ids must name the item of each embedding row; got none")
    if (keys.dtype.kind == "U") != (item.dtype.kind == "U"):
        raise ValueError(
            f"items and ids must both be text or both be numbers; got {item[0]!r} and {keys[0]!r}"
        )
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    repeated = ranked[1:] == ranked[:-1]
    if repeated.any():
        raise ValueError(f"ids must differ; got {ranked[1:][repeated][0]!s} twice or more")
    place = np.minimum(np.searchsorted(ranked, item), len(ranked) - 1)
    row = np.where(ranked[place] == item, order[place], -1)
    if np.all(row < 0):
        raise ValueError(
            f"no event is of an item in ids: items such as {item[0]!s}, ids such as {keys[0]!s}"
        )
    return row, keys


def _numbers_of_times(cells: Cells) -> np.ndarray:
    """Numbers that rise with time, ``[rows]``."""
    values = cells.values
    if cells.kind == NUMBER:
        return values
    if values.dtype.kind in "Mm":
        return values.astype(np.int64)
    if cells.kind not in (TEXT, TIME):
        raise ValueError(f"times must be numbers, dates or ISO 8601 text; got {cells}")
    found = np.empty(len(values))
    for i, text in enumerate(values.tolist()):
        try:
            found[i] = _utc(text).timestamp()
        except ValueError:
            raise ValueError(
                f"times must be numbers, dates or ISO 8601 text such as 2024-01-31 08:00; got "
                f"{text!r} in row {i}"
            ) from None
    return found


def _moment(cutoff: Any, cells: Cells) -> float:
    """The cutoff among the numbers of :func:`_numbers_of_times`."""
    dtype, is_number = cells.values.dtype, cells.kind == NUMBER
    try:
        if is_number:
            return float(cutoff)
        at = _utc(str(cutoff))
    except (TypeError, ValueError):
        form = "a number" if is_number else "a date or time in ISO 8601"
        raise ValueError(f"cutoff must be {form}, as times are; got {cutoff!r}") from None
    if dtype.kind == "M":
        return int(np.datetime64(at.replace(tzinfo=None), "us").astype(dtype).astype(np.int64))
    return at.timestamp()


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)

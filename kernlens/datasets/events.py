"""A user's own interactions: one row an event, in Parquet, delimited text or JSON lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kernlens import files, targets
from kernlens.datasets import table
from kernlens.io import event_columns, shards
from kernlens.io.event_times import milliseconds
from kernlens.io.stored import suffix_of
from kernlens.types import Interactions

DUPLICATES = ("drop", "keep")


def load(
    root: str | Path | None = None,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    session: str | None = None,
    labels: Sequence[str] = (),
    text: str | None = None,
    order: str | None = None,
    ties: str = "shuffle",
    time_unit: str = "auto",
    duplicates: str = "drop",
    min_count: int = 5,
    seed: int = 0,
) -> Interactions:
    """Interactions of a user's own table, one row an event.

    Rows without a user or an item, or without a time where there is a time column, are left out;
    ``notes`` counts them, and the rows that repeat another one.

    Args:
      root: file of events (``.parquet``, ``.csv``, ``.tsv``, ``.jsonl``; text also as ``.gz``), or
        a folder or quoted pattern of such files of one format.
      user: column of users. Default: ``user_id`` or another name of ``event_columns.NAMES``.
      item: column of items, likewise.
      time: column of times, likewise: timestamps or dates with or without a zone (without, UTC),
        their ISO 8601 text, or numbers since 1970.
      session: column of sessions, such as baskets or visits; equal names of two users are two
        sessions. Default: as ``user``; without one, a user's whole history is one session.
      labels: columns that describe the item, which become its labels; its first value counts.
      text: column that holds a title of the item.
      order: inside a session by ``"time"``, as ``"stored"`` in the file, or ``"random"`` where the
        order means nothing. Default: by time; required where there is no time.
      ties: events of one session at one time: ``"shuffle"``, or as ``"stored"``.
      time_unit: of numbers, ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; ``"auto"`` goes by their size.
      duplicates: rows of one user, item, session and time: ``"drop"`` all but the first, or
        ``"keep"`` them, as where a line was written for each piece.
      min_count: least number of events of an item, at least 1.
      seed: random seed of the shuffles.

    Returns:
      Interactions; keys are integers where all are, else text.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a column that is not there or not found, a time that cannot be read (with its
        row), a damaged file, an unknown choice, or nothing left.
    """
    source = "table"
    table.check_choice(source, "duplicates", duplicates, DUPLICATES)
    paths = _paths(root)
    given = {"user": user, "item": item, "time": time, "session": session}
    found = event_columns.names_of(paths[0])
    chosen = {
        role: event_columns.chosen(paths[0], role, name, found) for role, name in given.items()
    }
    if order is None and chosen["time"] is None:
        raise ValueError(
            f"{paths[0]}: no column of times; found {list(found)[:12]}; name it with time=, or say "
            "order='stored' if rows stand in the order in which they happened, else 'random'"
        )
    order = order or "time"
    table.check_choice(source, "order", order, ("time", "stored", "random"))
    names = list(dict.fromkeys([*filter(None, chosen.values()), *labels, *filter(None, [text])]))
    files.check_columns(paths[0], found, names)
    columns = event_columns.read(paths, names)
    users, items = columns[chosen["user"] or ""], columns[chosen["item"] or ""]
    rows = len(users.values)
    notes = {
        "rows_read": rows,
        "rows_without_user": int(users.missing.sum()),
        "rows_without_item": int((items.missing & ~users.missing).sum()),
    }
    kept = ~(users.missing | items.missing)
    when = None
    if chosen["time"] is not None:
        where = f"{paths[0]}, column {chosen['time']!r}"
        when, missing = milliseconds(where, *columns[chosen["time"]], unit=time_unit)
        notes["rows_without_time"] = int((missing & kept).sum())
        kept &= ~missing
    sessions = None if chosen["session"] is None else columns[chosen["session"]]
    if sessions is not None:
        notes["rows_without_session"] = int((sessions.missing & kept).sum())
        kept &= ~sessions.missing
    kept = np.flatnonzero(kept)
    user_codes, item_codes = (table.code(own.values[kept]) for own in (users, items))
    own_sessions = None if sessions is None else table.code(sessions.values[kept])
    first = _first_of_each(user_codes, item_codes, own_sessions, when, kept)
    notes["repeated_rows"] = len(kept) - len(first)
    if duplicates == "keep":
        first = np.arange(len(kept))
    pairs = None
    if own_sessions is not None:
        # Two users may number their sessions alike.
        pairs = own_sessions.codes.astype(np.int64) * len(user_codes.keys) + user_codes.codes
        pairs = pairs[first]
    at = kept[first]
    data, places = table.assemble(
        source,
        users=table.Coded(user_codes.codes[first], user_codes.keys),
        items=table.Coded(item_codes.codes[first], item_codes.keys),
        sessions=pairs,
        times=None if when is None else when[at],
        positions=np.arange(len(first)),
        order="position" if order == "stored" else order,
        ties=ties,
        min_count=min_count,
        seed=seed,
        notes=notes,
    )
    if data.times is not None:
        data = data._replace(times=data.times // 1000)
    return _described(data, columns, at[places], labels, text)


def _paths(root: str | Path | None) -> list[Path]:
    expected = f"a file of events or a folder of them: {', '.join(event_columns.SUFFIXES)}"
    if root is None:
        raise ValueError(f"table needs root=, {expected}")
    path = Path(root)
    if not path.suffix and not path.exists() and "*" not in path.name:
        raise FileNotFoundError(f"{path}: no such folder; expected {expected}")
    found = shards.members(path, event_columns.SUFFIXES)
    if suffix_of(found[0]) not in event_columns.SUFFIXES:
        raise ValueError(f"{found[0]}: cannot read {suffix_of(found[0])!r}; expected {expected}")
    return found


def _first_of_each(
    users: table.Coded,
    items: table.Coded,
    sessions: table.Coded | None,
    when: np.ndarray | None,
    kept: np.ndarray,
) -> np.ndarray:
    """The first of the rows that have user, item, session and time in common; all without times,
    for then an item that is met again looks the same."""
    if when is None:
        return np.arange(len(kept))
    keys = [when[kept], items.codes, users.codes]
    keys += [] if sessions is None else [sessions.codes]
    order = np.lexsort(keys)
    new = np.zeros(len(kept), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= np.diff(key[order]) != 0
    return np.sort(order[new])


def _described(
    data: Interactions,
    columns: Mapping[str, event_columns.Column],
    rows: np.ndarray,
    labels: Sequence[str],
    text: str | None,
) -> Interactions:
    """Adds what columns say of the items; ``rows`` is the row of each interaction."""

    def values(name: str) -> tuple[np.ndarray, int]:
        column = columns[name]
        known = np.flatnonzero(~column.missing[rows])
        order = known[np.argsort(rows[known], kind="stable")]
        found, first = np.unique(data.items[order], return_index=True)
        taken = np.full(data.num_items, None, object)
        taken[found] = column.values[rows[order[first]]]
        several = column.values[rows[order]] != taken[data.items[order]]
        return taken, len(np.unique(data.items[order[several]]))

    notes = dict(data.notes)
    made = {}
    for name in labels:
        found, notes[f"items_with_several_{name}"] = values(name)
        made[name] = targets.labels(found)
    titles = None
    if text is not None:
        found, _ = values(text)
        titles = np.array(["" if value is None else str(value) for value in found], str)
    return data._replace(labels=made, text=titles, notes=notes)

"""A user's own interactions: one row an event, in Parquet, delimited text or JSON lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files, targets
from kernlens.datasets import table
from kernlens.datasets.event_times import milliseconds
from kernlens.io import packed, roles, shards, sheets
from kernlens.io.columns import open_parquet, read_table, reading, text_column, whole_numbers
from kernlens.io.limits import LIMITS
from kernlens.io.stored import suffix_of
from kernlens.types import Interactions

NAMES = {
    "user": ("user_id", "userid", "user", "customer_id", "visitor_id", "visitorid", "household_id"),
    "item": ("item_id", "itemid", "item", "product_id", "productid", "movieid", "sku",
             "parent_asin", "asin", "article_id", "track_id"),
    "time": ("timestamp", "time", "event_time", "datetime", "date", "t_dat", "created_at", "ts"),
    "session": ("session_id", "sessionid", "session", "basket_id", "order_id", "visit_id"),
}  # fmt: skip
"""Names of columns that are known without being told, in any case; the first found counts."""

DUPLICATES = ("drop", "keep")
_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz")
SUFFIXES = (".parquet", *_TEXT, *_LINES)
_INTEGERS, _FLOATS, _STRINGS = "int64", "float64", "string"


class Column(NamedTuple):
    """A column of events.

    Attributes:
      values: integers, floats, dates or text, ``[n]``; unspecified where missing.
      missing: which rows have none, bool ``[n]``.
    """

    values: np.ndarray
    missing: np.ndarray


class Events(NamedTuple):
    """Columns of a log, one row an event.

    Attributes:
      columns: user, item and time of each event, ``[rows]`` each, as
        :func:`kernlens.datasets.next_items` takes them; items as text, as ids of embeddings are.
      told: what was taken for them.
    """

    columns: tuple[np.ndarray, np.ndarray, np.ndarray]
    told: str


def read_events(
    root: str | Path, *, user: str | None = None, item: str | None = None, time: str | None = None
) -> Events:
    """Who met which item, when, from a file with one row an event.

    Args:
      root: as that of :func:`load`.
      user: column of users. Default: ``user_id`` or another name of ``NAMES``.
      item: column of items, likewise.
      time: column of times, likewise.

    Returns:
      Events.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a column that is not there, not found or meant twice, a missing value (with its
        row), items that are fractions, or a damaged file.
    """
    paths = _paths(root)
    found = _columns_of(paths[0])
    given = {"user": user, "item": item, "time": time}
    names = [_chosen(paths[0], role, name, found, needed=True) for role, name in given.items()]
    if len(set(names)) < len(names):
        raise ValueError(f"{root}: user, item and time must be three columns; got {names}")
    columns = _read_all(paths, [str(name) for name in names], texts=[str(names[1])])
    for name, (_, missing) in columns.items():
        if missing.any():
            raise ValueError(f"{root}, row {np.argmax(missing)}: no value in column {name!r}")
    users, items, times = (columns[str(name)].values for name in names)
    if items.dtype.kind == "f":
        raise ValueError(f"{root}: column {names[1]!r} holds fractions; expected text or integers")
    texts = items.astype(str)
    if np.any(np.char.find(texts, ".") >= 0):
        texts = np.array(whole_numbers(texts.tolist()) or texts)
    told = ", ".join(f"{role} {name}" for role, name in zip(given, names, strict=True))
    return Events((users, texts, times), told)


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
      user: column of users. Default: ``user_id`` or another name of ``NAMES``.
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
      seed: of the shuffles.

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
    found = _columns_of(paths[0])
    chosen = {role: _chosen(paths[0], role, name, found) for role, name in given.items()}
    if order is None and chosen["time"] is None:
        raise ValueError(
            f"{paths[0]}: no column of times; found {list(found)[:12]}; name it with time=, or say "
            "order='stored' if rows stand in the order in which they happened, else 'random'"
        )
    order = order or "time"
    table.check_choice(source, "order", order, ("time", "stored", "random"))
    names = list(dict.fromkeys([*filter(None, chosen.values()), *labels, *filter(None, [text])]))
    files.check_columns(paths[0], found, names)
    columns = _read_all(paths, names)
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
    expected = f"a file of events or a folder of them: {', '.join(SUFFIXES)}"
    if root is None:
        raise ValueError(f"table needs root=, {expected}")
    path = Path(root)
    if not path.suffix and not path.exists() and "*" not in path.name:
        raise FileNotFoundError(f"{path}: no such folder; expected {expected}")
    found = shards.members(path, SUFFIXES)
    if suffix_of(found[0]) not in SUFFIXES:
        raise ValueError(f"{found[0]}: cannot read {suffix_of(found[0])!r}; expected {expected}")
    return found


def _chosen(
    path: Path, role: str, name: str | None, found: Sequence[str], *, needed: bool = False
) -> str | None:
    """The column of a role, as named or by a usual name."""
    if name is not None:
        files.check_columns(path, found, [name])
        return name
    lower = {own.lower(): own for own in reversed(found)}
    usual = next((lower[own] for own in NAMES[role] if own in lower), None)
    if usual is None and (needed or role in ("user", "item")):
        raise ValueError(
            f"{path}: which column holds the {role}s? found {list(found)[:12]}; name it with "
            f"{role}= (--{role})"
        )
    return usual


def _columns_of(path: Path) -> list[str]:
    kind = suffix_of(path)
    if kind == ".parquet":
        with open_parquet(path) as file:
            return list(file.schema_arrow.names)
    if kind in _TEXT:
        return sheets.sniff(path).names
    for _, record in _records(path):
        return list(record)
    raise ValueError(f"{path}: empty file; expected a JSON object on each line")


def _read_all(
    paths: Sequence[Path], names: list[str], *, texts: Sequence[str] = ()
) -> dict[str, Column]:
    parts = [_read(path, names, texts) for path in paths]
    return {name: _joined([part[name] for part in parts]) for name in names}


def _joined(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    kinds = {part.values.dtype.kind for part in parts}
    values = [part.values.astype(str) if kinds & {"U", "O"} else part.values for part in parts]
    return Column(np.concatenate(values), np.concatenate([part.missing for part in parts]))


def _read(path: Path, names: list[str], texts: Sequence[str]) -> dict[str, Column]:
    kind = suffix_of(path)
    if kind == ".parquet":
        with open_parquet(path) as file:
            LIMITS.check_shape(path, (file.metadata.num_rows,), np.dtype(np.int8))
            found = read_table(path, file, names)
        return {name: _of_arrow(path, name, found.column(name)) for name in names}
    if kind in _TEXT:
        return read_text(path, names, texts=texts)
    records = [record for _, record in _records(path)]
    return {name: _of_list(path, name, [one.get(name) for one in records]) for name in names}


def read_text(path: Path, names: Sequence[str], *, texts: Sequence[str] = ()) -> dict[str, Column]:
    """Columns of delimited text, packed or not: integers, floats or text, as all rows allow.

    Args:
      path: file.
      names: of the columns.
      texts: those that stay text whatever they hold, such as ids with zeros in front.

    Returns:
      Columns by name.

    Raises:
      ValueError: a missing column, a malformed line, damaged packing.
    """
    names = list(names)
    arrow, reader = files.optional("pyarrow"), files.optional("pyarrow.csv")
    sheet = sheets.sniff(path, known=names)
    files.check_columns(path, sheet.names, names)
    types = {name: roles.TEXT if name in texts else sheet.kind(name) for name in names}
    wanted = {name: {"integer": _INTEGERS, "float": _FLOATS}.get(types[name], _STRINGS)
              for name in names}  # fmt: skip
    for kinds in (wanted, dict.fromkeys(names, _STRINGS)):
        with reading(path, "text"), packed.open_bytes(path) as source:
            try:
                found = reader.read_csv(
                    arrow.PythonFile(source, mode="r"),
                    read_options=reader.ReadOptions(skip_rows=sheet.skip, column_names=sheet.names),
                    parse_options=reader.ParseOptions(
                        delimiter=sheet.delimiter, newlines_in_values=True
                    ),
                    convert_options=reader.ConvertOptions(
                        include_columns=names,
                        column_types={name: getattr(arrow, kinds[name])() for name in names},
                        null_values=["", "NaN", "nan", "NULL", "null"],
                        strings_can_be_null=True,
                    ),
                )
            except arrow.ArrowInvalid as error:
                # The first rows looked like numbers, and a later one is none.
                if kinds is wanted and "conversion error" in str(error):
                    continue
                raise
        return {name: _of_arrow(path, name, found.column(name)) for name in names}
    raise AssertionError("text can be read as text")


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(packed.lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: found {line[:60]!r}; expected one JSON object a line: "
                f"{error}"
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: found {line[:60]!r}; expected a JSON object")
        yield number, record


def _of_arrow(path: Path, name: str, column: Any) -> Column:
    """A column as NumPy values; times as milliseconds since 1970."""
    arrow, compute = files.optional("pyarrow"), files.optional("pyarrow.compute")
    kinds = arrow.types
    with reading(path, "table"):
        column = text_column(column)
        if kinds.is_timestamp(column.type) or kinds.is_date(column.type):
            column = column.cast(arrow.timestamp("ms"), safe=False)
        missing = np.asarray(column.is_null(nan_is_null=True))
        if kinds.is_large_string(column.type):
            column = compute.fill_null(column, "")
            missing |= np.asarray(compute.equal(compute.utf8_trim_whitespace(column), ""))
            values = column.to_numpy()
        elif kinds.is_timestamp(column.type):
            values = column.to_numpy().astype("datetime64[ms]")
        elif kinds.is_integer(column.type):
            values = compute.fill_null(column, 0).to_numpy()
        elif kinds.is_floating(column.type):
            values = compute.fill_null(column, np.nan).to_numpy()
        elif kinds.is_boolean(column.type):
            values = compute.fill_null(column, False).to_numpy().astype(np.int64)
        else:
            raise ValueError(f"{path}: column {name!r} is {column.type}; expected text or numbers")
    return _whole(values, missing)


def _of_list(path: Path, name: str, values: list[Any]) -> Column:
    types = {type(value) for value in values if value is not None}
    if types & {list, dict}:
        raise ValueError(f"{path}: field {name!r} holds lists or objects; expected text or numbers")
    missing = np.array([value is None or value == "" for value in values], bool)
    if types <= {int}:
        return Column(np.array([value or 0 for value in values], np.int64), missing)
    if types <= {int, float}:
        numbers = np.array([np.nan if value is None else value for value in values], np.float64)
        return _whole(numbers, missing | np.isnan(numbers))
    return Column(
        np.array(["" if value is None else str(value) for value in values], object), missing
    )


def _whole(values: np.ndarray, missing: np.ndarray) -> Column:
    """Integers that gaps made floats of are integers again."""
    if values.dtype.kind != "f":
        return Column(values, missing)
    known = values[~missing]
    if not np.all((known == np.round(known)) & (np.abs(known) <= 2.0**53)):
        return Column(values, missing)
    return Column(np.where(missing, 0, values).astype(np.int64), missing)


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
    columns: Mapping[str, Column],
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

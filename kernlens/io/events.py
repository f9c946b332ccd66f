"""Logs of events from CSV and Parquet files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files
from kernlens.datasets import raw
from kernlens.io.columns import open_parquet, plain, read_table
from kernlens.io.labels import numbers_of_text
from kernlens.io.stored import choose_reader
from kernlens.io.stream import Embeddings


class Events(NamedTuple):
    """Columns of a log, one row an event.

    Attributes:
      users: user of each event, integers or text, ``[rows]``.
      items: item of each event as text, as ids of embeddings are, ``[rows]``.
      times: time of each event: numbers, dates or text, ``[rows]``.
    """

    users: Any
    items: np.ndarray
    times: Any


def read_events(path: str | Path, *, user: str, item: str, time: str) -> Events:
    """Who met which item, when, from a file with one row an event.

    Args:
      path: ``.csv`` (with a header line, comma-separated, UTF-8) or ``.parquet``.
      user: name of the column of users.
      item: name of the column of items.
      time: name of the column of times.

    Returns:
      Events, as :func:`kernlens.datasets.next_items` takes them.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty or damaged file, one column named twice, a missing
        column, or a missing value, with its place.
      ImportError: pyarrow is not installed; names the extra.
    """
    path = files.existing(path)
    names = [user, item, time]
    if len(set(names)) < len(names):
        raise ValueError(f"user, item and time must be three columns; got {names}")
    users, items, times = choose_reader(path, {".csv": _csv, ".parquet": _parquet})(path, names)
    return Events(users, _texts(path, item, items), times)


def align(embeddings: Mapping[str, Embeddings]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Brings embeddings to the same items, those that any of them has.

    Args:
      embeddings: by name, at least one. Row numbers stand in for ids where there are none.

    Returns:
      Values by name, ``[m, d]`` each, NaN where an embedding lacks the item; and the ids of the
      ``m`` items as text, in the order of the first embedding, then of the next.

    Raises:
      ValueError: two embeddings without ids and of different lengths.
    """
    without = {own.source: own.shape[0] for own in embeddings.values() if own.ids is None}
    if len(set(without.values())) > 1:
        told = ", ".join(f"{source} has {rows:,}" for source, rows in without.items())
        raise ValueError(f"embeddings without ids need the same rows; {told}")
    every = [
        np.arange(own.shape[0]).astype(str) if own.ids is None else own.ids
        for own in embeddings.values()
    ]
    if all(np.array_equal(ids, every[0]) for ids in every):
        return {name: own.values for name, own in embeddings.items()}, every[0]
    ids = np.array(list(dict.fromkeys(np.concatenate(every).tolist())))
    place = {name: row for row, name in enumerate(ids.tolist())}
    values = {}
    for (name, own), own_ids in zip(embeddings.items(), every, strict=True):
        rows = [place[id_] for id_ in own_ids.tolist()]
        values[name] = np.full((len(ids), own.shape[1]), np.nan, own.values.dtype)
        values[name][rows] = own.values
    return values, ids


def _csv(path: Path, names: list[str]) -> list[np.ndarray]:
    columns = raw.read_csv(path, dict.fromkeys(names, "string"))
    return [numbers_of_text(raw.plain(columns[name])) for name in names]


def _parquet(path: Path, names: list[str]) -> list[Any]:
    with open_parquet(path) as file:
        table = read_table(path, file, names)
    for name in names:
        missing = table.column(name).is_null(nan_is_null=True).to_numpy()
        if missing.any():
            raise ValueError(f"{path}, row {np.argmax(missing)}: no value in column {name!r}")
    return [table.column(name) for name in names]


def _texts(path: Path, name: str, values: Any) -> np.ndarray:
    whole = True
    if not isinstance(values, np.ndarray):
        kind = values.type
        values, whole = plain(values)
        if values is None:
            raise ValueError(f"{path}: column {name!r} is {kind}; expected text or integers")
    if values.dtype.kind == "f":
        whole = whole and bool(np.all(values == np.round(values)))
        values = values.astype(np.int64) if whole else values
    if not whole:
        raise ValueError(f"{path}: column {name!r} holds fractions; expected text or integers")
    return values.astype(str)

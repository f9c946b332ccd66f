"""Logs of events, one row an event, for items that have an embedding."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernlens.io import event_columns, shards
from kernlens.io.columns import whole_numbers
from kernlens.io.stored import choose_reader
from kernlens.io.stream import Embeddings


class Events(NamedTuple):
    """Columns of a log, one row an event.

    Attributes:
      users: user of each event, integers or text, ``[rows]``.
      items: item of each event as text, as ids of embeddings are, ``[rows]``.
      times: time of each event: numbers, dates or text, ``[rows]``.
      told: which columns were taken.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    told: str


def read_events(
    path: str | Path, *, user: str | None = None, item: str | None = None, time: str | None = None
) -> Events:
    """Who met which item, when, from a file with one row an event.

    Args:
      path: ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` (text also as ``.gz``, UTF-8), or a
        folder or pattern of such files.
      user: name of the column of users. Default: a usual one, of ``event_columns.NAMES``.
      item: name of the column of items, likewise.
      time: name of the column of times, likewise.

    Returns:
      Events, whose columns :func:`kernlens.targets.next_items` takes.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty or damaged file, one column named twice, a column that
        is not there or not found, a missing value, with its row, or items that are fractions.
      ImportError: pyarrow is not installed; names the extra.
    """
    paths = shards.members(Path(path), event_columns.SUFFIXES)
    for own in paths:
        choose_reader(own, dict.fromkeys(event_columns.SUFFIXES, str))
    names = event_columns.names_of(paths[0])
    asked = {"user": user, "item": item, "time": time}
    chosen = {
        role: str(event_columns.chosen(paths[0], role, name, names, needed=True))
        for role, name in asked.items()
    }
    if len(set(chosen.values())) < len(chosen):
        raise ValueError(
            f"{path}: user, item and time must be three columns; got {list(chosen.values())}"
        )
    found = event_columns.read(paths, list(chosen.values()), texts=[chosen["item"]])
    for name, column in found.items():
        if column.missing.any():
            row = int(np.argmax(column.missing))
            raise ValueError(f"{path}, row {row}: no value in column {name!r}")
    users, items, times = (found[name].values for name in chosen.values())
    if items.dtype.kind not in "iuOU":
        raise ValueError(
            f"{path}: column {chosen['item']!r} holds fractions or dates; expected text or integers"
        )
    texts = items.astype(str)
    if np.any(np.char.find(texts, ".") >= 0):
        texts = np.array(whole_numbers(texts.tolist()) or texts)
    return Events(users, texts, times, ", ".join(f"{role} {n}" for role, n in chosen.items()))


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

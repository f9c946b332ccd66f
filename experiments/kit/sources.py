"""Where an experiment's interactions come from, and the classes of its items."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernlens import datasets, targets
from kernlens.io import event_columns, shards
from kernlens.types import Interactions, Labels

TABLE = "table"
"""The data set that is a table of the user's own."""

ROLES = ("user", "item", "time", "session", "text")
"""What a column of such a table may be named as."""

ORDERED = ("amazon", "movielens", "recbole", TABLE)
"""Data sets whose order inside a history is a choice."""

CLASSES = ("department", "single_genre", "category", "class")
"""Labels that are classified unless another is named, the first that the items have."""


def later_columns() -> Any:
    """The field `columns`, which came later: without a value it leaves finished cells as they
    are."""
    return field(default=(), metadata={"later": True})


def load_table(
    root: Path | None, columns: Sequence[str], labels: Sequence[str] | None, **options: Any
) -> Interactions:
    """Interactions of a table of the user's own.

    Args:
      root: file of events, or a folder of them.
      columns: ``role=name`` each, of :data:`ROLES`.
      labels: columns that describe the item. Default: those of :data:`CLASSES` that are there.
      **options: of :func:`kernlens.datasets.events.load`.

    Raises:
      ValueError: another role, or what the loader refuses.
      FileNotFoundError: no such file.
    """
    named = {}
    for column in columns:
        role, _, name = column.partition("=")
        if role not in ROLES or not name:
            raise ValueError(
                f"--columns must be as user=NAME, of {', '.join(ROLES)}; got {column!r}"
            )
        named[role] = name
    if labels is None:
        labels = ()
        if root is not None and root.exists():
            found = event_columns.names_of(shards.members(root, event_columns.SUFFIXES)[0])
            labels = [name for name in CLASSES if name in found and name not in named.values()]
    return datasets.load(TABLE, root, labels=tuple(labels), **named, **options)


def identity(data: str, root: Path | None, columns: Sequence[str], synthetic: int) -> str:
    """A name of the data for a folder of cells that experiments share; own tables are told apart
    by their place, size and time of change."""
    if synthetic:
        return f"{data} {synthetic}"
    if data != TABLE or root is None:
        return data
    stamp = [str(root.resolve()), list(columns)]
    if root.exists():
        stamp += [root.stat().st_size, root.stat().st_mtime_ns]
    return f"{data} {hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Source:
    """The interactions, and which labels of their items count."""

    data: str = "complete_journey"
    """A name that kernlens.datasets.load knows; `table` is one of your own, one row an event."""
    root: Path | None = None
    """The folder with the data set's files, or the file of your own table; Complete Journey is
    found where it is installed."""
    order: str = "time"
    """Inside a history: by time, or random where the data set offers it, to tell the two apart;
    stored for a table whose rows stand in their order."""
    min_count: int | None = None
    """Items with fewer interactions are left out; by default as the data set's loader has it."""
    label: str | None = None
    """What items are classified by; by default department, single_genre, category or class."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead; 0 for the real."""
    columns: tuple[str, ...] = later_columns()
    """Columns of your own table, such as user=customer item=sku time=bought_at session=basket
    text=title; by default those with usual names."""


def given(source: Source, name: str) -> bool:
    """Whether a field is another than by default."""
    return getattr(source, name) != getattr(Source(), name)


def interactions(source: Source) -> Interactions:
    """The interactions of a source: baskets, or histories of users.

    Raises:
      ValueError: an order that the data set does not offer, synthetic data beside a data set that
        is named, or what the loader refuses.
    """
    if source.synthetic:
        real = ("data", "root", "order", "min_count", "columns")
        named = [name for name in real if given(source, name)]
        if named:
            raise ValueError(
                f"--{named[0].replace('_', '-')} is of a real data set, but --synthetic is "
                f"{source.synthetic}: pass --synthetic 0 to read the real one"
            )
        return datasets.load(
            "synthetic", num_items=300, num_users=150, num_interactions=source.synthetic,
            num_classes=4,
        )  # fmt: skip
    options: dict[str, Any] = {} if source.order == "time" else {"order": source.order}
    if options and source.data not in ORDERED:
        raise ValueError(
            f"{source.data} has no order to choose: its ties are shuffled; those that have are "
            f"{', '.join(ORDERED)}; got --order {source.order}"
        )
    if source.min_count is not None:
        options["min_count"] = source.min_count
    if source.data == TABLE:
        labels = None if source.label is None else (source.label,)
        return load_table(source.root, source.columns, labels, **options)
    if source.columns:
        raise ValueError(f"--columns are of --data {TABLE}; got --data {source.data}")
    return datasets.load(source.data, source.root, **options)


def classes(data: Interactions, source: Source) -> tuple[str, Labels]:
    """The label that items are classified by, and its name.

    Raises:
      ValueError: the items have no such label.
    """
    wanted = CLASSES if source.label is None else (source.label,)
    for name in wanted:
        if name in data.labels:
            return name, data.labels[name]
    has, name = ", ".join(data.labels) or "none", "synthetic" if source.synthetic else source.data
    advice = f"; --label names a column of {source.root}" if source.data == TABLE else ""
    raise ValueError(f"items need a label {' or '.join(wanted)}; {name} has {has}{advice}")


def common_classes(data: Interactions, source: Source, least: int) -> tuple[str, Labels]:
    """`classes` without those of fewer items than ``least``; ValueError as either."""
    name, given = classes(data, source)
    return name, common(given, least, name)


def common(given: Labels, least: int, name: str) -> Labels:
    """Classes of ``least`` items or more.

    Raises:
      ValueError: fewer than two of them.
    """
    kept = targets.drop_rare(given, least)
    if len(kept.names) < 2:
        raise ValueError(
            f"--min-class-count {least} leaves {len(kept.names)} of {len(given.names)} classes of "
            f"{name}; two are needed"
        )
    return kept

"""Where an experiment's interactions come from, and the classes of its items."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernlens import datasets, targets
from kernlens.types import Interactions, Labels

ORDERED = ("amazon", "movielens", "recbole")
"""Data sets whose order inside a history is a choice."""

CLASSES = ("department", "single_genre", "category", "class")
"""Labels that are classified unless another is named, the first that the items have."""


@dataclass(frozen=True)
class Source:
    """The interactions, and which labels of their items count."""

    data: str = "complete_journey"
    """A name that kernlens.datasets.load knows."""
    root: Path | None = None
    """The folder with the data set's files; Complete Journey is found where it is installed."""
    order: str = "time"
    """Inside a history: by time, or random where the data set offers it, to tell the two apart."""
    min_count: int | None = None
    """Items with fewer interactions are left out; by default as the data set's loader has it."""
    label: str | None = None
    """What items are classified by; by default department, single_genre, category or class."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead; 0 for the real."""


def given(source: Source, field: str) -> bool:
    """Whether a field is another than by default."""
    return getattr(source, field) != getattr(Source(), field)


def interactions(source: Source) -> Interactions:
    """The interactions of a source: baskets, or histories of users.

    Raises:
      ValueError: an order that the data set does not offer, synthetic data beside a data set that
        is named, or what the loader refuses.
    """
    if source.synthetic:
        named = [f for f in ("data", "root", "order", "min_count") if given(source, f)]
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
    raise ValueError(f"items need a label {' or '.join(wanted)}; {name} has {has}")


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

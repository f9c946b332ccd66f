"""What the files of a command line hold: rows, joined with what is predicted of them."""

import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernlens import io, targets
from kernlens.cli import memory, progress
from kernlens.cli.words import TARGETS
from kernlens.show.table import one_line, printable
from kernlens.targets import NextItems
from kernlens.types import Target

if TYPE_CHECKING:
    from kernlens.cli.options.given import Given

SLOW = 5e8
"""Rows times columns times classes from which on logistic regression may take minutes."""


class Rows(NamedTuple):
    """What the files hold.

    Attributes:
      start: seconds of the clock when reading began.
      values: embeddings by name.
      target: what is predicted of their rows.
      joined: the rows that all files have; None of next items.
      dropped: ids of the rows left out because they were not finite, by embedding.
      files: file of each embedding.
      told: what was taken as id, dimensions and label, or columns of the log, in one line.
      warnings: what makes the answer suspicious.
      embeddings: all rows of each; none of next items.
      needs: what the verb takes of memory at most.
    """

    start: float
    values: dict[str, np.ndarray]
    target: Target | NextItems
    joined: io.Joined | None
    dropped: dict[str, np.ndarray]
    files: dict[str, str]
    told: str = ""
    warnings: tuple[str, ...] = ()
    embeddings: Mapping[str, io.Embeddings] = MappingProxyType({})
    needs: memory.Needs = memory.Needs()


def read(config: "Given") -> Rows:
    """Reads and joins the files; what a label file has to say goes to standard error.

    Labels come first: they are small, and most of what is wrong with files is wrong there.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    start = time.perf_counter()
    given = config.read_together()
    paths = dict(zip(_names(given), map(str, given), strict=True))
    with progress.shown("reading"):
        if getattr(config, "interactions", None) is not None:
            return _of_log(config, paths, start)
        rows, notes = _of_labels(config, paths, start)
    for note in (*notes, *rows.warnings):
        print("warning:", one_line(note), file=sys.stderr)
    return rows


def _of_log(config: Any, paths: dict[str, str], start: float) -> Rows:
    """Embeddings of the items of a log of events, all rows of each."""
    events = io.read_events(
        config.interactions, user=config.user, item=config.item, time=config.time
    )
    opened = _opened(config, paths)
    shapes = [own.shape for own in opened.values()]
    needs = _checked_memory(config, shapes, shapes[0][0], 1)
    embeddings = {name: own.read() for name, own in opened.items()}
    values, ids = io.align(embeddings)
    return Rows(
        start=start,
        values=values,
        target=targets.next_items(*events[:3], ids=ids, cutoff=config.cutoff, k=config.k),
        joined=None,
        dropped={name: own.dropped_ids for name, own in embeddings.items()},
        files=paths,
        told=_told(opened, events.told),
        needs=needs,
    )


def _of_labels(
    config: "Given", paths: dict[str, str], start: float
) -> tuple[Rows, tuple[str, ...]]:
    """Embeddings joined with labels, and what there is to say of the label file."""
    assert config.labels is not None
    limits = io.Limits(expansion=config.max_expansion)
    label_file = io.read_labels(
        config.labels,
        id_column=config.id_column,
        label_column=config.label_column,
        target=_target(config),
        by_row=config.by_row,
        missing=config.missing,
        min_class_count=config.min_class_count,
        limits=limits,
    )
    opened = _opened(config, paths)
    shapes = [own.shape for own in opened.values()]
    outputs = len(getattr(label_file.labels, "names", "1"))
    num_labels = targets.num_rows(label_file.labels)
    needs = _checked_memory(config, shapes, num_labels, outputs)
    _propose(config, shapes, num_labels, outputs)
    embeddings = {name: own.read() for name, own in opened.items()}
    joined = io.join(
        embeddings,
        label_file,
        max_unjoined=config.max_unjoined,
        max_unjoined_labels=config.max_unjoined_labels,
    )
    warnings = tuple(
        f"dimension {', '.join(map(str, dims[:5]))} of {name} alone gives the label: is it the "
        "label, or made of it? Leave it out with --columns"
        for name, dims in io.telling(joined.values, joined.labels).items()
    )
    rows = Rows(
        start=start,
        values=joined.values,
        target=joined.labels,
        joined=joined,
        dropped={name: own.dropped_ids for name, own in embeddings.items()},
        files=paths,
        told=_told(opened, label_file.told),
        warnings=warnings,
        embeddings=embeddings,
        needs=needs,
    )
    return rows, label_file.notes


def _opened(config: "Given", paths: dict[str, str]) -> dict[str, io.EmbeddingFiles]:
    """The embedding files, of which no value is read yet."""
    return {
        name: io.open_embeddings(
            path,
            id_column=config.id_column,
            columns=config.columns,
            key=config.key,
            by_row=config.by_row,
            scale=config.scale,
            drop_nonfinite=config.drop_nonfinite,
            limits=io.Limits(expansion=config.max_expansion),
        )
        for name, path in paths.items()
    }


def _propose(
    config: "Given", shapes: Sequence[tuple[int, int]], num_rows: int, outputs: int
) -> None:
    """Names the fast probe where the usual one would take long."""
    rows, dim = min(num_rows, *(n for n, _ in shapes)), max(d for _, d in shapes)
    chosen = any(getattr(config, name, None) for name in ("probe", "kernel", "decoder"))
    if hasattr(config, "probe") and not chosen and rows * dim * outputs > SLOW:
        print(
            f"note: logistic regression of {outputs:,} classes on {rows:,} rows of {dim} "
            "dimensions may take minutes; --probe discriminant takes seconds",
            file=sys.stderr,
        )


def _checked_memory(
    config: "Given", shapes: Sequence[tuple[int, int]], num_rows: int, outputs: int
) -> memory.Needs:
    """What the command needs; ValueError where that is more than it may have."""
    rows, dim = min(n for n, _ in shapes), max(d for _, d in shapes)
    width = memory.width_of(config, rows, dim)
    needed = memory.of_rows(shapes, num_rows, outputs, config.work(len(shapes)), width)
    needed += memory.of_training(config, min(rows, num_rows), dim, outputs)
    return memory.check(needed, config.max_memory)


def _told(embeddings: Mapping[str, io.EmbeddingFiles], asked: str) -> str:
    """What was taken as what, embeddings that are alike together."""
    alike: dict[str, list[str]] = {}
    for name, own in embeddings.items():
        alike.setdefault(own.told, []).append(name)
    if len(embeddings) == 1:
        (told,) = alike
        return f"{told} · {asked}"
    parts = [f"{', '.join(names)}: {told}" for told, names in alike.items()]
    return " · ".join([*parts, asked])


def _target(config: "Given") -> Callable[[Any], Target]:
    """What makes a target of a label column."""
    word, separator = getattr(config, "target", None), getattr(config, "separator", None)
    if separator is not None:
        return functools.partial(targets.multi_labels, separator=separator)
    return targets.as_target if word is None else TARGETS[word]


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems, printable; with the column, or the whole path, where stems are equal."""
    parsed = [io.parse(path) for path in paths]
    stems = [path.name.removesuffix(".gz").rpartition(".")[0] or path.name for path, _ in parsed]
    longer = [
        f"{stem}::{behind['columns']}" if "columns" in behind else stem
        for stem, (_, behind) in zip(stems, parsed, strict=True)
    ]
    return [
        printable(
            stem if stems.count(stem) == 1 else long if longer.count(long) == 1 else str(path)
        )
        for stem, long, path in zip(stems, longer, paths, strict=True)
    ]

"""``kernlens diagnose``: why an embedding fails under a head, and what would help."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import tyro
from rich.console import Console

from kernlens import io, lens, targets
from kernlens.cli import answers, given, memory, pages, words
from kernlens.cli.given import MetricName, TargetName
from kernlens.cli.helptext import explained
from kernlens.lens.diagnosis import ABSENT

WORST = 5
"""Blamed rows of a finding that are listed."""


@explained
@dataclass(frozen=True)
class Diagnose(given.Given):
    """Says what is wrong with an embedding under a head, and what each remedy would gain.

    Example: kernlens diagnose behaviour.npy --labels departments.csv --decoder mlp:32
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar=given.DECODER)] = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. Name the one that you deploy."""
    metric: MetricName = None
    """Metric that decides. Default: macro_f1 of classes and labels, r2 of numbers."""
    target: TargetName = None
    """What a label is: one class, a number (regression), or several labels in one row. Default:
    found from the column; one that may be two things is refused until you say which."""
    separator: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Text between several labels in one cell, such as `|` in `Action|Comedy`."""
    counts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """How often each item was met: .csv or .parquet with an id and a count column. Set it to look
    for starved items and for popularity in the lengths of rows."""
    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Another embedding file of the same items, such as the last version. Set it to separate wrong
    labels from rows joined wrongly, and to see drift."""
    text: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Texts of the items: .csv or .parquet with an id and a text column. Set it to separate wrong
    labels from wrong rows."""
    curve: bool = True
    """Forecast what four times the labels would gain. Turn it off to save two to four
    predictions."""

    _work: ClassVar[memory.Work] = memory.SEVERAL

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) > 1:
            raise ValueError("diagnose takes one embedding file; --reference takes another")
        if self.reference is not None and self.reference in self.embeddings:
            raise ValueError("--reference is the embedding file itself")
        if self.separator is not None and self.target not in (None, "labels"):
            raise ValueError(f"--separator splits labels; got --target {self.target}")


def diagnose(config: Diagnose) -> None:
    """Reads the files, diagnoses, prints the tables and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = time.perf_counter()
    decoder = words.decoder(config.decoder) if config.decoder else None
    rows = given.read(config, *(() if config.reference is None else (config.reference,)))
    values, *others = rows.values.values()
    assert rows.joined is not None
    ids = rows.joined.ids
    with Console(file=sys.stderr).status(f"diagnosing ({rows.needs})"):
        found = lens.diagnose(
            values,
            rows.target,
            decoder=decoder,
            interactions=_beside(config, config.counts, ids, 0.0, targets.values),
            reference=others[0] if others else None,
            text=_beside(config, config.text, ids, "", list),
            ids=ids,
            metric=config.metric,
            curve=config.curve,
            level=config.level,
            seed=config.seed,
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.diagnosis(config, rows, found, seconds))
    pages.write(config, rows, found)
    blamed = [
        f"{own.name}: {', '.join(map(str, own.worst(WORST)))}"
        + (f" and {len(own.worst()) - WORST:,} more" if len(own.worst()) > WORST else "")
        for own in found.found
        if len(own.worst())
    ]
    lines = [found.sentence(), *(f"rows of {line}" for line in blamed)]
    lines += [own.paragraph() for own in found.faults]
    lines += [answers.joined_line(rows), *found.prediction.notes]
    absent = [own.name for own in found.findings if own.verdict == ABSENT]
    lines.append(f"looked for and not found: {', '.join(absent) or 'nothing'}")
    how = f"paired {config.level:.0%} intervals, the same folds for all; {seconds:.1f} s"
    given.show(config, [found.table(), found.answers()], lines, how)


def _beside(config: Diagnose, path: Path | None, ids: np.ndarray, missing, target):
    """A column of another file in the order of the joined rows, by id; None without the file."""
    if path is None:
        return None
    file = io.read_labels(path, id_column=config.id_column, target=target)
    column = file.labels
    names = np.arange(len(column)).astype(str) if file.ids is None else file.ids
    place = {name: row for row, name in enumerate(names.tolist())}
    at = [place.get(name) for name in ids.tolist()]
    if all(row is None for row in at):
        raise ValueError(f"{path} has none of the embedding's ids, such as {ids[:3].tolist()}")
    found = [missing if row is None else column[row] for row in at]
    return [str(value) for value in found] if missing == "" else np.asarray(found, float)

"""Answers of the verbs as tables and lines of text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernlens import io, lens, metrics, targets
from kernlens.cli.rows import Rows
from kernlens.lens.next_items import title_of
from kernlens.probes import LOG_LOSS, TITLES, Prediction
from kernlens.probes.prediction import ONE
from kernlens.show.table import Table, printable
from kernlens.types import Labels, MultiLabels

TOO_GOOD = 0.9995
"""Macro-F1 that is shown as 1.000."""


class Shown(NamedTuple):
    """What a person is shown of an answer.

    Attributes:
      tables: in the order shown.
      lines: below them.
    """

    tables: Sequence[Table]
    lines: Sequence[str]


def of_prediction(rows: Rows, found: Prediction | lens.NextItemsPrediction) -> Shown:
    """The metrics, the baselines, and what the rows were."""
    if isinstance(found, lens.NextItemsPrediction):
        lines = [found.sentence(), found.heading, printable(rows.told), *found.notes]
        return Shown([found.table()], lines)
    tables = [found.table()] if found.curve is None else [found.table(), found.curve.table()]
    return Shown(tables, [*found.others(), *of_rows(rows, found), *found.notes])


def of_comparison(rows: Rows, found: lens.Comparison | lens.NextItemsComparison) -> Shown:
    """The entries, best first, what follows, the baselines, and what the rows were."""
    if isinstance(found, lens.NextItemsComparison):
        lines = [found.sentence(), found.heading, printable(rows.told), *found.notes]
        return Shown([found.table(), found.baseline_table()], lines)
    notes = noted({entry.label: entry.prediction.notes for entry in found.entries})
    lines = [found.sentence(), *of_rows(rows, found.best.prediction), *notes]
    curve = found.best.prediction.curve
    return Shown([found.table()] if curve is None else [found.table(), curve.table()], lines)


def noted(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes of several answers, each once; those that not all have, with the names of their own.

    >>> noted({"a": ["same", "edge"], "b": ["same"]})
    ['same', 'a: edge']
    """
    said: dict[str, list[str]] = {}
    for name, own in notes.items():
        for note in own:
            said.setdefault(note, []).append(name)
    return [
        note if len(names) == len(notes) else f"{', '.join(map(printable, names))}: {note}"
        for note, names in said.items()
    ]


def of_rows(rows: Rows, prediction: Prediction) -> list[str]:
    """What the rows were, what was taken as what, and the baseline that needs no embedding.

    Args:
      rows: that were read.
      prediction: of them.
    """
    lines = [joined_line(rows), printable(rows.told)]
    if isinstance(rows.target, MultiLabels):
        return lines
    if not isinstance(rows.target, Labels):
        floor = ", ".join(
            f"{TITLES[name]} {own.null:.3g}"
            for name, own in prediction.metrics.items()
            if own.null is not None
        )
        return [*lines, f"always answering the mean: {floor}"]
    counts = np.bincount(prediction.target)
    largest = printable(prediction.names[int(np.argmax(counts))])
    floor = metrics.majority(prediction.target)
    line = (
        f"always answering '{largest}': macro-F1 {floor.macro_f1:.3f}, "
        f"accuracy {floor.accuracy:.3f}"
    )
    if prediction.metric == LOG_LOSS:
        line += f"; answering the shares of the classes: log loss {prediction.value.null:.3f}"
    lines.append(line)
    if prediction.metric != LOG_LOSS and prediction.metrics["macro_f1"].value > TOO_GOOD:
        lines.append(
            "a macro-F1 of 1.000 is suspicious: is the label, or what it was made of, among the "
            "dimensions?"
        )
    return lines


def joined_line(rows: Rows) -> str:
    """How many rows were joined, what they are asked, and which were left out."""
    assert rows.joined is not None
    joined, target = rows.joined, rows.joined.labels
    n, known = targets.num_rows(target), len(targets.labelled_rows(target))
    line = f"{n:,} rows joined{' by row number' if joined.by_row else ''}"
    if known < n:
        line += f", {n - known:,} of them without a label"
    if isinstance(target, Labels):
        line += f"; {len(np.unique(target.codes[target.codes >= 0]))} classes"
    elif isinstance(target, MultiLabels):
        line += f"; {len(target.names):,} labels, {target.membership.sum() / known:.1f} a row"
    else:
        line += f"; numbers from {np.nanmin(target):.4g} to {np.nanmax(target):.4g}"
    left = {**joined.unjoined, "the labels": joined.unjoined_labels}
    listed = _listed({name: own.ids for name, own in left.items()})
    line += f"; not joined: {listed or 'none'}"
    if any(map(len, rows.dropped.values())):
        line += f"; not finite: {_listed(rows.dropped)}"
    return printable(line)


def how(metric: str, level: float, seconds: float, *, of_classes: bool = True) -> str:
    """How the answer was made; intervals of one training are those of classes alone."""
    over, title = ONE, TITLES.get(metric)
    if title is None:
        over, title = "users", title_of(metric)
    elif not of_classes:
        over = "held-out rows, all together"
    kind = "intervals of" if over == ONE else "intervals over"
    return f"ordered by {title}; {level:.0%} {kind} {over}; {seconds:.1f} s"


def _listed(rows: dict[str, np.ndarray]) -> str:
    """How many rows of each file, and the first of them."""
    return ", ".join(
        f"{len(ids):,} of {name} ({io.some(ids, len(ids))})"
        for name, ids in rows.items()
        if len(ids)
    )

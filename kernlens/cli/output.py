"""What is printed of an answer, and written to the files that were asked for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from kernlens import io, lens
from kernlens.cli import answers
from kernlens.cli.options.given import Given
from kernlens.cli.rows import Rows
from kernlens.cli.typed import command
from kernlens.probes import Prediction
from kernlens.show import report, terminal
from kernlens.show.table import Column, Table, printable
from kernlens.targets import labelled_rows, num_rows

SAMPLE = (
    "The head read a sample of the rows; the worst rows are numbered within it, not by their ids."
)

MIN_WIDTH = 80


def show(config: Given, tables: Sequence[Table], lines: Sequence[str], how: str) -> None:
    """Prints tables and lines, to standard error where JSON has standard output."""
    console = Console(stderr=config.json == Path("-"), markup=False, highlight=False, emoji=False)
    console.width = max(console.width, MIN_WIDTH)
    for table in tables:
        console.print(table.rich(console.width))
        console.print()
    for line in (*lines, how):
        console.print(line)


def write(config: Given, rows: Rows, found: Any, content: dict[str, Any]) -> None:
    """Writes JSON, report and export, where they were asked for; standard error says what the
    export holds.

    Args:
      config: the command line.
      rows: that were read.
      found: the answer of the verb, or standings by scores.
      content: the same, as JSON has it.

    Raises:
      ValueError, OSError, ImportError: what cannot be written; says which and why.
    """
    if config.json == Path("-"):
        terminal.print_json(content)
    elif config.json is not None:
        report.write_json(config.json, content)
    judged = lens.judged(found)
    ids, more = None, []
    if judged is not None and rows.joined is not None:
        ids = rows.joined.ids[labelled_rows(rows.joined.labels)]
        if len(ids) != len(judged.prediction.target):
            ids, more = None, [SAMPLE]
    if config.html is not None:
        lines = [printable(rows.told), *map(printable, rows.warnings), *more]
        if rows.joined is not None:
            lines.insert(0, answers.joined_line(rows))
        made = lens.Provenance(lines, [_files(config, rows)], command())
        names = ", ".join(rows.values)
        lens.report(
            found, config.html, embeddings=rows.values, ids=ids, made=made,
            title=f"kernlens report: {names}",
        )  # fmt: skip
    if config.export is not None:
        if more:
            raise ValueError("--export needs an answer to each row, and the head read a sample")
        lens.export(
            found, config.export, embeddings=rows.values, ids=ids, target=rows.target
        )  # fmt: skip
        print(printable(_exported(config, rows, found)), file=sys.stderr)


def _exported(config: Given, rows: Rows, found: Any) -> str:
    """Whose predictions the export holds, and how many items have none."""
    judged = lens.judged(found)
    assert judged is not None
    assert rows.joined is not None
    who = next(iter(rows.values)) if isinstance(found, Prediction) else judged.label
    if isinstance(found, lens.Comparison) and len(found.entries) > 1:
        who += f", the best of {len(found.entries)} entries"
    n = len(judged.prediction.target)
    line = f"wrote {config.export}: {n:,} items, predictions of {who}"
    left = num_rows(rows.joined.labels) - n
    return f"{line}; {left:,} items without a label are left out" if left else line


def _files(config: Given, rows: Rows) -> Table:
    """A row for each file: what was in it, and what was left out; columns that no file fills are
    left out."""
    made = []
    for name, file in rows.files.items():
        row: dict[str, Any] = {"name": name, "file": Path(file).name, "of": "embedding"}
        values = rows.values.get(name)
        if name in rows.embeddings:
            row |= dict(zip(("rows", "d"), rows.embeddings[name].values.shape, strict=True))
        elif values is not None:
            row["d"] = values.shape[1]
        if rows.joined is not None and name in rows.joined.unjoined:
            row |= _left(rows.joined.unjoined[name].ids)
        row["not_finite"] = len(rows.dropped.get(name, ()))
        made.append(row)
    asked = config.labels or getattr(config, "interactions", None)
    row = {"name": Path(str(asked)).stem, "file": Path(str(asked)).name,
           "of": "labels" if config.labels else "events"}  # fmt: skip
    if rows.joined is not None:
        row |= _left(rows.joined.unjoined_labels.ids)
    columns = (
        Column("name"), Column("file"), Column("of", "holds"), Column("rows"),
        Column("d", "dimensions"), Column("left", "rows not joined"), Column("such", "such as"),
        Column("not_finite", "rows not finite"),
    )  # fmt: skip
    made.append(row)
    filled = [own for own in columns if any(line.get(own.key) is not None for line in made)]
    return Table(made, filled, "What was read")


def _left(ids: np.ndarray) -> dict[str, Any]:
    return {"left": len(ids), "such": io.some(ids, len(ids)) if len(ids) else None}

"""What ``--html`` and ``--export`` write: a report of the answer, and its rows."""

from pathlib import Path
from typing import Any

import numpy as np

from kernlens import io, lens
from kernlens.cli import answers
from kernlens.cli.given import Given, Rows
from kernlens.cli.typed import command
from kernlens.show.table import Column, Table, printable
from kernlens.targets import labelled_rows

SAMPLE = (
    "The head read a sample of the rows; the worst rows are numbered within it, not by their ids."
)


def write(config: Given, rows: Rows, found: Any) -> None:
    """Writes the report and the export, where they were asked for.

    Args:
      config: the command line.
      rows: that were read.
      found: the answer of the verb, or standings by scores.

    Raises:
      ValueError, OSError, ImportError: what cannot be written; says which and why.
    """
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


def _files(config: Given, rows: Rows) -> Table:
    """A row for each file: what was in it, and what was left out."""
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
    return Table([*made, row], columns, "What was read")


def _left(ids: np.ndarray) -> dict[str, Any]:
    return {"left": len(ids), "such": io.some(ids, len(ids)) if len(ids) else None}

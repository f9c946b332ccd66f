"""``kernlens diagnose``: why an embedding fails under a head, and what would help."""

import time
from pathlib import Path

import numpy as np

from kernlens import io, lens, targets
from kernlens.cli import answers, output, progress, records, words
from kernlens.cli.options.diagnose import Diagnose
from kernlens.cli.rows import Rows
from kernlens.lens.diagnosis import ABSENT

WORST = 5
"""Blamed rows of a finding that are listed."""


def diagnose(config: Diagnose, rows: Rows) -> None:
    """Diagnoses, prints the tables and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    decoder = words.decoder(config.decoder) if config.decoder else None
    values, *others = rows.values.values()
    assert rows.joined is not None
    ids = rows.joined.ids
    with progress.shown("diagnosing", rows.needs):
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
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, found, records.diagnosis(config, rows, found, seconds))
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
    tables = [table for table in (found.table(), found.answers()) if table.rows]
    if not found.found:
        lines.insert(0, found.heading())
    output.show(config, tables, lines, how)


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

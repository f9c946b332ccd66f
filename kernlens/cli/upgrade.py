"""``kernlens upgrade``: whether a deployed head serves the next version of its embedding."""

import sys
import time

import numpy as np

from kernlens import lens
from kernlens.cli import answers, gate, output, progress, records, words
from kernlens.cli.options.upgrade import Upgrade
from kernlens.cli.rows import Rows
from kernlens.show.table import printable
from kernlens.types import Labels


def upgrade(config: Upgrade, rows: Rows) -> None:
    """Judges the ways to serve, prints the table, writes JSON and map.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
      SystemExit: a gate is not passed.
    """
    gates = gate.parse(config.gate)
    decoder = words.decoder(config.decoder) if config.decoder else None
    head = words.head(config.head)
    old, new = rows.values.values()
    with progress.shown("predicting", rows.needs):
        found = lens.upgrade(
            old,
            new,
            rows.target,
            decoder=decoder,
            head=head,
            maps=config.maps,
            new_items=_new_items(rows),
            ids=None if rows.joined is None else rows.joined.ids,
            few_labels=config.few_labels,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
        )
    outcomes = gate.outcomes(gates, found)
    seconds = time.perf_counter() - rows.start
    if config.save is not None:
        found.map.save(config.save)
    output.write(config, rows, found, records.upgrade(config, rows, found, outcomes, seconds))
    floor = [found.floor_sentence()] if found.floor is not None else []
    saved = [] if config.save is None else [f"the map {found.map.name} is in {config.save}"]
    said = (found.sentence(), *floor, *found.warnings, *found.notes, *saved)
    lines = (*map(printable, said), *answers.of_rows(rows, found.before))
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    output.show(config, found.tables(), lines, how)
    for outcome in outcomes:
        print(printable(outcome.sentence()), file=sys.stderr)
    if not all(outcome.passed for outcome in outcomes):
        raise SystemExit(1)


def _new_items(rows: Rows) -> np.ndarray | None:
    """Rows that the new version alone has, where both have ids."""
    old, new = rows.embeddings.values()
    if old.ids is None or new.ids is None:
        return None
    alone = ~np.isin(new.ids, old.ids)
    return new.values[alone] if np.any(alone) else None

"""``kernlens stability``: how much answers move between pretraining runs."""

import time

from kernlens import lens
from kernlens.cli import answers, output, progress, records, words
from kernlens.cli.options.stability import Stability
from kernlens.cli.rows import Rows


def stability(config: Stability, rows: Rows) -> None:
    """Compares the runs, prints the tables and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    decoders, kernel = words.decoders(config.decoder), words.kernel(config.kernel)
    with progress.shown("predicting", rows.needs):
        found = lens.stability(
            rows.values,
            rows.target,
            decoders=decoders,
            kernel=kernel,
            probe=words.probe(config.probe),
            metric=config.metric,
            ids=None if rows.joined is None else rows.joined.ids,
            level=config.level,
            seed=config.seed,
        )
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, found, records.stability(config, rows, found, seconds))
    tables = [found.table(), found.pairs()]
    if config.shown and found.names:
        tables.append(found.classes(shown=config.shown))
    if config.shown and found.rows is not None:
        tables.append(found.items(shown=config.shown))
    lines = [found.sentence(), *found.notes, answers.joined_line(rows)]
    how = f"{config.level:.0%} intervals over {found.over}; {seconds:.1f} s"
    output.show(config, tables, lines, how)

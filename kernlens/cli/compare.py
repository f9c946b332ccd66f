"""``kernlens compare``: which embedding is best under which head."""

import time

from kernlens import lens
from kernlens.cli import answers, output, progress, records, words
from kernlens.cli.options.compare import Compare
from kernlens.cli.rows import Rows
from kernlens.scores import SCORES
from kernlens.types import Labels


def compare(config: Compare, rows: Rows) -> None:
    """Compares the embeddings, prints the table and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    decoders, kernel = words.decoders(config.decoder), words.kernel(config.kernel)
    with progress.shown("predicting", rows.needs):
        found = lens.compare(
            rows.values,
            rows.target,
            decoders=decoders,
            kernel=kernel,
            probe=words.probe(config.probe),
            metric=config.metric,
            level=config.level,
            seed=config.seed,
            curve=config.curve,
        )
        chosen = {name: SCORES[name] for name in config.scores}
        standings = ()
        if chosen:
            standings = lens.standings(rows.values, rows.target, chosen, level=config.level)
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, found, records.comparison(config, rows, found, standings, seconds))
    tables, lines = answers.of_comparison(rows, found)
    tables = [*tables, *(standing.table() for standing in standings)]
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    output.show(config, tables, lines, how)

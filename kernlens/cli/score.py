"""``kernlens score``: transferability scores of embeddings."""

import time

from kernlens import lens
from kernlens.cli import answers, output, progress, records
from kernlens.cli.options.score import Score
from kernlens.cli.rows import Rows
from kernlens.scores import SCORES
from kernlens.show.table import printable


def score(config: Score, rows: Rows) -> None:
    """Computes the scores, prints the tables and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file that cannot be used; says which and why.
    """
    with progress.shown("scoring", rows.needs):
        standings = lens.standings(
            rows.values,
            rows.target,
            {name: SCORES[name] for name in config.scores},
            level=config.level,
        )
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, standings, records.scores(config, rows, standings, seconds))
    how = f"{config.level:.0%} intervals over rows; {seconds:.1f} s"
    lines = [answers.joined_line(rows), printable(rows.told)]
    output.show(config, [own.table() for own in standings], lines, how)

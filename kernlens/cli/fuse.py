"""``kernlens fuse``: what a second embedding adds to the first."""

import time

from kernlens import lens
from kernlens.cli import answers, output, progress, records, words
from kernlens.cli.options.fuse import Fuse
from kernlens.cli.rows import Rows
from kernlens.types import Labels


def fuse(config: Fuse, rows: Rows) -> None:
    """Predicts each and all joined, prints the table and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    decoder = words.decoder(config.decoder) if config.decoder else None
    with progress.shown("predicting", rows.needs):
        found = lens.fuse(
            rows.values,
            rows.target,
            decoder=decoder,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
        )
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, found, records.fusion(config, rows, found, seconds))
    lines = [found.sentence(), *answers.of_rows(rows, found.alone[0].prediction), *found.notes]
    output.show(
        config,
        [found.table()],
        lines,
        answers.how(
            found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
        ),
    )

"""``kernlens predict``: what one embedding will reach."""

import time

from kernlens import lens
from kernlens.cli import answers, output, progress, records, words
from kernlens.cli.options.predict import Predict
from kernlens.cli.rows import Rows
from kernlens.types import Labels


def predict(config: Predict, rows: Rows) -> None:
    """Predicts, prints the metrics and writes the JSON.

    Args:
      config: the command line.
      rows: of the files.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    decoder = words.decoder(config.decoder) if config.decoder else None
    kernel = words.kernel(config.kernel)
    (values,) = rows.values.values()
    with progress.shown("predicting", rows.needs):
        found = lens.predict(
            values,
            rows.target,
            decoder=decoder,
            kernel=kernel,
            probe=words.probe(config.probe),
            metric=config.metric,
            level=config.level,
            seed=config.seed,
            curve=config.curve,
        )
    seconds = time.perf_counter() - rows.start
    output.write(config, rows, found, records.prediction(config, rows, found, seconds))
    shown = answers.of_prediction(rows, found)
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    output.show(config, *shown, how)

"""``kernlens predict``: what one embedding will reach."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, words
from kernlens.probes import METRICS, PROBES

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = tyro.extras.literal_type_from_choices(METRICS)


@dataclass(frozen=True)
class Predict(given.Read):
    """Says what a head trained on one embedding will reach on held-out rows, without training it.

    Example: kernlens predict behaviour.npy --labels departments.csv --decoder mlp:32
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar="DECODER", help=words.DECODER_HELP)] = None
    metric: MetricName = "macro_f1"
    """Metric to show first."""
    curve: bool = False
    """Add the metrics at an eighth to sixteen times the labels. Takes two to four times as long."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) > 1:
            raise ValueError("predict takes one embedding file; compare takes several")


def predict(config: Predict) -> None:
    """Reads the files, predicts, prints the metrics and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = time.perf_counter()
    decoder = words.decoder(config.decoder) if config.decoder else None
    kernel = words.kernel(config.kernel)
    rows = given.read(config)
    (values,) = rows.joined.values.values()
    with Console(file=sys.stderr).status("predicting"):
        found = lens.predict(
            values,
            rows.joined.labels,
            decoder=decoder,
            kernel=kernel,
            probe=PROBES[config.probe] if config.probe else None,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
            curve=config.curve,
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.prediction(config, rows, found, seconds))
    console = given.console(config)
    console.print(found.table().rich(console.width))
    if found.curve is not None:
        console.print(found.curve.table().rich(console.width))
    console.print()
    for line in (*found.others(), *answers.of_rows(rows, found), *found.notes):
        console.print(line)
    console.print(answers.how(found.metric, config.level, seconds))

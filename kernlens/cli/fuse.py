"""``kernlens fuse``: what a second embedding adds to the first."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, words
from kernlens.probes import METRICS

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = tyro.extras.literal_type_from_choices(METRICS)


@dataclass(frozen=True)
class Fuse(given.Given):
    """Says whether embeddings joined do better than the best of them alone, and how to join them.

    Example: kernlens fuse behaviour.npy text.parquet --labels departments.csv
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar="DECODER", help=words.DECODER_HELP)] = None
    metric: MetricName = "macro_f1"
    """Metric to rank by. Lower is better for log_loss."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) < 2:
            raise ValueError("fuse takes two embedding files or more; predict takes one")


def fuse(config: Fuse) -> None:
    """Reads the files, predicts each and all joined, prints the table and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = time.perf_counter()
    decoder = words.decoder(config.decoder) if config.decoder else None
    rows = given.read(config)
    with Console(file=sys.stderr).status("predicting"):
        found = lens.fuse(
            rows.joined.values, rows.joined.labels, decoder=decoder, metric=config.metric,
            level=config.level, seed=config.seed,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    given.write_json(config, answers.fusion(config, rows, found, seconds))
    console = given.console(config)
    console.print(found.table().rich(console.width))
    console.print()
    best = found.alone[0].prediction
    for line in (found.sentence(), *answers.of_rows(rows, best), *found.notes):
        console.print(line)
    console.print(answers.how(found.metric, config.level, seconds))

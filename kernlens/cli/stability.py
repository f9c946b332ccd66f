"""``kernlens stability``: how much answers move between pretraining runs."""

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
class Stability(given.Read):
    """Says how much a head's answers move between pretraining runs of one embedding.

    Example: kernlens stability run0.npy run1.npy run2.npy --labels departments.csv
    --decoder linear mlp:32
    """

    decoder: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="DECODER", help=words.DECODER_HELP)
    ] = ()
    metric: MetricName = "macro_f1"
    """Metric whose spread between runs is reported."""
    shown: int = 5
    """Items and classes to list, those that move most."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) < 2:
            raise ValueError(
                "stability takes at least two runs, one embedding file each: no single run says "
                "how far another would differ; three show the spread between runs"
            )
        if self.shown < 0:
            raise ValueError(f"--shown must be at least 0; got {self.shown}")


def stability(config: Stability) -> None:
    """Reads the files, compares the runs, prints the tables and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = time.perf_counter()
    decoders, kernel = words.decoders(config.decoder), words.kernel(config.kernel)
    rows = given.read(config)
    with Console(file=sys.stderr).status("predicting"):
        found = lens.stability(
            rows.joined.values, rows.joined.labels, decoders=decoders, kernel=kernel,
            probe=PROBES[config.probe] if config.probe else None, metric=config.metric,
            ids=rows.joined.ids, level=config.level, seed=config.seed,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    given.write_json(config, answers.stability(config, rows, found, seconds))
    console = given.console(config)
    tables = [found.table(), found.pairs()]
    if config.shown:
        tables += [found.classes(shown=config.shown), found.items(shown=config.shown)]
    for table in tables:
        console.print(table.rich(console.width))
        console.print()
    for line in (found.sentence(), *found.notes, answers.joined_line(rows)):
        console.print(line)
    console.print(answers.how(found.metric, config.level, seconds))

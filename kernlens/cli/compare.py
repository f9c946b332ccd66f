"""``kernlens compare``: which embedding is best under which head."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, words
from kernlens.probes import METRICS, PROBES
from kernlens.scores import SCORES

if TYPE_CHECKING:
    MetricName = str
    ScoreName = str
else:
    MetricName = tyro.extras.literal_type_from_choices(METRICS)
    ScoreName = tyro.extras.literal_type_from_choices(SCORES)


@dataclass(frozen=True)
class Compare(given.Read):
    """Says which embedding will classify best, with intervals, without training a classifier.

    Example: kernlens compare behaviour.npy text.parquet --labels departments.csv
    --decoder linear mlp:32
    """

    decoder: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="DECODER", help=words.DECODER_HELP)
    ] = ()
    metric: MetricName = "macro_f1"
    """Metric to rank by. Lower is better for log_loss, which separates embeddings whose accuracies
    tie."""
    curve: bool = False
    """Add each embedding's metrics at an eighth to sixteen times the labels, and print the best's.
    Takes two to four times as long."""
    scores: tuple[ScoreName, ...] = ()
    """Transferability scores to report next to the prediction, with intervals."""


def compare(config: Compare) -> None:
    """Reads the files, compares the embeddings, prints the table and writes the JSON.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = time.perf_counter()
    decoders, kernel = words.decoders(config.decoder), words.kernel(config.kernel)
    rows = given.read(config)
    with Console(file=sys.stderr).status("predicting"):
        found = lens.compare(
            rows.joined.values,
            rows.joined.labels,
            decoders=decoders,
            kernel=kernel,
            probe=PROBES[config.probe] if config.probe else None,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
            curve=config.curve,
        )
        chosen = {name: SCORES[name] for name in config.scores}
        standings = lens.standings(
            rows.joined.values, rows.joined.labels, chosen, level=config.level
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.comparison(config, rows, found, standings, seconds))
    console = given.console(config)
    console.print(found.table().rich(console.width))
    if found.best.prediction.curve is not None:
        console.print(found.best.prediction.curve.table().rich(console.width))
    for standing in standings:
        console.print(standing.table().rich(console.width))
    console.print()
    for line in (found.sentence(), *answers.of_rows(rows, found.best.prediction)):
        console.print(line)
    for note in dict.fromkeys(note for e in found.entries for note in e.prediction.notes):
        console.print(note)
    console.print(answers.how(found.metric, config.level, seconds))

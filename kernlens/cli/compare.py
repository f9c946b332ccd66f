"""``kernlens compare``: which embedding is best under which head."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, pages, words
from kernlens.cli.helptext import explained
from kernlens.probes import PROBES
from kernlens.scores import SCORES
from kernlens.types import Labels

if TYPE_CHECKING:
    ScoreName = str
else:
    ScoreName = tyro.extras.literal_type_from_choices(SCORES)


@explained
@dataclass(frozen=True)
class Compare(given.Read):
    """Says which embedding will classify best, with intervals, without training a classifier.

    Example: kernlens compare behaviour.npy text.parquet --labels departments.csv
    --decoder linear mlp:32

    Next items: kernlens compare behaviour.npy text.parquet --interactions events.csv --item sku
    """

    decoder: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{given.DECODER} [...]")] = ()
    """Heads that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. With several, each embedding is predicted under each."""
    curve: bool = False
    """Add each embedding's metrics at an eighth to sixteen times the labels, and print the best's.
    Takes two to four times as long."""
    scores: tuple[ScoreName, ...] = ()
    """Transferability scores to report next to the prediction, with intervals. Default: none."""


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
    with Console(file=sys.stderr).status(f"predicting ({rows.needs})"):
        found = lens.compare(
            rows.values,
            rows.target,
            decoders=decoders,
            kernel=kernel,
            probe=PROBES[config.probe] if config.probe else None,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
            curve=config.curve,
        )
        chosen = {name: SCORES[name] for name in config.scores}
        standings = ()
        if chosen:
            standings = lens.standings(rows.values, rows.target, chosen, level=config.level)
    seconds = time.perf_counter() - start
    given.write_json(config, answers.comparison(config, rows, found, standings, seconds))
    pages.write(config, rows, found)
    tables, lines = answers.of_comparison(rows, found)
    tables = [*tables, *(standing.table() for standing in standings)]
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    given.show(config, tables, lines, how)

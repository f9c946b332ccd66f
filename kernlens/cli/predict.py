"""``kernlens predict``: what one embedding will reach."""

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, pages, words
from kernlens.cli.helptext import explained
from kernlens.probes import PROBES
from kernlens.types import Labels


@explained
@dataclass(frozen=True)
class Predict(given.Read):
    """Says what a head trained on one embedding will reach on held-out rows, without training it.

    Example: kernlens predict behaviour.npy --labels departments.csv --decoder mlp:32

    Next items: kernlens predict behaviour.npy --interactions events.csv --user customer
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar=given.DECODER)] = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. Name the one that you deploy."""
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
    (values,) = rows.values.values()
    with Console(file=sys.stderr).status(f"predicting ({rows.needs})"):
        found = lens.predict(
            values,
            rows.target,
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
    pages.write(config, rows, found)
    shown = answers.of_prediction(rows, found)
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    given.show(config, *shown, how)

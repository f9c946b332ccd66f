"""``kernlens stability``: how much answers move between pretraining runs."""

import sys
import time
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, memory, pages, words
from kernlens.cli.helptext import explained
from kernlens.probes import PROBES


@explained
@dataclass(frozen=True)
class Stability(given.Read):
    """Says how much a head's answers move between pretraining runs of one embedding.

    Example: kernlens stability run0.npy run1.npy run2.npy --labels departments.csv
    --decoder linear mlp:32
    """

    decoder: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{given.DECODER} [...]")] = ()
    """Heads that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. With several, the runs are compared under each."""
    shown: int = 5
    """Items and classes to list, those that move most, an integer >= 0."""

    _work: ClassVar[memory.Work] = memory.SEVERAL

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
    with Console(file=sys.stderr).status(f"predicting ({rows.needs})"):
        found = lens.stability(
            rows.values,
            rows.target,
            decoders=decoders,
            kernel=kernel,
            probe=PROBES[config.probe] if config.probe else None,
            metric=config.metric,
            ids=None if rows.joined is None else rows.joined.ids,
            level=config.level,
            seed=config.seed,
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.stability(config, rows, found, seconds))
    pages.write(config, rows, found)
    tables = [found.table(), found.pairs()]
    if config.shown and found.names:
        tables.append(found.classes(shown=config.shown))
    if config.shown and found.rows is not None:
        tables.append(found.items(shown=config.shown))
    lines = [found.sentence(), *found.notes, answers.joined_line(rows)]
    over = "items" if len(found.runs) < 3 else "items and runs"
    given.show(config, tables, lines, f"{config.level:.0%} intervals over {over}; {seconds:.1f} s")

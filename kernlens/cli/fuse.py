"""``kernlens fuse``: what a second embedding adds to the first."""

import sys
import time
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, given, memory, pages, words
from kernlens.cli.helptext import explained
from kernlens.types import Labels


@explained
@dataclass(frozen=True)
class Fuse(given.Read):
    """Says whether embeddings joined do better than the best of them alone, and how to join them.

    Example: kernlens fuse behaviour.npy text.parquet --labels departments.csv
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar=given.DECODER)] = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head."""

    _work: ClassVar[memory.Work] = memory.SEVERAL

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) < 2:
            raise ValueError("fuse takes two embedding files or more; predict takes one")
        for name in ("kernel", "probe"):
            if getattr(self, name) is not None:
                raise ValueError(f"fuse reads joins as a decoder does; it takes no --{name}")


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
    with Console(file=sys.stderr).status(f"predicting ({rows.needs})"):
        found = lens.fuse(
            rows.values,
            rows.target,
            decoder=decoder,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
        )
    seconds = time.perf_counter() - start
    given.write_json(config, answers.fusion(config, rows, found, seconds))
    pages.write(config, rows, found)
    lines = [found.sentence(), *answers.of_rows(rows, found.alone[0].prediction), *found.notes]
    given.show(
        config,
        [found.table()],
        lines,
        answers.how(
            found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
        ),
    )

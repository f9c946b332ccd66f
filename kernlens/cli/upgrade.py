"""``kernlens upgrade``: whether a deployed head serves the next version of its embedding."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import tyro
from rich.console import Console

from kernlens import lens
from kernlens.cli import answers, gate, given, memory, pages, words
from kernlens.cli.helptext import choices, explained
from kernlens.files import check_writable, optional
from kernlens.lens.maps import MAPS
from kernlens.lens.upgrade import FEW_LABELS
from kernlens.show.table import printable
from kernlens.types import Labels

if TYPE_CHECKING:
    MapName = str
else:
    MapName = tyro.extras.literal_type_from_choices(MAPS)


@explained
@dataclass(frozen=True)
class Upgrade(given.Given):
    """Says whether a head of the old version serves the new one, mapped, distilled or retrained.

    Example: kernlens upgrade old.parquet new.parquet --labels departments.csv
    --gate "negative_flips<0.03" --save map.safetensors
    """

    decoder: Annotated[str | None, tyro.conf.arg(metavar=given.DECODER)] = None
    """Head that is deployed, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head."""
    head: Annotated[str | None, tyro.conf.arg(metavar="MODULE:NAME")] = None
    """The deployed head itself: a fitted scikit-learn model, or a function of rows that gives
    logits or numbers. Default: the head of --decoder is predicted."""
    maps: Annotated[tuple[MapName, ...], tyro.conf.arg(metavar=f"{choices(*MAPS)} [...]")] = tuple(
        MAPS
    )
    """Maps of the new version into the old one to try; they need no labels."""
    few_labels: int = FEW_LABELS
    """Labels on the new version that the mapped head is corrected by, an integer >= 1."""
    target: given.TargetName = None
    """What a label is: one class, or a number (regression). Default: found from the column; one
    that may be two things is refused until you say which."""
    metric: given.MetricName = None
    """Metric to choose a way by. Default: macro_f1 of classes, r2 of numbers."""
    gate: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GATE [...]")] = ()
    """Conditions on the advised way, such as "negative_flips<0.03"; the exit code is 1 where one is
    not passed. A way may be named, as in "rotation.macro_f1>0.3". Set it in a pipeline."""
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the map, the advised or else the best, as .safetensors."""

    _work: ClassVar[memory.Work] = memory.SEVERAL

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) != 2:
            raise ValueError(
                f"upgrade takes two embedding files, old and new; got {len(self.embeddings)}"
            )
        gate.parse(self.gate)
        if self.save is not None:
            if self.save.suffix != ".safetensors":
                raise ValueError(f"--save {self.save}: a map is saved as .safetensors")
            if not self.maps:
                raise ValueError("--save writes a map; expected --maps to name one")


def upgrade(config: Upgrade) -> None:
    """Reads the files, judges the ways to serve, prints the table, writes JSON and map.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
      SystemExit: a gate is not passed.
    """
    start = time.perf_counter()
    if config.save is not None:
        check_writable(config.save)
        optional("safetensors", extra="text")
    gates = gate.parse(config.gate)
    decoder = words.decoder(config.decoder) if config.decoder else None
    head = words.head(config.head)
    rows = given.read(config)
    old, new = rows.values.values()
    with Console(file=sys.stderr).status(f"predicting ({rows.needs})"):
        found = lens.upgrade(
            old,
            new,
            rows.target,
            decoder=decoder,
            head=head,
            maps=config.maps,
            new_items=_new_items(rows),
            ids=None if rows.joined is None else rows.joined.ids,
            few_labels=config.few_labels,
            metric=config.metric,
            level=config.level,
            seed=config.seed,
        )
    outcomes = gate.outcomes(gates, found)
    seconds = time.perf_counter() - start
    if config.save is not None:
        found.map.save(config.save)
    given.write_json(config, answers.upgrade(config, rows, found, outcomes, seconds))
    pages.write(config, rows, found)
    floor = [found.floor_sentence()] if found.floor is not None else []
    saved = [] if config.save is None else [f"the {found.map.name} is in {config.save}"]
    said = (found.sentence(), *floor, *found.warnings, *found.notes, *saved)
    lines = (*map(printable, said), *answers.of_rows(rows, found.before))
    how = answers.how(
        found.metric, config.level, seconds, of_classes=isinstance(rows.target, Labels)
    )
    given.show(config, found.tables(), lines, how)
    for outcome in outcomes:
        print(printable(outcome.sentence()), file=sys.stderr)
    if not all(outcome.passed for outcome in outcomes):
        raise SystemExit(1)


def _new_items(rows: given.Rows) -> np.ndarray | None:
    """Rows that the new version alone has, where both have ids."""
    old, new = rows.embeddings.values()
    if old.ids is None or new.ids is None:
        return None
    alone = ~np.isin(new.ids, old.ids)
    return new.values[alone] if np.any(alone) else None

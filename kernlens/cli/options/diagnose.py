"""Options of ``kernlens diagnose``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from kernlens.cli import memory
from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoder, File, MetricName, TargetName
from kernlens.types import Target


@explained
@dataclass(frozen=True)
class Diagnose(given.Given):
    """Says what is wrong with an embedding under a head, and what each remedy would gain.

    Example: kernlens diagnose behaviour.npy --labels departments.csv --decoder mlp:32
    """

    decoder: Decoder = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. Name the one that you deploy."""
    metric: MetricName = None
    """Metric that decides. Default: macro_f1 of classes and labels, r2 of numbers."""
    target: TargetName = None
    """What a label is: one class, a number (regression), or several labels in one row. Default:
    found from the column; one that may be two things is refused until you say which."""
    separator: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Text between several labels in one cell, such as `|` in `Action|Comedy`."""
    counts: File = None
    """How often each item was met: .csv or .parquet with an id and a count column. Set it to look
    for starved items and for popularity in the lengths of rows."""
    reference: File = None
    """Another embedding file of the same items, such as the last version. Set it to separate wrong
    labels from rows joined wrongly, and to see drift."""
    text: File = None
    """Texts of the items: .csv or .parquet with an id and a text column. Set it to separate wrong
    labels from wrong rows."""
    curve: bool = True
    """Forecast what four times the labels would gain. Turn it off to save two to four
    predictions."""

    _work: ClassVar[memory.Work] = memory.SEVERAL
    _beside: ClassVar[tuple[str, ...]] = ("counts", "text")

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) > 1:
            raise ValueError("diagnose takes one embedding file; --reference takes another")
        if self.reference is not None and self.reference in self.embeddings:
            raise ValueError("--reference is the embedding file itself")
        if self.separator is not None and self.target not in (None, "labels"):
            raise ValueError(f"--separator splits labels; got --target {self.target}")

    def most_rows(self, dims: Sequence[int], target: Target) -> float:
        """Labelled rows up to which the verb's heads read all."""
        from kernlens.lens.diagnose import MAX_ROWS  # imports JAX

        return min(super().most_rows(dims, target), MAX_ROWS)

    def read_together(self) -> tuple[Path, ...]:
        """The embedding file, and the reference where there is one."""
        return (*self.embeddings, *(() if self.reference is None else (self.reference,)))

"""Options of ``kernlens upgrade``."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from kernlens.cli import gate, memory
from kernlens.cli.helptext import choices, explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoder, File, MapName, MetricName, TargetName
from kernlens.cli.words import MAPS
from kernlens.files import check_writable, optional


@explained
@dataclass(frozen=True)
class Upgrade(given.Given):
    """Says whether a head of the old version serves the new one, mapped, distilled or retrained.

    Example: kernlens upgrade old.parquet new.parquet --labels departments.csv
    --gate "negative_flips<0.03" --save map.safetensors
    """

    decoder: Decoder = None
    """Head that is deployed, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head."""
    head: Annotated[str | None, tyro.conf.arg(metavar="MODULE:NAME")] = None
    """The deployed head itself: a fitted scikit-learn model, or a function of rows that gives
    logits or numbers. Default: the head of --decoder is predicted."""
    maps: Annotated[tuple[MapName, ...], tyro.conf.arg(metavar=f"{choices(*MAPS)} [...]")] = tuple(
        MAPS
    )
    """Maps of the new version into the old one to try; they need no labels."""
    few_labels: int = 200
    """Labels on the new version that the mapped head is corrected by, an integer >= 1."""
    target: TargetName = None
    """What a label is: one class, or a number (regression). Default: found from the column; one
    that may be two things is refused until you say which."""
    metric: MetricName = None
    """Metric to choose a way by. Default: macro_f1 of classes, r2 of numbers."""
    gate: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GATE [...]")] = ()
    """Conditions on the advised way, such as "negative_flips<0.03"; the exit code is 1 where one is
    not passed. A way may be named, as in "rotation.macro_f1>0.3". Set it in a pipeline."""
    save: File = None
    """Write the map, the advised or else the best, as .safetensors; needs the extra text."""

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

    def check(self) -> None:
        """Refuses a map that cannot be written, besides what all verbs refuse."""
        if self.save is not None:
            check_writable(self.save)
            optional("safetensors", extra="text")
        super().check()

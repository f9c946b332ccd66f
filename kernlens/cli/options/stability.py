"""Options of ``kernlens stability``."""

from dataclasses import dataclass
from typing import ClassVar

from kernlens.cli import memory
from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoders, check_least


@explained
@dataclass(frozen=True)
class Stability(given.Read):
    """Says how much a head's answers move between pretraining runs of one embedding.

    Example: kernlens stability run0.npy run1.npy run2.npy --labels departments.csv
    --decoder linear mlp:32
    """

    decoder: Decoders = ()
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
        check_least(self, shown=0)

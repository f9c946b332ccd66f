"""Options of ``kernlens fuse``."""

from dataclasses import dataclass
from typing import ClassVar

from kernlens.cli import memory
from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoder


@explained
@dataclass(frozen=True)
class Fuse(given.Read):
    """Says whether embeddings joined do better than the best of them alone, and how to join them.

    Example: kernlens fuse behaviour.npy text.parquet --labels departments.csv
    """

    decoder: Decoder = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head."""

    _work: ClassVar[memory.Work] = memory.SEVERAL._replace(joins=True)

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) < 2:
            raise ValueError("fuse takes two embedding files or more; predict takes one")
        for name in ("kernel", "probe"):
            if getattr(self, name) is not None:
                raise ValueError(f"fuse reads joins as a decoder does; it takes no --{name}")

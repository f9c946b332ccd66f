"""Options of ``kernlens predict``."""

from dataclasses import dataclass

from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoder


@explained
@dataclass(frozen=True)
class Predict(given.Read):
    """Says what a head trained on one embedding will reach on held-out rows, with intervals.

    Example: kernlens predict behaviour.npy --labels departments.csv --decoder mlp:32

    Next items: kernlens predict behaviour.npy --interactions events.csv --user customer
    """

    decoder: Decoder = None
    """Head that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. Name the one that you deploy."""
    curve: bool = False
    """Add the metrics at an eighth to sixteen times the labels. Takes two to four times as long."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.embeddings) > 1:
            raise ValueError("predict takes one embedding file; compare takes several")

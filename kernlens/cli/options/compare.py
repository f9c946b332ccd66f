"""Options of ``kernlens compare``."""

from dataclasses import dataclass

from kernlens.cli.helptext import explained
from kernlens.cli.options import given
from kernlens.cli.options.kinds import Decoders, ScoreName


@explained
@dataclass(frozen=True)
class Compare(given.Read):
    """Says which embedding will do best, under one head or several, with intervals.

    Example: kernlens compare behaviour.npy text.parquet --labels departments.csv
    --decoder linear mlp:32

    Next items: kernlens compare behaviour.npy text.parquet --interactions events.csv --item sku
    """

    decoder: Decoders = ()
    """Heads that will be trained, a size after a colon as in mlp:32, or from a module of your own.
    Default: a linear head. With several, each embedding is predicted under each."""
    curve: bool = False
    """Add each embedding's metrics at an eighth to sixteen times the labels, and print the best's.
    Takes two to four times as long."""
    scores: tuple[ScoreName, ...] = ()
    """Transferability scores to report next to the prediction, with intervals. Default: none."""

"""Options of ``kernlens embed``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kernlens import datasets
from kernlens.cli import memory, progress
from kernlens.cli.helptext import explained
from kernlens.cli.options.kinds import MethodName, Name, UnitName, check_least
from kernlens.files import check_apart, check_writable
from kernlens.types import Interactions


@explained
@dataclass(frozen=True)
class Embed:
    """Learns an embedding of items from who met which item, and writes it as Parquet.

    Example: kernlens embed events.csv --user customer --item sku --time bought_at
    --out items.parquet
    """

    events: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Events, one a row: .parquet, .csv, .tsv or .jsonl (text also as .gz), or a folder of them."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("embedding.parquet")
    """Parquet file to write: the id of each item and its vector."""
    user: Name = None
    """Column of users. Default: user_id or another usual name."""
    item: Name = None
    """Column of items. Default: item_id, sku, asin or another usual name."""
    time: Name = None
    """Column of times: dates, their ISO text, or numbers since 1970. Default: timestamp or another
    usual name."""
    session: Name = None
    """Column of sessions, such as baskets. Default: session_id or another usual name; without one,
    a user's whole history is one session."""
    order: Literal["time", "stored", "random"] | None = None
    """Order inside a session. Default: by time. Without a time column, say whether the rows stand
    in the order in which they happened."""
    time_unit: UnitName = "auto"
    """Unit of times that are numbers. Default: by their size."""
    keep_repeats: bool = False
    """Keep rows that repeat another one's user, item, session and time."""
    min_count: int = 5
    """Fewest events of an item that gets a vector."""
    method: MethodName = "ppmi"
    """ppmi decomposes counts of items that share a session; item2vec trains on items that stand
    close to each other, which needs an order."""
    dim: int = 32
    """Dimensions of the embedding."""
    window: int = 5
    """Neighbours to either side, for item2vec."""
    epochs: int = 5
    """Passes over the events, for item2vec."""
    seed: int = 0
    """Random seed, an integer >= 0."""
    max_memory: memory.Size = None
    """Most memory to take, such as 2GB or 500MB; what needs more is refused before it starts.
    Default: what is free."""
    cache: bool = True
    """Keep compiled programs for the next run, in KERNLENS_CACHE or the user's cache folder."""

    def __post_init__(self):
        check_least(self, min_count=1, dim=1, window=1, epochs=1, seed=0)
        memory.parse(self.max_memory)
        if self.out.suffix.lower() != ".parquet":
            raise ValueError(f"--out must end in .parquet; got {self.out}")

    def check(self) -> None:
        """Refuses what cannot be written or is not there, before anything is read."""
        check_apart({"--out": self.out}, [self.events])
        check_writable(self.out)
        if not self.events.exists():
            raise FileNotFoundError(f"{self.events}: no such file")

    def read(self) -> Interactions:
        """Reads the events."""
        base = memory.HOST if self.method == "ppmi" else memory.BASE
        needs = memory.check(memory.of_files(self.events, base), self.max_memory)
        with progress.shown("reading", needs):
            return datasets.load(
                "table",
                self.events,
                user=self.user,
                item=self.item,
                time=self.time,
                session=self.session,
                order=self.order,
                time_unit=self.time_unit,
                duplicates="keep" if self.keep_repeats else "drop",
                min_count=self.min_count,
                seed=self.seed,
            )

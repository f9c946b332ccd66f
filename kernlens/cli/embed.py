"""``kernlens embed``: item embeddings from a log of interactions."""

import sys
import time as clock
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from kernlens import datasets, files
from kernlens.cli import memory
from kernlens.cli.helptext import explained
from kernlens.io.event_times import UNITS
from kernlens.show.table import printable
from kernlens.types import Interactions

METHODS = ("ppmi", "item2vec")

if TYPE_CHECKING:
    MethodName = str
    UnitName = str
else:
    MethodName = tyro.extras.literal_type_from_choices(METHODS)
    UnitName = tyro.extras.literal_type_from_choices(("auto", *UNITS))

Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]


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
        for name, least in (
            ("min_count", 1),
            ("dim", 1),
            ("window", 1),
            ("epochs", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least {least}; got {getattr(self, name)}")
        memory.parse(self.max_memory)
        if self.out.suffix.lower() != ".parquet":
            raise ValueError(f"--out must end in .parquet; got {self.out}")


def embed(config: Embed) -> None:
    """Reads the events, learns the embedding, writes it and says what was read.

    Args:
      config: the command line.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = clock.perf_counter()
    files.check_writable(config.out)
    needs = memory.check(memory.of_files(config.events), config.max_memory)
    with Console(file=sys.stderr).status(f"reading ({needs})"):
        data = datasets.load(
            "table",
            config.events,
            user=config.user,
            item=config.item,
            time=config.time,
            session=config.session,
            order=config.order,
            time_unit=config.time_unit,
            duplicates="keep" if config.keep_repeats else "drop",
            min_count=config.min_count,
            seed=config.seed,
        )
    with Console(file=sys.stderr).status("learning"):
        vectors = _learn(data, config)
    files.write_atomically(config.out, _parquet(data.item_keys, vectors))
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(
        f"{len(data.items):,} events of {data.num_users:,} users in {data.num_sessions:,} "
        f"sessions; {data.num_items:,} items"
    )
    left = {name: count for name, count in data.notes.items() if count and name != "rows_read"}
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left.items())
    console.print(f"{data.notes['rows_read']:,} rows read; {told or 'none left out'}")
    lonely = int(np.sum(~vectors.any(axis=1)))
    if lonely:
        console.print(f"{lonely:,} items meet no other and have a vector of zeros")
    console.print(
        f"wrote {printable(str(config.out))}: {len(vectors):,} x {vectors.shape[1]}, "
        f"{config.method}; {clock.perf_counter() - start:.1f} s"
    )


def _learn(data: Interactions, config: Embed) -> np.ndarray:
    """Vectors of all items, float32 ``[num_items, dim]``."""
    if config.method == "ppmi":
        from kernlens.train.cooccurrence import ppmi_svd

        return ppmi_svd(data, dim=config.dim).embeddings
    from kernlens.train import pretrain

    if config.order == "random":
        raise ValueError("item2vec learns from the order of events; expected --method ppmi")
    fitted = pretrain.contrastive(
        data, window=config.window, dim=config.dim, epochs=config.epochs, seeds=[config.seed]
    )
    return np.asarray(fitted.embeddings[0])


def _parquet(keys: np.ndarray, vectors: np.ndarray) -> bytes:
    """A table of ids and vectors, as the bytes of a Parquet file."""
    arrow: Any = files.optional("pyarrow")
    parquet: Any = files.optional("pyarrow.parquet")
    flat = arrow.array(np.ascontiguousarray(vectors).reshape(-1))
    lists = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table({"id": arrow.array(keys.tolist()), "vector": lists}), sink)
    return sink.getvalue().to_pybytes()

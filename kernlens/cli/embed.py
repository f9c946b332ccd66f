"""``kernlens embed``: item embeddings from a log of interactions."""

import time as clock
from typing import Any

import numpy as np
from rich.console import Console

from kernlens import files
from kernlens.cli import progress
from kernlens.cli.options.embed import Embed
from kernlens.show import steps
from kernlens.show.table import printable
from kernlens.types import Interactions


def embed(config: Embed, data: Interactions) -> None:
    """Learns the embedding, writes it and says what was read.

    Args:
      config: the command line.
      data: the events.

    Raises:
      ValueError, OSError, ImportError: a file or an option that cannot be used; says which and why.
    """
    start = clock.perf_counter()
    with progress.shown("learning"):
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
        data,
        window=config.window,
        dim=config.dim,
        epochs=config.epochs,
        seeds=[config.seed],
        on_round=lambda progress: steps.at("", progress.done, progress.rounds),
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

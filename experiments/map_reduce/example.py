"""Moments as map-reduce: partitions of Parquet files to Moments on an engine that is there already.

    python -m experiments.map_reduce

Moments are a commutative monoid, so an engine that maps partitions and folds the results computes
them over any number of machines, in any order. What travels is bytes of safetensors: no rows, and
no pickled code. Here the engine is Ray Data (``pip install "ray[data]"``); with Spark the same map
goes to ``mapInArrow``::

    def to_moments(batches):                      # an iterator of Arrow record batches, on a worker
        for batch in batches:
            yield pyarrow.RecordBatch.from_arrays([pyarrow.array([encoded(batch, 3)])], ["moments"])

    parts = spark.read.parquet(path).mapInArrow(to_moments, "moments binary")
    total = merged(row.moments for row in parts.toLocalIterator())

The Spark lines are not run by the tests, which do not install PySpark. They yield one Moments a
record batch, as Ray does; ``spark.sql.execution.arrow.maxRecordsPerBatch`` sets its rows.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files, io, moments, scores
from kernlens.moments import Moments


@dataclass(frozen=True)
class Config:
    """What is computed.

    Attributes:
      rows: in all files.
      dim: of the embedding.
      num_classes: classes of the labels.
      partitions: files.
      batch_rows: rows that become one Moments.
      cpus: that Ray may use.
      seed: of the data.
    """

    rows: int = 200_000
    dim: int = 64
    num_classes: int = 10
    partitions: int = 8
    batch_rows: int = 16_384
    cpus: int = 2
    seed: int = 0


TINY = Config(rows=300, dim=4, num_classes=3, partitions=3, batch_rows=64)


def encoded(batch: Any, num_classes: int) -> bytes:
    """Map: Moments of an Arrow batch with columns ``embedding`` and ``label``, as bytes."""
    column = batch.column("embedding")
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
    codes = batch.column("label").to_numpy().astype(np.int32)
    found = moments.from_stream([values], codes, num_classes, rows=2048)
    return io.arrays_to_bytes(found, fingerprint="rows of a partition")


def merged(parts: Iterable[bytes]) -> Moments:
    """Reduce: Moments of all parts; one at a time is in memory."""
    return reduce(moments.merge, (io.arrays_from_bytes(part, Moments)[0] for part in parts))


def with_ray(folder: Path, num_classes: int, *, batch_rows: int, cpus: int = 2) -> Moments:
    """Moments of a folder of Parquet files by Ray Data.

    Args:
      folder: holds files with columns ``embedding`` (lists of one length) and ``label``.
      num_classes: number of classes.
      batch_rows: rows that become one Moments.
      cpus: that Ray may use, where it is not running yet.

    Returns:
      Moments.

    Raises:
      ImportError: Ray is not installed; names the extra.
    """
    data = files.optional("ray.data", extra="dev")
    ray = files.optional("ray", extra="dev")
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        parts = data.read_parquet(str(folder)).map_batches(
            partial(_map_batch, num_classes=num_classes),
            batch_format="pyarrow",
            batch_size=batch_rows,
        )
        return merged(row["moments"] for row in parts.iter_rows())
    finally:
        if started:
            ray.shutdown()


def run(config: Config, folder: Path) -> dict[str, float]:
    """Writes partitions, merges their Moments by Ray, and sets them beside one pass.

    Args:
      config: what is computed.
      folder: for the files.

    Returns:
      Rows, H-score, and the largest difference of the scatter from that of one pass, over its
      largest entry.
    """
    pyarrow, parquet = files.optional("pyarrow"), files.optional("pyarrow.parquet")
    rng = np.random.default_rng(config.seed)
    codes = rng.integers(0, config.num_classes, config.rows).astype(np.int32)
    centres = rng.standard_normal((config.num_classes, config.dim))
    x = (centres[codes] + rng.standard_normal((config.rows, config.dim))).astype(np.float32)
    for part in range(config.partitions):
        own = slice(part, None, config.partitions)
        column = pyarrow.FixedSizeListArray.from_arrays(x[own].ravel(), config.dim)
        table = pyarrow.table({"embedding": column, "label": codes[own]})
        parquet.write_table(table, folder / f"part-{part}.parquet")
    found = with_ray(folder, config.num_classes, batch_rows=config.batch_rows, cpus=config.cpus)
    once = moments.from_arrays(x, codes, config.num_classes)
    difference = np.abs(np.asarray(found.scatter) - once.scatter).max()
    return {
        "rows": float(found.count),
        "h_score": float(scores.h_score(found).value),
        "difference": float(difference / np.abs(once.scatter).max()),
    }


def _map_batch(batch: Any, num_classes: int) -> dict[str, list[bytes]]:
    return {"moments": [encoded(batch, num_classes)]}


def main() -> None:
    """Runs the example."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as folder:
        print(run(Config(), Path(folder)))

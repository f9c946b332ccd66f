"""A small whole file of every format that is read."""

import gzip
from collections.abc import Callable
from pathlib import Path

import gensim
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import safetensors.numpy as safetensors

N, DIM = 60, 4
RNG = np.random.default_rng(1)
X = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
IDS = np.arange(N)
WIDE = pd.DataFrame(X, columns=[f"d{i}" for i in range(DIM)]).assign(item_id=IDS)
LISTS = pa.table({"id": [f"w{i}" for i in IDS], "v": list(X)})
WORDS = [f"{i} " + " ".join(f"{value:.5f}" for value in row) + "\n" for i, row in enumerate(X)]
LABELS = pd.DataFrame({"id": IDS, "label": [f"c{i % 3}" for i in IDS]})


def _npz(path: Path, save: Callable) -> None:
    save(path, emb=X, ids=IDS)


def _hdf5(path: Path, **options) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("emb", data=X, **options)
        file["ids"] = [f"w{i}" for i in IDS]


def _stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, LISTS.schema) as writer:
        writer.write_table(LISTS, 20)


def _keyed(path: Path) -> None:
    found = gensim.models.KeyedVectors(DIM)
    found.add_vectors([str(i) for i in IDS], X)
    found.save(str(path))


def _packed(path: Path, content: str) -> None:
    path.write_bytes(gzip.compress(content.encode(), mtime=0))


def _text(separator: str, head: str) -> str:
    return head + "\n" + "".join(word.replace(" ", separator) for word in WORDS)


_CSV = _text(",", "id,d0,d1,d2,d3")
_ITEM = "item_id:token\tv:float_seq\n" + "".join(word.replace(" ", "\t", 1) for word in WORDS)
_BINARY = b"".join(f"{i} ".encode() + row.tobytes() + b"\n" for i, row in enumerate(X))

EMBEDDINGS: dict[str, Callable[[Path], object]] = {
    "rows.npy": lambda path: np.save(path, X),
    "columns.npy": lambda path: np.save(path, np.asfortranarray(X)),
    "plain.npz": lambda path: _npz(path, np.savez),
    "packed.npz": lambda path: _npz(path, np.savez_compressed),
    "wide.parquet": lambda path: WIDE.to_parquet(path),
    "lists.parquet": lambda path: pq.write_table(LISTS, path, row_group_size=20),
    "file.arrow": lambda path: feather.write_feather(LISTS, str(path), "uncompressed"),
    "stream.arrow": _stream,
    "packed.feather": lambda path: feather.write_feather(LISTS, str(path), "lz4"),
    "zstd.feather": lambda path: feather.write_feather(
        pa.Table.from_pandas(WIDE), str(path), "zstd"
    ),
    "a.safetensors": lambda path: safetensors.save_file({"emb": X, "ids": IDS}, path),
    "plain.h5": _hdf5,
    "packed.h5": lambda path: _hdf5(path, chunks=(20, DIM), compression="gzip"),
    "a.csv": lambda path: path.write_text(_CSV),
    "a.csv.gz": lambda path: _packed(path, _CSV),
    "a.item": lambda path: path.write_text(_ITEM),
    "glove.txt": lambda path: path.write_text("".join(WORDS)),
    "a.vec": lambda path: path.write_text(f"{N} {DIM}\n" + "".join(WORDS)),
    "a.vec.gz": lambda path: _packed(path, f"{N} {DIM}\n" + "".join(WORDS)),
    "a.bin": lambda path: path.write_bytes(f"{N} {DIM}\n".encode() + _BINARY),
    "a.kv": _keyed,
}
"""What writes an embedding file, by its name."""

EVENTS = pd.DataFrame(
    {
        "user_id": RNG.integers(0, 6, 120),
        "item_id": [f"p{i}" for i in RNG.integers(0, 9, 120)],
        "timestamp": pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(120), unit="h"),
    }
)
_LINES = "".join(
    f'{{"user_id": {user}, "item_id": "{item}", "timestamp": {1.7e9 + row}}}\n'
    for row, (user, item, _) in enumerate(EVENTS.itertuples(index=False))
)
EVENT_FILES: dict[str, Callable[[Path], object]] = {
    "events.parquet": lambda path: EVENTS.to_parquet(path),
    "events.csv": lambda path: EVENTS.to_csv(path, index=False),
    "events.csv.gz": lambda path: _packed(path, EVENTS.to_csv(index=False)),
    "events.jsonl": lambda path: path.write_text(_LINES),
}
"""What writes a log of events, by its name."""

LABEL_FILES: dict[str, Callable[[Path], object]] = {
    "labels.csv": lambda path: LABELS.to_csv(path, index=False),
    "labels.csv.gz": lambda path: _packed(path, LABELS.to_csv(index=False)),
    "labels.parquet": lambda path: LABELS.to_parquet(path),
}
"""What writes a label file, by its name."""

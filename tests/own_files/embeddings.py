"""Embedding files: which columns are dimensions, which rows belong to which ids."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.own_files.case import (
    CODES,
    COLUMNS,
    DIM,
    NAMES,
    ORDER,
    REFUSED,
    ROWS,
    Case,
    N,
    labels,
    same,
    wide,
)


def written(frame: pd.DataFrame, **options):
    """Writes a table, and the labels."""

    def make(folder: Path) -> None:
        frame.to_parquet(folder / "emb.parquet", **options)
        labels(folder / "labels.csv")

    return make


def _by_one(folder: Path) -> None:
    index = pd.RangeIndex(1, N + 1, name="item_id")
    pd.DataFrame(ROWS, columns=COLUMNS, index=index).to_parquet(folder / "emb.parquet")
    labels(folder / "labels.csv", range(1, N), NAMES[:-1])


def _a_part(folder: Path) -> None:
    pd.DataFrame(ROWS, columns=COLUMNS).iloc[100:].to_parquet(folder / "emb.parquet")
    labels(folder / "labels.csv", range(100, 500), NAMES[100:500])


def _item_ids(folder: Path) -> None:
    np.savez(folder / "emb.npz", emb=ROWS[ORDER], item_ids=ORDER)
    labels(folder / "labels.csv")


def _shards(folder: Path) -> None:
    (folder / "shards").mkdir(exist_ok=True)
    for i in range(12):
        np.save(folder / "shards" / f"part-{i}.npy", ROWS[50 * i : 50 * i + 50])
    (folder / "labels.csv").write_text("label\n" + "".join(f"{name}\n" for name in NAMES))


def _empty_shards(folder: Path) -> None:
    where = folder / "spark"
    where.mkdir(exist_ok=True)
    for i, rows in enumerate((range(0, 0), range(0, 400), range(400, N))):
        wide().iloc[list(rows)].to_parquet(where / f"part-0000{i}.snappy.parquet", index=False)
    for name in ("_SUCCESS", "README.md", "stats.json", ".part-00001.snappy.parquet.crc"):
        (where / name).write_text("x")
    labels(folder / "labels.csv")


def _hive(folder: Path) -> None:
    for code in range(4):
        where = folder / "hive" / f"code={code}"
        where.mkdir(parents=True, exist_ok=True)
        wide()[code == CODES].to_parquet(where / "part-0.parquet", index=False)
    labels(folder / "labels.csv")


def _ids_on_one_side(folder: Path) -> None:
    wide().iloc[ORDER].to_parquet(folder / "emb.parquet", index=False)
    (folder / "labels.csv").write_text("label\n" + "".join(f"{name}\n" for name in NAMES))


def word2vec(words):
    """Writes vectors in word2vec's binary form, as gensim does, and the labels of the words."""

    def make(folder: Path) -> None:
        packed = [w.encode() + b" " + row.tobytes() for w, row in zip(words, ROWS, strict=True)]
        (folder / "emb.bin").write_bytes(f"{N} {DIM}\n".encode() + b"".join(packed))
        labels(folder / "labels.csv", words)

    return make


def _virtual(folder: Path) -> None:
    with h5py.File(folder / "emb.h5", "w") as file:
        layout = h5py.VirtualLayout((N, DIM), "f4")
        layout[: N // 2] = h5py.VirtualSource("absent.h5", "emb", (N // 2, DIM))
        file.create_virtual_dataset("emb", layout)
    labels(folder / "labels.csv")


def _unwritten(folder: Path) -> None:
    with h5py.File(folder / "emb.h5", "w") as file:
        emb = file.create_dataset("emb", (N, DIM), "f4", chunks=(100, DIM))
        emb[: N // 2] = ROWS[: N // 2]
    labels(folder / "labels.csv")


def _external(folder: Path) -> None:
    (folder / "secret").write_bytes(b"root:x:0:0:private words of another file" * 40)
    with h5py.File(folder / "emb.h5", "w") as file:
        file["emb"] = ROWS
        file.create_dataset("id", (N,), "S2", external=[(str(folder / "secret"), 0, 2 * N)])
    labels(folder / "labels.csv")


def _linked(folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as file:
        file["emb"] = ROWS
    with h5py.File(folder / "emb.h5", "w") as file:
        file["emb"] = ROWS
        file["id"] = h5py.ExternalLink("other.h5", "emb")
    labels(folder / "labels.csv")


def _copies(folder: Path) -> None:
    np.save(folder / "emb.npy", np.tile(ROWS, (5, 1)))
    labels(folder / "labels.csv", range(5 * N), np.tile(NAMES, 5))


def _glove(folder: Path) -> None:
    lines = [f"{i} " + " ".join(map(repr, row.tolist())) for i, row in enumerate(ROWS)]
    (folder / "emb.txt").write_text("\n".join(lines) + "\n")
    labels(folder / "labels.csv")


def _csv(folder: Path) -> None:
    wide(shelf=CODES).to_csv(folder / "emb.csv", index=False)
    labels(folder / "labels.csv")


def two_lists(**columns):
    """Writes list columns, and the labels."""

    def make(folder: Path) -> None:
        noise = np.random.default_rng(5).standard_normal((N, DIM)).astype("f4")
        table = pa.table({"sku": ORDER, "v1": list(ROWS[ORDER]), "v2": list(noise), **columns})
        pq.write_table(table, folder / "emb.parquet")
        labels(folder / "labels.csv")

    return make


IN_ONE = wide(label=CODES)
BOTH = "emb.parquet --labels emb.parquet"
PLAIN = "emb.parquet --labels labels.csv"
SHUFFLED = wide().iloc[ORDER]
FLOAT_IDS = wide().rename(columns={"id": "item_id"}).astype({"item_id": float}).iloc[ORDER]
WORDS = [f"w{i}" for i in range(N)]
TAKEN = "8 dimensions d0..d7"

CASES: tuple[Case, ...] = (
    Case("a table of both: the label is a dimension", written(IN_ONE, index=False), BOTH,
         1.000, same, f"id id · {TAKEN} (left out: label) · label label (id id)"),
    Case("the same, with both columns named", written(IN_ONE, index=False),
         f"{BOTH} --id-column id --label-column label", 1.000, same, TAKEN),
    Case("the index of shuffled pandas rows is a dimension", written(SHUFFLED),
         f"{PLAIN} --id-column id", 0.508, same, f"id id · {TAKEN} · label"),
    Case("an index sorted by class is a dimension", written(wide().iloc[np.argsort(CODES)]
         .reset_index(drop=True).sample(frac=1, random_state=0)),
         f"{PLAIN} --id-column id", 0.971, same, TAKEN),
    Case("another numeric column is a dimension", written(wide(dept_id=CODES), index=False),
         f"{PLAIN} --id-column id", 1.000, same, "left out: dept_id"),
    Case("a price is a dimension", written(wide(price=CODES + np.linspace(0, 1, N)), index=False),
         f"{PLAIN} --id-column id", 0.972, same, "left out: price"),
    Case("columns without a number at their end are dimensions",
         written(wide().rename(columns=dict(zip(COLUMNS, "abcdefgh", strict=True))), index=False),
         f"{PLAIN} --id-column id", 0.512, REFUSED, "name the dimensions, as in --columns"),
    Case("the same, named", written(
         wide().rename(columns=dict(zip(COLUMNS, "abcdefgh", strict=True))), index=False),
         f"{PLAIN} --id-column id --columns [a-h]", REFUSED, same, "8 dimensions a..h"),
    Case("a RangeIndex with a name is row numbers", _by_one, PLAIN, 0.232,
         lambda: (ROWS[:-1], NAMES[:-1]), "id item_id"),
    Case("a RangeIndex that begins at 100 is row numbers", _a_part, PLAIN, 0.175,
         lambda: (ROWS[100:500], NAMES[100:500]), "id pandas index"),
    Case("ids that are floats are a dimension", written(FLOAT_IDS, index=False), PLAIN, 0.252, same,
         "id item_id"),
    Case("integer ids beside an integer column are a dimension", written(
         wide(price=7).rename(columns={"id": "item_id"}).iloc[ORDER], index=False), PLAIN, 0.244,
         same, "id item_id"),
    Case("two columns may be the id", written(
         wide(user_id=range(N)).rename(columns={"id": "item_id"}).iloc[ORDER], index=False),
         PLAIN, 0.252, REFUSED,
         "which column is the id? found item_id, user_id; name it with --id-c"),
    Case("a whole column without a name to it may be the id",
         written(wide().rename(columns={"id": "number"}).astype({"number": int})
                 .assign(price=7).iloc[ORDER], index=False),
         PLAIN, 0.244, REFUSED, "which column is the id? found number; name it with --id-column"),
    Case("item_ids of an npz are passed over", _item_ids, "emb.npz --key emb --labels labels.csv",
         0.233, same, "id item_ids · 8 dimensions in emb"),
    Case("part-10 comes before part-2", _shards, "shards --labels labels.csv", 0.267, same,
         "12 files"),
    Case("empty shards, _SUCCESS, README and json beside", _empty_shards,
         "spark --labels labels.csv", REFUSED, same, "2 files"),
    Case("folders key=value", _hive, "hive --labels labels.csv", REFUSED, same, "4 files"),
    Case("ids on one side alone are passed over", _ids_on_one_side, PLAIN, 0.233, REFUSED,
         "join by row number with --by-row"),
    Case("one of two list columns", two_lists(), "emb.parquet::v1::id=sku --labels labels.csv",
         REFUSED, same, "id sku · 8 dimensions in v1 (left out: v2)"),
    Case("a word with a space in word2vec's binary form", word2vec(
         ["x y" if i == 3 else word for i, word in enumerate(WORDS)]),
         "emb.bin --labels labels.csv", 0.510, REFUSED,
         "row 3: what follows the word 'x' is no row"),
    Case("words without one", word2vec(WORDS), "emb.bin --labels labels.csv", 0.512, same,
         "id word"),
    Case("an HDF5 data set whose source is missing", _virtual, "emb.h5 --labels labels.csv", 0.105,
         REFUSED, "data set 'emb' is virtual"),
    Case("an HDF5 data set that was not written in full", _unwritten, "emb.h5 --labels labels.csv",
         0.382, REFUSED, "not written in full"),
    Case("HDF5 ids stored in another file", _external, "emb.h5 --labels labels.csv", REFUSED,
         REFUSED,
         "data set 'id' lies in another file"),
    Case("HDF5 ids behind a link to another file", _linked, "emb.h5 --labels labels.csv", 0.512,
         REFUSED, "'id' is a link into the file 'other.h5'"),
    Case("five copies of each row answer for each other", _copies, "emb.npy --labels labels.csv",
         0.527, same, "2,400 of 3,000 rows are copies of another row; a row is held out together"),
    Case("GloVe's text without a header", _glove, "emb.txt --labels labels.csv", REFUSED, same,
         "id word · 8 dimensions"),
    Case("embeddings in csv", _csv, "emb.csv --labels labels.csv", REFUSED, same,
         f"id id · {TAKEN} (left out: shelf)"),
)  # fmt: skip

# ruff: noqa: PD011
"""Hostile files: bombs, declared sizes, endless text, control characters; each costs little."""

import gzip
import json
import re
import zipfile

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernlens import io
from kernlens.cli.command import main
from kernlens.show.table import one_line
from tests.fuzz.runs import Worker

N, DIM = 40, 4
X = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
ZEROS = bytes(2**20)


@pytest.fixture(scope="module")
def worker():
    with Worker() as found:
        yield found


def npz_bomb(path):
    header = str({"descr": "<f4", "fortran_order": False, "shape": (2**20, 12)}).ljust(117) + "\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("emb.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little"))
        member.write(header.encode())
        for _ in range(48):
            member.write(ZEROS)


def gz_bomb(path):
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(b"id,d0,d1,d2,d3\n")
        for _ in range(40):
            file.write(b"1,0,0,0,0\n" * 100_000)


def endless_line(path):
    with gzip.open(path, "wb") as file:
        for _ in range(17):
            file.write(ZEROS)


def npy_shape(path):
    np.save(path, X)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(40, 4), }     ", b"(4000000, 400)}"))


def safetensors_header(path):
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")


def safetensors_shape(path):
    tensor = {"dtype": "F32", "shape": [2**40, 4], "data_offsets": [0, 640]}
    header = json.dumps({"emb": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + X.tobytes())


def hdf5_shape(path):
    with h5py.File(path, "w") as file:
        emb = file.create_dataset("emb", (2**40, 4), "f4", chunks=(100, 4))
        emb[:100] = 1


def hdf5_chunk(path):
    with h5py.File(path, "w") as file:
        emb = file.create_dataset("emb", (40, 4), "f4", chunks=(40, 4), maxshape=(None, 4))
        emb[:] = X
        file.create_dataset("ids", (40,), "i8", chunks=(2**28,), maxshape=(None,))


def parquet_rows(path):
    ones = pa.array(np.zeros(5 * 10**6, "f4")).dictionary_encode()
    table = pa.table({f"d{i}": ones for i in range(4)})
    pq.write_table(table, path, compression="zstd")


def long_id(path):
    ids = [f"w{i}" for i in range(N)]
    ids[7] = "x" * 5_000_000
    pq.write_table(pa.table({"id": ids, "v": list(X)}), path)


def long_word(path):
    lines = [f"w{i} " + " ".join(map(str, row)) for i, row in enumerate(X.tolist())]
    lines[7] = "x" * 5_000_000 + lines[7]
    path.write_text("\n".join(lines) + "\n")


def long_number(path):
    lines = [f"w{i} " + " ".join(map(str, row)) for i, row in enumerate(X.tolist())]
    lines[7] += "0" * 5_000_000
    path.write_text("\n".join(lines) + "\n")


def many_columns(path):
    path.write_text(",".join(f"d{i}" for i in range(10**6)) + "\n")


def nested_header(path):
    np.save(path, X)
    text = b"{'descr': " + b"(" * 4000
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


BOMBS = {
    "bomb.npz": (npz_bomb, "declares 50,331,648 bytes.*--max-expansion"),
    "bomb.csv.gz": (gz_bomb, "unpacks to far more than its .* bytes; a bomb"),
    "bomb.vec.gz": (endless_line, "line 1: more than 16,777,216 bytes"),
    "shape.npy": (npy_shape, "found 640 bytes after the header, expected 6400000000"),
    "nested.npy": (nested_header, r"nested\.npy: truncated or damaged \.npy file"),
    "header.safetensors": (safetensors_header, "a header of 1,152,921,504,606,846,976 bytes"),
    "shape.safetensors": (safetensors_shape, "has 640 bytes, expected 17,592,186,044,416"),
    "shape.h5": (hdf5_shape, "declares 17,592,186,044,416 bytes"),
    "chunk.h5": (hdf5_chunk, "chunk.h5: declares 2,147,483,648 bytes"),
    "rows.parquet": (parquet_rows, "declares 80,000,000 bytes"),
    "id.parquet": (long_id, "a text of 5,000,000 characters; expected at most 4,096"),
    "word.txt": (long_word, "a text of 5,000,002 characters; expected at most 4,096"),
    "number.txt": (long_number, "line 8, number 3: found .*, expected a number"),
    "columns.csv": (many_columns, "1,000,000 columns; expected at most 65,536"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_take_memory(name, tmp_path, worker):
    make, match = BOMBS[name]
    path = tmp_path / name
    make(path)
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"w{i},c{i % 3}\n" for i in range(N)))
    found = worker.run(["predict", str(path), "--labels", str(tmp_path / "l.csv")])
    assert found["code"] == 1, found
    assert found["peak"] < 700, found
    assert found["length"] < 1000
    assert re.search(match, found["err"]), found["err"]


def test_a_limit_that_is_raised_lets_the_file_in(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", emb=np.zeros((2**20, 12), np.float32))
    with pytest.raises(ValueError, match="--max-expansion"):
        io.open_embeddings(tmp_path / "a.npz")
    limits = io.Limits(expansion=2000)
    assert io.open_embeddings(tmp_path / "a.npz", limits=limits).shape == (2**20, 12)


@pytest.mark.parametrize("write", [pd.DataFrame.to_parquet, pd.DataFrame.to_csv])
def test_one_long_label_does_not_widen_all(tmp_path, worker, write):
    frame = pd.DataFrame({"id": range(20_000), "label": ["a", "b"] * 10_000})
    frame.loc[3, "label"] = "x" * 1_000_000
    path = tmp_path / ("l.csv" if write is pd.DataFrame.to_csv else "l.parquet")
    write(frame, path, index=False)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((20_000, 2)))
    found = worker.run(["predict", str(tmp_path / "a.npy"), "--labels", str(path)])
    assert found["code"] == 1
    assert "1,000,000 characters" in found["err"] or "field larger than" in found["err"]
    assert found["peak"] < 700


@pytest.mark.thorough
def test_ids_of_unlike_lengths_are_kept_as_objects(tmp_path):
    ids = [f"w{i}" for i in range(20_000)]
    ids[5] = "y" * 4000
    path = tmp_path / "a.parquet"
    rows = np.random.default_rng(0).standard_normal((20_000, 2)).astype("f4")
    pq.write_table(pa.table({"id": ids, "v": list(rows)}), path)
    found = io.open_embeddings(path)
    assert found.ids.dtype == object
    assert found.ids.tolist() == ids
    labels = io.LabelFile(io.read_labels(_labels(tmp_path, ids)).labels, found.ids[::-1])
    joined = io.join({"a": found.read()}, labels)
    np.testing.assert_array_equal(joined.values["a"], rows)
    assert joined.labels.codes[5] == labels.labels.codes[-6]


def _labels(folder, ids):
    path = folder / "l.csv"
    path.write_text("id,label\n" + "".join(f"{id_},c{i % 2}\n" for i, id_ in enumerate(ids)))
    return path


def test_names_and_errors_are_shown_without_their_control_characters(tmp_path, worker):
    name = "a\x1b[31mred\x07.npy"
    np.save(tmp_path / name, X)
    (tmp_path / "l.csv").write_text("id,la\x1b[2Jbel\n1,x\n2,\x1b]0;title\x07\n")
    found = worker.run(
        ["predict", str(tmp_path / name), "--labels", str(tmp_path / "absent\x1b[31m.csv")]
    )
    assert found["code"] == 1
    assert "absent\\x1b[31m.csv: no such file" in found["err"]
    found = worker.run(
        ["predict", str(tmp_path / name), "--labels", str(tmp_path / "l.csv"), "--oops\x1b[1m"]
    )
    assert found["code"] == 2
    assert "\x1b" not in found["err"]


def test_names_of_files_and_classes_reach_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a\x1b[31mred\x07", "b\x1b]0;title\x07"):
        np.save(f"{name}.npy", np.random.default_rng(len(name)).standard_normal((60, 2)))
    rows = "".join(f"{i},c\x1b[{i % 3}m\n" for i in range(60))
    (tmp_path / "l.csv").write_text("id,label\n" + rows)
    paths = map(str, sorted(tmp_path.glob("*.npy")))
    probe = ("--probe", "discriminant", "--no-cache")
    code = main(["compare", *paths, "--labels", "l.csv", *probe])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert not set(out + err) & set("\x1b\x07")
    assert "a\\x1b[31mred" in out


def test_one_line_is_short_printable_and_keeps_both_ends():
    text = "a.csv: \x1b[31m" + "x" * 10_000_000 + " the end"
    found = one_line(text)
    assert len(found) <= 410
    assert found.startswith("a.csv: \\x1b[31mxxx")
    assert found.endswith("the end")
    assert one_line("two\nlines") == "two lines"

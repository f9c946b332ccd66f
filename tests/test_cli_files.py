"""The command on files of every format, and on those that it cannot use."""

import gzip
import json
import sys

import gensim
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import safetensors.numpy as safetensors

from kernlens import lens
from kernlens.io.embeddings import READERS
from tests.test_cli import NAMES, PROBLEM, files, run

__all__ = ["files"]


@pytest.mark.thorough
def test_equal_stems_are_told_apart_by_path(files, capsys):
    (files / "v2").mkdir()
    np.save("v2/good.npy", PROBLEM.x[:, :2])
    given = ("compare", "good.npy", "v2/good.npy", "bad.parquet", "--labels", "labels.csv")
    code, out, _ = run(capsys, *given, "--json", "-")
    assert code == 0
    found = {entry["name"]: entry["dim"] for entry in json.loads(out)["entries"]}
    assert found == {"good.npy": 6, "v2/good.npy": 2, "bad": 6}


def test_named_columns_reach_the_readers(files, capsys):
    rows = "".join(f"{i % 7},{name},{i}\n" for i, name in enumerate(NAMES[PROBLEM.codes]))
    (files / "wide.csv").write_text("week,kind,item\n" + rows)
    given = ("compare", "bad.parquet", "--labels", "wide.csv", "--json", "-")
    code, _, err = run(capsys, *given)
    assert code == 1
    assert "which column is the label? found week, kind" in err
    code, out, _ = run(capsys, *given, "--id-column", "item", "--label-column", "kind")
    assert code == 0
    assert sorted(json.loads(out)["classes"]) == sorted(NAMES)


def test_every_format_is_read(files, capsys):
    ids, x = np.arange(150), PROBLEM.x.astype(np.float32)
    table = pa.table({"id": ids, "vector": list(x)})
    words = [f"{i} {' '.join(map(repr, row.tolist()))}\n" for i, row in enumerate(x)]
    np.save("a.npy", x)
    np.savez("a.npz", vectors=x, ids=ids)
    pq.write_table(table, "a.parquet")
    for suffix in ("arrow", "feather", "ipc"):
        feather.write_feather(table, f"a.{suffix}")
    safetensors.save_file({"vectors": x, "ids": ids}, "a.safetensors")
    for suffix in ("h5", "hdf5"):
        with h5py.File(f"a.{suffix}", "w") as file:
            file.update({"vectors": x, "ids": ids})
    (files / "a.txt").write_text("".join(words))
    (files / "a.vec").write_text("150 6\n" + "".join(words))
    for head, separator, name in (
        ("id,d0,d1,d2,d3,d4,d5", ",", "a.csv"),
        ("id;d0;d1;d2;d3;d4;d5", ";", "a.tsv"),
        ("item_id:token\tvectors:float_seq", "\t", "a.item"),
    ):
        lines = [word.replace(" ", separator, 1 if "item" in name else -1) for word in words]
        (files / name).write_text(head + "\n" + "".join(lines))
    for name in ("a.txt", "a.vec", "a.csv", "a.tsv"):
        (files / f"{name}.gz").write_bytes(gzip.compress((files / name).read_bytes()))
    keyed = gensim.models.KeyedVectors(6)
    keyed.add_vectors([str(i) for i in ids], x)
    keyed.save("a.kv")
    packed = [f"{i} ".encode() + row.astype("<f4").tobytes() + b"\n" for i, row in enumerate(x)]
    (files / "a.bin").write_bytes(b"150 6\n" + b"".join(packed))
    (files / "shards").mkdir()
    for part in range(3):
        np.save(f"shards/{part}.npy", x[50 * part :][:50])
    names = [f"a{suffix}" for suffix in READERS] + ["shards"]
    code, out, err = run(capsys, "compare", *names, "--labels", "labels.csv", "--json", "-")
    assert code == 0, err
    found = json.loads(out)
    assert found["rows"]["joined"] == 150
    values = [entry["metrics"]["macro_f1"] for entry in found["entries"]]
    assert len(values) == len(names)
    assert values == [values[0]] * len(names)


def test_how_a_file_is_read_reaches_the_readers(files, capsys, monkeypatch):
    stored = np.clip(np.round(20 * PROBLEM.x), -128, 127).astype(np.int8)
    np.savez("two.npz", first=stored, second=stored[:, :3])
    given = ("compare", "two.npz", "--labels", "labels.csv")
    code, _, err = run(capsys, *given)
    assert code == 1
    assert "first" in err
    assert err.count("\n") == 1
    seen, kept = [], lens.compare
    monkeypatch.setattr(lens, "compare", lambda x, *a, **k: (seen.append(x), kept(x, *a, **k))[1])
    assert run(capsys, *given, "--key", "second", "--scale", "0.5")[0] == 0
    np.testing.assert_array_equal(seen[0]["two"], np.float32(0.5) * stored[:, :3])


def test_rows_that_are_not_finite_can_be_left_out(files, capsys):
    np.save("nan.npy", np.where(np.arange(150)[:, None] == 3, np.nan, PROBLEM.x))
    given = ("compare", "nan.npy", "good.npy", "--labels", "labels.csv", "--drop-nonfinite")
    code, out, _ = run(capsys, *given)
    assert code == 0
    assert "149 rows joined by row number, 5 of them without a label" in out
    note = "not joined: 1 of good ('3'), 1 of the labels ('3'); not finite: 1 of nan ('3')"
    assert note in " ".join(out.split())


@pytest.mark.thorough
def test_a_last_line_that_may_have_been_cut_is_told(files, capsys):
    text = (files / "labels.csv").read_text()
    (files / "cut.csv").write_text(text.rstrip("\n")[:-2])
    code, _, err = run(capsys, "compare", "good.npy", "--labels", "cut.csv")
    assert code == 0
    assert err.startswith("warning: cut.csv: the last line has no end, and its label ")
    assert err.count("\n") == 1
    (files / "whole.csv").write_text(text.rstrip("\n"))
    assert run(capsys, "compare", "good.npy", "--labels", "whole.csv")[2] == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--max-unjoined", "0.06"), "good.npy: 10 of 150 ids are not in all other files: "),
        (("--max-unjoined-labels", "0"), "labels.csv: 10 of 150 ids are not in all other files: "),
        (("--max-unjoined", "0.07", "--max-unjoined-labels", "0.07"), None),
    ],
)
def test_rows_without_a_partner_can_be_bounded(files, capsys, argv, message):
    given = ("compare", "good.npy", "bad.parquet", "--labels", "labels.csv", *argv)
    code, _, err = run(capsys, *given)
    if message is None:
        assert (code, err) == (0, "")
    else:
        assert code == 1
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("gone.npy", "--labels", "labels.csv"), "error: gone.npy: no such file"),
        (("good.npy", "--labels", "labels.csv", "--scale", "2"), "beside a scale; expected int"),
        (("good.npy", "--labels", "gone.csv"), "error: gone.csv: no such file"),
        (("good.npy", "--labels", "good.npy"), "ending in '.npy'; choose one of .csv, .csv.gz"),
        (
            ("labels.csv", "--labels", "labels.csv"),
            "no vectors: found id (integer), department (text); expected",
        ),
        (("good.npy", "--labels", "labels.csv", "--label-column", "x"), "no column 'x'; found"),
        (("good.npy", "--labels", "labels.csv", "--json", "no/x.json"), "no: no such folder"),
        (("nan.npy", "--labels", "labels.csv"), "nan.npy: 1 of 150 rows hold NaN"),
        (("short.npy", "--labels", "labels.csv"), "short.npy has no ids, so label ids must be"),
    ],
)
def test_an_input_that_cannot_be_used_is_one_line_and_1(files, capsys, argv, message):
    np.save("nan.npy", np.where(np.arange(150)[:, None] == 3, np.nan, PROBLEM.x))
    np.save("short.npy", PROBLEM.x[:100])
    code, out, err = run(capsys, "compare", *argv)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_missing_package_is_one_line_and_1(files, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run(capsys, "compare", "bad.parquet", "--labels", "labels.csv")
    assert code == 1
    assert "pip install 'kernlens[data]'" in err
    assert err.count("\n") == 1

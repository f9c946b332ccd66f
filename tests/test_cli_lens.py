"""The commands ``stability`` and ``fuse``: what they print, what they write, what they refuse."""

import io as text_io
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernlens import lens
from kernlens.cli.command import main
from kernlens.models import decoders
from kernlens.types import Labels
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(0, n=160, separation=0.8)
NAMES = np.array(["tea", "salt", "bread", "apples"])
SKUS = np.array([f"sku{i:03}" for i in range(160)])


def noisy(seed, amount=0.6):
    return PROBLEM.x + amount * np.random.default_rng(seed).standard_normal(PROBLEM.x.shape)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three runs, each in an order of its own and one with fewer rows, a text, and labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    monkeypatch.setenv("COLUMNS", "140")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(160)[: 150 if seed == 2 else 160]
        table = pa.table({"item": SKUS[order], "vector": list(noisy(seed)[order])})
        pq.write_table(table, f"run{seed}.parquet")
    rng = np.random.default_rng(9)
    text = rng.standard_normal((4, 5))[PROBLEM.codes] + rng.standard_normal((160, 5))
    pq.write_table(pa.table({"item": SKUS, "vector": list(text)}), "text.parquet")
    rows = [f"{sku},{name}" for sku, name in zip(SKUS, NAMES[PROBLEM.codes], strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["item,department", *rows]) + "\n")
    return tmp_path


def run(capsys, *argv):
    """Exit code, standard output, standard error."""
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_stability_says_what_moves_with_ids(files, capsys):
    runs = [f"run{seed}.parquet" for seed in range(3)]
    given = ("stability", *runs, "--labels", "labels.csv", "--decoder", "linear", "inner-product")
    code, out, err = run(capsys, *given, "--json", "out.json", "--shown", "3")
    assert (code, err) == (0, "")
    assert "150 rows joined; 4 classes; not joined: 10 of run0" in " ".join(out.split())
    found = json.loads((files / "out.json").read_text())
    kept = np.sort(np.random.default_rng(2).permutation(160)[:150])
    kept = np.random.default_rng(0).permutation(160)
    kept = kept[np.isin(kept, np.random.default_rng(2).permutation(160)[:150])]
    labels = Labels(PROBLEM.codes[kept], tuple(NAMES))
    expected = lens.stability(
        {f"run{seed}": noisy(seed)[kept] for seed in range(3)}, labels,
        decoders=[decoders.Linear(), decoders.InnerProduct()],
    )  # fmt: skip
    # Names of classes are in another order, which moves folds and rounding a little.
    for told, own in zip(found["decoders"], expected.moves, strict=True):
        np.testing.assert_allclose(told["churn"]["value"], own.churn.value, atol=0.05)
        assert told["kappa"]["low"] < told["kappa"]["value"] < told["kappa"]["high"]
        assert {row["item"] for row in told["items"]} <= set(SKUS)
        assert len(told["pairs"]) == 3
        assert sum(row["rows"] for row in told["classes"]) == 150
    first = found["decoders"][0]["items"][0]
    assert first["item"] in out
    assert found["conclusion"].split(";")[0] in " ".join(out.split())
    assert len(found["distances"]) == 3


class Terminal(text_io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


@pytest.mark.thorough
def test_stability_draws_how_far_it_is(files, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    runs = ("run0.parquet", "run1.parquet", "--labels", "labels.csv")
    assert main(["stability", *runs, "--decoder", "inner-product", "--no-cache"]) == 0
    drawn = sys.stderr.getvalue()
    for step in ("reading", "predicting: inner-product: run0", "predicting: inner-product: run1"):
        assert step in drawn
    assert re.search(r"0:00:\d\d, about 0:0\d:\d\d left", drawn)
    assert drawn.index("run0") < drawn.index("run1")


def test_two_runs_are_said_and_one_is_refused(files, capsys):
    code, out, err = run(
        capsys, "stability", "run0.parquet", "run1.parquet", "--labels", "labels.csv"
    )
    assert (code, err) == (0, "")
    assert "a third run would narrow it" in " ".join(out.split())
    code, out, err = run(capsys, "stability", "run0.parquet", "--labels", "labels.csv")
    assert code != 0
    assert "at least two runs" in " ".join((out + err).split())


def test_fuse_says_whether_a_text_adds(files, capsys, monkeypatch):
    # Learnt joins take most of the time; tests/test_fuse.py has them.
    plain = {name: join for name, join in lens.JOINS.items() if not join.learns}
    monkeypatch.setattr(sys.modules["kernlens.lens.fuse"], "JOINS", plain)
    given = ("fuse", "run0.parquet", "text.parquet", "--labels", "labels.csv")
    code, out, err = run(capsys, *given, "--decoder", "inner-product", "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert {own["name"] for own in found["joined"]} == set(plain)
    assert {own["name"] for own in found["alone"]} == {"run0", "text"}
    assert found["verdict"] in (lens.ADDS, lens.LOSES, lens.UNCLEAR)
    assert found["conclusion"].split(":")[0] in " ".join(err.split())
    best = max(found["joined"], key=lambda own: own["metrics"]["macro_f1"]["value"])
    assert found["joined"][0] == best
    code, out, err = run(capsys, "fuse", "run0.parquet", "--labels", "labels.csv")
    assert code != 0
    assert "two embedding files or more" in " ".join((out + err).split())


def test_files_without_a_common_item_are_refused_by_name(files, capsys):
    pq.write_table(pa.table({"item": ["x", "y"], "vector": [[1.0], [2.0]]}), "other.parquet")
    for verb in ("stability", "fuse"):
        code, _, err = run(capsys, verb, "run0.parquet", "other.parquet", "--labels", "labels.csv")
        assert code == 1
        assert "no id in common" in err
        assert "other.parquet" in err

"""Answers that are too good: dimensions that give the label."""

import numpy as np
import pytest

from kernlens import io, targets
from kernlens.cli.command import main
from kernlens.types import Labels

RNG = np.random.default_rng(0)
N = 300
CODES = RNG.integers(0, 3, N).astype(np.int32)
X = RNG.standard_normal((N, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("dimension", "tells"),
    [
        (CODES, True),
        (2.0 * CODES + 0.3 * RNG.random(N), True),
        (np.argsort(np.argsort(CODES, kind="stable")), True),  # an index sorted by class
        (CODES + 0.5 * RNG.standard_normal(N), False),
        (np.zeros(N), False),
        (np.arange(N), False),
        (CODES % 2, False),
    ],
)
def test_a_dimension_that_alone_gives_the_label(dimension, tells):
    labels = Labels(CODES, ("a", "b", "c"))
    values = np.column_stack([X, dimension])
    assert io.telling({"a": X, "b": values}, labels) == ({"b": [4]} if tells else {})


def test_rows_sorted_by_class_tell_nothing_by_themselves():
    order = np.argsort(CODES, kind="stable")
    labels = Labels(CODES[order], ("a", "b", "c"))
    assert io.telling({"a": np.column_stack([X[order], np.ones(N)])}, labels) == {}


def test_many_classes_and_few_rows_are_not_judged():
    codes = np.arange(60, dtype=np.int32) % 30
    labels = Labels(codes, tuple(map(str, range(30))))
    assert io.telling({"a": codes[:, None].astype(float)}, labels) == {}


def test_other_targets_have_none():
    assert io.telling({"a": X}, targets.values(X[:, 0])) == {}
    assert io.telling({"a": X}, targets.multi_labels(X > 0)) == {}


def test_the_command_tells_of_a_leak(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("leak.npy", np.column_stack([X, CODES]))
    rows = "".join(f"{i},c{code}\n" for i, code in enumerate(CODES))
    (tmp_path / "l.csv").write_text("id,label\n" + rows)
    assert main(["predict", "leak.npy", "--labels", "l.csv", "--no-cache"]) == 0
    out, err = capsys.readouterr()
    assert "warning: dimension 4 of leak alone gives the label: is it the label" in err
    assert "a macro-F1 of 1.000 is suspicious" in " ".join(out.split())


def label_file(path, labels):
    path.write_text("id,label\n" + "".join(f"{i},{own}\n" for i, own in enumerate(labels)))
    return path


def test_a_word_that_may_mean_no_label_is_told_and_counts_as_a_class(tmp_path):
    labels = ["tea", "salt", "Unknown", "n/a", "tea", "salt", "other thing"] * 3
    found = io.read_labels(label_file(tmp_path / "l.csv", labels))
    assert found.labels.names == ("Unknown", "other thing", "salt", "tea")
    (note,) = [own for own in found.notes if "Unknown" in own]
    assert "3 labels 'Unknown' count as classes; --missing n/a Unknown makes them" in note
    # What the note proposes does what it says, and nothing else.
    found = io.read_labels(tmp_path / "l.csv", missing=["n/a", "Unknown"])
    assert found.labels.names == ("other thing", "salt", "tea")
    assert np.count_nonzero(found.labels.codes < 0) == 6
    assert not [own for own in found.notes if "as classes" in own]


def test_two_classes_of_which_one_is_no_label_are_left_alone(tmp_path):
    assert not io.read_labels(label_file(tmp_path / "l.csv", ["tea", "other"] * 9)).notes


@pytest.mark.parametrize("write", [str, lambda star: f"{star}.0"])
def test_stars_that_are_read_as_classes_are_told(tmp_path, write):
    path = label_file(tmp_path / "l.csv", map(write, [1, 2, 3, 4, 5] * 8))
    found = io.read_labels(path)
    assert found.labels.names == ("1", "2", "3", "4", "5")
    (note,) = found.notes
    assert "whole numbers from 1 to 5 are read as 5 classes; --target numbers reads them" in note
    assert io.read_labels(path, target=targets.labels).notes == ()
    assert io.read_labels(path, target=targets.values).labels.tolist()[:3] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("labels", [[0, 1] * 9, ["a", "b", "3"] * 9, ["007", "008", "009"] * 9])
def test_two_classes_and_text_have_no_order(tmp_path, labels):
    assert io.read_labels(label_file(tmp_path / "l.csv", labels)).notes == ()


def test_an_embedding_at_its_floor_is_no_better_than_chance(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    np.save("noise.npy", X)
    np.save("good.npy", X + 2.0 * np.eye(3, 4)[CODES])
    label_file(tmp_path / "l.csv", [f"c{code}" for code in CODES])
    for name, told in (("noise", True), ("good", False)):
        given = ["predict", f"{name}.npy", "--labels", "l.csv", "--no-cache", "--probe", "ridge"]
        assert main(given) == 0
        out = capsys.readouterr().out
        assert ("macro-F1 0.185 is no better than chance, 0.185." in out) == told, out

"""Answers that are too good: dimensions that give the label."""

import numpy as np
import pytest

from kernlens import cli, io, targets
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
    assert cli.main(["predict", "leak.npy", "--labels", "l.csv", "--no-cache"]) == 0
    out, err = capsys.readouterr()
    assert "warning: dimension 4 of leak alone gives the label: is it the label" in err
    assert "a macro-F1 of 1.000 is suspicious" in " ".join(out.split())

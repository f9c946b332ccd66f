"""Answers that are too good: copies of rows, and dimensions that give the label."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kernlens import cli, io
from kernlens.types import Labels

RNG = np.random.default_rng(0)
N = 300
CODES = RNG.integers(0, 3, N).astype(np.int32)
X = RNG.standard_normal((N, 4)).astype(np.float32)


def joined(codes, **values):
    none = io.Unjoined(np.zeros(0, np.int64), None)
    return io.Joined(values, Labels(np.asarray(codes, np.int32), ("a", "b", "c")), {}, none)


def kept_by_hand(values, codes):
    """Rows that stay, by a loop over groups of equal rows."""
    groups = {}
    for row in range(len(codes)):
        groups.setdefault(tuple(own[row].tobytes() for own in values), []).append(row)
    kept = []
    for rows in groups.values():
        pure = len({int(codes[row]) for row in rows}) == 1 and codes[rows[0]] >= 0
        kept += rows[:1] if pure else rows
    return sorted(kept)


@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_copies_are_those_of_a_loop(data, dtype):
    n = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = [rng.integers(0, 3, (n, width)).astype(dtype) for width in (1, 2)]
    codes = rng.integers(-1, 2, n)
    given_ = joined(codes, first=values[0], second=values[1])
    found, count = io.without_copies(given_)
    expected = kept_by_hand(values, codes)
    assert count == n - len(expected)
    np.testing.assert_array_equal(found.values["second"], values[1][expected])
    np.testing.assert_array_equal(found.labels.codes, codes[expected])


def test_rows_without_copies_stay_as_they_are():
    given_ = joined(CODES, a=X)
    found, count = io.without_copies(given_)
    assert (found is given_, count) == (True, 0)


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


def test_the_command_tells_of_a_leak(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("leak.npy", np.column_stack([X, CODES]))
    rows = "".join(f"{i},c{code}\n" for i, code in enumerate(CODES))
    (tmp_path / "l.csv").write_text("id,label\n" + rows)
    assert cli.main(["predict", "leak.npy", "--labels", "l.csv", "--no-cache"]) == 0
    out, err = capsys.readouterr()
    assert "warning: dimension 4 of leak alone gives the label: is it the label" in err
    assert "a macro-F1 of 1.000 is suspicious" in " ".join(out.split())

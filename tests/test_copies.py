"""Copies of rows against a dictionary of bytes."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from kernlens import io
from kernlens.probes import copies, numbers

RNG = np.random.default_rng(0)


def dictionary(rows, codes):
    """Numbers of the rows by their bytes and class, by a loop."""
    seen = {}
    return [
        seen.setdefault((row.tobytes(), code), len(seen))
        for row, code in zip(rows, codes, strict=True)
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_groups_are_those_of_a_dictionary(dtype):
    distinct = (10 * RNG.standard_normal((300, 8))).astype(dtype)
    which = RNG.integers(0, 300, 1000)
    rows, codes = distinct[which], which % 7
    np.testing.assert_array_equal(copies.groups(rows, codes), dictionary(rows, codes))
    column = (RNG.permutation(300) / 7.0)[which, None]
    np.testing.assert_array_equal(copies.groups(column, codes), dictionary(column, codes))


def test_a_stream_has_the_groups_of_its_rows(tmp_path):
    rows = RNG.standard_normal((500, 6)).astype(np.float32)
    rows[100:200] = rows[:100]
    np.save(tmp_path / "a.npy", rows)
    found = copies.groups(io.open_embeddings(tmp_path / "a.npy"), np.zeros(500, int))
    np.testing.assert_array_equal(found, dictionary(rows, np.zeros(500)))


def test_rows_that_do_not_count_have_no_group():
    rows = RNG.standard_normal((6, 3))[[0, 1, 0, 2, 1, 2]]
    found = copies.groups(rows, np.array([0, -1, 0, 1, 1, 1]))
    np.testing.assert_array_equal(found, [0, -1, 0, 1, 2, 1])
    assert copies.note(found) == (
        "2 of 5 rows are copies of another row; a row is held out together with its copies",
    )
    np.testing.assert_array_equal(copies.groups(rows, np.full(6, -1)), -1)


def test_items_that_an_embedding_cannot_tell_apart_are_not_copies():
    rows, codes = RNG.standard_normal((40, 5)), np.arange(40) % 4
    rows[:12] = 0.0
    rows[20:24:2] = -0.0
    found = copies.groups(rows, codes)
    np.testing.assert_array_equal(found, np.arange(40))
    assert copies.note(found) == ()
    constant = copies.groups(np.ones((9, 2)), np.arange(9) % 2)
    np.testing.assert_array_equal(constant, np.arange(9))


def test_zeros_of_either_sign_are_equal():
    rows = np.array([[0.0, 1.25], [-0.0, 1.25], [3.0, 1.5]])
    np.testing.assert_array_equal(copies.groups(rows, np.array([1, 1, 0])), [0, 0, 1])


@pytest.mark.parametrize("columns", [1, 3])
def test_rows_of_few_values_are_equal_by_chance(columns):
    rows = RNG.integers(0, 3, (90, columns))
    # The class is read off the row, so equal rows always agree in it.
    found = copies.groups(rows, rows @ 3 ** np.arange(columns))
    np.testing.assert_array_equal(found, np.arange(90))
    hot = np.eye(5)[np.arange(40) % 5]
    np.testing.assert_array_equal(copies.groups(hot, np.arange(40) % 5), np.arange(40))
    # As many rows of real values, each three times, are copies.
    real = np.repeat(RNG.standard_normal((30, columns)), 3, axis=0)
    np.testing.assert_array_equal(copies.groups(real, np.zeros(90)), np.arange(90) // 3)


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_regression_leaves_out_copies_with_their_row(strength):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((40, 4)), rng.standard_normal(40)
    x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3)
    found = numbers.numbers(x, y, strengths=[strength])
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = []
    for i in range(0, 120, 3):
        left = np.ones(120, bool)
        left[i : i + 3] = False
        model = Ridge(strength * np.sum(z**2) / 4, solver="cholesky").fit(z[left], y[left])
        expected.append(model.predict(z[i : i + 1])[0])
    np.testing.assert_allclose(found.predicted[::3], expected, rtol=1e-6, atol=1e-9)
    assert found.notes == copies.note(np.arange(120) // 3)

"""Theorem 1's experiment: its split of variances, readers and bounds, against references."""

import io
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from experiments import runner, thm1_decoder_mismatch
from experiments.mismatch import bounds, readers, spread, summary
from kernlens import report


@pytest.fixture
def rows():
    """Three classes in four dimensions, 150 rows to learn from and 60 to judge on."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(210) % 3)
    z = readers.scaled(rng.standard_normal((210, 4)) + 2.0 * np.eye(4)[codes])
    return z[:150], codes[:150], z[150:], codes[150:]


def test_parts_are_unbiased():
    rng = np.random.default_rng(0)
    found = [
        spread.parts(2.0 * rng.standard_normal((10, 1)) + 3.0 * rng.standard_normal((10, 5)))
        for _ in range(2000)
    ]
    # Standard errors 0.06 and 0.05: four of them.
    np.testing.assert_allclose(np.mean(found, axis=0), (4.0, 9.0), atol=0.25)


def test_parts_of_a_deterministic_reader_are_its_variance():
    values = np.array([[0.1], [0.4], [0.9]])
    assert spread.parts(values) == (pytest.approx(np.var(values, ddof=1)), 0.0)


def test_spearman_is_scipys():
    a, b = np.random.default_rng(0).integers(0, 6, (2, 20)).astype(float)
    expected = scipy.stats.spearmanr(a, b).statistic
    np.testing.assert_allclose(spread.spearman(a, b), expected, rtol=1e-12)


def test_pairs_of_a_run_with_itself_are_left_out():
    matrix = np.arange(9.0).reshape(3, 3)
    found = spread.off_diagonal(matrix, np.array([0, 0, 2]))
    np.testing.assert_array_equal(found, [2.0, 2.0])


@pytest.mark.parametrize("name", ["IP class mean", "IP ridge", "LR exact", "LR SGD", "5-NN, L2"])
def test_a_rotation_does_not_change(name, rows):
    z, codes, test, _ = rows
    turn = readers.rotation(4, 0)
    given = readers.CONTROLS[name](z, codes, test, np.arange(2))
    turned = readers.CONTROLS[name](z @ turn, codes, test @ turn, np.arange(2))
    # A tie may fall otherwise in rounding: at most one of 60 rows.
    assert np.mean(given != turned) <= 1 / 60


def test_trees_read_coordinates(rows):
    z, codes, test, _ = rows
    turn = readers.rotation(4, 0)
    given = readers.trees(z, codes, test, None)
    assert np.any(given != readers.trees(z @ turn, codes, test @ turn, None))


def test_rotation_is_orthogonal():
    turn = readers.rotation(5, 3)
    np.testing.assert_allclose(turn @ turn.T, np.eye(5), atol=1e-12)


def test_the_supremum_is_over_linear_maps():
    z = np.array([[2.0]])
    # sup over |w| <= 3 of w 2 γ is 6 |γ|, of mean 6 sqrt(2 / π).
    found = bounds.supremum(z, 1, 3.0, 20_000, 0)
    np.testing.assert_allclose(found, 6 * math.sqrt(2 / math.pi), rtol=0.03)


def test_contrastive_sides_are_those_of_all_triplets():
    rng = np.random.default_rng(1)
    codes = np.array([0, 0, 0, 1, 1, 2])
    z = rng.standard_normal((6, 2))
    found = bounds.contrastive(z, codes, triplets=200_000, seed=0)
    unit = z / np.sqrt(np.mean(np.sum(z**2, axis=1)))
    total = weight = 0.0
    for a, p, n in itertools.product(range(6), repeat=3):
        if codes[a] == codes[p]:
            w = 1.0 / np.sum(codes == codes[a])
            total += w * np.log2(1 + np.exp(-unit[a] @ (unit[p] - unit[n])))
            weight += w
    # 200,000 triplets of losses of spread near 1: five standard errors.
    np.testing.assert_allclose(found["R_CL"], total / weight, atol=0.012)
    np.testing.assert_allclose(found["q"], (9 + 4 + 1) / 36)
    assert found["measured"] <= found["bound"] + 0.02


def test_tiny_version_runs(tmp_path):
    console = Console(file=io.StringIO())
    cells = runner.Cells(tmp_path, console)
    rows = thm1_decoder_mismatch.run(thm1_decoder_mismatch.TINY, cells)
    again = thm1_decoder_mismatch.run(thm1_decoder_mismatch.TINY, runner.Cells(tmp_path, console))
    assert report.to_json(rows) == report.to_json(again)
    found = thm1_decoder_mismatch.summarise(thm1_decoder_mismatch.TINY, rows)
    assert set(found["verdicts"].values()) <= {"holds", "holds in part", "fails"}
    # Without a spread of its own a reader cannot beat the other in it.
    for row in rows:
        if row["kind"] == "run":
            row["macro_f1"]["LR SGD"] = [0.5, 0.5]
    assert summary.family(rows, thm1_decoder_mismatch.TINY)["LR less IP"]["sd"]["value"] <= 0

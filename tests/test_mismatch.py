"""Theorem 1's experiment: its split of variances, readers and bounds, against references."""

import dataclasses
import functools
import io
import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from rich.console import Console

from experiments import runner, thm1_decoder_mismatch
from experiments.mismatch import bounds, encoders, readers, spread, summary
from kernlens.show import report
from kernlens.train import last_layer
from kernlens.types import Labels


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


def test_triplets_complexity_is_a_supremum_over_linear_maps():
    rng = np.random.default_rng(0)
    codes = np.arange(12) % 2
    z = rng.standard_normal((12, 1))
    (found,) = bounds.triplet_terms(z, codes, (400,), draws=4000, seed=0)
    # In one dimension the supremum over |w| <= 1 is |sum of signs z|: sqrt(2 / π) of its sd, of
    # z with mean square 1, over 1,200 rows. Drawn rows and draws err by about 3%.
    np.testing.assert_allclose(
        found["complexity"], math.sqrt(2 / math.pi) * math.sqrt(1200) / 400, rtol=0.08
    )
    radius = np.abs(z).max() / np.sqrt(np.mean(z**2))
    largest = math.log2(1 + math.exp(2 * radius**2))
    expected = 3 * math.sqrt(2) / math.log(2) * radius / largest * found["complexity"]
    np.testing.assert_allclose(found["generalisation"], expected, rtol=1e-9)


def test_classes_of_more_than_ten_are_compared_whole():
    """Class 12 is not class 1 and class 2."""
    first, second = [[12, 1, 11]], [[1, 1, 11]]
    alone = [{"classes": {"LR": one}} for one in (first, second)]
    z = np.random.default_rng(0).standard_normal((2, 5, 3))
    (pair,) = thm1_decoder_mismatch.between(alone, list(z))
    assert pair["changed"] == {"LR": pytest.approx(1 / 3)}


def test_twelve_classes_are_read(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.arange(240, dtype=np.int32) % 12
    z = readers.scaled(rng.standard_normal((240, 6)) + 3.0 * rng.standard_normal((12, 6))[codes])
    config = dataclasses.replace(thm1_decoder_mismatch.TINY, rotated_runs=0)
    task, test = Labels(codes, tuple(map(str, range(12)))), np.arange(240) >= 180
    cells = runner.Cells(tmp_path, Console(file=io.StringIO()))
    read = functools.partial(
        thm1_decoder_mismatch.read, z, task, np.arange(240), test, 0.0, config, bounded=False
    )
    rows = [cells(str(run), functools.partial(read, run=run)) for run in (0, 1)]
    (pair,) = thm1_decoder_mismatch.between(rows, [z, z])
    found = np.array(rows[0]["classes"]["LR exact"])
    assert found.shape == (1, 60)
    assert np.mean(found[0] == codes[180:]) > 0.8
    assert pair["changed"]["LR exact"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 2}, "--runs must be at least 3; got 2"),
        ({"text_runs": 1}, "--text-runs must be 0 or at least 3; got 1"),
        ({"rotated_runs": 0}, "--rotated-runs must be at least 1"),
        ({"sizes": (100, 0)}, "--sizes must be at least 2; got 0"),
        ({"sizes": ()}, "--sizes must name one value"),
        ({"delta": 0.0}, r"--delta must be in \(0, 1\)"),
    ],
)
def test_what_cannot_be_run_is_refused_first(options, message):
    config = dataclasses.replace(thm1_decoder_mismatch.TINY, **options)
    with pytest.raises(ValueError, match=message):
        thm1_decoder_mismatch.check(config)


def test_a_spread_of_two_runs_is_refused():
    with pytest.raises(ValueError, match="three at least; got 2"):
        spread.bootstrap(2, lambda drawn: 0.0, 10)


def test_no_class_left_is_refused():
    config = dataclasses.replace(thm1_decoder_mismatch.TINY, min_class_count=1000)
    with pytest.raises(ValueError, match="--min-class-count 1000 leaves 0 of 4 classes"):
        thm1_decoder_mismatch.load(config)


def test_the_loss_of_a_head_is_that_of_all_its_items():
    rng = np.random.default_rng(0)
    z, kernel, bias = (rng.standard_normal(s).astype(np.float32) for s in ((1, 9, 4), (4, 3), 3))
    task = Labels(np.arange(9, dtype=np.int32) % 3, ("a", "b", "c"))
    head = {"params": {"Dense_0": {"kernel": kernel[None], "bias": bias[None]}}}
    rows = np.array([0, 4, 5])
    fitted = last_layer.FineTuned(
        params={}, head=head, embeddings=z, losses=np.zeros((1, 1)), seconds=0.0
    )
    logits = z[0, rows].astype(float) @ kernel + bias
    expected = scipy.special.logsumexp(logits, axis=1) - logits[np.arange(3), task.codes[rows]]
    np.testing.assert_allclose(encoders.head_loss(fitted, task, rows), expected.mean(), rtol=1e-5)


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

"""Theorem 1's experiment: its split of variances, readers and bounds, against references."""

import dataclasses
import functools
import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from rich.console import Console
from scipy.spatial.distance import cdist
from sklearn import covariance, metrics, neighbors

from experiments.kit import spread
from experiments.kit.cells import Cells
from experiments.kit.verdicts import VERDICTS
from experiments.thm1_decoder_mismatch import bounds, encoders, readers
from experiments.thm1_decoder_mismatch import experiment as thm1_decoder_mismatch
from kernlens.show import report
from kernlens.train import last_layer
from kernlens.types import Labels


@pytest.fixture
def rows():
    """Three classes in four dimensions, 150 rows to learn from and 60 to judge on."""
    rng = np.random.default_rng(0)
    codes = np.minimum(rng.integers(0, 6, 210), 2)
    z = readers.scaled(rng.standard_normal((210, 4)) * [1, 1, 2, 3] + 2.0 * np.eye(4)[codes])
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


def test_sd_of_a_deterministic_reader_has_the_interval_of_chi_square():
    values = np.array([0.2, 0.5, 0.3, 0.9, 0.4])
    found = spread.between_sd(values[:, None])
    squares = np.sum((values - values.mean()) ** 2)
    # Tables: chi-square with 4 degrees has 5% beyond 9.488 and below 0.7107.
    expected = (np.sqrt(squares / 4), np.sqrt(squares / 9.4877), np.sqrt(squares / 0.71072))
    np.testing.assert_allclose([*found.values()], expected, rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("sd", [0.0, 0.4, 2.0])
def test_interval_of_the_sd_between_runs_covers(sd):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        values = sd * rng.standard_normal((8, 1)) + rng.standard_normal((8, 4))
        found = spread.between_sd(values)
        covered += found["low"] <= sd <= found["high"]
    # 90% less two and a half standard errors of 1.5%; without spread no upper end can miss.
    assert 0.86 <= covered / 400 <= (0.98 if sd == 0 else 0.95)


def test_runs_that_hardly_differ_leave_an_interval():
    """Means nearer than the heads' noise allows: no spread, but not surely none."""
    noise = np.array([-1.0, 0.2, 0.8])
    values = np.stack([np.roll(noise, run) for run in range(6)]) + 1e-3 * np.arange(6)[:, None]
    found = spread.between_sd(values)
    assert (found["value"], found["low"]) == (0.0, 0.0)
    assert found["high"] > 1e-3
    same = spread.between_sd(np.ones((4, 1)))
    assert same["value"] == 0.0
    assert math.isnan(same["high"])


def test_ratio_of_sds_ends_where_pitmans_test_is_at_its_level():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(9)
    y = 0.5 * x + 0.4 * rng.standard_normal(9)
    found = spread.ratio_of_sds(x[:, None], y[:, None])
    np.testing.assert_allclose(found["value"], x.std() / y.std())
    for end, side in (("low", 1), ("high", -1)):
        test: Any = scipy.stats.pearsonr(x + found[end] * y, x - found[end] * y)
        np.testing.assert_allclose(test.pvalue, 0.1, rtol=1e-6)
        assert np.sign(test.statistic) == side


def test_ratio_of_noisy_sds_is_that_of_their_intervals():
    rng = np.random.default_rng(3)
    a = 3.0 * rng.standard_normal((7, 1)) + rng.standard_normal((7, 5))
    b = rng.standard_normal((7, 1)) + 0.1 * rng.standard_normal((7, 5))
    found = spread.ratio_of_sds(a, b)
    one, other = (spread.between_sd(x, 0.025) for x in (a, b))
    assert found["value"] == pytest.approx(one["value"] / other["value"])
    assert found["low"] == pytest.approx(one["low"] / other["high"])
    assert found["high"] == pytest.approx(one["high"] / other["low"])
    assert spread.ratio_of_sds(a, np.ones((7, 1)))["value"] == math.inf


def test_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(4).standard_normal(7)
    found = spread.jackknife(7, lambda kept: float(values[kept].mean()))
    expected = scipy.stats.t.interval(0.9, 6, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose((found["low"], found["high"]), expected, rtol=1e-9)
    cut = spread.jackknife(7, lambda kept: float(values[kept].mean()), bounds=(-0.01, 0.01))
    assert -0.01 <= cut["low"] <= cut["high"] <= 0.01


def test_more_is_of_the_difference_and_of_what_is_beyond_twice():
    unlike, like = np.random.default_rng(6).random((2, 7))
    found = spread.more(7, lambda kept: unlike[kept].mean(), lambda kept: like[kept].mean())
    for name, values in (("difference", unlike - like), ("beyond twice", unlike - 2 * like)):
        expected = scipy.stats.t.interval(0.9, 6, values.mean(), scipy.stats.sem(values))
        np.testing.assert_allclose((found[name]["low"], found[name]["high"]), expected)


def test_rank_correlation_of_what_does_not_vary_is_undefined():
    assert math.isnan(spread.spearman(np.ones(5), np.arange(5.0)))
    assert math.isnan(spread.spearman(np.arange(2.0), np.arange(2.0)))
    found = spread.spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]))
    assert found == pytest.approx(0.8)


def test_pairs_of_kept_runs():
    matrix = np.arange(16.0).reshape(4, 4)
    found = spread.off_diagonal(matrix, np.array([0, 2, 3]))
    np.testing.assert_array_equal(found, [2.0, 3.0, 11.0])


def test_class_means_are_the_nearest(rows):
    z, codes, test, _ = rows
    expected = neighbors.NearestCentroid().fit(z, codes).predict(test)
    np.testing.assert_array_equal(readers.class_mean(z, codes, test, None)[0], expected)


def test_class_means_with_shares_are_gaussian_classes_of_one_variance(rows):
    z, codes, test, _ = rows
    means = np.stack([z[codes == c].mean(axis=0) for c in range(3)])
    variance = np.mean((z - means[codes]) ** 2)
    logits = np.log(np.bincount(codes) / 150) + np.stack(
        [scipy.stats.multivariate_normal(m, variance).logpdf(test) for m in means], axis=1
    )
    found = readers.class_mean(z, codes, test, None, prior=True)[0]
    np.testing.assert_array_equal(found, logits.argmax(axis=1))
    assert np.any(found != readers.class_mean(z, codes, test, None)[0])


def test_whitened_class_means_are_nearest_by_mahalanobis(rows):
    z, codes, test, _ = rows
    means = np.stack([z[codes == c].mean(axis=0) for c in range(3)])
    fitted = covariance.LedoitWolf(assume_centered=True).fit(z - means[codes])
    expected = cdist(test, means, "mahalanobis", VI=fitted.precision_).argmin(axis=1)
    np.testing.assert_array_equal(readers.whitened_mean(z, codes, test, None)[0], expected)


@pytest.mark.parametrize(("balanced", "l2"), [(False, None), (True, None), (True, 0.3)])
def test_logistic_regression_is_at_its_optimum(rows, balanced, l2):
    z, codes, *_ = rows
    head = readers.fitted_lr(z, codes, balanced=balanced, l2=l2)
    weight = (50.0 / np.bincount(codes) if balanced else np.ones(3))[codes]
    off = scipy.special.softmax(z @ head.coef_.T + head.intercept_, axis=1) - np.eye(3)[codes]
    slope = (weight[:, None] * off).T @ z / 150 + (1 / 150 if l2 is None else l2) * head.coef_
    np.testing.assert_allclose(slope, 0.0, atol=2e-4)


def test_strong_l2_leaves_the_direction_of_the_class_means(rows):
    z, codes, *_ = rows
    means = np.stack([z[codes == c].mean(axis=0) for c in range(3)])
    found = readers.fitted_lr(z, codes, balanced=True, l2=1e3).coef_
    found, expected = (x / np.linalg.norm(x) for x in (found, means - means.mean(axis=0)))
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("balanced", [False, True])
def test_sgd_comes_near_the_optimum(rows, balanced):
    z, codes, test, _ = rows
    found = readers.trained_lr(z, codes, test, np.arange(3), balanced=balanced)
    optimum = {
        value: readers.exact_lr(z, codes, test, None, balanced=value) for value in (False, True)
    }
    assert found.shape == (3, 60)
    assert np.mean(found != optimum[balanced]) < 0.08
    assert np.mean(found != optimum[balanced]) < np.mean(found != optimum[not balanced])


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(5)
    a, b = np.minimum(rng.integers(0, 9, (2, 2, 40)), 3)
    expected = [metrics.cohen_kappa_score(x, y) for x, y in itertools.product(a, b)]
    np.testing.assert_allclose(readers.kappa(a, b), np.mean(expected), rtol=1e-12)
    assert readers.kappa(np.ones((1, 5), int), np.ones((1, 5), int)) == 1.0


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
    assert pair["distances"]["coordinates"] == pytest.approx(np.mean(np.abs(z[0] - z[1])))


@pytest.mark.thorough
def test_twelve_classes_are_read(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.arange(240, dtype=np.int32) % 12
    z = readers.scaled(rng.standard_normal((240, 6)) + 3.0 * rng.standard_normal((12, 6))[codes])
    config = thm1_decoder_mismatch.TINY
    task, test = Labels(codes, tuple(map(str, range(12)))), np.arange(240) >= 180
    cells = Cells(tmp_path, Console(file=io.StringIO()))
    read = functools.partial(
        thm1_decoder_mismatch.read, z, task, np.arange(240), test, 0.0, config, bounded=False
    )
    rows = [cells(str(run), functools.partial(read, run=run)) for run in (0, 1)]
    (pair,) = thm1_decoder_mismatch.between(rows, [z, z])
    found = np.array(rows[0]["classes"][readers.LR])
    assert found.shape == (1, 60)
    assert np.mean(found[0] == codes[180:]) > 0.8
    assert (pair["changed"][readers.LR], pair["kappa"][readers.LR]) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 2}, "--runs must be at least 3; got 2"),
        ({"text_runs": 1}, "--text-runs must be 0 or at least 3; got 1"),
        ({"head_seeds": 1}, "--head-seeds must be at least 2; got 1"),
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
    with pytest.raises(ValueError, match="3 at least; got 2"):
        spread.jackknife(2, lambda kept: 0.0)
    with pytest.raises(ValueError, match="3 at least; got 2"):
        spread.between_sd(np.zeros((2, 1)))


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


@pytest.mark.thorough
def test_tiny_version_runs(tmp_path):
    console = Console(file=io.StringIO())
    cells = Cells(tmp_path, console)
    rows = thm1_decoder_mismatch.run(thm1_decoder_mismatch.TINY, cells)
    again = thm1_decoder_mismatch.run(thm1_decoder_mismatch.TINY, Cells(tmp_path, console))
    assert report.to_json(rows) == report.to_json(again)
    found = thm1_decoder_mismatch.summarise(thm1_decoder_mismatch.TINY, rows)
    again = thm1_decoder_mismatch.summarise(thm1_decoder_mismatch.TINY, report.to_json(rows))
    assert report.to_json(found) == report.to_json(again)
    assert [name.split(": ")[1] for name in found["verdicts"]] == [
        "mismatch", "whitening", "kernel distance", "bound", "contrastive bound",
    ]  # fmt: skip
    assert set(found["verdicts"].values()) <= set(VERDICTS)

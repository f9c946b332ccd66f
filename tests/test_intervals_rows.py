"""Intervals of scores of rows, of source posteriors, of forecasts, and of streams from files."""

import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from kernlens import moments
from kernlens.arrays.rows import unit_rows
from kernlens.scores import ROWS, curves, intervals, rows, source
from kernlens.scores.intervals import Jackknife
from tests import cases

X, CODES, _ = cases.gaussian_classes(0, n=64, separation=0.3)
X, OTHER = (
    X.astype(np.float32),
    (X + np.random.default_rng(1).standard_normal(X.shape)).astype("f4"),
)
POSTERIORS = np.exp(X[:, :4]) / np.exp(X[:, :4]).sum(axis=1, keepdims=True)
FEW = Jackknife(8, seed=2)


def overlap(a, b):
    return rows.neighbour_overlap(a, b, np.arange(len(a)), neighbours=3)


def leep(posteriors, codes):
    return source.leep(moments.from_arrays(posteriors, codes, 4), posteriors, codes)


CALLS = {
    "uniformity": (lambda x: rows.uniformity(unit_rows(x)), (X,)),
    "parc": (rows.parc, (X, CODES)),
    "neighbour_accuracy": (lambda x, y: rows.neighbour_accuracy(x, y, 4), (X, CODES)),
    "energy": (rows.energy, (X,)),
    "neighbour_overlap": (overlap, (X, OTHER)),
    "displacement": (rows.displacement, (X, OTHER)),
    "coherence": (lambda x: rows.coherence(moments.from_arrays(x, CODES[: len(x)], 4), x), (X,)),
    "leep": (leep, (POSTERIORS, CODES)),
}


def test_a_mean_has_the_standard_error_of_block_means():
    # n over the blocks is whole, so block means are n / G rows each and independent.
    made = intervals.sample_replicates(lambda x: x[:, 0].mean(), X.astype(np.float64), method=FEW)
    found = intervals.interval(made)
    block = np.random.default_rng(2).permutation(64) % 8
    means = [X[block == b, 0].astype(np.float64).mean() for b in range(8)]
    assert_allclose(intervals.standard_error(made), stats.sem(means), rtol=1e-9)
    low, high = stats.t.interval(0.9, 7, loc=np.mean(means), scale=stats.sem(means))
    assert_allclose([found.low, found.high], [low, high], rtol=1e-9)


@pytest.mark.parametrize("name", CALLS)
def test_scores_of_rows_are_those_of_the_rows_that_are_left(name):
    assert set(ROWS) < set(CALLS)
    fn, given = CALLS[name]
    found = intervals.sample_replicates(fn, *given, method=FEW)
    block = np.random.default_rng(2).permutation(64) % 8
    for b in (0, 5):
        kept = [part[block != b] for part in given]
        assert_allclose(found.values[b], float(fn(*kept)), rtol=1e-6)
    own = intervals.interval(found)
    assert own.low < own.value < own.high
    assert own.value == float(fn(*given))


def test_the_standard_error_of_a_score_of_pairs_is_its_spread_over_samples():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        x, y = rng.standard_normal((2, 64, 3))
        gaps = functools.partial(mean_gap, scale=2.0)
        found.append(intervals.sample_replicates(gaps, x, y, method=FEW))
    spread = np.std([own.value for own in found], ddof=1)
    # 60 samples tell a spread to 9%, and 8 blocks a standard error to 25% each.
    assert_allclose(np.mean([intervals.standard_error(own) for own in found]), spread, rtol=0.25)


def mean_gap(x, y, scale):
    """A U-statistic: mean distance of two rows' products."""
    products = np.sum(x * y, axis=1)
    first, second = np.triu_indices(len(x), 1)
    return scale * np.mean(np.abs(products[first] - products[second]))


@pytest.mark.thorough
def test_differences_are_paired():
    near = X + np.float32(1e-3) * OTHER
    a, b = (intervals.sample_replicates(rows.parc, x, CODES, method=FEW) for x in (X, near))
    gap = intervals.difference(a, b)
    assert not gap.separated
    assert gap.high - gap.low < 0.1 * (intervals.interval(a).high - intervals.interval(a).low)
    with pytest.raises(ValueError, match="same rows"):
        intervals.difference(a, intervals.sample_replicates(rows.parc, X[:32], CODES[:32]))


@pytest.mark.parametrize(
    ("given", "method", "message"),
    [
        ((), FEW, "same rows, at least one"),
        ((X, CODES[:3]), FEW, r"got \[64, 3\]"),
        ((X[:7],), FEW, "needs 2 to 7 blocks of the 7 rows"),
        ((X,), Jackknife(1), "needs 2 to 64 blocks"),
        ((X,), Jackknife(8, seed=-1), "seed >= 0"),
    ],
)
def test_mistakes_are_named(given, method, message):
    with pytest.raises(ValueError, match=message):
        intervals.sample_replicates(lambda *_: 0.0, *given, method=method)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite on 9 of 9 resamples"):
        intervals.sample_replicates(lambda x: np.nan, X, method=FEW)


@pytest.mark.thorough
def test_nce_and_forecasts_are_scores_of_resampled_moments():
    hard = np.asarray(source.hard(POSTERIORS))
    state = intervals.from_arrays(hard, CODES, 4, method=FEW)
    found = intervals.replicate(source.nce, state)
    assert_allclose(found.value, float(source.nce(moments.from_arrays(hard, CODES, 4))), rtol=1e-5)
    block = np.asarray(intervals.block_of(2, np.arange(64), 8))
    kept = block != 3
    alone = source.nce(moments.from_arrays(hard[kept], CODES[kept], 4))
    assert_allclose(found.values[3], float(alone), rtol=1e-5)
    state = intervals.from_arrays(X, CODES, 4, method=FEW, class_scatters=True)
    found = intervals.replicate(at_256_labels, state)
    own = intervals.interval(found, bounds=(0.0, np.inf))
    assert 0 <= own.low < own.value < own.high
    kept = moments.from_arrays(X[kept], CODES[kept], 4, class_scatters=True)
    assert_allclose(found.values[3], float(at_256_labels(kept)), rtol=1e-3)


def at_256_labels(m):
    return curves.learning_curve(m, [256]).errors[0]

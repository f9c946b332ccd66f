"""Coding rates from rows and from moments."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernlens import moments, scores
from kernlens.arrays.rows import unit_rows
from tests import cases


def rates_by_determinants(x, codes, epsilon):
    """TransRate from its definition, in float64."""
    z = x - x.mean(axis=0)

    def rate(rows):
        return (
            0.5 * np.linalg.slogdet(np.eye(x.shape[1]) + rows.T @ rows / (len(rows) * epsilon))[1]
        )

    parts = [rate(z[codes == c]) for c in np.unique(codes[codes >= 0])]
    return rate(z) - np.mean(parts)


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "dim"), [(60, 40), (300, 6)])  # few rows a class, and many
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_transrate_of_rows_is_that_of_moments(n, dim, mean):
    x, codes, num_classes = cases.gaussian_classes(1, n=n, dim=dim, unlabelled=5)
    x = (x + mean).astype(np.float32)
    codes[codes == 2] = 1  # a class without rows, and one twice as large
    got = scores.transrate_of_rows(x, codes, num_classes, epsilon=0.1)
    expected = rates_by_determinants(x.astype(np.float64), codes, 0.1)
    assert_allclose(got.value, expected, rtol=1e-5)
    of_moments = moments.from_arrays(x, codes, num_classes, class_scatters=True)
    assert_allclose(scores.transrate(of_moments, epsilon=0.1).value, expected, rtol=1e-5)
    assert got.null == 0.0


def rates_by_singular_values(x, codes, epsilon):
    """The same from the rows' own singular values, which no matrix of the features rounds."""
    z = x - x.mean(axis=0)

    def rate(rows, rank):
        values = np.linalg.svd(rows / np.sqrt(len(rows) * epsilon), compute_uv=False)
        return 0.5 * np.sum(np.log1p(values[:rank] ** 2))

    parts = [rate(z[codes == c], x.shape[1]) for c in np.unique(codes)]
    return rate(z, len(z) - 1) - np.mean(parts)


@pytest.mark.parametrize("n", [40, 300])  # fewer rows than features, and in each class alone
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("graded", [False, True])
def test_classes_of_fewer_rows_than_features_at_any_scale(n, scale, graded):
    rng, codes = np.random.default_rng(6), np.arange(n) % 8
    columns = 10.0 ** rng.uniform(-4, 4, 60) if graded else np.ones(60)
    x = rng.standard_normal((n, 60)) + rng.standard_normal((8, 60))[codes]
    x = (scale * columns * x).astype(np.float32)
    expected = rates_by_singular_values(x.astype(np.float64), codes, 1e-4)
    of_moments = moments.from_arrays(x, codes, 8, class_scatters=True)
    # A rate of the smallest scale is a difference of numbers a thousand times as large.
    for got in (scores.transrate(of_moments), scores.transrate_of_rows(x, codes, 8)):
        assert_allclose(got.value, expected, rtol=1e-4, atol=1e-9)


def test_transrate_of_rows_takes_small_classes_beside_a_large_one():
    # Room for the Gram matrices of two classes beside the rows, so that three make two groups.
    codes = np.repeat([0, 1, 2, -1], [30, 3, 5, 2])
    x = np.random.default_rng(3).standard_normal((len(codes), 50)).astype(np.float32)
    expected = rates_by_determinants(x.astype(np.float64), codes, 0.1)
    got = scores.transrate_of_rows(x, codes, 3, epsilon=0.1)
    assert_allclose(got.value, expected, rtol=1e-5)


@pytest.mark.thorough
def test_transrate_of_rows_without_classes_is_nothing():
    x = np.random.default_rng(4).standard_normal((5, 9)).astype(np.float32)
    for num_classes in (0, 2):
        assert scores.transrate_of_rows(x, np.full(5, -1), num_classes).value == 0.0


@pytest.mark.thorough
def test_a_gain_far_below_the_rates_keeps_its_digits():
    rng, num_classes = np.random.default_rng(5), 10
    codes = np.arange(20_011) % num_classes  # classes of nearly one size
    x = rng.standard_normal((num_classes, 12))[codes] + rng.standard_normal((len(codes), 12))
    x = (1e-4 * x).astype(np.float32)
    expected = rates_by_determinants(x.astype(np.float64), codes, 1e-4)
    assert 0 < abs(expected) < 1e-6
    made = moments.from_arrays(x, codes, num_classes, class_scatters=True)
    assert_allclose(scores.transrate(made).value, expected, rtol=1e-5)


@pytest.mark.thorough
def test_a_mean_far_above_the_spread_costs_the_weighted_gain_no_digits():
    x, codes, num_classes = cases.gaussian_classes(6, n=900, dim=12)
    x = (x + 1e3 * x.std() * np.linspace(0.5, 1.0, 12)).astype(np.float32)
    rows = np.asarray(unit_rows(jnp.asarray(x)))
    given = rows.astype(np.float64)
    distortion = 1e-4 * np.trace(given.T @ given) / len(given)

    def rate(some):
        matrix = np.eye(12) + some.T @ some / (len(some) * distortion)
        return 0.5 * np.linalg.slogdet(matrix)[1]

    parts = [np.mean(codes == c) * rate(given[codes == c]) for c in range(num_classes)]
    expected = (rate(given) - sum(parts)) / 12
    assert 0 < abs(expected) < 1e-3
    made = moments.from_arrays(rows, codes, num_classes, class_scatters=True)
    assert_allclose(scores.transrate_weighted(made).value, expected, rtol=1e-5)


def test_transrate_of_rows_refuses_what_moments_refuse():
    x = np.ones((5, 9), np.float32)
    with pytest.raises(ValueError, match=r"must lie in -1\.\.1; got 2 at row 4"):
        scores.transrate_of_rows(x, np.array([0, 1, 0, 1, 2]), 2)
    x[3] = np.nan
    with pytest.raises(ValueError, match="the first is row 3"):
        scores.transrate_of_rows(x, np.array([0, 1, 0, 1, 1]), 2)

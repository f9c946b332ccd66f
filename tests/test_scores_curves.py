"""Learning curves against closed cases and against ridge regression that is fitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from kernlens import moments
from kernlens.scores import curves, learning_curve


def sample(rng, n, *, dim=20, noise=0.6):
    """Two classes from a linear rule on features of falling variance, and label noise."""
    z = rng.standard_normal((n, dim))
    signal = z @ (1.0 / np.arange(1, dim + 1))
    codes = (signal + noise * rng.standard_normal(n) > 0).astype(np.int32)
    return (z * np.arange(1, dim + 1) ** -0.5).astype(np.float32), codes


def test_equal_eigenvalues_have_a_closed_form():
    # p / (1 + k) + r / k = n is a quadratic in k.
    p, n, ridge = 10, 7.0, 2.0
    found = curves.eigenlearning(jnp.ones(p), jnp.full(p, 0.1), n, ridge=ridge, noise=0.5)
    kappa = (p + ridge - n + np.sqrt((p + ridge - n) ** 2 + 4 * n * ridge)) / (2 * n)
    assert_allclose(found.kappa, kappa, rtol=1e-5)
    learnt = 1 / (1 + kappa)
    assert_allclose(found.learnabilities, learnt, rtol=1e-5)
    overfitting = n / (n - p * learnt**2)
    test = overfitting * ((1 - learnt) ** 2 + 0.5)
    assert_allclose(found.overfitting, overfitting, rtol=1e-5)
    assert_allclose(found.test_error, test, rtol=1e-5)
    assert_allclose(found.train_error, (ridge / (n * kappa)) ** 2 * test, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_learnability_is_conserved_at_any_scale(scale):
    values = jnp.asarray(scale**2 * np.arange(1.0, 51.0) ** -1.5, jnp.float32)
    ridge = 0.01 * values.sum()
    for n in (5.0, 30.0, 200.0):
        found = curves.eigenlearning(values, values, n, ridge=ridge, noise=0.0)
        total = found.learnabilities.sum() + ridge / found.kappa
        assert_allclose(total, n, rtol=1e-4)
        wide = np.asarray(values, np.float64)
        missed = np.sum((found.kappa / (wide + found.kappa)) ** 2 * wide)
        assert_allclose(found.test_error, found.overfitting * missed, rtol=1e-4)


@pytest.mark.thorough
def test_debiased_coefficients_average_to_the_truth():
    rng = np.random.default_rng(0)
    # Codes independent of the features: every coefficient is 0, and the plug-in one is not.
    found = []
    for _ in range(200):
        x = rng.standard_normal((40, 4)).astype(np.float32)
        m = moments.from_arrays(x, rng.integers(0, 3, 40).astype(np.int32), 3, class_scatters=True)
        found.append(curves.coefficients(m).squared)
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / 200**0.5
    assert np.all(np.abs(mean) < 4 * error)
    plug_in = 2 / 3 / 40
    assert np.all(error < 0.2 * plug_in)


@pytest.mark.thorough
def test_rows_without_labels_sharpen_the_spectrum_alone():
    rng = np.random.default_rng(1)
    x, codes = sample(rng, 600)
    hidden = codes.copy()
    hidden[200:] = -1
    few = curves.coefficients(moments.from_arrays(x, hidden, 2, class_scatters=True))
    every = curves.coefficients(moments.from_arrays(x, codes, 2, class_scatters=True))
    assert_allclose(few.eigenvalues, every.eigenvalues, rtol=1e-5)
    assert_allclose(few.squared.sum(), every.squared.sum(), rtol=0.25)


@pytest.mark.thorough
def test_forecast_at_four_times_the_labels():
    """From 150 labels (and unlabelled rows) to 600: against ridge fitted on 600, fresh rows."""
    rng = np.random.default_rng(2)
    x, codes = sample(rng, 2000)
    errors = []
    for _ in range(30):
        rows = rng.permutation(2000)
        hidden = np.full(2000, -1, np.int32)
        hidden[rows[:150]] = codes[rows[:150]]
        m = moments.from_arrays(x, hidden, 2, class_scatters=True)
        errors.append(float(learning_curve(m, [600]).errors[0]))
    measured = fitted_error(rng, 600)
    # One forecast has a standard deviation of 15% here; their mean is to be unbiased.
    assert abs(np.mean(errors) / measured - 1.0) < 0.08


def fitted_error(rng, n):
    test_x, test_codes = sample(rng, 4000)
    found = []
    for _ in range(5):
        x, codes = sample(rng, n)
        y = np.eye(2)[codes]
        z = x - x.mean(0)
        least = np.inf
        for strength in curves.STRENGTHS:
            ridge = strength * np.mean(np.sum(z**2, axis=1))
            weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
            guess = (test_x - x.mean(0)) @ weights + y.mean(0)
            least = min(least, np.mean(np.sum((np.eye(2)[test_codes] - guess) ** 2, axis=1)))
        found.append(least)
    return np.mean(found)


@pytest.mark.thorough
def test_errors_fall_with_labels_and_stay_below_those_of_guessing():
    x, codes = sample(np.random.default_rng(3), 500)
    m = moments.from_arrays(x, codes, 2, class_scatters=True)
    curve = learning_curve(m, [4, 20, 100, 1000, 100_000])
    assert np.all(np.diff(curve.errors) <= 1e-6)
    assert np.all(curve.errors <= 0.51)
    scaled = moments.from_arrays(1e3 * x, codes, 2, class_scatters=True)
    assert_allclose(learning_curve(scaled, curve.sizes).errors, curve.errors, rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("codes", [np.zeros(12, int), np.full(12, -1), np.arange(12) % 3])
def test_degenerate_labels_and_features_have_the_error_of_guessing(codes):
    labelled = codes[codes >= 0]
    shares = np.bincount(labelled, minlength=3) / max(len(labelled), 1)
    guessing = (1 - np.sum(shares**2)) * 12 / 11 if len(labelled) else 0.0
    codes = codes.astype(np.int32)

    def errors(x):
        m = moments.from_arrays(x, codes, 3, class_scatters=True)
        return np.asarray(learning_curve(m, [4, 100]).errors)

    for x in (np.zeros((12, 3)), np.ones((12, 3))):
        assert_allclose(errors(x.astype(np.float32)), guessing, rtol=1e-6, atol=1e-7)
    x = np.random.default_rng(4).random((12, 3)).astype(np.float32)
    with jax.enable_x64(True):
        expected = errors(x.astype(np.float64))
    assert np.all(expected <= guessing + 1e-9)
    assert_allclose(errors(x), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.thorough
def test_one_label_of_each_number_goes_to_the_bias():
    x, codes = sample(np.random.default_rng(6), 200)
    m = moments.from_arrays(x, codes, 2, class_scatters=True)
    found = curves.coefficients(m)
    curve = learning_curve(m, [5, 50])
    for n, error, strength in zip([5, 50], curve.errors, curve.strengths, strict=True):
        ridge = float(strength) * float(found.eigenvalues.sum())
        at = curves.eigenlearning(
            found.eigenvalues, found.squared, n - 1.0, ridge=ridge, noise=found.noise
        )
        assert_allclose(error, at.test_error, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0.0}, "eigenlearning: n must be finite and positive; got 0"),
        ({"n": np.nan}, "eigenlearning: n must be finite and positive; got nan"),
        ({"ridge": -1.0}, "eigenlearning: ridge must be finite and at least 0; got -1"),
        ({"noise": np.inf}, "eigenlearning: noise must be finite and at least 0; got inf"),
        ({"eigenvalues": jnp.asarray([1.0, -1e-3])}, "eigenlearning: eigenvalues must be finite"),
        ({"squared": jnp.asarray([np.nan, 0.0])}, "eigenlearning: squared must be finite; got nan"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    good = {
        "eigenvalues": jnp.ones(2), "squared": jnp.ones(2), "n": 3.0, "ridge": 0.1, "noise": 0.1
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        curves.eigenlearning(**(good | options))


@pytest.mark.parametrize("sizes", [[1], [4, np.nan], [4, 0]])
def test_numbers_of_labels_below_2_are_named(sizes):
    x, codes = sample(np.random.default_rng(5), 10)
    m = moments.from_arrays(x, codes, 2, class_scatters=True)
    with pytest.raises(ValueError, match="learning_curve: sizes must be numbers of labels, each"):
        learning_curve(m, sizes)


def test_eigenvalues_far_apart_and_a_million_labels():
    values = np.array([1e8, 1.0, 1e-8, 0.0])

    def learnt(log_kappa):
        return values / (values + np.exp(log_kappa))

    for n in (2.0, 4.0, 1e6):
        found = curves.eigenlearning(
            jnp.asarray(values, jnp.float32), jnp.asarray(values), n, ridge=0.0, noise=0.1
        )
        if n < 3:
            at = learnt(brentq(lambda k, n=n: learnt(k).sum() - n, -30.0, 20.0))
        else:  # more labels than directions: no regularisation is left
            at = (values > 0).astype(float)
        overfitting = n / (n - np.sum(at**2))
        assert_allclose(found.learnabilities, at, rtol=1e-4)
        assert_allclose(found.overfitting, overfitting, rtol=1e-4)
        error = overfitting * (np.sum((1 - at) ** 2 * values) + 0.1)
        assert_allclose(found.test_error, error, rtol=1e-4)
        assert_allclose(found.train_error, 0.0, atol=1e-30)


def test_moments_without_class_scatters_are_named():
    x, codes = sample(np.random.default_rng(5), 10)
    with pytest.raises(ValueError, match="build them with class_scatters=True"):
        curves.coefficients(moments.from_arrays(x, codes, 2))

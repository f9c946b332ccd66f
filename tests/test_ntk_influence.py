"""Influence of training rows: exact for ridge regression, and judged as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kernlens.ntk import influence

RNG = np.random.default_rng(0)


def ridge_regression(x, y, penalty):
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.parametrize(("n", "p"), [(30, 6), (8, 20)])
def test_of_ridge_regression_it_is_what_leaving_a_row_out_does(n, p):
    x, test, y = RNG.standard_normal((n, p)), RNG.standard_normal((5, p)), RNG.standard_normal(n)
    ridge = 0.1
    penalty = ridge * np.mean(np.sum(x**2, axis=1))
    whole = ridge_regression(x, y, penalty)
    expected = np.stack(
        [
            test @ (whole - ridge_regression(np.delete(x, i, 0), np.delete(y, i), penalty))
            for i in range(n)
        ],
        axis=1,
    )
    residuals = y - x @ whole
    options = {"ridge": ridge, "leave_one_out": True}
    got = influence.from_features(test, x, residuals, **options)
    assert_allclose(got, expected, rtol=1e-8, atol=1e-10)
    other = influence.from_kernels(test @ x.T, x @ x.T, residuals, **options)
    assert_allclose(other, expected, rtol=1e-8, atol=1e-10)
    # Without the leverage it is the first order of the same.
    leverage = np.einsum("ip,pi->i", x, np.linalg.solve(x.T @ x + penalty * np.eye(p), x.T))
    first = influence.from_features(test, x, residuals, ridge=ridge)
    assert_allclose(first, expected * (1 - leverage), rtol=1e-8, atol=1e-10)


def linear(params, x):
    return x @ params["w"]


@pytest.mark.thorough
def test_projections_of_a_linear_model_approach_its_own_kernel():
    x, test = (RNG.standard_normal((n, 8)).astype(np.float32) for n in (40, 6))
    residuals = RNG.standard_normal(40)
    params = {"w": jnp.ones(8)}
    exact = influence.from_kernels(test @ x.T, x @ x.T, residuals, ridge=0.3)
    made = [
        influence.trak(
            jax.random.key(seed), linear, params, x, residuals, test, num_features=512, ridge=0.3
        )
        for seed in range(2)
    ]
    for one in made:
        assert np.corrcoef(one.ravel(), exact.ravel())[0, 1] > 0.95
    # Two draws are nearer to it than one.
    mean = np.abs(np.mean(made, 0) - exact).mean()
    assert mean < max(np.abs(one - exact).mean() for one in made)


@pytest.mark.thorough
def test_another_function_of_the_same_parameters_is_explained():
    """The output of twice the model is moved twice as far."""
    x, test = (RNG.standard_normal((n, 8)).astype(np.float32) for n in (20, 4))
    args = (jax.random.key(0), linear, {"w": jnp.ones(8)}, x, np.ones(20), test)
    options = {"num_features": 64, "method": "vector_products"}
    one = influence.trak(*args, **options)
    two = influence.trak(*args, f_test=lambda p, x: 2.0 * linear(p, x), **options)
    # Float32 features.
    assert_allclose(two, 2 * one, rtol=1e-4, atol=1e-6)


def test_the_margin_is_the_log_odds_of_the_label():
    logits = jnp.asarray(RNG.standard_normal((7, 4)))
    labels = jnp.asarray(RNG.integers(0, 4, 7))
    margin = influence.margin_fn(lambda params, x: x)(None, (logits, labels))
    chance = jax.nn.softmax(logits)[jnp.arange(7), labels]
    assert_allclose(margin, jnp.log(chance / (1 - chance)), rtol=1e-4)


def test_scores_that_are_right_are_judged_so():
    n, m, models = 20, 3, 40
    scores = RNG.standard_normal((m, n))
    subsets = RNG.random((models, n)) < 0.5
    outputs = subsets @ scores.T
    assert_allclose(influence.linear_datamodeling_score(scores, subsets, outputs), 1.0)
    assert_allclose(influence.linear_datamodeling_score(-scores, subsets, outputs), -1.0)
    noisy = outputs + RNG.standard_normal(outputs.shape)
    got = influence.linear_datamodeling_score(scores, subsets, noisy)
    expected = [stats.spearmanr(outputs[:, j], noisy[:, j]).statistic for j in range(m)]
    assert_allclose(got, expected, rtol=1e-12)
    tied = np.round(outputs)
    got = influence.linear_datamodeling_score(np.round(scores), subsets, tied)
    rounded = subsets @ np.round(scores).T
    expected = [stats.spearmanr(rounded[:, j], tied[:, j]).statistic for j in range(m)]
    assert_allclose(got, expected, rtol=1e-12)
    assert_array_equal(influence.linear_datamodeling_score(scores, subsets, 0 * outputs), 0.0)
    changes = 2 * scores + 1
    assert_allclose(influence.leave_one_out_correlation(scores, changes), 1.0)


ONES = np.ones((3, 2))
BAD = {
    "features": (
        lambda: influence.from_features(ONES, np.ones((4, 3)), np.ones(4)),
        "features must",
    ),
    "residuals": (lambda: influence.from_features(ONES, ONES, np.ones(4)), r"each of 3.*\(4,\)"),
    "kernels": (lambda: influence.from_kernels(ONES, ONES, np.ones(3)), "kernels must be"),
    "ridge": (lambda: influence.from_features(ONES, ONES, np.ones(3), ridge=-1.0), "at least 0"),
    "rank": (
        lambda: influence.from_kernels(
            ONES.T @ ONES @ ONES.T, 0 * np.eye(3), np.ones(3), ridge=0.0
        ),
        "not positive definite beyond rounding: give a ridge",
    ),
    "finite": (lambda: influence.from_features(ONES * np.nan, ONES, np.ones(3)), "finite"),
    "outputs": (
        lambda: influence.trak(
            jax.random.key(0), lambda p, x: x @ p, jnp.ones((2, 2)), ONES, np.ones(3), ONES
        ),
        "one number an example",
    ),
    "models": (
        lambda: influence.linear_datamodeling_score(ONES, np.ones((1, 2)), np.ones((1, 3))),
        "two models or more",
    ),
    "changes": (lambda: influence.leave_one_out_correlation(ONES, ONES.T), "expected scores and"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_in_words(name):
    call, said = BAD[name]
    with pytest.raises(ValueError, match=said):
        call()

"""Ensembles of trained networks, and Gaussian processes as their law."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from kernlens.ntk import dynamics
from tests.test_ntk_dynamics import (
    OUTPUTS,
    TESTS,
    TIGHT,
    draws,
    golden,
    linear_model,
    relu_kernels,
    x64,
)

__all__ = ["x64"]


def ensemble_problem():
    """A linear model whose parameters start at random, some at zero: NNGP and NTK differ."""
    rng = np.random.default_rng(8)
    train, test = rng.standard_normal((5, 12)), rng.standard_normal((3, 12))
    spread = np.diag([1.0] * 5 + [0.4] * 4 + [0.0] * 3)
    spread[0, 1] = spread[1, 0] = 0.5

    def kernels(rows1, rows2):
        return SimpleNamespace(nngp=rows1 @ spread @ rows2.T, ntk=rows1 @ rows2.T)

    return train, test, spread, kernels, rng.standard_normal((5, 1))


@pytest.mark.parametrize("t", [0.0, 2.0, np.inf])
@pytest.mark.usefixtures("x64")
def test_the_ensemble_is_the_law_of_trained_random_models(t):
    train, test, spread, kernels, y = ensemble_problem()
    both, ridge = np.concatenate([train, test]), 0.3
    predict = dynamics.ensemble_mse(kernels(train, train), y, 1.0, ridge, True)
    got = predict(t, "ntk", kernels(both, train), kernels(both, both))
    # Trained parameters are affine in those at the start; the ridge pulls towards the start.
    inner = train.T @ train + ridge * np.eye(12)
    shrink = np.zeros((12, 12)) if np.isinf(t) else expm(-inner * t / len(y))
    reach = (np.eye(12) - shrink) @ np.linalg.inv(inner) @ train.T
    keep = np.eye(12) - reach @ train
    assert_allclose(got.mean, both @ reach @ y, rtol=TIGHT, atol=TIGHT)
    exact = both @ keep @ spread @ keep.T @ both.T
    assert_allclose(got.covariance, exact, rtol=TIGHT, atol=TIGHT)
    # And by drawing models, each trained from its own start.
    num = 40_000
    starts = np.random.default_rng(9).multivariate_normal(np.zeros(12), spread, num)
    trained = starts + (y.T - starts @ train.T) @ reach.T
    outputs = trained @ both.T
    spreads = np.diag(exact)
    error = np.sqrt((np.outer(spreads, spreads) + exact**2) / num)
    assert (np.abs(np.cov(outputs.T) - got.covariance) < 5 * error + TIGHT).all()
    off = np.abs(outputs.mean(0) - got.mean[:, 0])
    assert (off < 5 * np.sqrt(spreads / num) + TIGHT).all()


@pytest.mark.usefixtures("x64")
def test_members_of_nngp_and_ntkgp_see_noisy_targets():
    train, test, spread, kernels, y = ensemble_problem()
    ridge, t = 0.3, 2.0
    predict = dynamics.ensemble_mse(kernels(train, train), y, 1.0, ridge, True)
    got = predict(t, ("nngp", "ntkgp"), kernels(test, train), kernels(test, test))
    assert got.ntk is None
    for kind, start in [("nngp", spread), ("ntkgp", np.eye(12))]:
        values, vectors = np.linalg.eigh(start)
        root = vectors * np.sqrt(np.maximum(values, 0))
        # Trained by its own kernel: the model of whitened parameters, theta ~ N(0, I).
        a, b = train @ root, test @ root
        inner = a.T @ a + ridge * np.eye(12)
        reach = (np.eye(12) - expm(-inner * t / len(y))) @ np.linalg.inv(inner) @ a.T
        keep = b @ (np.eye(12) - reach @ a)
        noise = b @ reach
        answer = getattr(got, kind)
        assert_allclose(answer.mean, noise @ y, rtol=TIGHT, atol=TIGHT)
        assert_allclose(
            answer.covariance, keep @ keep.T + ridge * noise @ noise.T, rtol=TIGHT, atol=TIGHT
        )


@pytest.mark.parametrize("kind", ["nngp", "ntkgp"])
@pytest.mark.usefixtures("x64")
def test_gp_inference_equals_scikit_learn(kind):
    rng = np.random.default_rng(10)
    x, x_test, y = rng.standard_normal((9, 2)), rng.standard_normal((4, 2)), rng.normal(size=(9, 1))
    rbf, noise = RBF(1.3), 0.05
    reference = GaussianProcessRegressor(rbf, alpha=noise, optimizer=None).fit(x, y)
    predict = dynamics.gp_inference(rbf(x), y, noise, True)
    mean = predict(kind, rbf(x_test, x))
    got = predict(kind, rbf(x_test, x), rbf(x_test))
    expected, covariance = reference.predict(x_test, return_cov=True)
    assert_allclose(mean[:, 0], expected.ravel(), rtol=TIGHT, atol=TIGHT)
    assert_array_equal(mean, got.mean)
    assert_allclose(got.covariance, covariance, rtol=TIGHT, atol=TIGHT)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_an_ensemble_of_inputs_is_that_of_their_kernels():
    y, train, test, x, x_test = golden()
    by_inputs = dynamics.gradient_descent_mse_ensemble(relu_kernels, x, y, 0.5, 1e-3)
    by_kernels = dynamics.ensemble_mse(train, y, 0.5, 1e-3)
    test_test = relu_kernels(x_test, None, ("nngp", "ntk"))
    t = np.array([1.0, 30.0])
    assert_array_equal(by_inputs(t, x_test).ntk, by_kernels(t, None, test).ntk)
    for kind in ("nngp", "ntk", "ntkgp"):
        one, other = by_inputs(t, x_test, kind, True), by_kernels(t, kind, test, test_test)
        jax.tree.map(assert_array_equal, one, other)
        assert one.covariance.shape == (2, 3, 3)
        own, rows = by_inputs(t, None, kind, True), by_kernels(t, kind, train, train)
        jax.tree.map(assert_array_equal, own, rows)
        final = dynamics.gp_inference(train, y, 1e-3)(kind, test, test_test)
        jax.tree.map(assert_array_equal, final, by_kernels(None, kind, test, test_test))
    # The mean is what a single flow from zero gives.
    flow = dynamics.gradient_descent_mse(train.ntk, y, 0.5, 1e-3)(t, None, 0.0, test.ntk)
    assert_allclose(by_inputs(t, x_test, "ntk"), flow, rtol=TIGHT, atol=TIGHT)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_an_ensemble_with_output_axes_in_pairs():
    _, _, k_train, k_test, _ = linear_model(11, False)
    y, both = draws(11)[0], np.random.default_rng(12).standard_normal((OUTPUTS, OUTPUTS))
    both = both @ both.T + np.eye(OUTPUTS)
    k_tests = k_test @ k_test.T

    def pairs(kernel):
        outer = np.multiply.outer
        return SimpleNamespace(nngp=outer(kernel, np.eye(OUTPUTS)), ntk=outer(kernel, both))

    predict = dynamics.ensemble_mse(pairs(k_train), y, trace_axes=())
    got = predict(np.array([3.0, np.inf]), "ntk", pairs(k_test), pairs(k_tests))
    assert got.covariance.shape == (2, TESTS, TESTS, OUTPUTS, OUTPUTS)
    # In the eigenbasis of the output block the outputs part ways, each with a time of its own.
    values, vectors = np.linalg.eigh(both)
    for o, value in enumerate(values):
        single = dynamics.ensemble_mse(
            SimpleNamespace(nngp=k_train, ntk=k_train * value), y @ vectors[:, [o]], 1 / OUTPUTS
        )
        answer = single(
            np.array([3.0, np.inf]),
            "ntk",
            SimpleNamespace(nngp=k_test, ntk=k_test * value),
            k_tests,
        )
        assert_allclose(got.mean @ vectors[:, o], answer.mean[..., 0], rtol=TIGHT, atol=TIGHT)
        rotated = np.einsum("tijab,a,b->tij", got.covariance, vectors[:, o], vectors[:, o])
        assert_allclose(rotated, answer.covariance, rtol=TIGHT, atol=1e-8)


@pytest.mark.thorough
def test_variances_of_a_float32_kernel_keep_their_digits():
    x = np.linspace(-2, 2, 30)
    prior = np.float32(1e3 * np.exp(-0.5 * (x[:, None] - x) ** 2))
    y = np.ones((30, 1), np.float32)

    def variances(prior):
        found = dynamics.gp_inference(prior, y, 0.1, True)("nngp", prior, prior)
        assert found.covariance.dtype == jnp.float32
        return jnp.diagonal(found.covariance)

    wide = prior.astype(np.float64)
    exact = np.diag(wide - wide @ np.linalg.solve(wide + 0.1 * np.eye(30), wide))
    # 0.02 is left of 1000; float32 subtraction knows it to 6e-5, 0.3 percent.
    assert_allclose(variances(prior), exact, rtol=1e-5)
    # Under a trace the arithmetic is float32: off by more, and never below zero.
    traced = np.asarray(jax.jit(variances)(prior))
    assert traced.min() >= 0
    assert_allclose(traced, exact, rtol=0, atol=1e-5 * 1e3)

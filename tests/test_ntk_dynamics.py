"""Training dynamics against models that are trained, float64 solvers and other people's values."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import expit, softmax

from kernlens.ntk import dynamics
from kernlens.ntk.dynamics.spectrum import flow_response, step_response
from tests import cases

# Two float64 computations of problems with condition numbers up to 1e4.
TIGHT = 1e-9
ROWS, TESTS, OUTPUTS = 6, 4, 3


def host(values):
    return jax.tree.map(np.asarray, values)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def linear_model(seed, full):
    """A model linear in its parameters: Jacobians ``[rows * O, P]``, kernels, ``trace_axes``.

    ``full`` couples the outputs; otherwise each has weights of its own on shared features.
    """
    rng = np.random.default_rng(seed)
    sizes = {"train": ROWS, "test": TESTS}
    if full:
        jacobians = {k: rng.standard_normal((n, OUTPUTS, 25)) for k, n in sizes.items()}
        kernels = {k: np.einsum("iap,jbp->ijab", jacobians[k], jacobians["train"]) for k in sizes}
        flat = {k: j.reshape(-1, 25) for k, j in jacobians.items()}
        return flat["train"], flat["test"], kernels["train"], kernels["test"], ()
    features = {k: rng.standard_normal((n, 9)) for k, n in sizes.items()}
    flat = {k: np.kron(f, np.eye(OUTPUTS)) for k, f in features.items()}
    kernels = {k: f @ features["train"].T for k, f in features.items()}
    return flat["train"], flat["test"], kernels["train"], kernels["test"], (-1,)


def draws(seed):
    """Targets and the outputs at the start, for training and test rows."""
    rng = np.random.default_rng(seed + 100)
    shapes = [(ROWS, OUTPUTS), (ROWS, OUTPUTS), (TESTS, OUTPUTS)]
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 2.5])
@pytest.mark.usefixtures("x64")
def test_flow_is_the_flow_of_the_parameters(full, ridge):
    train, test, k_train, k_test, trace_axes = linear_model(0, full)
    y, f_train, f_test = draws(0)
    t, rate, size = np.array([[0.0, 0.3], [4.0, 90.0]]), 0.7, y.size
    predict = dynamics.gradient_descent_mse(k_train, y, rate, ridge, True, trace_axes)
    got_train, got_test = host(predict(t, f_train, f_test, k_test))
    # theta' = -(J'(J theta - r) + ridge * theta) / N, from zero, by a matrix exponential.
    inner = train.T @ train + ridge * np.eye(train.shape[1])
    goal = np.linalg.pinv(inner) @ train.T @ (y - f_train).ravel()
    for at in np.ndindex(t.shape):
        theta = goal - expm(-inner * t[at] * rate / size) @ goal
        for got, jacobian, start in [(got_train, train, f_train), (got_test, test, f_test)]:
            expected = start + (jacobian @ theta).reshape(start.shape)
            assert_allclose(got[at], expected, rtol=TIGHT, atol=TIGHT)
    assert_array_equal(got_train[0, 0], f_train)
    assert_array_equal(got_test[0, 0], f_test)
    # The training rows are rows like any other.
    again = predict(t, f_train, f_train, k_train)[1]
    assert_allclose(again, got_train, rtol=TIGHT, atol=TIGHT)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 2.5])
@pytest.mark.parametrize("share", [pytest.param(0.3, marks=pytest.mark.slow), 0.93, 1.2])
@pytest.mark.usefixtures("x64")
def test_discrete_descent_is_descent_step_by_step(full, ridge, share):
    train, test, k_train, k_test, trace_axes = linear_model(1, full)
    y, f_train, f_test = draws(1)
    bound = dynamics.max_learning_rate(
        k_train, y.size, diag_reg=ridge, diag_reg_absolute_scale=True
    )
    rate, steps = share * float(bound), [0, 1, 2, 7, 40]
    predict = dynamics.discrete_gradient_descent_mse(k_train, y, rate, ridge, True, trace_axes)
    got_train, got_test = host(predict(np.array(steps), f_train, f_test, k_test))
    theta, at = np.zeros(train.shape[1]), 0
    for step in range(max(steps) + 1):
        if step in steps:
            expected = [
                f + (j @ theta).reshape(f.shape) for j, f in [(train, f_train), (test, f_test)]
            ]
            # Above the bound the outputs, and the rounding with them, grow.
            size = max(np.abs(e).max() for e in expected)
            assert_allclose(got_train[at], expected[0], rtol=TIGHT, atol=TIGHT * size)
            assert_allclose(got_test[at], expected[1], rtol=TIGHT, atol=TIGHT * size)
            at += 1
        slope = train.T @ (train @ theta + f_train.ravel() - y.ravel()) + ridge * theta
        theta = theta - rate / y.size * slope
    assert at == len(steps)
    if share > 1:
        with pytest.raises(ValueError, match="does not converge: the bound is"):
            predict(None)
    else:
        flow = dynamics.gradient_descent_mse(k_train, y, 1.0, ridge, True, trace_axes)
        assert_allclose(predict(None, f_train), flow(None, f_train), rtol=TIGHT, atol=TIGHT)


@pytest.mark.usefixtures("x64")
def test_small_steps_approach_the_flow():
    _, _, kernel, _, _ = linear_model(2, False)
    y = draws(2)[0]
    flow = dynamics.gradient_descent_mse(kernel, y)(3.0)
    errors = [
        float(jnp.abs(dynamics.discrete_gradient_descent_mse(kernel, y, 3.0 / k)(k) - flow).max())
        for k in (100, 200, 400)
    ]
    # First order in the step.
    assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, rtol=0.05)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_responses_keep_their_digits(dtype):
    with jax.enable_x64(True):
        values = jnp.geomspace(1e-4, 1.0, 30).astype(dtype)
        exact = np.asarray(values, np.longdouble)
        eps = float(jnp.finfo(dtype).eps)
        for a in [1e-12, 1e-3, 1.0, 1e3, 1e12]:
            a = jnp.asarray(a, dtype)
            expected = -np.expm1(-exact * np.longdouble(a)) / exact
            assert_allclose(flow_response(values, a), expected.astype(float), rtol=8 * eps)
        for eta, k in [(1e-6, 3), (1e-6, 10**6), (0.3, 5), (0.9, 50), (1.7, 21), (1.7, 22)]:
            eta = jnp.asarray(eta, dtype)
            x = exact * np.longdouble(eta)
            below = -np.expm1(k * np.log1p(-np.minimum(x, 0.999))) / exact
            expected = np.where(x < 0.999, below, (1 - (1 - x) ** k) / exact)
            # eta * s is rounded, and the power multiplies that by k until it has decayed.
            got = step_response(values, eta, jnp.asarray(k, dtype))
            assert_allclose(got, expected.astype(float), rtol=40 * eps)


def relu_kernels(x1, x2, get):
    """NNGP and NTK of the golden network: Dense(1.5, 0.1), relu, Dense(1.2, 0.05)."""
    assert get == ("nngp", "ntk")
    x2 = x1 if x2 is None else x2

    def first(a, b):
        return 1.5**2 * (a @ b.T) / a.shape[1] + 0.1**2

    inner = first(x1, x2)
    lengths = np.sqrt(np.outer(np.diag(first(x1, x1)), np.diag(first(x2, x2))))
    angle = np.arccos(np.clip(inner / lengths, -1, 1))
    relu = lengths * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    nngp = 1.2**2 * relu + 0.05**2
    return SimpleNamespace(nngp=nngp, ntk=nngp + 1.2**2 * inner * (np.pi - angle) / (2 * np.pi))


def golden():
    x, y, x_test = (
        np.random.RandomState(seed).standard_normal(shape)
        for seed, shape in [(2, (8, 4)), (3, (8, 1)), (4, (3, 4))]
    )
    both = ("nngp", "ntk")
    return y, relu_kernels(x, None, both), relu_kernels(x_test, x, both), x, x_test


@pytest.mark.usefixtures("x64")
def test_flow_equals_the_golden_values():
    y, train, test, _, _ = golden()
    values = json.loads((cases.GOLDEN / "ntk_values.json").read_text())["dynamics_mse"]
    t = np.array([float(key) for key in values])
    # The values are those without a ridge, to the last digits; the 1e-6 that the file speaks of
    # would show in the sixth.
    predict = dynamics.gradient_descent_mse(train.ntk, y)
    got_train, got_test = host(predict(t, 0.0, 0.0, test.ntk))
    for i, value in enumerate(values.values()):
        assert_allclose(got_train[i], value["train"], rtol=1e-12, atol=1e-13)
        assert_allclose(got_test[i], value["test"], rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_no_time_is_infinite_time_and_late_times_approach_it():
    _, _, kernel, k_test, _ = linear_model(3, False)
    y, f_train, f_test = draws(3)
    predict = dynamics.gradient_descent_mse(kernel, y)
    last = predict(None, f_train, f_test, k_test)
    assert last[0].shape == (ROWS, OUTPUTS)
    for t in (np.inf, 1e9):
        for got, expected in zip(predict(t, f_train, f_test, k_test), last, strict=True):
            assert_allclose(got, expected, rtol=TIGHT, atol=TIGHT)
    assert_allclose(last[0], y, rtol=TIGHT, atol=TIGHT)
    solved = f_test + k_test @ np.linalg.solve(kernel, y - f_train)
    assert_allclose(last[1], solved, rtol=TIGHT, atol=TIGHT)


@pytest.mark.parametrize("trace_axes", [pytest.param((1,), marks=pytest.mark.slow), (-1,), (2, 1)])
@pytest.mark.usefixtures("x64")
def test_traced_axes_stand_for_identical_blocks(trace_axes):
    rng = np.random.default_rng(4)
    shape = (5, 2, 3)
    features = rng.standard_normal((5, 7)), rng.standard_normal((4, 7))
    factors = {1: rng.standard_normal((2, 2)), 2: rng.standard_normal((3, 3))}
    traced = {a % 3 for a in trace_axes}
    blocks = {a: np.eye(shape[a]) if a in traced else f @ f.T for a, f in factors.items()}
    y, f_test = rng.standard_normal(shape), rng.standard_normal((4, 2, 3))

    def kernel(rows, axes):
        result = rows @ features[0].T
        for axis in axes:
            result = np.multiply.outer(result, blocks[axis])
        return result

    kept = [a for a in (1, 2) if a not in traced]
    answers = [
        dynamics.gradient_descent_mse(kernel(features[0], axes), y, trace_axes=trace)(
            np.array([0.5, 20.0]), 0.1, f_test, kernel(features[1], axes)
        )
        for axes, trace in [((1, 2), ()), (kept, trace_axes)]
    ]
    for whole, traced_answer in zip(*answers, strict=True):
        assert_allclose(traced_answer, whole, rtol=TIGHT, atol=TIGHT)


@pytest.mark.thorough
def test_a_singular_kernel_in_float32_stays_bounded_at_every_time():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((60, 15))
    train, test = np.concatenate([features, features]), rng.standard_normal((20, 15))
    y = rng.standard_normal((120, 2))  # equal rows with targets that differ
    t = np.array([0.0, 1.0, 100.0, 1e4, 1e5, 1e6, 1e8, 1e12, np.inf])
    with jax.enable_x64(False):
        kernel = (train @ train.T).astype(np.float32)
        assert dynamics.spectrum(kernel).values[0] < 0  # by rounding, and not refused for it
        predict = dynamics.gradient_descent_mse(kernel, y.astype(np.float32))
        got = host(predict(t, 0.0, 0.0, (test @ train.T).astype(np.float32)))
    # In the features, where nothing is singular.
    values, vectors = np.linalg.eigh(train.T @ train)
    for i, time in enumerate(t):
        shrunk = -np.expm1(-values * time / y.size) / values
        theta = vectors @ (shrunk[:, None] * (vectors.T @ (train.T @ y)))
        for rows, outputs in zip((train, test), got, strict=True):
            # Half the digits of float32 while unresolved directions fade out, all but two after.
            assert_allclose(outputs[i], rows @ theta, atol=1e-5 if time > 1e7 else 5e-4)


@pytest.mark.usefixtures("x64")
def test_a_spectrum_serves_every_ridge_and_layout():
    train, _, kernel, _, trace_axes = linear_model(6, True)
    y = draws(6)[0]
    parts = dynamics.spectrum(kernel)
    assert_allclose((parts.vectors * parts.values) @ parts.vectors.T, train @ train.T, atol=1e-12)
    for ridge in (0.0, 0.1):
        one, other = (
            dynamics.gradient_descent_mse(k, y, diag_reg=ridge, trace_axes=trace_axes)(9.0)
            for k in (kernel, parts)
        )
        assert_array_equal(one, other)
    assert dynamics.max_learning_rate(parts) == dynamics.max_learning_rate(kernel)


@pytest.mark.usefixtures("x64")
def test_the_ridge_is_relative_to_the_mean_eigenvalue():
    _, _, kernel, _, trace_axes = linear_model(7, True)
    y = draws(7)[0]
    mean = np.einsum("iiaa", kernel) / y.size
    relative = dynamics.gradient_descent_mse(kernel, y, 1.0, 0.2, False, trace_axes)(5.0)
    absolute = dynamics.gradient_descent_mse(kernel, y, 1.0, 0.2 * mean, True, trace_axes)(5.0)
    assert_allclose(relative, absolute, rtol=TIGHT)
    bound = dynamics.max_learning_rate(kernel, diag_reg=0.2)
    top = np.linalg.eigvalsh(kernel.transpose(0, 2, 1, 3).reshape(y.size, -1))[-1]
    assert_allclose(bound, 2 * y.size / (top + 0.2 * mean), rtol=TIGHT)
    assert jnp.isinf(dynamics.max_learning_rate(np.zeros((3, 3))))


TARGETS = np.eye(OUTPUTS)[np.arange(ROWS) % OUTPUTS]
GRADIENTS = {
    "mse": lambda f, y: (f - y) / y.size,
    "softmax_cross_entropy": lambda f, y: (softmax(f, 1) - y) / len(y),
    "logistic": lambda f, y: (expit(f) - y) / y.size,
}


@pytest.mark.parametrize("name", sorted(dynamics.LOSSES))
def test_losses_have_the_gradients_of_their_formulas(name):
    fx = np.float32(3 * draws(12)[0])
    gradient = jax.grad(dynamics.LOSSES[name])(fx, np.float32(TARGETS))
    assert_allclose(gradient, GRADIENTS[name](fx, TARGETS), rtol=1e-5, atol=1e-7)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_the_flow_of_cross_entropy_is_the_flow_of_the_parameters():
    train, test, k_train, k_test, trace_axes = linear_model(13, True)
    _, f_train, f_test = draws(13)
    t, rate = np.array([2.0, 0.5, 0.0, 8.0]), 0.9
    predict = dynamics.gradient_descent(
        dynamics.softmax_cross_entropy,
        k_train,
        TARGETS,
        rate,
        trace_axes=trace_axes,
        rtol=1e-9,
        atol=1e-10,
        max_steps=250,
        return_info=True,
    )
    outputs, info = host(predict(t, f_train, f_test, k_test))
    assert info.success
    assert 3 < info.num_steps < 250

    def velocity(_, theta):
        fx = f_train + (train @ theta).reshape(f_train.shape)
        return -rate * train.T @ GRADIENTS["softmax_cross_entropy"](fx, TARGETS).ravel()

    solution = solve_ivp(
        velocity, (0, 8), np.zeros(train.shape[1]), "DOP853", np.sort(t), rtol=1e-11, atol=1e-12
    )
    for at, theta in zip(np.argsort(t), solution.y.T, strict=True):
        for got, jacobian, start in zip(outputs, (train, test), (f_train, f_test), strict=True):
            expected = start + (jacobian @ theta).reshape(start.shape)
            # Some hundreds of steps with errors of up to 1e-9 of outputs of order one.
            assert_allclose(got[at], expected, atol=1e-7)
    # A solver that gives up says so, and keeps what it reached.
    again, info = host(predict(np.array([2.0, 1e9, 0.0, 8.0]), f_train, f_test, k_test))
    assert not info.success
    assert info.num_steps == 250
    for early, late in zip(outputs, again, strict=True):
        assert np.isnan(late[1]).all()
        assert_allclose(late[[0, 2, 3]], early[[0, 2, 3]], atol=1e-7)


@pytest.mark.slow
def test_the_solver_agrees_with_the_closed_form_in_the_default_precision():
    _, _, kernel, k_test, _ = linear_model(15, False)
    y, f_train, f_test = draws(15)
    t = np.array([[1.0, 5.0], [0.2, 0.0]])
    closed = dynamics.gradient_descent_mse(kernel, y, 0.5)(t, f_train, f_test, k_test)
    # As in neural-tangents: outputs of training rows, of test rows, or a pair of both.
    predict = dynamics.gradient_descent(dynamics.mse, kernel, y, 0.5)
    solved = jax.jit(lambda t: predict(t, f_train, f_test, k_test))(t)
    assert_allclose(predict(t, f_train), solved[0], atol=1e-5)
    alone, pair = (predict(t, start, f_test, k_test) for start in (None, 0.0))
    assert_allclose(alone, pair[1], atol=1e-5)
    hasty = dynamics.gradient_descent(dynamics.mse, kernel, y, 0.5, max_steps=2)
    with pytest.warns(UserWarning, match="gave up after 2 steps: outputs of later times are NaN"):
        assert np.isnan(hasty(50.0)).all()
    for one, other in zip(solved, closed, strict=True):
        # Ten times the tolerance of a step; float32 rounding is below that.
        assert_allclose(one, other, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_predictions_compile_map_and_differentiate():
    _, _, kernel, k_test, _ = linear_model(17, False)
    kernel, k_test, y = (jnp.asarray(a) for a in (kernel, k_test, draws(17)[0]))

    def flow(kernel, y, t):
        return dynamics.gradient_descent_mse(kernel, y)(t, None, 0.0, k_test)

    t = jnp.asarray(3.0)
    expected = flow(kernel, y, t)
    batched = jax.jit(jax.vmap(flow, (0, 0, None)))(
        jnp.stack([kernel, kernel]), jnp.stack([y, 2 * y]), t
    )
    assert_allclose(batched, jnp.stack([expected, 2 * expected]), rtol=TIGHT, atol=TIGHT)
    # Linear in the targets: the gradient of the sum is the sum of the response.
    slope = jax.grad(lambda y: flow(kernel, y, t).sum())(y)
    assert_allclose((slope * y).sum(), expected.sum(), rtol=TIGHT)
    # First called under a trace, then outside: nothing of the trace stays behind.
    ensemble = dynamics.ensemble_mse(SimpleNamespace(nngp=kernel, ntk=kernel), y)
    inside = jax.jit(lambda t: ensemble(t, "ntk", k_test))(t)
    assert_allclose(inside, expected, rtol=TIGHT, atol=TIGHT)
    assert_allclose(inside, ensemble(t, "ntk", k_test), rtol=TIGHT, atol=TIGHT)


def test_without_diffrax_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"diffrax: pip install 'kernlens\[ntk\]'"):
        dynamics.gradient_descent(dynamics.mse, np.eye(2), np.ones((2, 1)))


EYE, ONES = np.eye(4), np.ones((4, 2))
BUILD = dynamics.gradient_descent_mse
NAN = np.where(np.eye(4) > 0, np.nan, 1.0)
BAD = {
    "not square": (lambda: BUILD(EYE[:3], ONES), r"must be of shape \(4, 4\).*got \(3, 4\)"),
    "other rows": (lambda: BUILD(np.eye(5), ONES), r"must be of shape \(4, 4\).*got \(5, 5\)"),
    "full, traced": (
        lambda: BUILD(np.ones((4, 4, 2, 2)), ONES),
        r"shape \(4, 4\).*trace_axes=\(-1,\); got \(4, 4, 2, 2\)",
    ),
    "traced, full": (lambda: BUILD(EYE, ONES, trace_axes=()), r"must be of shape \(4, 4, 2, 2\)"),
    "no output axis": (lambda: BUILD(EYE, ONES[:, 0]), r"Targets of shape \[n\] need trace_axes"),
    "row axis traced": (lambda: BUILD(EYE, ONES, trace_axes=(0,)), "output axes of y_train"),
    "no rows": (lambda: BUILD(EYE[:0, :0], ONES[:0]), "must have rows"),
    "not finite": (lambda: BUILD(NAN, ONES), "k_train_train: 4 of 16 values are not finite"),
    "target": (lambda: BUILD(EYE, ONES * np.inf), "y_train: 8 of 8 values are not finite"),
    "asymmetric": (lambda: BUILD(np.triu(np.ones((4, 4))), ONES), "not symmetric"),
    "indefinite": (lambda: BUILD(EYE - 0.5, ONES), "not positive semi-definite.* from -1 to 1"),
    "ridge": (lambda: BUILD(EYE, ONES, 1.0, -0.1), r"diag_reg must be at least 0; got -0.1"),
    "rate": (lambda: BUILD(EYE, ONES, 0.0), "learning_rate must be above 0; got 0.0"),
    "time": (lambda: BUILD(EYE, ONES)(np.array([1.0, -1.0])), "t must be at least 0"),
    "nan time": (lambda: BUILD(EYE, ONES)(np.nan), "t must be at least 0; got nan"),
    "no cross": (lambda: BUILD(EYE, ONES)(1.0, 0.0, 0.0), "need k_test_train"),
    "cross": (lambda: BUILD(EYE, ONES)(1.0, 0.0, 0.0, np.ones((3, 5))), r"got \(3, 5\)"),
    "start": (lambda: BUILD(EYE, ONES)(1.0, np.ones(3)), r"number or of shape \(4, 2\)"),
    "nothing": (lambda: BUILD(EYE, ONES)(1.0, None), "nothing to predict"),
    "spectrum": (lambda: BUILD(dynamics.spectrum(np.eye(3)), ONES), "of 4 eigenvalues"),
    "spectrum shape": (lambda: dynamics.spectrum(np.ones((2, 2, 3))), r"\[n, n, O, O\].*got"),
    "spectrum pairs": (lambda: dynamics.spectrum(np.ones((2, 2, 3, 1))), r"output axes in pairs"),
    "bound": (lambda: dynamics.max_learning_rate(np.ones((2, 3))), r"got \(2, 3\)"),
    "half a step": (
        lambda: dynamics.discrete_gradient_descent_mse(EYE, ONES)(1.5),
        "steps must be whole numbers; got 1.5",
    ),
    "kind": (lambda: dynamics.gp_inference(EYE, ONES)("gp"), "'nngp', 'ntk', 'ntkgp'; got 'gp'"),
    "kernel": (
        lambda: dynamics.gp_inference(SimpleNamespace(nngp=EYE), ONES)("ntk"),
        "k_train_train lacks the kernel 'ntk'",
    ),
    "one of two": (
        lambda: dynamics.gp_inference(EYE, ONES)("ntk", EYE, EYE),
        "covariance of 'ntk' needs both kernels",
    ),
    "loss": (
        lambda: dynamics.gradient_descent(lambda f, y: f - y, EYE, ONES),
        r"loss must give a scalar.*\(4, 2\)",
    ),
    "tolerance": (
        lambda: dynamics.gradient_descent(dynamics.mse, EYE, ONES, rtol=0.0),
        "rtol must be above 0",
    ),
    "endless": (
        lambda: dynamics.gradient_descent(dynamics.mse, EYE, ONES)(np.inf),
        "t: 1 of 1 values are not finite",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_indefinite_kernel_is_taken_with_a_ridge_that_mends_it():
    # Ones are an eigenvector with eigenvalue 1 - 4 / 2 = -1, which ends at -1 / (-1 + 2) = -1.
    assert_allclose(BUILD(EYE - 0.5, ONES, 1.0, 2.0, True)(None), -ONES, rtol=1e-5)

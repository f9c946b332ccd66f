"""What a user of neural-tangents calls: batches, momentum, keywords, functions that couple rows."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import kernlens.ntk as nt
from tests.test_ntk_parts import CLOSE, PARAMS, X1, X2, f, full, initial

dynamics = nt.dynamics
RNG = np.random.default_rng(3)


@pytest.fixture
def enable_x64():
    with jax.enable_x64(True):
        yield


# --- batch -------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("size", [0, 1, 3, 5, 100])
def test_batches_of_any_size_give_the_whole_kernel(size):
    kernel_fn = nt.empirical_kernel_fn(f, trace_axes=())
    for on_device in (True, False):
        batched = nt.batch(kernel_fn, size, store_on_device=on_device)
        for x2 in (None, X2):
            got, expected = (k(X1, x2, None, PARAMS) for k in (batched, kernel_fn))
            for one, other in zip(got, expected, strict=True):
                assert isinstance(one, jax.Array if on_device else np.ndarray)
                # Other sums of the same float32 products.
                assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_batch_holds_a_block_at_a_time_and_hands_on_keywords():
    seen = []

    def kernel_fn(x1, x2, scale, *, shift=0.0):
        seen.append((len(x1), None if x2 is None else len(x2)))
        return scale * (x1 @ (x1 if x2 is None else x2).T) + shift

    k = nt.batch(kernel_fn, 4)(X1, None, 2.0, shift=1.0)
    assert_allclose(k, 2.0 * X1 @ X1.T + 1.0, rtol=1e-5, atol=1e-5)
    assert seen == [(4, None), (4, 3), (3, 4), (3, None)]


def test_batch_refuses_what_it_cannot_put_together():
    with pytest.raises(ValueError, match="batch_size must be at least 0; got -1"):
        nt.batch(f, -1)
    with pytest.raises(ValueError, match="device_count must be -1, for all, or in"):
        nt.batch(f, 1, 10_000)
    diagonal = nt.empirical_ntk_fn(f, diagonal_axes=(0,))
    assert nt.batch(diagonal)(X1, None, PARAMS).shape == (7,)
    with pytest.raises(ValueError, match=r"gave \(3,\) for 3 rows and 3 columns"):
        nt.batch(diagonal, 3)(X1, None, PARAMS)


DEVICES = """
import jax, numpy as np
import kernlens.ntk as nt
from tests.test_ntk_parts import PARAMS, X1, X2, f
kernel_fn = nt.empirical_ntk_fn(f, trace_axes=())
for size, count in ((0, -1), (4, 2)):
    for x2 in (X2,):
        got = nt.batch(kernel_fn, size, count)(X1, x2, PARAMS)
        np.testing.assert_allclose(got, kernel_fn(X1, x2, PARAMS), rtol=1e-5, atol=1e-5)
print("same")
"""


@pytest.mark.slow
def test_blocks_over_devices_give_the_same_numbers():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    run = subprocess.run(
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, env=environment
    )
    assert run.stdout.strip() == "same", run.stderr


@pytest.mark.thorough
def test_monte_carlo_takes_the_arguments_of_neural_tangents_in_their_order():
    key = jax.random.key(5)
    plain = nt.monte_carlo_kernel_fn(initial, f, key, 2, trace_axes=())(X1, X2)
    batched = nt.monte_carlo_kernel_fn(initial, f, key, 2, 3, 0, False, ())(X1, X2)
    for got, expected in zip(batched, plain, strict=True):
        assert isinstance(got, np.ndarray)
        assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# --- keyword arguments with a batch axis -------------------------------------------------------


def masked(params, x, *, mask, scale=1.0):
    return scale * f(params, x * mask)


@pytest.mark.thorough
@pytest.mark.parametrize("axis", [0, 1])
def test_a_keyword_argument_may_have_a_batch_axis(axis):
    masks = [jnp.asarray(RNG.random(x.shape) < 0.6, jnp.float32) for x in (X1, X2)]
    kernel_fn = nt.empirical_ntk_fn(
        lambda p, x, mask, scale: masked(p, x, mask=mask.T if axis else mask, scale=scale),
        trace_axes=(),
        vmap_axes=(0, 0, {"mask": axis}),
    )
    given = [mask.T if axis else mask for mask in masks]
    expected = full(X1 * masks[0], X2 * masks[1]) * 4.0
    assert_allclose(kernel_fn(X1, X2, PARAMS, mask=tuple(given), scale=2.0), expected, **CLOSE)
    own = full(X1 * masks[0], X1 * masks[0]) * 4.0
    assert_allclose(kernel_fn(X1, None, PARAMS, mask=given[0], scale=2.0), own, **CLOSE)
    # Two masks of the same rows.
    other = jnp.ones_like(given[0])
    expected = full(X1 * masks[0], X1) * 4.0
    got = kernel_fn(X1, None, PARAMS, mask=(given[0], other), scale=2.0)
    assert_allclose(got, expected, **CLOSE)


def test_a_batched_keyword_argument_that_is_missing_is_named():
    kernel_fn = nt.empirical_ntk_fn(masked, vmap_axes=(0, 0, {"mask": 0}))
    with pytest.raises(ValueError, match=r"keyword argument mask a batch axis; .*: scale"):
        kernel_fn(X1, None, PARAMS, scale=2.0)
    with pytest.raises(ValueError, match=r"mask\] has|unequal batch sizes"):
        kernel_fn(X1, None, PARAMS, mask=jnp.ones((3, 4)))


# --- functions that couple their batch ---------------------------------------------------------


class WithBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(6)(x))
        x = nn.BatchNorm(use_running_average=False)(x)
        return {"logits": nn.Dense(3)(x)}


@pytest.mark.thorough
def test_a_coupled_function_has_the_kernel_of_its_batches():
    module = WithBatchNorm()
    variables = module.init(jax.random.key(0), X1)

    def apply(params, x):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        return module.apply(state, x, mutable=["batch_stats"])[0]

    params = variables["params"]
    with pytest.raises(ValueError, match="coupled over its batch"):
        nt.empirical_ntk_fn(apply)(X1, X2, params)

    def jacobian(x, layers=tuple(params)):
        found = jax.jacrev(lambda p: apply(p, x)["logits"])(params)
        leaves = jax.tree.leaves({name: found[name] for name in layers})
        return np.concatenate(
            [np.asarray(leaf, np.float64).reshape(len(x), 3, -1) for leaf in leaves], axis=-1
        )

    j1, j2 = jacobian(X1), jacobian(X2)
    whole = np.einsum("iap,jbp->ijab", j1, j2)
    got = nt.empirical_ntk_fn(apply, (), coupled=True)(X1, X2, params)["logits"]
    assert_allclose(got, whole, **CLOSE)
    both = nt.empirical_kernel_fn(apply, coupled=True)(X1, X2, "ntk", params)["logits"]
    assert_allclose(both, np.einsum("ijaa->ij", whole) / 3, **CLOSE)
    diagonal = nt.empirical_ntk_fn(apply, (), (0, 1), coupled=True)(X1, None, params)["logits"]
    assert_allclose(diagonal, np.einsum("iap,iap->ia", j1, j1), **CLOSE)
    first = nt.empirical_ntk_fn(
        apply, (), params_filter=lambda path: path[0] == "Dense_1", coupled=True
    )(X1, X2, params)["logits"]
    last = np.einsum("iap,jbp->ijab", *(jacobian(x, ("Dense_1",)) for x in (X1, X2)))
    assert_allclose(first, last, **CLOSE)


def test_of_a_function_that_is_not_coupled_it_is_the_same_kernel():
    expected = nt.empirical_ntk_fn(f, trace_axes=())(X1, X2, PARAMS)
    got = nt.empirical_ntk_fn(f, trace_axes=(), coupled=True)(X1, X2, PARAMS)
    assert_allclose(got, expected, **CLOSE)


def test_coupled_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="the batch axis first"):
        nt.empirical_ntk_fn(f, vmap_axes=(1, 0, {}), coupled=True)
    with pytest.raises(ValueError, match="n1 = n2; got 7 and 5"):
        nt.empirical_ntk_fn(f, (0,), coupled=True)(X1, X2, PARAMS)


# --- momentum ----------------------------------------------------------------------------------


def problem(seed, n=5, m=3, outputs=2, dim=7):
    rng = np.random.default_rng(seed)
    train, test = (rng.standard_normal((rows, dim)) for rows in (n, m))
    return train, test, rng.standard_normal((n, outputs))


@pytest.mark.parametrize("momentum", [0.3, 0.9])
@pytest.mark.parametrize("share", [0.2, 0.97, 1.05])
@pytest.mark.usefixtures("enable_x64")
def test_momentum_is_heavy_ball_descent_step_by_step(momentum, share):
    train, test, y = problem(0)
    kernel = train @ train.T
    bound = float(dynamics.max_learning_rate(kernel, y.size, momentum))
    assert_allclose(bound, 2 * (1 + momentum) * y.size / np.linalg.eigvalsh(kernel)[-1])
    rate, steps = share * bound, np.array([0, 1, 2, 3, 17, 60])
    predict = dynamics.discrete_gradient_descent_mse(kernel, y, rate, momentum=momentum)
    got_train, got_test = predict(steps, 0.0, 0.0, test @ train.T)
    optimizer = optax.sgd(rate, momentum)
    weights = jnp.zeros((train.shape[1], y.shape[1]))
    state = optimizer.init(weights)
    for step in range(max(steps) + 1):
        if step in steps:
            at = list(steps).index(step)
            for got, rows in ((got_train, train), (got_test, test)):
                expected = rows @ np.asarray(weights)
                # Above the bound the outputs, and the rounding with them, grow.
                size = max(1.0, np.abs(expected).max())
                assert_allclose(got[at], expected, rtol=1e-9, atol=1e-9 * size)
        updates, state = optimizer.update(train.T @ (train @ weights - y) / y.size, state)
        weights = optax.apply_updates(weights, updates)
    if share > 1:
        with pytest.raises(ValueError, match="does not converge: the bound is"):
            predict(None)
    else:
        assert_allclose(predict(None), y, atol=1e-8)


def test_momentum_keeps_the_digits_of_small_eigenvalues():
    scales = np.array([1.0, 1e-3, 1e-5], np.float32)
    kernel, y = np.diag(scales), np.ones((3, 1), np.float32)
    got = dynamics.discrete_gradient_descent_mse(kernel, y, 1.0, momentum=0.9)(50)
    expected, last = np.zeros(3), np.zeros(3)
    for _ in range(50):
        step = 1.9 * expected - 0.9 * last - scales.astype(np.float64) / 3 * (expected - 1.0)
        expected, last = step, expected
    # A few roundings of float32 in each of some fifty steps.
    assert_allclose(got[:, 0], expected, rtol=2e-5)


@pytest.mark.thorough
@pytest.mark.usefixtures("enable_x64")
def test_small_steps_with_momentum_approach_its_flow():
    train, test, y = problem(1)
    kernel, momentum_at = train @ train.T, {}
    for steps in (200, 800):
        # The same drag and the same time for smaller and smaller steps.
        unit = 4.0 / steps
        rate, momentum = unit**2, 1.0 - 0.5 * unit
        closed = dynamics.discrete_gradient_descent_mse(kernel, y, rate, momentum=momentum)
        flow = dynamics.gradient_descent(
            dynamics.mse, kernel, y, rate, momentum, rtol=1e-9, atol=1e-11
        )
        one = closed(steps, 0.3, 0.0, test @ train.T)
        other = flow(steps, 0.3, 0.0, test @ train.T)
        momentum_at[steps] = max(
            float(jnp.abs(a - b).max()) for a, b in zip(one, other, strict=True)
        )
    # First order in the step.
    assert_allclose(momentum_at[200] / momentum_at[800], 4.0, rtol=0.2)


def test_a_momentum_out_of_range_is_refused():
    eye, ones = np.eye(3), np.ones((3, 1))
    for call in (
        partial(dynamics.max_learning_rate, eye, None, 1.0),
        partial(dynamics.discrete_gradient_descent_mse, eye, ones, momentum=-0.1),
        partial(dynamics.gradient_descent, dynamics.mse, eye, ones, 1.0, 1.5),
    ):
        with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\); got"):
            call()


@pytest.mark.thorough
@pytest.mark.parametrize("momentum", [None, 0.8])
@pytest.mark.usefixtures("enable_x64")
def test_a_flow_goes_on_from_its_state(momentum):
    train, test = RNG.standard_normal((6, 4)), RNG.standard_normal((3, 4))
    y, cross = np.tanh(train[:, :2]), test @ train.T
    flow = dynamics.gradient_descent(
        dynamics.mse, train @ train.T, y, 0.3, momentum, rtol=1e-10, atol=1e-12
    )
    start = dynamics.ODEState(0.1 * y, np.full((3, 2), 0.2))
    whole = flow(np.array([2.0, 5.0]), start, None, cross)
    fx_train, fx_test = flow(np.array([2.0, 5.0]), start.fx_train, start.fx_test, cross)
    assert_array_equal(whole.fx_train, fx_train)
    assert_array_equal(whole.fx_test, fx_test)
    moving = momentum is not None
    assert [q is not None for q in whole[2:]] == [moving, moving]
    further = flow(3.0, jax.tree.map(lambda values: values[0], whole), None, cross)
    for after, once in zip(jax.tree.leaves(further), jax.tree.leaves(whole), strict=True):
        # The solver's tolerance, over a few units of time.
        assert_allclose(after, once[1], rtol=0, atol=1e-8)
    if moving:
        at_rest = flow(3.0, whole.fx_train[0])
        assert float(jnp.abs(at_rest - further.fx_train).max()) > 1e-3
        # The speed is the slope of the outputs in times of sqrt(learning rate).
        near = flow(np.array([2.0, 2.001]), start, None, cross).fx_train
        assert_allclose((near[1] - near[0]) / 0.001 / 0.3**0.5, whole.qx_train[0], atol=1e-3)


def test_a_state_that_no_flow_has_is_refused():
    eye, ones = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
    still = dynamics.gradient_descent(dynamics.mse, eye, ones)
    moving = dynamics.gradient_descent(dynamics.mse, eye, ones, 1.0, 0.5)
    state = dynamics.ODEState
    for call, said in (
        (lambda: still(1.0, state(0.0, qx_train=0.0)), "needs a momentum"),
        (lambda: moving(1.0, state(0.0, qx_test=0.0)), "qx_test needs fx_test"),
        (lambda: moving(1.0, state(0.0), 0.0, eye), "leave fx_test_0 out"),
        (lambda: moving(1.0, state(0.0, qx_train=np.ones((3, 1)))), "qx_train must be a number or"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


# --- every public name -------------------------------------------------------------------------

THEIRS = {
    "nt": (
        "batch empirical_kernel_fn empirical_nngp_fn empirical_ntk_fn empirical_ntk_vp_fn "
        "linearize taylor_expand NtkImplementation monte_carlo_kernel_fn Kernel"
    ),
    "nt.experimental": "empirical_ntk_fn_tf get_apply_fn_and_params",
    "nt.predict": (
        "gradient_descent gradient_descent_mse gradient_descent_mse_ensemble gp_inference "
        "max_learning_rate ODEState Gaussian"
    ),
    "nt.stax": (
        "parallel serial repeat ABRelu Abs Cos Elementwise ElementwiseNumerical Erf Exp "
        "ExpNormalized Gabor Gaussian Gelu Hermite LeakyRelu Monomial Polynomial Rbf "
        "RectifiedMonomial Relu Sigmoid_like Sign Sin Aggregate AvgPool Conv ConvLocal "
        "ConvTranspose Dense Identity Index DotGeneral Dropout Flatten GlobalAvgPool "
        "GlobalSelfAttention GlobalSumPool ImageResize LayerNorm SumPool Slice FanInConcat "
        "FanInProd FanInSum FanOut AggregateImplementation AttentionMechanism Padding "
        "PositionalEmbedding Bool Diagonal MaskedArray layer requires supports_masking unmask_fn"
    ),
}
"""Public names of neural-tangents 0.6.6."""


def test_the_guide_lists_every_public_name_and_what_it_is_here():
    text = (Path(__file__).parents[1] / "docs" / "guides" / "neural_tangents.md").read_text()
    table = text.split("## Every public name")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    listed = [name for theirs, _ in rows for name in re.findall(r"`([\w.]+)`", theirs)]
    wanted = [f"{room}.{name}" for room, names in THEIRS.items() for name in names.split()]
    assert sorted(listed) == sorted(wanted)
    for theirs, here in rows:
        refused = here.startswith("refused: ")
        names = re.findall(r"`(nt\.[\w.]+)", here)
        assert names or refused, theirs
        for name in names:
            found = nt
            for part in name.split(".")[1:]:
                found = getattr(found, part)
        for name in re.findall(r"`nt\.stax\.(\w+)`", theirs):
            assert (name in nt.stax.ABSENT) == refused, name


@pytest.mark.thorough
def test_elementwise_by_its_nngp_function_is_the_layer_of_that_function():
    x1, x2 = RNG.standard_normal((4, 3, 3, 2)), RNG.standard_normal((2, 3, 3, 2))

    def nngp_fn(cov12, var1, var2):
        return 2 / jnp.pi * jnp.arcsin(2 * cov12 / jnp.sqrt((1 + 2 * var1) * (1 + 2 * var2)))

    def net(layer):
        conv = nt.stax.Conv(1, (2, 2), W_std=1.3, b_std=0.1)
        return nt.stax.serial(conv, layer, nt.stax.GlobalAvgPool(), nt.stax.Dense(1))

    with jax.enable_x64(True):
        expected = net(nt.stax.Erf()).kernel_fn(x1, x2)
        got = net(nt.stax.Elementwise(jax.lax.erf, nngp_fn)).kernel_fn(x1, x2)
        for one, other in zip(got, expected, strict=True):
            assert_allclose(one, other, rtol=1e-10)


@pytest.mark.thorough
def test_a_repeated_layer_and_the_absolute_value():
    x = RNG.standard_normal((5, 3))
    layer = nt.stax.serial(nt.stax.Dense(7), nt.stax.Abs())
    with jax.enable_x64(True):
        got = nt.stax.repeat(layer, 2).kernel_fn(x, None, "nngp")
        assert_array_equal(got, nt.stax.serial(layer, layer).kernel_fn(x, None, "nngp"))
        # E |X| |Y| = 2 / pi (sqrt(1 - c^2) + c arcsin c) sd(X) sd(Y) at a correlation of c.
        k = x @ x.T / 3
        for _ in range(2):
            scale = np.sqrt(np.outer(np.diag(k), np.diag(k)))
            c = np.clip(k / scale, -1, 1)
            k = 2 / np.pi * scale * (np.sqrt(1 - c**2) + c * np.arcsin(c))
        assert_allclose(got, k, rtol=1e-7)
    with pytest.raises(ValueError, match="at least one layer"):
        nt.stax.repeat(layer, 0)


@pytest.mark.thorough
def test_the_learning_rate_takes_the_names_of_neural_tangents():
    kernel = np.diag([1.0, 4.0])
    got = nt.predict.max_learning_rate(ntk_train_train=kernel, y_train_size=6, momentum=0.5)
    assert_array_equal(got, 2 * 1.5 * 6 / 4)

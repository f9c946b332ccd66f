"""Operators, solves, estimates and streams against dense float64 linear algebra."""

import os
import signal
import subprocess
import sys
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from kernlens import kernels
from kernlens.ntk import operators
from kernlens.ntk.operators import streaming

rbf = partial(kernels.rbf, lengthscale=1.5)
FLOAT = jnp.result_type(float)
EPS = float(jnp.finfo(FLOAT).eps)


def rows(seed, n=65, dim=3):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, dim)), float)


def f64(array):
    return np.asarray(array, np.float64)


def apply_ids(kernel):
    """A kernel on rows that are (ids, features), ids outside the table giving NaN."""
    table = rows(100, 5, 2)

    def on_ids(x1, x2):
        looked = [table.at[x["id"]].get(mode="fill", fill_value=jnp.nan) for x in (x1, x2)]
        return kernel(looked[0], looked[1]) * kernel(x1["z"], x2["z"])

    return on_ids


@pytest.mark.parametrize(("n", "block_size"), [(1, 16), (7, 1), (64, 16), (65, 16), (65, 1000)])
def test_products_equal_dense_ones_for_any_n(n, block_size):
    x1, x2, v = rows(0, n), rows(1, 13), rows(2, n, 4)
    gram = f64(rbf(x1, x1))
    k = operators.from_kernel(rbf, x1, block_size=block_size)
    assert k.shape == (n, n)
    # Sums of n products of order one.
    close = partial(assert_allclose, rtol=0, atol=16 * n * EPS)
    close(k.matvec(v), gram @ f64(v))
    close(jax.jit(lambda k, v: k.matvec(v))(k, v[:, 0]), gram @ f64(v[:, 0]))
    close(k.column(jnp.asarray(n - 1)), gram[:, n - 1])
    close(k.diagonal(), np.ones(n))
    cross = k.at(x2)
    assert cross.shape == (13, n)
    close(cross.matvec(v), f64(rbf(x2, x1)) @ f64(v))
    close(cross.column(jnp.asarray(0)), f64(rbf(x2, x1))[:, 0])


def test_rows_may_be_a_pytree_with_ids():
    kernel = apply_ids(rbf)
    x = {"id": jnp.arange(9) % 5, "z": rows(3, 9)}
    gram = f64(kernel(x, x))
    v = rows(4, 9, 2)
    k = operators.from_kernel(kernel, x, block_size=4)
    assert_allclose(k.matvec(v), gram @ f64(v), rtol=0, atol=100 * EPS)
    assert_allclose(k.diagonal(), np.diag(gram), rtol=0, atol=4 * EPS)


def test_a_product_holds_tiles_and_not_the_matrix():
    n, block = 4096, 64
    k = operators.from_kernel(rbf, rows(5, n), block_size=block)
    compiled = jax.jit(lambda k, v: k.matvec(v)).lower(k, jnp.ones(n)).compile()
    whole = n * n * jnp.dtype(FLOAT).itemsize
    assert compiled.memory_analysis().temp_size_in_bytes < whole / 64


def test_a_symmetric_product_evaluates_one_half():
    def ordered(x1, x2):
        return jnp.where(x1[:, None] <= x2[None, :], 1.0, jnp.nan)

    k = operators.from_kernel(ordered, jnp.arange(6.0), block_size=1)
    assert_allclose(k.matvec(jnp.ones(6)), np.full(6, 6.0))


def test_hyperparameters_pass_through_jit_and_grad():
    x, v = rows(6), rows(7, 65, 1)[:, 0]

    def form(lengthscale):
        kernel = Partial(kernels.rbf, lengthscale=lengthscale)
        return v @ jax.jit(lambda k: k.matvec(v))(operators.from_kernel(kernel, x, block_size=20))

    def dense(lengthscale):
        return v @ kernels.rbf(x, x, lengthscale=lengthscale) @ v

    at = jnp.asarray(1.5)
    assert_allclose(jax.grad(form)(at), jax.grad(dense)(at), rtol=1e3 * EPS)


def mlp(params, x):
    """Outputs ``[n, 2, 3]``."""
    hidden = jnp.tanh(x @ params["inner"] + params["bias"])
    return (hidden @ params["outer"]).reshape(-1, 2, 3)


def mlp_params():
    return {"inner": rows(10, 4, 8), "bias": rows(11, 1, 8)[0], "outer": rows(12, 8, 6)}


dense_jacobian = jax.jit(jax.jacobian(mlp))


def jacobian(x):
    """``[n, 2, 3, p]``, whole."""
    leaves = jax.tree.leaves(dense_jacobian(mlp_params(), x))
    return np.concatenate([f64(leaf).reshape(*leaf.shape[:3], -1) for leaf in leaves], axis=-1)


@pytest.mark.parametrize(
    ("trace_axes", "equation"),
    [
        ((), "iabp,jcdp->iabjcd"),
        ((-1,), "iabp,jcbp->iajc"),
        ((1,), "iabp,jadp->ibjd"),
    ],
)
def test_the_ntk_equals_the_product_of_dense_jacobians(trace_axes, equation):
    x1, x2 = rows(13, 10, 4), rows(14, 4, 4)
    traced = prod({1: 2, -1: 3, 2: 3}[axis] for axis in trace_axes)
    wide = 6 // traced

    def dense(a, b):
        block = np.einsum(equation, jacobian(a), jacobian(b)) / traced
        return block.reshape(len(a) * wide, len(b) * wide)

    k = operators.from_function(
        mlp,
        mlp_params(),
        x1,
        trace_axes=trace_axes,
        block_size=3,
        vectors_at_once=2,
    )
    gram, v = dense(x1, x1), rows(15, 10 * wide, 3)
    # Sums of up to 60 entries of at most ``scale``.
    close = partial(assert_allclose, rtol=0, atol=100 * EPS * np.abs(gram).max())
    assert k.shape == gram.shape
    close(k.matvec(v), gram @ f64(v))
    close(k.diagonal(), np.diag(gram))
    close(k.column(jnp.asarray(4)), gram[:, 4])
    close(k.at(x2).matvec(v), dense(x2, x1) @ f64(v))


def test_a_row_of_the_ntk_does_not_see_its_block():
    x, v = rows(16, 11, 4), rows(17, 11, 1)[:, 0]
    order = np.random.default_rng(0).permutation(11)
    make = partial(operators.from_function, mlp, mlp_params(), trace_axes=(1, 2))
    gram = np.einsum("iabp,jabp->ij", jacobian(x), jacobian(x)) / 6
    close = partial(assert_allclose, rtol=0, atol=100 * EPS * np.abs(gram).max())
    close(make(x, block_size=3).matvec(v), gram @ f64(v))
    close(make(x[order], block_size=4).matvec(v[order]), (gram @ f64(v))[order])


def test_what_has_no_kernel_is_refused():
    params, x = mlp_params(), rows(18, 5, 4)
    make = partial(operators.from_function, mlp, params)
    with pytest.raises(ValueError, match=r"trace_axes \(0,\) must be distinct output axes, 1..2"):
        make(x, trace_axes=(0,))
    with pytest.raises(ValueError, match=r"trace_axes \(-1,\) must be distinct"):
        operators.from_function(lambda p, x: mlp(p, x)[:, 0, 0], params, x)
    with pytest.raises(ValueError, match=r"coupled over its batch.*per example"):
        operators.from_function(lambda p, x: mlp(p, x - x.mean(0)), params, x)
    with pytest.raises(ValueError, match=r"dtype int.., which has no gradient"):
        operators.from_function(lambda p, x: mlp(p, x).argmax(-1), params, x)
    with pytest.raises(ValueError, match="parameter step is int32; expected floats"):
        operators.from_function(mlp, {**params, "step": np.int32(3)}, x)
    with pytest.raises(ValueError, match="parameter bias has 8 entries that are NaN"):
        operators.from_function(mlp, {**params, "bias": params["bias"] * jnp.nan}, x)
    with pytest.raises(ValueError, match="x1 has 4 entries that are NaN"):
        make(x.at[2].set(jnp.nan))
    with pytest.raises(ValueError, match="x2 has 20 entries that are NaN or infinite"):
        make(x, jnp.inf * jnp.ones_like(x))
    with pytest.raises(ValueError, match="x1: expected at least one row"):
        make(x[:0])
    with pytest.raises(ValueError, match="common leading axis"):
        operators.from_kernel(rbf, {"a": x, "b": x[:2]})
    with pytest.raises(ValueError, match="block_size must be at least 1; got 0"):
        operators.from_kernel(rbf, x, block_size=0)
    with pytest.raises(ValueError, match=r"floats of shape \(2, 3\)"):
        operators.from_kernel(lambda a, b: (a @ b.T).sum(), x)
    with pytest.raises(AssertionError):
        make(x).matvec(jnp.ones(9))


def test_complex_parameters_and_half_precision():
    def modulus(params, x):
        return jnp.abs(x.astype(params["w"].dtype) @ params["w"]) @ params["v"]

    def of_parts(parts, x):
        return jnp.hypot(x @ parts[0], x @ parts[1]) @ parts[2]

    parts, x, v = [rows(50, 4, 3), rows(51, 4, 3), rows(52, 3, 2)], rows(53, 6, 4), rows(54, 12, 1)
    params = {"w": jax.lax.complex(parts[0], parts[1]), "v": parts[2]}
    dense = np.concatenate(
        [f64(leaf).reshape(12, -1) for leaf in jax.jacobian(of_parts)(parts, x)], axis=1
    )
    gram = dense @ dense.T
    k = operators.from_function(modulus, params, x, trace_axes=(), block_size=4)
    close = partial(assert_allclose, rtol=0, atol=100 * EPS * np.abs(gram).max())
    close(k.matvec(v), gram @ f64(v))
    close(k.diagonal(), np.diag(gram))

    def half(params, x):
        return (x @ params).astype(jnp.bfloat16)

    single = jnp.asarray(x, jnp.float32)
    k = operators.from_function(half, jnp.ones((4, 2), jnp.float32), single, block_size=4)
    assert k.dtype == jnp.float32
    # The gradient of a row is the row, in full; a product with it is rounded to eight bits.
    assert_allclose(k.diagonal(), (f64(single) ** 2).sum(1), rtol=1e-5)
    ones = jnp.ones(6, jnp.float32)
    expected = f64(single) @ f64(single).sum(0)
    assert_allclose(k.matvec(ones), expected, rtol=0, atol=2**-8 * np.abs(expected).max())


def test_a_scale_that_is_differentiated_passes_through_an_operator():
    params, x = mlp_params(), rows(55, 5, 4)
    v = rows(56, 5, 1)[:, 0]

    def form(scale):
        k = operators.from_function(
            lambda p, x: scale * mlp(p, x), params, x, trace_axes=(1, 2), block_size=5
        )
        return v @ k.matvec(v)

    # Quadratic in the scale.
    at = jnp.asarray(1.5)
    assert_allclose(jax.grad(form)(at), 2 * form(at) / at, rtol=1e3 * EPS)


RANK = 110


def ill_conditioned(n=300, ridge=1e-3):
    x = rows(20, n, 2)
    k = operators.from_kernel(rbf, x, block_size=128)
    return k, f64(rbf(x, x)) + ridge * np.eye(n), ridge


def test_solve_equals_a_dense_solve_and_tells_its_residual():
    with jax.enable_x64(True):
        k, regular, ridge = ill_conditioned()
        b = np.random.default_rng(21).standard_normal((300, 3))
        b[:, 1] = 0.0
        x, info = operators.solve(k, jnp.asarray(b), ridge=ridge, tolerance=1e-9, max_steps=2000)
        residuals = np.linalg.norm(b - regular @ f64(x), axis=0)
        assert_allclose(
            x, np.linalg.solve(regular, b), rtol=0, atol=1e-9 * np.linalg.norm(b) / ridge
        )
        # The residual is a difference of products of the size of K x.
        rounding = 1e-14 * np.linalg.norm(regular, 2) * np.linalg.norm(x)
        assert_allclose(info.residual_norms, residuals, rtol=0, atol=rounding)
        assert info.converged.all()
        assert (info.residual_norms <= 1e-9 * np.linalg.norm(b, axis=0)).all()
        assert info.steps[1] == 0
        assert not x[:, 1].any()
        one, single = operators.solve(k, jnp.asarray(b[:, 0]), ridge=ridge, tolerance=1e-9)
        assert one.shape == (300,)
        assert single.steps.shape == ()
        assert_allclose(one, x[:, 0], rtol=0, atol=1e-9 * np.linalg.norm(b) / ridge)


def test_steps_fall_with_a_preconditioner():
    with jax.enable_x64(True):
        k, regular, ridge = ill_conditioned()
        assert np.linalg.cond(regular) > 1e4
        b = jnp.asarray(np.random.default_rng(22).standard_normal((300, 3)))
        steps = []
        for preconditioner in (
            None,
            operators.nystrom(jax.random.key(0), k, rank=RANK, ridge=ridge),
            operators.pivoted_cholesky(k, rank=RANK, ridge=ridge),
        ):
            x, info = operators.solve(k, b, ridge=ridge, preconditioner=preconditioner)
            assert info.converged.all()
            residual = np.linalg.norm(f64(b) - regular @ f64(x), axis=0)
            assert (residual <= 1.001e-5 * np.linalg.norm(b, axis=0)).all()
            steps.append(int(info.steps.max()))
        assert max(steps[1:]) * 5 < steps[0]


def test_a_solve_that_cannot_converge_says_so():
    k, regular, ridge = ill_conditioned(ridge=1e-5)
    b = rows(23, 300, 1)[:, 0]
    for steps, tolerance in ((3, 1e-5), (1000, 1e-15)):
        x, info = operators.solve(k, b, ridge=ridge, tolerance=tolerance, max_steps=steps)
        assert info.steps <= steps
        assert not info.converged
        assert np.isfinite(x).all()
        true = np.linalg.norm(f64(b) - regular @ f64(x))
        rounding = 300 * EPS * np.linalg.norm(x)
        assert_allclose(info.residual_norms, true, rtol=1e-3, atol=rounding)
        # Never worse than the zero solution.
        assert info.residual_norms <= np.linalg.norm(b)


def test_a_matrix_that_is_not_positive_definite_is_flagged():
    k = operators.from_kernel(lambda a, b: -kernels.linear(a, b), rows(24, 20))
    x, info = operators.solve(k, jnp.ones(20), ridge=0.1)
    assert np.isfinite(x).all()
    assert not info.converged


def inverse(precondition, n, dtype=np.float64):
    return f64(precondition(jnp.eye(n, dtype=dtype)))


def test_nystrom_bounds_the_condition_number():
    with jax.enable_x64(True):
        k, regular, ridge = ill_conditioned()
        effective = np.sum(1.0 - ridge / np.linalg.eigvalsh(regular))
        assert 2 * int(np.ceil(1.5 * effective)) + 1 <= RANK
        conditions = []
        for seed in range(3):
            p = operators.nystrom(jax.random.key(seed), k, rank=RANK, ridge=ridge)
            spectrum = np.linalg.eigvals(inverse(p, 300) @ regular).real
            conditions.append(spectrum.max() / spectrum.min())
        # Theorem 5.1 of the paper: 28 in expectation from this rank on.
        assert np.mean(conditions) < 28


def test_pivoted_cholesky_equals_that_of_matfree():
    low_rank = pytest.importorskip("matfree.low_rank")
    with jax.enable_x64(True):
        k, regular, ridge = ill_conditioned()
        gram = jnp.asarray(regular - ridge * np.eye(300))
        factor, _ = low_rank.cholesky_partial_pivot(lambda i, j: gram[i, j], nrows=300, rank=RANK)()
        expected = ridge * np.linalg.inv(f64(factor) @ f64(factor).T + ridge * np.eye(300))
        got = inverse(operators.pivoted_cholesky(k, rank=RANK, ridge=ridge), 300)
        # Rounding of a kernel of size 100 over the ridge.
        assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["nystrom", "pivoted_cholesky"])
def test_preconditioners_outlive_the_rank_of_the_kernel(name):
    make = {
        "nystrom": partial(operators.nystrom, jax.random.key(1)),
        "pivoted_cholesky": operators.pivoted_cholesky,
    }[name]
    x = rows(25, 40)
    k = operators.from_kernel(kernels.linear, x)
    regular = f64(kernels.linear(x, x)) + 0.1 * np.eye(40)
    precondition = make(k, rank=20, ridge=0.1)
    assert_allclose(
        regular @ inverse(precondition, 40, FLOAT) / 0.1,
        np.eye(40),
        # Rounding of a kernel of size 100 over a ridge of 0.1.
        atol=40 * EPS * np.linalg.norm(regular, 2) / 0.1,
    )


@pytest.mark.parametrize("kind", ["kernel", "function"])
def test_ridge_predictions_equal_dense_ones(kind):
    with jax.enable_x64(True):
        x, x_test = rows(26, 20, 4), rows(27, 9, 4)
        if kind == "kernel":
            k = operators.from_kernel(rbf, x, block_size=16)
            gram, cross, wide = f64(rbf(x, x)), f64(rbf(x_test, x)), 1
        else:
            k = operators.from_function(mlp, mlp_params(), x, trace_axes=(), block_size=8)
            j, j_test = (jacobian(r).reshape(len(r) * 6, -1) for r in (x, x_test))
            gram, cross, wide = j @ j.T, j_test @ j.T, 6
        y = np.random.default_rng(28).standard_normal((20 * wide, 2))
        expected = cross @ np.linalg.solve(gram + 0.1 * np.eye(len(gram)), y)
        got, info = operators.ridge_predict(
            k, jnp.asarray(y), x_test, ridge=0.1, tolerance=1e-10, max_steps=3000
        )
        assert info.converged.all()
        assert_allclose(got, expected, rtol=0, atol=1e-7)


def test_wrong_settings_are_named():
    k = operators.from_kernel(rbf, rows(29, 10))
    b = jnp.ones(10)
    with pytest.raises(ValueError, match="ridge must be at least 0; got -1"):
        operators.solve(k, b, ridge=-1.0)
    with pytest.raises(ValueError, match="tolerance must be above 0; got 0"):
        operators.solve(k, b, ridge=1.0, tolerance=0.0)
    with pytest.raises(ValueError, match="max_steps must be at least 1; got 0"):
        operators.solve(k, b, ridge=1.0, max_steps=0)
    with pytest.raises(ValueError, match=r"symmetric operator; got one of shape \(4, 10\)"):
        operators.solve(k.at(rows(30, 4)), b, ridge=1.0)
    with pytest.raises(ValueError, match=r"rank must lie in 1..10.*got 11"):
        operators.nystrom(jax.random.key(0), k, rank=11, ridge=1.0)
    with pytest.raises(ValueError, match="ridge above 0; got 0"):
        operators.pivoted_cholesky(k, rank=2, ridge=0)
    with pytest.raises(ValueError, match="num_samples must be at least 2; got 1"):
        operators.hutchinson(jax.random.key(0), k, num_samples=1)
    with pytest.raises(ValueError, match=r"num_steps must lie in 2..10; got 32"):
        operators.log_determinant(jax.random.key(0), k, ridge=1.0)


def test_a_log_determinant_factors_in_one_batch():
    # Two batches side by side can wait for each other's threads forever under jax 0.10.
    k = operators.from_kernel(rbf, rows(33, 30), block_size=10)
    made = jax.make_jaxpr(lambda key: operators.log_determinant(key, k, ridge=RIDGE, num_steps=9))
    assert str(made(jax.random.key(0))).count("= eigh[") == 1


RIDGE = 0.1
ESTIMATES = {
    "hutchinson": partial(operators.hutchinson, num_samples=32),
    "xtrace": partial(operators.xtrace, num_samples=12),
    "log_determinant": partial(
        operators.log_determinant, ridge=RIDGE, num_samples=32, num_steps=40
    ),
}


@pytest.mark.parametrize("name", sorted(ESTIMATES))
def test_estimates_miss_by_their_standard_error(name):
    x = rows(31, 100)
    k = operators.from_kernel(rbf, x, block_size=50)
    gram = f64(rbf(x, x))
    regular = np.linalg.slogdet(gram + RIDGE * np.eye(100))[1]
    expected = regular if name == "log_determinant" else np.trace(gram)
    draws = [ESTIMATES[name](key, k) for key in jax.random.split(jax.random.key(32), 60)]
    value, error = (f64([getattr(d, at) for d in draws]) for at in ("value", "standard_error"))
    scores = (value - expected) / error
    # The root mean square of 60 normal scores lies in 0.7..1.3 but for one in a thousand; XTrace
    # says itself that its error comes out too small.
    spread = np.sqrt(np.mean(scores**2)) / (1.4 if name == "xtrace" else 1.0)
    assert 0.7 < spread < 1.35
    # Unbiased.
    assert abs(value.mean() - expected) < 4 * value.std() / np.sqrt(60)
    assert max(float(d.stopping_error) for d in draws) < 0.1 * error.min()


def test_the_stopping_error_covers_what_further_steps_take_off():
    with jax.enable_x64(True):
        k = operators.from_kernel(rbf, rows(33, 60))
        estimate = partial(
            operators.log_determinant, jax.random.key(34), k, ridge=1e-2, num_samples=4
        )
        final = estimate(num_steps=55)
        for steps in (10,):
            early = estimate(num_steps=steps)
            left = float(early.value - final.value)
            assert 0 < left <= float(early.stopping_error)


def test_estimates_of_a_kernel_of_rank_one():
    x = jnp.zeros((50, 3))
    k = operators.from_kernel(rbf, x)
    exact = np.log(50 + 1e-2) + 49 * np.log(1e-2)
    for seed in range(5):
        key = jax.random.key(seed)
        logdet = operators.log_determinant(key, k, ridge=1e-2, num_steps=6)
        assert abs(float(logdet.value) - exact) < 5 * float(logdet.standard_error)
        trace = operators.xtrace(key, k, num_samples=8)
        assert_allclose(trace.value, 50.0, rtol=1e3 * EPS)


@pytest.mark.parametrize("block_size", [7, 100])
@pytest.mark.parametrize("name", ["rbf", "linear", "arc_cosine1"])
def test_streamed_blocks_equal_the_whole(name, block_size, tmp_path):
    kernel = kernels.KERNELS[name]
    x1, x2 = rows(40, 33), rows(41, 20)
    for whole, arguments in ((kernel(x1, x1), (x1,)), (kernel(x1, x2), (x1, x2))):
        got = operators.stream(kernel, *arguments, block_size=block_size)
        filed = operators.stream(kernel, *arguments, block_size=block_size, out=tmp_path / "k.npy")
        assert_array_equal(got, filed)
        assert got.dtype == whole.dtype
        # Last bits: a matrix product of another shape may sum in another order.
        assert_allclose(got, whole, rtol=0, atol=4 * EPS * float(jnp.abs(whole).max()))
        if name == "rbf":
            assert_array_equal(got, whole)
    assert os.listdir(tmp_path) == ["k.npy"]


def test_a_symmetric_stream_computes_one_half():
    def ordered(x1, x2):
        return jnp.where(x1[:, None] <= x2[None, :], x1[:, None] + 10 * x2[None, :], jnp.nan)

    x, seen = jnp.arange(7.0), []
    got = operators.stream(ordered, x, block_size=1, progress=lambda *at: seen.append(at))
    upper = np.maximum.outer(np.arange(7), np.arange(7))
    assert_array_equal(got, 10 * upper + np.minimum.outer(np.arange(7), np.arange(7)))
    assert seen == [(i, 28) for i in range(1, 29)]


def test_output_axes_mirror_in_pairs():
    def full(x1, x2):
        return jnp.einsum("iop,jqp->ijoq", *(mlp(mlp_params(), x) for x in (x1, x2)))

    x = rows(42, 9, 4)
    got = operators.stream(full, x, block_size=4)
    assert_allclose(got, full(x, x), rtol=0, atol=20 * EPS * np.abs(got).max())
    with pytest.raises(ValueError, match="axes in pairs"):
        operators.stream(lambda a, b: full(a, b)[..., 0], x)


def test_progress_is_shown(capsys):
    operators.stream(rbf, rows(43, 10), block_size=4, progress=True)
    assert "6/6" in capsys.readouterr().out


KILLED = """
import os, signal, sys
import numpy as np
from kernlens import kernels
from kernlens.ntk import operators

def progress(done, total):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
operators.stream(kernels.rbf, x, block_size=8, out=sys.argv[1], progress=progress)
"""


def run_until(out, block):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), str(block)], capture_output=True, text=True
    )
    return done.returncode, [int(line) for line in done.stdout.split()]


def test_a_killed_stream_goes_on_to_the_same_bits(tmp_path):
    out = tmp_path / "k.npy"
    assert run_until(out, 10) == (-signal.SIGKILL, list(range(1, 11)))
    assert not out.exists()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    again = partial(operators.stream, block_size=8, out=out)
    for other, what in (
        (partial(again, kernels.rbf, x + 1e-6), "rows"),
        (partial(again, kernels.laplace, x), "kernel values"),
        (partial(again, kernels.rbf, x, block_size=9), "block_size"),
        (partial(again, kernels.rbf, x, x[:20]), "rows, kernel values, shape"),
    ):
        with pytest.raises(ValueError, match=f"interrupted run with other {what}: resume"):
            other()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    seen = []
    got = again(kernels.rbf, x, progress=lambda *at: seen.append(at))
    # 28 blocks, the ten done before not among those told; the last may be one not recorded.
    assert seen == [(i, 28) for i in range(11, 29)]
    assert_array_equal(got, operators.stream(kernels.rbf, x, block_size=8))
    assert os.listdir(tmp_path) == ["k.npy"]


def test_leftovers_of_a_stream(tmp_path):
    x, out = rows(44, 12), tmp_path / "k.npy"

    def stop(done, total):
        raise KeyboardInterrupt

    interrupted = partial(operators.stream, rbf, x, block_size=4, out=out, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    seen = []
    tell = partial(interrupted, progress=lambda *at: seen.append(at))
    tell(resume=False)
    assert len(seen) == 6
    # Stopped between the move and the removal of the list: nothing is left to do.
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    listed = (tmp_path / "k.npy.done").read_bytes()
    tell()
    (tmp_path / "k.npy.done").write_bytes(listed[:-6] + b"\1" * 6)
    seen.clear()
    assert_array_equal(tell(), rbf(x, x))
    assert not seen
    # A list without its file is no run.
    (tmp_path / "k.npy.done").write_bytes(listed)
    assert_array_equal(tell(), rbf(x, x))
    assert len(seen) == 6
    (tmp_path / "k.npy.done").write_bytes(b"what\n")
    (tmp_path / "k.npy.part").write_bytes(b"")
    with pytest.raises(ValueError, match="not a list of finished blocks"):
        tell()


def test_a_stream_that_would_not_fit_is_refused_before_it_starts(tmp_path, monkeypatch):
    calls = []

    def kernel(x1, x2):
        calls.append(None if isinstance(x1, jax.core.Tracer) else x1.shape)
        return rbf(x1, x2)

    x = np.broadcast_to(np.float32(0.0), (50_000_000, 1))
    with pytest.raises(ValueError, match=r"50,000,000 x 50,000,000 of float32, takes 10,000,000,"):
        operators.stream(kernel, x)
    monkeypatch.setattr(streaming.shutil, "disk_usage", lambda _: shutil_usage(399))
    with pytest.raises(
        ValueError, match=r"10 x 10 of float32, takes 400 bytes; 399 bytes are free"
    ):
        operators.stream(kernel, np.zeros((10, 2), np.float32), out=tmp_path / "k.npy")
    assert not list(tmp_path.iterdir())
    assert set(calls) <= {None, (3, 2)}
    with pytest.raises(ValueError, match=r"ends in \.npy"):
        operators.stream(kernel, x[:2], out=tmp_path / "k.bin")
    with pytest.raises(FileNotFoundError, match=r"no such folder, for k\.npy"):
        operators.stream(kernel, x[:2], out=tmp_path / "none" / "k.npy")


def shutil_usage(free):
    return type("usage", (), {"free": free})()

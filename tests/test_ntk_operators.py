"""Products of operators against dense float64 linear algebra."""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from kernlens import kernels
from kernlens.ntk import operators

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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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

"""Kernels of outputs, parts of the tangent kernel, rows over devices, against plain Jacobians."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import kernlens.ntk as nt
from kernlens.ntk import memory

RNG = np.random.default_rng(0)
X1 = jnp.asarray(RNG.standard_normal((7, 4)), jnp.float32)
X2 = jnp.asarray(RNG.standard_normal((5, 4)), jnp.float32)
# Float32 sums of a few hundred products.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def initial(key, x):
    k1, k2 = jax.random.split(key)
    w1 = jax.random.normal(k1, (x.shape[-1], 6), jnp.float32)
    w2 = jax.random.normal(k2, (6, 3), jnp.float32)
    return {
        "first": {"w": w1, "b": jnp.ones(6, jnp.float32)},
        "second": {"w": w2, "b": jnp.zeros(3, jnp.float32)},
    }


def f(params, x):
    first, second = params["first"], params["second"]
    return jnp.tanh(x @ first["w"] + first["b"]) @ second["w"] + second["b"]


PARAMS = initial(jax.random.key(1), X1)


def full(x1, x2, params=PARAMS, keep=lambda layer: True):
    """The whole kernel, ``[n1, n2, O, O]`` float64, from Jacobians of the whole batch."""
    total = 0.0
    for layer in params:
        if keep(layer):
            j1, j2 = (jax.jacrev(f)(params, x)[layer] for x in (x1, x2))
            for name in j1:
                a, b = (
                    np.asarray(j[name], np.float64).reshape(*j[name].shape[:2], -1)
                    for j in (j1, j2)
                )
                total = total + np.einsum("iaz,jbz->ijab", a, b)
    return total


def traced(x1, x2, **options):
    return np.einsum("ijaa->ij", full(x1, x2, **options)) / 3


@pytest.mark.thorough
def test_diagonal_trace_and_norms():
    diagonal = np.diag(traced(X1, X1))
    assert_allclose(nt.diagonal_fn(f)(X1, PARAMS), diagonal, **CLOSE)
    assert_allclose(nt.trace_fn(f)(X1, PARAMS), diagonal.sum(), rtol=2e-5)
    assert_allclose(nt.gradient_norms_fn(f)(X1, PARAMS), np.sqrt(3 * diagonal), **CLOSE)


@pytest.mark.thorough
def test_norms_of_a_loss_are_those_of_its_gradients():
    def loss(params, batch):
        x, y = batch
        return jnp.sum((f(params, x) - y) ** 2, axis=-1)

    y = jnp.ones((7, 3), jnp.float32)
    gradients = jax.vmap(lambda x, y: jax.grad(lambda p: loss(p, (x[None], y[None]))[0])(PARAMS))(
        X1, y
    )
    expected = np.sqrt(
        sum(
            np.sum(np.asarray(g, np.float64).reshape(7, -1) ** 2, 1)
            for g in jax.tree.leaves(gradients)
        )
    )
    assert_allclose(nt.gradient_norms_fn(loss)((X1, y), PARAMS), expected, rtol=2e-5)


@pytest.mark.thorough
def test_pseudo_kernel_is_that_of_the_summed_outputs():
    expected = full(X1, X2).sum((2, 3)) / 3
    assert_allclose(nt.pntk_fn(f)(X1, X2, PARAMS), expected, **CLOSE)


@pytest.mark.thorough
def test_layers_are_their_own_kernels_and_sum_to_the_whole():
    layers = nt.layer_ntk_fns(f, PARAMS)
    assert list(layers) == [("first",), ("second",)]
    for (name,), kernel_fn in layers.items():
        expected = traced(X1, X2, keep=lambda layer, name=name: layer == name)
        assert_allclose(kernel_fn(X1, X2, PARAMS), expected, **CLOSE)
    total = sum(kernel_fn(X1, None, PARAMS) for kernel_fn in layers.values())
    assert_allclose(total, traced(X1, X1), **CLOSE)


def test_matrix_has_one_row_for_each_output_of_each_example():
    k = nt.empirical_ntk_fn(f, trace_axes=())(X1, X2, PARAMS)
    matrix = nt.as_matrix(k)
    assert matrix.shape == (21, 15)
    assert_allclose(matrix[4 * 3 + 2, 1 * 3 + 0], full(X1, X2)[4, 1, 2, 0], rtol=2e-5)
    with pytest.raises(ValueError, match="axes in pairs"):
        nt.as_matrix(k[0])


@pytest.mark.parametrize("axes", [((), ()), ((-1,), ()), ((), (-1,)), ((-1,), (0,)), ((0, 1), ())])
def test_output_kernel_is_shaped_like_the_tangent_kernel(axes):
    trace_axes, diagonal_axes = axes
    x2 = None if 0 in trace_axes + diagonal_axes else X2
    out1 = np.asarray(f(PARAMS, X1), np.float64)
    out2 = out1 if x2 is None else np.asarray(f(PARAMS, X2), np.float64)
    pairs = np.einsum("ia,jb->ijab", out1, out2)
    expected = {
        ((), ()): lambda: pairs,
        ((-1,), ()): lambda: np.einsum("ijaa->ij", pairs) / 3,
        ((), (-1,)): lambda: np.einsum("ijaa->ija", pairs),
        ((-1,), (0,)): lambda: np.einsum("iiaa->i", pairs) / 3,
        ((0, 1), ()): lambda: np.einsum("iiaa->", pairs) / 21,
    }[axes]()
    both = nt.empirical_kernel_fn(f, trace_axes, diagonal_axes)(X1, x2, None, PARAMS)
    assert_allclose(both.nngp, expected, **CLOSE)
    assert both.ntk.shape == expected.shape
    alone = nt.empirical_nngp_fn(f, trace_axes, diagonal_axes)(X1, x2, PARAMS)
    assert_allclose(alone, both.nngp)


def test_get_picks_kernels():
    kernel_fn = nt.empirical_kernel_fn(f)
    assert_allclose(kernel_fn(X1, X2, "ntk", PARAMS), traced(X1, X2), **CLOSE)
    assert kernel_fn(X1, X2, ("nngp",), PARAMS).ntk is None
    with pytest.raises(ValueError, match="expected 'nngp', 'ntk'"):
        kernel_fn(X1, X2, "cntk", PARAMS)


def test_monte_carlo_is_the_mean_over_draws():
    key = jax.random.key(5)
    draws = [traced(X1, X2, params=initial(jax.random.fold_in(key, i), X1[:1])) for i in range(3)]
    sampled = nt.monte_carlo_kernel_fn(initial, f, key, [1, 3])
    one, three = list(sampled(X1, X2, "ntk"))
    assert_allclose(one, draws[0], **CLOSE)
    assert_allclose(three, np.mean(draws, axis=0), **CLOSE)
    with pytest.raises(ValueError, match="n_samples must be 1 or more; got 0"):
        nt.monte_carlo_kernel_fn(initial, f, key, 0)


def test_monte_carlo_takes_a_stax_init():
    def stax_init(key, shape):
        return (*shape[:-1], 3), initial(key, jnp.zeros(shape, jnp.float32))

    k = nt.monte_carlo_kernel_fn(stax_init, f, jax.random.key(5), 1)(X1, X2, "ntk")
    again = nt.monte_carlo_kernel_fn(initial, f, jax.random.key(5), 1)(X1, X2, "ntk")
    assert_allclose(k, again)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
import kernlens.ntk as nt
from tests.test_ntk_parts import PARAMS, X1, X2, f
assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("rows",))
kernel_fn = nt.empirical_ntk_fn(f, trace_axes=())
spread = nt.sharded(kernel_fn, mesh, "rows")
for x1, x2 in ((X1, None), (jnp.tile(X1, (8, 1)), X2)):
    one, many = kernel_fn(x1, x2, PARAMS), spread(x1, x2, PARAMS)
    np.testing.assert_allclose(many, one, rtol=1e-6, atol=1e-6)
assert len(many.sharding.device_set) == 8 and not many.sharding.is_fully_replicated
try:
    nt.sharded(kernel_fn, mesh, "columns")
except ValueError as error:
    assert "the mesh has axes ('rows',); got 'columns'" in str(error)
else:
    raise AssertionError
print("same")
"""


@pytest.mark.slow
def test_rows_over_eight_devices_give_the_same_numbers():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    run = subprocess.run(
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, env=environment
    )
    assert run.stdout.strip() == "same", run.stderr


def test_what_does_not_fit_is_refused_with_its_size():
    assert memory.available_bytes() > 0
    with pytest.raises(ValueError, match=r"the thing of 1,000,000 x 1,000,000 needs 3,725\.3 GiB"):
        memory.check_fits("the thing", (10**6, 10**6), 4, "smaller")

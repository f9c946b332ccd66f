"""Nonlinearities of infinite networks: their expectations by quadrature, at any scale and angle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from kernlens.ntk.infinite import (
    NONLINEARITIES,
    erf,
)
from kernlens.ntk.infinite.pairs import Pair, arctan2, gaps
from tests.test_ntk_infinite import FIRST, NAMES, erf_kernels

# name -> the function and its derivative, without JAX.
FUNCTIONS = {
    "identity": (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "erf": (special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "gelu": (
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
}


def quadrature(fn, var1, var2, nngp):
    """``E fn(X) fn(Y)`` in polar coordinates, by sectors between the rays where X or Y is zero."""
    angle = np.arccos(np.clip(nngp / np.sqrt(var1 * var2), -1, 1))
    kinks = np.sort(
        np.mod([np.pi / 2, 3 * np.pi / 2, angle + np.pi / 2, angle - np.pi / 2], 2 * np.pi)
    )
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def panel(low, high):
        return low + (high - low) * (nodes + 1) / 2, (high - low) * weights / 2

    total = 0.0
    radii = [panel(low, low + 3.0) for low in (0.0, 3.0, 6.0, 9.0)]
    for low, high in zip(kinks, [*kinks[1:], kinks[0] + 2 * np.pi], strict=True):
        t, wt = panel(low, high)
        for r, wr in radii:
            x = np.sqrt(var1) * r[:, None] * np.cos(t)
            y = np.sqrt(var2) * r[:, None] * np.cos(t - angle)
            density = wr[:, None] * wt * r[:, None] * np.exp(-(r[:, None] ** 2) / 2) / (2 * np.pi)
            total += np.sum(density * fn(x) * fn(y))
    return total


def pair_of(nngp, var1, var2):
    var1, var2, nngp = (jnp.asarray(v, float) for v in (var1, var2, nngp))
    sides = gaps(nngp, var1, var2, noise=8.0, below=jnp.zeros_like(nngp))
    return Pair(
        var1=var1, var2=var2, ntk=jnp.ones_like(var1), width=1, normal=True, fresh=True, **sides
    )


def test_every_nonlinearity_has_a_reference():
    assert sorted(FUNCTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_expectations_by_quadrature(name):
    fn, derivative = FUNCTIONS[name]
    lengths = [(1.0, 1.0), (0.3, 2.5), (4.0, 4.0), (0.01, 9.0)]
    cosines = [-1.0, -0.95, -0.3, 0.0, 0.4, 0.99, 1.0]
    var1, var2, cosine = np.array([(v, w, c) for v, w in lengths for c in cosines]).T
    nngp = cosine * np.sqrt(var1 * var2)
    with jax.enable_x64(True):
        after = NONLINEARITIES[name]().propagate(pair_of(nngp, var1, var2))
        got0, got1, got_length = (np.asarray(v) for v in (after.nngp, after.ntk, after.length))
    kappa0, kappa1 = (
        np.array(list(map(partial(quadrature, f), var1, var2, nngp))) for f in (fn, derivative)
    )
    own1, own2 = (np.array(list(map(partial(quadrature, fn), v, v, v))) for v in (var1, var2))
    length = np.sqrt(own1 * own2)
    # The quadrature's own error is near 1e-13; rays of kinks near 0 and pi merge to 1e-8.
    assert_allclose(got0 / length, kappa0 / length, rtol=0, atol=1e-11)
    assert_allclose(got1, kappa1, rtol=0, atol=1e-7)
    inside = abs(cosine) < 1
    assert_allclose(got1[inside], kappa1[inside], rtol=0, atol=1e-11)
    assert_allclose(got_length, length, rtol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_is_the_function(name):
    x = np.linspace(-3, 3, 31).astype(np.float32)
    got = NONLINEARITIES[name]().module.apply({}, jnp.asarray(x))
    # Rounding of float32.
    assert_allclose(got, FUNCTIONS[name][0](x.astype(np.float64)), rtol=1e-5, atol=1e-6)


def test_arctan2_in_both_precisions():
    angle = np.concatenate([np.linspace(-np.pi / 2, np.pi / 2, 1001), [1e-30, -1e-12]])
    y, x = np.sin(angle), np.maximum(np.cos(angle), 0.0)
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            scale = dtype(3.0)
            y1, x1 = scale * y.astype(dtype), scale * x.astype(dtype)
            got = arctan2(jnp.asarray(y1), jnp.asarray(x1))
            expected = np.arctan2(y1.astype(np.float64), x1.astype(np.float64))
            # A handful of roundings.
            assert_allclose(got, expected, rtol=8 * np.finfo(dtype).eps)
    assert arctan2(jnp.zeros(()), jnp.zeros(())) == 0.0


@pytest.mark.parametrize("name", FIRST)
def test_float32_at_any_scale_and_angle(name):
    angle = np.concatenate([np.geomspace(1e-5, 1.5, 12), np.pi - np.geomspace(1e-5, 1.5, 12)])
    angle = np.concatenate([[0.0, np.pi], angle])
    lengths = [(v, v * w) for v in (1e-6, 1.0, 1e6) for w in (1.0, 1.5, 20.0)]
    var1, var2, angle = np.array([(*pair, a) for pair in lengths for a in angle]).T
    root = np.sqrt(2.0 * np.sqrt(var1 * var2))
    sides = (var1, var2, root * np.sin(angle / 2), root * np.cos(angle / 2))

    def after(dtype):
        var1, var2, apart, across = (jnp.asarray(side, dtype) for side in sides)
        kind = {"width": 1, "normal": True, "fresh": True}
        layer = NONLINEARITIES[name]()
        after = layer.propagate(Pair(var1, var2, apart, across, jnp.ones_like(var1), **kind))
        fields = (after.nngp, after.ntk, after.var1, after.apart, after.length)
        return [np.asarray(field, np.float64) for field in fields]

    got = after(jnp.float32)
    with jax.enable_x64(True):
        nngp, ntk, variance, apart, length = after(jnp.float64)
    # A dozen roundings; those of the exponents of a sine are as its variances.
    fine = 2e-6 if name != "sin" else 2e-6 * np.maximum(1.0, var1 + var2)
    assert np.all(np.abs(got[0] - nngp) <= fine * length)
    assert np.all(np.abs(got[1] - ntk) <= fine)
    assert_allclose(got[2], variance, rtol=2e-6)
    # Angles: to rounding where the activation has a kink, else to its root; none for equals.
    coarse = 2e-6 if name in ("identity", "relu", "leaky_relu") else 3e-3
    if name != "sin":
        assert np.all(np.abs(got[3] - apart) <= coarse * np.sqrt(length))
    assert_array_equal(got[3][(angle == 0) & (var1 == var2)], 0.0)


def test_unequal_lengths_leave_a_gap_though_it_is_below_the_noise():
    """Parallel signals: what ``elementwise`` puts for a gap that rounding may have made."""
    var2 = ((1 + np.linspace(0.004, 0.02, 400)) ** 2).astype(np.float32)
    wide, eps = var2.astype(np.float64), float(np.finfo(np.float32).eps)
    length = np.sqrt(erf_kernels(1.0, 1.0, 1.0)[0] * erf_kernels(wide, wide, wide)[0])
    gap = (1 - erf_kernels(wide**0.5, 1.0, wide)[0] / length) / eps
    second, one = jnp.asarray(var2), jnp.ones(len(var2), jnp.float32)
    across = jnp.sqrt(2 * jnp.sqrt(second))
    after = erf().propagate(
        Pair(one, second, 0 * one, across, one, width=1, normal=True, fresh=True)
    )
    below = (gap > 4) & (gap < 30)
    assert below.sum() > 100
    # The noise of a covariance of a few roundings; the gaps are 16 machine epsilons on average.
    got = np.asarray(after.apart / after.across, np.float64) ** 2 * 2 / eps
    assert np.abs(got - gap)[below].mean() < 3


@pytest.mark.parametrize("name", FIRST)
def test_finite_gradients_of_an_activation(name):
    values = np.array([0.0, 1e-30, 1.0, 1e6], np.float32)
    sides = [jnp.asarray(side.ravel()) for side in np.meshgrid(values, values)]
    kind = {"width": 1, "normal": True, "fresh": True}

    def total(apart, across):
        length = 0.5 * (apart**2 + across**2)
        p = Pair(length, length, apart, across, jnp.ones_like(apart), **kind)
        after = NONLINEARITIES[name]().propagate(p)
        return jnp.sum(after.nngp + after.ntk)

    for slope in jax.grad(total, (0, 1))(*sides):
        assert np.isfinite(slope).all()

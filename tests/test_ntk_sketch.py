"""Sketched features against kernels of dense float64 Jacobians and closed-form variances."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from kernlens import moments, probes
from kernlens.kernels import features as feature_maps
from kernlens.ntk import sketch
from kernlens.types import Labels
from tests import cases

FLOAT = jnp.result_type(float)
EPS = float(jnp.finfo(FLOAT).eps)
WAYS = ("structured", "vector_products")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """These programs run for milliseconds; nearly all of their time would go to compiling them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), FLOAT)


def f64(array):
    return np.asarray(array, np.float64)


def tower(params, x):
    """A tied table, a layer used twice, and a scale that is no site; outputs ``[n, 3]``."""
    bag = jnp.where(x["mask"][..., None], params["table"][x["ids"]], 0.0).sum(1)
    for _ in range(2):
        bag = jnp.tanh(bag @ params["inner"] + params["bias"]) * params["scale"]
    return bag @ params["table"].T @ params["outer"]


def convolution(params, x):
    """Outputs ``[n, 2, 3]``."""
    image = jax.lax.conv(x, params["window"], (1, 1), "SAME")
    return jnp.tanh(image.reshape(-1, 12) @ params["dense"]).reshape(-1, 2, 3)


def parts(params, x):
    """Stacked layers in a loop and two slices of a matrix, apart from each other; ``[n, 2]``."""
    h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["layers"])
    return jnp.tanh(h @ params["w"][:, :2]) * (h @ params["w"][:, 2:])


class Case(NamedTuple):
    f: object
    params: dict
    x: object
    trace_axes: tuple


IDS = np.random.default_rng(0).integers(0, 7, (4, 3))
CASES = {
    "tower": Case(
        tower,
        {
            "table": draw(1, 7, 4),
            "inner": draw(2, 4, 4) / 2,
            "bias": draw(3, 4),
            "scale": draw(4, 4),
            "outer": draw(5, 7, 3) / 3,
        },
        {"ids": jnp.asarray(IDS), "mask": jnp.asarray(IDS != 2)},
        (-1,),
    ),
    "convolution": Case(
        convolution,
        {"window": draw(6, 3, 2, 3, 3) / 3, "dense": draw(7, 12, 6) / 3},
        draw(8, 3, 2, 2, 2),
        (1,),
    ),
    "parts": Case(parts, {"layers": draw(9, 3, 3, 3), "w": draw(10, 3, 4)}, draw(11, 4, 3), (-1,)),
}


@cache
def exact(name):
    """The kernel, untraced outputs as rows."""
    case = CASES[name]
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(case.f))(case.params, case.x))
    outputs = jax.eval_shape(case.f, case.params, case.x).shape
    jacobian = np.concatenate([f64(leaf).reshape(*outputs, -1) for leaf in leaves], axis=-1)
    jacobian = np.moveaxis(jacobian, case.trace_axes[0] % len(outputs), 0)
    flat = jacobian.reshape(len(jacobian), -1, jacobian.shape[-1])
    return np.einsum("tip,tjp->ij", flat, flat) / len(flat)


@cache
def made(name, way, num_features=64):
    case = CASES[name]
    return sketch.features(
        jax.random.key(0), case.f, case.params, num_features,
        trace_axes=case.trace_axes, method=way,
    )  # fmt: skip


@cache
def over_keys(name, way, num_features=64, draws=400):
    """Estimates and standard errors of all entries, one of each for each key."""
    map_fn = made(name, way, num_features)
    _, params = map_fn.args

    @jax.jit
    @jax.vmap
    def entries(key):
        phi = Partial(map_fn.func, key, params)(CASES[name].x).reshape(-1, num_features)
        return sketch.estimate(phi[:, None], phi[None])

    return jax.tree.map(f64, entries(jax.random.split(jax.random.key(9), draws)))


@pytest.mark.thorough
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_the_mean_over_keys_is_the_kernel_and_the_error_is_their_spread(name, way):
    value, standard_error = over_keys(name, way)
    assert value.shape[1:] == exact(name).shape
    spread = value.std(axis=0, ddof=1)
    # Five standard errors of a mean of 400: one entry in two million lies outside by chance.
    assert np.all(np.abs(value.mean(axis=0) - exact(name)) < 5 * spread / 400**0.5)
    # The relative error of a spread from 400 draws of kurtosis up to 10 is 0.08.
    reported = np.sqrt(np.mean(standard_error**2, axis=0))
    assert_allclose(reported, spread, rtol=0.3)
    bound = 3 * np.sqrt(np.outer(np.diag(exact(name)), np.diag(exact(name))) / 64)
    assert np.all(spread < bound)


@pytest.mark.thorough
def test_the_error_falls_as_the_root_of_the_number_of_features():
    # Spreads of 400 and of 100 draws; the nine rows of the kernel add to what is known of them.
    few, many = (
        over_keys("convolution", "structured", p, draws).value - exact("convolution")
        for p, draws in ((64, 400), (576, 100))
    )
    ratio = np.sqrt(np.mean(few**2) / np.mean(many**2))
    assert 3 * 0.8 < ratio < 3 / 0.8


def chaos(a, b):
    """E[(a.u)^2 (b.u)^2] for random signs u."""
    return (a @ a) * (b @ b) + 2 * (a @ b) ** 2 - 2 * np.sum(a**2 * b**2)


@pytest.mark.parametrize("way", WAYS)
def test_the_error_equals_its_closed_form(way):
    params = {"inner": draw(10, 3, 4), "outer": draw(11, 4)}
    x, p = draw(12, 2, 3), 2**14
    map_fn = sketch.features(
        jax.random.key(1), lambda params, x: x @ params["inner"] @ params["outer"], params, p,
        trace_axes=(), params_filter=lambda path: path == ("inner",), method=way,
    )  # fmt: skip
    phi = map_fn(x)
    a, b, c = f64(x[0]), f64(x[1]), f64(params["outer"])
    exact = (a @ b) * (c @ c)
    second = (
        chaos(a, b) * chaos(c, c)
        if way == "structured"
        else chaos(np.outer(a, c).ravel(), np.outer(b, c).ravel())
    )
    value, standard_error = sketch.estimate(phi[0], phi[1])
    # The products are bounded, so a spread of 16,384 of them is known to some percent.
    assert_allclose(float(standard_error), np.sqrt((second - exact**2) / p), rtol=0.05)
    assert abs(float(value) - exact) < 5 * float(standard_error)


@pytest.mark.thorough
@pytest.mark.parametrize("way", WAYS)
def test_a_row_has_the_same_features_in_any_batch(way):
    case = CASES["convolution"]
    map_fn = made("convolution", way)
    phi = map_fn(case.x)
    assert phi.shape == (3, 3, 64)
    assert phi.dtype == FLOAT
    close = partial(assert_allclose, rtol=0, atol=100 * EPS * float(jnp.abs(phi).max()))
    blocked = sketch.features(
        jax.random.key(0), case.f, case.params, 64, trace_axes=(1,), method=way, block_size=2
    )
    close(jax.jit(lambda map_fn, x: map_fn(x))(blocked, case.x), phi)


@pytest.mark.thorough
@pytest.mark.parametrize("way", WAYS)
def test_equal_keys_give_maps_that_fit_together(way):
    """Fewer features, parts of the parameters and other parameters use the same projection."""
    params = {
        "encoder": {"table": draw(13, 6, 3), "dense": draw(14, 3, 5), "bias": draw(15, 5)},
        "decoder": draw(16, 5, 2),
    }
    ids = jnp.asarray([4, 0, 4, 5])

    def model(params, ids):
        encoder = params["encoder"]
        hidden = jnp.tanh(encoder["table"][ids] @ encoder["dense"] + encoder["bias"])
        return hidden @ params["decoder"]

    def phi(num_features, params_filter=None):
        return sketch.features(
            jax.random.key(2), model, params, num_features,
            params_filter=params_filter, method=way,
        )(ids)  # fmt: skip

    whole = phi(96)
    close = partial(assert_allclose, rtol=0, atol=100 * EPS * float(jnp.abs(whole).max()))
    assert_array_equal(whole[0], whole[2])
    encoder = phi(72, lambda path: path[0] == "encoder")
    decoder = phi(72, lambda path: path[0] == "decoder")
    close(encoder + decoder, whole[:, :72] * (96 / 72) ** 0.5)
    # A linear decoder's kernel is the Gram of what it reads.
    hidden = jnp.tanh(
        params["encoder"]["table"][ids] @ params["encoder"]["dense"] + params["encoder"]["bias"]
    )
    value, standard_error = sketch.estimate(decoder[:, None], decoder[None])
    assert np.all(np.abs(f64(value) - f64(hidden @ hidden.T)) < 5 * f64(standard_error))


@pytest.mark.thorough
def test_two_models_under_one_key_give_the_kernel_between_them():
    case = CASES["convolution"]
    other = jax.tree.map(lambda leaf: leaf[::-1], case.params)
    map_fn = made("convolution", "structured")
    # Features of 16 keys are features of one map of 16 times as many.
    keys = jax.random.split(jax.random.key(7), 16)
    phi1, phi2 = (
        jnp.concatenate(
            [Partial(map_fn.func, key, own)(case.x).reshape(9, 64) for key in keys], axis=-1
        )
        / 4.0
        for own in (case.params, other)
    )
    jacobian1, jacobian2 = (
        np.concatenate(
            [
                f64(leaf).reshape(3, 2, 3, -1)
                for leaf in jax.tree.leaves(jax.jit(jax.jacobian(case.f))(own, case.x))
            ],
            axis=-1,
        )
        for own in (case.params, other)
    )
    kernel = np.einsum("itop,jtqp->iojq", jacobian1, jacobian2).reshape(9, 9) / 2
    value, standard_error = sketch.estimate(phi1[:, None], phi2[None])
    assert np.all(np.abs(f64(value) - kernel) < 5 * f64(standard_error))


def scored(params, ids):
    return params["table"][ids] @ params["head"]


@pytest.mark.thorough
def test_auto_takes_factors_for_a_large_table_and_holds_no_copy_of_it():
    params = {"table": jnp.ones((50_000, 4), FLOAT), "head": draw(17, 4)}
    ids = jnp.asarray([3, 49_999, 3, 0])
    key = jax.random.key(3)
    auto, structured = (
        sketch.features(key, scored, params, 128, trace_axes=(), method=method)
        for method in ("auto", "structured")
    )
    compiled = jax.jit(lambda map_fn, ids: map_fn(ids)).lower(auto, ids).compile()
    assert_array_equal(compiled(auto, ids), structured(ids))
    assert compiled.memory_analysis().temp_size_in_bytes < params["table"].nbytes / 4


@pytest.mark.thorough
def test_auto_takes_products_for_many_outputs_of_few_parameters():
    """Each cotangent has as many entries as outputs; a product gives all outputs at once."""

    def wide(params, x):
        return jnp.tanh(x[:, None] * params["scale"])

    params, x, key = {"scale": draw(18, 300)}, draw(19, 2), jax.random.key(4)
    auto, products = (
        sketch.features(key, wide, params, 8, method=method)
        for method in ("auto", "vector_products")
    )
    assert_array_equal(auto(x), products(x))


@pytest.mark.thorough
@pytest.mark.parametrize("way", WAYS)
def test_complex_parameters_are_two_leaves(way):
    params, x = (
        {"w": jax.lax.complex(draw(30, 3, 4), draw(31, 3, 4)), "v": draw(32, 4)},
        draw(33, 3, 3),
    )

    def modulus(params, x):
        return jnp.abs(x.astype(params["w"].dtype) @ params["w"]) @ params["v"]

    z = f64(x) @ np.asarray(params["w"], np.complex128)
    over_z = f64(params["v"]) * z / np.abs(z)
    slopes = np.real(over_z[:, None] * np.conj(over_z[None])).sum(-1)
    kernel = f64(x) @ f64(x).T * slopes + np.abs(z) @ np.abs(z).T
    phi = sketch.features(jax.random.key(8), modulus, params, 2**12, trace_axes=(), method=way)(x)
    value, standard_error = sketch.estimate(phi[:, None], phi[None])
    assert np.all(np.abs(f64(value) - kernel) < 5 * f64(standard_error))
    assert np.all(f64(standard_error) < 0.1 * np.abs(kernel).max())


@pytest.mark.thorough
def test_features_of_a_function_that_closes_over_a_traced_value():
    case = CASES["convolution"]

    def total(scale):
        map_fn = sketch.features(
            jax.random.key(0), lambda p, x: scale * convolution(p, x), case.params, 64,
            trace_axes=(1,), method="structured",
        )  # fmt: skip
        return jnp.sum(map_fn(case.x) ** 2)

    # Quadratic in the scale.
    at = jnp.asarray(1.5, FLOAT)
    np.testing.assert_allclose(jax.grad(total)(at), 2 * total(at) / at, rtol=1e3 * EPS)


@pytest.mark.skipif(jnp.float32 == FLOAT, reason="float64 is off")
@pytest.mark.parametrize("way", WAYS)
def test_float32_and_float64_have_the_same_projection(way):
    case = CASES["convolution"]
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (case.params, case.x))
    map_fn = made("convolution", way)
    phi = Partial(map_fn.func, jax.random.key(0), narrow[0])(narrow[1])
    assert phi.dtype == jnp.float32
    wide = map_fn(case.x)
    atol = 100 * float(jnp.finfo(jnp.float32).eps) * float(jnp.abs(wide).max())
    assert_allclose(phi, wide, rtol=0, atol=atol)


@pytest.mark.thorough
def test_features_enter_moments_and_a_probe():
    x, codes, num_classes = cases.gaussian_classes(5, n=120, dim=4, num_classes=3)
    x = jnp.asarray(x, FLOAT)
    params = {"inner": draw(20, 4, 16) / 2, "outer": draw(21, 16)}

    def mlp(params, x):
        return jnp.tanh(x @ params["inner"]) @ params["outer"]

    def kernel(x1, x2):
        hidden1, hidden2 = (jnp.tanh(x @ params["inner"]) for x in (x1, x2))
        slopes1, slopes2 = (params["outer"] * (1 - h**2) for h in (hidden1, hidden2))
        return hidden1 @ hidden2.T + (x1 @ x2.T) * (slopes1 @ slopes2.T)

    phi = sketch.features(jax.random.key(6), mlp, params, 120, trace_axes=())(x)
    summary = moments.from_arrays(phi, codes, num_classes)
    means = [f64(phi)[codes == k].mean(axis=0) for k in range(num_classes)]
    assert_allclose(moments.class_means(summary), means, rtol=0, atol=1e-5 * np.abs(phi).max())
    labels = Labels(codes, ("a", "b", "c"))
    sketched, true = (
        probes.discriminant(np.asarray(own), labels, draws=2).metrics["accuracy"].value
        for own in (phi, feature_maps.exact(kernel, x)(x))
    )
    largest = np.bincount(codes).max() / len(codes)
    assert true > largest + 0.1
    # Rows on the border of two classes may change sides.
    assert abs(sketched - true) < 0.08


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_features": 0}, "num_features must be at least 1; got 0"),
        ({"block_size": 0}, "block_size must be at least 1, or 'auto'; got 0"),
        ({"method": "jacobian"}, "unknown method 'jacobian'; expected one of 'auto'"),
        ({"params_filter": lambda path: False}, "keeps no floating-point leaf"),
        ({"params": {"head": jnp.asarray([jnp.nan])}}, "parameter head has 1 entries that are NaN"),
    ],
)
def test_bad_settings_are_refused_at_once(change, match):
    given = {"params": {"head": jnp.ones(3, FLOAT)}, "num_features": 2, **change}
    with pytest.raises(ValueError, match=match):
        sketch.features(jax.random.key(0), scored, **given)


@pytest.mark.parametrize(
    ("f", "rows", "match"),
    [
        (lambda params, x: x @ params, jnp.zeros((0, 3), FLOAT), "x is an empty batch"),
        (lambda params, x: x @ params, jnp.ones((2, 3), FLOAT), "axis -1 is not an output axis"),
        (lambda params, x: x - x.mean(0) * params, draw(22, 4, 3), "coupled over its batch"),
        (
            lambda params, x: x * jax.lax.stop_gradient(params),
            jnp.ones((2, 3), FLOAT),
            "has no gradient",
        ),
        (
            lambda params, x: x * params,
            jnp.full((2, 3), jnp.nan, FLOAT),
            "x has 6 entries that are NaN",
        ),
        (lambda params, x: jnp.argmax(x * params, -1), jnp.ones((2, 3), FLOAT), "no gradient"),
    ],
)
def test_bad_functions_and_rows_are_refused(f, rows, match):
    map_fn = sketch.features(jax.random.key(0), f, jnp.ones(3, FLOAT), 2)
    with pytest.raises(ValueError, match=match):
        map_fn(rows)


def test_features_that_would_not_fit_are_refused():
    map_fn = sketch.features(jax.random.key(0), lambda params, x: x * params, jnp.ones(1), 10**12)
    with pytest.raises(ValueError, match=r"feature array of 4 x 1 x 1,000,000,000,000 needs"):
        map_fn(jnp.ones((4, 1)))


def test_an_error_needs_two_features():
    with pytest.raises(ValueError, match="two or more features"):
        sketch.estimate(jnp.ones((2, 1)), jnp.ones((2, 1)))

"""Infinite width: golden values, wide finite networks, and the laws of kernels."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.kernels import features
from kernlens.ntk.infinite import (
    NONLINEARITIES,
    add,
    dense,
    erf,
    gelu,
    identity,
    layer_norm,
    leaky_relu,
    lookup,
    mean_pool,
    relu,
    residual,
    serial,
    sin,
    two_tower,
)
from tests import cases

NAMES = sorted(NONLINEARITIES)


def some(names, kept):
    """All names, those that are not kept marked slow."""
    return [name if name in kept else pytest.param(name, marks=pytest.mark.slow) for name in names]


FIRST = some(NAMES, ("erf", "relu", "sin"))
NUM_ITEMS = 7


def rows(seed, n=6, dim=5):
    return np.random.default_rng(seed).standard_normal((n, dim))


def bags(seed, n=5, length=4):
    rng = np.random.default_rng(seed)
    mask = rng.random((n, length)) < 0.7
    mask[:, 0] = True
    return rng.integers(0, NUM_ITEMS, (n, length)).astype(np.int32), mask


@pytest.fixture
def quick_compilation():
    """For many small programs whose rounding is not at stake: compiled without optimisation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


quick = pytest.mark.usefixtures("quick_compilation")


def mlp(activation, depth=2, width=8):
    hidden = [layer for _ in range(depth) for layer in (dense(width, 1.4, 0.2), activation())]
    return serial(*hidden, dense(width, 1.2, 0.1))


def golden_net(name):
    if name == "residual_relu":
        block = residual(serial(relu(), dense(64, 1.4, 0.1)))
        return serial(dense(64, 1.4, 0.1), block, relu(), dense(1, 1.0, 0.1))
    if name == "relu_depth2_standard_width64":
        standard = partial(dense, b_std=0.1, parameterization="standard")
        hidden = [standard(64, 1.4), relu(), standard(64, 1.4), relu()]
        return serial(*hidden, standard(1, 1.0))
    activation, depth, _ = name.split("_")
    hidden = [dense(64, 1.5, 0.1), NONLINEARITIES[activation]()] * int(depth[5:])
    return serial(*hidden, dense(1, 1.2, 0.05))


GOLDEN = json.loads((cases.GOLDEN / "ntk_values.json").read_text())["values"]


@quick
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_values_of_neural_tangents(name):
    x1, x2 = (np.random.RandomState(s).standard_normal((n, 4)) for s, n in [(0, 5), (1, 3)])
    with jax.enable_x64(True):
        both = golden_net(name).kernel_fn(x1, np.concatenate([x1, x2]))
    for kind in ("nngp", "ntk"):
        symmetric, other = np.split(np.asarray(getattr(both, kind)), [len(x1)], axis=1)
        for suffix, got in [("", other), ("_sym", symmetric)]:
            expected = np.array(GOLDEN[name][kind + suffix])
            # Both sides round in float64.
            assert_allclose(got, expected, rtol=0, atol=1e-13 * expected.max())


# what is checked -> (network of a width, inputs)
FINITE = {
    "add_residual_layer_norm": (
        lambda w: serial(
            add(serial(dense(w, 1.3), erf(), dense(w)), dense(w, 0.5, 0.2)),
            residual(serial(gelu(), dense(w, 1.2, 0.1))),
            layer_norm(),
            leaky_relu(0.3),
            dense(w, 1.2, 0.1),
        ),
        rows(8),
    ),
    "mean_pool_lookup": (
        lambda w: serial(
            mean_pool(serial(lookup(NUM_ITEMS, w, 1.3), relu(), dense(w, 1.2))), sin(), dense(w)
        ),
        bags(0),
    ),
    "two_tower": (
        lambda w: two_tower(mean_pool(lookup(NUM_ITEMS, w, 1.3)), dense(w, 1.3, 0.2)),
        (bags(1), rows(10, 5)),
    ),
}


def empirical(net, x, seeds):
    """NNGP averaged over outputs, NTK of the first one, for each seed: ``[seeds, n, n]`` each."""
    module = net.module

    def one(key):
        params = module.init(key, x)

        def output(params, example):
            return module.apply(params, jax.tree.map(lambda v: v[None], example))[0]

        out = jax.vmap(partial(output, params))(x)
        slopes = jax.vmap(jax.grad(lambda p, example: output(p, example)[0]), (None, 0))(params, x)
        flat = [leaf.reshape(len(out), -1) for leaf in jax.tree.leaves(slopes)]
        return out @ out.T / out.shape[1], sum(leaf @ leaf.T for leaf in flat)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), seeds))


@pytest.mark.thorough
@quick
@pytest.mark.parametrize("name", some(sorted(FINITE), ("two_tower", "mean_pool_lookup")))
def test_wide_finite_networks_approach_it_as_one_over_the_root_of_the_width(name):
    build, x = FINITE[name]
    x = jax.tree.map(jnp.asarray, x)
    widths, errors = (16, 128), {"nngp": [], "ntk": []}
    exact = build(1).kernel_fn(x)
    for width in widths:
        for kind, got in zip(errors, empirical(build(width), x, 24), strict=True):
            expected = np.asarray(getattr(exact, kind), np.float64)
            error = np.asarray(got, np.float64) - expected
            errors[kind].append(np.sqrt(np.mean(error**2) / np.mean(expected**2)))
    # The score of a two-tower is one channel, whose products do not average over a width.
    for kind in ("ntk",) if name == "two_tower" else ("nngp", "ntk"):
        slope = np.log(errors[kind][1] / errors[kind][0]) / np.log(widths[1] / widths[0])
        # One over the root is -1/2; the spread is that of 24 draws, and of the next order.
        assert -0.75 < slope < -0.3, (kind, errors[kind])
        assert errors[kind][1] < 0.4, (kind, errors[kind])


@pytest.mark.thorough
@quick
def test_the_mean_over_draws_of_a_two_tower_score_is_its_nngp():
    net = two_tower(lookup(NUM_ITEMS, 16, 1.3), dense(16, 1.1, 0.4))
    x = (jnp.asarray([0, 3, 3, 6], jnp.int32), jnp.asarray(rows(11, 4)))
    keys = jax.random.split(jax.random.key(1), 4000)
    module = net.module
    scores = jax.jit(jax.vmap(lambda k: module.apply(module.init(k, x), x)[:, 0]))(keys)
    products = np.asarray(scores, np.float64)[:, :, None] * np.asarray(scores)[:, None, :]
    error = products.mean(0) - np.asarray(net.kernel_fn(x, get="nngp"))
    # Both towers are linear in their weights, so the mean is exact at any width.
    assert np.all(np.abs(error) < 4.5 * products.std(0) / np.sqrt(len(keys)))


@quick
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("name", ["dense", "dense without bias", "lookup"])
def test_the_ntk_of_one_layer_is_exact_at_any_width(name, parameterization):
    if name != "lookup":
        bias = 0.3 if name == "dense" else None
        net, x = dense(5, 1.4, bias, parameterization=parameterization), jnp.asarray(rows(0))
    else:
        net, x = lookup(NUM_ITEMS, 5, 1.4, parameterization=parameterization), jnp.arange(5)
    expected = net.kernel_fn(x, get="ntk")
    # Rounding of float32.
    assert_allclose(empirical(net, x, 1)[1][0], expected, rtol=1e-5, atol=1e-5)


@quick
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_both_parameterisations_start_as_the_same_function(parameterization):
    net, x = dense(4000, 1.4, 0.3, parameterization=parameterization), jnp.asarray(rows(1))
    outputs = net.module.init_with_output(jax.random.key(0), x)[0]
    # The mean over 4,000 outputs errs by some 1/60 of a variance near 2.
    assert_allclose(outputs @ outputs.T / 4000, net.kernel_fn(x, get="nngp"), rtol=0, atol=0.2)


def test_a_layer_used_twice_has_two_sets_of_weights():
    block = serial(dense(5), relu())
    params = serial(block, block, dense(1)).module.init(jax.random.key(0), jnp.ones((1, 5)))
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.shape == (5, 5)]
    assert len(leaves) == 2
    assert not np.array_equal(*leaves)


@quick
def test_a_bag_of_items_counts_common_items():
    (ids, mask), (ids2, mask2) = bags(2, 6), bags(3, 4)
    got = mean_pool(lookup(NUM_ITEMS, 8, 1.5)).kernel_fn((ids, mask), (ids2, mask2))

    def shares(ids, mask):
        return np.stack(
            [
                np.bincount(i[m], minlength=NUM_ITEMS) / m.sum()
                for i, m in zip(ids, mask, strict=True)
            ]
        )

    expected = 1.5**2 * shares(ids, mask) @ shares(ids2, mask2).T
    # Rounding of float32.
    assert_allclose(got.nngp, expected, rtol=1e-5, atol=1e-6)
    assert_allclose(got.ntk, expected, rtol=1e-5, atol=1e-6)


@quick
def test_order_and_padding_of_a_bag_do_not_matter():
    net = serial(mean_pool(lookup(NUM_ITEMS, 8)), relu(), dense(1))
    ids = jnp.asarray([[1, 2, 2, 5, 0], [5, 2, 1, 2, 3]], jnp.int32)
    mask = jnp.asarray([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], bool)
    ntk = np.asarray(net.kernel_fn((ids, mask), get="ntk"))
    assert_allclose(ntk, ntk[0, 0], rtol=1e-6)


def test_a_frozen_or_standard_table():
    ids = jnp.arange(NUM_ITEMS, dtype=jnp.int32)
    frozen = lookup(NUM_ITEMS, 8, 1.5, trainable=False)
    assert_array_equal(frozen.kernel_fn(ids, get="ntk"), 0.0)
    params = frozen.module.init(jax.random.key(0), ids)
    slopes = jax.grad(lambda p: frozen.module.apply(p, ids).sum())(params)
    assert_array_equal(jax.tree.leaves(slopes)[0], 0.0)
    standard = lookup(NUM_ITEMS, 8, 1.5, parameterization="standard").kernel_fn(ids)
    assert_allclose(standard.nngp, 1.5**2 * np.eye(NUM_ITEMS), rtol=1e-6)
    assert_array_equal(standard.ntk, np.eye(NUM_ITEMS))


@quick
def test_the_two_tower_is_the_product_of_its_towers():
    ids, z = jnp.asarray([0, 3, 3, 6, 1], jnp.int32), rows(12, 5)
    net = two_tower(lookup(NUM_ITEMS, 8, 1.5), dense(8, 1.2, 0.3, parameterization="standard"))
    got = net.kernel_fn((ids, jnp.asarray(z)))
    same, gram = np.equal.outer(ids, ids), z @ z.T
    # Rounding of float32.
    nngp = 1.2**2 * gram / z.shape[1] + 0.3**2
    assert_allclose(got.nngp, 1.5**2 * same * nngp, rtol=1e-5, atol=1e-5)
    assert_allclose(got.ntk, 1.5**2 * same * (nngp + gram + 1.0), rtol=1e-5, atol=1e-5)


def erf_kernels(nngp, var1, var2):
    """Williams (1997), equation 11, and its derivative by the covariance, in NumPy."""
    left = (1 + 2 * var1) * (1 + 2 * var2)
    return 2 / np.pi * np.arcsin(2 * nngp / left**0.5), 4 / np.pi / np.sqrt(left - 4 * nngp**2)


@quick
def test_layer_norm_divides_by_variances_and_eps():
    x, eps = rows(26), 0.5
    net = serial(dense(8, 1.3, 0.2), layer_norm(eps), erf(), dense(8))
    nngp = 1.3**2 * x @ x.T / x.shape[1] + 0.2**2
    root = np.sqrt(np.diagonal(nngp) + eps)
    normed = nngp / np.outer(root, root)
    kappa0, kappa1 = erf_kernels(normed, np.diagonal(normed)[:, None], np.diagonal(normed))
    got = net.kernel_fn(jnp.asarray(x))
    # Rounding of float32.
    assert_allclose(got.nngp, kappa0, rtol=1e-5, atol=1e-6)
    assert_allclose(got.ntk, kappa1 * normed + kappa0, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FIRST)
def test_laws_of_a_kernel(name):
    net = serial(dense(8, 1.4, 0.2), NONLINEARITIES[name](), dense(8, 1.2))
    x = np.concatenate([rows(16, 9, 4), cases.hostile_rows(dim=4)]).astype(np.float32)
    first, second = (np.random.default_rng(s).permutation(len(x)) for s in (0, 1))
    whole, shuffled = net.kernel_fn(x, x.copy()), net.kernel_fn(x[first], x[second])
    for kind in ("nngp", "ntk"):
        gram = np.asarray(getattr(whole, kind), np.float64)
        # Rounding of float32.
        slack = 20 * float(np.finfo(np.float32).eps) * np.abs(gram).max()
        assert_allclose(gram, gram.T, rtol=0, atol=slack)
        assert np.linalg.eigvalsh(gram).min() > -len(gram) * slack
        assert_allclose(getattr(shuffled, kind), gram[np.ix_(first, second)], rtol=0, atol=slack)


@quick
def test_a_block_is_a_slice():
    kernel = partial(mlp(relu, 1).kernel_fn, get="ntk")
    x = jnp.asarray(cases.hostile_rows(dim=4))
    gram = kernel(x, x)
    slack = 20 * float(jnp.finfo(x.dtype).eps) * float(jnp.abs(gram).max())
    assert_allclose(kernel(x[3:8], x[5:]), gram[3:8, 5:], rtol=0, atol=slack)


def relu_ntk(x1, x2, b_std):
    """Two hidden layers by the arc cosine, in float64; unit weights but for ``b_std`` on top."""

    def layer(k, q1, q2, ntk):
        root = np.sqrt(np.outer(q1, q2))
        angle = np.arccos(np.clip(k / root, -1, 1))
        k = root / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
        return k, q1 / 2, q2 / 2, ntk * (np.pi - angle) / (2 * np.pi)

    k = x1 @ x2.T / x1.shape[1]
    q1, q2 = (np.sum(x**2, axis=1) / x.shape[1] for x in (x1, x2))
    k, q1, q2, ntk = layer(k, q1, q2, k)
    k, q1, q2 = k + b_std**2, q1 + b_std**2, q2 + b_std**2
    k, _, _, ntk = layer(k, q1, q2, ntk + k)
    return ntk + k


@pytest.mark.thorough
def test_equal_near_and_opposite_rows_keep_full_precision_in_float32():
    x = rows(14, 20, 37)
    near = x + 1e-4 * rows(15, 20, 37)
    others = np.concatenate([x, near, -near, 3.0 * x, -x]).astype(np.float32)
    x = x.astype(np.float32)
    net = serial(dense(8), relu(), dense(8, 1.0, 0.2), relu(), dense(1))
    for scale in (1e-3, 1.0, 1e3):
        x1, x2 = np.float32(scale) * x, np.float32(scale) * others
        got = np.asarray(net.kernel_fn(x1, x2, get="ntk"), np.float64)
        expected = relu_ntk(x1.astype(np.float64), x2.astype(np.float64), 0.2)
        # In float32 an arc cosine of a rounded cosine errs by some 1e-4 here.
        size = np.sqrt(np.outer(np.diagonal(expected), np.tile(np.diagonal(expected), 5)))
        assert_allclose(got / size, expected / size, rtol=0, atol=2e-6)
        assert_allclose(np.diagonal(got), np.diagonal(expected), rtol=1e-6)


def sums(bias):
    block = residual(serial(erf(), dense(8, 1.2, bias)))
    return serial(dense(8, 1.3, bias), relu(), dense(8, 1.1), block, layer_norm(), relu(), dense(1))


@pytest.mark.thorough
@quick
def test_finite_gradients_at_hostile_rows():
    net, x = sums(None), jnp.asarray(cases.hostile_rows())
    weights = jnp.asarray(rows(17, len(x), len(x)))
    slope = jax.grad(lambda x: jnp.sum(weights * net.kernel_fn(x, x, "ntk")))(x)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.thorough
@quick
def test_gradient_is_the_difference_quotient():
    with jax.enable_x64(True):
        x1, x2, step = (jnp.asarray(rows(s, 5)) for s in (18, 19, 20))
        weights, net = jnp.asarray(rows(21, 5, 5)), sums(0.2)
        total = jax.jit(
            jax.value_and_grad(lambda x: jnp.sum(weights * net.kernel_fn(x, x2, "ntk")))
        )
        slope = jnp.vdot(total(x1)[1], step)
        quotient = (total(x1 + 1e-5 * step)[0] - total(x1 - 1e-5 * step)[0]) / 2e-5
        # Second-order differences: the square of the step, and rounding over the step.
        assert_allclose(slope, quotient, rtol=1e-6)


@quick
def test_calling_convention():
    net, x1, x2 = dense(8, 1.4, 0.2), jnp.asarray(rows(22, 4)), jnp.asarray(rows(23, 3))
    both = net.kernel_fn(x1, x2, get=("ntk", "nngp"))
    assert both._fields == ("ntk", "nngp")
    assert both.ntk.shape == (4, 3)
    assert both.ntk.dtype == x1.dtype
    # Compiled on its own, it may round otherwise.
    assert_allclose(net.kernel_fn(x1, x2, "ntk"), both.ntk, rtol=1e-6)
    assert net.kernel_fn(x1, get=("nngp",)).nngp.shape == (4, 4)
    assert net.kernel_fn(x1)._fields == ("nngp", "ntk")


@pytest.mark.thorough
@quick
def test_it_goes_where_a_kernel_goes():
    x = jnp.asarray(rows(24, 8))
    kernel = partial(mlp(relu, 1).kernel_fn, get="ntk")
    phi = features.exact(kernel, x)(x)
    # The factor of a well-conditioned Gram, in float32.
    assert_allclose(phi @ phi.T, kernel(x, x), rtol=1e-3, atol=1e-3)


@pytest.mark.thorough
@quick
def test_float32_rows_meet_ids_in_double_precision():
    items = lookup(NUM_ITEMS, 8, dtype=jnp.float32)
    net, x = two_tower(items, dense(8)), (bags(5)[0][:, 0], rows(25, 5).astype(np.float32))
    with jax.enable_x64(True):
        assert net.kernel_fn(x, get="ntk").dtype == jnp.float32
        assert net.module.init_with_output(jax.random.key(0), x)[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: serial(relu(), dense(3)), "normal signals only"),
        (lambda: serial(dense(3), relu(), relu()), "normal signals only"),
        (lambda: serial(dense(3), relu(), layer_norm()), "normal signals only"),
        (lambda: serial(dense(3), add(identity(), identity())), "all branches of a sum but one"),
        (lambda: serial(dense(3), residual(relu())), "all branches of a sum but one"),
        (lambda: serial(dense(3), residual(dense(4))), "one width"),
        (lambda: serial(dense(3), lookup(4, 3)), "must come first"),
        (lambda: serial(dense(3), mean_pool(dense(3))), "must come first"),
        (lambda: serial(), "at least one layer"),
        (lambda: add(), "at least one branch"),
        (lambda: dense(0), "width >= 1"),
        (lambda: dense(3, -1.0), "scales >= 0"),
        (lambda: dense(3, parameterization="mup"), "'ntk' or 'standard'"),
        (lambda: lookup(0, 3), "num_items and width >= 1"),
    ],
)
def test_what_has_no_closed_form_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build().kernel_fn(jnp.ones((2, 3)))


def test_towers_that_do_not_fit_are_refused():
    x = (jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="one width"):
        two_tower(dense(3), dense(4)).kernel_fn(x)
    with pytest.raises(ValueError, match="weights of its own"):
        two_tower(dense(3), serial(dense(3), relu())).kernel_fn(x)
    with pytest.raises(ValueError, match="one channel"):
        serial(two_tower(dense(3), dense(3)), dense(1)).kernel_fn(x)


def test_bad_inputs_are_refused():
    net = dense(3)
    with pytest.raises(ValueError, match="get must be 'nngp', 'ntk'"):
        net.kernel_fn(jnp.ones((2, 3)), get="cov1")
    with pytest.raises(ValueError, match="inputs of one kind"):
        net.kernel_fn(jnp.ones((2, 3)), (jnp.ones((2, 3)), jnp.ones((2, 3))))
    with pytest.raises(AssertionError):
        net.kernel_fn(jnp.ones((2, 3)), jnp.ones((2, 4)))
    with pytest.raises(AssertionError):
        net.kernel_fn(jnp.ones((2, 3), jnp.int32))


@pytest.mark.thorough
@quick
def test_kernels_of_inner_products_are_those_of_the_rows():
    net = serial(dense(1, 1.4, 0.2), relu(), dense(1, 1.1), gelu(), dense(1, 1.2, 0.1))
    x1, x2 = rows(20), rows(21, 4)
    with jax.enable_x64(True):
        expected = net.kernel_fn(x1, np.concatenate([x1, x2]))
        both = np.concatenate([x1, x2])
        squares = [np.sum(x**2, axis=1) for x in (x1, both)]
        got = net.kernel_of_products(x1 @ both.T, *squares, 5)
        alone = net.kernel_of_products(x1 @ both.T, *squares, 5, "ntk")
    # A rounded product tells an angle of zero to the root of the machine epsilon.
    assert_allclose(got.nngp, expected.nngp, rtol=1e-7)
    assert_allclose(got.ntk, expected.ntk, rtol=1e-7)
    assert_allclose(alone, got.ntk, rtol=1e-12)
    with pytest.raises(ValueError, match=r"products \[n1, n2\].*got \(6, 4\), \(6,\), \(6,\)"):
        net.kernel_of_products(x1 @ x2.T, squares[0], squares[0], 5)

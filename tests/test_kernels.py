"""Laws of every kernel in the table, their algebra, and closed forms in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import pairwise

from kernlens import kernels
from kernlens.arrays.rows import unit_rows
from kernlens.kernels import KERNELS
from tests import cases

NAMES = sorted(KERNELS)


def rows(seed, n=9, dim=4, scale=1.0):
    return np.random.default_rng(seed).standard_normal((n, dim)) * scale


def arc_cosine_loop(x1, x2, order):
    """Cho and Saul (2009), equations 3 and 4, one pair at a time."""
    out = np.zeros((len(x1), len(x2)))
    for i, a in enumerate(x1):
        for j, b in enumerate(x2):
            na, nb = np.linalg.norm(a), np.linalg.norm(b)
            angle = np.arccos(np.clip(a @ b / (na * nb), -1, 1))
            if order == 0:
                out[i, j] = (np.pi - angle) / np.pi
            else:
                j1 = np.sin(angle) + (np.pi - angle) * np.cos(angle)
                out[i, j] = na * nb * j1 / np.pi
    return out


def matern52_loop(x1, x2, lengthscale):
    s = np.sqrt(5.0) * pairwise.euclidean_distances(x1, x2) / lengthscale
    return (1 + s + s**2 / 3) * np.exp(-s)


# name -> (kernel, float64 reference), each at the length of the rows given.
REFERENCES = {
    "linear": lambda s: (kernels.linear, pairwise.linear_kernel),
    "cosine": lambda s: (kernels.cosine, pairwise.cosine_similarity),
    "rbf": lambda s: (
        partial(kernels.rbf, lengthscale=1.5 * s),
        partial(pairwise.rbf_kernel, gamma=0.5 / (1.5 * s) ** 2),
    ),
    "laplace": lambda s: (
        partial(kernels.laplace, lengthscale=1.5 * s),
        lambda a, b: np.exp(-pairwise.euclidean_distances(a, b) / (1.5 * s)),
    ),
    "matern52": lambda s: (
        partial(kernels.matern52, lengthscale=1.5 * s),
        partial(matern52_loop, lengthscale=1.5 * s),
    ),
    "polynomial": lambda s: (
        partial(kernels.polynomial, degree=3, offset=0.5, scale=0.7 / s**2),
        partial(pairwise.polynomial_kernel, degree=3, coef0=0.5, gamma=0.7 / s**2),
    ),
    "arc_cosine0": lambda s: (KERNELS["arc_cosine0"], partial(arc_cosine_loop, order=0)),
    "arc_cosine1": lambda s: (KERNELS["arc_cosine1"], partial(arc_cosine_loop, order=1)),
}


def test_every_kernel_has_a_reference():
    others = set(KERNELS) - set(REFERENCES)
    assert all(map(cases.has_own_test, others)), others


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_closed_form_in_float64_at_any_scale(name, scale):
    x1, x2 = rows(0, 9, scale=scale), rows(1, 7, scale=scale)
    kernel, reference = REFERENCES[name](scale)
    x1, x2 = x1.astype(np.float32), x2.astype(np.float32)
    expected = reference(x1.astype(np.float64), x2.astype(np.float64))
    got = kernel(jnp.asarray(x1), jnp.asarray(x2))
    # The precision the design asks for; relative to the largest entry, inner products cancel.
    assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_symmetric_and_positive_semidefinite(name):
    x = jnp.asarray(np.concatenate([rows(2), cases.hostile_rows(dim=4)]))
    gram = np.asarray(KERNELS[name](x, x), np.float64)
    # Rounding of the Gram's own dtype, times its size.
    slack = 20 * float(jnp.finfo(x.dtype).eps) * np.abs(gram).max()
    assert_allclose(gram, gram.T, rtol=0, atol=slack)
    assert np.linalg.eigvalsh(gram).min() > -len(gram) * slack


@pytest.mark.parametrize("name", NAMES)
def test_block_is_slice(name):
    x = jnp.asarray(np.concatenate([rows(3), cases.hostile_rows(dim=4)]))
    whole, block = KERNELS[name](x, x), KERNELS[name](x[3:8], x[5:15])
    slack = 10 * float(jnp.finfo(x.dtype).eps) * float(jnp.abs(whole).max())
    assert_allclose(block, whole[3:8, 5:15], rtol=0, atol=slack)


@pytest.mark.parametrize("name", ["rbf", "laplace", "matern52", "arc_cosine0"])
def test_equal_rows_are_exactly_equal_in_any_block(name):
    x = jnp.asarray(rows(4) + 1000.0)
    assert_array_equal(jnp.diagonal(jax.jit(KERNELS[name])(x, jnp.array(x))), 1.0)


@pytest.mark.parametrize("name", REFERENCES)
def test_gradients_at_hostile_rows(name):
    x, weights = cases.hostile_rows(), rows(5, 12, 12)
    kernel, reference = REFERENCES[name](1.0)
    gradient = jax.jit(jax.grad(lambda x, w: jnp.sum(w * kernel(x, x))))
    assert np.isfinite(gradient(jnp.asarray(x), jnp.asarray(weights))).all()
    one = jax.jit(jax.grad(lambda x: kernel(x, jnp.zeros_like(x)).sum()))(jnp.asarray(x))
    assert np.isfinite(one).all()
    # Rows with a derivative have the reference's, whatever they are paired with; zero rows aside,
    # which the reference does not know. With itself a row has the zero subgradient, or the
    # derivative of its length, which `test_gradient_with_itself` sees.
    good, whole = [8, 9, 10, 11], [0, 1, *range(4, 12)]
    weights[[2, 3]], weights[:, [2, 3]] = 0.0, 0.0
    np.fill_diagonal(weights, 0.0)
    expected = np.zeros((4, x.shape[1]))
    for place, column in np.ndindex(expected.shape):
        values = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[good[place], column] += step
            moved = moved[whole]
            values.append(np.sum(weights[np.ix_(whole, whole)] * reference(moved, moved)))
        expected[place, column] = (values[0] - values[1]) / 2e-5
    found = gradient(jnp.asarray(x), jnp.asarray(weights))[np.array(good)]
    # Float32 sums; the differences' own error is about 1e-9.
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("jit", [jax.jit, lambda fn: fn], ids=["compiled", "eager"])
def test_gradient_with_itself_is_no_noise(name, jit):
    # Compiled, a scaled row can lie a last bit from itself, and its distance has a slope of one.
    kernel, reference = REFERENCES[name](1.0)
    x = rows(13, 12, 3).astype(np.float32)
    found = jit(jax.grad(lambda x: 0.5 * jnp.sum(jnp.diagonal(kernel(x, x)))))(jnp.asarray(x))

    def halves(x):
        return 0.5 * np.diagonal(reference(x, x))

    steps = 1e-4 * np.eye(x.shape[1])
    expected = [(halves(x + step) - halves(x - step)) / 2e-4 for step in steps]
    assert_allclose(found, np.transpose(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_difference_quotient(name):
    with jax.enable_x64(True):
        x1, x2, step = (jnp.asarray(rows(s, 5), jnp.float64) for s in (6, 7, 8))
        weights = jnp.asarray(rows(9, 5, 5), jnp.float64)

        @jax.jit
        def f(t):
            return jnp.sum(weights * KERNELS[name](x1 + t * step, x2 - 0.5 * t * step))

        forward = jax.jvp(f, (0.0,), (1.0,))[1]
        reverse = jax.jit(jax.grad(f))(0.0)
        # Central differences of step h err by h^2 and by rounding over h.
        quotient = (f(1e-5) - f(-1e-5)) / 2e-5
        assert_allclose([forward, reverse], [quotient, quotient], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_jit_vmap_and_dtype(name):
    kernel = KERNELS[name]
    x = jnp.asarray(np.stack([rows(s) for s in range(3)]), jnp.float32)
    whole = jax.jit(jax.vmap(kernel))(x, x)
    assert whole.dtype == jnp.float32
    for one, block in zip(x, whole, strict=True):
        # Compiled and eager sums may differ in the last bits.
        assert_allclose(block, kernel(one, one), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_diagonal_matches_gram(name):
    x = jnp.asarray(np.concatenate([rows(10), cases.hostile_rows(dim=4)]))
    expected = jnp.diagonal(KERNELS[name](x, x))
    assert_allclose(kernels.diagonal(KERNELS[name], x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_normalise_gives_unit_diagonal_and_cauchy_schwarz(name):
    x = jnp.asarray(rows(11) + 0.1)
    gram = kernels.normalise(KERNELS[name])(x, x)
    assert_allclose(jnp.diagonal(gram), 1.0, rtol=1e-5)
    assert float(jnp.abs(gram).max()) <= 1.0 + 1e-5


def check_centred(name, x, reference):
    kernel, centred = KERNELS[name], kernels.centre(KERNELS[name], reference)
    scale = float(jnp.abs(kernel(x, reference)).max())
    assert_allclose(centred(x, reference).mean(axis=1), 0.0, atol=1e-5 * scale)
    expected = kernels.centre_gram(kernel(reference, reference))
    assert_allclose(centred(reference, reference), expected, atol=1e-5 * scale)
    return centred, 1e-5 * scale


@pytest.mark.parametrize("name", NAMES)
def test_centre_takes_the_mean_of_the_reference_off(name):
    # As many rows everywhere, so that what a kernel is made of is compiled once.
    x = jnp.asarray(rows(12, 6))
    centred, atol = check_centred(name, x, jnp.asarray(rows(13, 6)))
    assert_allclose(centred(x, x)[::-1], centred(x[::-1], x), atol=atol)


@pytest.mark.thorough
def test_centre_is_of_the_reference_whatever_rows_it_is_called_on():
    x = jnp.asarray(rows(12))
    centred, atol = check_centred("rbf", x, jnp.asarray(rows(13, 6)))
    assert_allclose(centred(x, x)[2:5, 1:3], centred(x[2:5], x[1:3]), atol=atol)


def test_normalised_linear_is_cosine_and_centred_linear_is_linear_of_centred_rows():
    x = jnp.asarray(cases.hostile_rows())
    assert_allclose(kernels.normalise(kernels.linear)(x, x), kernels.cosine(x, x), atol=1e-6)
    centred = x - x.mean(axis=0)
    expected = centred @ centred.T
    assert_allclose(kernels.centre(kernels.linear, x)(x, x), expected, atol=1e-5)
    assert_allclose(kernels.centre_gram(x @ x.T), expected, atol=1e-5)


def test_algebra_is_elementwise():
    x1, x2 = jnp.asarray(rows(14)), jnp.asarray(rows(15))
    a, b = kernels.rbf, kernels.linear
    whole = kernels.add(kernels.scale(a, 3.0), kernels.multiply(a, b, b))
    expected = 3.0 * a(x1, x2) + a(x1, x2) * b(x1, x2) ** 2
    assert_allclose(whole(x1, x2), expected, rtol=1e-6)


def test_lengthscale_per_column_is_a_scaling_of_the_columns():
    x1, x2 = jnp.asarray(rows(16)), jnp.asarray(rows(17))
    lengths = jnp.asarray([0.5, 1.0, 2.0, 4.0])
    for kernel in (kernels.rbf, kernels.laplace, kernels.matern52):
        expected = kernel(x1 / lengths, x2 / lengths)
        assert_allclose(kernel(x1, x2, lengthscale=lengths), expected, rtol=1e-6)


def test_arc_cosine_is_the_expected_product_of_units():
    x = rows(18, 4)
    weights = np.random.default_rng(19).standard_normal((4, 400_000))
    for order in (0, 1):
        units = np.where(x @ weights > 0, (x @ weights) ** order, 0.0)
        products = 2.0 * units[:, None, :] * units[None, :, :]
        error = products.std(axis=-1) / np.sqrt(products.shape[-1])
        got = kernels.arc_cosine(jnp.asarray(x), jnp.asarray(x), order=order)
        # Five standard errors over ten distinct entries.
        assert (np.abs(got - products.mean(axis=-1)) < 5 * error + 1e-5).all()


def test_near_rows_keep_their_distance():
    x = rows(20, 5).astype(np.float32)
    near = (x + np.float32(1e-3) * rows(21, 5)).astype(np.float32)
    expected = np.linalg.norm(x.astype(np.float64) - near, axis=1)
    got = -jnp.log(
        jnp.diagonal(kernels.laplace(jnp.asarray(x), jnp.asarray(near), lengthscale=1e-3))
    )
    assert_allclose(got, expected / 1e-3, rtol=1e-4)


def test_label_kernel():
    codes = jnp.asarray([0, 2, -1, 0, -1, 2, 1])
    gram = np.asarray(kernels.label(codes, codes))
    assert_array_equal(gram, cases.label_gram(np.asarray(codes)))
    assert np.linalg.eigvalsh(gram.astype(np.float64)).min() > -1e-12
    assert_array_equal(kernels.label(codes[1:3], codes[2:]), gram[1:3, 2:])


def test_unit_rows_at_the_edges_of_float32():
    x = jnp.asarray([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]], jnp.float32)
    assert_allclose(unit_rows(x), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)
    # (1 - u sum(u)) / norm for a unit row u = (0.6, 0.8); zero at a zero row.
    gradient = jax.grad(lambda x: unit_rows(x).sum())(x)
    expected = [[3.2e28, -2.4e28], [3.2e-32, -2.4e-32], [0, 0]]
    assert_allclose(gradient, expected, rtol=1e-5)


def test_mistakes_are_named():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="order must be 0 or 1; got 2"):
        kernels.arc_cosine(x, x, order=2)
    with pytest.raises(ValueError, match="degree must be an integer >= 1; got 0"):
        kernels.polynomial(x, x, degree=0)
    with pytest.raises(ValueError, match="at least 0; got -1"):
        kernels.scale(kernels.linear, -1)
    with pytest.raises(ValueError, match="add needs at least one kernel"):
        kernels.add()
    with pytest.raises(AssertionError):
        kernels.linear(x, jnp.ones((2, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_handed_on(name):
    x = jnp.asarray(rows(20, 4)).at[1, 0].set(np.nan)
    finite = np.isfinite(KERNELS[name](x, x))
    seen = np.ones((4, 4), bool)
    seen[1], seen[:, 1] = False, False
    assert_array_equal(finite, seen)
    assert np.isnan(kernels.normalise(KERNELS[name])(x, x)[1]).all()
    assert_array_equal(np.isnan(unit_rows(x)).all(axis=1), [False, True, False, False])

"""Laws of the feature maps: exact on their rows, better with more features, unbiased."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens import kernels
from kernlens.arrays import rows as row_maps
from kernlens.arrays.rows import identity, unit_rows
from kernlens.kernels import KERNELS, features
from tests import cases

NAMES = sorted(KERNELS)
LANDMARKS = {
    "uniform": features.uniform_landmarks,
    "kmeans": features.kmeans_landmarks,
    "leverage": lambda key, x, m: features.leverage_landmarks(key, kernels.rbf, x, m),
}


def rows(seed, n=30, dim=3):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, dim)))


def slack(gram):
    # An eigenvalue is dropped, or known, to n times the machine epsilon of the largest.
    return 4 * len(gram) * float(jnp.finfo(gram.dtype).eps) * np.linalg.norm(gram, 2)


@pytest.mark.parametrize("name", NAMES)
def test_exact_features_give_the_gram_back(name):
    x = jnp.concatenate([rows(0), jnp.asarray(cases.hostile_rows())])
    gram = KERNELS[name](x, x)
    phi = features.exact(KERNELS[name], x)(x)
    assert_allclose(phi @ phi.T, gram, rtol=0, atol=slack(gram))


@pytest.mark.parametrize("name", ["linear", "rbf", "arc_cosine0"])
def test_nystrom_with_all_rows_in_any_order_is_exact(name):
    x = rows(1)
    gram = KERNELS[name](x, x)
    phi = features.nystrom(KERNELS[name], x[::-1])(x)
    assert_allclose(phi @ phi.T, gram, rtol=0, atol=slack(gram))


@pytest.mark.parametrize("name", ["rbf", "laplace", "polynomial"])
def test_nystrom_error_falls_with_landmarks_and_stays_below_the_kernel(name):
    kernel, errors = KERNELS[name], []
    with jax.enable_x64(True):
        x = rows(2, 60)
        gram = np.asarray(kernel(x, x))
        size = np.linalg.norm(gram, 2)
        for m in (1, 3, 9, 60):
            phi = np.asarray(features.nystrom(kernel, x[:m])(x))
            rest = gram - phi @ phi.T
            # The square root of the rounding of the smallest eigenvalues kept.
            assert np.linalg.eigvalsh(rest).min() > -1e-7 * size
            errors.append(np.trace(rest))
    # Nested landmarks: the residual trace can only fall, to zero when all rows are landmarks.
    assert (np.diff(errors) < 0).all()
    assert abs(errors[-1]) < 1e-7 * size < errors[-2]


def test_rank_keeps_the_leading_eigenvectors():
    x = rows(3)
    gram = np.asarray(kernels.rbf(x, x), np.float64)
    phi = features.exact(kernels.rbf, x, rank=5)(x)
    values, vectors = np.linalg.eigh(gram)
    best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    assert phi.shape == (30, 5)
    assert_allclose(phi @ phi.T, best, atol=2e-4)


@pytest.mark.thorough
def test_duplicated_landmarks_become_zero_features():
    x = rows(4)
    twice = jnp.concatenate([x[:8], x[:8]])
    once, doubled = (features.nystrom(kernels.rbf, rows_)(x) for rows_ in (x[:8], twice))
    assert np.isfinite(doubled).all()
    assert_allclose(doubled @ doubled.T, once @ once.T, atol=1e-3)
    assert int((jnp.abs(doubled).max(axis=0) == 0).sum()) == 8


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(features.SPECTRAL_DEGREES))
def test_random_fourier_is_unbiased_with_unit_diagonal(name):
    x, lengthscale = rows(5, 6), 1.7
    degrees = features.SPECTRAL_DEGREES[name]

    def gram(key):
        phi = features.random_fourier(
            key, 3, 64, lengthscale=lengthscale, spectral_degrees=degrees
        )(x)
        return phi @ phi.T

    draws = np.asarray(jax.jit(jax.vmap(gram))(jax.random.split(jax.random.key(6), 2000)))
    expected = KERNELS[name](x, x, lengthscale=lengthscale)  # pyright: ignore
    assert_allclose(draws[:, np.arange(6), np.arange(6)], 1.0, rtol=1e-5)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    # Five standard errors over fifteen distinct entries.
    assert (np.abs(draws.mean(axis=0) - expected) < 5 * error + 1e-5).all()


def test_identity_and_unit_are_exact_for_linear_and_cosine():
    x = jnp.asarray(cases.hostile_rows())
    assert_array_equal(identity(x), x)
    unit = unit_rows(x)
    assert_allclose(unit @ unit.T, kernels.cosine(x, x), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["identity", "unit_rows", *sorted(KERNELS), *sorted(features.SPECTRAL_DEGREES)]
)
def test_a_row_that_is_not_finite_has_features_that_are_not(name, value):
    good = rows(16, 8)
    if name in features.SPECTRAL_DEGREES:
        degrees = features.SPECTRAL_DEGREES[name]
        drawn = features.random_fourier(jax.random.key(0), 3, 8, spectral_degrees=degrees)
        fitted = features.nystrom(KERNELS[name], good)
        maps = [drawn, fitted]
    elif name in KERNELS:
        maps = [features.nystrom(KERNELS[name], good), features.exact(KERNELS[name], good)]
    else:
        maps = [getattr(row_maps, name)]
    bad = good.at[2, 1].set(value).at[5].set(value)
    for map_fn in maps:
        finite = np.isfinite(map_fn(bad)).all(axis=1)
        assert_array_equal(np.flatnonzero(~finite), [2, 5])
        # Other rows do not see it.
        assert_allclose(map_fn(bad)[finite], map_fn(good)[finite], rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_maps_are_pytrees_that_pass_through_jit_and_vmap():
    x = rows(7)
    fitted = features.nystrom(partial(kernels.rbf, lengthscale=2.0), x[:5])
    drawn = features.random_fourier(jax.random.key(8), 3, 10)
    for map_fn in (fitted, drawn):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(map_fn))
        passed = jax.jit(lambda f, rows: f(rows))(map_fn, x)
        assert_allclose(passed, map_fn(x), rtol=1e-5, atol=1e-6)
    many = jax.vmap(lambda part: features.nystrom(kernels.rbf, part)(x))(x.reshape(3, 10, 3))
    # Singular vectors have free signs; what they span does not.
    one = features.nystrom(kernels.rbf, x[10:20])(x)
    assert_allclose(many[1] @ many[1].T, one @ one.T, atol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(LANDMARKS))
def test_landmarks_are_distinct_rows_and_repeat_with_the_key(name):
    x = rows(9)
    key = jax.random.key(10)
    for m in (1, 30):
        chosen = np.asarray(LANDMARKS[name](key, x, m))
        found = {int(np.flatnonzero((np.asarray(x) == row).all(axis=1))[0]) for row in chosen}
        assert len(found) == m
        assert_array_equal(chosen, LANDMARKS[name](key, x, m))


def test_kmeans_landmarks_visit_every_far_cluster():
    centres = 1e3 * np.eye(6)
    x = np.repeat(centres, 20, axis=0) + np.random.default_rng(11).standard_normal((120, 6))
    for seed in range(5):
        chosen = features.kmeans_landmarks(jax.random.key(seed), jnp.asarray(x), 6)
        assert sorted(np.argmax(chosen, axis=1)) == list(range(6))


def test_kmeans_landmarks_with_fewer_distinct_rows_than_asked():
    x = jnp.concatenate([jnp.zeros((10, 2)), jnp.ones((10, 2))])
    chosen = np.asarray(features.kmeans_landmarks(jax.random.key(0), x, 5))
    assert {tuple(row) for row in chosen} == {(0.0, 0.0), (1.0, 1.0)}


@pytest.mark.thorough
def test_ridge_leverage_nears_the_exact_one_as_landmarks_grow():
    x = rows(12, 40)
    gram = np.asarray(kernels.rbf(x, x), np.float64)
    ridge = 0.1
    expected = np.diag(gram @ np.linalg.inv(gram + ridge * np.eye(40)))
    errors = []
    for m in (5, 20, 40):
        got = features.ridge_leverage(kernels.rbf, x, x[:m], ridge=ridge)
        errors.append(np.abs(got - expected).max())
    assert errors[0] > errors[1] > errors[2]
    # Rounding of eigenvalues of order 10, over the ridge.
    assert errors[2] < 1e-3


@pytest.mark.thorough
def test_leverage_landmarks_take_the_outlier():
    x = jnp.concatenate([0.01 * rows(13, 200), jnp.full((1, 3), 50.0)])
    taken = [
        bool((features.leverage_landmarks(jax.random.key(s), kernels.rbf, x, 6) == 50.0).any())
        for s in range(8)
    ]
    # By uniform choice a given row is among six of 201 with probability 0.03.
    assert sum(taken) >= 5


def test_mistakes_are_named_before_anything_is_computed():
    x = jax.ShapeDtypeStruct((50_000, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"n = 50,000 rows .*10,000,000,000 bytes.*limit is 4,096"):
        jax.eval_shape(partial(features.exact, kernels.rbf), x)
    with pytest.raises(ValueError, match=r"must lie in 1\.\.30.*got 31"):
        features.uniform_landmarks(jax.random.key(0), rows(14), 31)
    with pytest.raises(ValueError, match="even and positive; got 3"):
        features.random_fourier(jax.random.key(0), 3, 3)
    with pytest.raises(ValueError, match=r"rank must lie in 1\.\.30"):
        features.nystrom(kernels.rbf, rows(15), rank=0)

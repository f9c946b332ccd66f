"""Products of lookups: the pairs that read one row are enough, however many they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens import ntk
from kernlens.ntk.structured import lookups
from kernlens.ntk.walk import WeightedIds

N, POSITIONS, BAG, WIDTH, OUTPUTS = 24, 8, 2, 3, 2


def one_side(rng, num_rows):
    ids = rng.integers(-1, num_rows, (N, POSITIONS, BAG))
    weights = rng.standard_normal((N, POSITIONS, BAG))
    right = rng.standard_normal((N, POSITIONS, 1, OUTPUTS, WIDTH))
    return WeightedIds(jnp.asarray(ids), jnp.asarray(weights, float)), jnp.asarray(right, float)


def by_tables(one, right1, two, right2, num_rows):
    """The same from gradients of the whole table, in NumPy."""

    def gradient(lookup, right):
        hot = np.zeros((N, POSITIONS, num_rows))
        for place in np.ndindex(*lookup.ids.shape):
            if lookup.ids[place] >= 0:
                hot[place[0], place[1], lookup.ids[place]] += float(lookup.weights[place])
        return np.einsum("npv,npdfz->ndfvz", hot, np.asarray(right, np.float64))

    return np.einsum("idfvz,jdgvz->ijdfg", gradient(one, right1), gradient(two, right2))


@pytest.mark.thorough
@pytest.mark.parametrize("num_rows", [1, 7, 1000])
def test_matches_alone_give_the_product(num_rows):
    rng = np.random.default_rng(num_rows)
    (one, right1), (two, right2) = one_side(rng, num_rows), one_side(rng, num_rows)
    found = lookups._from_matches(one, right1, two, right2, *lookups._matches(one.ids, two.ids))
    expected = by_tables(one, right1, two, right2, num_rows)
    tolerance = 1e3 * float(jnp.finfo(found.dtype).eps) * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def test_ids_mostly_the_same_take_all_pairs_instead():
    rng = np.random.default_rng(0)
    calls = []

    def dense(one, right1, two, right2):
        calls.append(1)
        return jnp.full((N, N, 1, OUTPUTS, OUTPUTS), 7.0, right1.dtype)

    for num_rows, all_pairs in ((2, True), (5000, False)):
        (one, right1), (two, right2) = one_side(rng, num_rows), one_side(rng, num_rows)
        found = lookups.products(one, right1, two, right2, dense)
        assert bool((found == 7.0).all()) == all_pairs
    assert calls


@pytest.mark.thorough
@pytest.mark.parametrize("num_rows", [3, 4000])
def test_a_kernel_of_many_lookups_and_its_derivative(num_rows):
    """Both branches against the plain Jacobian, in value and in gradient."""
    rng = np.random.default_rng(1)
    ids = jnp.asarray(rng.integers(0, num_rows, (20, 8)))
    params = {
        "table": jnp.asarray(rng.standard_normal((num_rows, 3)), float),
        "mix": jnp.asarray(rng.standard_normal((8, 3, 2)), float),
    }

    def apply(params, ids):
        rows = jnp.tanh(params["table"][ids])
        return jnp.einsum("npd,pdo->no", rows, params["mix"])

    def loss(params, method):
        kernel = ntk.empirical_ntk_fn(apply, trace_axes=(), method=method)
        return jnp.sum(jnp.sin(kernel(ids, None, params)))

    assert lookups.LEAST_PAIRS < 20 * 8 * 20 * 8
    values, slopes = zip(
        *(jax.value_and_grad(loss)(params, method) for method in ("structured", "jacobian")),
        strict=True,
    )
    np.testing.assert_allclose(*values, rtol=1e-4)
    for one, two in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4 * float(jnp.abs(two).max()), rtol=0)

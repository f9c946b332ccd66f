"""Kernels of sequences against loops over items, and towers against their own gradients."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens import kernels, ntk
from kernlens.kernels import features, sequence_kernels

# Sums of tens of float32 terms.
RTOL = 2e-5


def problem(seed=0, *, n=9, length=6, m=14, dim=4):
    """Embeddings, weights, and padded sequences with repeats, one empty, one of one item."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, m, (n, length)).astype(np.int32)
    for row, filled in enumerate(rng.integers(0, length + 1, n)):
        items[row, : length - filled] = -1
    items[0] = -1
    items[1, :-1], items[1, -1] = -1, 3
    embeddings = rng.standard_normal((m, dim)).astype(np.float32)
    return embeddings, rng.random(m).astype(np.float32), items


def average_reference(embeddings, weights, row):
    kept = [i for i in row if i >= 0]
    if not kept:
        return np.zeros(embeddings.shape[1])
    total = sum(float(weights[i]) for i in kept)
    return sum(float(weights[i]) * embeddings[i].astype(np.float64) for i in kept) / total


def test_average_is_the_loops():
    embeddings, weights, items = problem()
    for w in (None, weights):
        found = sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), w)
        like = np.ones(len(embeddings)) if w is None else w
        expected = [average_reference(embeddings, like, row) for row in items]
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-6)
        assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[0], 0.0)
    np.testing.assert_allclose(found[1], embeddings[3], rtol=RTOL)


def test_sparse_averages_are_the_loops():
    embeddings, _, items = problem()
    found = sequence_kernels.sparse_averages(embeddings * (embeddings > 0.5))(items).toarray()
    kept = embeddings * (embeddings > 0.5)
    assert (items == 0).any()
    expected = [average_reference(kept, np.ones(len(kept)), row) for row in items]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_average_knows_neither_order_nor_the_side_of_the_padding():
    embeddings, weights, items = problem(1)
    average = partial(sequence_kernels.average, jnp.asarray(embeddings), weights=weights)
    turned = np.random.default_rng(0).permuted(items, axis=1)
    np.testing.assert_allclose(
        average(jnp.asarray(turned)), average(jnp.asarray(items)), rtol=RTOL, atol=1e-6
    )
    scaled = sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), 100 * weights)
    np.testing.assert_allclose(scaled, average(jnp.asarray(items)), rtol=RTOL, atol=1e-6)


def test_weights_of_zero_and_unknown_items():
    embeddings, weights, items = problem(2)
    weights[3] = 0.0
    found = sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), weights)
    np.testing.assert_array_equal(found[1], 0.0)  # its one item has no weight
    items[4, -1] = len(embeddings)
    for w in (None, weights):
        found = sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), w)
        bad = ~np.all(np.isfinite(found), axis=1)
        np.testing.assert_array_equal(bad, np.arange(len(items)) == 4)


def masked(params, x):
    """A tower that tells what it was given: the number of items, and their sum."""
    z, mask = x
    return jnp.concatenate([params * jnp.sum(mask, axis=1, keepdims=True, dtype=z.dtype),
                            jnp.sum(z, axis=1)], axis=1)  # fmt: skip


def test_every_item_is_read_item_0_too():
    embeddings, _, items = problem(2)
    items[2], items[3, -2:] = 0, [0, 5]
    found = sequence_kernels.over_embeddings(masked, embeddings)(jnp.ones(()), jnp.asarray(items))
    for row, own in zip(items, np.asarray(found), strict=True):
        kept = row[row >= 0]
        assert own[0] == len(kept)
        np.testing.assert_allclose(own[1:], embeddings[kept].sum(axis=0), atol=1e-5)
    assert found[2, 0] == items.shape[1]


def test_cold_items_count_as_absent():
    embeddings, weights, items = problem(2)
    embeddings[3, 1], embeddings[7] = np.inf, np.nan
    items[4], items[5, -3:] = 7, [3, 7, 2]
    cold = np.isin(items, [3, 7])
    without = np.where(cold, -1, items)
    for w in (None, weights):
        found = sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), w)
        like = np.ones(len(embeddings)) if w is None else w
        expected = [average_reference(embeddings, like, row) for row in without]
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-6)
    np.testing.assert_array_equal(found[4], 0.0)
    tower = sequence_kernels.over_embeddings(masked, embeddings)
    np.testing.assert_array_equal(
        tower(jnp.ones(()), jnp.asarray(items)), tower(jnp.ones(()), jnp.asarray(without))
    )
    gram = sequence_kernels.averaged(kernels.rbf, embeddings)
    np.testing.assert_allclose(gram(items, items), gram(without, without), rtol=RTOL)
    told = sequence_kernels.cold(embeddings, items)
    assert told.items == 2
    assert told.entries == cold.sum() / (items >= 0).sum()
    assert told.empty == 2  # row 4, and row 1, which holds item 3 alone
    gradient = jax.grad(lambda v: jnp.sum(sequence_kernels.average(v, jnp.asarray(items)) ** 2))(
        jnp.asarray(embeddings)
    )
    np.testing.assert_array_equal(np.isfinite(gradient), True)


def test_gradients_of_averages_are_the_loops_and_zero_for_empty_sequences():
    embeddings, weights, items = problem(3)

    def total(vectors, w):
        return jnp.sum(sequence_kernels.average(vectors, jnp.asarray(items), w) ** 2)

    z, w = embeddings.astype(np.float64), weights.astype(np.float64)
    expected = np.zeros_like(z), np.zeros_like(w)
    for row in items:
        kept = row[row >= 0]
        mean = average_reference(embeddings, weights, row)
        for i in kept:
            expected[0][i] += 2 * mean * w[i] / w[kept].sum()
            expected[1][i] += 2 * mean @ (z[i] - mean) / w[kept].sum()
    found = jax.grad(total, (0, 1))(jnp.asarray(embeddings), jnp.asarray(weights))
    for gradient, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-5)


def test_discount_is_proposition_2s():
    counts = np.array([80, 15, 5, 0])
    found = sequence_kernels.discount(counts, alpha=0.05)
    np.testing.assert_allclose(found, [0.05 / 0.85, 0.05 / 0.20, 0.5, 1.0], rtol=1e-12)
    np.testing.assert_array_equal(sequence_kernels.discount(counts, alpha=np.inf), 1.0)
    for alpha in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="alpha must be positive"):
            sequence_kernels.discount(counts, alpha=alpha)
    with pytest.raises(ValueError, match="counts must be finite"):
        sequence_kernels.discount(np.zeros(3), alpha=1.0)


@pytest.mark.parametrize("name", ["linear", "rbf", "arc_cosine1"])
def test_averaged_kernel_is_the_double_sum(name):
    embeddings, weights, items = problem(4, n=5)
    kernel = kernels.KERNELS[name]
    gram = np.asarray(kernel(jnp.asarray(embeddings), jnp.asarray(embeddings)), np.float64)
    shares = np.zeros((len(items), len(embeddings)))
    for row, sequence in enumerate(items):
        for item in sequence[sequence >= 0]:
            shares[row, item] += weights[item]
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    found = sequence_kernels.averaged(kernel, embeddings, weights)(items[:3], items)
    np.testing.assert_allclose(found, shares[:3] @ gram @ shares.T, rtol=RTOL, atol=1e-6)
    np.testing.assert_array_equal(found[0], 0.0)


def test_averages_of_item_features_are_features_of_the_averaged_kernel():
    embeddings, weights, items = problem(5)
    map_fn = features.exact(kernels.rbf, jnp.asarray(embeddings))
    phi = sequence_kernels.averages(map_fn(jnp.asarray(embeddings)), weights)(items)
    gram = sequence_kernels.averaged(kernels.rbf, embeddings, weights)(items, items)
    # The factor of a Gram matrix keeps half the digits where eigenvalues vanish.
    np.testing.assert_allclose(phi @ phi.T, gram, atol=1e-4)


@pytest.mark.thorough
def test_sequence_kernels_go_where_kernels_go():
    embeddings, weights, items = problem(6)
    rows = jnp.asarray(items)
    for kernel in (
        sequence_kernels.averaged(kernels.rbf, embeddings, weights),
        sequence_kernels.of_average(kernels.laplace, embeddings, weights),
    ):
        gram = kernel(rows, rows)
        np.testing.assert_allclose(gram, gram.T, rtol=RTOL, atol=1e-6)
        np.testing.assert_allclose(kernel(rows[2:5], rows[1:]), gram[2:5, 1:], rtol=RTOL, atol=1e-6)
        assert np.linalg.eigvalsh(np.asarray(gram, np.float64))[0] > -1e-5
        np.testing.assert_allclose(kernels.diagonal(kernel, rows), jnp.diagonal(gram), rtol=RTOL)
        phi = features.nystrom(kernel, rows)(rows)
        np.testing.assert_allclose(phi @ phi.T, gram, atol=1e-4)


@pytest.mark.thorough
def test_dense_tower_in_closed_form_is_the_wide_towers():
    embeddings, _, items = problem(7, n=6)
    net = ntk.infinite.serial(ntk.infinite.dense(4096), ntk.infinite.relu(), ntk.infinite.dense(1))
    closed = sequence_kernels.of_average(partial(net.kernel_fn, get="ntk"), embeddings)
    params = net.module.init(jax.random.key(0), jnp.zeros((1, 4)))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    def tower(params, x):
        z, mask = x
        number = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
        return net.module.apply(params, jnp.sum(z, axis=-2) / number.astype(z.dtype))

    f = sequence_kernels.over_embeddings(tower, embeddings)
    found = ntk.empirical_ntk_fn(f)(jnp.asarray(items), None, params)
    expected = closed(items, items)
    # Width 4096: a kernel entry is a mean of as many terms of the order of the diagonal.
    scale = float(jnp.max(jnp.diagonal(expected)))
    np.testing.assert_allclose(found / scale, expected / scale, atol=5 / 4096**0.5)


class Gated(nn.Module):
    """A small recurrent tower: what it reads depends on the order."""

    @nn.compact
    def __call__(self, z, mask):
        def step(cell, state, x):
            return jnp.where(
                x[1][:, None], jnp.tanh(cell(jnp.concatenate([state, x[0]], -1))), state
            )

        cell, state = nn.Dense(5), jnp.zeros((z.shape[0], 5), z.dtype)
        for i in range(z.shape[1]):
            state = step(cell, state, (z[:, i], mask[:, i]))
        return nn.Dense(2)(state)


@pytest.mark.slow
def test_any_tower_has_a_tangent_kernel_and_its_features():
    embeddings, _, items = problem(8, n=6, length=3)
    module, rows = Gated(), jnp.asarray(items)
    params = module.init(
        jax.random.key(0), jnp.zeros((1, 3, 4), jnp.float32), jnp.ones((1, 3), bool)
    )
    f = sequence_kernels.over_embeddings(lambda p, x: module.apply(p, *x), embeddings)
    z = np.where(items[..., None] >= 0, embeddings[items], 0).astype(np.float32)
    jacobian = jax.jacobian(lambda p: module.apply(p, jnp.asarray(z), rows >= 0))(params)
    flat = np.concatenate(
        [np.asarray(leaf).reshape(12, -1) for leaf in jax.tree.leaves(jacobian)], axis=1
    )
    expected = np.einsum("ack,bck->ab", *[flat.reshape(6, 2, -1)] * 2) / 2
    found = ntk.empirical_ntk_fn(f)(rows, None, params)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Equal keys give equal sketches, of the tower on ids as on what the ids stand for.
    sketch = partial(ntk.features, jax.random.key(1), method="structured")
    phi = sketch(f, params, 16)(rows)
    direct = sketch(lambda p, x: module.apply(p, *x), params, 16)((jnp.asarray(z), rows >= 0))
    assert phi.shape == (6, 16)
    np.testing.assert_allclose(phi, direct, rtol=1e-4, atol=1e-5)


def test_shapes_are_checked():
    embeddings, weights, items = problem(9)
    with pytest.raises(AssertionError):
        sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items[0]))
    with pytest.raises(AssertionError):
        sequence_kernels.average(jnp.asarray(embeddings), jnp.asarray(items), weights[1:])

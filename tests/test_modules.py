"""Encoders and decoders: shapes, definitions, finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernlens.models import decoders, encoders

W = np.array([0.5, -2.0, 1.0])
# The gradient in z at z = 0: a norm is floored at the root of eps = 1e-12, the temperature is 0.1.
AT_ZERO = {"inner_product": W, "cosine": W / np.linalg.norm(W) / (0.1 * 1e-6)}


@pytest.mark.parametrize("name", decoders.PAIR_DECODERS)
def test_pair_decoders_broadcast_are_symmetric_and_have_a_gradient_at_zero(name):
    decoder = decoders.PAIR_DECODERS[name]()
    z = jax.random.normal(jax.random.key(0), (4, 1, 3))
    w = jax.random.normal(jax.random.key(1), (5, 3))
    params = decoder.init(jax.random.key(2), z, w)
    scores = decoder.apply(params, z, w)
    assert scores.shape == (4, 5)
    np.testing.assert_allclose(
        scores, decoder.apply(params, w[:, None], z[:, 0]).T, rtol=1e-6, atol=1e-6
    )
    gradient = jax.grad(lambda z, w: decoder.apply(params, z, w))
    np.testing.assert_array_equal(gradient(jnp.zeros(3), jnp.zeros(3)), 0.0)
    found = gradient(jnp.zeros(3), jnp.asarray(W, jnp.float32))
    np.testing.assert_allclose(found, AT_ZERO[name], rtol=1e-5)


def test_inner_product_and_cosine_are_their_formulas():
    rng = np.random.default_rng(0)
    z, w = rng.standard_normal((2, 6, 3)).astype(np.float32)
    inner = (z.astype(float) * w).sum(1)
    np.testing.assert_allclose(decoders.InnerProduct().apply({}, z, w), inner, rtol=1e-5)
    cosine = inner / np.linalg.norm(z, axis=1) / np.linalg.norm(w, axis=1)
    got = decoders.Cosine(temperature=0.5).apply({}, z, w)
    np.testing.assert_allclose(got, cosine / 0.5, rtol=1e-5)


@pytest.mark.parametrize("name", decoders.HEADS)
def test_heads_take_their_outputs_from_the_task(name):
    head = decoders.HEADS[name]().clone(num_outputs=7)
    z = jax.random.normal(jax.random.key(0), (4, 3))
    draws = iter(range(10))
    params = jax.tree.map(  # biases start at zero, and would hide
        lambda leaf: jax.random.normal(jax.random.key(next(draws)), leaf.shape),
        head.init(jax.random.key(1), z),
    )
    expected = np.asarray(z, np.float64)
    # From the hidden layer on, if there is one, to the one of 7 outputs.
    layers = sorted(params["params"].values(), key=lambda layer: layer["bias"].shape == (7,))
    for layer in layers:
        expected = np.maximum(expected, 0) if layer is not layers[0] else expected
        expected = expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    assert expected.shape == (4, 7)
    np.testing.assert_allclose(head.apply(params, z), expected, rtol=1e-5, atol=1e-5)
    assert hash(head) == hash(decoders.HEADS[name]().clone(num_outputs=7))


def test_linear_head_is_affine():
    head = decoders.Linear(num_outputs=2)
    params = {"params": {"Dense_0": {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2)}}}
    z = jnp.array([[1.0, -1.0, 2.0]])
    np.testing.assert_allclose(head.apply(params, z), [[7.0, 9.0]])


def test_lookup_reads_its_table_and_clips():
    encoder = encoders.Lookup(5, 3)
    params = encoder.init(jax.random.key(0), jnp.zeros(1, jnp.int32))
    table = params["params"]["table"]
    items = jnp.array([[0, 4], [2, 99]])
    np.testing.assert_array_equal(encoder.apply(params, items), table[jnp.array([[0, 4], [2, 4]])])
    norms = jnp.linalg.norm(
        encoders.Lookup(4000, 64).init(jax.random.key(1), items)["params"]["table"], axis=1
    )
    np.testing.assert_allclose(jnp.mean(norms), 0.1, rtol=0.02)  # scale, as documented

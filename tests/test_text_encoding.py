"""Encoding texts: what it does not depend on, what it refuses, and what is kept on disk."""

import math

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.models import text
from kernlens.models.text import batching, encoding
from tests.test_text import TEXTS, write_folder


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def model(where):
    return text.load(where)


# Encoding.


@pytest.mark.thorough
def test_encoding_does_not_depend_on_batches_order_or_company(model):
    found = text.encode(TEXTS, model)
    assert found.embeddings.shape == (len(TEXTS), 12)
    assert found.embeddings.dtype == np.float32
    assert_array_equal(found.embeddings[0], found.embeddings[4])
    assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    other = text.encode(np.array(TEXTS)[order], model, batch_size=3)
    assert_allclose(other.embeddings, found.embeddings[order], rtol=0, atol=2e-6)
    assert_array_equal(other.read, found.read[order])
    alone = np.concatenate([text.encode([one], model).embeddings for one in TEXTS])
    assert_allclose(alone, found.embeddings, rtol=0, atol=2e-6)
    batch = text.tokens(TEXTS, model)
    assert batch.ids.shape == batch.mask.shape == (8, 16)
    whole = jax.jit(model.module.apply)(model.params, batch)
    assert_allclose(whole, found.embeddings, rtol=0, atol=2e-6)


def test_what_was_read_of_a_text_is_counted(model):
    found = text.encode([*TEXTS, "tea Юж milk"], model)
    # "unaffable bread, milk" is six pieces; of 50 words of tea 14 fit between [CLS] and [SEP].
    assert_array_equal(found.total, [2, 1, 0, 6, 2, 1, 1, 50, 3])
    assert_array_equal(found.read, [2, 1, 0, 6, 2, 1, 0, 14, 2])


@pytest.mark.thorough
def test_a_smaller_length_cuts_and_says_so(model):
    found = text.encode(["green tea , milk", "green tea"], model, max_length=4)
    assert_array_equal(found.read, [2, 2])
    assert_array_equal(found.total, [4, 2])
    assert_allclose(found.embeddings[0], found.embeddings[1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("limit", [2, 16, 500])
def test_widths_are_few_and_fit(limit):
    widths = [batching.width(length, limit) for length in range(2, limit + 1)]
    assert all(length <= width <= limit for length, width in enumerate(widths, start=2))
    # A text of more than 6 tokens is filled up by a half at most.
    assert all(width <= max(6, 1.5 * length) for length, width in enumerate(widths, start=2))
    assert len(set(widths)) <= max(1, math.ceil(2 * math.log2(limit)) - 4)


def test_no_texts_give_no_rows(model):
    found = text.encode([], model)
    assert found.embeddings.shape == (0, 12)
    assert found.read.shape == found.total.shape == (0,)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("milk", {}, "a sequence of texts; got 'milk'"),
        (None, {}, "a sequence of texts; got None"),
        (["milk", None], {}, r"texts\[1\] is None; expected a str"),
        (["milk", float("nan")], {}, r"texts\[1\] is nan"),
        (["\ud800"], {}, r"texts\[0\] holds half of a character"),
        (["milk"], {"batch_size": 0}, "batch_size must be at least 1; got 0"),
        (["milk"], {"max_length": 17}, r"max_length must be in 2\.\.16; got 17"),
        (["milk"], {"max_length": 1}, r"max_length must be in 2\.\.16; got 1"),
    ],
)
def test_what_cannot_be_encoded_is_refused(model, texts, options, message):
    with pytest.raises(ValueError, match=message):
        text.encode(texts, model, **options)
    if "batch_size" not in options:
        with pytest.raises(ValueError, match=message):
            text.tokens(texts, model, **options)


def test_weights_that_are_not_finite_are_noticed(model):
    broken = model._replace(
        params=jax.tree.map(lambda leaf: leaf * np.float32("nan"), model.params)
    )
    with pytest.raises(ValueError, match="NaN or infinity"):
        text.encode(["milk"], broken)


# The cache.


@pytest.fixture
def applied(monkeypatch):
    """Sizes of the batches that were computed."""
    seen = []
    kept = encoding._apply

    def count(params, batch, *, module):
        seen.append(batch.ids.shape)
        return kept(params, batch, module=module)

    monkeypatch.setattr(encoding, "_apply", count)
    monkeypatch.setattr(encoding, "_CHUNK", 3)
    return seen


def test_a_broken_off_run_goes_on_to_the_same_bits(tmp_path, model, applied):
    told = []
    plain = text.encode(TEXTS, model, progress=lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [7] * len(told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (7, 7)
    whole = len(applied)

    def stop(done, total):
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text.encode(TEXTS, model, cache=tmp_path / "new/cache", progress=stop)
    kept = list((tmp_path / "new/cache").iterdir())
    assert len(kept) == 1
    applied.clear()
    again = text.encode(TEXTS, model, cache=tmp_path / "new/cache")
    assert 0 < len(applied) < whole
    assert_array_equal(again.embeddings, plain.embeddings)
    applied.clear()
    told.clear()
    third = text.encode(
        TEXTS, model, cache=tmp_path / "new/cache", progress=lambda *at: told.append(at)
    )
    assert applied == []
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert_array_equal(third.embeddings, plain.embeddings)
    assert_array_equal(third.read, plain.read)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-30], lambda b: b"", lambda b: b[:200] + b"\1" + b[201:]]
)
def test_a_damaged_cache_file_is_computed_anew(tmp_path, model, applied, damage):
    first = text.encode(TEXTS[:3], model, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    assert path.read_bytes() != sound
    applied.clear()
    second = text.encode(TEXTS[:3], model, cache=tmp_path)
    assert applied
    assert_array_equal(second.embeddings, first.embeddings)
    assert path.read_bytes() == sound


@pytest.mark.thorough
def test_the_cache_knows_weights_module_and_texts_apart(tmp_path, where, model):
    def files():
        return len(list(tmp_path.iterdir()))

    moved = jax.tree.map(lambda leaf: leaf + 1e-3, model.params)
    for number, (given, used, options) in enumerate(
        [
            (["tea", "milk"], model, {}),
            (["tea", "bread"], model, {}),
            (["tea"], model, {}),
            (["tea", "milk"], model._replace(params=moved), {}),
            (["tea", "milk"], text.load(where, pooling=text.first_pooling), {}),
            (["tea", "milk"], text.load(where, normalise=False), {}),
            (["tea tea", "milk tea"], model, {}),
        ],
        start=1,
    ):
        cached = text.encode(given, used, cache=tmp_path, **options)
        assert files() == number
        assert_array_equal(cached.embeddings, text.encode(given, used).embeddings)
    # Cut to the same tokens, they are the same texts; a model loaded anew is the same model.
    text.encode(["tea , tea", "milk , tea"], text.load(where), cache=tmp_path, max_length=3)
    text.encode(["tea", "milk"], text.load(where), cache=tmp_path)
    assert files() == 7
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        text.encode(["tea"], model, cache=file)

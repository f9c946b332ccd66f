"""Models and tasks of other libraries, by what they have: stand-ins with their signatures."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import kernlens as kl
from kernlens import text
from kernlens.lens import text_tasks

WORDS = {"tea": ("green", "black", "mint"), "milk": ("whole", "oat", "soy")}
TEXTS = [f"{kind} {word} {i}" for i in range(20) for kind in WORDS for word in WORDS[kind]]
LABELS = [one.split()[0] for one in TEXTS]


def rows_for(texts):
    """A row a text: its kind with noise that depends on the text alone."""
    noise = [np.random.default_rng(list(one.encode())).normal(size=4) for one in texts]
    kind = [[1.0, 0.0, 0.0, 0.0] if one.startswith("tea") else [0.0, 1.0, 0, 0] for one in texts]
    return (np.asarray(kind) + 0.3 * np.asarray(noise)).astype(np.float32)


class SentenceTransformer:
    """Takes texts, gives an array; counts them."""

    def encode(self, sentences, batch_size=32, convert_to_numpy=True):
        self.seen = len(sentences)
        return rows_for(sentences)


class Tensor:
    """Read through ``__array__``, as a tensor of torch."""

    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows, dtype)


class TensorModel:
    def encode(self, sentences, **kwargs):
        return [Tensor(row) for row in rows_for(sentences)]


class MtebOne:
    def encode(self, sentences, *, task_name, prompt_type=None, **kwargs):
        self.task = task_name
        return rows_for(sentences)


class MtebTwo:
    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        self.task, self.split = task_metadata.name, hf_split
        assert len(inputs) == len(list(inputs))
        return np.concatenate([rows_for(batch["text"]) for batch in inputs])


class Task:
    """As a classification task of MTEB."""

    metadata = SimpleNamespace(name="Drinks", eval_splits=["validation"])
    label_column_name = "kind"
    dataset = None

    def load_data(self):
        self.dataset = {"en": {"train": {}, "validation": {"text": TEXTS, "kind": LABELS}}}


@pytest.mark.parametrize("model", [SentenceTransformer(), TensorModel(), rows_for])
def test_rows_are_those_of_the_model_whatever_it_is(model):
    found = text.embed(TEXTS + TEXTS[:3], model)
    np.testing.assert_array_equal(found, rows_for(TEXTS + TEXTS[:3]))


def test_each_text_is_encoded_once():
    model = SentenceTransformer()
    text.embed(["tea"] * 9 + ["milk"], model)
    assert model.seen == 2


@pytest.mark.parametrize("model", [MtebOne(), MtebTwo()])
def test_a_task_is_answered_in_one_call(model):
    found = text_tasks.evaluate(model, Task())
    assert model.task == "Drinks"
    assert getattr(model, "split", "validation") == "validation"
    expected = kl.predict(rows_for(TEXTS), LABELS)
    assert found.prediction.metrics == expected.metrics
    assert found.few.classes == ("milk", "tea")
    assert re.match(r"Drinks, split validation, 4 dimensions\n120 rows in 2 classes", repr(found))
    flat = found.to_dict()
    assert flat["macro_f1"] == expected.value.value
    assert flat["few_labels/accuracy"] == found.few.mean("accuracy")
    assert len(found.to_frame()) == len(expected.table().rows)


@pytest.mark.parametrize(
    "task",
    [
        {"text": TEXTS, "label": LABELS},
        {"train": {"text": [], "label": []}, "test": {"text": TEXTS, "label": LABELS}},
        pd.DataFrame({"text": TEXTS, "label": LABELS}),
    ],
)
def test_plain_tables_are_tasks_too(task):
    texts, labels = text_tasks.rows_of(task)
    assert texts == TEXTS
    assert [labels.names[code] for code in labels.codes] == LABELS


def test_what_cannot_be_used_is_named():
    with pytest.raises(ValueError, match=r"needs task_name; give task="):
        text.embed(TEXTS, MtebOne())
    with pytest.raises(ValueError, match=r"expected a model with encode\(texts\).*got int"):
        text.embed(TEXTS, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 120 distinct texts"):
        text.embed(TEXTS, lambda texts: np.zeros((2, 3)))
    with pytest.raises(ValueError, match="no column 'label'; it has text, kind"):
        text_tasks.rows_of({"text": TEXTS, "kind": LABELS})
    with pytest.raises(ValueError, match="no split 'test'; choose one of de, en"):
        text_tasks.rows_of({"de": {}, "en": {}})
    with pytest.raises(ValueError, match="no subset 'fr'; choose one of de, en"):
        text_tasks.rows_of({"de": {}, "en": {}}, subset="fr")
    with pytest.raises(ValueError, match=r"expected a task with texts and labels.*got int"):
        text_tasks.rows_of(3)

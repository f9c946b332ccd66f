"""Heads that answer other rows: the same answers as the probes', and as scikit-learn's."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from kernlens import decoders, kernels, predict
from kernlens.kernels.hidden import MLP_PENALTY
from kernlens.lens.heads import heads
from kernlens.probes import logistic, partitions
from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import prediction_of, shared_groups
from kernlens.types import Labels

DECODERS = {
    "linear": None,
    "mlp": decoders.Mlp(8),
    "inner-product": decoders.InnerProduct(),
    "cosine priors": decoders.Cosine(priors=True),
}


def _table(n=240, d=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([rng.integers(0, classes, n - 1), [classes]]).astype(np.int32)
    centres = rng.normal(size=(classes + 1, d))
    rows = centres[codes] + rng.normal(size=(n, d)) * 1.5
    codes[5:9] = -1
    return rows, Labels(codes, tuple("abcdef"[: classes + 2]))  # one class has a row, one has none


@pytest.mark.parametrize("name", DECODERS)
def test_answers_amount_to_the_probe_s_prediction_by_one_partition(name, monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", 0)
    rows, labels = _table()
    found = heads(rows, labels, decoder=DECODERS[name])
    made = prediction_of(found.answers(rows[found.rows]), metric="accuracy")
    probed = found.prediction
    assert set(made.metrics) == set(probed.metrics)
    assert made.metric == "accuracy"
    for metric, value in probed.metrics.items():
        np.testing.assert_allclose(made.metrics[metric][:3], value[:3], atol=1e-4)
    assert made.loss == probed.loss
    held = found.folds >= 0
    np.testing.assert_allclose(made.losses[held], probed.losses[held], atol=2e-4)


def test_a_class_that_no_row_has_may_be_answered():
    target, folds = np.arange(20, dtype=np.int32) % 2, np.arange(20, dtype=np.int32) % 5
    predicted = np.where(np.arange(20) < 5, 2, target).astype(np.int32)
    held = HeldOut(None, predicted, target, folds, ("a", "b", "c"), np.arange(20, dtype=np.int32))
    made = prediction_of(held)
    assert made.metrics["accuracy"].value == pytest.approx(0.75)
    each = [f1_score(target[folds == k], predicted[folds == k], average="macro") for k in range(5)]
    np.testing.assert_array_equal(made.predicted, predicted)
    assert made.value.value == pytest.approx(np.mean(each))


@pytest.mark.parametrize("name", DECODERS)
def test_heads_answer_their_own_rows_as_the_probe_does(name):
    rows, labels = _table()
    found = heads(rows, labels, decoder=DECODERS[name])
    # An MLP that is predicted is trained; heads read its random features.
    fit = partial(logistic, penalties=MLP_PENALTY) if name == "mlp" else None
    probed = predict(rows, labels, decoder=DECODERS[name], probe=fit)
    held = found.folds >= 0
    own = found.predicted(rows[found.rows])
    np.testing.assert_array_equal(found.rows, np.flatnonzero(labels.codes >= 0))
    np.testing.assert_array_equal(own[held], probed.predicted[held])
    assert found.prediction.metrics == probed.metrics
    answers = found.log_probabilities(rows[found.rows])
    if answers is None:
        assert probed.held_out.log_probabilities is None
    else:
        expected = probed.held_out.log_probabilities
        np.testing.assert_allclose(answers[held], expected[held], atol=2e-4)


@pytest.mark.thorough
def test_a_kernel_answers_other_rows_too():
    rows, labels = _table()
    found = heads(rows, labels, kernel=kernels.rbf)
    probed = predict(rows, labels, kernel=kernels.rbf)
    held = found.folds >= 0
    answers = found.log_probabilities(rows[found.rows])
    assert answers is not None
    np.testing.assert_allclose(answers[held], probed.held_out.log_probabilities[held], atol=2e-3)


def test_a_fold_s_head_is_scikit_learn_s_on_the_other_folds():
    rows, labels = _table()
    found = heads(rows, labels, decoder=decoders.Mlp(8))
    codes, at = labels.codes[found.rows], rows[found.rows]
    other = at + np.random.default_rng(1).normal(size=at.shape)
    features, mapped = found.features_fn(at), found.features_fn(other)
    answers = found.log_probabilities(other)
    assert answers is not None
    for k in range(5):
        own, rest = found.folds == k, found.folds != k
        scaler = StandardScaler().fit(features[rest])
        head = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
        head.fit(scaler.transform(features[rest]), codes[rest])
        expected = head.predict_log_proba(scaler.transform(mapped[own]))
        given = np.exp(answers[own][:, head.classes_])
        np.testing.assert_allclose(given, np.exp(expected), rtol=0, atol=4e-3)
    scaler = StandardScaler().fit(features)
    head = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
    head.fit(scaler.transform(features), codes)
    served = found.served(other)[:, head.classes_]
    served = served - np.log(np.sum(np.exp(served), axis=1, keepdims=True))
    expected = head.predict_proba(scaler.transform(mapped))
    np.testing.assert_allclose(np.exp(served), expected, rtol=0, atol=4e-3)


def test_class_means_without_a_fold_answer_other_rows():
    rows, labels = _table()
    found = heads(rows, labels, decoder=decoders.InnerProduct())
    codes, at = labels.codes[found.rows], rows[found.rows]
    other = at[::-1]
    given = found.predicted(other)
    for i in range(len(at)):
        rest = found.folds != max(found.folds[i], 0)
        present = [c for c in range(len(labels.names)) if np.any(codes[rest] == c)]
        scores = [np.mean(at[rest][codes[rest] == c], axis=0) @ other[i] for c in present]
        assert given[i] == present[int(np.argmax(scores))]


def test_tables_of_the_same_items_share_their_folds():
    rows, labels = _table()
    other = np.random.default_rng(2).normal(size=(len(rows), 3))
    rows[20], other[20] = rows[10], other[30]
    labels.codes[[10, 20, 30]] = 1
    groups = shared_groups([rows, other], labels)
    assert groups[10] == groups[20] == groups[30]
    assert len(np.unique(groups[groups >= 0])) == np.sum(labels.codes >= 0) - 2
    a, b = (heads(table, labels, groups=groups) for table in (rows, other))
    np.testing.assert_array_equal(a.folds, b.folds)


def test_groups_that_overlap_in_a_chain_become_one():
    labels = Labels(np.zeros(5, np.int32), ("a",))
    first = np.array([[0.1], [0.1], [0.3], [0.4], [0.5]]) * [[1.0, 2.0, 3.0]]
    second = np.array([[0.1], [0.2], [0.2], [0.4], [0.5]]) * [[1.0, 2.0, 3.0]]
    third = np.array([[0.1], [0.2], [0.3], [0.3], [0.5]]) * [[1.0, 2.0, 3.0]]
    np.testing.assert_array_equal(shared_groups([first, second, third], labels), [0, 0, 0, 0, 1])


def test_neighbours_and_rows_that_do_not_match_are_refused():
    rows, labels = _table()
    with pytest.raises(ValueError, match="no head that could answer other rows"):
        heads(rows, labels, decoder=decoders.Neighbours(3))
    with pytest.raises(ValueError, match="got 3 rows and 236 folds"):
        heads(rows, labels).predicted(rows[:3])

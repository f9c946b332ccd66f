"""Metrics against scikit-learn, and the laws of counts."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from kernlens import metrics

# Float32 without x64; sums of a few hundred terms.
RTOL = 2e-6


def draw(seed, n=300, num_classes=5):
    rng = np.random.default_rng(seed)
    target = rng.choice(num_classes, n, p=rng.dirichlet(np.ones(num_classes)))
    predicted = np.where(rng.random(n) < 0.5, target, rng.integers(num_classes, size=n))
    return target, predicted, rng.random(n).astype(np.float32)


def check_against_sklearn(found, target, predicted, weights=None):
    with warnings.catch_warnings():
        # scikit-learn warns where a class is only predicted; what it then returns is the reference.
        warnings.simplefilter("ignore")
        options = {"sample_weight": weights}
        np.testing.assert_allclose(
            [found.accuracy, found.micro_f1, found.macro_f1, found.balanced_accuracy],
            [
                reference.accuracy_score(target, predicted, **options),
                reference.f1_score(target, predicted, average="micro", **options),
                reference.f1_score(target, predicted, average="macro", zero_division=0, **options),
                reference.balanced_accuracy_score(target, predicted, **options),
            ],
            rtol=RTOL,
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_classification_is_scikit_learns(seed, weighted):
    target, predicted, weights = draw(seed)
    weights = weights if weighted else None
    found = metrics.classification(target, predicted, 5, weights=weights)
    check_against_sklearn(found, target, predicted, weights)


@pytest.mark.parametrize(
    ("target", "predicted"),
    [
        ([0, 0, 1, 1], [0, 1, 1, 1]),  # class 2 absent on both sides
        ([0, 0, 1, 1], [0, 2, 1, 2]),  # class 2 only predicted
        ([0, 2, 1, 2], [0, 0, 1, 1]),  # class 2 never predicted
        ([0, 0, 0], [0, 0, 0]),  # one class
        ([0, 0], [1, 1]),  # nothing right
    ],
)
def test_absent_classes_count_as_in_scikit_learn(target, predicted):
    found = metrics.classification(jnp.array(target), jnp.array(predicted), 4)
    check_against_sklearn(found, target, predicted)


def test_confusion_is_scikit_learns_and_exact():
    target, predicted, weights = draw(1)
    found = metrics.confusion(target, predicted, 5)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, reference.confusion_matrix(target, predicted))
    np.testing.assert_allclose(
        metrics.confusion(target, predicted, 5, weights=weights),
        reference.confusion_matrix(target, predicted, sample_weight=weights),
        rtol=RTOL,
    )


def test_unlabelled_rows_are_left_out():
    target, predicted, _ = draw(2)
    hidden = np.where(np.arange(len(target)) % 3 == 0, -1, target)
    kept = hidden >= 0
    np.testing.assert_array_equal(
        metrics.confusion(hidden, predicted, 5), metrics.confusion(target[kept], predicted[kept], 5)
    )


def test_batches_and_transforms():
    batch = [draw(seed) for seed in range(3)]
    targets, predictions = (np.stack([b[i] for b in batch]) for i in (0, 1))
    counts = jax.jit(jax.vmap(lambda t, p: metrics.confusion(t, p, 5)))(targets, predictions)
    at_once = jax.jit(metrics.from_confusion)(counts)
    for i, (target, predicted, _) in enumerate(batch):
        one = metrics.classification(target, predicted, 5)
        np.testing.assert_allclose([v[i] for v in at_once], list(one), rtol=RTOL)


def test_numpy_counts_stay_in_float64():
    target, predicted, _ = draw(3)
    counts = reference.confusion_matrix(target, predicted)
    found = metrics.from_confusion(counts)
    assert all(isinstance(v, np.ndarray | np.float64) and v.dtype == np.float64 for v in found)
    on_device = metrics.from_confusion(jnp.asarray(counts, jnp.int32))
    np.testing.assert_allclose(list(found), list(on_device), rtol=RTOL)


def test_nothing_evaluated_is_nan():
    assert all(np.isnan(v) for v in metrics.from_confusion(np.zeros((3, 3), int)))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=4, max_size=4),
    st.permutations(range(4)),
)
def test_class_order_does_not_matter_and_metrics_lie_in_the_unit_interval(counts, order):
    counts = np.array(counts)
    if counts.sum() == 0:
        return
    found = metrics.from_confusion(counts)
    assert all(0.0 <= v <= 1.0 for v in found)
    permuted = metrics.from_confusion(counts[np.ix_(order, order)])
    np.testing.assert_allclose(list(permuted), list(found), rtol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_scikit_learns(ties):
    rng = np.random.default_rng(0)
    target = rng.random(500) < 0.3
    scores = (rng.normal(size=500) + target).astype(np.float32)
    scores = np.round(scores) if ties else scores
    expected = reference.roc_auc_score(target, scores)
    np.testing.assert_allclose(jax.jit(metrics.auc)(scores, target), expected, rtol=RTOL)
    np.testing.assert_allclose(metrics.auc(-scores, target), 1.0 - expected, rtol=RTOL)


@pytest.mark.thorough
def test_auc_of_ties_one_class_and_nan():
    target = jnp.array([0, 1, 1, 0])
    assert metrics.auc(jnp.zeros(4), target) == 0.5
    assert jnp.isnan(metrics.auc(jnp.arange(4.0), jnp.ones(4)))
    assert jnp.isnan(metrics.auc(jnp.array([0.0, jnp.nan, 1.0, 2.0]), target))


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        metrics.confusion(jnp.zeros(3, int), jnp.zeros(4, int), 2)
    with pytest.raises(AssertionError):
        metrics.from_confusion(jnp.zeros((2, 3)))


def test_counts_of_many_predictions_are_those_of_their_confusions():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 4, 50), rng.integers(0, 4, (3, 50))
    hits, given, support = metrics.counts(target, predicted, 5)
    for i, one in enumerate(predicted):
        confusion = reference.confusion_matrix(target, one, labels=range(5))
        np.testing.assert_array_equal(hits[i], np.diag(confusion))
        np.testing.assert_array_equal(given[i], confusion.sum(axis=0))
        np.testing.assert_array_equal(support[i], confusion.sum(axis=1))

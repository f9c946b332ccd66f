"""Churn and kappa against scikit-learn, definitions and numerical derivatives."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from kernlens.metrics import disagreement

RNG = np.random.default_rng(0)
N = 400
CLASSES = RNG.choice(4, N, p=[0.6, 0.2, 0.15, 0.05])
OTHER = np.where(RNG.random(N) < 0.3, RNG.integers(0, 4, N), CLASSES)
LABELS = RNG.random((N, 3)) < [0.2, 0.5, 0.7]
OTHER_LABELS = LABELS ^ (RNG.random((N, 3)) < 0.2)
NUMBERS = RNG.standard_normal(N)
OTHER_NUMBERS = 0.8 * NUMBERS + 0.3 + 0.5 * RNG.standard_normal(N)
TARGET = 2.0 * RNG.standard_normal(N)

PAIRS = {
    "classes": (disagreement.of_classes, (CLASSES, OTHER)),
    "labels": (disagreement.of_labels, (LABELS, OTHER_LABELS)),
    "numbers": (
        lambda a, b: disagreement.of_numbers(a, b, TARGET[: len(a)]), (NUMBERS, OTHER_NUMBERS)
    ),
}  # fmt: skip


def test_kappa_and_churn_of_classes_are_scikit_learns():
    found = disagreement.of_classes(CLASSES, OTHER)
    np.testing.assert_allclose(found.kappa, cohen_kappa_score(CLASSES, OTHER), rtol=1e-12)
    assert found.churn == np.mean(CLASSES != OTHER)
    np.testing.assert_array_equal(found.moved, CLASSES != OTHER)


def test_kappa_of_labels_pools_all_pairs_of_row_and_label():
    found = disagreement.of_labels(LABELS, OTHER_LABELS)
    expected = cohen_kappa_score(LABELS.ravel(), OTHER_LABELS.ravel())
    np.testing.assert_allclose(found.kappa, expected, rtol=1e-12)
    np.testing.assert_allclose(found.churn, np.mean(LABELS != OTHER_LABELS), rtol=1e-12)


def test_kappa_with_squared_weights_comes_to_the_concordance_of_numbers():
    found = disagreement.of_numbers(CLASSES.astype(float), OTHER.astype(float), CLASSES * 1.0)
    expected = cohen_kappa_score(CLASSES, OTHER, weights="quadratic")
    np.testing.assert_allclose(found.kappa, expected, rtol=1e-12)
    rms = np.sqrt(np.mean((CLASSES - OTHER) ** 2)) / CLASSES.std()
    np.testing.assert_allclose(found.churn, rms, rtol=1e-12)


def scaled_target(found_fn, a, b, weights):
    """Both values of rows that count ``weights`` times: rows repeated."""
    return found_fn(np.repeat(a, weights, axis=0), np.repeat(b, weights, axis=0))


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_an_influence_is_what_one_more_copy_of_a_row_adds(kind):
    found_fn, (a, b) = PAIRS[kind]
    found, big = found_fn(a, b), 50
    for row in (0, 7, 123, 399):
        weights = np.full(N, big)
        weights[row] += 1
        after = scaled_target(found_fn, a, b, weights)
        moved = np.array([after.kappa - found.kappa, after.churn - found.churn])
        expected = found.influences[:, row] / (N * big + 1)
        np.testing.assert_allclose(moved, expected, rtol=2e-3, atol=1e-9)


def test_influences_of_numbers_have_the_error_that_the_bootstrap_has():
    found_fn, (a, b) = PAIRS["numbers"]
    found = found_fn(a, b)
    rng, drawn = np.random.default_rng(1), []
    for _ in range(2000):
        rows = rng.integers(0, N, N)
        # The unit is that of the target, held fixed.
        own = disagreement.of_numbers(a[rows], b[rows], TARGET)
        drawn.append((own.kappa, own.churn))
    error = np.std(found.influences, axis=1) / np.sqrt(N)
    np.testing.assert_allclose(error, np.std(drawn, axis=0), rtol=0.08)


@pytest.mark.parametrize("kind", PAIRS)
def test_equal_answers_agree_fully_and_influences_have_mean_zero(kind):
    found_fn, (a, b) = PAIRS[kind]
    same = found_fn(a, a)
    np.testing.assert_allclose((same.kappa, same.churn), (1.0, 0.0), atol=1e-12)
    assert not same.moved.any()
    np.testing.assert_allclose(found_fn(a, b).influences.mean(axis=1), 0.0, atol=1e-12)


def test_kappa_of_two_constants_is_undefined_and_their_churn_is_none():
    found = disagreement.of_classes(np.zeros(5, int), np.zeros(5, int))
    assert np.isnan(found.kappa)
    assert found.churn == 0.0
    assert np.isnan(disagreement.of_numbers(np.ones(5), np.ones(5), np.ones(5)).kappa)

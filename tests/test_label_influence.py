"""Influence of a label on the predicted metric, against refits without the row."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics

from kernlens import probes
from kernlens.probes.label_influence import METRICS, label_influence
from kernlens.types import Labels

REFERENCE = {
    "accuracy": metrics.accuracy_score,
    "macro_f1": lambda truth, found: metrics.f1_score(
        truth, found, labels=np.union1d(truth, found), average="macro"
    ),
    "balanced_accuracy": lambda truth, found: metrics.recall_score(
        truth, found, labels=np.unique(truth), average="macro"
    ),
}


def rows(seed=0, n=40, p=5, classes=3, spread=1.5):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n).astype(np.int32)
    centres = rng.standard_normal((classes, p))
    return centres[codes] + spread * rng.standard_normal((n, p)), Labels(codes, tuple("abc"))


def held_out(z, target, penalty):
    """Classes of rows without themselves, by a fit for each."""
    n, found = len(z), []
    share = target.mean(0)
    for j in range(n):
        kept = np.arange(n) != j
        mean, own = z[kept].mean(0), target[kept].mean(0)
        centred = z[kept] - mean
        solved = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(z.shape[1]), centred.T @ target[kept]
        )
        scores = own + (z[j] - mean) @ solved
        found.append(np.argmax(scores + (target[j] - share) / (n - 1)))
    return np.array(found)


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_probe_without_the_row(metric):
    x, labels = rows()
    got = label_influence(x, labels, metric=metric, strength=0.1)
    z = (x - x.mean(0)) / x.std(0)
    penalty = 0.1 * np.trace(z.T @ z) / z.shape[1]
    target = np.eye(3)[labels.codes]
    score = REFERENCE[metric]
    everyone = held_out(z, target, penalty)
    for i in range(0, 40, 3):
        others = np.arange(40) != i
        truth = labels.codes[others]
        without = score(truth, held_out(z[others], target[others], penalty))
        assert_allclose(got.without[i], without, rtol=1e-12)
        assert_allclose(got.values[i], score(truth, everyone[others]) - without, atol=1e-12)
    assert np.any(got.values != 0)


def test_the_metric_of_all_rows_is_that_of_the_probe():
    x, labels = rows(1, n=300)
    strength = probes.ridge(x, labels, draws=1).path.chosen
    got = label_influence(x, labels, metric="accuracy")
    assert got.strength == strength
    accuracy = probes.ridge(x, labels, draws=1).metrics["accuracy"].value
    # The mean over rows of the accuracy of the others is the accuracy of all.
    assert_allclose(np.mean(got.without + got.values), accuracy, atol=1e-6)


def test_the_squared_error_of_the_others_is_that_of_fits_without_the_row():
    x, labels = rows(4, n=20)
    got = label_influence(x, labels, metric="squared_error", strength=0.1)
    z = (x - x.mean(0)) / x.std(0)
    penalty = 0.1 * np.trace(z.T @ z) / z.shape[1]
    target = np.eye(3)[labels.codes]

    def error(left):
        total = 0.0
        for j in np.flatnonzero(left):
            kept = left & (np.arange(20) != j)
            mean, own = z[kept].mean(0), target[kept].mean(0)
            a = z[kept] - mean
            weights = np.linalg.solve(a.T @ a + penalty * np.eye(5), a.T @ target[kept])
            total += np.sum((target[j] - own - (z[j] - mean) @ weights) ** 2)
        return total / 19

    for i in range(0, 20, 6):
        assert_allclose(got.without[i], error(np.arange(20) != i), rtol=1e-10)


def test_labels_that_are_wrong_pull_the_others_down():
    x, labels = rows(2, n=300, p=8, spread=1.5)
    rng = np.random.default_rng(0)
    wrong = rng.choice(300, 30, replace=False)
    codes = labels.codes.copy()
    codes[wrong] = (codes[wrong] + 1) % 3
    made = Labels(codes, labels.names)
    is_wrong = np.isin(np.arange(300), wrong)
    for metric, sign in (("accuracy", 1.0), ("squared_error", -1.0)):
        values = sign * label_influence(x, made, metric=metric, strength=0.01).values
        assert values[is_wrong].mean() < values[~is_wrong].mean()


def test_rows_without_a_label_have_none():
    x, labels = rows(3)
    codes = labels.codes.copy()
    codes[::7] = -1
    got = label_influence(x, Labels(codes, labels.names), strength=0.1)
    assert_array_equal(np.isnan(got.values), codes < 0)
    kept = codes >= 0
    alone = label_influence(x[kept], Labels(codes[kept], labels.names), strength=0.1)
    assert_allclose(got.values[kept], alone.values)


def test_what_cannot_be_is_refused():
    x, labels = rows()
    with pytest.raises(ValueError, match=r"metric must be one of 'accuracy'.*_error'; got 'auc'"):
        label_influence(x, labels, metric="auc")
    with pytest.raises(ValueError, match="strength must be positive; got 0"):
        label_influence(x, labels, strength=0.0)
    with pytest.raises(ValueError, match="three labelled rows or more; got 2"):
        label_influence(x[:2], Labels(labels.codes[:2], labels.names))

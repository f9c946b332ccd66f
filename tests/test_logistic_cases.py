"""Rows on which closed forms mispredicted a linear head, each with its trained value."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

import kernlens as kl
from kernlens import probes
from kernlens.train.heads import stratified_split
from kernlens.types import Labels

SPLITS = 12
DIM, CLASSES = 12, 5


def trained(x, codes, penalty=1.0):
    """Macro-F1 of scikit-learn's logistic regression on the held-out fifth of each split."""
    found = []
    for seed in range(SPLITS):
        test = stratified_split(seed, codes)
        scaler = StandardScaler().fit(x[~test])
        fitted = LogisticRegression(C=1.0 / penalty, max_iter=2000)
        fitted.fit(scaler.transform(x[~test]), codes[~test])
        given = fitted.predict(scaler.transform(x[test]))
        found.append(f1_score(codes[test], given, average="macro", zero_division=0))
    return np.array(found)


def predicted(x, codes, penalty=1.0):
    labels = Labels(codes.astype(np.int32), tuple(map(str, range(codes.max() + 1))))
    return probes.logistic(x, labels, penalties=penalty, draws=20)


def problem(rng, *, n=700, dim=DIM, classes=CLASSES, separation=0.7):
    codes = np.arange(n) % classes
    centres = rng.normal(size=(classes, dim))
    return separation * centres[codes] + rng.normal(size=(n, dim)), codes


def noise(rng):
    return rng.normal(size=(700, DIM)), np.arange(700) % CLASSES


def nearly_gaussian_noise(rng):
    x, codes = problem(rng, separation=0.05)
    return x + 0.1 * rng.standard_t(4, size=x.shape), codes


def four_rows_a_class(rng):
    return problem(rng, n=400, classes=100, separation=2.0)


def cubed(rng):
    x, codes = problem(rng)
    return x**3, codes


def with_a_price(rng):
    x, codes = problem(rng)
    return np.hstack([x, 1e3 * rng.lognormal(3.0, 1.5, size=(700, 1))]), codes


def outliers(rng):
    x, codes = problem(rng)
    x[rng.choice(700, 7, replace=False)] *= 200.0
    return x, codes


def log_normal_norms(rng):
    x, codes = problem(rng)
    return x * rng.lognormal(0.0, 1.0, size=(700, 1)), codes


def cauchy(rng):
    x, codes = problem(rng)
    return x + 0.3 * rng.standard_cauchy(size=x.shape), codes


def text(rng):
    """Counts of rare words by topic, weighted by how rare they are: more columns than rows."""
    codes = np.arange(400) % CLASSES
    topics = rng.dirichlet(np.full(600, 0.05), size=CLASSES)
    counts = np.stack([rng.multinomial(25, 0.5 * topics[c] + 0.5 / 600) for c in codes])
    x = counts * np.log(400 / (1 + np.count_nonzero(counts, axis=0)))
    return x / np.linalg.norm(x, axis=1, keepdims=True), codes


def at_the_floor(rng):
    return rng.normal(size=(700, DIM)), np.repeat(np.arange(CLASSES), [560, 50, 40, 30, 20])


CASES = (
    noise, nearly_gaussian_noise, four_rows_a_class, cubed, with_a_price, outliers,
    log_normal_norms, cauchy, text, at_the_floor,
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_prediction_is_no_further_from_the_trained_mean_than_a_split(case):
    x, codes = case(np.random.default_rng(0))
    values = trained(x, codes)
    found = predicted(x, codes).metrics["macro_f1"]
    assert abs(found.value - values.mean()) <= min(values.std(), 0.03)
    assert found.low <= found.value <= found.high


def test_outliers_are_told():
    x, codes = outliers(np.random.default_rng(0))
    assert any("1% of the rows hold" in note for note in predicted(x, codes).notes)
    x, codes = log_normal_norms(np.random.default_rng(0))
    assert not any("1% of the rows" in note for note in predicted(x, codes).notes)


@pytest.mark.thorough
def test_rows_given_five_times_score_what_new_rows_do():
    x, codes = problem(np.random.default_rng(0), n=140, dim=30, separation=0.35)
    found = predicted(np.tile(x, (5, 1)), np.tile(codes, 5))
    distinct = trained(x, codes, penalty=0.2)  # five equal losses weigh as much as a fifth of it
    flattered = trained(np.tile(x, (5, 1)), np.tile(codes, 5))
    assert flattered.mean() > distinct.mean() + 0.1
    assert abs(found.value.value - distinct.mean()) <= min(distinct.std(), 0.05)


@pytest.mark.thorough
def test_a_concatenation_gains_what_it_gains_when_trained():
    rng = np.random.default_rng(0)
    first, codes = problem(rng, separation=0.4)
    other, _ = problem(rng, separation=0.4)
    both = np.hstack([first, other])
    gain = trained(both, codes).mean() - trained(first, codes).mean()
    found = predicted(both, codes).value.value - predicted(first, codes).value.value
    assert gain > 0.05
    assert abs(found - gain) <= 0.03


@pytest.mark.thorough
def test_the_path_makes_up_for_a_scale_that_outliers_take():
    x, codes = outliers(np.random.default_rng(0))
    labels = Labels(codes.astype(np.int32), tuple("abcde"))
    free = probes.logistic(x, labels, draws=20)
    assert free.path.chosen < 1.0
    assert abs(free.value.value - trained(x, codes, free.path.chosen).mean()) <= 0.03


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shape", [(60, 800, 3), (30, 768, 2), pytest.param((100, 120, 10), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_noise_of_more_columns_than_rows_is_not_learnt_by_heart(shape, penalty):
    n, p, num_classes = shape
    x = np.random.default_rng(0).normal(size=(n, p)).astype(np.float32)
    codes = (np.arange(n) % num_classes).astype(np.int32)
    labels = Labels(codes, tuple(map(str, range(num_classes))))
    found = probes.logistic(x, labels, penalties=penalty, repeats=1)
    losses = []
    for k in range(5):
        held = found.held_out.folds == k
        scaler = StandardScaler().fit(x[~held])
        head = LogisticRegression(C=1.0 / penalty, max_iter=5000, tol=1e-9)
        head.fit(scaler.transform(x[~held]), codes[~held])
        shares = head.predict_proba(scaler.transform(x[held]))
        losses.append(-np.mean(np.log(shares[np.arange(held.sum()), codes[held]])))
    assert found.metrics["log_loss"].value == pytest.approx(np.mean(losses), rel=0.03)
    assert kl.predict(x, labels).value.low < 1.0 / num_classes + 0.05


def by_sklearn(x, codes, folds, penalty):
    """Log loss and class of each row by the optimum of the other folds."""
    losses, given = np.zeros(len(x)), np.zeros(len(x), np.int32)
    # Of two classes scikit-learn has one weight vector, where two share the penalty of a softmax.
    strength = penalty / 2 if codes.max() == 1 else penalty
    for k in range(5):
        out = folds == k
        scaler = StandardScaler().fit(x[~out])
        head = LogisticRegression(C=1.0 / strength, max_iter=20_000, tol=1e-10)
        head.fit(scaler.transform(x[~out]), codes[~out])
        with np.errstate(divide="ignore"):
            shares = head.predict_log_proba(scaler.transform(x[out]))
        given[out] = shares.argmax(axis=1)
        losses[out] = -shares[np.arange(out.sum()), codes[out]]
    return losses, given


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_a_column_of_one_row_does_not_tell_the_rows_label(penalty):
    """Each fold started from the optimum of all rows, and hardly gained by unlearning such rows."""
    rng = np.random.default_rng(1)
    n, alone = 600, 36
    x, codes = rng.normal(size=(n, 6 + alone)).astype(np.float32), np.arange(n) % 4
    x[:, 6:] = 0.0
    x[rng.permutation(n)[:alone], 6 + np.arange(alone)] = 1.0
    found = probes.logistic(x, Labels(codes.astype(np.int32), tuple("abcd")), penalties=penalty)
    held = found.held_out
    losses, given = by_sklearn(x, codes, held.folds, penalty)
    assert np.mean(held.predicted != given) < 0.005
    np.testing.assert_allclose(found.losses.mean(), losses.mean(), rtol=2e-3)
    _, marked = np.nonzero(x.T[6:])
    assert np.mean(held.predicted[marked] == held.target[marked]) < 0.5


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1100, 1500, 1700])
def test_a_column_that_varies_in_one_fold_alone_is_constant_without_it(n):
    """Its variance outside the fold was lost in rounding, but for some n was not 0: it was held by
    hardly any penalty there, and noise seemed to tell the labels."""
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(n, 4)), rng.integers(0, 2, n)
    rare = np.zeros((n, 100))
    rare[rng.choice(n, 100, replace=False), np.arange(100)] = 1
    x = np.concatenate([x, rare], axis=1)
    found = probes.logistic(x, Labels(codes.astype(np.int32), ("a", "b")), penalties=1.0, repeats=1)
    losses, _ = by_sklearn(x, codes, found.held_out.folds, 1.0)
    np.testing.assert_allclose(found.losses.mean(), losses.mean(), rtol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("penalty", [1e-3, 1e-5])
def test_rows_told_apart_are_held_to_the_last_of_their_loss(penalty):
    """What is left of the loss is less than the gap that was allowed: folds stayed where all rows'
    optimum was, and told the rows that they hold out."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1000, 20))
    codes = (x @ rng.normal(size=(20, 2))).argmax(axis=1).astype(np.int32)
    found = probes.logistic(x, Labels(codes, ("a", "b")), penalties=penalty, repeats=1)
    losses, given = by_sklearn(x, codes, found.held_out.folds, penalty)
    assert np.mean(found.held_out.predicted != given) < 0.003
    np.testing.assert_allclose(found.losses.mean(), losses.mean(), rtol=0.01)


@pytest.mark.thorough
def test_a_corrupt_cell_is_told():
    rng = np.random.default_rng(8)
    x, codes = problem(rng, n=500)
    clean = predicted(x, codes)
    x[5, 0] = 1e6
    (said,) = [note for note in predicted(x, codes).notes if "corrupt" in note]
    assert said.startswith("1 column owes all but a millionth of its variance to a few rows")
    assert not any("corrupt" in note for note in clean.notes)


@pytest.mark.slow
def test_folds_reach_their_optimum_where_classes_can_be_told_apart():
    """Log losses along the path, on digits; they were 1% too low where searches ended too soon."""
    data = load_digits()
    x, codes = data.data.astype(np.float32), data.target.astype(np.int32)
    found = probes.logistic(
        x, Labels(codes, tuple("0123456789")), penalties=(1e3, 1e2, 1e1, 1.0), repeats=1, draws=20
    )
    losses = []
    for k in range(5):
        held = found.held_out.folds == k
        scaler = StandardScaler().fit(x[~held])
        head = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8)
        head.fit(scaler.transform(x[~held]), codes[~held])
        shares = head.predict_proba(scaler.transform(x[held]))
        losses.append(-np.mean(np.log(shares[np.arange(held.sum()), codes[held]])))
    assert found.path.losses[-1] == pytest.approx(np.mean(losses), rel=2e-3)

"""Regression and multi-label: leave-one-out against refits, metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier

import kernlens as kl
from kernlens import metrics, probes, targets
from kernlens.metrics import influence, multi_label, regression
from kernlens.probes import paired
from kernlens.probes.numbers import many_labels, numbers, of_numbers
from kernlens.types import Labels, MultiLabels

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5)) * [1.0, 10.0, 1e-3, 1.0, 100.0] + [0.0, 1e3, 0.0, 5.0, 0.0]
Y = X @ [1.0, 0.1, 300.0, 0.0, 0.01] + 0.5 * RNG.standard_normal(60)
MEMBERS = np.stack([X[:, 0] > 0, X[:, 3] + RNG.standard_normal(60) > 6, X[:, 1] > 1e3 + 12], axis=1)


@pytest.mark.parametrize("width", [5, 90])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_leave_one_out_is_refits(width, strength):
    x = X if width == 5 else np.random.default_rng(1).standard_normal((60, width))
    found = numbers(x, Y, strengths=[strength])
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    # The mean of all eigenvalues, those that are zero because columns outnumber rows included.
    penalty = strength * np.trace(z.T @ z) / width
    refits = [
        Ridge(alpha=penalty).fit(np.delete(z, i, 0), np.delete(Y, i)).predict(z[i : i + 1])[0]
        for i in range(60)
    ]
    np.testing.assert_allclose(found.predicted, refits, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.metrics["r2"].value, reference.r2_score(Y, refits), rtol=1e-6)
    rmse = reference.root_mean_squared_error(Y, refits)
    np.testing.assert_allclose(found.metrics["rmse"].value, rmse, rtol=1e-6)
    mae = reference.mean_absolute_error(Y, refits)
    np.testing.assert_allclose(found.metrics["mae"].value, mae, rtol=1e-6)


def test_units_of_columns_and_rows_without_a_number_do_not_matter():
    base = numbers(X, Y)
    other = numbers(X * [1e-4, 1e4, 1.0, 3.0, 1e3] - 7.0, Y)
    np.testing.assert_allclose(other.predicted, base.predicted, rtol=1e-6)
    gaps = np.append(Y, [np.nan] * 5)
    more = numbers(np.vstack([X, np.full((5, 5), np.nan)]), gaps)
    np.testing.assert_array_equal(more.predicted, base.predicted)


def test_the_strength_of_the_least_error_is_taken():
    found = numbers(X, Y)
    errors = [numbers(X, Y, strengths=[s]).metrics["squared_error"].value for s in probes.STRENGTHS]
    assert found.metrics["squared_error"].value == pytest.approx(min(errors), rel=1e-9)


def test_noise_has_an_r2_of_nearly_none_and_its_interval_holds_it():
    values = [
        numbers(*(np.random.default_rng(s).standard_normal(shape) for shape in ((200, 4), 200)))
        for s in range(20)
    ]
    assert abs(np.mean([one.metrics["r2"].value for one in values])) < 0.02
    assert np.mean([one.metrics["r2"].low <= 0.0 for one in values]) >= 0.85


def test_labels_are_predicted_as_one_classifier_a_label_does():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 6))
    members = x[:, :4] + 0.7 * rng.standard_normal((600, 4)) > [0.0, 0.5, 1.2, -0.5]
    found = many_labels(x, MultiLabels(members, np.ones(600, bool), tuple("abcd")))
    model = OneVsRestClassifier(LogisticRegression())
    trained = cross_val_predict(model, x, members, cv=5)
    for name, average in (("macro_f1", "macro"), ("micro_f1", "micro")):
        value = reference.f1_score(members, trained, average=average)
        assert found.metrics[name].value == pytest.approx(value, abs=0.02)
        own = reference.f1_score(found.target, found.predicted, average=average)
        assert found.metrics[name].value == pytest.approx(own, rel=1e-12)
    own = reference.average_precision_score(found.target, found.scores, average="macro")
    assert found.metrics["average_precision"].value == pytest.approx(own, rel=1e-9)
    for own in found.metrics.values():
        assert own.low < own.value < own.high


def test_average_precision_with_ties_is_scikit_learns():
    rng = np.random.default_rng(3)
    target, scores = rng.random((80, 3)) < 0.3, rng.integers(0, 6, (80, 3)) / 4
    expected = reference.average_precision_score(target, scores, average="macro")
    assert multi_label.average_precision(target, scores) == pytest.approx(expected, rel=1e-12)


def repeated(metric, *sides, row, weight):
    """The metric with one row counted ``weight`` times more, as copies of all other rows."""
    counts = np.full(len(sides[0]), 50)
    counts[row] += weight
    return metric(*(np.repeat(side, counts, axis=0) for side in sides))


def codes(seed):
    return np.random.default_rng(seed).integers(0, 3, 60)


CASES = {
    "accuracy": (lambda t, p: np.mean(t == p), influence.accuracy, codes(4), codes(5)),
    "macro_f1": (
        lambda t, p: reference.f1_score(t, p, average="macro"),
        influence.macro_f1, codes(4), codes(5),
    ),
    "balanced_accuracy": (
        reference.balanced_accuracy_score, influence.balanced_accuracy, codes(4), codes(5)
    ),
    "r2": (regression.r2, influence.r2, Y, Y + RNG.standard_normal(60)),
    "rmse": (regression.rmse, influence.rmse, Y, Y + RNG.standard_normal(60)),
    "mae": (regression.mae, influence.mae, Y, Y + RNG.standard_normal(60)),
    "micro_f1_of_labels": (
        multi_label.micro_f1, influence.micro_f1_of_labels, MEMBERS, RNG.random((60, 3)) < 0.4
    ),
    "macro_f1_of_labels": (
        multi_label.macro_f1, influence.macro_f1_of_labels, MEMBERS, RNG.random((60, 3)) < 0.4
    ),
    "average_precision": (
        multi_label.average_precision, influence.average_precision, MEMBERS,
        RNG.integers(0, 9, (60, 3)) / 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_influence_is_the_derivative_in_the_weight_of_a_row(name):
    metric, fn, target, given = CASES[name]
    found = fn(target, given)
    assert np.mean(found) == pytest.approx(0.0, abs=1e-9)
    for row in (0, 7, 31, 59):
        up, down = (repeated(metric, target, given, row=row, weight=w) for w in (1, -1))
        slope = (up - down) / 2.0 * 50 * 60
        assert found[row] == pytest.approx(slope, rel=0.02, abs=2e-3 * np.max(np.abs(found)))


def test_differences_of_numbers_are_paired():
    a, b = numbers(X, Y), numbers(X[:, :2], Y)
    gap = paired.paired_difference(a, b, metric="r2")
    assert gap.value == pytest.approx(a.metrics["r2"].value - b.metrics["r2"].value)
    assert gap.separated
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        d = rng.integers(0, 60, 60)
        drawn.append(metrics_gap(a, b, d))
    assert gap.high - gap.low == pytest.approx(2 * 1.645 * np.std(drawn), rel=0.25)


def metrics_gap(a, b, rows):
    first, second = (regression.r2(one.target[rows], one.predicted[rows]) for one in (a, b))
    return first - second


@pytest.mark.parametrize(
    ("x", "target", "match"),
    [
        (X[:10], Y, "target must have n rows"),
        (X, np.where(np.arange(60) == 3, np.inf, Y), "must be finite, or NaN"),
        (np.where(np.arange(60)[:, None] == 4, np.nan, X), Y, "features must be finite.* row 4"),
        (X, np.where(np.arange(60) < 2, Y, np.nan), "three rows or more"),
    ],
)
def test_what_cannot_be_regressed_is_refused(x, target, match):
    with pytest.raises(ValueError, match=match):
        numbers(x, target)


def test_labels_that_do_not_vary_are_left_out_or_refused():
    labels = MultiLabels(
        np.column_stack([MEMBERS, np.ones(60, bool)]), np.ones(60, bool), tuple("abcd")
    )
    assert many_labels(X, labels).names == ("a", "b", "c")
    with pytest.raises(ValueError, match="nothing to predict"):
        many_labels(X, labels._replace(membership=np.ones((60, 4), bool)))


def test_metrics_hand_on():
    assert metrics.majority(np.array([0, 0, 1])).accuracy == pytest.approx(2 / 3)


def test_numbers_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match=r"the numbers are all 0\.5"):
        kl.predict(np.random.default_rng(0).normal(size=(40, 3)), targets.values(np.full(40, 0.5)))


def test_intervals_end_where_metrics_do():
    rng = np.random.default_rng(6)
    n = int(rng.integers(6, 30))
    x = rng.normal(size=(n, 2))
    found = kl.predict(x, targets.values(x[:, 0] + rng.standard_t(1.5, size=n) * 0.1))
    assert found.metrics["r2"].high <= 1.0


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_few_rows_without_an_error_have_intervals_of_some_width(n):
    y = 1.5 * np.arange(n)
    exact = of_numbers(y, y)
    for name, own in exact.metrics.items():
        assert own.high - own.low > 0.1 / n, name
    near = of_numbers(y, y + np.where(np.arange(n) % 2, 1.0, -1.0))
    assert near.metrics["mae"].high - near.metrics["mae"].low > 0.1 / n
    # Of many rows the errors that are seen say enough.
    y = np.arange(100.0)
    (sure,) = {float(own.high - own.low) for own in of_numbers(y, y).metrics.values()}
    assert sure == 0.0


@pytest.mark.parametrize("probe", [probes.logistic, probes.mlp, probes.neighbours])
def test_values_whose_squares_overflow_are_refused(probe):
    x = np.random.default_rng(0).standard_normal((60, 3))
    x[7, 1] = 1e200
    with pytest.raises(ValueError, match=r"within 1e\+150 of 0.*row 7 does not. Rescale them"):
        probe(x, Labels((np.arange(60) % 2).astype(np.int32), ("a", "b")))
    with pytest.raises(ValueError, match="Rescale them"):
        kl.predict(x, np.random.default_rng(1).standard_normal(60))
    assert probes.neighbours(
        1e100 * x[:7], Labels((np.arange(7) % 2).astype(np.int32), ("a", "b"))
    ).metrics

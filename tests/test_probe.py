"""Probes against refits without each row in turn, in float64, and against scikit-learn."""

import functools
import importlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import ttest_1samp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from kernlens import probes
from kernlens.probes import spread
from kernlens.probes.labelled_rows import chunks, select_rows
from kernlens.probes.leave_one_out import Path
from kernlens.targets import drop_rare
from kernlens.types import Classification, Interval, Labels
from tests.cases import has_own_test

# What the library promises of every error, against float64.
RTOL = 1e-4
# Between two float64 computations at strengths down to 1e-6, whose solves lose six digits.
TIGHT = 1e-7
FEW = (1e-6, 1e-3, 1e-1, 1e1)


class Problem(NamedTuple):
    features: np.ndarray
    labels: Labels


def problem(seed=0, n=48, p=5, sizes=(0.5, 0.3, 0.15, 0.05), spread=0.8, scale=1.0, mean=0.0):
    """Unbalanced Gaussian classes with a random, anisotropic covariance."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(
        np.arange(len(sizes)), np.maximum(2, np.round(np.array(sizes) * n)).astype(int)
    )
    centres = spread * rng.normal(size=(len(sizes), p))
    mixing = rng.normal(size=(p, p)) @ np.diag(np.geomspace(1.0, 0.3, p))
    features = centres[codes] + rng.normal(size=(len(codes), p)) @ mixing
    order = rng.permutation(len(codes))
    names = tuple(f"class {c}" for c in range(len(sizes)))
    return Problem(scale * (features + mean)[order], Labels(codes[order].astype(np.int32), names))


def refit_discriminant(x, codes, penalty, row):
    """Log density of one row and each class, less a constant, refitted without the row.

    Priors are the class shares of all rows.
    """
    x = x.astype(np.float64)
    kept = np.arange(len(x)) != row
    classes = [c for c in np.unique(codes) if np.any(codes[kept] == c)]
    means = {c: np.mean(x[kept & (codes == c)], axis=0) for c in classes}
    deviations = np.stack([x[i] - means[codes[i]] for i in np.flatnonzero(kept)])
    scatter = deviations.T @ deviations + penalty * np.eye(x.shape[1])
    covariance = scatter / (len(x) - 1 - len(classes))
    scores = np.full(int(codes.max()) + 1, -np.inf)
    for c in classes:
        b = x[row] - means[c]
        scores[c] = np.log(np.mean(codes == c)) - 0.5 * b @ np.linalg.solve(covariance, b)
    return scores


def standardised(x):
    """Columns of standard deviation 1; the mean is left to the probes."""
    x = np.asarray(x, np.float64)
    deviation = np.std(x, axis=0)
    return x / np.where(deviation > 0, deviation, 1.0)


def brute_discriminant(x, codes, strengths):
    x = standardised(x)
    n = len(x)
    own = np.eye(int(codes.max()) + 1, dtype=bool)[codes]
    losses, classes = [], []
    for strength in strengths:
        penalty = strength * np.trace(within_scatter(x, codes)) / x.shape[1]
        scores = np.stack([refit_discriminant(x, codes, penalty, i) for i in range(n)])
        counted = np.isfinite(scores[own])
        odds = logsumexp(np.where(own, -np.inf, scores)[counted], axis=1) - scores[own][counted]
        losses.append(np.logaddexp(0.0, odds))
        classes.append(np.argmax(scores, axis=1))
    return np.array(losses), np.array(classes)


def within_scatter(x, codes):
    deviations = x - np.stack([np.mean(x[codes == c], axis=0) for c in codes])
    return deviations.T @ deviations


def brute_ridge(x, codes, strengths):
    x = standardised(x)
    y = np.eye(int(codes.max()) + 1)[codes]
    total = np.sum((x - np.mean(x, axis=0)) ** 2)
    losses, classes = [], []
    for strength in strengths:
        model = Ridge(alpha=strength * total / x.shape[1], solver="cholesky")
        held_out = np.stack(
            [
                model.fit(np.delete(x, i, axis=0), np.delete(y, i, axis=0)).predict(x[i : i + 1])[0]
                for i in range(len(x))
            ]
        )
        losses.append(np.sum((y - held_out) ** 2, axis=1))
        without = (np.sum(y, axis=0) - y) / (len(y) - 1)
        classes.append(np.argmax(held_out - without + np.mean(y, axis=0), axis=1))
    return np.array(losses), np.array(classes)


BRUTE = {"discriminant": brute_discriminant, "ridge": brute_ridge}
FINE = np.logspace(-3, 2, 11)
each_probe = pytest.mark.parametrize("name", list(BRUTE))


def values(found):
    """Metrics of classes, in the order of their fields."""
    return [found.metrics[name].value for name in Classification._fields]


def test_every_probe_has_a_reference():
    others = set(probes.PROBES) - {*BRUTE, "class_means", "neighbours", "logistic", "mlp"}
    assert all(map(has_own_test, others)), others


def check_against_brute(name, features, labels, strengths, rtol):
    losses, classes = BRUTE[name](np.asarray(features, np.float64), labels.codes, strengths)
    errors = np.mean(losses, axis=1)
    found = probes.PROBES[name](features, labels, strengths=strengths, draws=1, select="error")
    np.testing.assert_allclose(found.path.losses, errors, rtol=rtol)
    best = int(np.argmin(errors))
    assert found.path.chosen == strengths[best]
    assert found.metrics[found.loss].value == found.path.losses[best]
    np.testing.assert_array_equal(found.predicted, classes[best])
    np.testing.assert_array_equal(found.target, labels.codes)
    accuracies = np.mean(classes == labels.codes, axis=1)
    np.testing.assert_allclose(found.path.metrics["accuracy"], accuracies, rtol=1e-12)


def test_the_weakest_strength_is_within_half_a_standard_error(monkeypatch):
    """Losses .8, .4 and 2 standard errors above the least, from the weakest strength on."""
    features, labels = problem()

    def path(rows, strengths):
        right = np.tile(rows.codes, (len(strengths), 1))
        losses = np.zeros(right.shape, np.float32)
        return Path(right, np.array([1.08, 1.04, 1.0, 1.2]), np.full(4, 0.1), losses)

    module = importlib.import_module("kernlens.probes.discriminant")  # not the function in it
    monkeypatch.setattr(module, "discriminant_path", path)
    found = probes.discriminant(features, labels, strengths=FEW, draws=1)
    assert found.path.chosen == FEW[1]


@pytest.mark.thorough
@each_probe
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_whole_path_is_refits(name, seed):
    assert len(probes.STRENGTHS) >= 16
    check_against_brute(name, *problem(seed), probes.STRENGTHS, TIGHT)


@each_probe
@pytest.mark.parametrize(
    "options",
    [
        {"p": 1, "sizes": (0.6, 0.4)},
        {"p": 80, "n": 40, "sizes": (0.5, 0.3, 0.2)},  # more features than rows
        {"p": 39, "n": 40, "sizes": (0.6, 0.4)},
        {"sizes": (0.9, 0.1), "spread": 0.0},
    ],
)
def test_other_shapes_are_refits(name, options):
    # At p near n a row left out is nearly all of its own direction: digits go with 1 - leverage.
    check_against_brute(name, *problem(3, **options), FEW, RTOL)


@each_probe
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_precision_on_float32_features_of_any_scale_and_mean(name, scale, mean):
    features, labels = problem(5, scale=scale, mean=mean)
    check_against_brute(name, jnp.asarray(features, jnp.float32), labels, FEW, RTOL)


@each_probe
def test_class_of_one_row_is_refits(name):
    features, labels = problem(2)
    codes = labels.codes.copy()
    codes[np.flatnonzero(codes == 3)[1:]] = 0
    assert np.sum(codes == 3) == 1
    labels = labels._replace(codes=codes)
    check_against_brute(name, features, labels, FEW, TIGHT)
    found = probes.PROBES[name](features, labels)
    assert found.predicted[codes == 3] != 3


def test_rows_beyond_one_chunk_are_refits():
    rng = np.random.default_rng(0)
    n = 5000
    codes = rng.integers(3, size=n).astype(np.int32)
    features = rng.normal(size=(n, 4)) + rng.normal(size=(3, 4))[codes]
    found = probes.discriminant(features, Labels(codes, ("a", "b", "c")), strengths=[0.1])
    features = standardised(features)
    means = np.stack([np.mean(features[codes == c], axis=0) for c in range(3)])
    deviations = features - means[codes]
    scatter = deviations.T @ deviations
    penalty = 0.1 * np.trace(scatter) / 4
    rows = [0, 4095, 4096, 4999]
    refits = [np.argmax(refit_discriminant(features, codes, penalty, i)) for i in rows]
    np.testing.assert_array_equal(found.predicted[rows], refits)
    offsets = features[:, None] - means
    inverse = np.linalg.inv((scatter + penalty * np.eye(4)) / (n - 3))
    scores = np.log(np.bincount(codes) / n)
    scores = scores - 0.5 * np.einsum("nkp,pq,nkq->nk", offsets, inverse, offsets)
    loss = np.mean(logsumexp(scores, axis=1) - scores[np.arange(n), codes])
    # The rows left out change the loss by a share of about p * C / n, and never for the better.
    np.testing.assert_allclose(found.metrics[found.loss].value, loss, rtol=5e-3)
    assert found.metrics[found.loss].value > loss


@pytest.mark.thorough
def test_more_classes_than_rows_of_a_chunk_are_refits():
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(600), rng.integers(600, size=700)]).astype(np.int32)
    features = rng.normal(size=(1300, 3)) + 2.0 * rng.normal(size=(600, 3))[codes]
    labels = Labels(codes, tuple(map(str, range(600))))
    sizes = {x.shape[0] for x, _, _ in chunks(select_rows(features, labels))}
    assert max(sizes) < 600
    found = probes.discriminant(features, labels, strengths=[0.1], draws=1)
    features = standardised(features)
    penalty = 0.1 * np.trace(within_scatter(features, codes)) / 3
    counted = np.flatnonzero(np.bincount(codes)[codes] > 1)
    for row in counted[[0, 1, -2, -1]]:
        scores = refit_discriminant(features, codes, penalty, row)
        assert found.predicted[row] == np.argmax(scores)
        loss = logsumexp(scores) - scores[codes[row]]
        np.testing.assert_allclose(found.losses[row], loss, rtol=1e-5)


def test_discriminant_without_penalty_is_scikit_learns():
    features, labels = problem(4)
    found = probes.discriminant(features, labels, strengths=[probes.MIN_STRENGTH])
    priors = np.bincount(labels.codes) / len(labels.codes)
    losses, classes = [], []
    for i in range(len(features)):
        # The solver that divides the within-class scatter by rows minus classes, as the probe does.
        model = LinearDiscriminantAnalysis(solver="svd", priors=priors)
        model.fit(np.delete(features, i, axis=0), np.delete(labels.codes, i))
        posterior = model.predict_log_proba(features[i : i + 1])[0]
        losses.append(-posterior[labels.codes[i]])
        classes.append(np.argmax(posterior))
    # The smallest strength moves the loss by about its ratio to the smallest eigenvalue.
    np.testing.assert_allclose(found.metrics[found.loss].value, np.mean(losses), rtol=RTOL)
    np.testing.assert_array_equal(found.predicted, classes)


@each_probe
def test_metrics_are_scikit_learns_of_the_predicted_classes(name):
    features, labels = problem(6)
    found = probes.PROBES[name](features, labels)
    target, predicted = found.target, found.predicted
    np.testing.assert_allclose(
        values(found),
        [
            accuracy_score(target, predicted),
            f1_score(target, predicted, average="micro"),
            f1_score(target, predicted, average="macro", zero_division=0),
            balanced_accuracy_score(target, predicted),
        ],
        rtol=1e-12,
    )
    at = list(found.path.strengths).index(found.path.chosen)
    assert [found.path.metrics[name][at] for name in Classification._fields] == values(found)


@each_probe
def test_scales_shift_and_order_do_not_matter_and_rotation_where_scales_are_kept(name):
    features, labels = problem(7)
    run = functools.partial(probes.PROBES[name], strengths=FEW)
    whole = run(features, labels)
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    kept = run(features, labels, standardised=False)
    for changed, options, base in (
        (features * 4096.0, {}, whole),
        (features * np.geomspace(1e-4, 1e4, 5), {}, whole),
        (features + 100.0, {}, whole),
        (features * 4096.0, {"standardised": False}, kept),
        (features @ rotation, {"standardised": False}, kept),
    ):
        found = run(changed, labels, **options)
        np.testing.assert_allclose(found.path.losses, base.path.losses, rtol=TIGHT)
        np.testing.assert_array_equal(found.predicted, base.predicted)
    base = whole
    order = rng.permutation(len(features))
    found = run(features[order], labels._replace(codes=labels.codes[order]))
    np.testing.assert_allclose(found.path.losses, base.path.losses, rtol=TIGHT)
    np.testing.assert_array_equal(found.predicted, base.predicted[order])
    for metric in Classification._fields:
        assert found.metrics[metric] == base.metrics[metric]  # the same cells, the same draws


@each_probe
@pytest.mark.parametrize(("p", "num_classes"), [(3, 3), (3, 2), (40, 4)])
def test_noise_scores_at_chance_with_balanced_classes(name, p, num_classes):
    n, seeds = 600, 24
    codes = np.repeat(np.arange(num_classes), n // num_classes).astype(np.int32)
    labels = Labels(codes, tuple("abcd"[:num_classes]))
    found = [
        probes.PROBES[name](np.random.default_rng(seed).normal(size=(n, p)), labels)
        for seed in range(seeds)
    ]
    chance = 1.0 / num_classes
    accuracies = [one.metrics["accuracy"].value for one in found]
    # Selection and rows in common make an accuracy vary more than a binomial of n rows does.
    error = np.std(accuracies, ddof=1) / np.sqrt(seeds)
    assert abs(np.mean(accuracies) - chance) < 4 * error
    assert np.std(accuracies) < 3 * np.sqrt(chance * (1 - chance) / n)
    held = [one.metrics["accuracy"].low <= chance <= one.metrics["accuracy"].high for one in found]
    assert np.mean(held) > 0.6


@each_probe
def test_names_and_absent_classes_do_not_matter(name):
    features, labels = problem(8)
    base = probes.PROBES[name](features, labels)
    moved = np.array([5, 1, 2, 7], np.int32)[labels.codes]
    found = probes.PROBES[name](features, Labels(moved, tuple("abcdefghi")))
    np.testing.assert_allclose(found.path.losses, base.path.losses, rtol=TIGHT)
    np.testing.assert_array_equal(found.predicted, np.array([5, 1, 2, 7])[base.predicted])
    np.testing.assert_array_equal(found.target, moved)
    np.testing.assert_allclose(values(found), values(base), rtol=1e-12)


@each_probe
def test_rows_without_a_label_are_left_out(name):
    features, labels = problem(9)
    hidden = np.where(np.arange(len(features)) % 5 == 0, -1, labels.codes).astype(np.int32)
    with_nan = np.where((hidden < 0)[:, None], np.nan, features)
    found = probes.PROBES[name](with_nan, labels._replace(codes=hidden))
    kept = hidden >= 0
    expected = probes.PROBES[name](features[kept], labels._replace(codes=hidden[kept]))
    np.testing.assert_array_equal(found.path.losses, expected.path.losses)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
    assert found.metrics == expected.metrics
    thinned = drop_rare(labels, 10)
    assert len(probes.PROBES[name](features, thinned).predicted) == np.sum(thinned.codes >= 0)


@pytest.mark.thorough
@each_probe
@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_weakest_is_within_half_a_standard_error(name, seed):
    features, labels = problem(seed, n=90, sizes=(0.5, 0.3, 0.2), spread=1.5)
    losses, _ = BRUTE[name](np.asarray(features, np.float64), labels.codes, FINE)
    errors = np.mean(losses, axis=1)
    least = np.argmin(errors)
    near = errors <= errors[least] + 0.5 * np.std(losses[least]) / np.sqrt(len(labels.codes))
    found = probes.PROBES[name](features, labels, strengths=FINE)
    assert found.path.chosen == np.min(FINE[near])
    least = probes.PROBES[name](features, labels, strengths=FINE, select="error")
    assert found.path.chosen <= least.path.chosen
    assert seed != 4 or found.path.chosen < least.path.chosen  # the rule is seen at work


@each_probe
def test_select_takes_the_best_of_the_path(name):
    features, labels = problem(10)
    for metric in Classification._fields:
        found = probes.PROBES[name](features, labels, select=metric)
        path = found.path.metrics[metric]
        assert found.metrics[metric].value == np.max(path)
        assert found.path.chosen == np.max(found.path.strengths[path == np.max(path)])


def macro_f1(target, predicted):
    """Mean F1 of the classes that occur on either side; scikit-learn's takes milliseconds."""
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (target, predicted), 1)
    sizes = confusion.sum(0) + confusion.sum(1)
    return np.mean(2.0 * np.diag(confusion)[sizes > 0] / sizes[sizes > 0])


@each_probe
def test_the_interval_of_the_loss_is_that_of_a_mean(name):
    features, labels = problem(11, n=120)
    found = probes.PROBES[name](features, labels, level=0.8)
    assert found.metrics[found.loss].value == pytest.approx(np.mean(found.losses), rel=1e-6)
    low, high = ttest_1samp(found.losses, 0.0).confidence_interval(0.8)
    wider = np.sqrt(spread.OTHER) * (high - low)  # other rows to learn from, too
    sample = found.samples[found.loss]
    # Student's t of 119 degrees of freedom is 1% wider than the normal.
    np.testing.assert_allclose(sample.high - sample.low, wider, rtol=0.02)
    assert sample.value == found.metrics[found.loss].value
    losses, _ = BRUTE[name](features, labels.codes, [found.path.chosen])
    np.testing.assert_allclose(found.losses, losses[0], rtol=RTOL, atol=1e-6)


@pytest.mark.thorough
def test_the_loss_of_a_row_alone_in_its_class_is_infinite_and_not_counted():
    features, labels = problem(2, sizes=(0.6, 0.4))
    codes = labels.codes.copy()
    codes[7] = 2
    found = probes.discriminant(features, Labels(codes, ("a", "b", "c")))
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(found.losses)), [7])
    other = probes.discriminant(features[:, :2], Labels(codes, ("a", "b", "c")))
    gap = probes.paired_difference(found, other, metric="log_loss")
    assert np.all(np.isfinite([gap.value, gap.low, gap.high]))
    assert gap.value == pytest.approx(
        found.metrics[found.loss].value - other.metrics[other.loss].value
    )


@each_probe
def test_seed_and_level(name):
    features, labels = problem(12)
    run = functools.partial(probes.PROBES[name], features, labels, strengths=FEW)
    assert run(seed=1).metrics == run(seed=1).metrics
    assert run(seed=1).metrics != run(seed=2).metrics
    assert run(level=0.5).means["macro_f1"].low > run(level=0.99).means["macro_f1"].low


@pytest.mark.thorough
def test_paired_difference_is_that_of_resampled_rows():
    features, labels = problem(13, n=200)
    a = probes.discriminant(features, labels)
    b = probes.discriminant(features[:, :3], labels)
    found = probes.paired_difference(a, b, level=0.8)
    assert found.value == pytest.approx(
        a.metrics["macro_f1"].value - b.metrics["macro_f1"].value, abs=1e-12
    )
    rng = np.random.default_rng(0)
    sample = []
    for _ in range(600):
        d = rng.integers(len(a.target), size=len(a.target))
        one, other = (macro_f1(a.target[d], side.predicted[d]) for side in (a, b))
        sample.append(one - other)
    # As above, 600 draws.
    slack = 4 * 1.7 * np.std(sample) / np.sqrt(600)
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(sample, [0.1, 0.9]), rtol=0, atol=slack
    )


def test_a_difference_of_last_digits_is_none():
    features, labels = problem(14, n=300)
    one = probes.discriminant(features, labels)

    def with_losses(times):
        losses = np.float32(times) * one.losses
        value = one.metrics["log_loss"]._replace(value=float(np.mean(losses, dtype=np.float64)))
        return one._replace(losses=losses, metrics={**one.metrics, "log_loss": value})

    for compared in (probes.paired_difference, lambda *a, **k: probes.differences(*a, **k).sample):
        same = compared(with_losses(1.0 + 1e-6), one, metric="log_loss")
        assert 0.0 == same.low < same.value < same.high
        assert compared(with_losses(1.001), one, metric="log_loss").separated


def test_paired_difference_laws():
    features, labels = problem(14, n=200)
    a, b = probes.discriminant(features, labels), probes.ridge(features[:, :1], labels)
    same = probes.paired_difference(a, a)
    assert same == Interval(0.0, 0.0, 0.0, 0.9)
    assert not same.separated
    for metric in Classification._fields:
        forth = probes.paired_difference(a, b, metric=metric)
        assert forth.separated == (forth.low > 0 or forth.high < 0)
        assert forth.low <= forth.value <= forth.high
        assert a.metrics[metric].value - b.metrics[metric].value == pytest.approx(forth.value)
    assert probes.paired_difference(a, b).separated
    with pytest.raises(ValueError, match="same rows and labels"):
        probes.paired_difference(
            a, probes.ridge(features[1:], Labels(labels.codes[1:], labels.names))
        )
    with pytest.raises(ValueError, match="metric must be one that"):
        probes.paired_difference(a, b, metric="f1")


@each_probe
@pytest.mark.parametrize("value", [0.0, -3.3e4, 0.1])
def test_constant_features_give_the_largest_class(name, value):
    codes = np.repeat([0, 1, 2], [30, 12, 8]).astype(np.int32)
    found = probes.PROBES[name](np.full((50, 4), value, np.float32), Labels(codes, ("a", "b", "c")))
    np.testing.assert_array_equal(found.predicted, 0)
    assert found.metrics["accuracy"].value == 0.6
    assert found.metrics["balanced_accuracy"].value == pytest.approx(1 / 3, rel=1e-12)
    assert found.path.chosen == min(found.path.strengths)


@each_probe
@pytest.mark.parametrize("spread", [0.0, 1e-153])
def test_classes_of_hardly_any_spread_are_told_apart(name, spread):
    codes = np.repeat([0, 1, 2], [10, 8, 6]).astype(np.int32)
    noise = spread * np.random.default_rng(0).normal(size=(24, 5))
    found = probes.PROBES[name](np.eye(5)[codes] + noise, Labels(codes, ("a", "b", "c")))
    assert found.metrics["macro_f1"].value == 1.0
    assert found.metrics["macro_f1"].high == 1.0
    assert 0.0 <= found.metrics[found.loss].value < 1e-3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e30, 3e38, -3e38]),
            st.sampled_from([0.0, 2.0, 1e-3, 1e4]),
        ),
        min_size=6,
        max_size=8,
    ),
    st.sampled_from(list(BRUTE)),
)
def test_degenerate_features_never_leave_nan(rows, name):
    codes = np.array([r[0] for r in rows], np.int32)
    features = np.array([r[1:] for r in rows], np.float32)
    labels = Labels(codes, ("a", "b", "c"))
    if len(np.unique(codes)) < 2:
        with pytest.raises(ValueError, match="two classes or more"):
            probes.PROBES[name](features, labels)
        return
    found = probes.PROBES[name](features, labels, draws=20)
    numbers = [found.path.chosen, *(end for own in found.metrics.values() for end in own[:3])]
    assert np.all(np.isfinite(numbers))
    assert np.all(np.isfinite(found.path.losses))
    assert set(found.predicted) <= set(codes)


GOOD = problem(0)


@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (GOOD.features[:, 0], GOOD.labels, {}, r"features must be \[n, p\]"),
        (GOOD.features[1:], GOOD.labels, {}, "got features"),
        (GOOD.features[:, :0], GOOD.labels, {}, "p >= 1"),
        (GOOD.features + 0j, GOOD.labels, {}, "real numbers; got dtype complex128"),
        (GOOD.features.astype(str), GOOD.labels, {}, "real numbers"),
        (
            np.where(np.arange(len(GOOD.features))[:, None] % 20 == 3, np.inf, GOOD.features),
            GOOD.labels,
            {},
            "3 of 47 labelled rows are not, the first is row 3",
        ),
        (GOOD.features, GOOD.labels._replace(codes=0 * GOOD.labels.codes), {}, r"\['class 0'\]"),
        (GOOD.features, GOOD.labels._replace(codes=0 * GOOD.labels.codes - 1), {}, r"got \[\]"),
        (GOOD.features, GOOD.labels._replace(names=("a",)), {}, r"codes must lie in -1..0"),
        (np.eye(4), Labels(np.array([0, 1, 2, 0]), ("a", "b", "c")), {}, "4 labelled rows of 3"),
        (*GOOD, {"strengths": [0.0, 1.0]}, "strengths must be at least"),
        (*GOOD, {"strengths": []}, "strengths must be finite numbers"),
        (*GOOD, {"strengths": [np.nan]}, "strengths must be finite numbers"),
        (*GOOD, {"level": 0.0}, "level"),
        (*GOOD, {"draws": 0}, "draws"),
        (*GOOD, {"select": "f1"}, "select must be 'weakest', 'error' or"),
    ],
)
@each_probe
def test_mistakes_are_named(name, features, labels, options, message):
    with pytest.raises(ValueError, match=message):
        probes.PROBES[name](features, labels, **options)

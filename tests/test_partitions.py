"""Values over several partitions of the rows, and over the penalties that may be chosen."""

import importlib

import numpy as np
import pytest

import kernlens as kl
from kernlens import metrics, probes
from kernlens.probes import partitions
from kernlens.probes.by_folds import by_fold
from kernlens.probes.design import design, refolded
from kernlens.probes.folds import FOLDS, share_out
from kernlens.types import Labels
from tests.cases import gaussian_classes

MODULE = importlib.import_module("kernlens.probes.logistic")  # the package has the function

N = 240
PROBLEM = gaussian_classes(0, n=N, separation=1.0)
X = PROBLEM.x.astype(np.float32)
LABELS = Labels(PROBLEM.codes, tuple("abcd"))
OWN = np.arange(N)


def answers(rng, share):
    """Classes of which a share is right."""
    right = rng.random(N) < share
    return np.where(right, PROBLEM.codes, (PROBLEM.codes + 1) % 4).astype(np.int32)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_chances_are_those_of_a_loop_over_drawn_rows(metric):
    rng = np.random.default_rng(0)
    predicted = np.stack([answers(rng, share) for share in (0.7, 0.72, 0.68)])
    groups = OWN // 2
    folds = share_out(PROBLEM.codes, groups, seed=0)
    folds[:6] = -1
    found = partitions.chances(PROBLEM.codes, folds, groups, predicted, metric, seed=3)
    times = np.random.default_rng([3, 2]).poisson(1.0, (partitions.DRAWS, N // 2))
    expected = np.zeros((FOLDS, 3))
    for k in range(FOLDS):
        for draw in times:
            rows = np.repeat(OWN, np.where((folds >= 0) & (folds != k), draw[groups], 0))
            quality = [
                getattr(
                    metrics.from_counts(*metrics.counts(PROBLEM.codes[rows], p[None, rows], 4)),
                    metric,
                )[0]
                for p in predicted
            ]
            expected[k, int(np.argmax(np.round(quality, 12)))] += 1 / partitions.DRAWS
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert 0.05 < found.max() < 0.95 or metric == "macro_f1"


def test_of_equal_penalties_the_strongest_is_taken_and_of_unlike_ones_the_better():
    rng = np.random.default_rng(0)
    folds = share_out(PROBLEM.codes, OWN, seed=0)
    same = answers(rng, 0.7)
    found = partitions.chances(PROBLEM.codes, folds, OWN, np.stack([same, same]), "accuracy")
    np.testing.assert_array_equal(found, np.tile([1.0, 0.0], (FOLDS, 1)))
    two = np.stack([same, answers(rng, 0.99)])
    found = partitions.chances(PROBLEM.codes, folds, OWN, two, "macro_f1")
    np.testing.assert_array_equal(found, np.tile([0.0, 1.0], (FOLDS, 1)))


def test_other_partitions_move_a_value_as_they_move_that_of_the_best_penalty():
    values = {"accuracy": np.array([[0.5, 0.7], [0.6, 0.6]])}
    chance = np.array([[1.0, 0.0], [0.5, 0.5]])
    alone = partitions.averaged(values, chance, 1, [])
    assert alone == {"accuracy": pytest.approx(np.mean([0.5, 0.65]))}
    moved = partitions.averaged(values, chance, 1, [{"accuracy": 0.63}, {"accuracy": 0.66}])
    assert moved["accuracy"] == pytest.approx(alone["accuracy"] + 0.03)


def test_a_penalty_that_diverged_and_is_never_taken_spoils_nothing():
    values = {"log_loss": np.array([[0.5] * 5, [np.nan] * 5])}
    found = partitions.averaged(values, np.tile([1.0, 0.0], (5, 1)), 0, [{"log_loss": 0.8}])
    assert found["log_loss"] == pytest.approx(0.65)
    most = partitions.averaged({"accuracy": np.ones((1, 5))}, np.ones((5, 1)), 0, [])
    assert most == {"accuracy": 1.0}


def test_rows_in_other_folds_are_those_of_a_design_of_these_folds():
    kept = np.ones(N, bool)
    first, second = (share_out(PROBLEM.codes, OWN, seed=seed) for seed in (0, 1))
    made = design(X, kept, PROBLEM.codes, first)
    found = refolded(made, X, kept, second)
    expected = design(X, kept, PROBLEM.codes, second)
    np.testing.assert_array_equal(found.rows.folds, expected.rows.folds)
    np.testing.assert_array_equal(found.rows.x, expected.rows.x)
    np.testing.assert_allclose(found.roughness, expected.roughness, atol=1e-5)


def test_a_fixed_penalty_is_the_mean_of_three_partitions(monkeypatch):
    found = probes.logistic(X, LABELS, penalties=1.0)
    share = MODULE.share_out
    given = importlib.import_module("kernlens.probes.given")
    each = []
    for i in range(partitions.PARTITIONS):

        def other(codes, groups, *, seed, i=i):
            return share(codes, groups, seed=[seed, i] if i else seed)

        monkeypatch.setattr(given, "share_out", other)
        each.append(probes.logistic(X, LABELS, penalties=1.0, repeats=1))
    for name in ("macro_f1", "accuracy", "log_loss"):
        own = [one.metrics[name].value for one in each]
        assert np.ptp(own) > 0
        assert found.metrics[name].value == pytest.approx(np.mean(own), abs=2e-5)
    np.testing.assert_array_equal(found.predicted, each[0].predicted)


def test_rows_without_a_label_are_not_counted_as_rows(monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", N + 10)
    alone = probes.logistic(X, LABELS, penalties=1.0)
    more = LABELS._replace(codes=np.r_[LABELS.codes, np.full(N, -1, np.int32)])
    among = probes.logistic(np.r_[X, X], more, penalties=1.0)
    for name, value in alone.metrics.items():
        assert among.metrics[name] == value


@pytest.mark.thorough
def test_a_value_hangs_less_on_the_seed():
    def spread(**options):
        made = [probes.logistic(X, LABELS, seed=seed, draws=1, **options) for seed in range(8)]
        return np.std([one.metrics["macro_f1"].value for one in made])

    assert spread() < 0.8 * spread(repeats=1)


def test_rows_learnt_by_heart_have_an_optimum_in_every_partition():
    """Where all rows are fitted, curvature is lost in rounding and a step without end was taken."""
    rng = np.random.default_rng(0)
    n, dim, num_classes = 249, 384, 9
    codes = rng.integers(num_classes, size=n)
    codes[:num_classes] = np.arange(num_classes)
    noise = 3.0 * rng.normal(size=(n, dim)) / np.sqrt(np.arange(1, dim + 1))
    x = 0.3 * rng.normal(size=(num_classes, dim))[codes] + noise
    x[-49:], codes[-49:] = x[:49], codes[:49]
    labels = Labels(codes.astype(np.int32), tuple("abcdefghi"))
    one, three = (
        probes.logistic(x.astype(np.float32), labels, penalties=0.01, repeats=repeats)
        for repeats in (1, 3)
    )
    for name in ("macro_f1", "log_loss"):
        assert three.metrics[name].value == pytest.approx(one.metrics[name].value, abs=0.03)


@pytest.mark.thorough
def test_ways_to_serve_hang_less_on_how_items_fall_into_folds():
    rng = np.random.default_rng(1)
    old = PROBLEM.x + 0.5 * rng.normal(size=PROBLEM.x.shape)
    new = PROBLEM.x + 0.5 * rng.normal(size=PROBLEM.x.shape)
    values: dict[str, list[float]] = {"one": [], "three": []}
    for seed in range(8):
        found = kl.upgrade(old, new, LABELS, maps=("rotation",), penalty=1.0, seed=seed)
        way = found.ways["rotation"]
        (own,) = by_fold(
            PROBLEM.codes, way.prediction.predicted[None], found.before.held_out.folds
        )[:1]
        values["one"].append(float(np.mean(own)))
        values["three"].append(way.prediction.metrics["accuracy"].value)
        interval = way.prediction.metrics["accuracy"]
        assert interval.low <= interval.value <= interval.high
    spread = {name: np.std(own) for name, own in values.items()}
    assert spread["three"] < 0.85 * spread["one"], spread
    assert abs(np.mean(values["three"]) - np.mean(values["one"])) < 0.01

"""The logistic probe against refits of each fold by scikit-learn, and its laws."""

import importlib
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import kernlens as kl
from kernlens import probes
from kernlens.models import decoders
from kernlens.probes import folds as folds_
from kernlens.probes import partitions
from kernlens.probes.given import sorted_rows
from kernlens.types import Labels
from tests.cases import gaussian_classes

MODULE = importlib.import_module("kernlens.probes.logistic")  # the package has the function
GIVEN = importlib.import_module("kernlens.probes.given")

PROBLEM = gaussian_classes(0, n=240, separation=1.0)
X = PROBLEM.x.astype(np.float32)
LABELS = Labels(PROBLEM.codes, tuple("abcd"))
PATH = (100.0, 1.0, 0.1)


def refitted(x, codes, folds, penalty):
    """Held-out probabilities by one fit a fold, in float64."""
    found = np.zeros((len(x), codes.max() + 1))
    for k in range(folds.max() + 1):
        train, test = folds != k, folds == k
        scaler = StandardScaler().fit(x[train].astype(np.float64))
        fitted = LogisticRegression(C=1.0 / penalty, tol=1e-10, max_iter=5000, solver="newton-cg")
        fitted.fit(scaler.transform(x[train].astype(np.float64)), codes[train])
        given = fitted.predict_proba(scaler.transform(x[test].astype(np.float64)))
        found[np.ix_(test, fitted.classes_)] = given
    return found


@pytest.mark.parametrize("penalty", PATH)
def test_every_fold_is_the_optimum_of_its_own_training_rows(penalty):
    found = probes.logistic(X, LABELS, penalties=penalty).held_out
    expected = refitted(X, PROBLEM.codes, found.folds, penalty)
    np.testing.assert_allclose(np.exp(found.log_probabilities), expected, atol=3e-3)
    np.testing.assert_array_equal(found.predicted, np.argmax(expected, axis=1))


def test_the_optimum_is_reached_on_a_path_too():
    """Warm from one penalty to the next, where they are far apart."""
    given = sorted_rows(X, LABELS, max_rows=None, groups=None, seed=0)
    fitted = MODULE.fit_path(given, np.array(PATH), "log_loss")
    for i, penalty in enumerate(PATH):
        found = MODULE._log_probabilities(fitted, np.full(folds_.FOLDS, i))
        expected = refitted(X, PROBLEM.codes, given.folds, penalty)
        np.testing.assert_allclose(np.exp(found), expected, atol=3e-3)
    assert fitted.converged.all()


def test_of_many_rows_metrics_are_means_over_folds_and_a_penalty_is_chosen_on_the_others(
    monkeypatch,
):
    monkeypatch.setattr(partitions, "MAX_ROWS", len(X) - 1)
    found = probes.logistic(X, LABELS, penalties=PATH, metric="accuracy")
    own = {p: probes.logistic(X, LABELS, penalties=p) for p in PATH}
    folds = found.held_out.folds
    right = {p: (v.predicted == v.target) for p, v in own.items()}
    values = []
    for k in range(folds_.FOLDS):
        others = [np.mean([right[p][folds == j].mean() for j in range(5) if j != k]) for p in PATH]
        values.append(right[PATH[int(np.argmax(np.round(others, 12)))]][folds == k].mean())
    np.testing.assert_allclose(found.value.value, np.mean(values), atol=1e-6)
    assert found.metric == "accuracy"
    losses = -found.held_out.log_probabilities[np.arange(240), found.target]
    expected = np.mean([losses[folds == k].mean() for k in range(5)])
    np.testing.assert_allclose(found.metrics["log_loss"].value, expected, rtol=1e-6)


def test_units_and_places_of_columns_do_not_matter():
    rng = np.random.default_rng(1)
    wild = PROBLEM.x * 10.0 ** rng.uniform(-4, 4, 6) + 10.0 ** rng.uniform(-3, 3, 6)
    wild = np.hstack([wild, np.full((240, 1), 7.0)])
    plain, found = (probes.logistic(x, LABELS, penalties=PATH) for x in (PROBLEM.x, wild))
    np.testing.assert_allclose(
        found.held_out.log_probabilities, plain.held_out.log_probabilities, atol=2e-3
    )
    assert found.value == plain.value


def test_order_of_rows_and_of_classes_does_not_matter(monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", 0)
    plain = probes.logistic(X, LABELS, penalties=1.0)
    rng = np.random.default_rng(2)
    rows, names = rng.permutation(240), rng.permutation(4)
    labels = Labels(names[PROBLEM.codes[rows]].astype(np.int32), LABELS.names)
    with mock.patch.object(GIVEN, "share_out", return_value=plain.held_out.folds[rows]):
        found = probes.logistic(X[rows], labels, penalties=1.0)
    np.testing.assert_allclose(
        found.held_out.log_probabilities[:, names], plain.held_out.log_probabilities[rows],
        atol=5e-3,
    )  # fmt: skip
    np.testing.assert_allclose(found.value.value, plain.value.value, atol=1e-6)


def test_halves_keep_copies_together_and_the_order_of_rows():
    rows = np.array([5, 0, 3, 2, 4, 1, 6])
    one, other = folds_.halves(rows, np.arange(7))
    assert [list(one), list(other)] == [[5, 0, 3, 2], [4, 1, 6]]
    one, other = folds_.halves(
        rows, np.array([9, 8, 7, 9, 8, 7, 6])
    )  # of 0 and 3, 1 and 4, 2 and 5
    assert [list(one), list(other)] == [[5, 0, 3, 2], [4, 1, 6]]
    assert list(folds_.in_order(np.array([9, 7, 9, 8]))) == [0, 1, 0, 2]
    assert [len(half) for half in folds_.halves(rows[:0], np.arange(7))] == [0, 0]


def test_folds_share_out_classes_and_keep_copies_together():
    codes = np.repeat([0, 1, 2, 3], [103, 40, 3, 1])
    groups = np.arange(147)
    groups[:5] = 0
    folds = folds_.share_out(codes, groups)
    assert folds[-1] == -1
    assert len(set(folds[:5])) == 1
    for c, size in ((0, 103), (1, 40)):
        counts = np.bincount(folds[codes == c], minlength=5)
        assert np.ptp(counts) <= (6 if c == 0 else 0)
        assert counts.sum() == size
    held = folds_.held_rows(codes, folds, num_folds=5)
    # A class of three rows is in three folds, and tested in all, as in every split.
    assert all(np.any(codes[rows] == 2) for rows in held)
    assert not any(np.any(codes[rows] == 3) for rows in held)


@pytest.mark.thorough
def test_copies_are_told_and_do_not_flatter():
    codes = np.tile(PROBLEM.codes, 5)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(240, 60)).astype(np.float32)
    labels = Labels(codes, LABELS.names)
    found = probes.logistic(np.tile(noise, (5, 1)), labels, penalties=1.0)
    assert any("960 of 1,200 rows are copies" in note for note in found.notes)
    once = probes.logistic(noise, LABELS, penalties=0.2)
    assert abs(found.metrics["accuracy"].value - once.metrics["accuracy"].value) < 0.06
    apart = probes.logistic(np.tile(noise, (5, 1)), labels, penalties=1.0, groups=np.arange(1200))
    assert apart.metrics["accuracy"].value > found.metrics["accuracy"].value + 0.15


def test_few_distinct_values_are_no_copies():
    x = np.eye(4, dtype=np.float32)[PROBLEM.codes]
    found = probes.logistic(x, LABELS, penalties=1.0)
    assert not any("copies" in note for note in found.notes)
    assert found.metrics["accuracy"].value == 1.0


def test_small_classes_are_named_and_do_no_harm():
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(194), rng.integers(72, 194, 400)]).astype(np.int32)
    x = rng.normal(size=(len(codes), 8)) + 3.0 * rng.normal(size=(194, 8))[codes]
    labels = Labels(codes, tuple(f"class {c}" for c in range(194)))
    found = probes.logistic(x, labels, penalties=1.0)
    lonely = np.bincount(codes) == 1
    assert any("72 of 194 classes have one distinct row" in n and "class 0" in n
               for n in found.notes) == (lonely.sum() == 72)  # fmt: skip
    assert np.all(found.held_out.folds[lonely[codes]] == -1)
    assert np.all(found.predicted[lonely[codes]] != codes[lonely[codes]])
    assert np.isfinite(found.metrics["log_loss"].value)
    assert found.value.low <= found.value.value <= found.value.high


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"penalties": 0.0}, "penalties must be positive and finite"),
        ({"penalties": ()}, "penalties must be positive and finite"),
        ({"metric": "auc"}, "metric must be one that the probe gives"),
        ({"level": 1.0}, "level in"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        probes.logistic(X, LABELS, **options)


def test_rows_that_cannot_be_held_out_are_refused():
    with pytest.raises(ValueError, match="no class has two distinct rows"):
        probes.logistic(X[:4], Labels(np.arange(4, dtype=np.int32), tuple("abcd")))
    with pytest.raises(ValueError, match="two classes or more"):
        probes.logistic(X, Labels(np.zeros(240, np.int32), ("a", "b")))


@pytest.mark.thorough
def test_a_sample_is_stratified_and_told():
    found = probes.logistic(X, LABELS, penalties=1.0, max_rows=120)
    assert abs(len(found.target) - 120) <= 4
    assert "stratified sample of" in found.notes[0]
    counts, all_counts = np.bincount(found.target), np.bincount(PROBLEM.codes)
    np.testing.assert_allclose(counts, all_counts / 2, atol=1)


def test_the_metric_that_is_asked_chooses():
    found = kl.predict(X, LABELS, metric="log_loss")
    expected = probes.logistic(X, LABELS, metric="log_loss")
    assert found.value == expected.value
    assert found.path.chosen == found.path.strengths[np.argmin(found.path.losses)]


def test_an_edge_of_the_path_is_told():
    (note,) = (n for n in probes.logistic(X, LABELS, penalties=(1e4, 1e3)).notes if "edge" in n)
    assert "a weaker one may do better" in note


@pytest.mark.thorough
def test_the_mlp_reads_what_a_linear_head_cannot():
    codes = (X[:, 0] * X[:, 1] > 0).astype(np.int32)
    labels = Labels(codes, ("same", "other"))
    x = np.repeat(X, 3, axis=0) + 0.05 * np.random.default_rng(0).normal(size=(720, 6))
    labels = labels._replace(codes=np.repeat(codes, 3))
    found = probes.mlp(x, labels, hidden=64)
    assert found.metrics["accuracy"].value > probes.logistic(x, labels).metrics["accuracy"].value
    same = kl.predict(x, labels, decoder=decoders.Mlp(64))
    np.testing.assert_array_equal(same.predicted, found.predicted)
    deep = probes.mlp(x, labels, hidden=(16, 16))
    assert len(deep.predicted) == 720
    with pytest.raises(ValueError, match="hidden widths must be at least 1"):
        probes.mlp(x, labels, hidden=0)


@pytest.mark.thorough
def test_the_mlp_is_trained_on_each_fold_by_the_recipe():
    from kernlens.train import heads

    found = probes.mlp(X, LABELS, hidden=8, steps=200, seed=3)
    folds = found.held_out.folds
    trained = heads.classify(
        X, LABELS, decoder=decoders.Mlp(8), seeds=range(15, 20), steps=200,
        held_out=folds == np.arange(5)[:, None],
    )  # fmt: skip
    own = trained.predicted[folds, np.arange(len(folds))]
    np.testing.assert_array_equal(found.predicted, own)
    np.testing.assert_allclose(
        found.losses, trained.losses[folds, np.arange(len(folds))], rtol=1e-4, atol=1e-5
    )


@pytest.mark.thorough
def test_a_sample_of_many_rows_is_told():
    (note,) = (n for n in probes.mlp(X, LABELS, hidden=4, steps=20, max_rows=100).notes
               if "sample" in n)  # fmt: skip
    assert "of 240 labelled rows" in note


DEVICES = """
import jax, numpy as np
from kernlens import probes
from tests.test_logistic import LABELS, X
assert jax.device_count() == 8
one = probes.logistic(X, LABELS)
many = probes.logistic(X, LABELS, mesh=jax.make_mesh((4, 2), ("a", "b")))
np.testing.assert_allclose(many.losses, one.losses, rtol=1e-3, atol=1e-4)
assert np.mean(many.predicted == one.predicted) > 0.99
print("same")
"""


@pytest.mark.thorough
def test_eight_devices_give_the_prediction_of_one():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    run = subprocess.run(
        [sys.executable, "-c", DEVICES],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert run.stdout.strip() == "same", run.stderr

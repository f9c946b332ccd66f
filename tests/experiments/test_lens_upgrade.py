"""Verdicts of the experiment of upgrade, and its trained outcomes against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from experiments.kit.verdicts import FAILS, HOLDS, PART
from experiments.lens_upgrade import experiment, summary, views
from experiments.lens_upgrade.trained import (
    FRESH,
    OLD,
    Means,
    corrected,
    on_fresh_items,
    outcomes,
    with_few_labels,
)
from kernlens.lens import maps
from kernlens.show import report
from kernlens.train.heads import stratified_split
from kernlens.types import Labels
from tests import cases


@pytest.mark.parametrize(
    ("met", "verdict"),
    [
        ({"a": True, "b": True}, HOLDS),
        ({"a": True, "b": None}, HOLDS),
        ({"a": True, "b": False}, PART),
        ({"a": False, "b": False}, FAILS),
    ],
)
def test_verdict(met, verdict):
    assert summary.verdict(met) == verdict


def errors(error=0.001, flips=0.001, held=0.9, pairs=4):
    keys = {"macro_f1": error, "negative_flips": flips}
    found = {
        key: {"error": own, "largest": own, "bias": own, "held": held} for key, own in keys.items()
    }
    return {"pairs": pairs, **found}


def test_targets_are_met_or_missed():
    good = {summary.LARGE: errors(), summary.UNLIKE: errors(error=0.029, flips=0.019)}
    found = summary.met(good, {summary.LR: {"mean": 0.004, "largest": 0.1}})
    assert all(own in (True, None) for own in found.values())
    assert found[f"{summary.SMALL}: macro-F1"] is None
    bad = {summary.LARGE: errors(error=0.006, flips=0.003, held=0.99)}
    found = summary.met(bad, {summary.LR: {"mean": 0.006, "largest": 0.1}})
    assert not any(own for own in found.values())


def row(old, raw, rotation):
    values = {OLD: old, "raw": raw, "rotation": rotation}
    ways = {name: {"trained": {"macro_f1": [value]}} for name, value in values.items()}
    return {"ways": ways, "advised": "rotation"}


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([row(0.3, 0.1, 0.25)], HOLDS),
        ([row(0.3, 0.1, 0.25), row(0.3, 0.1, 0.15)], PART),
        ([row(0.3, 0.1, 0.15)], FAILS),
        ([row(0.3, 0.3, 0.4)], FAILS),
    ],
)
def test_another_seed_breaks_a_head_and_a_rotation_mends_it(rows, verdict):
    assert views.reseeded(rows, "here", "a head").verdict == verdict


def test_regret_is_what_the_advised_way_lacks_of_the_best():
    assert summary.regret(row(0.9, 0.4, 0.3)) == pytest.approx(0.1)
    assert summary.regret(row(0.9, 0.2, 0.3)) == 0.0


@pytest.mark.thorough
def test_trained_outcomes_are_scikit_learn_s():
    old, codes, size = cases.gaussian_classes(0, n=300, separation=0.8)
    labels = Labels(codes, tuple("abcd"[:size]))
    new = old @ np.linalg.qr(np.random.default_rng(0).normal(size=(old.shape[1],) * 2))[0] + 2.0
    found = outcomes(old, new, labels, head="LR", names=["raw", "rotation"], splits=2)
    for s in range(2):
        held = stratified_split(s, codes)
        scaler = StandardScaler().fit(old[~held])
        head = LogisticRegression(tol=1e-8, max_iter=5000)
        head.fit(scaler.transform(old[~held]), codes[~held])
        turned = maps.fit("rotation", maps.joint(new[~held], old[~held]))(new)
        before = head.predict(scaler.transform(old[held]))
        for name, rows in (("raw", new), ("rotation", turned)):
            given = head.predict(scaler.transform(rows[held]))
            expected = f1_score(codes[held], given, average="macro")
            assert found[name]["macro_f1"][s] == pytest.approx(expected, abs=0.02)
            wrong = np.mean((before == codes[held]) & (given != codes[held]))
            assert found[name]["negative_flips"][s] == pytest.approx(wrong, abs=0.02)


def test_stored_class_means_meet_the_new_rows_and_are_computed_again():
    old, codes, size = cases.gaussian_classes(0, n=300, separation=0.8)
    labels = Labels(codes, tuple("abcd"[:size]))
    new = 2.0 * old[:, ::-1]
    found = outcomes(old, new, labels, head="class means", names=["raw"], splits=2)
    for s in range(2):
        held = stratified_split(s, codes)
        for name, learnt in (("raw", old), ("retrained", new)):
            means = [learnt[~held & (codes == c)].mean(axis=0) for c in range(size)]
            given = np.argmax(new[held] @ np.transpose(means), axis=1)
            expected = f1_score(codes[held], given, average="macro")
            assert found[name]["macro_f1"][s] == pytest.approx(expected, abs=1e-6)
    lacking = Means(np.array([[[1.0, 0.0], [np.nan, np.nan]]])).scores(-np.ones((3, 2)))
    assert list(np.argmax(lacking[0], axis=1)) == [0, 0, 0]


@pytest.fixture(scope="module")
def versions():
    old, codes, size = cases.gaussian_classes(0, n=600, separation=0.8)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(old.shape[1],) * 2))[0]
    return old, old @ turn + 2.0, Labels(codes, tuple("abcd"[:size]))


def test_a_trained_correction_is_the_verbs(versions):
    from kernlens.lens.refits import _correction

    old, _, labels = versions
    z, codes = old[:80], labels.codes[:80]
    logits = 0.3 * np.random.default_rng(1).normal(size=(80, len(labels.names)))
    known = np.ones(len(labels.names), bool)
    for penalty in (1.0, 100.0):
        expected = _correction(z, logits, codes, penalty, known).T
        np.testing.assert_allclose(corrected(z, logits, codes, penalty), expected, atol=2e-3)


@pytest.mark.thorough
def test_few_labels_are_predicted_as_they_are_trained(versions):
    old, new, labels = versions
    found = with_few_labels(old, new, labels, start="raw", number=50, splits=2)
    assert set(found) == {"few labels", FRESH}
    made = experiment.lens.upgrade(
        old, new, labels, penalty=1.0, maps=("raw",), few_labels=50, draws=10
    )
    predicted = made.ways["few labels"].prediction.value.value
    assert predicted == pytest.approx(np.mean(found["few labels"]["macro_f1"]), abs=0.08)


@pytest.mark.thorough
def test_items_that_heads_have_not_met_are_asked_of_them(versions):
    old, new, labels = versions
    kept = np.arange(600) < 480
    own = labels._replace(codes=labels.codes[kept])
    found = on_fresh_items(
        old[kept], new[kept], own, new[~kept], labels.codes[~kept], names=["rotation"], splits=2
    )
    assert set(found) == {"rotation", "retrained", "distilled"}
    scaler = StandardScaler().fit(old[kept])
    head = LogisticRegression().fit(scaler.transform(old[kept]), own.codes)
    turned = maps.fit("rotation", maps.joint(new[kept], old[kept]))(new[~kept])
    right = np.mean(head.predict(scaler.transform(turned)) == labels.codes[~kept])
    assert np.mean(found["rotation"]["accuracy"]) == pytest.approx(right, abs=0.04)
    judged = experiment.judge_new(old, new, labels, kept, ~kept, 2)
    assert judged["new"] == 120
    told = summary._new(report.to_json({**judged, "pair": "new items, drawn"}))
    assert told["accuracy"]["error"] < 0.08

"""lens_diagnosis: what is planted, how heads are trained, and how targets are judged."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid

from experiments.kit import runner
from experiments.lens_diagnosis import experiment, summary, trained
from experiments.lens_diagnosis.plants import CLEAN, PLANTS, Table
from experiments.lens_diagnosis.summary import MET, MISSED, NOT_JUDGED
from kernlens.lens.causes import CAUSES
from tests.cases import gaussian_classes

PROBLEM = gaussian_classes(1, n=300, dim=8, num_classes=4)
COUNTS = np.random.default_rng(0).zipf(1.6, 300).astype(float)


@pytest.mark.parametrize("name", [name for name in PLANTS if name != CLEAN])
def test_a_fault_changes_the_table_and_leaves_the_clean_one(name):
    before = Table(PROBLEM.x.copy(), PROBLEM.codes.copy(), COUNTS)
    after = PLANTS[name](before, np.random.default_rng(0))
    np.testing.assert_array_equal(before.x, PROBLEM.x)
    np.testing.assert_array_equal(before.codes, PROBLEM.codes)
    assert name in CAUSES
    assert len(after.x) == len(after.codes) == len(after.counts)
    assert set(after.codes) <= set(PROBLEM.codes)
    same = after.x.shape == before.x.shape and np.array_equal(after.x, before.x)
    assert not (same and np.array_equal(after.codes, before.codes))
    if after.same_rows:
        np.testing.assert_array_equal(after.codes, before.codes)


def test_trained_heads_are_those_of_scikit_learn():
    wine: Any = load_wine()
    codes = wine.target
    x = (wine.data - wine.data.mean(0)) / wine.data.std(0)
    (out,) = trained.splits(codes, np.arange(len(codes)), 1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[~out][codes[~out] == c].mean(0) for c in range(3)])
    expected = f1_score(codes[out], np.argmax(unit[out] @ means.T, 1), average="macro")
    found = trained.reached(trained.COSINE, x, codes, [out], None)
    np.testing.assert_allclose(found, [expected])
    # By inner products less half the means' squares, class means would be the nearest centroid.
    means = np.stack([x[~out][codes[~out] == c].mean(0) for c in range(3)])
    nearest = np.argmax(x[out] @ means.T - 0.5 * np.sum(means**2, 1), 1)
    np.testing.assert_array_equal(
        nearest, NearestCentroid().fit(x[~out], codes[~out]).predict(x[out])
    )
    expected = f1_score(codes[out], np.argmax(x[out] @ means.T, 1), average="macro")
    np.testing.assert_allclose(trained.reached(trained.MEANS, x, codes, [out], None), [expected])
    assert trained.reached(trained.LINEAR, x, codes, [out], 1.0)[0] > 0.9


def test_copies_stay_on_one_side_of_a_split():
    groups = np.repeat(np.arange(50), 3)
    codes = (groups % 2).astype(np.int32)
    for out in trained.splits(codes, groups, 3):
        assert np.all(np.ptp(out.reshape(50, 3).astype(int), axis=1) == 0)
        assert 0.15 < out.mean() < 0.25


def line(cause, word, gain=0.0, truth=None, group=None):
    own = {"value": gain, "low": gain - 0.02, "high": gain + 0.02}
    return {
        "cause": cause, "group": group or CAUSES[cause].group, "verdict": word, "score": 1.0,
        "severity": 1.0, "gain": None if truth is None else own, "trained": truth,
    }  # fmt: skip


def row(planted, findings, reached=0.5, head="class means"):
    return {
        "set": "a", "tuned": False, "planted": planted, "head": head, "same_rows": True,
        "reached": reached, "predicted": reached, "findings": findings,
    }  # fmt: skip


ABSENT = line("quantised", "not found")
OUTLIERS = row("outlier rows", [line("outlier rows", "fault", 0.1, 0.11), ABSENT], 0.4)
SILENT = row("outlier rows", [ABSENT, line("outlier rows", "not found")], 0.4)
AFTER = row(
    "outlier rows",
    [line("quantised", "fact"), line("outlier rows", "no gain shown", 0.1, 0.13)], 0.4,
)  # fmt: skip
QUIET = row(CLEAN, [ABSENT])
COARSE = row(CLEAN, [line("quantised", "fact")])
FALSE = row(CLEAN, [line("anisotropy", "fault", 0.1, -0.03), ABSENT])


@pytest.mark.parametrize(
    ("measure", "rows", "value", "count"),
    [
        (summary.firsts, [QUIET, OUTLIERS, AFTER, SILENT], 1 / 3, 3),
        (summary.firsts, [COARSE, OUTLIERS, AFTER, SILENT], 2 / 3, 3),
        (summary.firsts, [COARSE, row("quantised", [line("quantised", "fact")])], 1.0, 1),
        (summary.firsts_of_all, [COARSE, OUTLIERS, AFTER, SILENT], 1 / 3, 3),
        (summary.called, [QUIET, OUTLIERS, SILENT, AFTER], 1 / 3, 3),
        (summary.called, [QUIET, row("outlier rows", [ABSENT], 0.49)], np.nan, 0),
        (summary.false_faults, [QUIET, OUTLIERS], 0.0, 1),
        (summary.false_faults, [QUIET, FALSE], 1 / 3, 3),
        (summary.harmful, [OUTLIERS, FALSE], 0.5, 2),
        (summary.missed, [OUTLIERS, AFTER], 0.5, 2),
        (summary.covered, [OUTLIERS, AFTER], 0.5, 2),
        (summary.error(mlp=False), [OUTLIERS, AFTER], 0.02, 2),
        (summary.error(mlp=True), [OUTLIERS, AFTER], np.nan, 0),
    ],
)
def test_what_is_measured_of_rows(measure, rows, value, count):
    found = measure(rows)
    np.testing.assert_allclose(found[0], value)
    assert found[1] == count


@pytest.mark.parametrize(
    ("value", "count", "word"),
    [(0.95, 10, MET), (0.949, 10, MISSED), (np.nan, 0, NOT_JUDGED), (1.0, 0, NOT_JUDGED)],
)
def test_a_target_is_met_missed_or_not_judged(value, count, word):
    assert summary.verdict(value, count, lambda v: v >= 0.95) == word


@pytest.mark.thorough
def test_the_tiny_version_runs_and_can_be_shown(tmp_path, capsys):
    argv = ["--tiny", "--out", str(tmp_path / "out"), "--cells", str(tmp_path / "cells")]
    assert runner.main(experiment, argv) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["rows"]) == 6
    planted = {(own["planted"], own["head"]): own for own in results["rows"]}
    column = planted["column scales", "class means"]
    assert summary.is_first(column)
    scales = summary.of_cause(column, "column scales")
    assert scales is not None
    assert scales["trained"] > 0.1
    assert [one["target"] for one in results["summary"]["targets"]] == [
        target.text for target in summary.TARGETS
    ]
    assert "Targets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sets", "tea"], "--sets must be of"),
        (["--heads", "tea"], "--heads must be of"),
        (["--planted", "leak"], "--planted needs clean"),
        (["--splits", "0"], "--splits must be at least 1"),
        (["--movielens", "nowhere"], "--movielens: nowhere is not there"),
    ],
)
def test_a_bad_option_is_refused(options, message, capsys, tmp_path):
    assert runner.main(experiment, [*options, "--cells", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err

"""What the coverage of scores of rows and of probes is measured by, against references."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from experiments.interval_coverage import experiment as interval_coverage
from experiments.interval_coverage import others
from experiments.interval_coverage.experiment import Config
from experiments.interval_coverage.line import line
from kernlens import probes
from kernlens.scores import ROWS
from kernlens.types import Labels
from tests import cases

X, CODES, _ = cases.gaussian_classes(0, n=300, separation=0.4)


@pytest.mark.parametrize("name", ["discriminant", "ridge"])
def test_a_classifier_is_the_probes_own_fitted_to_all_rows(name):
    sample = others.Drawn(X[:200], CODES[:200], np.arange(200, 300))
    given = probes.PROBES[name](X[:200], Labels(CODES[:200], tuple("abcd")), strengths=[1e-8])
    told = np.asarray(others.classified(name, sample, X[200:], given))
    # At a vanishing strength these are scikit-learn's.
    if name == "ridge":
        y = np.eye(4)[CODES[:200]]
        expected = np.argmax(Ridge(alpha=1e-8).fit(X[:200], y).predict(X[200:]), axis=1)
    else:
        model = LinearDiscriminantAnalysis().fit(X[:200], CODES[:200])
        expected = model.predict(X[200:])
    np.testing.assert_array_equal(told, expected)


def test_samples_leave_other_rows_to_judge_by():
    drawn = list(others.sampled(X, CODES, 50, 3, (0,)))
    assert len(drawn) == 3
    (once,) = others.sampled(X, CODES, 150, 1, (0,), replace=False)
    assert len(np.unique(once.x, axis=0)) == len(once.rest) == 150
    for one in drawn:
        inside = {row.tobytes() for row in one.x}
        assert not inside & {X[row].tobytes() for row in one.rest}
        assert len(one.rest) > 240


def test_a_line_counts_what_intervals_hold():
    ends = [others.Ends(0.0, 1.0, 0.3), others.Ends(0.4, 0.6, 0.1), others.Ends(0.6, 2.0, 0.2)]
    found = line("m", "t", "s", 9, [0.4, 0.6], 1.5, ends)
    assert (found["target"], found["samples"]) == (0.5, 3)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["population_coverage"] == pytest.approx(1 / 3)
    assert found["standard_error"] == pytest.approx(0.2)


@pytest.mark.slow
def test_rows_and_probes_have_a_line_each():
    config = Config(target_samples=4, samples=3, blocks=5)
    scored = others.cover_rows(X, CODES, 40, config, tuple(ROWS))
    assert [one["score"] for one in scored] == list(ROWS)
    told = others.cover_probes(X, CODES, 40, config, ("discriminant",))
    assert [(one["method"], one["score"]) for one in told] == [
        (method, f"discriminant, {metric}")
        for metric in ("accuracy", "macro-f1")
        for method in ("over rows", "refitted")
    ]
    for one in scored + told:
        numbers = [value for value in one.values() if isinstance(value, float)]
        assert len(numbers) == 6
        assert np.isfinite(numbers).all()
        assert one["standard_error"] > 0


def covered(score, coverage, population="digits", method="jackknife", error=0.2, spread=0.1):
    return {
        "method": method, "table": "labels", "score": score, "rows": 200,
        "population_name": population, "coverage": coverage, "population_coverage": coverage / 2,
        "standard_error": error, "spread": spread,
    }  # fmt: skip


def test_a_score_is_summarised_over_populations_for_each_method():
    rows = [
        covered("gcv", 0.9), covered("gcv", 0.7, "wine", error=0.1), covered("gcv", 0.95, "normal"),
        covered("cca", 0.8), covered("gcv", 0.6, method="bootstrap", spread=0.0),
    ]  # fmt: skip
    found = interval_coverage.summarise(Config(), rows)
    assert [(one["method"], one["score"]) for one in found] == [
        ("jackknife", "gcv"), ("jackknife", "cca"), ("bootstrap", "gcv"),
    ]  # fmt: skip
    first, _, last = found
    assert first["coverage"] == pytest.approx(0.85)
    assert (first["least"], first["least_at"]) == (0.7, "wine, 200 rows")
    assert first["error_ratio"] == pytest.approx(2.0)  # the median of 2, 1 and 2
    assert first["population_coverage"] == pytest.approx(0.425)
    assert last["error_ratio"] == pytest.approx(0.2)  # of a score that never moves, the error


def test_the_page_counts_scores_that_reach_the_coverage():
    names = ("low", "at the limit", "high")
    rows = [covered(n, c) for n, c in zip(names, (0.849, 0.85, 0.99), strict=True)]
    results = {
        "summary": interval_coverage.summarise(Config(), rows), "seconds": 60.0, "command": "c",
        "config": {"samples": 120, "bootstrap_samples": 30, "populations": ["digits"]},
    }  # fmt: skip
    (table,) = interval_coverage.tables(results)
    assert table.cells() == [
        ["jackknife", "120", "0.85", "0.85", "0.99", "2 of 3", "0 of 3", "low"]
    ]  # fmt: skip

"""Causes: laws over their table, planted faults, and statistics against slow references."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from kernlens import targets
from kernlens.lens.causes import ASKED, CAUSES, FACT, HEAD, NATURAL, Cause, remedies
from kernlens.lens.causes.cause import REACH, blame
from kernlens.lens.causes.evidence import Evidence, clipped, standardised
from kernlens.lens.causes.labels import doubt, held_accuracy
from kernlens.lens.diagnose import _evidence
from kernlens.models import decoders
from kernlens.probes import HeldOut, copies, logistic
from kernlens.types import Labels
from tests.cases import gaussian_classes

N, DIM, CLASSES = 600, 10, 4
PROBLEM = gaussian_classes(3, n=N, dim=DIM, num_classes=CLASSES, separation=1.0)
COUNTS = np.random.default_rng(9).zipf(1.7, N).astype(float)


def evidence(x=PROBLEM.x, codes=PROBLEM.codes, **options) -> Evidence:
    names = tuple(map(str, range(int(codes.max()) + 1)))
    given = {
        "decoder": None, "counts": None, "reference": None, "text": None, "metric": None,
        "curve": False, "max_rows": None, "draws": 50, "level": 0.9, "seed": 0,
    }  # fmt: skip
    return _evidence(np.asarray(x, float), Labels(codes, names), **(given | options))


def bare(x=PROBLEM.x, codes=PROBLEM.codes, counts=None) -> Evidence:
    """The same for causes that ask no head: predicting takes most of the time."""
    names = tuple(map(str, range(int(codes.max()) + 1)))
    answer: Any = None

    def predict(*args, **options):
        raise AssertionError("this cause asks a head")

    return Evidence(
        np.asarray(x, float), Labels(codes, names), answer, predict, None, copies.groups(x, codes),
        np.arange(len(x)), counts, None, None, "macro_f1", 0.9, 0,
    )  # fmt: skip


ASK_A_HEAD = ("duplicates", "suspect labels")
"""Planted causes that read a head's answers."""


@cache
def everything(gauge: bool) -> Evidence:
    given = {"reference": PROBLEM.x[:, :4], "text": PROBLEM.x[:, 2:], "counts": COUNTS}
    return evidence(decoder=decoders.Cosine() if gauge else None, **given)


def outliers(x, codes, rng):
    x[rng.permutation(N)[:6]] *= 50.0
    return x, codes


def large_column(x, codes, rng):
    return np.hstack([x, 1e3 * rng.standard_normal((N, 1))]), codes


def lost(x, codes, rng):
    x[:, 3] = x[:, 0] - 2.0 * x[:, 1]
    return x, codes


def coarse(x, codes, rng):
    return np.round(2.0 * x / x.std(axis=0)), codes


def copied(x, codes, rng):
    rows = rng.permutation(N)[:150]
    order = rng.permutation(np.concatenate([np.arange(300), rows, rows]))
    return x[order], codes[order]


def ordered(x, codes, rng):
    order = np.argsort(codes, kind="stable")
    return x[order], codes[order]


def shuffled(x, codes, rng):
    return x[rng.permutation(N)], codes


def rare(x, codes, rng):
    codes[:8] = CLASSES
    return x, codes


def common(x, codes, rng):
    return x + 5.0 * np.sqrt(np.sum(x.var(axis=0))) / np.sqrt(DIM), codes


def lengths(x, codes, rng):
    return x * np.exp(1.5 * rng.standard_normal((N, 1))), codes


def collapsed(x, codes, rng):
    z = x @ np.linalg.svd(x - x.mean(0), full_matrices=False)[2].T
    # All but two directions nearly vanish, and no column is left out of the two.
    return (z * np.where(np.arange(DIM) < 2, 1.0, 1e-3)) @ rng.standard_normal((DIM, DIM)), codes


def leaking(x, codes, rng):
    return np.hstack([x, codes[:, None] + 0.1 * rng.standard_normal((N, 1))]), codes


def noisy(x, codes, rng):
    wrong = rng.permutation(N)[: N // 5]
    codes[wrong] = (codes[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    return 3.0 * x, codes


PLANTED = {
    "outlier rows": outliers, "column scales": large_column, "rank loss": lost,
    "quantised": coarse, "duplicates": copied, "row order": ordered, "no signal": shuffled,
    "few labels": rare, "anisotropy": common, "row scales": lengths, "collapse": collapsed,
    "leak": leaking, "suspect labels": noisy,
}  # fmt: skip


def planted(name, seed=0, separation=1.0):
    problem = gaussian_classes(3, n=N, dim=DIM, num_classes=CLASSES, separation=separation)
    return PLANTED[name](problem.x.copy(), problem.codes.copy(), np.random.default_rng(seed))


def measured(name, given) -> Any:
    """What a cause measures; for pyright, not None."""
    return CAUSES[name].measure(given)


def is_found(name, given):
    return CAUSES[name].found(measured(name, given).score)


def doubted(prediction) -> Any:
    return doubt(prediction)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_cause_is_found_and_is_not_there_before(name):
    separation = {"suspect labels": 3.0, "leak": 0.5}.get(name, 1.0)
    x, codes = planted(name, separation=separation)
    of = evidence if name in ASK_A_HEAD else bare
    assert is_found(name, of(x, codes))
    clean = gaussian_classes(3, n=N, dim=DIM, num_classes=CLASSES, separation=separation)
    assert not is_found(name, of(clean.x, clean.codes))


@pytest.mark.thorough
@pytest.mark.parametrize("name", CAUSES)
def test_every_cause_has_its_words_and_its_rows_lie_between_0_and_1(name):
    cause = CAUSES[name]
    assert cause.group in (FACT, NATURAL, ASKED, HEAD)
    for text in (cause.reason, cause.what, cause.why, cause.do):
        assert len(text) > 10
    measure = measured(name, everything(name == "gauge"))
    assert measure is not None
    assert measure.said
    if measure.rows is not None:
        assert measure.rows.shape == (N,)
        assert np.all((measure.rows >= 0) & (measure.rows <= 1))
    if measure.remedy is not None:
        assert measure.action
        assert len(measure.remedy(PROBLEM.x)) == N


def test_blamed_rows_are_the_planted_ones():
    rng = np.random.default_rng(0)
    rows = rng.permutation(N)[:6]
    x, codes = planted("outlier rows")
    found = measured("outlier rows", bare(x, codes))
    assert set(np.flatnonzero(found.rows > 0.5)) == set(rows)
    x, codes = planted("duplicates")
    found = measured("duplicates", evidence(x, codes))
    equal = np.array([np.sum(np.all(x == row, axis=1)) > 1 for row in x])
    np.testing.assert_array_equal(found.rows > 0.5, equal)


@pytest.mark.thorough
def test_a_split_that_ignores_copies_is_called_invalid_where_it_shows_more():
    x, codes = gaussian_classes(3, n=N, dim=100, num_classes=CLASSES, separation=0.2)[:2]
    order = np.repeat(np.arange(120), 5)
    found = measured("duplicates", evidence(x[order], codes[order]))
    assert found.invalid
    assert not measured("duplicates", evidence(x, codes)).invalid


def test_the_leaking_column_is_named_and_dropped():
    x, codes = planted("leak")
    found = measured("leak", bare(x, codes))
    assert f"column {DIM}" in found.said
    np.testing.assert_array_equal(found.remedy(x), x[:, :DIM])
    # The correlation ratio, class by class.
    column = x[:, DIM] / x[:, DIM].std()
    between = sum(
        np.mean(codes == c) * (column[codes == c].mean() - column.mean()) ** 2
        for c in range(CLASSES)
    )
    np.testing.assert_allclose(found.score, between, rtol=0.02)  # outliers are clipped before


def test_effective_rank_and_mean_share_are_the_formulas():
    found = measured("collapse", bare())
    values = np.linalg.eigvalsh(np.corrcoef(clipped(PROBLEM.x).T))
    shares = values / values.sum()
    np.testing.assert_allclose(
        found.score, 1 - np.exp(-np.sum(shares * np.log(shares))) / DIM, rtol=1e-6
    )
    found = measured("anisotropy", bare())
    np.testing.assert_allclose(
        found.score, np.sum(PROBLEM.x.mean(0) ** 2) / np.mean(np.sum(PROBLEM.x**2, 1)), rtol=1e-9
    )


def test_row_order_is_agreement_of_neighbours_beyond_chance():
    x, codes = planted("row order")
    found = measured("row order", bare(x, codes))
    chance = sum(np.mean(codes == c) ** 2 for c in range(CLASSES))
    same = np.mean([a == b for a, b in zip(codes[1:], codes[:-1], strict=True)])
    np.testing.assert_allclose(found.score, (same - chance) / (1 - chance), rtol=1e-9)


def test_starved_items_are_found_by_their_counts():
    rng = np.random.default_rng(1)
    order = np.argsort(COUNTS, kind="stable")
    x = 3.0 * PROBLEM.x.copy()
    x[order[: N // 2]] = 3.0 * rng.standard_normal((N // 2, DIM))
    assert is_found("starvation", evidence(x, counts=COUNTS))
    assert not is_found("starvation", everything(False))
    assert measured("starvation", replace(everything(False), counts=None)) is None


def test_popularity_in_lengths_is_found_and_taken_out():
    x = PROBLEM.x * (1.0 + COUNTS[:, None]) ** 0.8
    found = measured("popularity in norms", bare(x, counts=COUNTS))
    assert found.score > 0.3
    after = measured("popularity in norms", bare(found.remedy(x), counts=COUNTS))
    assert after.score < 1e-6


def test_a_second_source_tells_wrong_labels_from_rows_joined_wrongly():
    problem = gaussian_classes(3, n=N, dim=DIM, num_classes=CLASSES, separation=4.0)
    rng = np.random.default_rng(5)
    reference = problem.x @ rng.standard_normal((DIM, DIM))
    codes = problem.codes.copy()
    wrong = np.arange(60)
    codes[wrong] = (codes[wrong] + rng.integers(1, CLASSES, 60)) % CLASSES
    said = measured("suspect labels", evidence(problem.x, codes, reference=reference)).said
    assert int(said.split("reference: ")[1].split(" wrong labels")[0]) > 50
    assert ", 0 rows joined wrongly" in said
    x = problem.x.copy()
    moved = rng.permutation(N)[:60]
    x[moved] = x[np.roll(moved, 1)]
    said = measured("suspect labels", evidence(x, problem.codes, reference=reference)
    ).said  # fmt: skip
    joined = int(said.split("wrong labels, ")[1].split(" rows joined")[0])
    changed = np.sum(problem.codes[moved] != problem.codes[np.roll(moved, 1)])
    assert joined > 0.6 * changed
    assert int(said.split("reference: ")[1].split(" wrong labels")[0]) < 0.2 * changed


def test_drift_is_none_under_a_rotation_and_what_noise_leaves():
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    still = measured("drift", evidence(reference=3.0 * PROBLEM.x @ turn + 1.0))
    assert still.score < 1e-9
    assert abs(still.gain.value) < 0.02
    moved = measured("drift", evidence(reference=PROBLEM.x + 2.0 * rng.standard_normal((N, DIM))))
    assert moved.gain.value < 0
    assert moved.score > 1.0  # no share of the variance is negative
    assert "explains 100% of the variance; gain of this head on the reference: " in still.said
    assert "explains none of the variance; gain of this head on the reference: -" in moved.said


@pytest.mark.thorough
def test_the_rate_of_random_labels_is_estimated():
    rng = np.random.default_rng(0)
    problem = gaussian_classes(3, n=3000, dim=DIM, num_classes=CLASSES, separation=2.0)
    names = tuple("abcd")
    assert doubted(logistic(problem.x, Labels(problem.codes, names))).rate < 0.02
    for rate in (0.1, 0.3):
        codes, drawn = problem.codes.copy(), rng.random(3000) < rate
        codes[drawn] = rng.permutation(problem.codes)[drawn]
        found = doubted(logistic(problem.x, Labels(codes, names)))
        assert abs(found.rate - rate) < 0.04
        # Posteriors of the mixture: their mean is the rate, and drawn labels have the large ones.
        assert abs(np.mean(found.random) - rate) < 0.04
        assert found.random[drawn & (codes != problem.codes)].mean() > 0.8
    assert doubt(logistic(PROBLEM.x, Labels(PROBLEM.codes, names))._replace(held_out=None)) is None


def test_kappa_is_that_of_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    predicted[:90] = target[:90]
    held = HeldOut(None, predicted, target, np.zeros(200, int), tuple("abc"), np.arange(200))
    rows = np.arange(50, 180)
    np.testing.assert_allclose(
        held_accuracy(held, rows), cohen_kappa_score(target[rows], predicted[rows]), rtol=1e-9
    )


def test_row_counts_of_a_cause_without_classes_are_left_out():
    found = _evidence(
        PROBLEM.x, targets.values(PROBLEM.x[:, 0] + 0.5), decoder=None, counts=None, reference=None,
        text=None, metric=None, curve=False, max_rows=None, draws=20, level=0.9, seed=0,
    )  # fmt: skip
    for name in ("row order", "leak", "few labels", "suspect labels", "starvation", "gauge"):
        assert CAUSES[name].measure(found) is None, name
    assert not is_found("no signal", found)


def test_severity_counts_steps_from_null_to_threshold():
    cause = partial(Cause, lambda e: None, FACT, reason="", what="", why="", do="")
    linear, ratio = cause(threshold=0.2), cause(threshold=100.0, ratio=True)
    assert linear.severity(0.3, 0.1) == pytest.approx(2.0)
    assert ratio.severity(1000.0, 1.0) == pytest.approx(1.5)
    assert linear.severity(9.0, 0.1) == REACH
    assert cause(threshold=0.3, lower=True).severity(0.3, 1.0) == pytest.approx(1.0)
    assert cause(threshold=0.3, lower=True).found(0.29)
    assert not cause(threshold=0.3, lower=True).found(0.3)
    assert linear.found(0.2)


def test_remedies_are_their_formulas():
    rng = np.random.default_rng(0)
    x = PROBLEM.x.copy()
    x[0] = 0.0
    unit = remedies.unit_lengths(x)
    np.testing.assert_allclose(np.linalg.norm(unit[1:], axis=1), 1.0)
    assert not unit[0].any()
    np.testing.assert_allclose(remedies.centre(x).mean(axis=0), 0.0, atol=1e-12)
    z = remedies.standardise(np.hstack([x, np.full((N, 1), 7.1)]))
    np.testing.assert_allclose(z[:, :-1].std(axis=0), 1.0)
    assert not z[:, -1].any()
    white = remedies.whiten(np.hstack([x, x[:, :1]]))
    np.testing.assert_allclose(white.T @ white / N, np.eye(DIM), atol=1e-8)
    counts = rng.integers(1, 9, N).astype(float)
    drawn = remedies.shrunk_by_counts(x, counts)
    middle = np.flatnonzero(counts == np.median(counts))[0]
    mean = np.average(x, axis=0, weights=counts / (counts + np.median(counts)))
    np.testing.assert_allclose(drawn[middle] - mean, (x[middle] - mean) / 2)
    long = x.copy()
    long[5] *= 1e4
    clip = remedies.clip_lengths(long)
    np.testing.assert_allclose(np.delete(clip, 5, axis=0), np.delete(long, 5, axis=0))
    assert np.linalg.norm(clip[5]) < np.linalg.norm(long[5]) / 100
    np.testing.assert_allclose(standardised(x), (x - x.mean(0)) / x.std(0))


def test_blame_is_a_half_at_the_bound():
    np.testing.assert_allclose(blame(np.array([-2.0, 0.0, 1.0])), [0.0, 0.0, 0.5])

"""What joining embeddings is worth: each way to join, paired gains, rows that took no part."""

import functools
import importlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from kernlens import lens, probes
from kernlens.lens import joins
from kernlens.models import decoders
from kernlens.probes import folds as fold_rows
from kernlens.probes import partitions
from kernlens.probes.folds import FOLDS, share_out
from kernlens.probes.stitched import stitched
from kernlens.types import Labels, MultiLabels
from tests.cases import gaussian_classes

fuse_ = importlib.import_module("kernlens.lens.fuse")  # the package has the function
N = 240
PROBLEM = gaussian_classes(0, n=N, dim=6, separation=0.45)
NAMES = ("tea", "salt", "bread", "apples")
LABELS = Labels(PROBLEM.codes, NAMES)
RNG = np.random.default_rng(7)
NOISE = RNG.standard_normal((N, 5))
FIRST = PROBLEM.x + RNG.standard_normal((N, 6))
SECOND = RNG.standard_normal((4, 5))[PROBLEM.codes] + 1.5 * RNG.standard_normal((N, 5))
PARTS = {"behaviour": FIRST, "text": 20.0 * SECOND}


@pytest.fixture(scope="module")
def found():
    return lens.fuse(PARTS, LABELS, draws=300)


def test_a_second_embedding_that_tells_more_adds(found):
    assert found.verdict == lens.ADDS
    assert {own.name for own in found.joined} == set(lens.JOINS)
    assert found.best.gain.low > 0
    assert "adds to" in found.sentence()
    values = [own.prediction.value.value for own in found.joined]
    assert values == sorted(values, reverse=True)
    assert len(repr(found).splitlines()) <= 12
    assert "<table>" in found._repr_html_()


def test_noise_adds_nothing():
    found = lens.fuse({"good": FIRST, "noise": NOISE}, LABELS, draws=300)
    assert found.verdict != lens.ADDS
    assert found.alone[0].name == "good"
    assert "No gain" in found.sentence() or "Keep good" in found.sentence()


def test_the_plain_join_is_the_prediction_of_joined_rows_in_one_partition(found, monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", 0)
    joined = {own.name: own for own in found.joined}
    rows = np.hstack(list(PARTS.values()))
    expected = lens.predict(rows, LABELS, draws=300)
    assert joined["standardised"].prediction.metrics["macro_f1"] == expected.metrics["macro_f1"]
    raw = lens.predict(rows, LABELS, probe=functools.partial(probes.logistic, standardised=False))
    given = joined["as they come"].prediction
    assert given.metrics["macro_f1"].value == raw.metrics["macro_f1"].value
    best = found.alone[0].prediction
    gap = probes.paired_difference(given, best, draws=300)
    assert joined["as they come"].gain.value == pytest.approx(gap.value)
    # It is widened, so that the gains of all joins hold together.
    assert joined["as they come"].gain.high - joined["as they come"].gain.low > gap.high - gap.low


def test_the_linear_head_of_a_join_is_one_refitted_on_rows_as_they_stand(monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", 0)
    x = np.hstack(list(PARTS.values()))
    own = functools.partial(probes.logistic, standardised=False, penalties=1.0)
    prediction = lens.predict(x, LABELS, probe=own)
    folds = share_out(PROBLEM.codes, np.arange(N))
    unit = np.sqrt(np.mean(np.var(x, axis=0)))
    scores = []
    given = np.empty(N, int)
    for k in range(FOLDS):
        kept = folds != k
        model = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8)
        model.fit(x[kept] / unit, PROBLEM.codes[kept])
        given[~kept] = model.predict(x[~kept] / unit)
    for rows in fold_rows.held_rows(PROBLEM.codes, folds):
        scores.append(f1_score(PROBLEM.codes[rows], given[rows], average="macro"))
    np.testing.assert_allclose(prediction.metrics["macro_f1"].value, np.mean(scores), atol=1e-9)


def test_joins_are_what_they_are_called():
    parts = list(PARTS.values())
    fitted = {
        name: join.fit(parts, LABELS, 0)(parts)
        for name, join in lens.JOINS.items()
        if not join.learns
    }
    np.testing.assert_array_equal(fitted["as they come"], np.hstack(parts))
    np.testing.assert_allclose(fitted["standardised"].std(axis=0), 1.0)
    first, second = np.split(fitted["equal variance"], [6], axis=1)
    np.testing.assert_allclose([np.var(x, axis=0).sum() for x in (first, second)], 1.0)


@pytest.mark.thorough
def test_learnt_weights_leave_out_noise_and_a_map_is_of_low_rank():
    parts = [PROBLEM.x, NOISE]
    joined = joins.JOINS["learnt weights"].fit(parts, LABELS, 0)(parts)
    sizes = [np.var(x, axis=0).sum() for x in np.split(joined, [6], axis=1)]
    assert sizes[1] < 0.2 * sizes[0]
    wide = [np.hstack([PROBLEM.x] * 8), np.random.default_rng(0).standard_normal((N, 40))]
    mapped = joins.JOINS["low-rank map"].fit(wide, LABELS, 0)(wide)
    assert mapped.shape == (N, joins.RANK)


@pytest.mark.thorough
def test_what_is_learnt_does_not_see_the_rows_that_judge_it(monkeypatch):
    seen = []
    join = joins.JOINS["learnt weights"]

    def spied(parts, labels, seed):
        seen.append(np.flatnonzero(labels.codes < 0))
        return join.fit(parts, labels, seed)

    made = {**joins.JOINS, "learnt weights": join._replace(fit=spied)}
    monkeypatch.setitem(lens.fuse.__globals__, "JOINS", made)
    own = lens.fuse(PARTS, LABELS, draws=50)
    folds = own.alone[0].prediction.held_out.folds
    whole, *parts = seen
    assert whole.size == 0
    for k, left_out in enumerate(parts):
        np.testing.assert_array_equal(left_out, np.flatnonzero(folds == k))


@pytest.mark.slow
def test_labels_of_nothing_are_not_predicted_by_what_was_learnt_on_them():
    # A map learnt on the rows that judge it would find something in noise of many columns.
    rng = np.random.default_rng(1)
    labels = Labels(rng.integers(0, 2, N).astype(np.int32), ("a", "b"))
    parts = {"x": rng.standard_normal((N, 12)), "y": rng.standard_normal((N, 12))}
    found = lens.fuse(parts, labels, draws=200)
    learnt = {own.name: own for own in found.joined}
    for name in ("learnt weights", "low-rank map"):
        accuracy = learnt[name].prediction.metrics["accuracy"]
        assert abs(accuracy.value - 0.5) < 0.1  # three standard errors


def test_stitching_one_prediction_gives_it_back(monkeypatch):
    monkeypatch.setattr(partitions, "MAX_ROWS", 0)
    whole = probes.logistic(PROBLEM.x, LABELS, draws=100)
    again = stitched([whole] * FOLDS, draws=100)
    assert again.metrics["macro_f1"] == whole.metrics["macro_f1"]
    np.testing.assert_allclose(again.metrics["log_loss"][:3], whole.metrics["log_loss"][:3])
    np.testing.assert_array_equal(again.predicted, whole.predicted)
    other = probes.logistic(SECOND, LABELS, draws=100)
    mixed = stitched([whole, other, whole, other, whole], draws=100)
    folds = whole.held_out.folds
    expected = np.where(np.isin(folds, [1, 3]), other.predicted, whole.predicted)
    np.testing.assert_array_equal(mixed.predicted, expected)
    with pytest.raises(ValueError, match="same folds"):
        stitched([whole, probes.logistic(SECOND, LABELS, seed=5)])


def test_a_join_that_changes_no_answer_gains_nothing(monkeypatch):
    # Learnt joins have one partition of the rows, k-NN alone the mean of ten.
    same = {"same": joins.JOINS["learnt weights"]._replace(fit=lambda *_: lambda parts: parts[0])}
    monkeypatch.setattr(fuse_, "JOINS", same)
    found = lens.fuse(PARTS, LABELS, decoder=decoders.Neighbours(5), draws=20)
    first = next(own for own in found.alone if own.name == next(iter(PARTS)))
    assert found.best.prediction.metrics == first.prediction.metrics


@pytest.mark.slow
def test_readers_that_standardise_see_plain_joins_as_one():
    found = lens.fuse(PARTS, LABELS, decoder=decoders.Neighbours(5, standardised=True), draws=9)
    assert {own.name for own in found.joined} == {"standardised", "low-rank map"}
    means = lens.fuse(PARTS, LABELS, decoder=decoders.InnerProduct(), draws=9)
    assert {own.name for own in means.joined} == set(lens.JOINS)


def test_numbers_and_several_labels_are_joined_too():
    values = PROBLEM.x[:, 0] + SECOND[:, 0]
    found = lens.fuse(PARTS, values)
    assert [own.name for own in found.joined] == ["standardised"]
    assert found.verdict == lens.ADDS
    expected = lens.predict(np.hstack(list(PARTS.values())), values)
    np.testing.assert_allclose(found.best.prediction.value[:3], expected.value[:3], rtol=1e-9)
    membership = np.stack([PROBLEM.x[:, 0] > 0, SECOND[:, 0] > 0], axis=1)
    several = lens.fuse(PARTS, MultiLabels(membership, np.ones(N, bool), ("a", "b")))
    assert several.verdict == lens.ADDS


@pytest.mark.thorough
def test_losses_gain_where_they_fall():
    found = lens.fuse(PARTS, LABELS, metric="log_loss", draws=100)
    assert found.best.prediction.metrics["log_loss"].value == min(
        own.prediction.metrics["log_loss"].value for own in found.joined
    )
    assert found.best.gain.value > 0


def test_a_join_is_a_function_of_further_rows(found):
    for own in found.joined:
        whole = own.join_fn(PARTS)
        part = own.join_fn({name: rows[:7] for name, rows in PARTS.items()})
        np.testing.assert_allclose(part, whole[:7], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.alone[0].join_fn(PARTS), PARTS[found.alone[0].name])


@pytest.mark.parametrize(
    ("given", "target", "match"),
    [
        ({"a": PROBLEM.x}, LABELS, "two embeddings or more"),
        ({"a": PROBLEM.x, "b": NOISE[:-1]}, LABELS, "same rows"),
        ({"a": PROBLEM.x, "b": np.full((N, 2), np.nan)}, LABELS, "b: embeddings must be finite"),
        ({"a": PROBLEM.x, "b": NOISE}, Labels(np.full(N, -1, np.int32), NAMES), "target: no row"),
    ],
)
def test_bad_input_is_refused_in_words(given, target, match):
    with pytest.raises(ValueError, match=match):
        lens.fuse(given, target)

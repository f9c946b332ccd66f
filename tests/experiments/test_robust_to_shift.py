"""Shift: the cuts leave nothing in that comes later; the inequality against sums over pairs."""

import dataclasses
import io

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rich.console import Console

from experiments.kit import serving, shift
from experiments.kit.cells import Cells
from experiments.kit.sources import Source
from experiments.online_replay import experiment as online_replay
from experiments.prop1_bound import experiment as prop1_bound
from experiments.prop1_bound.inequality import bounds, sides
from experiments.robust_to_shift import experiment as robust_to_shift
from kernlens.targets import sequences
from tests.cases import pasts


@pytest.mark.parametrize("classes", [2, 3])
def test_both_sides_are_their_sums_over_pairs(classes):
    rng = np.random.default_rng(0)
    n = 12
    codes = rng.permutation(np.arange(n) % classes)
    z = rng.standard_normal((n, 3)) + np.eye(3)[codes]
    train, test = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
    found = sides(z, codes, train, test)
    kernel = z @ z.T
    same = codes[:, None] == codes[None]
    agree = np.where(same, 1.0, -1.0) if classes == 2 else same.astype(float)
    size = np.sqrt(np.sum(test[:, None] * train * kernel**2))
    assert_allclose(found.alignment, np.sum(test[:, None] * train * agree * kernel) / size)
    own = np.sqrt(np.sum(train[:, None] * train * kernel**2))
    assert_allclose(found.known, np.sum(train[:, None] * train * agree * kernel) / own)
    scores = np.array([(kernel * train)[:, codes == c].sum(axis=1) for c in range(classes)])
    assert_allclose(found.measured, test[np.argmax(scores, axis=0) == codes].sum())
    assert found.spread <= 1 + 1e-12 if classes == 2 else True


def test_the_proved_bounds_hold_on_random_problems():
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = 30
        codes = rng.integers(0, 2, n)
        codes[:2] = 0, 1
        z = rng.standard_normal((n, 2)) + rng.normal() * codes[:, None]
        share = rng.dirichlet(np.full(n, 0.3), 2)
        found = sides(z, codes, *share)
        for delta in (0.05, 0.5):
            limits = bounds(found.alignment, delta)
            assert limits["Chebyshev"] <= found.measured + 1e-9
            assert limits["Cauchy-Schwarz"] <= found.measured + 1e-9


def test_parts_share_nothing_and_make_the_whole():
    data = shift.load(Source(synthetic=8000))
    cut = shift.parts(data, cut=40, seed=0)
    assert cut.before.num_sessions + cut.after.num_sessions == data.num_sessions
    assert cut.before.session_attributes["week"].max() <= 40
    assert cut.after.session_attributes["week"].min() > 40
    here = set(cut.known.session_attributes["store"].tolist())
    there = set(cut.elsewhere.session_attributes["store"].tolist())
    assert here
    assert there
    assert not here & there
    assert cut.known.num_sessions + cut.elsewhere.num_sessions == cut.before.num_sessions


def test_sessions_of_a_mask_are_those_of_their_places():
    data = shift.load(Source(synthetic=2000))
    mask = np.random.default_rng(0).random(data.num_sessions) < 0.3
    by_mask, by_place = (
        sequences.sessions(data, kept) for kept in (mask, np.flatnonzero(mask)[::-1])
    )
    assert_array_equal(by_mask.items, by_place.items)
    expected = [data.items[data.offsets[s] : data.offsets[s + 1]] for s in np.flatnonzero(mask)]
    assert_array_equal(by_mask.items, np.concatenate(expected))
    assert_array_equal(by_mask.users, data.users[mask])
    assert_array_equal(np.diff(by_mask.offsets), [len(one) for one in expected])


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (np.ones(3, bool), "one entry a session"),
        (np.array([-1]), "must name sessions"),
        (np.array([0, 0]), "at most once"),
    ],
)
def test_sessions_that_are_not_there_are_refused(kept, message):
    with pytest.raises(ValueError, match=message):
        sequences.sessions(shift.load(Source(synthetic=2000)), kept)


def test_what_is_held_out_is_not_known():
    config = robust_to_shift.TINY
    given = serving.known(config)
    week = given.everything.session_attributes["week"]
    lengths = np.diff(given.everything.offsets)
    held = (week > config.cut - config.held) & (week <= config.cut) & (lengths > 0)
    assert len(given.known.items) == lengths[week <= config.cut].sum() - held.sum()
    assert given.known.session_attributes["week"].max() <= config.cut
    assert given.week.min() > config.cut
    assert len(given.week) == len(given.after.target)


def test_lists_hold_the_best_items_that_were_not_seen():
    rng = np.random.default_rng(0)
    queries, items = rng.standard_normal((5, 3)), rng.standard_normal((30, 3))
    found = serving.top(queries, items, pasts([[0, 1, 1]] * 5))
    scores = queries @ items.T
    scores[:, :2] = -np.inf
    assert_array_equal(found, np.argsort(-scores, axis=1)[:, :10])


def test_households_end_with_what_they_bought_last():
    given = serving.known(robust_to_shift.TINY)
    found = serving.households(given, 4)
    past = given.known
    owner = np.repeat(past.users, np.diff(past.offsets))
    for user in (0, 7, past.num_users - 1):
        expected = past.items[owner == user][-4:]
        assert_array_equal(found.items[user][found.items[user] >= 0], expected)


UP, BOTH, DOWN, NONE = (0.6, 0.9), (-0.1, 0.9), (-0.9, -0.1), (None, None)


@pytest.mark.parametrize(
    ("items", "classes", "said"),
    [
        ((0.8, UP), (0.8, UP), "holds"),
        ((0.76, UP), (0.8, UP), "holds"),  # 0.09 less than before the shift
        ((0.74, UP), (0.8, UP), "holds in part"),  # 0.11 less
        ((0.8, UP), (0.74, UP), "holds in part"),
        ((0.74, UP), (0.74, UP), "holds in part"),
        ((0.8, UP), (0.8, BOTH), "holds in part"),
        ((0.8, DOWN), (0.8, UP), "holds in part"),
        ((0.8, UP), (None, NONE), "holds in part"),
        ((0.8, (0.0, 0.9)), (0.8, BOTH), "undecided"),
        ((0.8, DOWN), (0.8, BOTH), "undecided"),
        ((None, NONE), (None, NONE), "undecided"),  # two settings alone leave no interval
        ((0.8, DOWN), (0.8, (-0.9, 0.0)), "fails"),
    ],
)
def test_the_verdict_of_a_shift_follows_its_rule(items, classes, said):
    def line(task, predictor, value, ends):
        low, high = ends
        first = robust_to_shift.TASKS[task][0][0]
        return {
            "task": task, "predictor": predictor,
            first: {"spearman": {"value": 0.85, "low": 0.5, "high": 1.0}},
            "after": {"spearman": {"value": value, "low": low, "high": high}},
        }  # fmt: skip

    lines = [
        line("next items", "ridge ranking", *items), line("next items", "last item", 0.9, UP),
        line("classes", "discriminant probe", *classes),
        line("classes", "pretraining loss", 0.9, UP),
    ]  # fmt: skip
    assert robust_to_shift.verdict(lines) == said


def histories(order="time"):
    """Three users by time: two weeks, one week, and the third alone."""
    day = 86_400
    data = shift.load(Source(synthetic=2000))
    return shift.by_week(
        data._replace(
            items=np.arange(9, dtype=np.int32),
            times=np.array([0, 1, 8, 9, 2, 3, 3, 15, 15]) * day,
            offsets=np.array([0, 4, 7, 9]),
            users=np.array([0, 1, 2], np.int32),
            session_attributes={"age": np.array([30, 40, 50])},
        ),
        order,
    )


def test_histories_are_cut_where_a_week_ends():
    found = histories()
    assert_array_equal(found.offsets, [0, 2, 4, 7, 9])
    assert_array_equal(found.users, [0, 0, 1, 2])
    assert_array_equal(found.session_attributes["week"], [1, 2, 1, 3])
    assert_array_equal(found.session_attributes["age"], [30, 30, 40, 50])


def test_in_random_order_a_week_is_shuffled_and_no_more():
    orders = {"time": set(), "random": set()}
    for name, met in orders.items():
        found = histories(name)
        for seed in range(20):
            shuffled = sequences.shuffle_ties(found, seed=seed)
            for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True):
                assert set(shuffled.items[start:stop]) == set(found.items[start:stop])
            met.add(tuple(shuffled.items[:2].tolist()))
    assert orders == {"time": {(0, 1)}, "random": {(0, 1), (1, 0)}}


def test_weeks_in_random_order_come_shuffled():
    """Whoever takes the stored order, as pretraining does, must not meet that of time."""
    data = shift.load(Source(synthetic=4000))
    whole = data._replace(offsets=np.array([0, len(data.items)]), users=data.users[:1])
    whole = whole._replace(times=np.arange(len(data.items)) * 3600, session_attributes={})
    by_time, shuffled = (shift.by_week(whole, order) for order in ("time", "random"))
    assert_array_equal(by_time.items, data.items)
    assert_array_equal(shuffled.offsets, by_time.offsets)
    assert np.mean(shuffled.items == by_time.items) < 0.2


def test_predictions_ahead_need_times():
    data = shift.load(Source(synthetic=2000))._replace(times=None)
    with pytest.raises(ValueError, match="need interactions with times"):
        shift.by_week(data, "time")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(robust_to_shift, marks=pytest.mark.slow),
        pytest.param(online_replay, marks=pytest.mark.slow),
        prop1_bound,
    ],
)
def test_any_data_set_with_times_is_replayed(experiment, tmp_path, monkeypatch):
    """RecBole's files: no store, no brand, no coupons."""
    monkeypatch.setenv("KERNLENS_CACHE", "off")
    data = shift.load(Source(synthetic=4000))
    users = np.repeat(data.users, np.diff(data.offsets))
    times = np.random.default_rng(0).integers(0, 20 * 7 * 86_400, len(users))
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"{u}\t{i}\t{t}" for u, i, t in zip(users, data.items, times, strict=True)]
    (tmp_path / "small.inter").write_text("\n".join(lines))
    names = [f"{i}\t{c}" for i, c in enumerate(data.labels["department"].codes)]
    (tmp_path / "small.item").write_text("\n".join(["item_id:token\tclass:token", *names]))
    tiny = {k: v for k, v in serving.TINY.items() if k != "synthetic"}
    fields = {field.name for field in dataclasses.fields(experiment.Config)}
    config = experiment.Config(
        data="recbole", root=tmp_path, cut=15, **{k: v for k, v in tiny.items() if k in fields}
    )
    cells = Cells(tmp_path / "cells" / "one" / "two", Console(file=io.StringIO()))
    rows = experiment.run(config, cells)
    summary = experiment.summarise(config, rows)
    assert "coupons" not in summary
    if experiment is prop1_bound:
        assert {line["place"] for line in summary["lines"]} == {
            "in distribution", "later weeks", "other users",
        }  # fmt: skip

"""Next items through predict and compare: a log with known structure, loops, laws, words."""

import datetime

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

import kernlens as kl
from kernlens import datasets, lens, targets
from kernlens.kernels import closed_form, sequence_kernels
from kernlens.lens import next_items as verb
from kernlens.metrics import ranking
from kernlens.models import decoders, towers
from kernlens.probes import recommenders, ridge_ranking
from kernlens.scores import intervals

ITEMS, DRAWS = 40, 100
IDS = [f"item {i}" for i in range(ITEMS)]
ANGLE = 2 * np.pi * np.arange(ITEMS) / ITEMS
RING = np.stack([f(k * ANGLE) for k in range(1, 5) for f in (np.cos, np.sin)], axis=1)
"""Where an item stands on the ring: all that the next item depends on."""
NOISE = np.random.default_rng(9).standard_normal((ITEMS, 8))


def ring_log(seed=0, *, users=120, length=6):
    """Each next item is one to three places further on a ring, so items do not recur."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        item = rng.integers(ITEMS)
        for time in range(length):
            rows.append((f"u{user}", IDS[item], time))
            item = (item + rng.integers(1, 4)) % ITEMS
    log = pd.DataFrame(rows, columns=["user", "item", "time"])
    return log.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def favourites_log(seed=0, *, users=100, length=8):
    """Each user keeps to five items of an own corner of the ring, so items recur."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        corner = rng.integers(ITEMS)
        for time in range(length):
            rows.append((user, (corner + rng.integers(5)) % ITEMS, time))
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def asked(log, **options):
    return targets.next_items(log["user"], log["item"], log["time"], **options)


ASK = asked(ring_log(), ids=IDS)
RECUR = asked(favourites_log(), ids=range(ITEMS))


def test_from_a_csv_of_events_to_an_answer_in_five_lines(tmp_path):
    path = tmp_path / "events.csv"
    ring_log().to_csv(path, index=False)
    log = pd.read_csv(path)
    ask = targets.next_items(log["user"], log["item"], log["time"], ids=IDS)
    found = kl.compare({"noise": NOISE, "ring": RING}, ask, draws=DRAWS)
    assert isinstance(ask, kl.NextItems)
    assert [entry.name for entry in found.entries] == ["ring", "noise"]
    assert [entry.verdict for entry in found.entries] == [lens.BEST, lens.WORSE]
    assert found.entries[1].to_best.separated


def test_each_users_last_event_is_held_out_whatever_the_order_of_the_log():
    log = ring_log()
    last = log.loc[log.groupby("user")["time"].idxmax()]
    expected = dict(zip(last["user"], last["item"], strict=True))
    keys = ASK.split.known.user_keys
    test = ASK.split.test
    found = {keys[u]: IDS[t] for u, t in zip(test.user, test.target, strict=True)}
    assert found == expected
    assert set(log.index[~ASK.known_rows]) == set(last.index)
    # The history is the user's own, oldest first.
    user, history = keys[test.user[0]], test.items[0][test.items[0] >= 0]
    own = log[log["user"] == user].sort_values("time")["item"].tolist()
    assert [IDS[i] for i in history] == own[:-1]


@pytest.mark.parametrize("ask", [ASK, RECUR], ids=["new items", "all items"])
def test_metrics_are_those_of_a_float64_loop_over_users(ask):
    found = lens.predict(RING, ask, draws=DRAWS)
    train, test = ask.split.train, ask.split.test

    def averages(histories):
        return np.array([RING[row[row >= 0]].mean(axis=0) for row in histories.items])

    x, z = averages(train), averages(test)
    trace = np.trace(np.cov(x.T, ddof=0)) * len(x) / x.shape[1]
    ridge = Ridge(alpha=found.strength * trace).fit(x, np.eye(ITEMS)[train.target])
    scores, values = ridge.predict(z), {"recall@10": [], "ndcg@10": [], "mrr@10": []}
    for i, target in enumerate(test.target):
        past = set(test.past.items[test.past.start[i] : test.past.stop[i]].tolist())
        if ask.protocol == "new to the user" and target in past:
            continue
        left_out = past if ask.protocol == "new to the user" else set()
        candidates = [j for j in range(ITEMS) if j not in left_out]
        rank = 1 + sum(scores[i, j] > scores[i, target] for j in candidates)
        values["recall@10"].append(float(rank <= 10))
        values["ndcg@10"].append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
        values["mrr@10"].append(1 / rank if rank <= 10 else 0.0)
    assert ask.protocol == ("new to the user" if ask is ASK else "all items")
    for name, expected in values.items():
        # Features are float32: one near tie of 120 may turn by a rank.
        assert found.metrics[name].value == pytest.approx(np.mean(expected), abs=2e-3)
        assert len(found.ranks.per_query[name]) == len(expected)


@pytest.mark.parametrize("scale", [0.01, 100.0, 1e-30, 1e200])
def test_the_unit_of_the_table_does_not_matter(scale):
    plain, scaled = (lens.predict(x, ASK, draws=DRAWS) for x in (NOISE, NOISE * scale))
    assert scaled.strength == plain.strength
    for name, value in plain.metrics.items():
        # Rounding of the scaled input may turn a near tie.
        assert scaled.metrics[name].value == pytest.approx(value.value, abs=2e-3)


@pytest.mark.thorough
def test_an_embedding_below_the_best_baseline_is_flagged():
    found = lens.compare({"ring": RING, "noise": NOISE}, ASK, draws=DRAWS)
    values = {n: b.metrics["ndcg@10"].value for n, b in found.baselines.items()}
    assert set(values) == set(recommenders.BASELINES)
    assert list(values.values()) == sorted(values.values(), reverse=True)
    by_name = {entry.name: entry for entry in found.entries}
    assert by_name["noise"].loses
    assert by_name["noise"].to_baseline.value < 0
    assert f'loses to "{found.best_baseline}"' in found.table().json()[1]["verdict"]
    assert "Warning" in found.sentence()
    assert "noise" in found.sentence().split("Warning")[1]
    # A tower that can read the ring beats all of them, and no warning is given.
    dense = towers.DenseTower((16,))
    good = lens.compare({"ring": RING}, ASK, decoders=dense, metric="recall", draws=DRAWS)
    assert good.metric == "recall@10"
    assert good.best.to_baseline.value > 0
    assert good.best.to_baseline.separated
    assert not good.best.loses
    assert good.best.verdict == ""
    assert good.sentence() == f'ring beats "{good.best_baseline}".'


def test_baselines_are_those_of_the_ranking_module():
    found = lens.predict(NOISE, RECUR, draws=DRAWS)
    assert found.loses
    assert "loses to" in found.sentence()
    assert next(iter(found.baselines)) == found.best_baseline
    queries = ranking.all_items(RECUR.split.test)
    x = recommenders.session_matrix(RECUR.split.known)
    for name, fn in recommenders.BASELINES.items():
        expected = ranking.recall(fn(x, queries), 10)
        np.testing.assert_array_equal(found.baselines[name].per_query["recall@10"], expected)
    random = 10 / ITEMS
    assert found.metrics["recall@10"].null == pytest.approx(random)


@pytest.mark.thorough
def test_intervals_are_over_users_and_differences_are_paired_and_hold_together():
    many = {"ring": RING, "noise": NOISE, "half": np.concatenate([RING[:, :2], NOISE], axis=1)}
    found = lens.compare(many, ASK, draws=DRAWS, level=0.8, seed=3)
    users = found.asked.queries.histories.user
    best, other = found.entries[0].ranks, found.entries[1]
    values = best.per_query["ndcg@10"]
    expected = intervals.mean_with_interval(values, users, seed=3, draws=DRAWS, level=0.8)
    np.testing.assert_allclose(best.metrics["ndcg@10"][:4], expected[:4], rtol=1e-12)
    alone = intervals.mean_difference(
        other.ranks.per_query["ndcg@10"], values, users, seed=3, draws=DRAWS, level=0.8
    )
    assert other.to_best.value == pytest.approx(alone.value, rel=1e-12)
    # Four rankers are compared, so each interval is wider than one by itself.
    assert other.to_best.low < alone.low < alone.high < other.to_best.high


def test_repeated_and_new_targets_are_told_apart():
    found = lens.predict(RING, RECUR, draws=DRAWS)
    assert RECUR.protocol == "all items"
    assert "repeat" in RECUR.reason
    repeated = found.queries.repeated
    values = found.ranks.per_query["ndcg@10"]
    assert found.ranks.by_target["repeated"].value == pytest.approx(values[repeated].mean())
    assert found.ranks.by_target["new"].value == pytest.approx(values[~repeated].mean())
    assert "NDCG@10, repeated targets" in repr(found)
    assert "NDCG@10, new targets" in repr(found)
    only_new = lens.predict(
        RING, asked(favourites_log(), ids=range(ITEMS), protocol="new to the user")
    )
    assert only_new.queries.dropped == repeated.sum()
    assert f"{repeated.sum()} targets met before, which are not asked" in repr(only_new)
    assert "repeated targets" not in repr(only_new)


def test_what_is_left_aside_is_counted():
    log = ring_log()
    extra = pd.DataFrame(
        {"user": ["x", "y", "y"], "item": [IDS[0], IDS[1], "?"], "time": [0, 0, 1]}
    )
    both = pd.concat([log, extra], ignore_index=True)
    ask = asked(both, ids=IDS)
    assert ask.notes["events_of_unknown_items"] == ask.notes["unknown_items"] == 1
    assert ask.notes["users_of_one_event"] == 2
    assert not ask.known_rows[-1]
    assert ask.known_rows[-2]
    cold = RING.copy()
    cold[3] = np.nan
    shown = repr(lens.compare({"a": cold}, ask, draws=DRAWS))
    for words in (
        "1 events of unknown items",
        "2 users of one event",
        "a: 1 items without a finite",
    ):
        assert words in shown
    assert "pretrain" in shown
    assert "promises the order at most" in shown


def test_times_are_numbers_dates_or_text():
    log = ring_log()
    days = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=int(t)) for t in log["time"]]
    given = (
        np.array(days, "datetime64[us]"),
        pd.Series(days),
        pd.Series(days).dt.tz_localize("UTC"),
        [day.isoformat(" ") for day in days],
        [day.isoformat() + "Z" for day in days],
        [day.date() for day in days],
        log["time"].astype("Int64"),
        log["time"].astype(float),
    )
    for times in given:
        ask = targets.next_items(log["user"].tolist(), log["item"].to_numpy(), times, ids=IDS)
        np.testing.assert_array_equal(ask.split.test.target, ASK.split.test.target)


def test_events_of_a_user_at_one_time_are_put_in_an_order_of_the_seed():
    log = ring_log().assign(time=0)
    targets = [asked(log, ids=IDS, seed=seed).split.test.target for seed in (0, 0, 1)]
    np.testing.assert_array_equal(targets[0], targets[1])
    assert np.any(targets[0] != targets[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": ["a"]}, "one value an event each; got 1 users, 6 items"),
        ({"times": [1, 2, np.nan, 1, 2, 3]}, "times must not be missing; got 1 missing.*row 2"),
        ({"users": ["a", None, "a", "b", "b", "b"]}, "users must not be missing.*row 1"),
        ({"times": ["noon"] * 6}, "ISO 8601.*'noon' in row 0"),
        ({"times": [True] * 6}, "times must be numbers, dates"),
        ({"users": ["a"] * 6}, "over users, and need two with a next item; got 1"),
        ({"users": list("abcdef")}, "no user has two events.*got 6"),
        ({"users": list("aabbcc")}, "nothing is left to learn from"),
        ({"items": list("xyzxyz")}, "row numbers of the embeddings.*got x in row 0: give ids"),
        ({"items": [-1, 0, 1, 0, 1, 2]}, "row numbers of the embeddings.*got -1: give ids"),
        ({"ids": ["0", "1", "2"]}, "both be text or both be numbers"),
        ({"ids": [0, 1, 1]}, "ids must differ; got 1 twice"),
        ({"ids": [7, 8, 9]}, "no event is of an item in ids"),
        ({"ids": []}, "ids must name the item of each embedding row; got none"),
        ({"items": [[0, 1]] * 6}, "one value an event"),
        ({"k": 0}, "k must be in 1..3"),
        ({"k": 4}, "k must be in 1..3"),
        ({"length": 0}, "length must be at least 1"),
        ({"protocol": "best"}, "protocol must be one of 'all items'"),
    ],
)
def test_a_log_that_cannot_be_asked_is_refused_in_words(change, message):
    given = {"users": list("aaabbb"), "items": [0, 1, 2, 1, 0, 2], "times": [1, 2, 3] * 2, "k": 2}
    given |= change
    with pytest.raises(ValueError, match=message):
        targets.next_items(given.pop("users"), given.pop("items"), given.pop("times"), **given)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (RING[1:], {}, "row for each of 40 items.*got \\(39, 8\\)"),
        (np.full_like(RING, np.nan), {}, "no item has a finite row"),
        (RING, {"metric": "accuracy"}, "metric must be one of 'ndcg@10'"),
        (RING, {"metric": "recall@20"}, "next_items\\(k=...\\)"),
        (RING, {"level": 1.0}, "level in \\(0, 1\\)"),
        (RING, {"decoder": decoders.Mlp(8)}, "a head reads rows of an embedding"),
        (RING, {"decoder": towers.GruTower()}, "no closed form.*over_embeddings"),
        (RING, {"decoder": towers.MeanPool(), "kernel": closed_form.linear}, "not both"),
        (RING, {"probe": kl.lens.predict}, "probes.ridge_ranking"),
        (sparse.eye_array(ITEMS + 1), {}, "row for each of 40 items"),
        (sparse.eye_array(ITEMS), {"kernel": closed_form.linear}, "sparse items are averaged"),
    ],
)
def test_an_embedding_that_cannot_be_asked_is_refused_in_words(rows, options, message):
    with pytest.raises(ValueError, match=message):
        lens.predict(rows, ASK, **options)
    if "decoder" not in options:
        with pytest.raises(ValueError, match=message):
            lens.compare({"mine": rows}, ASK, **options)


@pytest.mark.thorough
def test_towers_and_kernels_read_histories():
    plain = lens.predict(RING, ASK, draws=DRAWS)
    mean = lens.predict(RING, ASK, decoder=towers.MeanPool(), draws=DRAWS)
    assert mean.metrics == plain.metrics
    linear = lens.predict(RING, ASK, kernel=closed_form.linear, draws=DRAWS)
    for name, value in plain.metrics.items():
        # The features of the linear kernel are the rows, turned.
        assert linear.metrics[name].value == pytest.approx(value.value, abs=5e-3)
    assert any("exact features" in note for note in linear.notes)
    read = {"mean": towers.MeanPool(), "discounted": towers.DiscountedAverage(1e-2)}
    read["dense"] = towers.DenseTower((16,))
    found = lens.compare({"ring": RING}, ASK, decoders=read, draws=DRAWS)
    assert {entry.decoder for entry in found.entries} == set(read)
    # What comes next is no linear function of the average on a ring.
    assert found.best.label == "ring · dense"
    assert "landmarks" in repr(found)


@pytest.mark.thorough
def test_one_hot_items_are_an_embedding_and_its_ranker_is_the_dense_one():
    train, test = ASK.split.train, ASK.split.test
    queries = ranking.new_items(test)
    hot = sequence_kernels.one_hot(ITEMS)
    dense = sequence_kernels.averages(np.eye(ITEMS, dtype=np.float32))
    np.testing.assert_allclose(hot(test.items).toarray(), dense(test.items), atol=1e-6)
    options = {"num_items": ITEMS, "strengths": [0.1, 1.0]}
    (place, ranker), (expected, other) = (
        ridge_ranking.predict(map_fn, train, queries, **options) for map_fn in (hot, dense)
    )
    assert ranker.strength == other.strength
    # The dense moments are float32.
    np.testing.assert_allclose(ranker.vectors, other.vectors, atol=1e-4)
    np.testing.assert_allclose(ranker.errors, other.errors, rtol=1e-4)
    assert np.mean(place.above == expected.above) > 0.95
    wide = ridge_ranking.predict(hot, train, queries, item_vectors=RING, **options)[1]
    narrow = ridge_ranking.predict(dense, train, queries, item_vectors=RING, **options)[1]
    np.testing.assert_allclose(wide.vectors, narrow.vectors, atol=1e-3)
    found = lens.compare({"one-hot": sparse.eye_array(ITEMS), "ring": RING}, ASK, draws=DRAWS)
    by_name = {entry.name: entry for entry in found.entries}
    assert by_name["one-hot"].dim == ITEMS


def test_a_sparse_ranker_is_scikit_learns_ridge():
    rng = np.random.default_rng(0)
    x = sparse.random_array((150, 12), density=0.2, rng=rng, format="csr")
    target = rng.integers(0, 6, 150)
    ranker = ridge_ranking.fit_sparse(x, target, num_items=6, strengths=[0.3])
    wide = x.toarray()
    penalty = 0.3 * np.trace(np.cov(wide.T, ddof=0)) * 150 / 12
    expected = Ridge(alpha=penalty).fit(wide, np.eye(6)[target]).predict(wide)
    found = (wide - ranker.mean) @ ranker.vectors.T + ranker.bias
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (sparse.csr_array((0, 3)), np.zeros(0, int), "needs examples"),
        (sparse.eye_array(3), np.zeros(2, int), "3 rows and targets"),
        (sparse.eye_array(3), np.array([0, 1, 4]), "targets must be in 0..3; got 0..4"),
        (sparse.csr_array((2, 20_000)), np.zeros(2, int), "up to 12,000; got 20,000 columns"),
        (sparse.eye_array(3) * np.inf, np.zeros(3, int), "not finite"),
    ],
)
def test_sparse_features_that_do_not_fit_are_refused(x, target, message):
    with pytest.raises(ValueError, match=message):
        ridge_ranking.fit_sparse(x, target, num_items=4)


def test_ease_that_does_not_fit_is_left_out_and_told(monkeypatch):
    monkeypatch.setattr(verb, "EASE_MEMORY", 1.0)
    found = lens.compare({"ring": RING}, ASK, draws=DRAWS)
    assert "EASE" not in found.baselines
    assert "EASE was left out: EASE on 40 items takes three dense matrices" in repr(found)
    assert len(repr(found).splitlines()) <= 12


def test_answers_print_themselves_in_twelve_lines_and_names_are_data():
    many = {f"e{i}": NOISE + i * RING for i in range(7)}
    many["<b>x</b>\x1b[0m"] = NOISE
    found = lens.compare(many, RECUR, draws=DRAWS)
    shown = repr(found)
    assert len(shown.splitlines()) <= 12
    assert "4 more: .table() has all" in shown
    assert len(found.table().json()) == 8
    html = found._repr_html_()
    assert "<b>x" not in html
    assert "\x1b" not in html
    assert html.count("<table>") == 2
    alone = lens.predict(RING, RECUR, draws=DRAWS)
    assert len(repr(alone).splitlines()) <= 12
    assert len(alone.table().json()) == 6
    assert "<table>" in alone._repr_html_()
    assert len(repr(RECUR).splitlines()) == 3


@pytest.mark.thorough
def test_sessions_that_hold_an_item_once_leave_out_the_session_alone():
    log = datasets.load("synthetic", num_items=60, num_users=80, num_interactions=3000)
    by_user = targets.next_items_of(log)
    assert by_user.known_rows is None
    by_session = targets.next_items_of(log, per_user=False)
    assert len(by_session.split.test.target) > len(by_user.split.test.target)
    found = lens.predict(np.random.default_rng(0).standard_normal((log.num_items, 4)), by_session)
    assert found.queries.asked.sum() == len(found.ranks.per_query["ndcg@10"])

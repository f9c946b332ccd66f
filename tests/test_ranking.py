"""Ranking against ranx, scikit-learn, orders counted one by one, and a bootstrap by resampling."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from kernlens.metrics import ranking
from kernlens.metrics.ranking import Place
from kernlens.probes import recommenders
from kernlens.scores import intervals
from kernlens.targets.sequences import Histories
from tests.cases import pasts

# Sums of a few float64 terms.
RTOL = 1e-12


def problem(seed, *, n=37, m=53, dim=8, duplicates=True):
    """Queries and items whose scores are small integers, so that any order of sums ties alike."""
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (n, dim)).astype(np.float32)
    items = rng.integers(-2, 3, (m, dim)).astype(np.float32)
    if duplicates:
        items[m // 2 :] = items[: m - m // 2]
    return queries, items, rng.integers(0, m, n).astype(np.int32)


def ranks_of(scores, target, excluded=()):
    """All ranks that the target takes over the orders of what ties with it, one by one."""
    others = [j for j in range(len(scores)) if j != target and j not in set(excluded)]
    above = sum(scores[j] > scores[target] for j in others)
    tied = sum(scores[j] == scores[target] for j in others)
    return [above + i + 1 for i in range(tied + 1)]


GAINS = {
    "recall": lambda rank: 1.0,
    "ndcg": lambda rank: 1.0 / np.log2(rank + 1.0),
    "reciprocal_rank": lambda rank: 1.0 / rank,
}


def test_metrics_are_those_of_ranx():
    # ranx 0.3.21, evaluate(Qrels({"q": {target: 1}}), Run({"q": scores}), ...) of a target at rank
    # 1, 2, 3, 4, 8 and 12 of 12 items with distinct scores; names recall@3, ndcg@3, ndcg@12,
    # mrr@3, mrr.
    place = Place(np.array([0, 1, 2, 3, 7, 11]), np.zeros(6, np.int64), 12)
    at3 = [1.0, 0.630929754, 0.5, 0.0, 0.0, 0.0]
    at12 = [1.0, 0.630929754, 0.5, 0.430676558, 0.315464877, 0.270238154]
    table = [
        (ranking.recall(place, 3), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        (ranking.ndcg(place, 3), at3),
        (ranking.ndcg(place, 12), at12),
        (ranking.ndcg(place), at12),
        (ranking.reciprocal_rank(place, 3), [1.0, 0.5, 0.333333333, 0.0, 0.0, 0.0]),
        (ranking.reciprocal_rank(place), [1.0, 0.5, 0.333333333, 0.25, 0.125, 0.083333333]),
    ]
    for found, expected in table:
        np.testing.assert_allclose(found, expected, atol=1e-9)  # the table's digits


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_is_scikit_learns_ties_included(k):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (40, 20))
    target = rng.integers(0, 20, 40)
    found = ranking.ndcg(ranking.place(scores, target), k)
    relevance = np.eye(20)[target]
    expected = [ndcg_score(relevance[[i]], scores[[i]], k=k) for i in range(40)]
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("name", ranking.METRICS)
@pytest.mark.parametrize("k", [1, 4, 15])
def test_metrics_are_means_over_the_orders_of_ties(name, k):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (30, 15))
    target = rng.integers(0, 15, 30)
    found = ranking.METRICS[name](ranking.place(scores, target), k)
    gain = GAINS[name]
    expected = [
        np.mean([gain(r) if r <= k else 0.0 for r in ranks_of(scores[i], target[i])])
        for i in range(30)
    ]
    np.testing.assert_allclose(found, expected, rtol=RTOL)


def test_a_tie_of_three_counted_over_its_six_orders():
    scores = {"a": 2.0, "target": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}
    ranks = []
    for order in itertools.permutations(["target", "b", "c"]):
        ranks.append(["a", *order, "d"].index("target") + 1)
    place = ranking.place(np.array([list(scores.values())]), np.array([1]))
    assert (place.above, place.tied, place.num_items) == (1, 2, 5)
    np.testing.assert_allclose(ranking.recall(place, 3), np.mean(np.array(ranks) <= 3), rtol=RTOL)
    np.testing.assert_allclose(ranking.reciprocal_rank(place), np.mean(1 / np.array(ranks)))


def test_large_ranks_lose_no_digits_to_cancellation():
    m = 3_000_000
    place = Place(np.array([m - 3, m - 2, 0]), np.array([2, 0, m - 1]), m)
    expected = [np.mean([1 / (m - 2), 1 / (m - 1), 1 / m]), 1 / (m - 1)]
    np.testing.assert_allclose(ranking.reciprocal_rank(place)[:2], expected, rtol=RTOL)
    logs = 1.0 / np.log2(np.arange(m - 1.0, m + 2.0))
    np.testing.assert_allclose(ranking.ndcg(place)[0], logs.mean(), rtol=RTOL)
    # All items tie: the harmonic number by its asymptotic series, over m.
    harmonic = np.log(m) + np.euler_gamma + 0.5 / m
    np.testing.assert_allclose(ranking.reciprocal_rank(place)[2], harmonic / m, rtol=1e-10)


def test_one_score_for_all_earns_what_a_random_order_earns():
    place = ranking.place(np.zeros((3, 20)), np.array([0, 7, 19]))
    np.testing.assert_allclose(ranking.recall(place, 5), 0.25, rtol=RTOL)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("block", [1, 16, 64, 2048])
def test_streamed_places_are_those_of_the_whole_matrix(seed, block):
    queries, items, target = problem(seed)
    rng = np.random.default_rng(seed)
    bias = rng.integers(-3, 4, len(items)).astype(np.float32)
    met = [[int(j) for j in rng.integers(0, 53, i % 7) if j != t] for i, t in enumerate(target)]
    left_out = pasts([row + row[:1] for row in met])
    found = ranking.place_by_inner_product(
        queries, items, target, bias=bias, left_out=left_out, block=block
    )
    scores = queries @ items.T + bias
    expected = [ranks_of(scores[i], t, met[i]) for i, t in enumerate(target)]
    np.testing.assert_array_equal(found.above, [ranks[0] - 1 for ranks in expected])
    np.testing.assert_array_equal(found.tied, [len(ranks) - 1 for ranks in expected])
    whole = ranking.place(scores, target, left_out=left_out)
    np.testing.assert_array_equal(found.above, whole.above)
    np.testing.assert_array_equal(found.tied, whole.tied)
    assert found.above.dtype == found.tied.dtype == np.int64


@pytest.mark.parametrize("dim", [1, 7, 32, 100])
@pytest.mark.parametrize("block", [8, 100, 2048])
def test_equal_vectors_tie_wherever_they_stand(dim, block):
    rng = np.random.default_rng(dim)
    items = np.tile(rng.standard_normal((61, dim)).astype(np.float32), (5, 1))
    queries = rng.standard_normal((150, dim)).astype(np.float32)
    target = rng.integers(0, len(items), 150)
    bias = np.tile(rng.standard_normal(61).astype(np.float32), 5)
    found = ranking.place_by_inner_product(queries, items, target, bias=bias, block=block)
    np.testing.assert_array_equal(found.tied, 4)
    assert np.all(found.above % 5 == 0)


def test_a_target_that_cannot_be_ranked_is_a_miss():
    queries, items, target = problem(3, n=6, m=10)
    items[4] = np.nan
    queries[5] = np.nan
    target[:] = [0, 4, -1, 3, 2, 1]
    for place in (
        ranking.place_by_inner_product(queries, items, target),
        ranking.place(queries @ items.T, target),
        ranking.sampled_place(queries, items, target, seed=0, count=9),
    ):
        missed = np.array([False, True, True, False, False, True])
        np.testing.assert_array_equal(place.missed, missed)
        assert place.cold == 1
        for metric in ranking.METRICS.values():
            values = metric(place, 10)
            np.testing.assert_array_equal(values == 0, missed)
            np.testing.assert_array_equal(np.isfinite(values), True)
    # An item without a score comes last: the others stand as without it.
    kept = np.delete(np.arange(10), 4)
    found = ranking.place_by_inner_product(queries[[0, 3]], items, target[[0, 3]])
    expected = ranking.place(queries[[0, 3]] @ items[kept].T, np.array([0, 3]))
    np.testing.assert_array_equal(found.above, expected.above)


def test_what_is_left_out_is_no_candidate():
    scores = np.array([[5.0, 4.0, 3.0, 3.0, 2.0]])
    place = ranking.place(scores, np.array([3]), left_out=pasts([[0, 2, 2]]))
    assert (place.above, place.tied) == (1, 0)
    alone = ranking.place(scores, np.array([4]), left_out=pasts([[0, 1, 2, 3]]))
    assert (alone.above, alone.tied) == (0, 0)


def test_sampled_places_are_binomial_and_paired():
    rng = np.random.default_rng(0)
    m, n, count = 40, 4000, 25
    weights = rng.gamma(1.0, size=m)
    weights[5] = 0.0
    items = np.arange(m, dtype=np.float32)[:, None]
    queries, target = np.ones((n, 1), np.float32), np.full(n, 30)
    for weight in (None, weights):
        place = ranking.sampled_place(
            queries, items, target, seed=1, count=count, weights=weight, block=512
        )
        chance = np.ones(m) if weight is None else weight
        chance = np.where(np.arange(m) == 30, 0.0, chance)
        p = chance[31:].sum() / chance.sum()
        # Means of n binomials of `count`, to five standard errors.
        error = np.sqrt(count * p * (1 - p) / n)
        assert abs(place.above.mean() - count * p) < 5 * error
        assert abs(place.above.var() / (count * p * (1 - p)) - 1) < 5 * np.sqrt(2 / n)
        np.testing.assert_array_equal(place.tied, 0)
        assert place.num_items == count + 1
        again = ranking.sampled_place(
            queries, -items, target, seed=1, count=count, weights=weight, block=4000
        )
        np.testing.assert_array_equal(again.above, count - place.above)


def test_negatives_of_no_weight_and_the_target_are_never_drawn():
    items = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    target = np.array([3, 0, 0, 3])
    place = ranking.sampled_place(
        np.ones((4, 1), np.float32), items, target, seed=0, weights=np.array([1.0, 0, 0, 1.0])
    )
    np.testing.assert_array_equal(place.above, [0, 100, 100, 0])
    np.testing.assert_array_equal(place.tied, 0)


def test_users_are_what_varies():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 30, 80)
    users = np.repeat(7 * np.arange(80), sizes)
    values = np.clip(np.repeat(rng.random(80), sizes) + 0.1 * rng.random(len(users)), 0, 1)
    found = intervals.mean_with_interval(values, users, draws=2000)
    assert found.value == pytest.approx(values.mean())
    sums = np.array([values[users == 7 * u].sum() for u in range(80)])
    chosen = rng.integers(0, 80, (2000, 80))
    draws = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.quantile(draws, [0.05, 0.95])
    # Quantiles of 2000 draws, a few hundredths of their spread; Poisson against fixed totals.
    assert abs(found.low - low) < 0.15 * (high - low)
    assert abs(found.high - high) < 0.15 * (high - low)
    alone = intervals.mean_with_interval(values, np.arange(len(values)), draws=200)
    assert alone.high - alone.low < 0.5 * (found.high - found.low)


def test_differences_are_paired():
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(60), 5)
    a = 0.9 * rng.random(300)
    b = a + 0.02
    paired = intervals.mean_difference(b, a, users)
    assert paired.separated
    np.testing.assert_allclose([paired.low, paired.high], 0.02, rtol=1e-6)
    same = intervals.mean_difference(a, a, users)
    assert not same.separated
    assert same.value == 0
    apart = intervals.mean_with_interval(a, users)
    assert apart.high - apart.low > 0.02


def test_popularity_ranks_by_count_and_ties_equal_counts():
    counts = np.array([5, 2**30 + 1, 2**30, 5, 0])
    target = np.array([0, 1, 2, 3, 4])
    place = ranking.place_by_inner_product(
        np.zeros((5, 0)), np.zeros((5, 0)), target, bias=recommenders.popularity(counts)
    )
    np.testing.assert_array_equal(place.above, [2, 0, 1, 2, 4])
    np.testing.assert_array_equal(place.tied, [1, 0, 0, 1, 0])


def test_last_item_asks_for_the_latest():
    embeddings = np.arange(8, dtype=np.float32).reshape(4, 2)
    items = np.array([[-1, 0, 3], [-1, -1, -1]], np.int32)
    histories = Histories(items, np.array([2, 0]), np.array([1, 2]), np.array([0, 1]))
    queries = recommenders.last_item(embeddings, histories)
    np.testing.assert_array_equal(queries, [[6.0, 7.0], [0.0, 0.0]])
    assert queries.dtype == np.float32
    empty = ranking.place_by_inner_product(queries[1:], embeddings, histories.target[1:])
    assert (empty.above, empty.tied) == (0, 3)
    with pytest.raises(ValueError, match=r"history ids must be in 0\.\.2"):
        recommenders.last_item(embeddings[:3], histories)


def test_arrays_of_the_device_and_no_queries_are_ranked_too():
    queries, items, target = problem(4)
    found = ranking.place_by_inner_product(*map(jnp.asarray, (queries, items, target)))
    np.testing.assert_array_equal(found.above, ranking.place(queries @ items.T, target).above)
    none = ranking.place_by_inner_product(queries[:0], items, target[:0])
    assert none.above.shape == ranking.recall(none, 3).shape == (0,)


def test_bad_input_is_refused():
    queries, items, target = problem(5)
    wrong = target.copy()
    wrong[3] = len(items)
    with pytest.raises(ValueError, match=r"target ids must be in 0\.\.52, .* got 53 in row 3"):
        ranking.place_by_inner_product(queries, items, wrong)
    rows = [[(int(t) + 1) % 53] for t in target]
    with pytest.raises(ValueError, match=r"left out ids must be in 0\.\.52, .* got -2 in row 1"):
        ranking.place(queries @ items.T, target, left_out=pasts([rows[0], [-2], *rows[2:]]))
    with pytest.raises(ValueError, match="target ids must be integers; got dtype float64"):
        ranking.place(queries @ items.T, target.astype(float))
    place = ranking.place(queries @ items.T, target)
    for k in (0, 54, 2.5):
        with pytest.raises(ValueError, match=rf"k must be an integer in 1\.\.53, .* got {k}"):
            ranking.recall(place, k)
    with pytest.raises(ValueError, match="item 0, has all the weight"):
        ranking.sampled_place(queries[:1], items[:1], np.array([0]), seed=0)
    with pytest.raises(ValueError, match="weights must be finite and non-negative"):
        ranking.sampled_place(queries, items, target, seed=0, weights=np.full(53, np.nan))
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        ranking.sampled_place(queries, items, target, seed=0, count=0)
    with pytest.raises(ValueError, match=r"metrics must be in \[0, 1\]; got .* in row 1"):
        intervals.mean_with_interval(np.array([0.0, np.nan]), np.arange(2))
    with pytest.raises(ValueError, match="needs two of them at least"):
        intervals.mean_with_interval(np.array([0.0, 1.0]), np.zeros(2, int))
    with pytest.raises(AssertionError):
        ranking.place_by_inner_product(queries, items[:, 1:], target)

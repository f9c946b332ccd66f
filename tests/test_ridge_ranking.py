"""Ridge ranking against scikit-learn's ridge, leave-one-out by refits, and a task it can solve."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from kernlens import moments
from kernlens.kernels import sequence_kernels
from kernlens.metrics import ranking
from kernlens.probes import recommenders, ridge_ranking
from kernlens.targets.sequences import Histories, take
from tests.cases import pasts


def problem(seed=0, *, n=200, p=5, m=12, mean=0.0):
    """Features, targets that depend on them, and item vectors; the last item is never a target."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + mean).astype(np.float32)
    logits = (x - mean) @ rng.standard_normal((p, m)) + np.linspace(1.5, 0, m)
    logits[:, -1] = -np.inf
    target = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    return x, target.astype(np.int32), rng.standard_normal((m, 3)).astype(np.float32)


def scores_of(ranker, x):
    return (x - ranker.mean) @ ranker.vectors.T + ranker.bias


def penalty(x, strength):
    return strength * np.trace(np.cov(x.T, ddof=0)) * len(x) / x.shape[1]


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_fit_is_scikit_learns_ridge(strength, mean):
    x, target, psi = problem(mean=mean)
    found = moments.from_arrays(x, target, 12)
    wide = x.astype(np.float64)
    ridge = Ridge(alpha=penalty(wide, strength))
    one_hot = ridge_ranking.fit(found, strengths=[strength])
    expected = ridge.fit(wide, np.eye(12)[target]).predict(wide)
    # Moments in float32; scores are of order one.
    np.testing.assert_allclose(scores_of(one_hot, wide), expected, atol=1e-5)
    towers = ridge_ranking.fit(found, item_vectors=psi, strengths=[strength])
    expected = ridge.fit(wide, psi[target].astype(np.float64)).predict(wide) @ psi.T
    np.testing.assert_allclose(scores_of(towers, wide), expected, atol=1e-4)


@pytest.mark.parametrize("vectors", [False, True])
def test_errors_are_generalised_cross_validation_and_near_leave_one_out(vectors):
    x, target, psi = problem(1)
    wide, y = x.astype(np.float64), np.eye(12)[target]
    y = y @ psi if vectors else y
    strengths = np.array([0.01, 1.0, 100.0])
    ranker = ridge_ranking.fit(
        moments.from_arrays(x, target, 12),
        item_vectors=psi if vectors else None,
        strengths=strengths,
    )
    z, n = wide - wide.mean(0), len(x)
    for strength, error in zip(strengths, ranker.errors, strict=True):
        hat = z @ np.linalg.solve(z.T @ z + penalty(wide, strength) * np.eye(5), z.T) + 1 / n
        residual = y - hat @ y
        gcv = np.sum(residual**2) / n / (1 - np.trace(hat) / n) ** 2
        np.testing.assert_allclose(error, gcv, rtol=1e-5)
        refits = 0.0
        for i in range(0, n, 10):
            kept = np.arange(n) != i
            # The penalty is absolute: the same without the row.
            fit = Ridge(alpha=penalty(wide, strength)).fit(wide[kept], y[kept])
            refits += np.sum((y[i] - fit.predict(wide[[i]])) ** 2)
        loo = np.sum((residual / (1 - np.diag(hat))[:, None])[::10] ** 2)
        np.testing.assert_allclose(loo, refits, rtol=1e-8)
        full = np.sum((residual / (1 - np.diag(hat))[:, None]) ** 2) / n
        # Leverages differ from their mean, p / n, by as much: a few hundredths.
        np.testing.assert_allclose(error, full, rtol=0.02)
    assert ranker.strength == strengths[np.argmin(ranker.errors)]


def test_scores_do_not_depend_on_shift_scale_and_rotation():
    x, target, _ = problem(2)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    moved = (1e3 * (x @ turn) + 50.0).astype(np.float32)
    a, b = (ridge_ranking.fit(moments.from_arrays(v, target, 12)) for v in (x, moved))
    assert a.strength == b.strength
    np.testing.assert_allclose(scores_of(a, x), scores_of(b, moved), atol=1e-5)


def test_merged_moments_give_the_same_ranker():
    x, target, _ = problem(3)
    parts = [moments.from_arrays(x[s], target[s], 12) for s in (slice(0, 100), slice(100, 200))]
    a = ridge_ranking.fit(moments.merge(*parts))
    b = ridge_ranking.fit(moments.from_arrays(x, target, 12))
    np.testing.assert_allclose(scores_of(a, x), scores_of(b, x), atol=1e-5)


def test_features_that_say_nothing_rank_by_popularity():
    _, target, _ = problem(4)
    x = np.full((200, 5), 7.0, np.float32)
    ranker = ridge_ranking.fit(moments.from_arrays(x, target, 12))
    place = ridge_ranking.place(ranker, x, target)
    counts = np.bincount(target, minlength=12)
    expected = ranking.place_by_inner_product(
        np.zeros((200, 0)), np.zeros((12, 0)), target, bias=recommenders.popularity(counts)
    )
    np.testing.assert_array_equal(place.above, expected.above)
    np.testing.assert_array_equal(place.tied, expected.tied)


def test_more_features_than_rows_and_constant_features():
    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((6, 20)).astype(np.float32), np.arange(6) % 3
    ranker = ridge_ranking.fit(moments.from_arrays(x, target, 3))
    # Generalised cross-validation and the fit by the 6 x 6 Gram matrix, in float64.
    z, y = (part - part.mean(0) for part in (x.astype(np.float64), np.eye(3)[target]))
    gram, judged = z @ z.T, 0
    for strength, error in zip(ranker.strengths, ranker.errors, strict=True):
        hat = gram @ np.linalg.inv(gram + penalty(z, strength) * np.eye(6))
        slack = 1 - (1 + np.trace(hat)) / 6
        if slack > 0.05:  # below, both are rounding
            np.testing.assert_allclose(error, np.sum((y - hat @ y) ** 2) / 6 / slack**2, rtol=1e-4)
            judged += 1
        if strength == ranker.strength:
            np.testing.assert_allclose(z @ ranker.vectors.T, hat @ y, atol=1e-5)
    assert judged > 3
    assert ranker.strength == ranker.strengths[np.argmin(ranker.errors)]


def chains(n, seed, *, m=30, length=5):
    """Histories in one of three groups of items; the next item is of the group of the history."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    items = (3 * rng.integers(0, m // 3, (n, length)) + group[:, None]).astype(np.int32)
    items[np.arange(length) < rng.integers(0, length, n)[:, None]] = -1
    target = (3 * rng.integers(0, m // 3, n) + group).astype(np.int32)
    past = pasts([row[row >= 0] for row in items])
    return Histories(items, np.sum(items >= 0, axis=1), target, np.arange(n) % 50, past)


@pytest.mark.thorough
@pytest.mark.parametrize("rows", [64, 8192])
def test_predict_finds_what_there_is_to_find(rows):
    rng = np.random.default_rng(0)
    vectors = np.eye(3)[np.arange(30) % 3] + 0.05 * rng.standard_normal((30, 3))
    vectors = vectors.astype(np.float32)
    train, test = chains(3000, 1), chains(400, 2)
    map_fn = sequence_kernels.averages(vectors)
    for item_vectors in (None, vectors):
        place, _ = ridge_ranking.predict(
            map_fn,
            train,
            ranking.all_items(test),
            num_items=30,
            item_vectors=item_vectors,
            rows=rows,
        )
        # All ten items of the group, and no other, can be the next.
        np.testing.assert_array_equal(ranking.recall(place, 10), 1.0)
        assert np.all(place.above < 10)


@pytest.mark.thorough
def test_predict_is_fit_and_place_on_the_whole():
    train, test = chains(300, 3), chains(50, 4)
    test.items[0] = -1
    new = np.flatnonzero(~test.past.holds(test.target))
    test.target[new[1]] = -1
    queries = ranking.new_items(test)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((30, 4)).astype(np.float32)
    map_fn = sequence_kernels.averages(vectors)
    place, ranker = ridge_ranking.predict(map_fn, train, queries, num_items=30, rows=128)
    whole = ridge_ranking.fit(moments.from_arrays(map_fn(train.items), train.target, 30))
    assert whole.strength == ranker.strength
    asked = queries.histories
    scores = scores_of(whole, np.asarray(map_fn(jnp.asarray(asked.items)), np.float64))
    expected = ranking.place(scores, asked.target, left_out=queries.left_out)
    assert place.above[1] == expected.above[1] == 30
    # Streamed and whole moments differ by rounding, which may swap neighbours.
    assert np.mean(place.above != expected.above) < 0.05
    none = ranking.all_items(take(test, slice(0, 0)))
    assert ridge_ranking.predict(map_fn, train, none, num_items=30)[0].above.shape == (0,)


@pytest.mark.thorough
def test_cold_items_are_absent_from_histories_and_a_miss_as_targets():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 4)).astype(np.float32)
    vectors[[4, 11, 20]] = np.nan
    train, test = chains(400, 5), chains(60, 6)
    cold = np.isin(np.arange(30), [4, 11, 20])

    def absent(histories):
        return histories._replace(items=np.where(np.isin(histories.items, [4, 11, 20]), -1,
                                                 histories.items))  # fmt: skip

    assert np.any(cold[test.target])
    map_fn = sequence_kernels.averages(vectors)
    whole = sequence_kernels.averages(np.where(cold[:, None], 0, vectors))
    for item_vectors in (None, vectors):
        place, ranker = ridge_ranking.predict(
            map_fn, train, ranking.all_items(test), num_items=30, item_vectors=item_vectors
        )
        given = np.asarray(whole(jnp.asarray(absent(train).items)), np.float64)
        held = np.asarray(whole(jnp.asarray(absent(test).items)), np.float64)
        z = given - given.mean(0)
        if item_vectors is None:
            y = np.eye(30)[train.target]
        else:  # examples of cold targets stand at the mean of the others
            y = vectors[train.target].astype(np.float64)
            y[cold[train.target]] = y[~cold[train.target]].mean(0)
        unit = ranker.strength * np.trace(z.T @ z) / 4
        fitted = y.mean(0) + (held - given.mean(0)) @ np.linalg.solve(
            z.T @ z + unit * np.eye(4), z.T @ (y - y.mean(0))
        )
        scores = fitted if item_vectors is None else fitted @ vectors.T
        expected = ranking.place(scores, test.target)
        assert np.mean(place.above != expected.above) < 0.05  # rounding may swap neighbours
        missed = np.zeros(60, bool) if item_vectors is None else cold[test.target]
        np.testing.assert_array_equal(place.missed, missed)
        assert place.cold == (0 if item_vectors is None else 3)


def test_bad_input_is_refused():
    x, target, psi = problem(6)
    found = moments.from_arrays(x, target, 12)
    with pytest.raises(ValueError, match="strengths must be positive"):
        ridge_ranking.fit(found, strengths=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"item_vectors must be \[m, h\] with m = 12"):
        ridge_ranking.fit(found, item_vectors=psi[1:])
    unlabelled = np.where(np.arange(200) == 3, -1, target)
    with pytest.raises(ValueError, match="200 rows, 199 of them labelled"):
        ridge_ranking.fit(moments.from_arrays(x, unlabelled, 12))
    with pytest.raises(ValueError, match="got 0 rows"):
        ridge_ranking.fit(moments.init(5, 12))
    train = chains(20, 0)
    map_fn = sequence_kernels.averages(np.eye(20, dtype=np.float32))
    with pytest.raises(ValueError, match=r"train histories must hold items in 0\.\.19"):
        ridge_ranking.predict(map_fn, train, ranking.all_items(train), num_items=20)
    with pytest.raises(ValueError, match="item_vectors must be finite for a target at least"):
        ridge_ranking.fit(found, item_vectors=np.full_like(psi, np.nan))

    def bad(items):
        return jnp.where(items[:, :1] == train.items[3, 0], jnp.nan, 1.0) * jnp.ones((1, 2))

    queries = ranking.all_items(train)
    said = r"features of train history \d+, items \[.*\], are not finite; the maps of sequence_kern"
    with pytest.raises(ValueError, match=said):
        ridge_ranking.predict(bad, train, queries, num_items=30)

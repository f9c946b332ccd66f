"""Protocols and baselines against loops, dense float64 formulas and scikit-learn's ridge."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import Ridge

from kernlens.metrics import ranking
from kernlens.probes import recommenders
from kernlens.scores import intervals
from kernlens.targets import sequences
from kernlens.targets.sequences import Histories, Past
from tests.cases import pasts, toy_interactions


def baskets(seed=0, *, num_items=14, users=12):
    """Baskets of users with favourites, so that items recur; item 13 is in none."""
    rng = np.random.default_rng(seed)
    rows, owners = [], []
    for user in range(users):
        favourites = rng.permutation(13)[:4]
        for _ in range(rng.integers(1, 5)):
            rows.append(list(rng.choice(favourites, rng.integers(2, 6))))
            owners.append(user)
    made = toy_interactions(rows)
    return made._replace(
        users=np.array(owners, np.int32),
        item_keys=np.arange(num_items),
        user_keys=np.arange(users),
        times=None,
    )


def split_of(data, **options):
    return sequences.leave_last_out(data, length=3, seed=None, **options)


def place_of(scores, target, out=()):
    """Above and tied, counted one by one."""
    others = [j for j in range(len(scores)) if j != target and j not in set(out)]
    own = scores[target]
    return sum(scores[j] > own for j in others), sum(scores[j] == own for j in others)


def compare(place, scores, queries, rounding=0.0):
    """A place against scores of a loop, which may tie to rounding."""
    histories, out = queries.histories, queries.left_out
    for i, target in enumerate(histories.target):
        own = np.round(scores[i], 9) if rounding else scores[i]
        left = () if out is None else out.items[out.start[i] : out.stop[i]]
        assert (place.above[i], place.tied[i]) == place_of(own, target, left), i


@pytest.mark.parametrize("per_user", [False, True])
def test_a_past_is_all_that_the_user_did_before(per_user):
    data = baskets()
    split = split_of(data, per_user=per_user)
    for histories in (split.train, split.test):
        past = histories.past
        for i, (target, user) in enumerate(zip(histories.target, histories.user, strict=True)):
            end = past.stop[i]
            assert data.items[end] == target
            first = data.offsets[np.flatnonzero(data.users == user)[0]]
            assert past.start[i] == first
            session = np.searchsorted(data.offsets, end, side="right") - 1
            begun = first if per_user else data.offsets[session]
            assert histories.sequence.start[i] == begun
            assert histories.sequence.stop[i] == end
            row = histories.items[i][histories.items[i] >= 0]
            assert_array_equal(past.items[end - len(row) : end], row)
    met = [split.test.target[i] in data.items[split.test.past.start[i] : split.test.past.stop[i]]
           for i in range(len(split.test.target))]  # fmt: skip
    assert_array_equal(split.test.past.holds(split.test.target), met)
    assert split.notes["test_targets_in_past"] == sum(met) > 0
    assert sum(met) > split.notes["test_targets_in_history"] or per_user


def test_pasts_are_read_in_parts_of_whole_examples(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [list(rng.integers(0, 9, size)) for size in (0, 3, 11, 0, 5, 1, 0)]
    past = pasts(rows)
    for entries in (1, 4, 100):
        monkeypatch.setattr(sequences.histories, "ENTRIES", entries)
        found = [(int(r), int(i)) for parts in past.pairs() for r, i in zip(*parts, strict=True)]
        assert found == [(r, i) for r, row in enumerate(rows) for i in row]
        counts = past.counts(9).toarray()
        assert_array_equal(counts, [np.bincount(row, minlength=9) for row in rows])
        assert_array_equal(past.mask(9), counts > 0)
        assert_array_equal(past.holds(np.full(7, 4)), counts[:, 4] > 0)
    none = past._replace(start=past.start[:0], stop=past.stop[:0])
    assert none.counts(9).shape == none.mask(9).shape == (0, 9)


def test_take_keeps_what_belongs_together():
    test = split_of(baskets()).test
    rows = np.array([5, 2])
    some = sequences.take(test, rows)
    assert_array_equal(some.items, test.items[rows])
    assert_array_equal(some.past.counts(14).toarray(), test.past.counts(14).toarray()[rows])
    bare = sequences.take(test._replace(past=None), slice(0, 2))
    assert bare.past is None
    assert_array_equal(bare.target, test.target[:2])


def test_all_items_asks_everything_and_new_items_what_was_never_met():
    data = baskets()
    test = split_of(data).test
    repeated = test.past.holds(test.target)
    everything = ranking.all_items(test)
    assert everything.left_out is None
    assert everything.dropped == 0
    assert_array_equal(everything.repeated, repeated)
    new = ranking.new_items(test)
    assert_array_equal(new.histories.target, test.target[~repeated])
    assert new.dropped == repeated.sum() > 0
    assert not new.repeated.any()
    assert not new.left_out.holds(new.histories.target).any()
    own = ranking.new_to_sequence(test)
    inside = [t in data.items[a:b] for t, a, b in zip(test.target, *test.sequence[1:], strict=True)]
    assert own.dropped == sum(inside) > 0
    assert_array_equal(own.histories.target, test.target[~np.array(inside)])
    assert_array_equal(own.repeated, repeated[~np.array(inside)])
    assert own.repeated.any()
    assert not own.left_out.holds(own.histories.target).any()
    with pytest.raises(ValueError, match=r"do not tell their whole sequences \(sequence=None\)"):
        ranking.new_to_sequence(test._replace(sequence=None))
    for protocol in ranking.PROTOCOLS.values():
        with pytest.raises(ValueError, match=r"needs all that each user did .*past=None"):
            protocol(test._replace(past=None))


def test_the_answer_cannot_leak_by_elimination():
    # Own counts know nothing of which item comes next; all are equally often in the past.
    rng = np.random.default_rng(0)
    rows = [list(rng.permutation(30)) for _ in range(200)]
    target = rng.integers(0, 30, 200)
    past = pasts(rows)
    test = Histories(np.array(rows, np.int32), np.full(200, 30), target, np.arange(200), past)
    x = sparse.csr_array(past.counts(40))
    recall = ranking.recall(recommenders.own_past(x, ranking.all_items(test)), 1)
    assert recall.mean() == pytest.approx(1 / 30)
    scores = np.zeros((200, 40))
    with pytest.raises(ValueError, match=r"target of row 0, item \d+, is among the items .* left"):
        ranking.place(scores, target, left_out=past)
    with pytest.raises(ValueError, match=r"ranking\.new_items asks only queries whose target is"):
        ranking.place_by_inner_product(scores[:, :1], scores[0][:, None], target, left_out=past)
    assert ranking.new_items(test).dropped == 200


def test_session_matrix_counts_the_items_of_each_session():
    data = baskets()
    expected = [
        np.bincount(data.items[a:b], minlength=14)
        for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)
    ]
    assert_array_equal(recommenders.session_matrix(data).toarray(), expected)
    again = baskets()
    assert_array_equal(data.items, again.items)
    assert_array_equal(data.offsets, again.offsets)


def shares(data):
    counts = data.counts
    return np.array([np.sum(np.unique(counts) < c) for c in counts])


@pytest.mark.parametrize("protocol", ranking.PROTOCOLS)
def test_popularity_and_own_past_are_the_loops(protocol):
    data = baskets(1)
    queries, x = ranking.PROTOCOLS[protocol](split_of(data).test), recommenders.session_matrix(data)
    rank = shares(data)
    test = queries.histories
    compare(recommenders.popular(x, queries), np.tile(rank, (len(test.target), 1)), queries)
    own = [
        np.bincount(test.past.items[a:b], minlength=14) * 1000 + rank
        for a, b in zip(test.past.start, test.past.stop, strict=True)
    ]
    compare(recommenders.own_past(x, queries), own, queries)


@pytest.mark.parametrize("protocol", ranking.PROTOCOLS)
@pytest.mark.parametrize("neighbours", [3, 200])
def test_item_neighbours_are_the_loops(protocol, neighbours):
    data = baskets(2)
    queries, x = ranking.PROTOCOLS[protocol](split_of(data).test), recommenders.session_matrix(data)
    held = x.toarray() > 0
    cosine = np.zeros((14, 14))
    for i in range(14):
        for j in range(14):
            both = np.sum(held[:, i] & held[:, j])
            if i != j and both:
                cosine[i, j] = both / np.sqrt(held[:, i].sum() * held[:, j].sum())
    for row in cosine:
        row[row < np.sort(row)[-min(neighbours, 14)] - 1e-12] = 0
    below = shares(data) / 14 - 1
    for fn, columns in (
        (recommenders.item_knn, slice(None)),
        (recommenders.near_last, slice(-1, None)),
    ):
        scores = []
        for row in queries.histories.items[:, columns]:
            found = sum((cosine[i] for i in set(row[row >= 0].tolist())), np.zeros(14))
            scores.append(np.where(found > 0, found, below))
        compare(fn(x, queries, neighbours=neighbours), scores, queries, rounding=1e-9)
    with pytest.raises(ValueError, match="neighbours must be at least 1; got 0"):
        recommenders.item_knn(x, queries, neighbours=0)


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_ease_is_the_ridge_of_each_item_on_all_others(strength):
    x = recommenders.session_matrix(baskets(3))
    model = recommenders.fit_ease(x, strengths=[strength])
    held = (x.toarray() > 0).astype(float)
    assert_array_equal(model.items, np.arange(14))
    assert_array_equal(np.diagonal(model.weights), 0)
    for j in range(14):
        others = np.arange(14) != j
        ridge = Ridge(alpha=strength, fit_intercept=False, solver="cholesky")
        ridge.fit(held[:, others], held[:, j])
        assert_allclose(model.weights[others, j], ridge.coef_, atol=1e-10)
    assert model.strength == strength
    assert np.isnan(model.validation).all()


@pytest.mark.parametrize("protocol", ranking.PROTOCOLS)
def test_ease_ranks_by_the_weights_of_the_history(protocol):
    data = baskets(4)
    queries, x = ranking.PROTOCOLS[protocol](split_of(data).test), recommenders.session_matrix(data)
    model = recommenders.fit_ease(x, strengths=[2.0])
    scores = [
        sum((model.weights[i] for i in set(row[row >= 0].tolist())), np.zeros(14))
        for row in queries.histories.items
    ]
    compare(recommenders.ease(x, queries, strengths=[2.0]), scores, queries, rounding=1e-9)


def test_ease_models_the_frequent_items_alone_when_told():
    data = baskets(5)
    queries, x = ranking.all_items(split_of(data).test), recommenders.session_matrix(data)
    held = (x.toarray() > 0).sum(axis=0)
    model = recommenders.fit_ease(x, strengths=[2.0], most=6)
    assert len(model.items) == 6
    others = np.setdiff1d(np.arange(14), model.items)
    assert held[model.items].min() >= held[others].max()
    assert_allclose(
        model.weights, recommenders.fit_ease(x[:, model.items], strengths=[2.0]).weights, rtol=1e-10
    )
    place = recommenders.ease(x, queries, strengths=[2.0], most=6)
    assert place.cold == 8
    assert_array_equal(place.missed, np.isin(queries.histories.target, others))
    assert ((place.above < 6) | place.missed).all()
    with pytest.raises(ValueError, match=r"EASE on 14 items .* items², .*; give more, or most=6 "):
        recommenders.fit_ease(x, memory=1000)
    with pytest.raises(ValueError, match="most must be at least 1; got 0"):
        recommenders.fit_ease(x, most=0)


def test_ease_chooses_the_strength_that_finds_hidden_items():
    # Pairs of items always come together; two others are in every second session, whatever else is
    # there. With little ridge an item names its partner, with much the frequent ones.
    rng = np.random.default_rng(0)
    rows = np.zeros((400, 42))
    for row in rows:
        row[40:] = rng.random(2) < 0.5
        for pair in rng.permutation(20)[:3]:
            row[2 * pair : 2 * pair + 2] = 1
    model = recommenders.fit_ease(sparse.csr_array(rows), strengths=[1.0, 1e9])
    assert model.strength == 1.0
    # Six of seven hidden items have their partner there; the seventh is a frequent one.
    assert model.validation[0] > 6 / 7
    assert model.validation[1] < 0.7
    assert_array_equal(model.strengths, [1.0, 1e9])
    with pytest.raises(ValueError, match="no session has two items to choose a strength by"):
        recommenders.fit_ease(sparse.csr_array(np.eye(5)))
    with pytest.raises(ValueError, match="strengths must be positive and finite"):
        recommenders.fit_ease(sparse.csr_array(rows), strengths=[0.0])


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_one_hot_ridge_of_users_is_the_ridge_of_items(strength):
    x = recommenders.session_matrix(baskets(7, num_items=20, users=15))
    rows = (x.toarray() > 0).astype(float)
    model = recommenders.fit_user_ridge(x, kernel=recommenders.linear_rows, strengths=[strength])
    # Push-through: (X X' + l I)^-1 X against X (X' X + l I)^-1.
    ridge = strength * np.sum(rows**2) / len(rows)
    expected = rows @ np.linalg.solve(rows.T @ rows + ridge * np.eye(20), rows.T @ rows)
    assert_allclose(model.scores(rows), expected, rtol=1e-9, atol=1e-12)
    assert model.strength == strength


def test_the_infinite_autoencoder_is_the_published_kernel():
    """The NTK of one hidden ReLU layer, written out in float64 for binary rows."""
    rows = (np.random.default_rng(0).random((6, 12)) < 0.4).astype(float)
    q = 2.0 * np.sum(rows, axis=1) / 12 + 0.01
    n = 2.0 * rows @ rows.T / 12 + 0.01
    length = np.sqrt(np.outer(q, q))
    angle = np.arccos(np.clip(n / length, -1, 1))
    nngp = 2.0 * (length * np.sin(angle) + (np.pi - angle) * n) / (2 * np.pi) + 0.01
    expected = nngp + 2.0 * n * (np.pi - angle) / (2 * np.pi)
    got = recommenders.infinite_autoencoder()(rows.astype(np.float32), rows.astype(np.float32))
    # Float32, and arccos near 1 above.
    assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="depth must be at least 1; got 0"):
        recommenders.infinite_autoencoder(0)


def test_user_ridge_chooses_the_strength_that_finds_hidden_items():
    rng = np.random.default_rng(0)
    rows = np.zeros((120, 42))
    for row in rows:
        row[40:] = rng.random(2) < 0.5
        for pair in rng.permutation(20)[:3]:
            row[2 * pair : 2 * pair + 2] = 1
    model = recommenders.fit_user_ridge(
        sparse.csr_array(rows), kernel=recommenders.linear_rows, strengths=[0.01, 1e9]
    )
    assert model.strength == 0.01
    assert model.validation[0] > 0.7 > model.validation[1]
    with pytest.raises(ValueError, match="strengths must be positive and finite"):
        recommenders.fit_user_ridge(sparse.csr_array(rows), strengths=[-1.0])
    with pytest.raises(ValueError, match=r"120 users on 42 items takes 0\.0 GB, more than memory="):
        recommenders.fit_user_ridge(sparse.csr_array(rows), memory=1000)


@pytest.mark.thorough
def test_every_baseline_takes_a_session_matrix_and_queries():
    data = baskets(6, num_items=40, users=30)
    x, queries = recommenders.session_matrix(data), ranking.all_items(split_of(data).test)
    for name, fn in {**recommenders.BASELINES, "infinity-AE": recommenders.user_ridge}.items():
        place = fn(x, queries)
        assert place.num_items == 40
        assert len(place.above) == len(queries.repeated)
        empty = ranking.Queries(sequences.take(queries.histories, slice(0, 0)), None,
                                queries.repeated[:0], queries.asked)  # fmt: skip
        assert fn(x, empty).above.shape == (0,), name


def test_recall_is_split_by_kind_of_target():
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    users, repeated = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 0, 1, 1, 0, 1], bool)
    found = intervals.mean_by_target(values, users, repeated, draws=200)
    assert found["repeated"].value == 0.75
    assert found["new"].value == 0.0
    one = intervals.mean_by_target(values, users, np.arange(6) > 0, draws=200)
    assert one["new"] is None


def test_top_lists_are_the_order_of_the_scores():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, (6, 20)).astype(float)
    scores[:, 3] = np.nan
    out = pasts([[], [1, 2], [0], [5, 5], list(range(18)), [19]])
    found = ranking.top(scores, 5, left_out=out)
    for i in range(6):
        left = set(out.items[out.start[i] : out.stop[i]].tolist()) | {3}
        kept = [j for j in range(20) if j not in left]
        best = np.sort(scores[i][kept])[::-1][:5]
        assert_array_equal(scores[i][found[i][found[i] >= 0]], best)
        assert not set(found[i].tolist()) & left
        assert np.sum(found[i] < 0) == max(5 - len(kept), 0)
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        ranking.top(scores, 0)


def test_cold_items_are_absent_from_the_last_item():
    embeddings = np.arange(8, dtype=np.float32).reshape(4, 2)
    embeddings[3, 0] = np.nan
    items = np.array([[0, 1, 3], [-1, -1, 3], [-1, 3, 2]], np.int32)
    histories = Histories(items, np.array([3, 1, 2]), np.array([1, 2, 0]), np.arange(3))
    found = recommenders.last_item(embeddings, histories)
    assert_array_equal(found, [embeddings[1], [0, 0], embeddings[2]])


def test_the_whole_past_is_left_out_not_only_the_latest_items():
    # Popularity with the latest two items left out still offers what was met long ago.
    rows = [[0, 1, 2, 3, 4, 5, 6 + u % 3] for u in range(30)]
    data = toy_interactions(rows)._replace(
        users=np.arange(30), item_keys=np.arange(10), user_keys=np.arange(30), times=None
    )
    queries = ranking.new_items(sequences.leave_last_out(data, length=2, seed=None).test)
    assert isinstance(queries.left_out, Past)
    place = recommenders.popular(recommenders.session_matrix(data), queries)
    assert_array_equal(place.above, 0)  # items 0 to 5 are all met before

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kernlens.metrics import ranking
from kernlens.models import towers
from kernlens.targets import sequences
from kernlens.train import loop, pretrain, recommend, sampling
from kernlens.train.recommend import examples, tables
from kernlens.train.recommend.batches import Stream, whole
from tests.cases import toy_interactions

NUM_ITEMS = 12


def cycles(seed=0, *, sessions=120):
    """Sessions that count upwards modulo the number of items: the last item tells the next."""
    rng = np.random.default_rng(seed)
    rows = [
        (rng.integers(NUM_ITEMS) + np.arange(rng.integers(2, 8))) % NUM_ITEMS
        for _ in range(sessions)
    ]
    return sequences.leave_last_out(toy_interactions(rows), length=6, seed=None)


SPLIT = cycles()
TABLE = np.random.default_rng(1).normal(size=(NUM_ITEMS, 8)).astype(np.float32)
ADAM = optax.adam(1e-2)
GRU = towers.TwoTowers(towers.GruTower((16,)), towers.DenseLayers((16,)))
DENSE = towers.TwoTowers(towers.DenseTower((5, 8)))


RESUMED = {"seeds": 2, "trained": True, "held_out": 0.2, "epochs": 3, "patience": 2}


def fit(towers_=DENSE, table=TABLE, train=SPLIT.train, **settings):
    settings = {"epochs": 2, "batch": 64, "negatives": 5, "widths": 2, "held_out": 0} | settings
    return recommend.fit(train, table, towers_, **settings)


def without_item(*items):
    """The table with cold items."""
    table = TABLE.copy()
    table[list(items)] = np.nan
    return table


def recall(done, k=1, test=SPLIT.test):
    return ranking.recall(recommend.place(done, ranking.all_items(test), 0), k).mean()


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.losses, other.losses)


@pytest.mark.thorough
@pytest.mark.parametrize("contrast", [pretrain.SOFTMAX, pretrain.SIGMOID])
@pytest.mark.parametrize("share", [True, False])
def test_the_loss_agrees_with_a_loop(contrast, share):
    key, k = jax.random.key(3), 6
    noise = sampling.unigram(np.arange(1, NUM_ITEMS + 1))
    loss = recommend.NextItemLoss(DENSE, contrast, k, share, False)
    rows = slice(0, 9)
    items, target = SPLIT.train.items[rows], SPLIT.train.target[rows]
    weight = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0], np.float32)
    tables = np.stack([TABLE * 0, TABLE])
    shared = recommend.Shared(
        jnp.asarray(tables.reshape(-1, 8)), jnp.full(NUM_ITEMS, 0.1, jnp.float32), noise
    )
    batch = recommend.Batch(*map(jnp.asarray, (items, target, weight, np.int32(1))))
    z, mask = jnp.asarray(TABLE[items]), jnp.asarray(items >= 0)
    params = DENSE.init(jax.random.key(0), z, mask, z[:, 0])
    found = jax.jit(loss)({"towers": params}, key, batch, shared)
    queries = np.asarray(DENSE.apply(params, z, mask, method="query"), np.float64)
    if share:
        slots = jax.random.randint(key, (k,), 0, len(noise.owners))
        drawn = np.tile(np.asarray(noise.owners)[np.asarray(slots)], (9, 1))
        assert np.any(drawn == target[:, None])
    else:
        drawn = np.asarray(sampling.draw(key, noise, jnp.asarray(target)[:, None], k))
        assert not np.any(drawn == target[:, None])
    total = 0.0
    for q, t, w, others in zip(queries, target, weight, drawn, strict=True):
        right = q @ TABLE[t]
        wrong = np.array([q @ TABLE[j] for j in others if j != t])
        if contrast is pretrain.SOFTMAX:
            total += w * (np.log(np.exp(right) + np.exp(wrong).sum()) - right)
        else:
            total += w * (np.log1p(np.exp(-right)) + np.log1p(np.exp(wrong)).sum())
    np.testing.assert_allclose(found, total / weight.sum(), rtol=1e-5)


def test_an_epoch_meets_every_example_once():
    stream = Stream(SPLIT.train, (4, 7), 3, 32, 2)
    met = [stream(i) for i in range(stream.rounds, 2 * stream.rounds)]
    expected = sorted(
        (tuple(row[row >= 0].tolist()), int(t))
        for row, t in zip(SPLIT.train.items, SPLIT.train.target, strict=True)
    )
    for run in range(6):
        found = [
            (tuple(row[row >= 0].tolist()), int(t))
            for batch in met
            for row, t, w in zip(
                batch.items[:, run].reshape(-1, batch.items.shape[-1]),
                batch.target[:, run].reshape(-1),
                batch.weight[:, run].reshape(-1),
                strict=True,
            )
            if w
        ]
        assert sorted(found) == expected
    assert all((batch.table == [0, 0, 1, 1, 2, 2]).all() for batch in met)
    assert len({batch.items.shape[-1] for batch in met}) == 2


@pytest.mark.slow
def test_a_gru_learns_what_comes_next():
    adam = optax.adam(1e-2)
    done = fit(GRU, epochs=40, optimizer=adam, negatives=20)
    place = recommend.place(done, ranking.all_items(SPLIT.test), 0)
    assert ranking.recall(place, 1).mean() > 0.9  # chance: 1 in 12
    assert done.epoch_losses[-1, 0] < 0.2 * done.epoch_losses[0, 0]


@pytest.mark.slow
def test_tables_and_seeds_train_at_once_as_alone():
    tables = np.stack([TABLE, TABLE[::-1] * 0.5])
    noise = np.random.default_rng(5).permutation(SPLIT.train.target)
    settings = {
        "train": SPLIT.train._replace(target=noise), "held_out": 0.2, "epochs": 9, "patience": 1,
        "optimizer": ADAM,
    }  # fmt: skip
    together = fit(table=tables, seeds=(3, 5), **settings)
    assert len(set(together.best_epoch)) > 1  # runs stop apart
    for run, (table, seed) in enumerate([(0, 3), (0, 5), (1, 3), (1, 5)]):
        alone = fit(table=tables[table], seeds=(seed,), **settings)
        assert alone.best_epoch == together.best_epoch[run]
        for a, b in zip(
            jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True
        ):
            # Products in another order, then a few steps of Adam.
            np.testing.assert_allclose(a[run], b[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            recommend.queries(together, SPLIT.test, run),
            recommend.queries(alone, SPLIT.test, 0),
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.mark.thorough
@pytest.mark.parametrize("trained", [False, True])
def test_embeddings_move_where_they_are_trained(trained):
    done = fit(trained=trained, standardise=False, item_bias=False)
    assert ("embeddings" in done.params) == trained
    vectors = recommend.item_vectors(done, 0)  # the item tower is the identity
    assert np.array_equal(vectors, TABLE) != trained


@pytest.mark.slow
@pytest.mark.parametrize("join", [None, towers.Concatenation((4,))])
def test_scores_stream_in_blocks(join):
    both = towers.TwoTowers(towers.DenseTower((8,)), None, join)
    done = fit(both, standardise=False)
    bias = np.asarray(done.params["bias"][0])
    assert np.ptp(bias) > 0
    blocks = list(recommend.scores(done, SPLIT.test, 0, block=50))
    assert [len(block) for block in blocks] == [50, 50, 20]
    params = jax.tree.map(lambda leaf: leaf[0], done.params["towers"])
    for row in (0, 60, 119):
        items = SPLIT.test.items[row]
        z = jnp.asarray(np.broadcast_to(TABLE[items], (NUM_ITEMS, 6, 8)))
        mask = jnp.asarray(np.broadcast_to(items >= 0, z.shape[:2]))
        expected = both.apply(params, z, mask, jnp.asarray(TABLE)) + bias
        np.testing.assert_allclose(np.concatenate(blocks)[row], expected, rtol=1e-4, atol=1e-5)
    if join is None:
        found = recommend.queries(done, SPLIT.test, 0) @ recommend.item_vectors(done, 0).T
        np.testing.assert_allclose(found, np.concatenate(blocks), rtol=1e-4, atol=1e-5)
    for protocol in ranking.PROTOCOLS.values():
        asked = protocol(SPLIT.test)
        place = recommend.place(done, asked, 0, block=7)
        scores = np.concatenate(blocks)[asked.asked]
        right = ranking.place(scores, asked.histories.target, left_out=asked.left_out)
        np.testing.assert_array_equal(place.above, right.above)


def test_no_epoch_ranks_by_the_average_itself():
    both = towers.TwoTowers(towers.DiscountedAverage(0.1))
    done = fit(both, epochs=0, standardise=False)
    share = np.bincount(SPLIT.train.target, minlength=NUM_ITEMS) / len(SPLIT.train.target)
    items = SPLIT.test.items[0]
    items = items[items >= 0]
    weights = 0.1 / (0.1 + share[items])
    expected = weights @ TABLE[items] / weights.sum()
    found = recommend.queries(done, SPLIT.test, 0, block=7)
    assert found.shape == (120, 9)
    np.testing.assert_allclose(found[0], [*expected, 1], rtol=1e-5, atol=1e-6)


def test_empty_histories_are_zero_and_none_gives_none():
    done = fit(epochs=0)
    empty = SPLIT.test._replace(items=np.full((3, 6), -1, np.int32))
    np.testing.assert_array_equal(recommend.queries(done, empty, 0), [[0.0] * 8 + [1.0]] * 3)
    none = SPLIT.test._replace(items=SPLIT.test.items[:0])
    assert recommend.queries(done, none, 0).shape == (0, 9)


@pytest.mark.thorough
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_scale_and_the_origin_of_a_table_do_not_matter(factor):
    settings = {"epochs": 15, "optimizer": ADAM}
    done = fit(**settings)
    assert recall(done) > 0.3  # chance: 1 in 12
    # A power of two changes no digit; any other factor rounds each entry once.
    assert_same_bits(done, fit(table=TABLE * 2.0 ** np.round(np.log2(factor)), **settings))
    moved = fit(table=(TABLE.astype(np.float64) + 3) * factor, **settings)
    assert abs(recall(moved) - recall(done)) <= 0.02  # two of 120
    np.testing.assert_allclose(moved.losses, done.losses, rtol=1e-2)


def test_tables_are_standardised_by_one_number_each():
    made = tables.read(np.stack([without_item(5), 7 * without_item(5) - 2]), standardise=True)
    warm = np.delete(TABLE.astype(np.float64), 5, axis=0)
    centred = warm - warm.mean(axis=0)
    for values in made.values:
        right = centred / np.sqrt(np.mean(centred**2))
        np.testing.assert_allclose(np.delete(values, 5, axis=0), right, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(values[5], 0)
    np.testing.assert_array_equal(made.cold, np.arange(12) == 5)


@pytest.mark.thorough
def test_biases_begin_at_what_is_known_without_histories():
    noise = sampling.unigram(np.arange(1, NUM_ITEMS + 1))
    chance = (np.bincount(SPLIT.train.target, minlength=NUM_ITEMS) + 1.0) / (
        len(SPLIT.train.target) + NUM_ITEMS
    )
    drawn = np.bincount(np.asarray(noise.owners)) / len(noise.owners)
    done = fit(epochs=0, noise=noise, seeds=2)
    for bias in done.params["bias"]:
        np.testing.assert_allclose(bias, np.log(chance / (5 * drawn)), rtol=1e-5)
    # Of a table that says nothing, all that is left to rank by is popularity.
    asked = ranking.all_items(SPLIT.test)
    place = recommend.place(fit(table=TABLE * 0, epochs=0), asked, 0)
    counts = np.bincount(SPLIT.train.target, minlength=NUM_ITEMS)
    right = ranking.place(np.tile(counts, (120, 1)), SPLIT.test.target)
    # The rounding of the noise to slots breaks ties.
    assert np.all((right.above <= place.above) & (place.above <= right.above + right.tied))


def test_users_are_held_out_whole():
    train = SPLIT.train
    kept, out = examples.held_out(train, 0.2)
    assert len(kept.target) + len(out.target) == len(train.target)
    assert not set(kept.user) & set(out.user)
    assert 0.1 < len(out.target) / len(train.target) <= 0.2
    some = sequences.take(train, train.user < 2)
    for share in (0.001, 0.999):
        kept, out = examples.held_out(some, share)
        assert {*kept.user, *out.user} == {0, 1}
        assert set(kept.user) != set(out.user)


@pytest.mark.thorough
def test_the_best_epoch_is_kept_and_patience_ends_the_run():
    rng = np.random.default_rng(5)
    noise = SPLIT.train._replace(target=rng.permutation(SPLIT.train.target))
    settings = {"train": noise, "held_out": 0.2, "optimizer": ADAM, "patience": 2}
    done = fit(epochs=60, **settings)
    epochs = len(done.epoch_losses)
    assert epochs == done.best_epoch[0] + 2 < 60
    assert np.argmin(done.held_out_losses[:, 0]) + 1 == done.best_epoch[0]
    assert done.losses[-1, 0] < done.losses[0, 0]  # it went on to learn noise by heart
    assert_same_params(done, fit(epochs=int(done.best_epoch[0]), **settings))
    # The least loss is that of the parameters kept, on the examples that were held out.
    held = whole(examples.held_out(noise, 0.2)[1], np.zeros(1, np.int32), 64)
    loss = recommend.NextItemLoss(DENSE, pretrain.SOFTMAX, 5, True, False)
    noise_ = sampling.unigram(np.ones(NUM_ITEMS), power=0)
    shared = recommend.Shared(done.tables.values[0], done.frequency, noise_)
    key = jax.random.fold_in(jax.random.split(jax.random.key(0))[1], 2**32 - 1)
    params = jax.tree.map(lambda leaf: leaf[0], done.params)
    found = [
        loss(
            params,
            jax.random.fold_in(key, i),
            jax.tree.map(lambda leaf, i=i: leaf[i, 0], held),
            shared,
        )
        for i in range(len(held.target))
    ]
    np.testing.assert_allclose(np.mean(found), done.held_out_losses.min(), rtol=1e-5)
    assert done.notes["held_out"] + done.notes["examples"] == len(noise.target)


@pytest.mark.thorough
def test_an_epoch_of_few_examples_has_many_steps():
    """As set: 300 examples in batches of 1,024 would be a step an epoch."""
    count = len(SPLIT.train.target)
    assert_same_bits(fit(batch=None, epochs=1), fit(batch=32, epochs=1))
    assert len(fit(batch=None, epochs=1, widths=1).losses) == -(-count // (32 * 8))


def assert_same_params(one, other):
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.thorough
def test_cold_items_count_as_absent_and_are_told():
    cold = (2, 7)
    done = fit(table=without_item(*cold))
    found = recommend.item_vectors(done, 0)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), np.isin(np.arange(12), cold))
    assert not np.isnan(np.delete(found, cold, axis=0)).any()
    rows, train = [], SPLIT.train
    for items in SPLIT.test.items:
        left = [i for i in items if i >= 0 and i not in cold]
        rows.append([-1] * (6 - len(left)) + left)
    by_hand = SPLIT.test._replace(items=np.array(rows, np.int32))
    given = recommend.queries(done, SPLIT.test, 0)
    np.testing.assert_array_equal(given, recommend.queries(done, by_hand, 0))
    assert not np.isnan(given).any()
    assert done.notes["cold_items"] == 2
    assert done.notes["cold_in_histories"] == np.isin(train.items, cold).sum()
    empty = np.array([all(i in (-1, *cold) for i in row) for row in train.items])
    lost = empty | np.isin(train.target, cold)
    assert done.notes["examples_left_out"] == lost.sum()
    assert done.notes["examples"] == np.sum(~lost)
    place = recommend.place(done, ranking.all_items(SPLIT.test), 0)
    np.testing.assert_array_equal(place.missed, np.isin(SPLIT.test.target, cold))
    assert place.cold == 2
    assert all(
        np.isnan(scores[:, list(cold)]).all() for scores in recommend.scores(done, SPLIT.test, 0)
    )


def test_noise_leaves_cold_items_out_and_keeps_the_odds():
    noise = sampling.unigram(np.arange(1, 7), power=1)
    made = tables.noise_without(noise, np.array([False, True, False, False, True, False]))
    odds = np.bincount(np.asarray(made.owners), minlength=6) / len(made.owners)
    np.testing.assert_allclose(odds, np.array([1, 0, 3, 4, 0, 6]) / 14, atol=1e-5)
    np.testing.assert_array_equal(np.diff(made.starts), np.bincount(np.asarray(made.owners)))


@pytest.mark.thorough
def test_the_published_variant_can_be_said():
    done = fit(
        standardise=False, item_bias=False, negatives=2, share_negatives=False,
        contrast=pretrain.SIGMOID, epochs=3,
    )  # fmt: skip
    assert "bias" not in done.params
    assert len(done.epoch_losses) == 3 == done.best_epoch[0]
    assert done.held_out_losses.shape == (0, 1)
    np.testing.assert_array_equal(done.tables.values[0], TABLE)
    assert recommend.queries(done, SPLIT.test, 0).shape == (120, 8)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal
        from tests import test_recommend as t
        def on_round(progress):
            if progress.done == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        t.fit(**t.RESUMED, checkpoint={str(tmp_path / "run")!r}, on_round=on_round)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    told: list[loop.Progress] = []
    resumed = fit(**RESUMED, checkpoint=tmp_path / "run", on_round=told.append)
    assert told[0].done == 4
    unbroken = fit(**RESUMED)
    assert_same_bits(resumed, unbroken)
    np.testing.assert_array_equal(resumed.held_out_losses, unbroken.held_out_losses)
    for other in ({"negatives": 7}, {"patience": 3}, {"held_out": 0.3}):
        with pytest.raises(ValueError, match="another run"):
            fit(**(RESUMED | other), checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"negatives": 0}, "negatives must be at least 1; got 0"),
        ({"epochs": -1}, "epochs must be at least 0; got -1"),
        ({"batch": 0}, "batch must be at least 1; got 0"),
        ({"widths": 0}, "widths must be at least 1; got 0"),
        ({"seeds": 0}, "seeds must name at least one run"),
        ({"table": TABLE[0]}, r"embeddings must be \[num_items, d\] or"),
        ({"table": np.where(TABLE[2, 1] == TABLE, np.nan, TABLE)}, r"got nan at \(0, 2, 1\)"),
        ({"table": np.full((12, 2), np.nan)}, "a finite row at least; got NaN in all"),
        ({"table": np.stack([TABLE, without_item(3)])}, "table 0 and table 1 differ in item 3"),
        ({"held_out": 1.0}, r"held_out must be in \[0, 1\); got 1.0"),
        ({"patience": 0}, "patience must be at least 1; got 0"),
        ({"held_out": 0.1, "train": SPLIT.train._replace(user=SPLIT.train.user * 0)}, "got one"),
        ({"table": TABLE[:5]}, r"history ids must be in 0..4, as the embeddings have rows; got"),
        ({"frequency": np.ones(3)}, r"one value an item, \(12,\); got \(3,\)"),
        ({"noise": sampling.unigram(np.ones(4))}, "noise must be over 12 items; got 4"),
        ({"towers_": towers.TwoTowers(towers.MeanPool()), "item_bias": False}, "nothing to train"),
        ({"towers_": towers.TwoTowers(towers.GruTower((3,)))}, "gives 3, the item tower 8"),
    ],
)
def test_bad_settings_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        fit(**settings)


def test_bad_examples_are_named():
    train = SPLIT.train
    with pytest.raises(ValueError, match="there is no example"):
        fit(train=sequences.take(train, slice(0)))
    with pytest.raises(ValueError, match="no example is left to train on: 11 of 12 items"):
        fit(table=without_item(*range(1, 12)))
    items = train.items.copy()
    items[4] = -1
    with pytest.raises(ValueError, match="row 4 does not"):
        fit(train=train._replace(items=items))
    with pytest.raises(ValueError, match=r"target ids must be in 0\.\.11.*got -1 in row 0"):
        fit(train=train._replace(target=train.target * 0 - 1))
    short = SPLIT.train._replace(lengths=np.maximum(SPLIT.train.lengths - 1, 1))
    with pytest.raises(ValueError, match="lengths must count from the first item"):
        recommend.fit(short, TABLE, GRU)
    with pytest.raises(ValueError, match=r"run must be in 0\.\.0; got 1"):
        recommend.queries(fit(epochs=0), SPLIT.test, 1)

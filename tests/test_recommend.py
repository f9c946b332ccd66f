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

from kernlens.datasets import sequences
from kernlens.models import towers
from kernlens.train import loop, pretrain, recommend, sampling
from kernlens.train.recommend.batches import Stream
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
GRU = towers.TwoTowers(towers.GruTower((16,)), towers.Mlp((16,)))
DENSE = towers.TwoTowers(towers.DenseTower((5, 8)))


def fit(towers_=DENSE, table=TABLE, train=SPLIT.train, **settings):
    settings = {"epochs": 2, "batch": 64, "negatives": 5, "widths": 2} | settings
    return recommend.fit(train, table, towers_, **settings)


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.losses, other.losses)


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
    found = recommend.queries(done, SPLIT.test, 0) @ recommend.item_vectors(done, 0).T
    assert np.mean(np.argmax(found, 1) == SPLIT.test.target) > 0.9  # chance: 1 in 12
    assert done.epoch_losses[-1, 0] < 0.2 * done.epoch_losses[0, 0]


@pytest.mark.slow
def test_tables_and_seeds_train_at_once_as_alone():
    tables = np.stack([TABLE, TABLE[::-1] * 0.5])
    together = fit(table=tables, seeds=(3, 5))
    for run, (table, seed) in enumerate([(0, 3), (0, 5), (1, 3), (1, 5)]):
        alone = fit(table=tables[table], seeds=(seed,))
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


@pytest.mark.parametrize("trained", [False, True])
def test_embeddings_move_where_they_are_trained(trained):
    done = fit(trained=trained)
    assert ("embeddings" in done.params) == trained
    vectors = recommend.item_vectors(done, 0)  # the item tower is the identity
    assert np.array_equal(vectors, TABLE) != trained


@pytest.mark.slow
@pytest.mark.parametrize("join", [None, towers.Concatenation((4,))])
def test_scores_stream_in_blocks(join):
    both = towers.TwoTowers(towers.DenseTower((8,)), None, join)
    done = fit(both, item_bias=True)
    bias = recommend.item_bias(done, 0)
    assert np.any(bias != 0)
    blocks = list(recommend.scores(done, SPLIT.test, 0, block=50))
    assert [len(block) for block in blocks] == [50, 50, 20]
    params = jax.tree.map(lambda leaf: leaf[0], done.params["towers"])
    for row in (0, 60, 119):
        items = SPLIT.test.items[row]
        z = jnp.asarray(np.broadcast_to(TABLE[items], (NUM_ITEMS, 6, 8)))
        mask = jnp.asarray(np.broadcast_to(items >= 0, z.shape[:2]))
        expected = both.apply(params, z, mask, jnp.asarray(TABLE)) + bias
        np.testing.assert_allclose(np.concatenate(blocks)[row], expected, rtol=1e-4, atol=1e-5)


def test_no_epoch_ranks_by_the_average_itself():
    both = towers.TwoTowers(towers.DiscountedAverage(0.1))
    done = fit(both, epochs=0)
    share = np.bincount(SPLIT.train.target, minlength=NUM_ITEMS) / len(SPLIT.train.target)
    items = SPLIT.test.items[0]
    items = items[items >= 0]
    weights = 0.1 / (0.1 + share[items])
    expected = weights @ TABLE[items] / weights.sum()
    found = recommend.queries(done, SPLIT.test, 0, block=7)
    assert found.shape == (120, 8)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


def test_empty_histories_are_zero_and_none_gives_none():
    done = fit(epochs=0)
    empty = SPLIT.test._replace(items=np.full((3, 6), -1, np.int32))
    np.testing.assert_array_equal(recommend.queries(done, empty, 0), np.zeros((3, 8)))
    none = SPLIT.test._replace(items=SPLIT.test.items[:0])
    assert recommend.queries(done, none, 0).shape == (0, 8)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal
        from tests import test_recommend as t
        def on_round(progress):
            if progress.done == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        t.fit(seeds=2, trained=True, checkpoint={str(tmp_path / "run")!r}, on_round=on_round)
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
    resumed = fit(seeds=2, trained=True, checkpoint=tmp_path / "run", on_round=told.append)
    assert [p.done for p in told] == [4]
    assert_same_bits(resumed, fit(seeds=2, trained=True))
    with pytest.raises(ValueError, match="another run"):
        fit(seeds=2, trained=True, checkpoint=tmp_path / "run", negatives=7)


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
        ({"table": TABLE[:5]}, r"history ids must be in 0..4, as the embeddings have rows; got"),
        ({"frequency": np.ones(3)}, r"one value an item, \(12,\); got \(3,\)"),
        ({"noise": sampling.unigram(np.ones(4))}, "noise must be over 12 items; got 4"),
        ({"towers_": towers.TwoTowers(towers.MeanPool())}, "nothing to train"),
        ({"towers_": towers.TwoTowers(towers.GruTower((3,)))}, "gives 3, the item tower 8"),
    ],
)
def test_bad_settings_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        fit(**settings)


def test_bad_examples_are_named():
    train = SPLIT.train
    with pytest.raises(ValueError, match="no example"):
        fit(train=sequences.Histories(*(a[:0] for a in train)))
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

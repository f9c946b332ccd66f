"""The training loop: closed forms, seeds, resuming to the same bits, stopping early."""

import itertools
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
from numpy.testing import assert_allclose, assert_array_equal

from kernlens.train import loop
from kernlens.train.checksums import checksum

SEEDS = (3, 5, 8)
STEPS = 4
ROUNDS = 5
A = np.array([[3.0, 1.0], [1.0, 2.0]], np.float32)
B = np.array([1.0, -2.0], np.float32)
OPTIMUM = np.linalg.solve(A.astype(np.float64), B)
MINIMUM = -0.5 * B @ OPTIMUM
ADAM = optax.adam(0.1)
LBFGS = optax.lbfgs(memory_size=3)


def quadratic(params, key, batch, shared):
    """``w'Aw/2 - b'w``, whose optimum solves ``A w = b``."""
    w = params["w"]
    return 0.5 * w @ shared["a"] @ w - shared["b"] @ w


def noisy(params, key, batch, shared):
    """A loss that reads everything a loss may read: key, batch, shared."""
    gap = params["w"] - batch - 0.1 * jax.random.normal(key, (2,), jnp.float32)
    return 0.5 * gap @ shared["a"] @ gap


def starts(seeds=SEEDS):
    rows = [np.random.default_rng(seed).standard_normal(2) for seed in seeds]
    return {"w": jnp.asarray(np.stack(rows), jnp.float32)}


def make_batches(seeds=SEEDS):
    def batches(i):
        rows = [np.random.default_rng([s, i]).standard_normal((STEPS, 2)) for s in seeds]
        return np.stack(rows, axis=1).astype(np.float32)

    return batches


def fit(loss_fn=noisy, optimizer=ADAM, seeds=SEEDS, rounds=ROUNDS, **kwargs):
    return loop.fit(
        loss_fn,
        optimizer,
        kwargs.pop("params", starts(seeds)),
        kwargs.pop("keys", loop.seed_keys(seeds)),
        kwargs.pop("batches", make_batches(seeds)),
        rounds=rounds,
        shared=kwargs.pop("shared", {"a": jnp.asarray(A), "b": jnp.asarray(B)}),
        **kwargs,
    )


@pytest.fixture(scope="module")
def unbroken():
    return fit()


@pytest.fixture(scope="module")
def one_round(tmp_path_factory):
    """A folder with a finished run of one round, and the run."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, fit(checkpoint=folder, rounds=1)


def assert_same_bits(fitted, other):
    assert_array_equal(fitted.losses, other.losses)
    for leaf, expected in zip(
        jax.tree.leaves(fitted.params), jax.tree.leaves(other.params), strict=True
    ):
        assert_array_equal(np.asarray(leaf), np.asarray(expected))


@pytest.mark.parametrize("optimizer", [optax.sgd(0.3), LBFGS], ids=["sgd", "lbfgs"])
def test_reaches_the_closed_form_optimum(optimizer):
    fitted = fit(quadratic, optimizer, rounds=12)
    # A float32 loss is flat within about the root of its eps of the optimum.
    assert_allclose(fitted.params["w"], np.tile(OPTIMUM, (3, 1)), atol=1e-4)
    assert_allclose(fitted.losses[-1], MINIMUM, rtol=1e-6)
    assert np.all(fitted.losses[0] > fitted.losses[1])
    assert fitted.losses.shape == (12, 3)


def test_the_loss_of_a_round_is_the_mean_of_its_steps():
    fitted = fit(quadratic, optax.sgd(0.3), rounds=1)
    for start, loss in zip(np.asarray(starts()["w"], np.float64), fitted.losses[0], strict=True):
        w, values = start, []
        for _ in range(STEPS):
            values.append(0.5 * w @ A @ w - B @ w)
            w = w - 0.3 * (A @ w - B)
        assert_allclose(loss, np.mean(values), rtol=1e-5)


def test_a_step_sees_the_seeds_key_folded_with_the_number_of_the_step():
    seen = loop.fit(
        lambda params, key, batch, shared: jax.random.normal(key, (), jnp.float32) + 0.0 * params,
        optax.sgd(0.1),
        jnp.zeros(2, jnp.float32),
        loop.seed_keys((0, 7)),
        lambda i: np.zeros((STEPS, 2), np.float32),
        rounds=3,
    )
    for place, seed in enumerate((0, 7)):
        folded = [jax.random.fold_in(jax.random.key(seed), step) for step in range(3 * STEPS)]
        drawn = [jax.random.normal(key, (), jnp.float32) for key in folded]
        expected = np.reshape(drawn, (3, STEPS)).mean(axis=1)
        assert_allclose(seen.losses[:, place], expected, rtol=1e-5)  # a mean of four in float32


def test_seeds_together_equal_each_seed_alone(unbroken):
    for place, seed in enumerate(SEEDS):
        alone = fit(seeds=(seed,))
        # A batched product may sum in another order: a few float32 roundings a step, 20 steps.
        assert_allclose(unbroken.params["w"][place], alone.params["w"][0], rtol=1e-5, atol=1e-6)
        assert_allclose(unbroken.losses[:, place], alone.losses[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_two_runs_of_equal_shapes_compile_once():
    traces = []

    def counted(params, key, batch, shared):
        traces.append(batch.shape)
        return noisy(params, key, batch, shared)

    # optax's own are mostly of the wider type; a narrow one is wrapped, and must be wrapped once.
    narrow = optax.GradientTransformation(ADAM.init, ADAM.update)
    for optimizer in (LBFGS, narrow):
        traces.clear()
        fit(counted, optimizer, rounds=1)
        first = len(traces)
        fit(counted, optimizer, seeds=(1, 2, 4))
        assert 0 < first == len(traces)


def test_the_callers_parameters_survive():
    params = starts()
    fit(params=params)
    assert not params["w"].is_deleted()
    assert_array_equal(params["w"], starts()["w"])


def test_an_optimiser_that_keeps_the_parameters_does_not_take_them():
    def keeps(params):
        return params

    def update(updates, state, params=None):
        return jax.tree.map(lambda u, p, s: -0.1 * (u + p - s), updates, params, state), state

    params = starts()
    fit(optimizer=optax.GradientTransformation(keeps, update), params=params)
    assert not params["w"].is_deleted()


def test_progress_is_told_after_every_round(unbroken):
    told = []
    fit(on_round=told.append)
    assert [p.done for p in told] == [1, 2, 3, 4, 5]
    assert {p.rounds for p in told} == {ROUNDS}
    assert_array_equal(np.stack([p.losses for p in told]), unbroken.losses)
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(told))


def test_until_stops_on_the_losses_so_far(unbroken):
    seen = []

    def until(losses):
        seen.append(losses.copy())
        return len(losses) == 3

    fitted = fit(until=until)
    assert_array_equal(fitted.losses, unbroken.losses[:3])
    assert [len(losses) for losses in seen] == [1, 2, 3]
    assert_array_equal(seen[-1], unbroken.losses[:3])
    assert_same_bits(fitted, fit(rounds=3))


def held(steps=3):
    """Held-out batches of each seed."""
    rng = np.random.default_rng(9)
    return rng.standard_normal((steps, len(SEEDS), 2)).astype(np.float32)


WATCH = loop.Validation(held(), every=2, patience=1)


def test_a_look_is_the_loss_of_the_mean_of_the_rounds_since_the_last():
    fitted = fit(rounds=4, validation=WATCH._replace(patience=9))
    ends = [np.asarray(fit(rounds=r).params["w"], np.float64) for r in (1, 2, 3, 4)]
    means = [(ends[0] + ends[1]) / 2, (ends[2] + ends[3]) / 2]
    assert fitted.looks.shape == (2, 3)
    for look, mean in zip(fitted.looks, means, strict=True):
        for place, seed in enumerate(SEEDS):
            key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
            values = [
                noisy(
                    {"w": mean[place].astype(np.float32)}, jax.random.fold_in(key, step),
                    held()[step, place], {"a": A},
                )
                for step in range(3)
            ]  # fmt: skip
            assert_allclose(look[place], np.mean(values), rtol=1e-5)
    best = np.argmin(fitted.looks, axis=0)
    for place in range(3):
        assert_allclose(fitted.params["w"][place], means[best[place]][place], rtol=1e-5)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_best_look_is_the_one_before_patience_runs_out(patience):
    rng = np.random.default_rng(0)
    losses = rng.standard_normal((9, 40)).astype(np.float32)
    losses[4, ::3] = np.nan
    best, done = loop.best_looks(losses, patience)
    for column, found, over in zip(losses.T, best, done, strict=True):
        least, at, ended = np.inf, 0, False
        for look, value in enumerate(column):
            if value < least:
                least, at = value, look
            if look - at >= patience:
                ended = True
                break
        assert (found, over) == (at, ended)


@pytest.mark.thorough
def test_validation_ends_when_all_seeds_are_done_and_resumes_to_the_same_bits(tmp_path):
    watch = WATCH._replace(every=1)
    whole = fit(optimizer=optax.sgd(1.5), rounds=30, validation=watch)
    count = len(whole.looks)
    assert count == len(whole.losses) < 30
    best, done = loop.best_looks(whole.looks, 1)
    assert done.all()
    assert not loop.best_looks(whole.looks[:-1], 1)[1].all()
    assert best.max() == count - 2
    for rounds, looks in ((30, watch), (5, WATCH)):
        settings = {"optimizer": optax.sgd(1.5), "rounds": rounds, "validation": looks}
        folder = tmp_path / str(rounds)
        whole = fit(**settings)
        with pytest.raises(Stop):
            fit(**settings, checkpoint=folder, on_round=interrupt(1))
        resumed = fit(**settings, checkpoint=folder)
        assert_same_bits(resumed, whole)
        assert_array_equal(resumed.looks, whole.looks)
        told = []
        assert_same_bits(fit(**settings, checkpoint=folder, on_round=told.append), whole)
        assert told == []


def test_looks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"every in 1\.\.5, .*got 6, 1"):
        fit(validation=WATCH._replace(every=6))
    with pytest.raises(ValueError, match=r"patience of at least 1; got 2, 0"):
        fit(validation=WATCH._replace(patience=0))


class Stop(Exception):
    """What a test interrupts a run with."""


def interrupt(after):
    def on_round(progress):
        if progress.done == after:
            raise Stop

    return on_round


@pytest.mark.thorough
@pytest.mark.parametrize(("optimizer", "after"), [(ADAM, 1), (ADAM, 4), (LBFGS, 2)])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, optimizer, after):
    whole = fit(optimizer=optimizer)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        fit(optimizer=optimizer, checkpoint=folder, on_round=interrupt(after))
    told = []
    resumed = fit(optimizer=optimizer, checkpoint=folder, on_round=told.append)
    assert [p.done for p in told] == list(range(after + 1, ROUNDS + 1))
    assert_same_bits(resumed, whole)
    # A finished run is read back without a step.
    told.clear()
    assert_same_bits(fit(optimizer=optimizer, checkpoint=folder, on_round=told.append), whole)
    assert told == []


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    def until(losses):
        return len(losses) == 2

    stopped = fit(checkpoint=tmp_path, until=until)
    told = []
    again = fit(checkpoint=tmp_path, until=until, on_round=told.append)
    assert told == []
    assert_same_bits(again, stopped)


def test_another_runs_checkpoint_is_refused(tmp_path):
    fit(checkpoint=tmp_path, fingerprint="window=8")
    with pytest.raises(ValueError, match=r"another run: found .*window=8.*expected .*window=3"):
        fit(checkpoint=tmp_path, fingerprint="window=3")
    with pytest.raises(ValueError, match=r"another run: .*\"rounds\": 5.*\"rounds\": 6"):
        fit(checkpoint=tmp_path, fingerprint="window=8", rounds=6)


OTHER = {
    "the optimiser's step": {"optimizer": optax.adam(0.2)},
    "the loss": {"loss_fn": quadratic},
    "a constant of the loss": {"loss_fn": lambda *run: noisy(*run) + jnp.sum(run[0]["w"] * B)},
    "an array that the loss reads": {"shared": {"a": jnp.asarray(A), "b": jnp.asarray(2 * B)}},
    "the keys": {"keys": loop.seed_keys((3, 5, 9))},
    "the batches": {"batches": make_batches((3, 5, 9))},
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_a_run_that_differs_in_anything_is_refused(one_round, change):
    folder, _ = one_round
    with pytest.raises(ValueError, match="holds the checkpoint of another run"):
        fit(checkpoint=folder, rounds=1, **change)


def test_a_finished_run_is_read_whatever_its_starts_and_seeds_at_once(one_round):
    folder, whole = one_round
    zeros = jax.tree.map(jnp.zeros_like, starts())
    assert_same_bits(fit(checkpoint=folder, rounds=1, params=zeros, seeds_at_once=2), whole)


def test_checksums_of_programs_see_constants_and_numbers_but_no_addresses():
    def program(constant, factor):
        def fn(x):  # a fresh function, at another address, in every call
            y = jax.nn.softplus(x) * jnp.asarray(constant)
            return jax.lax.scan(lambda c, z: (c + factor * z * constant.sum(), c), 0.0, y)

        return checksum(jax.make_jaxpr(fn)(jnp.ones(2000, jnp.float32)))

    ones = np.ones(2000, np.float32)
    other = ones.copy()
    other[[999, 1000]] = 0.0, 2.0  # the same sum, in the middle that a repr would leave out
    assert program(ones, 0.5) == program(ones.copy(), 0.5)
    assert len({program(ones, 0.5), program(other, 0.5), program(ones, 0.25)}) == 3


def test_checksums_of_arrays_see_values_types_shapes_and_places():
    a = np.arange(4, dtype=np.int32)
    trees = [
        a, a.astype(np.int64), a.reshape(2, 2), a[::-1], (a, None), {"x": a}, {"y": a}, [a, a],
        jax.random.key(0), jax.random.key(1), jax.random.key(0, impl="rbg"), 1, 1.0, "1",
    ]  # fmt: skip
    assert len({checksum(tree) for tree in trees}) == len(trees)
    assert checksum(jnp.asarray(a)) == checksum(a.copy())
    assert checksum(np.asfortranarray(a.reshape(2, 2))) == checksum(trees[2])


def test_a_half_written_checkpoint_does_not_count(tmp_path, unbroken):
    with pytest.raises(Stop):
        fit(checkpoint=tmp_path, on_round=interrupt(2))
    stray = tmp_path / "3.orbax-checkpoint-tmp-0"
    stray.mkdir()
    (stray / "losses").write_text("half")
    (tmp_path / "settings.part").write_text("{")
    told = []
    assert_same_bits(fit(checkpoint=tmp_path, on_round=told.append), unbroken)
    assert [p.done for p in told] == [3, 4, 5]


@pytest.mark.thorough
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, unbroken):
    script = textwrap.dedent(
        f"""
        import os, signal
        from tests import test_training as t
        def on_round(progress):
            if progress.done == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        t.fit(checkpoint={str(tmp_path / "run")!r}, on_round=on_round)
        """
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=dict(os.environ), check=False
    )
    assert done.returncode == -signal.SIGKILL
    told = []
    assert_same_bits(fit(checkpoint=tmp_path / "run", on_round=told.append), unbroken)
    assert [p.done for p in told] == [4, 5]

"""The one training loop: many seeds at once, in compiled rounds, resumable to the same bits.

A round is a stretch of steps that runs as one compiled scan; between rounds the host prepares the
next batches, evaluates held-out rows, reports progress and saves. The seeds are an axis that
`jax.vmap` adds.
"""

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.train.checkpoints import Store
from kernlens.train.checksums import checksum
from kernlens.types import Array, Params

LossFn = Callable[[Params, Array, Any, Any], Array]
"""``loss_fn(params, key, batch, shared) -> scalar``; hashable, since it is compiled for."""

Batches = Callable[[int], Any]
"""``batches(round)`` gives a pytree of arrays with leading axes ``[steps, seeds, ...]``."""


class Fit(NamedTuple):
    """A finished run.

    Attributes:
      params: trained parameters, every leaf ``[seeds, ...]``; with `Validation` the mean of each
        seed's best look.
      losses: mean loss of each round, float32 ``[rounds, seeds]``.
      seconds: wall time, compilation and batch making included, of the rounds run in this call.
      looks: loss on what was held out at each look, float32 ``[looks, seeds]``; none without
        `Validation`.
    """

    params: Params
    losses: np.ndarray
    seconds: float
    looks: np.ndarray


class Validation(NamedTuple):
    """When to stop: held-out batches, and how often and how patiently to look at them.

    What is looked at, and kept, is the mean of the parameters at the ends of the rounds since the
    last look: the noise of single steps cancels in it.

    Attributes:
      batches: leaves ``[steps, seeds, ...]``, as those of a round; a look is the mean loss over
        them, with the same keys each time.
      every: rounds from one look to the next, at least 1.
      patience: looks in a row without a new least loss after which a seed is done, at least 1.

    References:
      Prechelt (1998), "Early stopping - but when?"; Izmailov et al. (2018), algorithm 1, for means
      of parameters.
    """

    batches: Any
    every: int
    patience: int


class Progress(NamedTuple):
    """What a run tells after a round: how far it is, the round's loss by seed, seconds so far."""

    done: int
    rounds: int
    losses: np.ndarray
    seconds: float


class _State(NamedTuple):
    params: Params
    opt_state: Any
    step: Array


class _Run(NamedTuple):
    """All that a checkpoint holds; but the first two are None where there is nothing to look at."""

    state: _State
    losses: np.ndarray
    mean: Params | None = None
    best: Params | None = None
    looks: np.ndarray | None = None


@functools.partial(
    jax.jit,
    static_argnames=("loss_fn", "optimizer", "seeds_at_once"),
    donate_argnames=("state",),
)
def _round(
    state: _State,
    keys: Array,
    batches: Any,
    shared: Any,
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformationExtraArgs,
    seeds_at_once: int,
) -> tuple[_State, Array]:
    def one_seed(run):
        params, opt_state, key, batches = run

        def step(carry, batch):
            params, opt_state, count = carry
            step_key = jax.random.fold_in(key, count)

            def value_fn(p):
                return loss_fn(p, step_key, batch, shared)

            value, grad = jax.value_and_grad(value_fn)(params)
            # optax counts steps in integers and multiplies them with floats.
            with jax.numpy_dtype_promotion("standard"):
                updates, opt_state = optimizer.update(
                    grad, opt_state, params, value=value, grad=grad, value_fn=value_fn
                )
                params = optax.apply_updates(params, updates)
            return (params, opt_state, count + 1), value

        (params, opt_state, _), values = jax.lax.scan(
            step, (params, opt_state, state.step), batches
        )
        return params, opt_state, jnp.mean(values)

    by_seed = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
    runs = (state.params, state.opt_state, keys, by_seed)
    if seeds_at_once >= keys.shape[0] > 1:
        params, opt_state, losses = jax.vmap(one_seed)(runs)
    else:
        # Size None, not 1: a batch axis of one would still cost the batched form of every look-up.
        size = None if seeds_at_once == 1 or keys.shape[0] == 1 else seeds_at_once
        params, opt_state, losses = jax.lax.map(one_seed, runs, batch_size=size)
    steps = jax.tree.leaves(batches)[0].shape[0]
    return _State(params, opt_state, state.step + steps), losses


@functools.partial(jax.jit, static_argnames=("loss_fn", "seeds_at_once"))
def _look(
    params: Params, keys: Array, batches: Any, shared: Any, *, loss_fn: LossFn, seeds_at_once: int
) -> Array:
    """Mean loss of each seed over held-out batches, ``[seeds]``."""

    def one_seed(run):
        params, key, batches = run
        # A key that no step is trained with, unless there are 2^32 - 1 of them.
        key = jax.random.fold_in(key, 2**32 - 1)

        def step(count, batch):
            return count + 1, loss_fn(params, jax.random.fold_in(key, count), batch, shared)

        return jnp.mean(jax.lax.scan(step, jnp.zeros((), jnp.int32), batches)[1])

    by_seed = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
    size = None if seeds_at_once == 1 or keys.shape[0] == 1 else seeds_at_once
    return jax.lax.map(one_seed, (params, keys, by_seed), batch_size=size)


@jax.jit
def _average(mean: Params, new: Params, count: Array) -> Params:
    """The mean of ``count`` parameters, the newest among them, from the mean of all others."""
    return jax.tree.map(lambda m, p: m + (p - m) / count.astype(p.dtype), mean, new)


@jax.jit
def _keep(better: Array, new: Params, old: Params) -> Params:
    """The new parameters of the seeds that are better, the old ones of all others."""

    def pick(new, old):
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, new, old)


def best_looks(losses: np.ndarray, patience: int) -> tuple[np.ndarray, np.ndarray]:
    """Which look of each seed is its best, and which seeds are done.

    A seed that is done stays so, whatever later looks, made for the sake of others, would say.

    Args:
      losses: held-out loss of each look, ``[looks, seeds]``, at least one; NaN is the worst.
      patience: as in `Validation`.

    Returns:
      Places of the best looks, the first among equals, and whether the patience ran out, each
      ``[seeds]``.
    """
    seeds = np.arange(losses.shape[1])
    losses = np.where(np.isnan(losses), np.inf, losses)
    best, done = np.zeros(len(seeds), int), np.zeros(len(seeds), bool)
    for look in range(1, len(losses)):
        best = np.where(~done & (losses[look] < losses[best, seeds]), look, best)
        done |= look - best >= patience
    return best, done


@functools.partial(jax.jit, static_argnames=("optimizer",))
def _start(params: Params, *, optimizer: optax.GradientTransformationExtraArgs) -> _State:
    state = _State(params, jax.vmap(optimizer.init)(params), jnp.zeros((), jnp.int32))
    # Copied, since the state is donated and an optimiser's may hold the caller's own arrays; with
    # the dtype named, since a weakly typed leaf would have the second round compiled anew.
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype), state)


@functools.lru_cache(maxsize=128)
def _extra_args(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser once: a fresh wrapper in every run would compile every run anew."""
    return optax.with_extra_args_support(optimizer)


def seed_keys(seeds: Sequence[int]) -> Array:
    """One PRNG key for each integer seed, ``[seeds]``."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def fit(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    params: Params,
    keys: Array,
    batches: Batches,
    *,
    rounds: int,
    shared: Any = None,
    seeds_at_once: int | None = None,
    checkpoint: str | Path | None = None,
    fingerprint: str = "",
    on_round: Callable[[Progress], None] | None = None,
    until: Callable[[np.ndarray], bool] | None = None,
    validation: Validation | None = None,
) -> Fit:
    """Trains all seeds together.

    Args:
      loss_fn: scalar loss of one seed, ``loss_fn(params, key, batch, shared)``.
      optimizer: any optax optimiser; one with a line search gets ``value``, ``grad``, ``value_fn``.
      params: initial parameters, every leaf ``[seeds, ...]``.
      keys: PRNG keys, ``[seeds]``; step ``t`` of a seed sees ``fold_in(key, t)``.
      batches: batches of round ``i``, a function of ``i`` alone, leaves ``[steps, seeds, ...]``.
      rounds: how many rounds.
      shared: arrays that every step and seed reads.
      seeds_at_once: seeds that `jax.vmap` trains side by side, the next as many after them, all in
        one compiled program; None is all. Side by side fills an accelerator; one after the other
        keeps a large table in a processor's cache.
      checkpoint: folder to save the state in after every round. If it holds the same run, that is
        resumed, to the bits the unbroken run would have had. Two runs are the same if they agree in
        ``fingerprint``, ``rounds``, ``keys``, ``shared``, the batches of round 0, and the program
        of a step as jax traces it from loss and optimiser. Initial parameters are not compared.
      fingerprint: text that names what these leave out, such as the data of later batches.
      on_round: called after each round.
      until: given the losses of the rounds so far, ``[done, seeds]``, says whether to stop; a
        function of them alone, so that a resumed run stops where the unbroken one does.
      validation: stops when all seeds are done, and keeps each one's best parameters; None runs
        all rounds and keeps the last ones. The ``fingerprint`` has to name it.

    Returns:
      The trained parameters and the losses of all rounds that ran, resumed ones included.

    Raises:
      ValueError: the folder holds another run, or a number of `Validation` is out of range.
    """
    start = time.perf_counter()
    optimizer, at_once = _extra_args(optimizer), seeds_at_once or keys.shape[0]
    run = _Run(_start(params, optimizer=optimizer), np.zeros((rounds, len(keys)), np.float32))
    if validation is not None:
        every, patience = validation.every, validation.patience
        if not (1 <= every <= rounds and patience >= 1):
            raise ValueError(
                f"validation needs every in 1..{rounds}, the number of rounds, and patience of at "
                f"least 1; got {every}, {patience}"
            )
        kept = jax.tree.map(jnp.array, params)
        run = run._replace(
            mean=kept,
            best=kept,
            looks=np.zeros((rounds // every, len(keys)), np.float32),
        )
    done, store = 0, None
    if checkpoint is not None:
        settings: dict[str, Any] = {"run": fingerprint, "rounds": rounds}
        if rounds:
            first = batches(0)
            step = _round.trace(
                run.state,
                keys,
                first,
                shared,
                loss_fn=loss_fn,
                optimizer=optimizer,
                seeds_at_once=1,
            )
            found = {"step": step.jaxpr, "keys": keys, "batches": first, "shared": shared}
            if validation is not None:
                found["validation"] = validation
            settings |= {name: checksum(value) for name, value in found.items()}
        store = Store(Path(checkpoint), json.dumps(settings))
        done, run = store.restore(run)

    def looks() -> np.ndarray:
        """Those made so far."""
        if validation is None or run.looks is None:
            return np.zeros((0, len(keys)), np.float32)
        return run.looks[: done // validation.every]

    def over() -> bool:
        if until is not None and done and until(run.losses[:done]):
            return True
        if validation is None or not len(looks()):
            return False
        return bool(np.all(best_looks(looks(), validation.patience)[1]))

    while done < rounds and not over():
        state, values = _round(
            run.state,
            keys,
            batches(done),
            shared,
            loss_fn=loss_fn,
            optimizer=optimizer,
            seeds_at_once=at_once,
        )
        run = run._replace(state=state)
        run.losses[done] = np.asarray(values)
        done += 1
        if validation is not None:
            count = jnp.asarray((done - 1) % validation.every + 1)
            run = run._replace(mean=_average(run.mean, state.params, count))
            if done % validation.every == 0:
                made = looks()
                made[-1] = _look(
                    run.mean,
                    keys,
                    validation.batches,
                    shared,
                    loss_fn=loss_fn,
                    seeds_at_once=at_once,
                )
                better = best_looks(made, validation.patience)[0] == len(made) - 1
                run = run._replace(best=_keep(jnp.asarray(better), run.mean, run.best))
        if store is not None:
            store.save(done, run)
        if on_round is not None:
            seconds = time.perf_counter() - start
            on_round(Progress(done, rounds, run.losses[done - 1], seconds))
    found = run.state.params if run.best is None or not len(looks()) else run.best
    jax.block_until_ready(found)
    return Fit(found, run.losses[:done], time.perf_counter() - start, looks())

"""The one training loop: many seeds at once, in compiled rounds, resumable to the same bits.

A round is a stretch of steps that runs as one compiled scan; between rounds the host prepares the
next batches, reports progress and saves. The seeds are an axis that `jax.vmap` adds.
"""

import functools
import json
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from kernlens.types import Array, Params

LossFn = Callable[[Params, Array, Any, Any], Array]
"""``loss_fn(params, key, batch, shared) -> scalar``; hashable, since it is compiled for."""

Batches = Callable[[int], Any]
"""``batches(round)`` gives a pytree of arrays with leading axes ``[steps, seeds, ...]``."""


class Fit(NamedTuple):
    """A finished run.

    Attributes:
      params: trained parameters, every leaf ``[seeds, ...]``.
      losses: mean loss of each round, float32 ``[rounds, seeds]``.
      seconds: wall time, compilation and batch making included, of the rounds run in this call.
    """

    params: Params
    losses: np.ndarray
    seconds: float


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

    Returns:
      The trained parameters and the losses of all rounds that ran, resumed ones included.

    Raises:
      ValueError: the folder holds another run.
    """
    start = time.perf_counter()
    optimizer = _extra_args(optimizer)
    state = _start(params, optimizer=optimizer)
    losses = np.zeros((rounds, keys.shape[0]), np.float32)
    done = 0
    store = None
    if checkpoint is not None:
        settings: dict[str, Any] = {"run": fingerprint, "rounds": rounds}
        if rounds:
            run = (state, keys, batches(0), shared)
            step = _round.trace(*run, loss_fn=loss_fn, optimizer=optimizer, seeds_at_once=1)
            found = {"step": step.jaxpr, "keys": keys, "batches": run[2], "shared": shared}
            settings |= {name: checksum(value) for name, value in found.items()}
        store = _Store(Path(checkpoint), json.dumps(settings))
        done, state, losses = store.restore(state, losses)
    while done < rounds and not (until is not None and done > 0 and until(losses[:done])):
        state, values = _round(
            state,
            keys,
            batches(done),
            shared,
            loss_fn=loss_fn,
            optimizer=optimizer,
            seeds_at_once=seeds_at_once or keys.shape[0],
        )
        losses[done] = np.asarray(values)
        done += 1
        if store is not None:
            store.save(done, state, losses)
        if on_round is not None:
            seconds = time.perf_counter() - start
            on_round(Progress(done, rounds, losses[done - 1], seconds))
    jax.block_until_ready(state.params)
    return Fit(state.params, losses[:done], time.perf_counter() - start)


def checksum(tree: Any) -> str:
    """Names arrays and traced programs by what they hold.

    Args:
      tree: pytree of arrays, numbers, text and ``ClosedJaxpr``.

    Returns:
      Eight hexadecimal digits, the same in every process.
    """
    leaves, structure = jax.tree.flatten(tree)
    return f"{zlib.crc32(_text([*leaves, structure]).encode()):08x}"


def _text(value: Any) -> str:
    if isinstance(value, ClosedJaxpr):
        return _text([value.jaxpr, value.consts])
    if isinstance(value, Jaxpr):
        return _program_text(value)
    if isinstance(value, Mapping):
        return _text(sorted((str(key), _text(item)) for key, item in value.items()))
    if isinstance(value, Set):
        return _text(sorted(map(_text, value)))
    if isinstance(value, list | tuple):
        return f"({' '.join(map(_text, value))})"
    if isinstance(value, np.ndarray | jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"{value.dtype}{_text(jax.random.key_data(value))}"
        data = np.ascontiguousarray(value)
        return f"{data.dtype}{data.shape}{zlib.crc32(data.tobytes()):08x}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _program_text(jaxpr: Jaxpr) -> str:
    # jax's own printing leaves out constants, and depends on which inner programs were traced once.
    names: dict[Any, int] = {}

    def name(variable: Any) -> str:
        if isinstance(variable, Literal):
            return f"{variable.aval} {_text(variable.val)}"
        return f"{variable.aval} v{names.setdefault(variable, len(names))}"

    lines = [[name(v) for v in (*jaxpr.constvars, *jaxpr.invars)]]
    for eqn in jaxpr.eqns:
        inputs = [name(v) for v in eqn.invars]
        lines.append([str(eqn.primitive), _text(eqn.params), *inputs, *map(name, eqn.outvars)])
    return "\n".join(" ".join(line) for line in [*lines, [name(v) for v in jaxpr.outvars]])


class _Store:
    """Saves and restores a run's state with orbax; what is half written never counts."""

    def __init__(self, folder: Path, settings: str):
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ValueError(
                "checkpoints need orbax-checkpoint: pip install 'kernlens[train]'"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._ocp = ocp
        self._note = folder / "settings.json"
        if self._note.exists():
            found = self._note.read_text()
            if found != settings:
                raise ValueError(
                    f"{folder} holds the checkpoint of another run: found settings {found}, "
                    f"expected {settings}; give another folder, or delete this one"
                )
        else:
            aside = self._note.with_suffix(".part")
            aside.write_text(settings)
            aside.replace(self._note)
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        )

    def restore(self, state: _State, losses: np.ndarray) -> tuple[int, _State, np.ndarray]:
        latest = self._manager.latest_step()
        if latest is None:
            return 0, state, losses
        like = jax.tree.map(np.asarray, {"state": state, "losses": losses})
        found = self._manager.restore(latest, args=self._ocp.args.StandardRestore(like))
        restored = jax.tree.map(jnp.asarray, found["state"])
        return latest, restored, np.array(found["losses"])

    def save(self, done: int, state: _State, losses: np.ndarray) -> None:
        tree = jax.tree.map(np.asarray, {"state": state, "losses": losses})
        self._manager.save(done, args=self._ocp.args.StandardSave(tree))

"""Training of recommenders."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.models.towers import TwoTowers
from kernlens.targets.sequences import Histories
from kernlens.train import loop, pretrain, sampling
from kernlens.train.recommend import examples, tables
from kernlens.train.recommend.batches import Batch, Stream, whole
from kernlens.train.recommend.trained import Trained
from kernlens.types import Array, Params

_ADAM = optax.adam(3e-3)
_STEPS, _MOST = 32, 1024  # of an epoch; examples of a step


class Shared(NamedTuple):
    """What all runs read: tables end to end ``[tables * num_items, d]``, frequency, noise."""

    embeddings: Array
    frequency: Array
    noise: sampling.Noise


@dataclasses.dataclass(frozen=True)
class NextItemLoss:
    """Mean contrastive loss of a batch of next-item examples; see `fit` for the fields."""

    towers: TwoTowers
    contrast: pretrain.Contrast
    negatives: int
    share_negatives: bool
    trained: bool

    def __call__(self, params: Params, key: Array, batch: Batch, shared: Shared) -> Array:
        """The loss of one batch of one run."""
        size, width = batch.items.shape
        if self.share_negatives:
            slots = shared.noise.owners.shape[0]
            drawn = shared.noise.owners[jax.random.randint(key, (self.negatives,), 0, slots)]
            counts = drawn != batch.target[:, None]
        else:
            drawn = sampling.draw(key, shared.noise, batch.target[:, None], self.negatives)
            counts = jnp.ones(drawn.shape, bool)
        # One look-up for all ids: its gradient, where there is one, is then one scatter.
        ids = jnp.concatenate([batch.items.reshape(-1), batch.target, drawn.reshape(-1)])
        z = self._embed(params, ids, batch.table, shared)
        history = z[: size * width].reshape(size, width, -1)
        frequency = shared.frequency.at[batch.items].get(mode="clip")
        apply = functools.partial(self.towers.apply, params["towers"])
        queries = apply(history, batch.items >= 0, frequency, method="query")
        items: Any = apply(z[size * width :], method="items")
        positive: Any = apply(queries, items[:size], method="pair")
        if self.share_negatives:
            wrong: Any = apply(queries, items[size:], method="cross")
        else:
            others = items[size:].reshape(*drawn.shape, -1)
            wrong = apply(jnp.asarray(queries)[:, None], others, method="pair")
        if "bias" in params:
            positive = positive + params["bias"][batch.target]
            wrong = wrong + params["bias"][drawn]
        losses = self.contrast.pair(positive, self.contrast.summary(wrong, counts))
        return jnp.sum(losses * batch.weight) / jnp.maximum(jnp.sum(batch.weight), 1)

    def _embed(self, params: Params, ids: Array, table: Array, shared: Shared) -> Array:
        ids = jnp.maximum(ids, 0)  # padding, which the mask takes out
        if self.trained:
            return params["embeddings"][ids]
        return shared.embeddings[ids + table * shared.frequency.shape[0]]


def fit(
    train: Histories,
    embeddings: np.ndarray | Array,
    towers: TwoTowers,
    *,
    trained: bool = False,
    standardise: bool = True,
    item_bias: bool = True,
    negatives: int = 128,
    share_negatives: bool = True,
    contrast: pretrain.Contrast = pretrain.SOFTMAX,
    noise: sampling.Noise | None = None,
    frequency: np.ndarray | None = None,
    epochs: int = 100,
    held_out: float = 0.1,
    patience: int = 3,
    batch: int | None = None,
    widths: int = 4,
    seeds: int | Sequence[int] = 1,
    optimizer: optax.GradientTransformation | None = None,
    runs_at_once: int | None = None,
    checkpoint: str | Path | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
) -> Trained:
    """Trains two towers to score the next item above sampled ones, for tables and seeds at once.

    The defaults train as a team would that wants the best of its towers: one scale for any table,
    items with a bias of their own that begins at their popularity, as many epochs as the loss on
    held-out users falls, and the mean of the parameters over the best of them.

    Args:
      train: examples, each with a history of at least one item.
      embeddings: of all items, ``[num_items, d]``, or several tables ``[tables, num_items, d]``. A
        row of NaN is a cold item: it counts as absent from histories, targets and negatives, has
        no score, and is counted in ``notes``.
      towers: the towers and how they are joined.
      trained: each run trains its table on, from the values given; otherwise they are frozen.
      standardise: each table has its mean row taken out and is divided by one number, its root
        mean square, before towers read it, so that neither its scale nor its origin matters; False
        for towers that have to read it as it is, such as an untrained average. Columns of other
        units than their neighbours' are the caller's to scale.
      item_bias: each item has a bias of its own, added to its scores.
      negatives: sampled items an example is told from, at least 1.
      share_negatives: one draw for all examples of a step (fast), in which an example leaves its
        own target out; otherwise each example draws its own, exactly without its target.
      contrast: the loss, `pretrain.SOFTMAX` over the target and the negatives or
        `pretrain.SIGMOID`, the published code's.
      noise: distribution of negatives; default uniform, under which the softmax learns the chance
        of the next item itself. Popular noise divides that by the item's popularity.
      frequency: share of each item, ``[num_items]``, for towers that discount; default its share
        of the training targets.
      epochs: most passes over the examples; 0 leaves the towers as initialised.
      held_out: share of the examples, those of users drawn at random, that are held out to say
        when to stop, in ``[0, 1)``; 0 trains on all of them, for all epochs, and keeps the last
        parameters.
      patience: epochs in a row without a new least loss on them after which a run is done; each
        run keeps the parameters of its best epoch. More gains little and costs as many epochs.
      batch: examples a step, at least 1; default 1,024, or of fewer than 32,768 examples so many
        that an epoch has 32 steps, though 32 at least: epochs of a few steps train too little.
      widths: most widths that histories are cut to, each compiled for.
      seeds: how many runs a table (seeds 0, 1, ...), or the seeds themselves. A seed fixes the
        initialisation, the order of the examples and the negatives.
      optimizer: any optax optimiser; default Adam at 3e-3.
      runs_at_once: runs that `jax.vmap` trains side by side; None is all of them.
      checkpoint: folder to save in after every round and to resume from.
      on_round: called after each round.

    Returns:
      The trained runs.

    Raises:
      ValueError: an argument or an id out of range, no example, an empty history, a single user to
        hold out, embeddings of another shape or not finite, tables that lack different items,
        nothing to train, or a checkpoint of another run.

    References:
      Xu and Yang (2023), the protocol of the sequential tasks, which is ``standardise=False,
      item_bias=False, negatives=2, share_negatives=False, contrast=pretrain.SIGMOID, epochs=30,
      held_out=0, optimizer=optax.adam(1e-3)``.
    """
    ranges = (("negatives", negatives, 1), ("epochs", epochs, 0), ("batch", batch, 1))
    for name, value, low in (*ranges, ("widths", widths, 1), ("patience", patience, 1)):
        if value is not None and value < low:
            raise ValueError(f"{name} must be at least {low}; got {value}")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must be in [0, 1); got {held_out}")
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one run; got none")
    table = tables.read(embeddings, standardise=standardise)
    num_tables, num_items, dim = table.values.shape
    examples.check(train, num_items)
    if frequency is None:
        frequency = np.bincount(train.target, minlength=num_items) / len(train.target)
    if np.shape(frequency) != (num_items,):
        raise ValueError(
            f"frequency must have one value an item, ({num_items},); got {np.shape(frequency)}"
        )
    noise = sampling.unigram(np.ones(num_items), power=0) if noise is None else noise
    if noise.starts.shape != (num_items + 1,):
        raise ValueError(f"noise must be over {num_items} items; got {noise.starts.shape[0] - 1}")
    train, notes = examples.trainable(train, table.cold)
    if table.cold.any():
        noise = tables.noise_without(noise, table.cold)
    held = None
    if epochs and held_out:
        train, held = examples.held_out(train, held_out)
    if batch is None:
        batch = int(np.clip(len(train.target) // _STEPS, _STEPS, _MOST))
    of_run = np.repeat(np.arange(num_tables, dtype=np.int32), len(seeds))
    keys = loop.seed_keys(seeds * num_tables)
    split = jax.vmap(lambda key: jax.random.split(key))(keys)
    z = jnp.zeros((1, dim), jnp.float32)
    history = (z[:, None], jnp.ones((1, 1), bool), z, jnp.zeros((1, 1), jnp.float32))
    params: dict[str, Any] = {
        "towers": jax.vmap(lambda key: towers.init(key, *history))(split[:, 0])
    }
    if trained:
        params["embeddings"] = table.values[of_run]
    if item_bias:
        prior = tables.log_prior(train.target, noise, negatives)
        params["bias"] = jnp.tile(jnp.asarray(prior), (len(keys), 1))
    if epochs and not jax.tree.leaves(params):
        raise ValueError("towers without parameters have nothing to train: give epochs=0")
    loss = NextItemLoss(towers, contrast, negatives, share_negatives, trained)
    shared = Shared(
        table.values.reshape(-1, dim) if not trained else jnp.zeros((1, dim), jnp.float32),
        jnp.asarray(frequency, jnp.float32),
        noise,
    )
    stream = Stream(train, seeds, num_tables, batch, widths)
    validation = None
    if held is not None:
        validation = loop.Validation(whole(held, of_run, batch), stream.rounds, patience)
    none = np.zeros((0, len(keys)), np.float32)
    fitted = loop.Fit(params, none, 0.0, none)
    if epochs:
        fitted = loop.fit(
            loss,
            optimizer or _ADAM,
            params,
            split[:, 1],
            stream,
            rounds=epochs * stream.rounds,
            shared=shared,
            seeds_at_once=runs_at_once,
            checkpoint=checkpoint,
            fingerprint=_fingerprint(
                loss, seeds, batch, stream.widths, train, held, patience, table.values, shared,
                item_bias,
            ),
            on_round=on_round,
            validation=validation,
        )  # fmt: skip
    best = np.full(len(keys), epochs)
    if validation is not None:
        best = 1 + loop.best_looks(fitted.looks, patience)[0]
    return Trained(
        towers=towers,
        params=fitted.params,
        tables=table,
        frequency=shared.frequency,
        seeds=seeds,
        losses=fitted.losses,
        epoch_losses=stream.by_epoch(fitted.losses),
        held_out_losses=fitted.looks,
        best_epoch=best,
        notes={
            "examples": len(train.target),
            "held_out": 0 if held is None else len(held.target),
            **notes,
        },
        seconds=fitted.seconds,
    )


def _fingerprint(
    loss: NextItemLoss,
    seeds: tuple[int, ...],
    batch: int,
    widths: tuple[int, ...],
    train: Histories,
    held: Histories | None,
    patience: int,
    tables: Array,
    shared: Shared,
    item_bias: bool,
) -> str:
    """Names the run; the optimiser, a pair of closures, is left to the caller's honesty."""
    contrast = tuple(fn.__qualname__ for fn in loss.contrast)
    data = (train.items, train.target, tables, shared.frequency, shared.noise.starts)
    if held is not None:
        data = (*data, held.items, held.target)
    sums = [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in data]
    return (
        f"towers={_describe(loss.towers)} contrast={contrast} negatives={loss.negatives} "
        f"share_negatives={loss.share_negatives} trained={loss.trained} seeds={seeds} "
        f"batch={batch} widths={widths} tables={tables.shape} item_bias={item_bias} "
        f"patience={patience if held is not None else None} data={sums}"
    )


def _describe(module: nn.Module | None) -> str:
    """Class and plain fields, modules inside it too; a function's repr is an address."""
    if module is None:
        return "None"
    found = []
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if isinstance(value, nn.Module) and field.name != "parent":
            found.append(f"{field.name}={_describe(value)}")
        elif isinstance(value, int | float | str | bool | tuple):
            found.append(f"{field.name}={value}")
    return f"{type(module).__name__}({', '.join(found)})"

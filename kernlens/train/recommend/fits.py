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

from kernlens.datasets.sequences import Histories
from kernlens.models.towers import TwoTowers
from kernlens.train import loop, pretrain, sampling
from kernlens.train.recommend.batches import Batch, Stream
from kernlens.train.recommend.readers import Trained, check_ids
from kernlens.types import Array, Params

_ADAM = optax.adam(1e-3)


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
    item_bias: bool = False,
    negatives: int = 128,
    share_negatives: bool = True,
    contrast: pretrain.Contrast = pretrain.SOFTMAX,
    noise: sampling.Noise | None = None,
    frequency: np.ndarray | None = None,
    epochs: int = 5,
    batch: int = 1024,
    widths: int = 4,
    seeds: int | Sequence[int] = 1,
    optimizer: optax.GradientTransformation | None = None,
    runs_at_once: int | None = None,
    checkpoint: str | Path | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
) -> Trained:
    """Trains two towers to score the next item above sampled ones, for tables and seeds at once.

    Args:
      train: examples, each with a history of at least one item.
      embeddings: of all items, ``[num_items, d]``, or several tables ``[tables, num_items, d]``.
      towers: the towers and how they are joined.
      trained: each run trains its table on, from the values given; otherwise they are frozen.
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
      epochs: passes over the examples; 0 leaves the towers as initialised.
      batch: examples a step.
      widths: most widths that histories are cut to, each compiled for.
      seeds: how many runs a table (seeds 0, 1, ...), or the seeds themselves. A seed fixes the
        initialisation, the order of the examples and the negatives.
      optimizer: any optax optimiser; default Adam at 1e-3.
      runs_at_once: runs that `jax.vmap` trains side by side; None is all of them.
      checkpoint: folder to save in after every round and to resume from.
      on_round: called after each round.

    Returns:
      The trained runs.

    Raises:
      ValueError: an argument or an id out of range, no example, an empty history, embeddings of
        another shape or not finite, nothing to train, or a checkpoint of another run.

    References:
      Xu and Yang (2023), the protocol of the sequential tasks.
    """
    ranges = (("negatives", negatives, 1), ("epochs", epochs, 0), ("batch", batch, 1))
    for name, value, low in (*ranges, ("widths", widths, 1)):
        if value < low:
            raise ValueError(f"{name} must be at least {low}; got {value}")
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one run; got none")
    tables = _tables(embeddings)
    num_tables, num_items, dim = tables.shape
    _check_examples(train, num_items)
    if frequency is None:
        frequency = np.bincount(train.target, minlength=num_items) / len(train.target)
    if np.shape(frequency) != (num_items,):
        raise ValueError(
            f"frequency must have one value an item, ({num_items},); got {np.shape(frequency)}"
        )
    noise = sampling.unigram(np.ones(num_items), power=0) if noise is None else noise
    if noise.starts.shape != (num_items + 1,):
        raise ValueError(f"noise must be over {num_items} items; got {noise.starts.shape[0] - 1}")
    table = np.repeat(np.arange(num_tables, dtype=np.int32), len(seeds))
    keys = loop.seed_keys(seeds * num_tables)
    split = jax.vmap(lambda key: jax.random.split(key))(keys)
    z = jnp.zeros((1, dim), jnp.float32)
    history = (z[:, None], jnp.ones((1, 1), bool), z, jnp.zeros((1, 1), jnp.float32))
    params: dict[str, Any] = {
        "towers": jax.vmap(lambda key: towers.init(key, *history))(split[:, 0])
    }
    if trained:
        params["embeddings"] = tables[table]
    if item_bias:
        params["bias"] = jnp.zeros((len(keys), num_items), jnp.float32)
    if epochs and not jax.tree.leaves(params):
        raise ValueError("towers without parameters have nothing to train: give epochs=0")
    loss = NextItemLoss(towers, contrast, negatives, share_negatives, trained)
    shared = Shared(
        tables.reshape(-1, dim) if not trained else jnp.zeros((1, dim), jnp.float32),
        jnp.asarray(frequency, jnp.float32),
        noise,
    )
    stream = Stream(train, seeds, num_tables, batch, widths)
    if not epochs:
        unmoved = np.zeros((0, len(keys)), np.float32)
        fitted = loop.Fit(params, unmoved, 0.0)
    else:
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
                loss, seeds, batch, stream.widths, train, tables, shared, item_bias
            ),
            on_round=on_round,
        )
    return Trained(
        towers=towers,
        params=fitted.params,
        embeddings=tables,
        frequency=shared.frequency,
        seeds=seeds,
        losses=fitted.losses,
        epoch_losses=stream.by_epoch(fitted.losses),
        examples=epochs * len(train.target),
        seconds=fitted.seconds,
    )


def _tables(embeddings: np.ndarray | Array) -> Array:
    tables = np.asarray(embeddings, np.float32)
    if tables.ndim == 2:
        tables = tables[None]
    if tables.ndim != 3 or tables.size == 0:
        raise ValueError(
            "embeddings must be [num_items, d] or [tables, num_items, d], none of them empty; got "
            f"shape {np.shape(embeddings)}"
        )
    if not np.all(np.isfinite(tables)):
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(tables))[0])
        raise ValueError(f"embeddings must be finite; got {tables[place]} at {place}")
    return jnp.asarray(tables)


def _check_examples(train: Histories, num_items: int) -> None:
    if len(train.target) == 0:
        raise ValueError("there is no example to train on")
    empty = train.items[:, -1] < 0
    if empty.any():
        raise ValueError(
            "histories must hold an item, the latest in the last column; row "
            f"{int(np.argmax(empty))} does not"
        )
    # Batches cut a history at its length, so a wrong one would lose items.
    found = train.items.shape[1] - np.argmax(train.items >= 0, axis=1)
    wrong = found != train.lengths
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"lengths must count from the first item of a row to its end; got {train.lengths[row]} "
            f"in row {row}, whose items begin {found[row]} from the end"
        )
    check_ids("history", train.items, -1, num_items)
    check_ids("target", train.target, 0, num_items)


def _fingerprint(
    loss: NextItemLoss,
    seeds: tuple[int, ...],
    batch: int,
    widths: tuple[int, ...],
    train: Histories,
    tables: Array,
    shared: Shared,
    item_bias: bool,
) -> str:
    """Names the run; the optimiser, a pair of closures, is left to the caller's honesty."""
    contrast = tuple(fn.__qualname__ for fn in loss.contrast)
    data = (train.items, train.target, tables, shared.frequency, shared.noise.starts)
    sums = [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in data]
    return (
        f"towers={_describe(loss.towers)} contrast={contrast} negatives={loss.negatives} "
        f"share_negatives={loss.share_negatives} trained={loss.trained} seeds={seeds} "
        f"batch={batch} widths={widths} tables={tables.shape} item_bias={item_bias} data={sums}"
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

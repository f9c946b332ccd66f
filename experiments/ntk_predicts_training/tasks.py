"""The rows of the three tasks, from one pretrained embedding and one key."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ntk_predicts_training.settings import HEAD, TABLES, TOWERS, Config
from kernlens import datasets, targets
from kernlens.arrays.rows import unit_rows
from kernlens.train import pretrain, sampling
from kernlens.types import Interactions, Labels


class Task(NamedTuple):
    """Rows to learn and rows to test, with class indicators ``[n, C]`` or labels ``[n, 1]``."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


def inputs(config: Config) -> dict[str, Task]:
    """The three tasks, from one pretrained embedding and one key."""
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=200, num_users=100, num_interactions=config.synthetic,
            num_classes=3,
        )  # fmt: skip
        label = data.labels["class"]
    else:
        data = datasets.load("complete_journey")
        label = data.labels["department"]
    fitted = pretrain.contrastive(data, dim=config.dim, epochs=config.epochs)
    embeddings = directions(fitted.embeddings[0])
    label = targets.drop_rare(label, config.min_class_count)
    return {
        HEAD: head_task(config, embeddings, label),
        TOWERS: tower_task(config, embeddings, data),
        TABLES: table_task(config, data),
    }


def directions(x: np.ndarray) -> np.ndarray:
    """Standardised columns, then rows of norm ``sqrt(d)``: all rows alike to a kernel."""
    x = (x - x.mean(0)) / x.std(0)
    return np.asarray(unit_rows(jnp.asarray(x))) * np.float32(x.shape[1] ** 0.5)


def head_task(config: Config, embeddings: np.ndarray, label: Labels) -> Task:
    """Items and their classes, as many of each."""
    generator = np.random.default_rng(0)
    drawn = [
        generator.permutation(np.flatnonzero(label.codes == c))[: 2 * config.per_class]
        for c in range(len(label.names))
    ]
    train, test = (
        np.concatenate([rows[k :: 2] for rows in drawn]) for k in (0, 1)
    )  # fmt: skip
    indicator = np.eye(len(label.names), dtype=np.float32)
    return Task(
        embeddings[train], indicator[label.codes[train]],
        embeddings[test], indicator[label.codes[test]],
    )  # fmt: skip


def tower_task(config: Config, embeddings: np.ndarray, data: Interactions) -> Task:
    """The last item of a session after the mean of up to eight before it, and a random one."""
    generator = np.random.default_rng(0)
    long = np.flatnonzero(np.diff(data.offsets) >= 3)
    sessions = generator.choice(long, 2 * config.pairs, replace=False)
    last = data.offsets[sessions + 1] - 1
    first = np.maximum(data.offsets[sessions], last - 8)
    history = directions(
        np.stack([embeddings[data.items[a:b]].mean(0) for a, b in zip(first, last, strict=True)])
    )
    positive = data.items[last]
    noise = sampling.unigram(data.counts)
    negative = np.asarray(
        sampling.draw(jax.random.key(0), noise, jnp.asarray(positive)[:, None], 1)
    )[:, 0]

    def half(rows: slice) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        candidates = np.concatenate([embeddings[positive[rows]], embeddings[negative[rows]]])
        return (np.tile(history[rows], (2, 1)), candidates), halves(config.pairs)

    train, test = half(slice(0, config.pairs)), half(slice(config.pairs, None))
    return Task(*train, *test)


def table_task(config: Config, data: Interactions) -> Task:
    """Triplets as item2vec draws them, from the sessions cut down to the most frequent items."""
    kept = data.items < config.items
    before = np.concatenate([[0], np.cumsum(kept)])
    frequent = data._replace(
        items=data.items[kept],
        offsets=before[data.offsets],
        item_keys=data.item_keys[: config.items],
        labels={},
        text=None,
    )
    noise = sampling.unigram(frequent.counts)
    window, block = 2, max(64, config.triplets)
    cut = sampling.blocks((0, 0), frequent, block=block, window=window)

    def half(i: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        made = sampling.triplets(
            jax.random.key(i), noise, jnp.asarray(cut.items[i]), jnp.asarray(cut.sequences[i]),
            window=window, k=1,
        )  # fmt: skip
        real = np.flatnonzero(np.asarray(made.weight * made.negative_weight[:, 0]))
        rows = np.random.default_rng(i).choice(real, config.triplets, replace=False)
        anchor, positive = (np.asarray(ids)[rows] for ids in (made.anchor, made.positive))
        context = np.concatenate([positive, np.asarray(made.negatives)[rows, 0]])
        return (np.tile(anchor, 2), context), halves(config.triplets)

    return Task(*half(0), *half(1))


def halves(n: int) -> np.ndarray:
    """Labels of n positives, then n negatives."""
    return np.repeat(np.array([[1.0], [0.0]], np.float32), n, axis=0)


def as_task(fields: Mapping[str, Any]) -> Task:
    """A task from JSON; an input of three levels is a pair of arrays, as is one of ids."""

    def arrays(value: Any, pair: bool) -> Any:
        array = np.asarray(value)
        dtype = jnp.int32 if array.dtype.kind == "i" else jnp.result_type(float)
        return tuple(jnp.asarray(v, dtype) for v in array) if pair else jnp.asarray(array, dtype)

    pair = len(fields["x"]) == 2
    return Task(*(arrays(fields[name], pair and name.startswith("x")) for name in Task._fields))

"""Trained recommenders: vectors of histories and items, scores, and ranks of targets."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.metrics import ranking
from kernlens.models.towers import TwoTowers
from kernlens.targets.sequences import Histories, Past
from kernlens.train.recommend import examples
from kernlens.train.recommend.tables import Tables
from kernlens.types import Array, Params


class Trained(NamedTuple):
    """Trained recommenders; run ``t * len(seeds) + s`` has table ``t`` and seed ``seeds[s]``.

    Attributes:
      towers: the module.
      params: every leaf ``[runs, ...]``: ``towers``; ``embeddings`` where they were trained;
        ``bias`` where items have one.
      tables: the embeddings as the towers read them, and which items have none.
      frequency: share of each item, float32 ``[num_items]``.
      seeds: seeds of the runs of one table.
      losses: mean loss a round, float32 ``[rounds, runs]``; a round is at most 64 steps.
      epoch_losses: mean loss an epoch, float32 ``[epochs, runs]``.
      held_out_losses: loss on held-out examples after each epoch, float32 ``[epochs, runs]``;
        ``[0, runs]`` where none were held out.
      best_epoch: epochs that the parameters kept were trained for, int ``[runs]``.
      notes: what was counted: ``examples`` trained on; ``held_out``; ``cold_items``, which have no
        embedding; ``cold_in_histories``, places that held one; ``examples_left_out``, whose target
        or whole history was cold.
      seconds: wall time of all runs together, compilation included.
    """

    towers: TwoTowers
    params: Params
    tables: Tables
    frequency: Array
    seeds: tuple[int, ...]
    losses: np.ndarray
    epoch_losses: np.ndarray
    held_out_losses: np.ndarray
    best_epoch: np.ndarray
    notes: dict[str, int]
    seconds: float


def queries(trained: Trained, histories: Histories, run: int, *, block: int = 4096) -> np.ndarray:
    """Vectors of histories in one run, a block at a time.

    Args:
      trained: the runs.
      histories: any, empty ones included, whose tower gives the zero vector; cold items in them
        count as absent; an item that training never met is read by its embedding, as any other.
      run: which run, in ``0..runs-1``.
      block: histories a step.

    Returns:
      Vectors, float32 ``[n, h]``. Where towers are joined by the inner product, theirs with
      `item_vectors` are the scores, the items' biases included, in a last column of ones.

    Raises:
      ValueError: a run or an item id out of range.
    """
    made = _vectors(trained, histories, run, block)
    if not _folded(trained):
        return made
    return np.concatenate([made, np.ones((len(made), 1), np.float32)], axis=1)


def item_vectors(trained: Trained, run: int) -> np.ndarray:
    """Vectors of all items in one run.

    Args:
      trained: the runs.
      run: which run, in ``0..runs-1``.

    Returns:
      Vectors, float32 ``[num_items, h]``, NaN for a cold item, which no ranking counts. Where
      towers are joined by the inner product and items have biases, those are the last column.

    Raises:
      ValueError: a run out of range.
    """
    params, table = _of_run(trained, run)
    made = np.array(trained.towers.apply(params, table, method="items"))
    if _folded(trained):
        made = np.concatenate([made, np.asarray(trained.params["bias"][run])[:, None]], axis=1)
    made[trained.tables.cold] = np.nan
    return made


def scores(
    trained: Trained, histories: Histories, run: int, *, block: int = 256
) -> Iterator[np.ndarray]:
    """Scores of all items for histories in one run, whatever the join, a block at a time.

    Args:
      trained: the runs.
      histories: as in `queries`.
      run: which run, in ``0..runs-1``.
      block: histories a step; an MLP as join holds ``block * num_items * hidden`` numbers.

    Yields:
      Scores with the items' biases, float32 ``[block, num_items]``, the last block shorter; NaN
      for a cold item.
    """
    params, table = _of_run(trained, run)
    items = jnp.asarray(trained.towers.apply(params, table, method="items"))
    bias = np.where(trained.tables.cold, np.float32(np.nan), np.float32(0))
    if "bias" in trained.params:
        bias = bias + np.asarray(trained.params["bias"][run])
    vectors = _vectors(trained, histories, run, 4096)
    for start in range(0, len(vectors), block):
        rows = vectors[start : start + block]
        full = jnp.asarray(np.pad(rows, ((0, block - len(rows)), (0, 0))))
        yield np.asarray(_cross(params, full, items, towers=trained.towers))[: len(rows)] + bias


def place(
    trained: Trained, asked: ranking.Queries, run: int, *, block: int | None = None
) -> ranking.Place:
    """Where the targets of a protocol's queries stand, biases included.

        place = recommend.place(trained, ranking.all_items(split.test), 0)
        ranking.recall(place, 10).mean()

    Args:
      trained: the runs.
      asked: of `ranking.all_items` or `ranking.new_items`; a cold target is a miss.
      run: which run, in ``0..runs-1``.
      block: histories a step; None is 2,048 for the inner product and 256 for any other join.

    Returns:
      Place.

    Raises:
      ValueError: a run or an item id out of range.
    """
    histories, out = asked.histories, asked.left_out
    if trained.towers.join is None:
        vectors, items = queries(trained, histories, run), item_vectors(trained, run)
        return ranking.place_by_inner_product(
            vectors, items, histories.target, left_out=out, block=block or 2048
        )
    above, tied, start = [], [], 0
    for rows in scores(trained, histories, run, block=block or 256):
        some = slice(start, start + len(rows))
        own = None if out is None else Past(out.items, out.start[some], out.stop[some])
        found = ranking.place(rows, histories.target[some], left_out=own)
        above.append(found.above)
        tied.append(found.tied)
        start = some.stop
    cold, none = trained.tables.cold, np.zeros(0, np.int64)
    return ranking.Place(
        np.concatenate([none, *above]), np.concatenate([none, *tied]), len(cold), int(cold.sum())
    )


def _folded(trained: Trained) -> bool:
    """Whether biases are a column of the vectors."""
    return trained.towers.join is None and "bias" in trained.params


def _vectors(trained: Trained, histories: Histories, run: int, block: int) -> np.ndarray:
    """What the sequence tower gives, ``[n, h]``."""
    params, table = _of_run(trained, run)
    examples.check_ids("history", histories.items, -1, len(table))
    if trained.tables.cold.any():
        histories = examples.without(histories, trained.tables.cold)
    found = []
    for start in range(0, len(histories.items), block):
        rows = histories.items[start : start + block]
        # Full blocks alone, so that one program serves all.
        rows = np.pad(rows, ((0, block - len(rows)), (0, 0)), constant_values=-1)
        made = _queries(params, jnp.asarray(rows), table, trained.frequency, towers=trained.towers)
        found.append(np.asarray(made)[: len(histories.items) - start])
    if not found:
        empty = jnp.full((1, 1), -1, jnp.int32)
        made = _queries(params, empty, table, trained.frequency, towers=trained.towers)
        return np.zeros((0, made.shape[1]), np.float32)
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnames=("towers",))
def _queries(params: Params, items: Array, table: Array, frequency: Array, *, towers: TwoTowers):
    z, p = table[jnp.maximum(items, 0)], frequency[jnp.maximum(items, 0)]
    return towers.apply(params, z, items >= 0, p, method="query")


@functools.partial(jax.jit, static_argnames=("towers",))
def _cross(params: Params, vectors: Array, items: Array, *, towers: TwoTowers):
    return towers.apply(params, vectors, items, method="cross")


def _of_run(trained: Trained, run: int) -> tuple[Params, Array]:
    """Tower parameters and item embeddings of one run."""
    runs = len(trained.tables.values) * len(trained.seeds)
    if not 0 <= run < runs:
        raise ValueError(f"run must be in 0..{runs - 1}; got {run}")
    params = jax.tree.map(lambda leaf: leaf[run], trained.params["towers"])
    own = trained.params.get("embeddings")
    return params, trained.tables.values[run // len(trained.seeds)] if own is None else own[run]

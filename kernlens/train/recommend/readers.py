"""What trained recommenders say: vectors of histories and items, and scores."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.datasets.sequences import Histories
from kernlens.models.towers import TwoTowers
from kernlens.types import Array, Params


class Trained(NamedTuple):
    """Trained recommenders; run ``t * len(seeds) + s`` has table ``t`` and seed ``seeds[s]``.

    Attributes:
      towers: the module.
      params: every leaf ``[runs, ...]``: ``towers``; ``embeddings`` where they were trained;
        ``bias`` where items have one.
      embeddings: the tables given, float32 ``[tables, num_items, d]``.
      frequency: share of each item, float32 ``[num_items]``.
      seeds: of the runs of one table.
      losses: mean loss a round, float32 ``[rounds, runs]``; a round is at most 64 steps.
      epoch_losses: mean loss an epoch, float32 ``[epochs, runs]``.
      examples: training examples a run met, all epochs together.
      seconds: wall time of all runs together, compilation included.
    """

    towers: TwoTowers
    params: Params
    embeddings: Array
    frequency: Array
    seeds: tuple[int, ...]
    losses: np.ndarray
    epoch_losses: np.ndarray
    examples: int
    seconds: float


def queries(trained: Trained, histories: Histories, run: int, *, block: int = 4096) -> np.ndarray:
    """Vectors of histories in one run, a block at a time.

    Args:
      trained: the runs.
      histories: any, empty ones included, which are the zero vector; an item that training never
        met is read by its embedding, as any other.
      run: which run, in ``0..runs-1``.
      block: histories a step.

    Returns:
      Vectors, float32 ``[n, h]``; with `item_vectors` ranked by `ranking.place_by_inner_product`.

    Raises:
      ValueError: a run or an item id out of range.
    """
    params, table = _of_run(trained, run)
    check_ids("history", histories.items, -1, len(table))
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


def item_vectors(trained: Trained, run: int) -> np.ndarray:
    """Vectors of all items in one run, float32 ``[num_items, h]``."""
    params, table = _of_run(trained, run)
    return np.asarray(trained.towers.apply(params, table, method="items"))


def item_bias(trained: Trained, run: int) -> np.ndarray | None:
    """Biases of all items in one run, float32 ``[num_items]``, or None where there are none."""
    return np.asarray(trained.params["bias"][run]) if "bias" in trained.params else None


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
      Scores with the items' biases, float32 ``[block, num_items]``, the last block shorter.
    """
    params, _ = _of_run(trained, run)
    items, bias = jnp.asarray(item_vectors(trained, run)), item_bias(trained, run)
    vectors = queries(trained, histories, run)
    for start in range(0, len(vectors), block):
        rows = vectors[start : start + block]
        full = jnp.asarray(np.pad(rows, ((0, block - len(rows)), (0, 0))))
        found = np.asarray(_cross(params, full, items, towers=trained.towers))[: len(rows)]
        yield found if bias is None else found + bias


@functools.partial(jax.jit, static_argnames=("towers",))
def _queries(params: Params, items: Array, table: Array, frequency: Array, *, towers: TwoTowers):
    z, p = table[jnp.maximum(items, 0)], frequency[jnp.maximum(items, 0)]
    return towers.apply(params, z, items >= 0, p, method="query")


@functools.partial(jax.jit, static_argnames=("towers",))
def _cross(params: Params, vectors: Array, items: Array, *, towers: TwoTowers):
    return towers.apply(params, vectors, items, method="cross")


def _of_run(trained: Trained, run: int) -> tuple[Params, Array]:
    """Tower parameters and item embeddings of one run."""
    runs = len(trained.embeddings) * len(trained.seeds)
    if not 0 <= run < runs:
        raise ValueError(f"run must be in 0..{runs - 1}; got {run}")
    params = jax.tree.map(lambda leaf: leaf[run], trained.params["towers"])
    own = trained.params.get("embeddings")
    return params, trained.embeddings[run // len(trained.seeds)] if own is None else own[run]


def check_ids(name: str, ids: np.ndarray, low: int, num_items: int) -> None:
    """Raises ``ValueError`` where an id is not in ``low..num_items-1``."""
    wrong = (ids < low) | (ids >= num_items)
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(
            f"{name} ids must be in 0..{num_items - 1}, as the embeddings have rows; got "
            f"{ids[wrong][0]} in row {row}"
        )

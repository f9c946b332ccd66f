"""Batches of next-item examples, by width."""

from typing import Any, NamedTuple

import numpy as np

from kernlens.targets.sequences import Histories
from kernlens.train.recommend.widths import by_width, widths

_STEPS_A_ROUND = 8
# Few, so that the widths take turns: long histories alone would pull the items' biases to and fro.


class Batch(NamedTuple):
    """Next-item examples of one step; ``weight`` 0 is padding, ``table`` the run's embeddings."""

    items: Any
    target: Any
    weight: Any
    table: Any


class Stream:
    """The batches of every round, for all runs: ``stream(i)``, leaves ``[steps, runs, ...]``.

    The rows of each width are dealt in equal number to its steps, and the rounds of an epoch, each
    of one width, stand in random order.
    """

    def __init__(
        self, train: Histories, seeds: tuple[int, ...], num_tables: int, batch: int, most: int
    ):
        self.widths = widths(train.lengths, count=most)
        self._rows = by_width(train.lengths, self.widths)
        self._train, self._seeds, self._batch = train, seeds, batch
        self._tables = np.repeat(np.arange(num_tables, dtype=np.int32), len(seeds))
        needed = [-(-len(rows) // batch) for rows in self._rows]
        parts = [-(-count // _STEPS_A_ROUND) for count in needed]
        self._steps = [-(-count // part) for count, part in zip(needed, parts, strict=True)]
        self._places = [(w, part) for w, count in enumerate(parts) for part in range(count)]
        self._parts = parts
        self.rounds = len(self._places)
        self._epoch, self._orders = -1, []

    def __call__(self, i: int) -> Batch:
        """The batches of round ``i``."""
        epoch, at = divmod(i, self.rounds)
        if epoch != self._epoch:
            self._orders = [
                [_generator(seed, epoch).permutation(rows) for rows in self._rows]
                for seed in self._seeds
            ]
            self._epoch = epoch
        w, part = self._places[self._walk(epoch)[at]]
        steps, width = self._steps[w], self.widths[w]
        dealt = np.stack([self._deal(orders[w], w) for orders in self._orders], 1)
        rows = np.tile(
            dealt[part * steps : (part + 1) * steps], (1, len(self._tables) // len(self._seeds), 1)
        )
        there = rows >= 0
        items = np.where(there[..., None], self._train.items[rows][..., -width:], -1)
        table = np.broadcast_to(self._tables, rows.shape[:2])
        target = np.where(there, self._train.target[rows], 0)
        return Batch(items, target, there.astype(np.float32), table)

    def _walk(self, epoch: int) -> np.ndarray:
        return _generator(-1 % 2**32, epoch).permutation(self.rounds)

    def _deal(self, order: np.ndarray, w: int) -> np.ndarray:
        """Rows of each step, ``-1`` where there is none, ``[steps, batch]``."""
        steps = self._steps[w] * self._parts[w]
        size = -(-len(order) // steps)
        padded = np.full(steps * size, -1)
        padded[: len(order)] = order
        return padded.reshape(size, steps).T

    def by_epoch(self, losses: np.ndarray) -> np.ndarray:
        """Mean over the examples of each epoch, ``[epochs, runs]``, of losses by round."""
        shares = np.array([len(self._rows[w]) / self._parts[w] for w, _ in self._places])
        shares = shares / shares.sum()
        epochs = losses.reshape(len(losses) // self.rounds, self.rounds, losses.shape[1])
        means = [shares[self._walk(e)] @ epoch for e, epoch in enumerate(epochs)]
        return np.array(means, np.float32).reshape(-1, losses.shape[1])


def whole(held: Histories, tables: np.ndarray, batch: int) -> Batch:
    """Batches of all held-out examples, the same for all runs, leaves ``[steps, runs, ...]``.

    Args:
      held: the examples.
      tables: table of each run, ``[runs]``.
      batch: most examples of a step; they are dealt to the steps in equal number.
    """
    n, runs = len(held.target), len(tables)
    steps = -(-n // batch)
    size = -(-n // steps)
    rows = np.full(steps * size, -1)
    rows[:n] = np.arange(n)
    rows = rows.reshape(size, steps).T
    there = rows >= 0
    items = np.where(there[..., None], held.items[rows][..., -int(held.lengths.max()) :], -1)

    def each(leaf: np.ndarray) -> np.ndarray:
        return np.broadcast_to(leaf[:, None], (steps, runs, *leaf.shape[1:]))

    return Batch(
        items=each(items),
        target=each(np.where(there, held.target[rows], 0)),
        weight=each(there.astype(np.float32)),
        table=np.broadcast_to(tables, (steps, runs)),
    )


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch))))

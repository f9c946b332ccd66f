"""How a head is trained: its batches, loss, optimiser and stopping rule.

A recipe is the loss function of `loop.fit`, hashed by its head, so that runs of equal shapes
are compiled once.
"""

import functools
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.train import loop
from kernlens.train.heads.splits import Task, inverse
from kernlens.types import Array, Params


class TrainingRows(NamedTuple):
    """What every step reads: rows in the recipe's coordinates, and each seed's way of seeing them.

    ``shift`` and ``scale`` are ``[S, d]`` (``scale`` ``[S, d, d]`` for an affine head), ``weights``
    ``[S, n]``, ``l2`` ``[S]``; a step's batch names the seed's place in them.
    """

    x: Array
    codes: Array
    weights: Array
    shift: Array
    scale: Array
    l2: Array


def _rows(
    task: Task, x: np.ndarray, shift: np.ndarray, scale: np.ndarray, l2: float
) -> TrainingRows:
    single = functools.partial(jnp.asarray, dtype=jnp.float32)
    return TrainingRows(
        x=single(x),
        codes=jnp.asarray(task.codes, jnp.int32),
        weights=single(~task.held_out / task.num_train[:, None]),
        shift=single(shift),
        scale=single(scale),
        l2=single(l2 / task.num_train),
    )


@dataclass(frozen=True)
class Affine:
    """L-BFGS on all training rows of a head whose loss is convex.

    All seeds read the same whitened rows, ``x = u @ whiten``, so their logits are one product. A
    seed's own standardisation comes back exactly, because the head is affine: the logits move by
    the image of the seed's ``shift``, and the slopes in its standardised columns, which the penalty
    is of, are the images of the rows of ``scale``.
    """

    head: nn.Module
    l2: ClassVar[float] = 1.0
    steps: ClassVar[int] = 500
    round: ClassVar[int] = 10

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """L-BFGS, however many the steps."""
        return _LBFGS

    def coordinates(self, task: Task, l2: float, x: np.ndarray) -> np.ndarray:
        """Rows in the coordinates of :meth:`shared`, from those of ``task.x``."""
        return x @ self._whiten(task, l2)

    def _whiten(self, task: Task, l2: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(task.x.T @ task.x / len(task.x))
        floor = max(1e-7 * values[-1], 1e-7, 10.0 * l2 / task.num_train.min())
        return vectors / np.sqrt(np.maximum(values, 0.0) + floor)

    def shared(self, task: Task, l2: float) -> TrainingRows:
        """Whitened rows. The whitening sees all rows, but only as coordinates to search in."""
        whiten = self._whiten(task, l2)
        # A column that is constant for a seed has no slope to learn; any positive width will do.
        width = np.where(task.scale > 0, inverse(task.scale), 1.0)
        scale = width[:, :, None] * whiten
        return _rows(task, task.x @ whiten, task.mean @ whiten, scale, l2)

    def batches(self, task: Task, steps: int) -> loop.Batches:
        """Rounds of ``steps`` full batches: each seed's place."""
        places = np.tile(np.arange(len(task.seeds), dtype=np.int32), (steps, 1))
        return lambda i: places

    def logits(self, params: Params, place: Array, shared: TrainingRows) -> Array:
        """Logits of all rows, ``[n, C]``."""
        logits = _logits(self.head, params, shared.x)
        return logits - self._slopes(params, shared.shift[place][None])

    def __call__(self, params: Params, key: Array, place: Array, shared: TrainingRows) -> Array:
        """Penalised loss over all training rows."""
        logits = self.logits(params, place, shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes)
        slopes = self._slopes(params, shared.scale[place])
        return jnp.sum(shared.weights[place] * losses) + 0.5 * shared.l2[place] * jnp.sum(slopes**2)

    def _slopes(self, params: Params, directions: Array) -> Array:
        at_zero = _logits(self.head, params, jnp.zeros_like(directions[:1]))
        return _logits(self.head, params, directions) - at_zero

    def until(self, losses: np.ndarray) -> bool:
        """Whether the last round lowered no seed's loss by more than a millionth."""
        if len(losses) < 2:
            return False
        return bool(np.all(losses[-2] - losses[-1] <= 1e-6 * np.abs(losses[-1])))

    def check(self, fitted: loop.Fit, shared: TrainingRows) -> None:
        """Warns where the gradient is not that of an optimum."""
        norms = np.asarray(_gradient_norms(self, fitted.params, shared))
        limit = 1e-3 * np.sqrt(fitted.losses[-1])
        if not np.all(norms <= limit):
            warnings.warn(
                f"L-BFGS stopped short of the optimum after {len(fitted.losses)} rounds: gradient "
                f"norms {norms} (at an optimum at most {limit}); allow more steps or a larger l2",
                RuntimeWarning,
                stacklevel=3,
            )


@dataclass(frozen=True)
class General:
    """Adam on batches of training rows, for any head."""

    head: nn.Module
    l2: ClassVar[float] = 10.0
    steps: ClassVar[int] = 1500
    round: ClassVar[int] = 100
    until: ClassVar[None] = None

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Adam, its step size falling to 0 over ``steps``."""
        return _adam(steps)

    def coordinates(self, task: Task, l2: float, x: np.ndarray) -> np.ndarray:
        """Rows as they are."""
        del task, l2
        return x

    def shared(self, task: Task, l2: float) -> TrainingRows:
        """Rows as they are; a step standardises those it reads."""
        return _rows(task, task.x, task.mean, task.scale, l2)

    def batches(self, task: Task, steps: int) -> loop.Batches:
        """Rounds of ``steps`` batches: each seed's place, and rows in a fresh order each pass."""
        rows = [np.flatnonzero(~held).astype(np.int32) for held in task.held_out]
        fewest = int(task.num_train.min())
        size = min(256, fewest)
        passes = fewest // size

        def batches(i):
            epochs, slots = np.divmod(np.arange(i * steps, (i + 1) * steps), passes)
            drawn = np.empty((steps, len(rows), size), np.int32)
            for place, (seed, own) in enumerate(zip(task.seeds, rows, strict=True)):
                for epoch in np.unique(epochs):
                    order = np.random.default_rng([seed, 2, epoch]).permutation(own)
                    order = order[: passes * size].reshape(passes, size)
                    drawn[epochs == epoch, place] = order[slots[epochs == epoch]]
            places = np.tile(np.arange(len(rows), dtype=np.int32), (steps, 1))
            return places, drawn

        return batches

    def logits(self, params: Params, place: Array, shared: TrainingRows) -> Array:
        """Logits of all rows, ``[n, C]``."""
        return self._apply(params, place, shared.x, shared)

    def __call__(self, params: Params, key: Array, batch: Any, shared: TrainingRows) -> Array:
        """Penalised loss over a batch."""
        place, rows = batch
        logits = self._apply(params, place, shared.x[rows], shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes[rows])
        weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
        return jnp.mean(losses) + 0.5 * shared.l2[place] * sum(jnp.sum(w**2) for w in weights)

    def _apply(self, params: Params, place: Array, x: Array, shared: TrainingRows) -> Array:
        return _logits(self.head, params, (x - shared.shift[place]) * shared.scale[place])

    def check(self, fitted: loop.Fit, shared: TrainingRows) -> None:
        """A fixed schedule has no optimum to miss."""


def _logits(head: nn.Module, params: Params, x: Array) -> Array:
    return cast(Array, head.apply(params, x))


@functools.partial(jax.jit, static_argnums=0)
def _gradient_norms(recipe: Affine, params: Params, shared: TrainingRows) -> Array:
    def norm(place, params):
        grads = jax.grad(recipe)(params, None, place, shared)
        return optax.tree.norm(grads)

    return jax.vmap(norm)(jnp.arange(shared.shift.shape[0]), params)


@functools.lru_cache(maxsize=128)
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))


_LBFGS = optax.lbfgs(
    memory_size=10,
    linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=8, initial_guess_strategy="one"),
)


@functools.lru_cache(maxsize=128)
def is_affine(head: nn.Module, dim: int) -> bool:
    """Whether logits are affine in the row and linear in the parameters, at random ones."""
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((2, 16, dim)).astype(np.float32)
    like = jax.eval_shape(head.init, jax.random.key(0), x1)
    p1, p2 = (
        jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), like)
        for _ in range(2)
    )
    total = jax.tree.map(np.add, p1, p2)
    pairs = ((p1, x1), (p2, x1), (total, x1), (total, x2), (total, (x1 + x2) / 2))
    found = jax.jit(lambda pairs: [_logits(head, params, x) for params, x in pairs])(pairs)
    first, second, both, end, middle = (np.asarray(logits, np.float64) for logits in found)
    gap = np.maximum(np.abs(first + second - both), np.abs(both + end - 2 * middle)).max()
    return bool(gap < 1e-3 * np.abs(both).max())

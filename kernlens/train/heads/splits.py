"""What every classifier starts from and ends with: checked rows, splits by seed, metrics."""

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens import metrics, targets
from kernlens.types import Array, Labels, Outcome


def stratified_split(seed: int, codes: np.ndarray, test_fraction: float = 0.2) -> np.ndarray:
    """Holds out a random share of every class.

    A class of ``m >= 2`` rows gives ``round(m * test_fraction)`` of them, but at least one and at
    most ``m - 1``; a class of one row gives none. So every seed holds out equally many.

    Args:
      seed: a non-negative integer.
      codes: class of each row, integers ``[n]``; a row below 0 has no label and is never held out.
      test_fraction: share of rows to hold out, in ``(0, 1)``.

    Returns:
      True where a row is held out, bool ``[n]``.

    Raises:
      ValueError: ``test_fraction`` outside ``(0, 1)``.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must lie strictly between 0 and 1; got {test_fraction}")
    codes = np.asarray(codes)
    counts = np.bincount(codes[codes >= 0])
    quota = targets.held_out_of(counts, test_fraction)
    return draw(np.random.default_rng([seed, 0]), codes, quota)


class Task(NamedTuple):
    """The labelled rows and each seed's split of them.

    Attributes:
      x: labelled rows, float64 ``[n, d]``, standardised by all of them. No classifier sees these:
        they only keep the seeds' own small corrections exact in float32.
      codes: their classes, int32 ``[n]``.
      num_classes: number of classes C.
      seeds: the seeds, S of them.
      held_out: True where a seed holds a row out, bool ``[S, n]``.
      mean: mean of ``x`` over a seed's training rows, ``[S, d]``.
      scale: one over their standard deviation, 0 for a constant column, ``[S, d]``.
      centre: mean of the rows as they were given, ``[d]``.
      unit: one over their standard deviation, 0 for a constant column, ``[d]``.
    """

    x: np.ndarray
    codes: np.ndarray
    num_classes: int
    seeds: tuple[int, ...]
    held_out: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    unit: np.ndarray

    @property
    def num_train(self) -> np.ndarray:
        """Training rows of each seed, ``[S]``; equal unless the user chose what to hold out."""
        return np.sum(~self.held_out, axis=1)

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Other rows ``[m, d]`` in the units of ``x``, float64."""
        return (np.asarray(rows, np.float64) - self.centre) * self.unit


def make_task(
    embeddings: Any,
    labels: Labels,
    seeds: int | Sequence[int],
    test_fraction: float,
    held_out: np.ndarray | None = None,
) -> Task:
    """Checks what a user gave and splits it; see `classify` for the arguments and errors.

    With ``held_out``, bool ``[S, n]`` of the labelled rows, nothing is drawn.
    """
    x = np.asarray(embeddings)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"embeddings must be rows by columns, [n, d]; got shape {x.shape}")
    if len(x) != len(labels.codes):
        raise ValueError(
            f"embeddings and labels must have the same rows; got {len(x)} embeddings and "
            f"{len(labels.codes)} labels"
        )
    if isinstance(seeds, int | np.integer):
        seeds = range(int(seeds))
    seeds = tuple(int(seed) for seed in seeds)
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be one or more, none below 0; got {seeds}")
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else np.float64
    rounding = float(jnp.finfo(dtype).eps)
    rows = targets.labelled_rows(labels)
    x, codes = x[rows].astype(np.float64), np.asarray(labels.codes)[rows]
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"embeddings must be finite; got {np.sum(~finite)} labelled rows that are not, the "
            f"first is row {rows[np.argmin(finite)]}, counted from 0"
        )
    counts = np.bincount(codes, minlength=len(labels.names))
    if np.sum(counts > 0) < 2:
        raise ValueError(
            f"classification needs rows of at least two classes; got {len(codes)} labelled rows "
            f"of {np.sum(counts > 0)}"
        )
    if counts.max() < 2:
        raise ValueError(
            f"too few rows to hold any out: no class has two; got {len(codes)} labelled rows of "
            f"{np.sum(counts > 0)} classes"
        )
    if held_out is None:
        held_out = np.stack([stratified_split(seed, codes, test_fraction) for seed in seeds])
    # A column whose spread is no more than the rounding of its values is constant.
    mean, spread = x.mean(axis=0), x.std(axis=0)
    centre = mean
    blur = 8.0 * rounding * np.abs(mean)
    unit = inverse(np.where(spread > blur, spread, 0.0))
    x, blur = (x - mean) * unit, blur * unit
    mean = np.stack([x[~held].mean(axis=0) for held in held_out])
    spread = np.stack([x[~held].std(axis=0) for held in held_out])
    blur = blur + 8.0 * rounding * np.abs(mean)
    scale = inverse(np.where(spread > blur, spread, 0.0))
    return Task(x, codes, len(labels.names), seeds, held_out, mean, scale, centre, unit)


def of_labelled(held_out: Any, labels: Labels, seeds: int | Sequence[int]) -> np.ndarray:
    """A split that was given of all rows, ``[S, n]``: that of the labelled ones.

    Raises:
      ValueError: another shape or type, or a seed that holds out no labelled row, or all of them.
    """
    held, n = np.asarray(held_out), len(labels.codes)
    num_seeds = int(seeds) if isinstance(seeds, int | np.integer) else len(seeds)
    if held.dtype != bool or held.shape != (num_seeds, n):
        raise ValueError(
            f"held_out must be bool [seeds, rows], [{num_seeds}, {n}]; got {held.dtype} of shape "
            f"{held.shape}"
        )
    rows = targets.labelled_rows(labels)
    held = held[:, rows]
    counts = held.sum(axis=1)
    if not 0 < counts.min() <= counts.max() < len(rows):
        raise ValueError(
            "held_out must hold out some of the labelled rows for every seed, and not all; "
            f"got {counts.tolist()} of {len(rows)}"
        )
    return held


def inverse(x: np.ndarray) -> np.ndarray:
    """One over ``x``, and 0 where ``x`` is 0."""
    return np.where(x > 0, 1.0 / np.where(x > 0, x, 1.0), 0.0)


def draw(rng: np.random.Generator, codes: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """True at ``quota[c]`` random rows of each class ``c``."""
    order = np.lexsort((rng.random(len(codes)), codes))
    order = order[codes[order] >= 0]
    ordered = codes[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    drawn = np.zeros(len(codes), bool)
    drawn[order[place < quota[ordered]]] = True
    return drawn


def measure(task: Task, predicted: np.ndarray, start: float) -> Outcome:
    """The outcome of the classes ``predicted [S, n]``; training began at time ``start``."""
    held_out = task.held_out
    parts = np.stack([held_out, ~held_out]).astype(np.int32)
    counts = np.asarray(_counts(task.codes, predicted, parts, num_classes=task.num_classes))
    held, trained = (metrics.from_confusion(part) for part in counts)
    return Outcome(held, trained, predicted, held_out, time.perf_counter() - start)


@functools.partial(jax.jit, static_argnames=("num_classes",))
def _counts(target: Array, predicted: Array, weights: Array, *, num_classes: int) -> Array:
    """Confusion matrices ``[parts, S, C, C]``, ``weights [parts, S, n]``."""

    def one(predicted, weights):
        return metrics.confusion(target, predicted, num_classes, weights=weights)

    return jax.vmap(jax.vmap(one), in_axes=(None, 0))(predicted, weights)

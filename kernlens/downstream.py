"""Trained outcomes: readers fitted to a frozen embedding, over seeds, measured on held-out rows.

This is what a prediction is held against. A seed fixes a reader's split and its initialisation; the
seeds of one call train together. Every split standardises the columns by the mean and the standard
deviation of its own training rows, so an outcome does not depend on the scale or the place of the
embedding, and nothing is learnt from a row that is held out.
"""

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import labels as label_rows
from kernlens import metrics, training
from kernlens.types import Array, Kernel, Labels, Outcome, Params

_STEPS_A_ROUND = 20
_BATCH = 256
_CHUNK = 2048


def stratified_split(seed: int, codes: np.ndarray, test_fraction: float = 0.2) -> np.ndarray:
    """A random share of each class.

    A class of ``m >= 2`` rows gives ``round(m * test_fraction)`` of them, but at least one and at
    most ``m - 1``; a class of one row gives none. How many rows are held out is thus the same for
    every seed.

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
    quota = np.clip(np.rint(counts * test_fraction), 1, np.maximum(counts - 1, 0))
    return _draw(np.random.default_rng([seed, 0]), codes, quota)


def _draw(rng: np.random.Generator, codes: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """True at ``quota[c]`` random rows of each class ``c``."""
    order = np.lexsort((rng.random(len(codes)), codes))
    order = order[codes[order] >= 0]
    ordered = codes[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    drawn = np.zeros(len(codes), bool)
    drawn[order[place < quota[ordered]]] = True
    return drawn


class _Task(NamedTuple):
    """The labelled rows and every seed's split: ``x [n, d]`` float64, the rest by seed."""

    x: np.ndarray
    codes: np.ndarray
    num_classes: int
    seeds: tuple[int, ...]
    held_out: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @property
    def num_train(self) -> int:
        return int(np.sum(~self.held_out[0]))


def _task(
    embeddings: Any, labels: Labels, seeds: int | Sequence[int], test_fraction: float
) -> _Task:
    x = np.asarray(embeddings)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"embeddings must be rows by columns, [n, d]; got shape {x.shape}")
    if len(x) != len(labels.codes):
        raise ValueError(
            f"embeddings and labels must have the same rows: got {len(x)} embeddings and "
            f"{len(labels.codes)} labels"
        )
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be at least one, each 0 or more; got {seeds}")
    rows = label_rows.labelled_rows(labels)
    rounding = float(jnp.finfo(x.dtype if x.dtype.kind == "f" else np.float64).eps)
    x, codes = x[rows].astype(np.float64), np.asarray(labels.codes)[rows]
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"embeddings must be finite: {np.sum(~finite)} labelled rows are not, the first is "
            f"row {rows[np.argmin(finite)]}"
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
    held_out = np.stack([stratified_split(seed, codes, test_fraction) for seed in seeds])
    mean = np.stack([x[~held].mean(axis=0) for held in held_out])
    spread = np.stack([x[~held].std(axis=0) for held in held_out])
    # A column is constant when rounding is all that its spread can be; it then reads as zero.
    constant = spread <= 8 * rounding * np.abs(mean)
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
    return _Task(x, codes, len(labels.names), seeds, held_out, mean, scale)


class _Shared(NamedTuple):
    """What every step reads; ``[S, ...]`` leaves are picked by the seed's place in the run."""

    x: Array
    codes: Array
    weights: Array
    shift: Array
    scale: Array
    l2: Array


@dataclass(frozen=True)
class AffineLoss:
    head: nn.Module

    def logits(self, params, seed, shared):
        zero = jnp.zeros_like(shared.x[:1])
        offset = self.head.apply(params, shared.shift[seed][None]) - self.head.apply(params, zero)
        return self.head.apply(params, shared.x) - offset

    def __call__(self, params, key, seed, shared):
        logits = self.logits(params, seed, shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes)
        zero = jnp.zeros_like(shared.x[:1])
        slopes = self.head.apply(params, shared.scale[seed]) - self.head.apply(params, zero)
        return jnp.sum(shared.weights[seed] * losses) + 0.5 * shared.l2 * jnp.sum(slopes**2)


def affine_shared(task, l2):
    n_train = task.num_train
    mean = task.x.mean(axis=0)
    spread = task.x.std(axis=0)
    inverse = np.where(spread > 0, 1.0 / np.where(spread > 0, spread, 1.0), 0.0)
    z = (task.x - mean) * inverse
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    whiten = vectors / np.sqrt(np.maximum(values, 0.0) + 1e-7 * values[-1] + 10 * l2 / n_train)
    width = np.where(task.scale > 0, inverse / np.where(task.scale > 0, task.scale, 1.0), 1.0)
    f = lambda v: jnp.asarray(v, jnp.float32)
    return _Shared(
        x=f(z @ whiten),
        codes=jnp.asarray(task.codes),
        weights=f(~task.held_out / n_train),
        shift=f((task.mean - mean) * inverse @ whiten),
        scale=f(width[:, :, None] * whiten),
        l2=f(l2 / n_train),
    )

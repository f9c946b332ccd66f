"""The inner-product head: a row goes to the class whose mean has the largest inner product."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.probes import copies
from kernlens.probes.blocks import blocks, check_rows, known_classes
from kernlens.probes.by_folds import answered
from kernlens.probes.folds import FOLDS, share_out
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import Prediction, check_draws
from kernlens.types import Array, Labels, Stream


def class_means(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    priors: bool = False,
    temperature: float = 1.0,
    folds: int = FOLDS,
    groups: np.ndarray | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""What the classifier by inner products with class means will reach on held-out rows.

    A row goes to the class with the largest :math:`\langle x, m_k\rangle / \tau`, plus
    :math:`\log \pi_k` with ``priors``, the first of equal ones. Means and shares of the classes are
    those of the other folds, so they rest on as many rows as those of an 80/20 split; the sums
    without a fold are those of all rows less its own, so all folds cost as much as one fit.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, read three times. The
        result does not depend on a common positive scale, without ``priors``; it does on a shift.
      labels: one label per row, ``[n]``; rows without one are left out.
      priors: whether the log of the class's share is added. The head that Xu and Yang train has
        none.
      temperature: :math:`\tau > 0`; it matters only with ``priors``.
      folds: number of folds, at least 2; as many as rows leaves out one row at a time.
      groups: equal for copies of one row, integers ``[n]``, ``-1`` where there is no label.
        Default: those of :func:`kernlens.probes.copies.groups`.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``; see :mod:`kernlens.probes.spread`.
      seed: random seed of the folds and of the draws.

    Returns:
      Prediction; its loss is the error rate. A class of one row has no mean without it: the row is
      not held out, and is not part of the metrics.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, no class
        of two distinct rows, or an argument out of its range.

    References:
      Xu and Yang (2023), theorem 1: the class-mean classifier of contrastive pretraining.
    """
    check_draws(draws, level)
    if not (temperature > 0 and np.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite; got {temperature}")
    codes = np.asarray(labels.codes)
    features = check_rows(features, len(codes))
    kept, classes, own = known_classes(labels)
    groups = copies.groups(features, codes) if groups is None else np.asarray(groups)
    groups = groups[kept]
    fold = share_out(own, groups, folds=folds, seed=seed)
    with jax.enable_x64(True):
        heads = fitted_means(
            features, kept, own, fold, folds=folds, priors=priors, temperature=temperature
        )
        predicted = _predicted(features, kept, fold, heads)
    return answered(
        HeldOut(None, predicted, own.astype(np.int32), fold, labels.names, groups),
        classes, draws=draws, level=level, seed=seed, num_folds=folds,
    )  # fmt: skip


class Means(NamedTuple):
    """Class means over the temperature, and the log of the classes' shares.

    Attributes:
      means: without each fold, and last without the rows of none, float64 ``[K + 1, C, p]``.
      bias: 0 or the log of the share; minus infinity of a class without rows, ``[K + 1, C]``.
      whole_means: of all rows, ``[C, p]``.
      whole_bias: of all rows, ``[C]``.
    """

    means: np.ndarray
    bias: np.ndarray
    whole_means: np.ndarray
    whole_bias: np.ndarray


def fitted_means(
    features: Any,
    kept: np.ndarray,
    own: np.ndarray,
    fold: np.ndarray,
    *,
    folds: int,
    priors: bool,
    temperature: float,
) -> Means:
    """The means of the classes, without each fold and of all rows; to be called in float64.

    Args:
      features: an array or a stream, ``[n_all, p]``.
      kept: whether a row counts, bool ``[n_all]``.
      own: class of each row kept, in ``0..C-1``, ``[n]``.
      fold: of each row kept, ``[n]``.
      folds: number of folds ``K``.
      priors: as :func:`class_means`.
      temperature: as :func:`class_means`.
    """
    num_classes = int(own.max()) + 1
    places = np.full(len(kept), -1)
    places[kept] = np.arange(len(own))
    # Fold -1 stands last: its rows are in the means of every fold.
    parts, own = np.where(fold < 0, folds, fold).astype(np.int32), own.astype(np.int32)
    cells = parts * num_classes + own
    counts = np.bincount(cells, minlength=(folds + 1) * num_classes).astype(np.float64)
    counts = counts.reshape(folds + 1, num_classes)
    sums = jnp.zeros((folds + 1, num_classes, features.shape[1]))
    for values, rows in blocks(features, kept):
        at = places[rows]
        sums = _add(sums, values, parts[at], own[at])
    total, every = counts.sum(axis=0), sums.sum(axis=0)
    left, all_but = total - counts, np.asarray(every - sums)
    means, bias = head_of_means(all_but, left, priors=priors, temperature=temperature)
    whole = head_of_means(np.asarray(every), total, priors=priors, temperature=temperature)
    return Means(means, bias, *whole)


def head_of_means(
    sums: np.ndarray, counts: np.ndarray, *, priors: bool = False, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[..., C, p]`` and biases ``[..., C]`` of the head of class means.

    Args:
      sums: of the rows of each class, ``[..., C, p]``.
      counts: counts of the rows of each class, ``[..., C]``; one without rows is never answered.
      priors: as :func:`class_means`.
      temperature: as :func:`class_means`.
    """
    means = sums / np.maximum(counts, 1.0)[..., None] / temperature
    bias = np.zeros(counts.shape)
    if priors:
        bias = np.log(np.maximum(counts, 1.0) / counts.sum(axis=-1, keepdims=True))
    return means, np.where(counts > 0, bias, -np.inf)


def _predicted(features, kept, fold, heads) -> np.ndarray:
    """The class of each row by the means of the other folds, int32 ``[n]``."""
    places = np.full(len(kept), -1)
    places[kept] = np.arange(len(fold))
    parts = np.where(fold < 0, len(heads.bias) - 1, fold).astype(np.int32)
    predicted = np.empty(len(fold), np.int32)
    for values, rows in blocks(features, kept):
        at = places[rows]
        predicted[at] = _nearest_mean(values, parts[at], heads.means, heads.bias)
    return predicted


@jax.jit
def _add(sums: Array, x: Array, parts: Array, codes: Array) -> Array:
    return sums.at[parts, codes].add(x)


@jax.jit
def _nearest_mean(x: Array, parts: Array, means: Array, bias: Array) -> Array:
    def of_part(best, part):
        scores = x @ means[part].T + bias[part]
        given = jnp.argmax(scores, axis=1).astype(jnp.int32)
        return jnp.where(parts == part, given, best), None

    start = jnp.zeros(x.shape[0], jnp.int32)
    return jax.lax.scan(of_part, start, jnp.arange(len(bias), dtype=jnp.int32))[0]

"""The inner-product head: a row goes to the class whose mean has the largest inner product."""

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
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the folds and of the draws.

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
        predicted = _predicted(features, kept, own, fold, len(classes), folds, priors, temperature)
    return answered(
        HeldOut(None, predicted, own.astype(np.int32), fold, labels.names, groups),
        classes, draws=draws, level=level, seed=seed, num_folds=folds,
    )  # fmt: skip


def _predicted(
    features, kept, own, fold, num_classes, num_folds, priors, temperature
) -> np.ndarray:
    """The class of each row by the means of the other folds, int32 ``[n]``."""
    places = np.full(len(kept), -1)
    places[kept] = np.arange(len(own))
    # Fold -1 stands last: its rows are in the means of every fold.
    parts, own = np.where(fold < 0, num_folds, fold).astype(np.int32), own.astype(np.int32)
    cells = parts * num_classes + own
    counts = np.bincount(cells, minlength=(num_folds + 1) * num_classes).astype(np.float64)
    counts = counts.reshape(num_folds + 1, num_classes)
    sums = jnp.zeros((num_folds + 1, num_classes, features.shape[1]))
    for values, rows in blocks(features, kept):
        at = places[rows]
        sums = _add(sums, values, parts[at], own[at])
    left = counts.sum(axis=0) - counts
    means = np.asarray(sums.sum(axis=0) - sums) / np.maximum(left, 1.0)[:, :, None] / temperature
    bias = np.zeros(left.shape)
    if priors:
        bias = np.log(np.maximum(left, 1.0) / left.sum(axis=1, keepdims=True))
    bias = np.where(left > 0, bias, -np.inf)
    predicted = np.empty(len(own), np.int32)
    for values, rows in blocks(features, kept):
        at = places[rows]
        predicted[at] = _nearest_mean(values, parts[at], means, bias)
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

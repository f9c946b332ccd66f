"""Optima of logistic regression along a path of penalties, and which of them a head takes."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kernlens import metrics
from kernlens.probes import curvature as curvatures
from kernlens.probes import softmax
from kernlens.probes.design import design
from kernlens.probes.folds import FOLDS, held_rows
from kernlens.probes.given import Given
from kernlens.probes.prediction import (
    ACCURACY,
    BALANCED_ACCURACY,
    LOG_LOSS,
    LOWER_IS_BETTER,
    MACRO_F1,
    MICRO_F1,
)
from kernlens.types import Array

METRICS = (MACRO_F1, ACCURACY, MICRO_F1, BALANCED_ACCURACY, LOG_LOSS)
"""What predictions of classes can be compared by; of the log loss less is better."""


class Fitted(NamedTuple):
    """Solutions along the path.

    Attributes:
      design: of :func:`kernlens.probes.design.design`.
      penalties: falling, ``[P]``, as far as the path was walked.
      whole: of all rows, ``P`` arrays ``[C, r + 1]``.
      folds: without each fold, ``P`` arrays ``[K, C, r + 1]``.
      predicted: class by the row's own fold, int32 ``[P, n]``.
      converged: bool ``[P]``.
      values: each metric by fold, ``[P, K]``.
      stopped: whether the path was left before its end.
      curvature: of the last penalty, to start from.
    """

    design: Any
    penalties: np.ndarray
    whole: list[Array]
    folds: list[Array]
    predicted: np.ndarray
    converged: np.ndarray
    values: dict[str, np.ndarray]
    stopped: bool
    curvature: Array


def checked_penalties(penalties: Any) -> np.ndarray:
    """The path, falling.

    Raises:
      ValueError: none, or one that is not positive and finite.
    """
    path = np.unique(np.atleast_1d(np.asarray(penalties, np.float64)))[::-1]
    if path.size == 0 or not np.all((path > 0) & np.isfinite(path)):
        raise ValueError(f"penalties must be positive and finite; got {penalties}")
    return path


def fit_path(
    given: Given,
    penalties: np.ndarray,
    metric: str,
    *,
    standardised: bool = True,
    mesh: Mesh | None = None,
) -> Fitted:
    """The optima along a path, strongest penalty first, as far as it is worth going.

    Where the metric of two penalties running is below its best before them and the log loss rises,
    weaker ones only fit what is not there, and take longest.
    """
    made = design(
        given.features, given.kept, given.codes, given.folds, standardised=standardised, mesh=mesh
    )
    num_classes = len(given.classes)
    shares = np.bincount(given.codes) / len(given.codes)
    width = made.rows.x.shape[2]
    whole = jnp.zeros((num_classes, width), jnp.float32)
    whole = whole.at[:, -1].set(jnp.asarray(np.log(shares), jnp.float32))
    moved = jnp.zeros((FOLDS, num_classes, width), jnp.float32)
    curvature = curvatures.first(made.rows.x, made.rows.codes, jnp.asarray(shares, jnp.float32))
    whole_path, fold_path, predicted, losses, converged = [], [], [], [], []
    tests, values = held_rows(given.codes, given.folds), {}
    for penalty in penalties:
        solved = softmax.solve(
            made.rows, jnp.float32(penalty), made.roughness, whole, moved, curvature,
            num_classes=num_classes, by_heart=made.by_heart,
        )  # fmt: skip
        whole, moved, curvature = solved.whole, solved.folds - solved.whole, solved.curvature
        whole_path.append(solved.whole)
        fold_path.append(solved.folds)
        predicted.append(made.in_order(solved.predicted))
        losses.append(made.in_order(solved.losses))
        converged.append(bool(solved.converged))
        values = _joined(values, by_fold(given.codes, predicted[-1], losses[-1], tests))
        if _is_past(values, metric):
            break
    return Fitted(
        made, penalties[: len(predicted)], whole_path, fold_path, np.stack(predicted),
        np.array(converged), values, len(predicted) < len(penalties), curvature,
    )  # fmt: skip


def _is_past(values: dict[str, np.ndarray], metric: str) -> bool:
    quality, loss = (values[name].mean(axis=1) for name in (metric, LOG_LOSS))
    if len(loss) < 3:
        return False
    if metric in LOWER_IS_BETTER:
        quality = -quality
    worse = np.max(quality[-2:]) < np.max(quality[:-2])
    return bool(worse and np.min(loss[:-2]) < loss[-2] < loss[-1])


def _joined(values, own):
    return {
        name: np.concatenate([values[name], own[name]]) if values else own[name] for name in own
    }


def by_fold(codes, predicted, losses, tests) -> dict[str, np.ndarray]:
    """Each metric of each fold at one penalty, ``[1, K]``."""
    size = int(codes.max()) + 1
    counted = [metrics.counts(codes[rows], predicted[None, rows], size) for rows in tests]
    found = metrics.from_counts(*map(np.stack, zip(*counted, strict=True)))._asdict()
    loss = [np.mean(losses[rows], dtype=np.float64) for rows in tests]
    return {name: own.T for name, own in found.items()} | {LOG_LOSS: np.array([loss])}


def chosen(fitted: Fitted, metric: str) -> tuple[np.ndarray, int]:
    """Places of the penalties on the path: that of each fold, best on the others, ``[K]``, and the
    best on all."""
    quality = (-1.0 if metric in LOWER_IS_BETTER else 1.0) * fitted.values[metric]
    others = (quality.sum(axis=1, keepdims=True) - quality) / (FOLDS - 1)
    # Penalties fall, so that the first of equals is the largest.
    return (
        np.argmax(np.round(others, 12), axis=0),
        int(np.argmax(np.round(quality.mean(axis=1), 12))),
    )

"""Heads that answer other rows: those of each fold, and that of all rows, as they would be served.

A probe says what a head will reach on rows like its own. :func:`fold_heads` keeps the heads
themselves, so that they can be asked about other rows of the same items: of the next version of
the embedding, mapped into this one, or of a table with a remedy. An item is always answered by the
head of the fold that held it out.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from kernlens.kernels.readout import Readout
from kernlens.probes import copies, partitions
from kernlens.probes.blocks import known_classes
from kernlens.probes.by_folds import answered
from kernlens.probes.class_means import class_means, fitted_means
from kernlens.probes.folds import FOLDS
from kernlens.probes.given import MAX_ROWS, sorted_rows
from kernlens.probes.held_out import HeldOut
from kernlens.probes.logistic import PENALTIES, averaged, predicted_by
from kernlens.probes.logistic_path import checked_penalties, chosen, fit_path
from kernlens.probes.prediction import MACRO_F1, Prediction, check_metric
from kernlens.types import Labels

BLOCK = 2**22
"""Scores that are made at a time."""


class FoldHeads(NamedTuple):
    """Heads of one decoder on one embedding: one without each fold, and one of all rows.

    Attributes:
      prediction: of the heads on their own rows, as :func:`kernlens.predict` gives it; its
        ``held_out`` has folds, groups and classes of the labelled rows.
      rows: places of the labelled rows in the table given, int ``[n]``.
      features_fn: gives the features ``[m, p]`` of rows ``[m, d]``.
      weights: without each fold, float64 ``[K, C, p]``, on features, for the classes of ``names``.
      biases: minus infinity of a class that a fold's head never met, ``[K, C]``.
      whole_weights: of the head of all rows, ``[C, p]``.
      whole_bias: of the head of all rows, ``[C]``.
      has_probabilities: whether the softmax of the scores is a probability.
      penalty: penalty of the head of all rows, or None where it has none.
      options: of the probe: whether columns are ``standardised``, or ``priors`` and
        ``temperature`` of class means.
    """

    prediction: Prediction
    rows: np.ndarray
    features_fn: Callable[[np.ndarray], np.ndarray]
    weights: np.ndarray
    biases: np.ndarray
    whole_weights: np.ndarray
    whole_bias: np.ndarray
    has_probabilities: bool
    penalty: float | None
    options: Mapping[str, Any]

    @property
    def held_out(self) -> HeldOut:
        """The heads' answers to their own rows."""
        assert self.prediction.held_out is not None
        return self.prediction.held_out

    @property
    def folds(self) -> np.ndarray:
        """The fold that held each labelled row out, int32 ``[n]``; -1 for none."""
        return self.held_out.folds

    def scores(self, rows: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """Scores (logits) of the classes by the head of each row's own fold.

        Args:
          rows: other rows of the labelled items, in the order of ``self.rows``, ``[n, d]``.
          folds: fold whose head answers each row, ``[n]``; -1 for the head of all rows. By default
            those of the labelled items, where a row that no fold held out has the first fold's.

        Returns:
          Float32 ``[n, C]``.
        """
        if folds is None:
            folds = np.maximum(self.folds, 0)
        if len(rows) != len(folds):
            raise ValueError(
                f"rows and folds must match, one fold a row; got {len(rows):,} rows and "
                f"{len(folds):,} folds"
            )
        found = np.empty((len(rows), len(self.whole_bias)), np.float32)
        for k in np.unique(folds).tolist():
            at = np.flatnonzero(folds == k)
            weights = self.whole_weights if k < 0 else self.weights[k]
            bias = self.whole_bias if k < 0 else self.biases[k]
            size = max(1, BLOCK // max(weights.shape))
            for start in range(0, len(at), size):
                part = at[start : start + size]
                features = np.asarray(self.features_fn(np.asarray(rows[part])), np.float64)
                found[part] = features @ weights.T + bias
        return found

    def log_probabilities(
        self, rows: np.ndarray, folds: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Log probabilities of the classes, float32 ``[n, C]``, with the arguments of
        :meth:`scores`; None of a head that has none."""
        return log_softmax(self.scores(rows, folds)) if self.has_probabilities else None

    def predicted(self, rows: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """Classes given, int32 ``[n]``, with the arguments of :meth:`scores`."""
        return np.argmax(self.scores(rows, folds), axis=1).astype(np.int32)

    def answers(self, rows: np.ndarray) -> HeldOut:
        """Answers to other rows of the labelled items, each by the head of its own fold.

        Args:
          rows: as :meth:`scores`.
        """
        scores = self.scores(rows)
        return self.held_out._replace(
            log_probabilities=log_softmax(scores) if self.has_probabilities else None,
            predicted=np.argmax(scores, axis=1).astype(np.int32),
        )

    def served(self, rows: np.ndarray) -> np.ndarray:
        """Scores by the head of all rows, float32 ``[m, C]``: for items that no head has met."""
        return self.scores(rows, np.full(len(rows), -1))


def prediction_of(
    held: HeldOut,
    *,
    metric: str = MACRO_F1,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
    values: Mapping[str, float] | None = None,
) -> Prediction:
    """The prediction that answers to held-out rows amount to: metrics as a split has them.

    Args:
      held: answers, of :meth:`FoldHeads.answers`.
      metric: shown first.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals over rows, in ``(0, 1)``.
      seed: random seed of the draws.
      values: of the metrics and the loss, where they are known better than by these folds.

    Returns:
      Prediction.

    Raises:
      ValueError: a metric that it does not have, or no row that a fold holds out.
    """
    classes, own = np.unique(np.concatenate([held.target, held.predicted]), return_inverse=True)
    target, predicted = np.split(own.astype(np.int32), 2)
    found = answered(
        held._replace(target=target, predicted=predicted), classes,
        num_folds=int(held.folds.max()) + 1, draws=draws, level=level, seed=seed, values=values,
    )  # fmt: skip
    check_metric(found, metric)
    return found._replace(metric=metric)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log probabilities of scores ``[n, C]``; minus infinity stays."""
    shifted = scores - np.max(scores, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def shared_groups(tables: list[Any], labels: Labels) -> np.ndarray:
    """Groups of rows that are copies in any of several tables of the same items.

    Folds made of them hold copies together in every table, and are the same for all.

    Args:
      tables: rows of each, ``[n, d_i]``, arrays or streams.
      labels: labels of the items.

    Returns:
      Numbers, equal for rows of a group, int32 ``[n]``; ``-1`` of rows without a label.
    """
    codes = np.asarray(labels.codes)
    found = copies.groups(tables[0], codes)
    for table in tables[1:]:
        found = copies.joined(found, copies.groups(table, codes))
    return found


def fold_heads(
    features: Any,
    labels: Labels,
    *,
    features_fn: Callable[[np.ndarray], np.ndarray] = np.asarray,
    readout: Readout = Readout.LINEAR,
    options: Mapping[str, Any] | None = None,
    metric: str = MACRO_F1,
    groups: np.ndarray | None = None,
    repeats: int = partitions.PARTITIONS,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> FoldHeads:
    """The heads of :func:`kernlens.probes.logistic` or :func:`kernlens.probes.class_means`.

    Folds depend on labels, groups and seed alone: tables of the same items share them where they
    are given the same ``groups``, those of :func:`shared_groups`.

    Args:
      features: features of the rows, ``[n, p]``, an array or a stream.
      labels: one label per row; rows without one are left out.
      features_fn: gives the features of other rows; the rows themselves by default.
      readout: weights that are trained, or class means.
      options: of the probe: ``penalties`` and ``standardised``, or ``priors`` and ``temperature``.
      metric: what chooses the penalty, and is shown first.
      groups: equal for copies, ``[n]``; as the probes take them.
      repeats: partitions over which values of a linear head are means; 1 where its answers to other
        rows are what is asked.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds and draws.

    Returns:
      FoldHeads.

    Raises:
      ValueError: what the probes raise, or a readout by neighbours, which has no weights.
    """
    if readout is Readout.NEIGHBOURS:
        raise ValueError(
            "k nearest neighbours have no head that could answer other rows; expected a linear "
            "head, an MLP, an inner-product or a cosine head"
        )
    asked: dict[str, Any] = {"draws": draws, "level": level, "seed": seed}
    made = _means
    if readout is Readout.LINEAR:
        made, asked = _linear, {**asked, "repeats": repeats}
    found = made(
        features, labels, features_fn, dict(options or {}), metric=metric, groups=groups, **asked
    )
    return found._replace(prediction=found.prediction._replace(metric=metric))


def _linear(features, labels, features_fn, options, *, metric, groups, repeats, draws, level, seed):
    standardised = options.pop("standardised", True)
    path = checked_penalties(options.pop("penalties", PENALTIES))
    given = sorted_rows(features, labels, max_rows=MAX_ROWS, groups=groups, seed=seed)
    fitted = fit_path(given, path, metric, standardised=standardised)
    values = None
    if standardised:
        values = averaged(given, fitted, metric, repeats=repeats, seed=seed)
    prediction = predicted_by(
        given, fitted, metric=metric, values=values, draws=draws, level=level, seed=seed
    )
    taken, best = chosen(fitted, metric)
    folds = np.stack([np.asarray(fitted.folds[i][k]) for k, i in enumerate(taken)])
    weights, biases = fitted.design.in_columns(folds)
    whole_weights, whole_bias = fitted.design.in_columns(fitted.whole[best])
    of_all = partial(_of_all_classes, classes=given.classes, size=len(labels.names))
    return FoldHeads(
        prediction, np.flatnonzero(given.kept), features_fn,
        of_all(weights, filled=0.0, axis=1), of_all(biases, filled=-np.inf, axis=1),
        of_all(whole_weights, filled=0.0, axis=0), of_all(whole_bias, filled=-np.inf, axis=0),
        True, float(fitted.penalties[best]), {"standardised": standardised},
    )  # fmt: skip


def _means(features, labels, features_fn, options, *, metric, groups, draws, level, seed):
    prediction = class_means(
        features, labels, groups=groups, draws=draws, level=level, seed=seed, **options
    )
    held = prediction.held_out
    assert held is not None
    kept, classes, own = known_classes(labels)
    with jax.enable_x64(True):
        found = fitted_means(
            features, kept, own, held.folds, folds=FOLDS, priors=options.get("priors", False),
            temperature=options.get("temperature", 1.0),
        )  # fmt: skip
    of_all = partial(_of_all_classes, classes=classes, size=len(labels.names))
    return FoldHeads(
        prediction, np.flatnonzero(kept), features_fn,
        of_all(found.means[:FOLDS], filled=0.0, axis=1),
        of_all(found.bias[:FOLDS], filled=-np.inf, axis=1),
        of_all(found.whole_means, filled=0.0, axis=0),
        of_all(found.whole_bias, filled=-np.inf, axis=0),
        False, None, options,
    )  # fmt: skip


def _of_all_classes(values, *, classes, size, filled, axis):
    """Values of the classes that occur, along an axis, among those of all classes."""
    values = np.asarray(values, np.float64)
    shape = (*values.shape[:axis], size, *values.shape[axis + 1 :])
    found = np.full(shape, filled)
    found[(slice(None),) * axis + (classes,)] = values
    return found

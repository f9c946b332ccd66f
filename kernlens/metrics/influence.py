r"""Influence of each row on a metric: how its value moves as a row counts a little more.

A metric of ``n`` rows is nearly its value plus the mean of the influences :math:`\psi_i`, which
have mean 0, so that :math:`\mathrm{sd}(\psi) / \sqrt n` is its standard error, and the
difference of two metrics of the same rows has that of the difference of their influences.

References:
  Hampel (1974); Davison and Hinkley (1997), section 2.7.
"""

import numpy as np

from kernlens.metrics import multi_label
from kernlens.metrics.regression import r2 as r2_of
from kernlens.metrics.regression import rmse as rmse_of


def accuracy(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the accuracy of classes, both ``[n]``."""
    return _centred((target == predicted).astype(np.float64))


def macro_f1(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the macro-F1 of classes, both integers ``[n]``; classes that occur count."""
    size = int(max(np.max(target), np.max(predicted))) + 1
    hits = np.bincount(target[target == predicted], minlength=size)
    either = np.bincount(target, minlength=size) + np.bincount(predicted, minlength=size)
    share = np.where(either > 0, len(target) / np.maximum(either, 1), 0.0)
    f1 = np.where(either > 0, 2.0 * hits / np.maximum(either, 1), 0.0)
    right = np.where(target == predicted, 2.0 * share[target], 0.0)
    moved = right - f1[target] * share[target] - f1[predicted] * share[predicted]
    return moved / np.count_nonzero(either)


def balanced_accuracy(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the mean recall of classes, both integers ``[n]``."""
    support = np.bincount(target)
    recall = np.bincount(target[target == predicted], minlength=len(support)) / np.maximum(
        support, 1
    )
    moved = ((target == predicted) - recall[target]) * len(target) / support[target]
    return moved / np.count_nonzero(support)


def r2(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the share of variance explained, both ``[n]``; 0 of a constant target."""
    centred = (target - np.mean(target)) ** 2
    spread = np.mean(centred)
    if not spread > 0:
        return np.zeros(len(target))
    return -((target - predicted) ** 2 - (1.0 - r2_of(target, predicted)) * centred) / spread


def rmse(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the root of the mean squared error, both ``[n]``."""
    value = rmse_of(target, predicted)
    squares = _centred((target - predicted) ** 2)
    return squares / (2.0 * value) if value > 0 else squares


def mae(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the mean absolute error, both ``[n]``."""
    return _centred(np.abs(target - predicted))


def micro_f1_of_labels(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the micro-F1 of labels, both bool ``[n, C]``."""
    either = np.sum(target, axis=1) + np.sum(predicted, axis=1)
    right = np.sum(target & predicted, axis=1)
    value = multi_label.micro_f1(target, predicted)
    return (2.0 * right - value * either) * len(target) / max(np.sum(either), 1)


def macro_f1_of_labels(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Influence on the macro-F1 of labels, both bool ``[n, C]``."""
    either = np.maximum(np.sum(target, axis=0) + np.sum(predicted, axis=0), 1)
    f1 = 2.0 * np.sum(target & predicted, axis=0) / either
    moved = 2.0 * (target & predicted) - f1 * (target.astype(float) + predicted)
    return moved @ (len(target) / either) / target.shape[1]


def average_precision(target: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Influence on the mean average precision, target bool ``[n, C]`` and scores ``[n, C]``."""
    counted = np.flatnonzero(np.any(target, axis=0))
    made = np.zeros(len(target))
    for c in counted:
        made += _of_one_label(target[:, c], scores[:, c])
    return made / max(len(counted), 1)


def _of_one_label(target, scores) -> np.ndarray:
    n, positives = len(target), np.count_nonzero(target)
    order = np.argsort(-scores, kind="stable")
    ranked, own = -scores[order], target[order]
    first, last = (np.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))
    precision = np.cumsum(own)[last - 1] / last
    value = np.mean(precision[own])

    def from_here(values):
        """Sums over the rows with the label at this score and below it."""
        return np.append(np.cumsum(np.where(own, values, 0.0)[::-1])[::-1], 0.0)[first]

    # A row that counts more raises the precision of all below it if it has the label, else lowers.
    moved = own * from_here(1.0 / last) - from_here(precision / last)
    moved += own * (precision - value)
    made = np.empty(n)
    made[order] = moved * n / positives
    return made


def _centred(values) -> np.ndarray:
    return values - np.mean(values)

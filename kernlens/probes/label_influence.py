r"""Influence of each label on the predicted metric: what the probe would say without the row.

:func:`kernlens.probes.ridge` predicts every row without itself. Here it also predicts every row
without one more, for each of these in turn, exactly and from one fit: so a label has a number, how
much of the predicted metric *of the other rows* is due to it. A label that pulls the others down is
wrong, or stands on a vector that is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernlens.probes.prediction import SQUARED_ERROR
from kernlens.probes.ridge import ridge
from kernlens.types import Array, Labels

BLOCK = 2**22
"""Pairs of rows times classes that are held at once."""


class LabelInfluence(NamedTuple):
    """How much of a predicted metric is due to each label.

    Attributes:
      values: the metric of the other rows, with the label less without it; NaN for a row without a
        label, float64 ``[n]``. Negative ones pull the others down; of the squared error, positive.
      without: the metric of the other rows when the label is not there, float64 ``[n]``.
      metric: its name.
      strength: strength of the ridge, relative to the mean eigenvalue of the covariance.
    """

    values: np.ndarray
    without: np.ndarray
    metric: str
    strength: float


def label_influence(
    features: np.ndarray | Array,
    labels: Labels,
    *,
    metric: str = "macro_f1",
    strength: float | None = None,
) -> LabelInfluence:
    r"""Influence of each label on the held-out metric of ridge regression, exactly.

    With the hat matrix :math:`H` of the fit, intercept included, and residuals :math:`e`, the
    residual of row :math:`j` when rows :math:`i` and :math:`j` are left out is

    .. math:: \frac{(1 - h_{ii})\, e_j + h_{ij}\, e_i}{(1 - h_{ii})(1 - h_{jj}) - h_{ij}^2},

    and when :math:`j` alone is, :math:`e_j / (1 - h_{jj})`. The class of a row follows from either
    as in :func:`ridge`. Scales of the columns and the penalty stay those of all rows.

    Time is that of :math:`n^2 (p + C)`, memory some arrays of ``BLOCK`` numbers.

    A metric of right answers moves in steps, and for many labels not at all; the squared error
    orders them all.

    Args:
      features: one row an item, real, finite, ``[n, p]``.
      labels: one label a row, ``[n]``; rows without one are left out.
      metric: one of :data:`METRICS`, or ``"squared_error"``, of which less is better: a positive
        influence then does harm.
      strength: of the ridge, relative to the mean eigenvalue of the covariance of the standardised
        columns, positive; the one that :func:`ridge` chooses by default.

    Returns:
      The influence of each label.

    Raises:
      ValueError: as :func:`ridge`, another metric, a strength that is not positive, or fewer than
        three labelled rows.

    References:
      Cook and Weisberg (1982), section 3.2, for several rows left out.
    """
    if metric not in (*METRICS, SQUARED_ERROR):
        known = ", ".join(map(repr, (*METRICS, SQUARED_ERROR)))
        raise ValueError(f"metric must be one of {known}; got {metric!r}")
    if strength is not None and not strength > 0:
        raise ValueError(f"strength must be positive; got {strength}")
    codes = np.asarray(labels.codes)
    known = np.flatnonzero(codes >= 0)
    if len(known) < 3:
        raise ValueError(f"influence needs three labelled rows or more; got {len(known)}")
    if strength is None:
        path = ridge(features, labels, draws=1).path
        assert path is not None  # of a ridge there is one
        strength = float(path.chosen)
    x = np.asarray(features, np.float64)[known]
    own, num_classes, n = codes[known], len(labels.names), len(known)
    if x.ndim != 2 or not np.all(np.isfinite(x)):
        raise ValueError(f"features must be finite rows, [n, p]; got shape {np.shape(features)}")
    z = x - x.mean(0)
    spread = z.std(0)
    z = z / np.where(spread > 0, spread, 1.0)
    scatter = z.T @ z
    penalty = strength * np.trace(scatter) / len(scatter)
    solved = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), z.T)
    target = (own[:, None] == np.arange(num_classes)).astype(np.float64)
    share = target.mean(0)
    residual = target - share - z @ (solved @ target)
    slack = 1.0 - (1.0 / n + np.einsum("np,pn->n", z, solved))
    # The intercept of all rows but the one more, as in the probe.
    gap = (target - share) / (n - 1)
    guessed = np.argmax(target - residual / slack[:, None] + gap, axis=1)
    losses = np.sum((residual / slack[:, None]) ** 2, axis=1)
    with_it, without = np.empty(n), np.empty(n)
    block = max(1, BLOCK // (n * num_classes))
    for start in range(0, n, block):
        rows = np.arange(start, min(start + block, n))
        across = 1.0 / n + z[rows] @ solved
        determinant = slack[rows, None] * slack - across**2
        moved = slack[rows, None, None] * residual + across[:, :, None] * residual[rows, None]
        moved /= np.maximum(determinant, 1e-12)[:, :, None]
        if metric == SQUARED_ERROR:
            squares = np.sum(moved**2, axis=2)
            squares[np.arange(len(rows)), rows] = 0.0
            with_it[rows] = (losses.sum() - losses[rows]) / (n - 1)
            without[rows] = squares.sum(1) / (n - 1)
            continue
        left = (n * share - target[rows]) / (n - 1)
        others = (target - left[:, None]) / (n - 2)
        again = np.argmax(target - moved + others, axis=2)
        both = (np.broadcast_to(guessed, again.shape), again)
        for made, found in zip((with_it, without), both, strict=True):
            made[rows] = METRICS[metric](own, found, rows, num_classes)
    whole = np.full((2, len(codes)), np.nan)
    whole[:, known] = with_it - without, without
    return LabelInfluence(whole[0], whole[1], metric, strength)


def _counts(
    own: np.ndarray, found: np.ndarray, rows: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, answers and rows of each class, the row itself left out, ``[rows, C]`` each."""
    counted = np.ones(found.shape, bool)
    counted[np.arange(len(rows)), rows] = False
    place = np.arange(len(rows))[:, None] * num_classes
    truth = np.broadcast_to(own, found.shape)

    def of(codes: np.ndarray, which: np.ndarray) -> np.ndarray:
        flat = (place + codes)[which]
        return np.bincount(flat, minlength=len(rows) * num_classes).reshape(len(rows), -1)

    return of(truth, counted & (found == truth)), of(found, counted), of(truth, counted)


def _accuracy(own, found, rows, num_classes) -> np.ndarray:
    hits, _, support = _counts(own, found, rows, num_classes)
    return hits.sum(1) / support.sum(1)


def _macro_f1(own, found, rows, num_classes) -> np.ndarray:
    hits, answers, support = _counts(own, found, rows, num_classes)
    either = answers + support
    f1 = np.where(either > 0, 2.0 * hits / np.maximum(either, 1), 0.0)
    return f1.sum(1) / np.count_nonzero(either, axis=1)


def _balanced_accuracy(own, found, rows, num_classes) -> np.ndarray:
    hits, _, support = _counts(own, found, rows, num_classes)
    recall = np.where(support > 0, hits / np.maximum(support, 1), 0.0)
    return recall.sum(1) / np.count_nonzero(support, axis=1)


METRICS: dict[str, Callable[..., np.ndarray]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
}
"""Metrics by name, of the classes that occur."""

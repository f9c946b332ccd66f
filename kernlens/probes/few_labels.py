r"""The protocol of text-embedding benchmarks: a head trained on eight labels a class, ten times.

Ten draws of eight rows a class; logistic regression on each; accuracy and macro-F1 on all other
rows. The ten are not trained as a head of many rows is: the optimum is a combination
:math:`W = Z^\top A` of the drawn rows, so that all of it happens in their small Gram matrix
:math:`G`, whose factor serves every step. With :math:`P` the probabilities at :math:`G A`,

.. math:: A \leftarrow A - (\tfrac12 G + \lambda I)^{-1} (P - Y + \lambda A)

never raises the loss, for :math:`\tfrac12` bounds the curvature of a softmax; the steps are
accelerated. (One step from zero is ridge regression in closed form; it was tried, and is .03 of
macro-F1 too low on average.)

References:
  Muennighoff et al. (2023), MTEB, section 3.1, classification; Böhning (1992), for the bound;
  Nesterov (1983), for the acceleration.
"""

from typing import NamedTuple

import numpy as np

from kernlens import metrics
from kernlens.probes.blocks import check_rows
from kernlens.types import Array, Classification, Labels

STEPS, TOLERANCE = 20_000, 1e-6
"""Most steps, and the change of the logits, relative to the largest, at which they end."""


class FewLabels(NamedTuple):
    """Metrics on the rows that a draw leaves out.

    Attributes:
      metrics: each ``[draws]``.
      per_class: labels of each class in a draw.
      classes: names of the classes that have more rows than that; the others are left out.
    """

    metrics: Classification
    per_class: int
    classes: tuple[str, ...]

    def mean(self, metric: str) -> float:
        """Mean over the draws."""
        return float(np.mean(getattr(self.metrics, metric)))

    def spread(self, metric: str) -> float:
        """Standard deviation between draws."""
        return float(np.std(getattr(self.metrics, metric), ddof=1))

    def __repr__(self) -> str:
        draws = len(self.metrics.accuracy)
        return (
            f"{self.per_class} labels of each of {len(self.classes)} classes, {draws} draws: "
            f"macro-F1 {self.mean('macro_f1'):.3f} ± {self.spread('macro_f1'):.3f}, "
            f"accuracy {self.mean('accuracy'):.3f} ± {self.spread('accuracy'):.3f}"
        )


def few_labels(
    features: np.ndarray | Array,
    labels: Labels,
    *,
    per_class: int = 8,
    draws: int = 10,
    penalty: float = 1.0,
    seed: int = 0,
) -> FewLabels:
    """What logistic regression reaches with few labels of each class.

    Args:
      features: one row per item, real and finite where labelled, ``[n, p]``, used as they are: the
        benchmarks standardise nothing.
      labels: one label per row, ``[n]``; rows without one, and classes of ``per_class`` rows or
        fewer, are left out.
      per_class: labels of each class, at least 1.
      draws: how many, at least 2.
      penalty: half the factor of the squared weights, positive; scikit-learn's ``1 / C``.
      seed: random seed of the draws.

    Returns:
      FewLabels.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes of more
        than ``per_class`` rows, or an argument out of its range.
    """
    if per_class < 1 or draws < 2 or not 0.0 < penalty < np.inf:
        raise ValueError(
            "per_class must be >= 1, draws >= 2 and penalty positive; got "
            f"{per_class}, {draws} and {penalty}"
        )
    codes = np.asarray(labels.codes)
    rows = np.asarray(check_rows(features, len(codes)))
    counts = np.bincount(codes[codes >= 0], minlength=len(labels.names))
    used = np.flatnonzero(counts > per_class)
    if len(used) < 2:
        raise ValueError(
            f"{per_class} labels a class need two classes of more rows; the largest have "
            f"{sorted(counts.tolist())[-2:]}"
        )
    kept = np.isin(codes, used)
    x, own = rows[kept].astype(np.float64), np.searchsorted(used, codes[kept])
    if not np.all(np.isfinite(x)):
        raise ValueError("features must be finite where labelled")
    member = np.eye(len(used))
    found = []
    for draw in range(draws):
        order = np.lexsort((np.random.default_rng([seed, draw]).random(len(own)), own))
        starts = np.searchsorted(own[order], np.arange(len(used)))
        taken = order[(starts[:, None] + np.arange(per_class)).ravel()]
        mean = np.mean(x[taken], axis=0)
        z = x[taken] - mean
        combined, bias = _optimum(z @ z.T, member[own[taken]], penalty)
        others = np.delete(np.arange(len(own)), taken)
        predicted = np.argmax((x[others] - mean) @ (z.T @ combined) + bias, axis=1)
        counted = metrics.counts(own[others], predicted[None], len(used))
        found.append([float(v[0]) for v in metrics.from_counts(*counted)])
    values = np.array(found).T
    return FewLabels(Classification(*values), per_class, tuple(labels.names[c] for c in used))


def _optimum(gram: np.ndarray, member: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients ``A [m, C]`` of the optimum and its intercepts, ``[C]``."""
    # The intercept is the weight of a constant so large that its penalty is none.
    constant = 100.0 * max(float(np.mean(np.diag(gram))), penalty)
    whole = gram + constant
    step = np.linalg.inv(0.5 * whole + penalty * np.eye(len(gram)))
    at = ahead = np.zeros_like(member)
    momentum = 1.0
    for _ in range(STEPS):
        logits = whole @ ahead
        shifted = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        share = shifted / np.sum(shifted, axis=1, keepdims=True)
        moved = ahead - step @ (share - member + penalty * ahead)
        change = moved - at
        if np.sum((ahead - moved) * change) > 0:  # going back: start over
            momentum = 1.0
        later = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / later * change
        at, momentum = moved, later
        if np.max(np.abs(whole @ change)) <= TOLERANCE * max(1.0, float(np.max(np.abs(logits)))):
            break
    return at, constant * np.sum(at, axis=0)

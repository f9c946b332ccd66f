"""Items that only the new version has: what a head will reach on them, without their labels.

Labelled items that look like the new ones in the new version count more: each has the density of
the new items over that of the common ones as its weight, from a classifier that separates the two
by their rows. What such weights move is also what they may miss, so the interval is wider by it.

References:
  Shimodaira (2000), importance weights under covariate shift; Sugiyama, Suzuki and Kanamori (2012),
  density ratios by classification.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens import metrics
from kernlens.probes.prediction import ACCURACY, LOG_LOSS, MACRO_F1, Prediction, tails
from kernlens.probes.serving import fold_heads
from kernlens.types import Interval, Labels

LARGEST = 20.0
"""Largest weight of an item, where the mean is 1."""

PENALTIES = (1e3, 1e2, 1e1, 1.0)
"""Penalties that are tried for the classifier between common and new items."""

MAX_ROWS = 50_000
"""Rows of either side that the classifier learns from."""


class Shift(NamedTuple):
    """How the new items differ from the common ones.

    Attributes:
      count: number of new items.
      weights: of the labelled common items, mean 1, ``[n]``.
      effective: number of equally weighted items that weigh as much, Kish's.
      separation: area under the ROC curve of the classifier between the two, .5 where they are
        alike.
    """

    count: int
    weights: np.ndarray
    effective: float
    separation: float


def shift(common: np.ndarray, new: np.ndarray, *, seed: int = 0) -> Shift:
    """Weights with which labelled common items stand for the new ones.

    Args:
      common: labelled items on the new version, ``[n, d]``.
      new: items that it alone has, ``[m, d]``.
      seed: of the classifier's folds and of a sample.
    """
    rng = np.random.default_rng([seed, 11])
    parts = [_features(rows) for rows in (common, new)]
    drawn = [p[rng.permutation(len(p))[:MAX_ROWS]] for p in parts]
    codes = np.repeat(np.arange(2, dtype=np.int32), [len(p) for p in drawn])
    labels = Labels(codes, ("common", "new"))
    heads = fold_heads(
        np.concatenate(drawn), labels, options={"penalties": PENALTIES}, metric=LOG_LOSS, seed=seed,
        groups=np.arange(len(codes), dtype=np.int32), draws=1,
    )  # fmt: skip
    held = heads.held_out
    assert held.log_probabilities is not None
    odds = held.log_probabilities[:, 1] - held.log_probabilities[:, 0]
    separation = float(metrics.auc(jnp.asarray(odds), jnp.asarray(codes)))
    scores = heads.served(parts[0])
    ratio = np.exp(np.clip(scores[:, 1] - scores[:, 0], -30.0, 30.0).astype(np.float64))
    weights = np.minimum(ratio / np.mean(ratio), LARGEST)
    weights = weights / np.mean(weights)
    return Shift(len(new), weights, float(len(weights) / np.mean(weights**2)), separation)


def _features(rows: np.ndarray) -> np.ndarray:
    """Rows and their log lengths, which tell how often an item was seen."""
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    floor = max(float(np.max(norms, initial=0.0)), 1e-300) * 1e-12
    return np.column_stack([rows, np.log(np.maximum(norms, floor))])


def on_new_items(
    prediction: Prediction, found: Shift, *, draws: int = 100, seed: int = 0
) -> dict[str, Interval]:
    """Metrics that are predicted on the new items: those of the common ones, moved by the weights.

    Args:
      prediction: on the labelled common items.
      found: their weights.
      draws: bootstrap draws of the weighted items.
      seed: of the draws.

    Returns:
      Macro-F1, accuracy and, of a head with probabilities, log loss; each interval is that of the
      weighted items, wider on either side by what the weights moved.
    """
    assert prediction.held_out is not None
    counted = prediction.held_out.folds >= 0
    target, given = prediction.target[counted], prediction.predicted[counted]
    weights = found.weights[counted]
    rng = np.random.default_rng([seed, 13])
    n, size = len(target), int(max(target.max(), given.max())) + 1
    plain = _weighted(target, given, np.ones(n), size)
    moved = _weighted(target, given, weights, size)
    samples = [
        _weighted(target, given, weights * np.bincount(rng.integers(n, size=n), minlength=n), size)
        for _ in range(draws)
    ]
    made = {}
    for name in (MACRO_F1, ACCURACY):
        gap = moved[name] - plain[name]
        ends = np.quantile([s[name] for s in samples], tails(prediction.level)) - moved[name]
        made[name] = _shifted(prediction.metrics[name], gap, ends, found, most=1.0)
    if prediction.loss == LOG_LOSS:
        losses = prediction.losses[counted].astype(np.float64)
        gap = float(np.mean(weights * losses) - np.mean(losses))
        draws_of = [np.mean((weights * losses)[rng.integers(n, size=n)]) for _ in range(draws)]
        ends = np.quantile(draws_of, tails(prediction.level)) - np.mean(weights * losses)
        made[LOG_LOSS] = _shifted(prediction.metrics[LOG_LOSS], gap, ends, found, most=np.inf)
    return made


def _shifted(own: Interval, gap: float, ends: np.ndarray, found: Shift, *, most: float) -> Interval:
    """An interval moved by the gap, and wider by it; at least as wide as fewer items make it."""
    wider = np.sqrt(len(found.weights) / found.effective)
    below = max(-float(ends[0]), wider * (own.value - own.low)) + abs(gap)
    above = max(float(ends[1]), wider * (own.high - own.value)) + abs(gap)
    value = float(np.clip(own.value + gap, 0.0, most))
    return Interval(value, max(value - below, 0.0), min(value + above, most), own.level)


def _weighted(target, given, weights, size) -> dict[str, float]:
    hits = np.bincount(target, weights * (target == given), minlength=size)
    predicted = np.bincount(given, weights, minlength=size)
    support = np.bincount(target, weights, minlength=size)
    found = metrics.from_counts(hits, predicted, support)
    return {MACRO_F1: float(found.macro_f1), ACCURACY: float(found.accuracy)}

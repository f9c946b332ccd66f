"""Items that only the new version has: what a head will reach on them, without their labels.

Labelled items that look like the new ones in the new version count more: each has the density of
the new items over that of the common ones as its weight, from a classifier that separates the two
by their rows. What such weights move is also what they may miss, so the interval is wider by it.

References:
  Shimodaira (2000), importance weights under covariate shift; Sugiyama, Suzuki and Kanamori (2012),
  density ratios by classification.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens import metrics
from kernlens.probes.prediction import (
    ACCURACY,
    LOG_LOSS,
    MACRO_F1,
    MAE,
    R2,
    RMSE,
    Prediction,
    tails,
)
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
      prediction: on the labelled common items, of classes or numbers.
      found: their weights.
      draws: bootstrap draws of the weighted items.
      seed: of the draws.

    Returns:
      Macro-F1, accuracy and, of a head with probabilities, log loss; of numbers R², RMSE and MAE.
      Each interval is that of the weighted items, wider on either side by what the weights moved.
    """
    held = prediction.held_out
    counted = np.ones(len(prediction.target), bool) if held is None else held.folds >= 0
    weights = found.weights[counted]
    measured = (_of_numbers if held is None else _of_classes)(prediction, counted)
    rng = np.random.default_rng([seed, 13])
    n = len(weights)
    plain, moved = measured(np.ones(n)), measured(weights)
    samples = [
        measured(weights * np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(draws)
    ]
    made = {}
    for name, value in moved.items():
        ends = np.quantile([s[name] for s in samples], tails(prediction.level)) - value
        made[name] = _shifted(prediction.metrics[name], value - plain[name], ends, found, name)
    return made


def _shifted(own: Interval, gap: float, ends: np.ndarray, found: Shift, name: str) -> Interval:
    """An interval moved by the gap, and wider by it; at least as wide as fewer items make it."""
    least = -np.inf if name == R2 else 0.0
    most = 1.0 if name in (MACRO_F1, ACCURACY, R2) else np.inf
    wider = np.sqrt(len(found.weights) / found.effective)
    below = max(-float(ends[0]), wider * (own.value - own.low)) + abs(gap)
    above = max(float(ends[1]), wider * (own.high - own.value)) + abs(gap)
    value = float(np.clip(own.value + gap, least, most))
    low, high = (float(np.clip(end, least, most)) for end in (value - below, value + above))
    return Interval(value, low, high, own.level)


def _of_classes(prediction: Prediction, counted: np.ndarray) -> Callable[..., dict[str, float]]:
    """What gives the metrics of the items that count at some weights."""
    target, given = prediction.target[counted], prediction.predicted[counted]
    losses = prediction.losses[counted].astype(np.float64)
    size = int(max(target.max(), given.max())) + 1

    def measured(weights: np.ndarray) -> dict[str, float]:
        hits = np.bincount(target, weights * (target == given), minlength=size)
        predicted = np.bincount(given, weights, minlength=size)
        support = np.bincount(target, weights, minlength=size)
        found = metrics.from_counts(hits, predicted, support)
        made = {MACRO_F1: float(found.macro_f1), ACCURACY: float(found.accuracy)}
        if prediction.loss == LOG_LOSS:
            made[LOG_LOSS] = float(weights @ losses / weights.sum())
        return made

    return measured


def _of_numbers(prediction: Prediction, counted: np.ndarray) -> Callable[..., dict[str, float]]:
    """The same of numbers."""
    target = prediction.target[counted]
    errors = np.abs(target - prediction.predicted[counted])

    def measured(weights: np.ndarray) -> dict[str, float]:
        shares = weights / weights.sum()
        squared = float(shares @ errors**2)
        spread = float(shares @ (target - shares @ target) ** 2)
        return {
            R2: 1.0 - squared / spread if spread > 0 else np.nan,
            RMSE: squared**0.5,
            MAE: float(shares @ errors),
        }

    return measured

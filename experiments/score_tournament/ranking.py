"""Kendall's tau-b and regret of rankers, on embeddings drawn with replacement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

RESOLUTION = 1e-5
"""Relative difference below which two scores tie: float32 rounds by more after a large shift."""


class Contest(NamedTuple):
    """What all rankers were worth in all contexts, a context being a task, budget, split and head.

    Attributes:
      contexts: of each, its task, family, budget, split and head.
      tau: of each ranker, ``[contexts, 1 + draws]``, the embeddings as they are first.
      regret: the same, in points of accuracy.
    """

    contexts: list[dict[str, Any]]
    tau: dict[str, np.ndarray]
    regret: dict[str, np.ndarray]


class Interval(NamedTuple):
    """A mean over contexts and its interval over drawn embeddings."""

    value: float
    low: float
    high: float


def contest(rows: Sequence[Mapping[str, Any]], draws: int, seed: int) -> Contest:
    """Every ranker in every context; all of one task on the same draws, so that they are paired."""
    contexts, taus, regrets = [], {}, {}
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for row in rows:
        weights = multiplicities(len(row["embeddings"]), draws, (seed, tasks.index(row["task"])))
        orders = {
            name: signs(defined(values), RESOLUTION) for name, values in row["scores"].items()
        }
        for head, outcomes in row["outcomes"].items():
            contexts.append(
                {key: row[key] for key in ("task", "family", "budget", "split")} | {"head": head}
            )
            measured = np.asarray(outcomes)
            for name, order in orders.items():
                taus.setdefault(name, []).append(tau(order, signs(measured), weights))
                regrets.setdefault(name, []).append(100.0 * regret(order, measured, weights))
    return Contest(
        contexts,
        {name: np.stack(values) for name, values in taus.items()},
        {name: np.stack(values) for name, values in regrets.items()},
    )


def multiplicities(m: int, draws: int, seed: Sequence[int]) -> np.ndarray:
    """How often each of ``m`` embeddings is drawn, once each first, ``[1 + draws, m]``."""
    picks = np.random.default_rng(seed).multinomial(m, np.full(m, 1.0 / m), size=draws)
    return np.concatenate([np.ones((1, m)), picks])


def defined(values: Sequence[float | None]) -> np.ndarray:
    """The values, one that is not finite below all others."""
    found = np.array(values, float)
    finite = np.isfinite(found)
    least = np.min(found[finite], initial=0.0)
    return np.where(finite, found, least - 1.0 - abs(least))


def signs(values: Any, resolution: float = 0.0) -> np.ndarray:
    """1 where the first is above the second, -1 below, 0 where they tie, ``[m, m]``."""
    a, b = np.asarray(values)[:, None], np.asarray(values)[None, :]
    apart = np.abs(a - b) > resolution * np.maximum(np.abs(a), np.abs(b))
    return np.where(apart, np.sign(a - b), 0.0)


def tau(predicted: np.ndarray, measured: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of two orders, :func:`signs`, under each row of multiplicities.

    A ranker that ties all embeddings has 0; NaN where all outcomes tie.
    """

    def pairs(a: np.ndarray) -> np.ndarray:
        return np.sum(weights * (weights @ a), axis=1)

    left, right = pairs(predicted**2), pairs(measured**2)
    scale = np.sqrt(np.where(left > 0, left, 1.0) * np.where(right > 0, right, 1.0))
    return np.where(right > 0, pairs(predicted * measured) / scale, np.nan)


def regret(predicted: np.ndarray, measured: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Best outcome less that of the embedding ranked first, the mean of those tied there."""
    drawn = weights > 0
    best = np.max(np.where(drawn, measured, -np.inf), axis=1)
    beaten = drawn @ (predicted > 0).astype(float) > 0
    first = np.where(drawn & ~beaten, weights, 0.0)
    gaps = np.where(drawn, best[:, None] - measured, 0.0)
    return np.sum(first * gaps, axis=1) / np.sum(first, axis=1)


def mean(values: np.ndarray, level: float) -> Interval:
    """Mean over contexts, ``[contexts, 1 + draws]``, with its percentile interval."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    found = np.sum(np.where(finite, values, 0.0), axis=0) / np.maximum(count, 1)
    found = np.where(count > 0, found, np.nan)
    samples = found[1:][np.isfinite(found[1:])]
    if not samples.size:
        return Interval(float(found[0]), float("nan"), float("nan"))
    low, high = np.quantile(samples, [0.5 * (1.0 - level), 0.5 * (1.0 + level)])
    return Interval(float(found[0]), float(low), float(high))


def where(contexts: Sequence[Mapping[str, Any]], keep: Callable[[Any], bool]) -> np.ndarray:
    """Indices of the contexts to keep."""
    return np.flatnonzero([keep(context) for context in contexts])

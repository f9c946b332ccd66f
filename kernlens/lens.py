"""The verbs a user calls: what will this embedding do, and which of these is best?"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens import containers, intervals, metrics
from kernlens.embeddings import as_named, as_rows
from kernlens.probe import (
    LOG_LOSS,
    METRICS,
    Difference,
    discriminant,
    paired_difference,
    value_of,
)
from kernlens.scores import Estimator
from kernlens.targets import as_target
from kernlens.types import Array, Classification, EmbeddingStream, Labels, MultiLabels, Prediction

METRIC_TITLES = {
    "accuracy": "accuracy",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
}
"""What a reader calls each of ``probe.METRICS``."""

BEST = "best"
WORSE = "worse"
TIED = "cannot be told apart from the best"


class Entry(NamedTuple):
    """One embedding of a comparison.

    Attributes:
      name: given by the user.
      prediction: what a trained reader will reach.
      dim: number of columns.
      seconds: wall time of the prediction; the first of a kind includes compilation.
      verdict: ``BEST``, ``WORSE``, or ``TIED`` where the interval of the difference to the best
        holds 0.
    """

    name: str
    prediction: Prediction
    dim: int
    seconds: float
    verdict: str


class Comparison(NamedTuple):
    """Embeddings of the same rows, best first.

    Attributes:
      entries: one an embedding, best first.
      differences: paired differences by pair of names, the first minus the second, so none is
        above 0 (below 0 for the log loss): each entry to the best, and to the one before it.
      baseline: metrics of always answering the largest class.
      baseline_log_loss: of always answering the shares of the classes, in nats.
      metric: which of ``probe.METRICS`` orders the entries.
      level: nominal coverage of all intervals, in ``(0, 1)``.
    """

    entries: tuple[Entry, ...]
    differences: dict[tuple[str, str], Difference]
    baseline: Classification
    baseline_log_loss: float
    metric: str
    level: float


class Standing(NamedTuple):
    """Embeddings of the same rows by one score.

    Attributes:
      score: its name.
      best: the embedding that the score puts first.
      intervals: value with interval and null, by embedding, best first.
      differences: paired, each other embedding minus the best.
    """

    score: str
    best: str
    intervals: dict[str, intervals.Interval]
    differences: dict[str, Difference]


def predict(
    embeddings: Any,
    labels: Any,
    *,
    probe: Callable[..., Prediction] = discriminant,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    """What a trained linear classifier will reach on held-out rows, without training one.

    Args:
      embeddings: one row per item, real and finite, ``[n, d]``, in any unit, in any container that
        :func:`kernlens.embeddings.as_rows` takes; or a stream of them, as
        :func:`kernlens.io.open_embeddings` opens, which is read four times.
      labels: class of each row, ``[n]``, as ``Labels`` or in any container that
        :func:`kernlens.targets.as_target` takes; None, NaN, NA, NaT and the empty string mean "no
        label".
      probe: ``probe.discriminant``, ``probe.ridge`` or any
        ``(features, labels, *, draws, level, seed) -> Prediction``; other options are bound with
        ``functools.partial``.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the draws.

    Returns:
      Prediction: accuracy, micro- and macro-F1, balanced accuracy with intervals.

    Raises:
      ValueError: shapes that differ, a value that is not finite, labels that may mean two things or
        are not one class per row, fewer than two classes, too few rows, pandas indexes of the same
        keys in another order, or an argument out of its range.
    """
    containers.check_same_order(embeddings, labels, names=("embeddings", "labels"))
    return probe(as_rows(embeddings), _as_labels(labels), draws=draws, level=level, seed=seed)


def compare(
    embeddings: Mapping[str, Any] | Sequence,
    labels: Any,
    *,
    probe: Callable[..., Prediction] = discriminant,
    metric: str = "macro_f1",
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> Comparison:
    """Which embedding will do best, and which of the others cannot be told apart from it.

    Differences are paired: every bootstrap draw takes all embeddings on the same rows, so hard rows
    and rare classes cancel. Their intervals hold one by one: of many equal embeddings, some will
    seem worse than the best of them by chance.

    Args:
      embeddings: rows by name, ``[n, d]`` each, or a list of them, named by position; the same
        items in the same order, ``d`` may differ.
      labels: as for :func:`predict`.
      probe: as for :func:`predict`.
      metric: field of ``Classification`` to order by, or ``"log_loss"`` for the least log loss,
        which tells embeddings apart where their accuracies tie.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the draws.

    Returns:
      Comparison; equal metrics keep the order given.

    Raises:
      ValueError: no embedding, row counts that differ, an unknown metric, a log loss of a probe
        that has none, and what :func:`predict` raises, with the name of the embedding.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}; got {metric!r}")
    named, labels = _same_rows(embeddings, labels)
    entries = []
    for name, rows in named.items():
        start = time.perf_counter()
        try:
            prediction = predict(rows, labels, probe=probe, draws=draws, level=level, seed=seed)
            value_of(prediction, metric)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        seconds = time.perf_counter() - start
        entries.append(Entry(name, prediction, rows.shape[1], seconds, BEST))
    sign = -1.0 if metric == LOG_LOSS else 1.0
    entries.sort(key=lambda entry: -sign * value_of(entry.prediction, metric)[0])
    best, differences = entries[0], {}
    for i in range(1, len(entries)):
        for other in (best, entries[i - 1]):
            differences.setdefault(
                (entries[i].name, other.name),
                paired_difference(
                    entries[i].prediction,
                    other.prediction,
                    metric=metric,
                    draws=draws,
                    level=level,
                    seed=seed,
                ),
            )
        separated = differences[entries[i].name, best.name].separated
        entries[i] = entries[i]._replace(verdict=WORSE if separated else TIED)
    target = best.prediction.target
    floor = majority(target), _entropy(target)
    return Comparison(tuple(entries), differences, *floor, metric, level)


def standings(
    embeddings: Mapping[str, Any] | Sequence,
    labels: Any,
    scores: Mapping[str, Estimator],
    *,
    level: float = 0.9,
    method: intervals.Jackknife | intervals.Bootstrap = intervals.Jackknife(),  # noqa: B008
) -> tuple[Standing, ...]:
    """Scores of embeddings with intervals, and which of them a score cannot separate.

    Args:
      embeddings: as for :func:`compare`.
      labels: as for :func:`predict`.
      scores: rows of ``scores.SCORES``, by name.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      method: how rows are resampled.

    Returns:
      A standing for each score.

    Raises:
      ValueError: no embedding, row counts that differ, and what
        :func:`kernlens.intervals.table_replicates` raises, with the name of the embedding.
    """
    named, labels = _same_rows(embeddings, labels)
    if not scores:
        return ()
    found = {}
    for name, rows in named.items():
        try:
            found[name] = intervals.table_replicates(
                scores, rows, labels.codes, len(labels.names), method=method
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return tuple(
        _standing(score, row, {name: own[score] for name, own in found.items()}, level)
        for score, row in scores.items()
    )


def _standing(
    score: str, row: Estimator, found: dict[str, intervals.Replicates], level: float
) -> Standing:
    names = sorted(found, key=lambda name: -row.sign * found[name].value)
    bounds = intervals.bounds_of(row)
    return Standing(
        score,
        names[0],
        {name: intervals.interval(found[name], level=level, bounds=bounds) for name in names},
        {
            name: intervals.difference(found[name], found[names[0]], level=level)
            for name in names[1:]
        },
    )


def majority(target: np.ndarray) -> Classification:
    """Metrics of always answering the largest class: the floor for any reader.

    Args:
      target: class of each row, integers ``[n]``, at least 0.

    Returns:
      Metrics, floats.
    """
    support = np.bincount(target)
    largest = np.arange(len(support)) == np.argmax(support)
    found = metrics.from_counts(support * largest, len(target) * largest, support)
    return Classification(*(float(value) for value in found))


def summary(prediction: Prediction, *, seconds: float | None = None) -> str:
    """One line for a reader: metrics with intervals, the strength chosen, the time taken.

    Args:
      prediction: what a probe gave.
      seconds: wall time to tell, or None.

    Returns:
      For example ``macro-F1 0.31 [0.29, 0.33] · accuracy 0.74 [0.73, 0.75] · ridge strength 0.001
      · 40 ms``.
    """
    parts = [
        f"{METRIC_TITLES[name]} {getattr(prediction.metrics, name):.2f} "
        f"[{getattr(prediction.low, name):.2f}, {getattr(prediction.high, name):.2f}]"
        for name in ("macro_f1", "accuracy")
    ]
    parts.append(f"ridge strength {prediction.strength:.1g}")
    if seconds is not None:
        parts.append(f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s")
    return " · ".join(parts)


def _entropy(target: np.ndarray) -> float:
    shares = np.bincount(target) / len(target)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log(shares)))


def _same_rows(
    embeddings: Any, labels: Any
) -> tuple[dict[str, np.ndarray | Array | EmbeddingStream], Labels]:
    """Embeddings by name and labels; other rows in some of them are a ValueError."""
    named = as_named(embeddings)
    given = embeddings.values() if isinstance(embeddings, Mapping) else embeddings
    for name, own in zip(named, given, strict=True):
        containers.check_same_order(own, labels, names=(name, "labels"))
    shapes = {name: tuple(rows.shape) for name, rows in named.items()}
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"all embeddings need the same rows; got shapes {shapes}")
    return named, _as_labels(labels)


def _as_labels(labels: Any) -> Labels:
    target = as_target(labels)
    if isinstance(target, Labels):
        return target
    kind = "multi-label" if isinstance(target, MultiLabels) else "regression"
    raise ValueError(
        f"the target is {kind}; this verb predicts one class per row: kernlens.targets.labels "
        "takes each distinct value of a column for a class"
    )

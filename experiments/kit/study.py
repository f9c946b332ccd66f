"""A study: pretrain a grid of settings, predict each embedding, train each reader, compare.

Rows are nested dicts of numbers and strings, so that they go to JSON and come back unchanged;
tables and figures are drawn from them alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens import moments
from kernlens import targets as label_rows
from kernlens.arrays.rows import unit_rows
from kernlens.cli.demo.grid import Setting
from kernlens.metrics.agreement import Agreement, agreement
from kernlens.probes import Prediction
from kernlens.scores import SCORES
from kernlens.show import report
from kernlens.train import loop, pretrain
from kernlens.types import Classification, Interactions, Labels, Outcome

Row = dict[str, Any]
Reader = Callable[[np.ndarray, Labels], Outcome]
Probe = Callable[[np.ndarray, Labels], Prediction]
Baseline = Callable[[np.ndarray, Labels], float]

ALIGNMENTS = (
    "published_class_cosine", "proposition1", "centred_alignment", "debiased_alignment",
)  # fmt: skip
"""The scores that the paper's claim about classification is about."""

METRICS = tuple(name for name in Classification._fields if name != "micro_f1")
"""Metrics that rows keep: micro-F1 of one class an item is its accuracy."""


def judge(
    embeddings: np.ndarray,
    labels: Labels,
    *,
    probes: Mapping[str, Probe],
    readers: Mapping[str, Reader],
    baselines: Mapping[str, Baseline] | None = None,
) -> Row:
    """Everything said of one embedding: predictions, scores, baselines and trained outcomes.

    Args:
      embeddings: one row per item, ``[n, d]``.
      labels: one label per item, ``[n]``; rows without one are left out.
      probes: closed-form predictions, by name.
      readers: trained readers, by name.
      baselines: other predictors, a number each, by name.

    Returns:
      A row: ``predicted``, ``scores``, ``baselines`` and ``trained``, each by name, with seconds.
    """
    rows = label_rows.labelled_rows(labels)
    x, kept = embeddings[rows], labels._replace(codes=labels.codes[rows])
    timed = {name: _timed(probe, x, kept) for name, probe in probes.items()}
    predicted = {
        name: {
            **_flat(prediction),
            "error": prediction.metrics[prediction.loss].value,
            "strength": prediction.path.chosen if prediction.path else None,
            "seconds": seconds,
        }
        for name, (prediction, seconds) in timed.items()
    }
    found = {}
    for name, baseline in (baselines or {}).items():
        value, seconds = _timed(baseline, x, kept)
        found[name] = {"value": value, "seconds": seconds}
    trained = {}
    for name, reader in readers.items():
        outcome = reader(x, kept)
        trained[name] = {
            **{k: np.asarray(getattr(outcome.metrics, k), float).tolist() for k in METRICS},
            "seconds": outcome.seconds,
        }
    unit = unit_rows(jnp.asarray(x))
    return {
        "predicted": predicted,
        "scores": score(x, kept),
        "baselines": {"dimension": {"value": float(x.shape[1]), "seconds": 0.0}, **found},
        "trained": trained,
        "mean_cosine": float(jnp.sum(jnp.mean(unit, axis=0) ** 2)),
    }


def score(embeddings: np.ndarray, labels: Labels) -> dict[str, dict[str, float]]:
    """The scores of proposition 1 for one embedding: value, null and seconds, by name."""
    x, codes = jnp.asarray(embeddings), jnp.asarray(labels.codes)
    found = {}
    for name in ALIGNMENTS:
        estimator = SCORES[name]
        start = time.perf_counter()
        summary = moments.from_arrays(
            estimator.features(x), codes, len(labels.names), scatter=estimator.scatter
        )
        value, null = jax.block_until_ready(estimator.fn(summary))
        seconds = time.perf_counter() - start
        found[name] = {"value": float(value), "null": float(null), "seconds": seconds}
    return found


def cell(
    interactions: Interactions,
    labels: Labels,
    setting: Setting,
    *,
    seeds: int | Sequence[int],
    probes: Mapping[str, Probe],
    readers: Mapping[str, Reader],
    baselines: Mapping[str, Baseline] | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
    on_seed: Callable[[Row], None] | None = None,
    **pretraining: Any,
) -> list[Row]:
    """One setting of the grid: pretrains all its seeds together and judges each embedding.

    Args:
      interactions: what to pretrain on.
      labels: the downstream task, one label per item.
      setting: how to pretrain.
      seeds: pretraining seeds.
      probes: closed-form predictions, by name.
      readers: trained readers, by name.
      baselines: other predictors, by name; the pretraining loss is always there.
      on_round: told of pretraining's progress.
      on_seed: told of each judged embedding.
      **pretraining: further arguments of `pretrain.contrastive`.

    Returns:
      A row for each seed.
    """
    fitted = pretrain.contrastive(
        interactions, seeds=seeds, on_round=on_round, **setting._asdict(), **pretraining
    )
    names = range(seeds) if isinstance(seeds, int) else seeds
    rows = []
    for i, seed in enumerate(names):
        row = judge(
            fitted.embeddings[i], labels, probes=probes, readers=readers, baselines=baselines
        )
        # Lower loss is better; predictors are read as higher is better.
        row["baselines"]["pretraining_loss"] = {
            "value": -float(fitted.final_loss[i]),
            "seconds": 0.0,
        }
        row |= {
            "setting": setting.name,
            **setting._asdict(),
            "seed": int(seed),
            "pretraining_loss": float(fitted.final_loss[i]),
            "pretraining_seconds": fitted.seconds / len(names),
        }
        rows.append(row)
        if on_seed is not None:
            on_seed(row)
    return rows


class Predictor(NamedTuple):
    """A number read off a row, to be held against a trained outcome.

    Attributes:
      group: ``predicted``, ``scores`` or ``baselines``: where in the row it stands.
      name: its name there.
      metrics: the metrics that it predicts in value, with the key of each; empty where it only
        ranks.
    """

    group: str
    name: str
    metrics: Mapping[str, str]

    def values(self, rows: Sequence[Row], metric: str) -> np.ndarray:
        """Its value for each row."""
        key = self.metrics.get(metric, "value")
        return np.array([row[self.group][self.name][key] for row in rows], float)

    def seconds(self, rows: Sequence[Row]) -> float:
        """Median seconds it took."""
        return float(np.median([row[self.group][self.name]["seconds"] for row in rows]))


def predictors(rows: Sequence[Row], *, values: Mapping[str, str] | None = None) -> list[Predictor]:
    """All predictors that the rows carry.

    Probes predict every one of :data:`METRICS` in value. Scores and baselines only rank, unless a
    baseline is in the unit of a metric.

    Args:
      rows: of :func:`cell`.
      values: the metric that a baseline predicts in value, such as ``macro_f1``, by the baseline's
        name; none by default.
    """
    same = {metric: metric for metric in METRICS}
    valued = {name: {metric: "value"} for name, metric in (values or {}).items()}
    return [
        Predictor(
            group,
            name,
            same if group == "predicted" else valued.get(name, {}) if group == "baselines" else {},
        )
        for group in ("predicted", "scores", "baselines")
        for name in rows[0][group]
    ]


def measured(rows: Sequence[Row], reader: str, metric: str) -> np.ndarray:
    """Trained metric of each row, its mean over the reader's seeds."""
    return np.array([np.mean(row["trained"][reader][metric]) for row in rows])


def agree(
    rows: Sequence[Row], predictor: Predictor, reader: str, metric: str, **options: Any
) -> Agreement:
    """Agreement of a predictor with a trained metric; runs of one setting are drawn together."""
    return agreement(
        predictor.values(rows, metric),
        measured(rows, reader, metric),
        groups=np.array([row["setting"] for row in rows]),
        **options,
    )


def probe_panel(
    rows: Sequence[Row], reader: str, title: str, *, probe: str = "discriminant"
) -> report.Panel:
    """A probe's macro-F1 against a trained reader's, both with their spread."""
    found = [row["predicted"][probe] for row in rows]
    predictor = Predictor("predicted", probe, {"macro_f1": "macro_f1"})
    agreed = agree(rows, predictor, reader, "macro_f1", draws=1)
    return report.Panel(
        title=f"{title}: {reader}",
        x=predictor.values(rows, "macro_f1"),
        x_label="predicted macro-F1 (no training)",
        y=measured(rows, reader, "macro_f1"),
        y_label=f"trained {reader} macro-F1",
        colour=np.array([row["mean_cosine"] for row in rows]),
        x_interval=(
            np.array([p["macro_f1_low"] for p in found]),
            np.array([p["macro_f1_high"] for p in found]),
        ),
        y_spread=np.array([np.std(row["trained"][reader]["macro_f1"]) for row in rows]),
        same_unit=True,
        note=f"Spearman {agreed.spearman.value:.2f}, "
        f"mean |error| {agreed.mean_absolute_error.value:.4f}",
    )


def score_panel(rows: Sequence[Row], name: str, reader: str, title: str) -> report.Panel:
    """A score against a trained reader's macro-F1."""
    predictor = Predictor("scores", name, {})
    agreed = agree(rows, predictor, reader, "macro_f1", draws=1)
    return report.Panel(
        title=f"{title}: {name}",
        x=predictor.values(rows, "macro_f1"),
        x_label=name,
        y=measured(rows, reader, "macro_f1"),
        y_label=f"trained {reader} macro-F1",
        colour=np.array([row["mean_cosine"] for row in rows]),
        note=f"Spearman {agreed.spearman.value:.2f}",
    )


def _timed(fn: Callable, *args: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    value = fn(*args)
    return value, time.perf_counter() - start


def _flat(prediction: Prediction) -> dict[str, float]:
    """Values and ends of the metrics of classes, each under its own name."""
    found = {name: prediction.metrics[name] for name in METRICS}
    return {
        **{name: own.value for name, own in found.items()},
        **{f"{name}_low": own.low for name, own in found.items()},
        **{f"{name}_high": own.high for name, own in found.items()},
    }

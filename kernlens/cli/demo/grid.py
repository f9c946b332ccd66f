"""The grid of the demo: embeddings that are pretrained, predicted and then trained."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from kernlens import lens, probes, targets
from kernlens.cli import words
from kernlens.cli.options.demo import Demo, Task
from kernlens.probes import Prediction
from kernlens.scores import SCORES
from kernlens.show import steps
from kernlens.train import heads, loop, pretrain, sampling
from kernlens.types import Interval, Labels, Outcome

SCORE = "published_class_cosine"
"""The score that the paper published, shown next to the prediction."""

HEADS = {"LR": "linear", "MLP": "mlp:32"}
"""Heads that are trained: by name, the words of ``--decoder``."""


class Setting(NamedTuple):
    """How an embedding is pretrained.

    Attributes:
      window: tokens to either side that are positives.
      negatives: negatives per anchor.
      epochs: passes over the data.
    """

    window: int
    negatives: int
    epochs: int

    @property
    def name(self) -> str:
        """Short name, such as ``w8 k3 e5``."""
        return f"w{self.window} k{self.negatives} e{self.epochs}"


SETTINGS = (
    Setting(2, 1, 1),
    Setting(8, 1, 1),
    Setting(2, 3, 1),
    Setting(8, 8, 1),
    Setting(2, 3, 2),
    Setting(8, 3, 2),
    Setting(2, 1, 4),
    Setting(8, 8, 4),
)
SHORT = (SETTINGS[0], SETTINGS[4])


class Row(NamedTuple):
    """One embedding: what was predicted of it, and what training gave.

    Attributes:
      setting: how it was pretrained.
      seed: pretraining seed.
      predicted: macro-F1 in closed form, each row left out.
      predict_seconds: time to predict it.
      score: the published score.
      mean_cosine: mean cosine between its items; 1 where all of them point one way.
      trained: macro-F1 of each split and initialisation, by trained head.
      train_seconds: time to train all of these, by head.
    """

    setting: str
    seed: int
    predicted: Interval
    predict_seconds: float
    score: float
    mean_cosine: float
    trained: Mapping[str, np.ndarray]
    train_seconds: Mapping[str, float]

    def mean(self, head: str) -> float:
        """Mean macro-F1 of a trained head."""
        return float(np.mean(self.trained[head]))

    def spread(self, head: str) -> float:
        """Standard deviation of the same; 0 for one training."""
        values = self.trained[head]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


class Found(NamedTuple):
    """What the report shows of an embedding, and results.json does not hold.

    Attributes:
      prediction: row by row.
      rows: labelled rows of the embedding, ``[n, d]``.
    """

    prediction: Prediction
    rows: np.ndarray


def grid(config: Demo, task: Task, kept: dict[str, Found] | None = None) -> list[Row]:
    """A row for each setting and seed; ``kept`` gets what was predicted of each, by name."""
    trained = {
        name: functools.partial(
            heads.classify, decoder=words.decoder(word), seeds=config.head_seeds
        )
        for name, word in HEADS.items()
    }
    noise = sampling.log_uniform(task.data.num_items)
    rows = []
    for setting in steps.steps(SHORT if config.short else SETTINGS, lambda own: own.name):
        fitted = pretrain.contrastive(
            task.data, seeds=config.seeds, noise=noise, on_round=_pretrained, **setting._asdict()
        )
        steps.at("predict, train heads", 1, 2)
        rows += [
            judge(embeddings, task.labels, trained, setting=setting.name, seed=seed, kept=kept)
            for seed, embeddings in enumerate(fitted.embeddings)
        ]
    return rows


def _pretrained(progress: loop.Progress) -> None:
    """Heads take about as long as pretraining."""
    steps.at("pretrain", progress.done, 2 * progress.rounds)


def judge(
    embeddings: np.ndarray,
    task: Labels,
    trained: Mapping[str, Callable[[np.ndarray, Labels], Outcome]],
    *,
    setting: str,
    seed: int,
    kept: dict[str, Found] | None = None,
) -> Row:
    """Predicts one embedding, scores it, and trains heads on it.

    Args:
      embeddings: one row per item, ``[n, d]``.
      task: one label per item, ``[n]``; items without one are left out.
      trained: heads to train, by name.
      setting: how the embedding was pretrained.
      seed: its pretraining seed.
      kept: gets what was predicted of each row, by name.
    """
    rows = targets.labelled_rows(task)
    x, labels = embeddings[rows], task._replace(codes=task.codes[rows])
    start = time.perf_counter()
    prediction = probes.PROBES["discriminant"](x, labels)
    seconds = time.perf_counter() - start
    if kept is not None:
        kept[name_of(setting, seed)] = Found(prediction, x)
    (standing,) = lens.standings({setting: x}, labels, {SCORE: SCORES[SCORE]})
    outcomes = {name: train(x, labels) for name, train in trained.items()}
    return Row(
        setting=setting,
        seed=seed,
        predicted=prediction.metrics["macro_f1"],
        predict_seconds=seconds,
        score=standing.intervals[setting].value,
        mean_cosine=_mean_cosine(x),
        trained={name: np.asarray(o.metrics.macro_f1, float) for name, o in outcomes.items()},
        train_seconds={name: o.seconds for name, o in outcomes.items()},
    )


def _mean_cosine(x: np.ndarray) -> float:
    """Mean cosine between rows, each with itself too; a row of zeros has none with any."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / np.where(norms > 0, norms, 1)
    return float(np.sum(np.mean(unit, axis=0) ** 2))


def name_of(setting: str, seed: int) -> str:
    """Name of an embedding; the seed only where there are several."""
    return f"{setting} seed {seed}" if seed else setting

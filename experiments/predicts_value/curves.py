"""Learning curves: what is foretold from a sample of the labels of what heads reach with all."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

import kernlens as kl
from experiments.predicts_value import trained
from experiments.predicts_value.contexts import Context, few
from experiments.predicts_value.heads import METRICS
from experiments.predicts_value.predictions import rows_of
from experiments.predicts_value.rows import digits
from experiments.predicts_value.settings import Config

TIMES = (4, 16)
"""Labels to foretell, in those of the sample."""

LEAST = 1600
"""Rows of a set from which on there are curves: a sixteenth of them is 100."""

HEAD = "logistic"
"""The head whose curve is foretold."""

VERSION = 3
"""Of curves: a change of the library's gives it another number."""


def of_set(
    natural: Sequence[Context], config: Config, cells: Any, kept: Any
) -> list[dict[str, Any]]:
    """A row for each embedding of a large set, size of the sample and metric.

    Args:
      natural: embeddings of a set.
      config: heads.
      cells: keeps curves.
      kept: keeps trained outcomes.
    """
    found = []
    for context in natural:
        if len(context.labelled) < LEAST or HEAD not in config.heads:
            continue
        outcome = trained.outcomes(context, config, kept)[HEAD]["judged"]
        told = cells(
            f"{context.title} | curve {VERSION}", functools.partial(foretold, context, config)
        )
        for times, values in zip(TIMES, told, strict=True):
            for metric, own in values.items():
                found.append(
                    {
                        "set": context.set,
                        "embedding": context.embedding,
                        "tuned": context.tuned,
                        "times": times,
                        "metric": metric,
                        "trained": digits(np.mean(outcome[metric])),
                        **{key: digits(value) for key, value in own.items()},
                    }
                )
    return found


def foretold(context: Context, config: Config) -> list[dict[str, dict[str, float]]]:
    """Metrics at all labels, foretold from a stratified sample of a share of them."""
    rng = np.random.default_rng([config.seed, 9])
    found = []
    for times in TIMES:
        size = len(context.labelled) // times
        rows = few(context.codes[context.labelled], size, rng, each=False)
        sample = context._replace(labelled=context.labelled[rows])
        curve = kl.predict(
            *rows_of(HEAD, sample), level=config.level, seed=config.seed, curve=True
        ).curve
        found.append(
            {
                metric: dict(
                    zip(("predicted", "low", "high"), curve.at(times, metric), strict=False)
                )
                for metric in METRICS
            }
        )
    return found

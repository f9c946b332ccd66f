"""What a results file keeps of a context: means, spreads and counts, not every split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.predicts_value.contexts import Context, judged
from experiments.predicts_value.heads import METRICS
from experiments.predicts_value.settings import HEADS

TRAININGS = 10
"""Trainings whose mean an interval of the mean is for."""

DIGITS = 5


def row(context: Context, outcomes: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """A context, its trained heads and what was predicted of them.

    Args:
      context: the embedding.
      outcomes: of :func:`experiments.predicts_value.trained.outcomes`.
      told: predictions by head and metric.
    """
    n = len(context.labelled)
    distinct = n if context.groups is None else len(set(context.groups[context.labelled].tolist()))
    return {
        "set": context.set,
        "embedding": context.embedding,
        "damage": context.damage,
        "tuned": context.tuned,
        "judged": judged(context),
        "rows": n,
        "distinct": distinct,
        "columns": context.x.shape[1],
        "classes": len(set(context.codes.tolist())),
        "heads": {
            head: of_head(outcomes[head], told.get(head, {})) for head in HEADS if head in outcomes
        },
    }


def of_head(outcome: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """A head by metric: what was trained, and what was predicted of it.

    Returns:
      ``splits`` that were trained. For each metric that the head has ``trained``, the mean over
      splits, which is the truth, their standard deviation ``sd`` and the mean distance ``of_one``
      of a single training from the truth. Where it was predicted, ``predicted``, the share of
      trainings that its interval has ``held``, the same of the mean's interval and its half-width;
      of macro-F1 the ends of the interval.
    """
    found: dict[str, Any] = {"splits": len(outcome["judged"][METRICS[0]])}
    for metric in METRICS:
        trained, single = (np.array(outcome[key][metric], float) for key in ("judged", "single"))
        if not np.all(np.isfinite(trained)):
            continue
        truth = trained.mean()
        found[metric] = {
            "trained": digits(truth),
            "sd": digits(trained.std()),
            "of_one": digits(np.mean(np.abs(single - truth))),
        }
        own = told.get(metric, {})
        if own.get("value") is None:
            continue
        low, high = own["low"], own["high"]
        found[metric] |= {
            "predicted": digits(own["value"]),
            "held": digits(np.mean((low <= single) & (single <= high))),
            **of_mean(own, trained),
        }
        if metric == METRICS[0]:
            found[metric] |= {"low": digits(low), "high": digits(high)}
    return found


def of_mean(told: Mapping[str, Any], trained: np.ndarray) -> dict[str, float | None]:
    """How often the interval of the mean holds means of ten trainings, and its half-width."""
    if told.get("mean_low") is None:
        return {"mean_held": None, "half_width": None}
    low, high = told["mean_low"], told["mean_high"]
    blocks = max(len(trained) // TRAININGS, 1)
    means = trained[: blocks * TRAININGS].reshape(blocks, -1).mean(axis=1)
    held = np.mean((low <= means) & (means <= high))
    return {"mean_held": digits(held), "half_width": digits(0.5 * (high - low))}


def pairs(told: Mapping[str, Any], trained: Mapping[str, float]) -> dict[str, Any]:
    """What a comparison said of a set, by one head.

    Args:
      told: ``best``, ``worse`` and ``pairs`` of ``predictions.predicted``.
      trained: mean macro-F1 by embedding.

    Returns:
      ``best``, ``worse``, how many pairs training sets ``apart``, and how many of these are
      ``called``, in their true order.
    """
    found = calls(told["pairs"], trained)
    return {
        "best": told["best"], "worse": told["worse"], "apart": len(found), "called": sum(found),
    }  # fmt: skip


APART = 0.02
"""Difference of trained means from which on a pair should be called."""


def calls(told: Sequence[Sequence[Any]], trained: Mapping[str, float]) -> list[bool]:
    """Whether each pair that training sets apart is called, in its true order."""
    found = []
    for first, second, _, low, high in told:
        gap = trained[first] - trained[second]
        if abs(gap) > APART:
            found.append(bool(low > 0.0 if gap > 0 else high < 0.0))
    return found


def digits(value: Any) -> float:
    """A number to the digits that are kept."""
    return float(f"{value:.{DIGITS}g}")

"""What rows of the sequence study say together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.prop2_sequence_average.predictions import ESTIMATED, PLAIN
from kernlens.metrics import agreement

TRAINED = ("dense", "gru", "attention")
"""Towers that are trained."""


def ceiling(
    rows: list[dict[str, Any]], groups: np.ndarray, draws: int
) -> dict[str, dict[str, Any]] | None:
    """How well the first seed of a tower agrees with the second, by tower; None of one seed."""
    count = len(rows[0]["trained"][TRAINED[0]])
    if count < 2:
        return None
    found = {}
    for tower in TRAINED:
        seeds = [
            np.array([row["trained"][tower][seed]["recall"]["value"] for row in rows])
            for seed in range(count)
        ]
        agreed = agreement.agreement(*seeds[:2], groups=groups, draws=draws)
        found[tower] = {
            "spearman": agreed.spearman,
            "error": agreed.mean_absolute_error,
            "sd": float(np.sqrt(np.mean(np.var(seeds, axis=0, ddof=1)))),
        }
    return found


def discounts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The estimated discount against the best of the grid, by recall."""
    lost, best, estimated = [], [], []
    for row in rows:
        grid = {k: v["recall"]["value"] for k, v in row["predicted"].items() if "α =" in k}
        grid[PLAIN] = row["predicted"][PLAIN]["recall"]["value"]
        name = max(grid, key=lambda k: grid[k])
        best.append(name)
        estimated.append(row["mixture"]["alpha"])
        lost.append(grid[name] - row["predicted"][ESTIMATED]["recall"]["value"])
    return {
        "best": {name: best.count(name) for name in dict.fromkeys(best)},
        "estimated": {
            "median": float(np.median(estimated)),
            "low": float(np.min(estimated)),
            "high": float(np.max(estimated)),
        },
        "recall_lost": {"mean": float(np.mean(lost)), "most": float(np.max(lost))},
    }


def levels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over embeddings of every ranker, trained or not, intervals' ends over users too."""
    every: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for tower, runs in row["trained"].items():
            every.setdefault(f"trained {tower}", []).extend(runs)
        for name, found in {**row["baselines"], **row["predicted"]}.items():
            every.setdefault(name, []).append(found)
    lines = []
    for name, found in every.items():
        recall = [one["recall"]["value"] for one in found]
        line = {"ranker": name, "least": min(recall), "most": max(recall)}
        line["mean"] = float(np.mean(recall))
        line["over users"] = {
            end: float(np.mean([one["recall"][end] for one in found]))
            for end in ("value", "low", "high")
        }
        for key in ("ndcg", "mrr"):
            line[key] = float(np.mean([one[key]["value"] for one in found]))
        for key in ("uniform", "popular"):
            has = key in found[0]
            line[key] = float(np.mean([one[key]["recall"] for one in found])) if has else None
        for key in ("repeated", "new"):
            # Rows of the earlier protocol were not split by kind of target.
            own = [(one.get("by target") or {}).get(key) for one in found]
            told = [one["value"] for one in own if one is not None]
            line[key] = float(np.mean(told)) if told else None
        lines.append(line)
    return lines

"""How embeddings of a set are put in order: by predictions, by rankers, by training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.predicts_value.rankers import CV
from kernlens.metrics import agreement

LEAST = 8
"""Natural embeddings of a set whose order is judged by a target."""

FEW = 3
"""Natural embeddings of a set whose order is shown."""

KERNLENS = "kernlens"

AGREEMENTS = ("spearman", "kendall", "weighted", "regret", "fidelity")
"""What is measured of an order."""


def of_sets(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every ranker's order in every set of three or more, by macro-F1, of predicted heads."""
    found = []
    for one in rows["sets"]:
        mine = natural(rows["contexts"], one["set"])
        if len(mine) < FEW:
            continue
        for head in mine[0]["heads"]:
            trained = truths(mine, one["set"], head)
            told = {
                row["embedding"]: row["heads"][head]["macro_f1"]["predicted"]
                for row in mine
                if "predicted" in row["heads"][head]["macro_f1"]
            }
            if not told:
                continue
            rankers = {KERNLENS: told} | {
                name: {key: value_of(value) for key, value in values.items()}
                for name, values in one["rankers"].items()
            }
            for name, values in rankers.items():
                line = ordered(values, trained)
                if line is not None:
                    found.append(
                        {"set": one["set"], "tuned": one["tuned"], "head": head, "ranker": name}
                        | line
                    )
    return found


def averaged(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means of every ranker's agreements over sets and heads, sets tuned on or not apart."""
    groups: dict[tuple[bool, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["tuned"], line["ranker"]), []).append(line)
    return [
        {"tuned": tuned, "ranker": ranker, "orders": len(own)}
        | {key: float(np.mean([line[key] for line in own])) for key in AGREEMENTS}
        for (tuned, ranker), own in groups.items()
    ]


def natural(rows: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The natural embeddings of a set."""
    return [row for row in rows if row["set"] == name and row["damage"] == "natural"]


def truths(rows: Sequence[Mapping[str, Any]], name: str, head: str) -> dict[str, float]:
    """Mean macro-F1 of the trainings on a set's natural embeddings."""
    return {
        row["embedding"]: row["heads"][head]["macro_f1"]["trained"] for row in natural(rows, name)
    }


def value_of(value: Any) -> float:
    """A ranker's number, its macro-F1 where it predicts values; NaN where undefined."""
    value = value["macro_f1"] if isinstance(value, Mapping) else value
    return float("nan") if value is None else float(value)


def ordered(values: Mapping[str, float], trained: Mapping[str, float]) -> dict[str, float] | None:
    """Agreement of a ranker with the trained means of the embeddings that it knows.

    Returns:
      Spearman, Kendall and weighted Kendall correlations, regret of its first in macro-F1, and
      fidelity, the slope of trained on predicted gaps; None of fewer than three embeddings.
    """
    from scipy import stats

    weightedtau: Any = stats.weightedtau

    names = [name for name in values if name in trained]
    if len(names) < FEW:
        return None
    x, y = np.array([values[n] for n in names]), np.array([trained[n] for n in names])
    # What is not defined ranks last.
    x = np.where(np.isfinite(x), x, np.min(x[np.isfinite(x)], initial=0.0) - 1.0)
    gaps = x - x.mean()
    constant = not np.any(gaps)
    return {
        "embeddings": len(names),
        "spearman": 0.0 if constant else float(agreement.spearman(x, y)),
        "kendall": 0.0 if constant else float(agreement.kendall(x, y)),
        "weighted": 0.0 if constant else float(weightedtau(x, y).statistic),
        "regret": float(agreement.regret(x, y)),
        "fidelity": 0.0 if constant else float(gaps @ (y - y.mean()) / (gaps @ gaps)),
    }


def measured(rows: Mapping[str, Any]) -> dict[str, float | None]:
    """The least correlations, wrong verdicts and pairs called, on sets not tuned on."""
    lines = [line for line in of_sets(rows) if not line["tuned"] and line["embeddings"] >= LEAST]
    found: dict[str, float | None] = {}
    for key, heads in (("linear", ("logistic",)), ("mlp", ("MLP(32)", "MLP(256)"))):
        own, gaps = [], []
        for line in lines:
            if line["ranker"] == KERNLENS and line["head"] in heads:
                beside = next(
                    other for other in lines
                    if other["ranker"] == CV
                    and (other["set"], other["head"]) == (line["set"], line["head"])
                )  # fmt: skip
                own.append(line["spearman"])
                gaps.append(line["spearman"] - beside["spearman"])
        found[f"{key}.spearman"] = min(own, default=None)
        found[f"{key}.spearman_over_cv"] = min(gaps, default=None)
    return found | verdicts(rows)


def verdicts(rows: Mapping[str, Any]) -> dict[str, float | None]:
    """Shares of wrong "worse" verdicts, and of clear pairs that are called, over all heads."""
    wrong: list[bool] = []
    apart = called = 0
    for one in rows["sets"]:
        if one["tuned"]:
            continue
        for head, told in one["pairs"].items():
            trained = truths(rows["contexts"], one["set"], head)
            wrong += [trained[name] >= trained[told["best"]] for name in told["worse"]]
            apart, called = apart + told["apart"], called + told["called"]
    return {
        "worse.wrong": float(np.mean(wrong)) if wrong else None,
        "worse.count": len(wrong),
        "pairs.called": called / apart if apart else None,
        "pairs.count": apart,
    }

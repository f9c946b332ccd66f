"""What the rows come to: errors, coverage, order, verdicts, costs, and the targets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.predicts_value import orders
from experiments.predicts_value.heads import METRICS
from experiments.predicts_value.rankers import CV
from experiments.predicts_value.settings import HEADS, Config
from experiments.predicts_value.targets import TARGETS, judge

NATURAL = "natural"
LINEAR, MLPS = ("logistic",), ("MLP(32)", "MLP(256)")
ENOUGH = 1000
"""Rows from which on value targets hold; below, one trained split is the yardstick."""

MANY = 2000
"""Rows from which on the mean's interval is to be narrow."""


def summarise(config: Config, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Errors by head and group of contexts, orders by set, verdicts, costs, and the targets."""
    points = list(points_of(rows))
    known = measured(rows, points)
    return {
        "contexts": len(rows["contexts"]),
        "natural": sum(one["damage"] == NATURAL for one in rows["contexts"]),
        "errors": errors(points),
        "sets": by_set(points),
        "damages": by_damage(points),
        "orders": orders.averaged(orders.of_sets(rows)),
        "departures": departures(rows),
        "measured": known,
        "targets": [judge(target, known) for target in TARGETS],
    }


def points_of(rows: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A point for each context, head and metric that is both trained and predicted."""
    cv = {
        (one["set"], name): values
        for one in rows["sets"]
        for name, values in one["rankers"].get(CV, {}).items()
    }
    for row in rows["contexts"]:
        beside = cv.get((row["set"], row["embedding"]), {})
        natural = row["damage"] == NATURAL
        for head, kept in row["heads"].items():
            for metric in METRICS:
                own = kept.get(metric, {})
                if "predicted" not in own:
                    continue
                truth = own["trained"]
                yield {
                    "set": row["set"],
                    "embedding": row["embedding"],
                    "damage": row["damage"],
                    "natural": natural,
                    "tuned": row["tuned"],
                    "judged": row["judged"],
                    "rows": row["rows"],
                    "head": head,
                    "metric": metric,
                    "error": abs(own["predicted"] - truth),
                    "signed": own["predicted"] - truth,
                    "blur": float(own["sd"] / np.sqrt(max(kept["splits"] - 1, 1))),
                    "of_cv": abs(beside[metric] - truth) if natural and metric in beside else None,
                    **own,
                }


def select(points: Sequence[Mapping[str, Any]], **wanted: Any) -> list[Mapping[str, Any]]:
    """Points whose fields are as wanted; of a tuple, one of its entries."""

    def fits(point: Mapping[str, Any]) -> bool:
        return all(
            point[key] in value if isinstance(value, tuple) else point[key] == value
            for key, value in wanted.items()
        )

    return [point for point in points if fits(point)]


def mean(points: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of what is known of a field."""
    known = [point[key] for point in points if point[key] is not None]
    return float(np.mean(known)) if known else None


def large(points: Sequence[Mapping[str, Any]], rows: int = ENOUGH) -> list[Mapping[str, Any]]:
    """Points of contexts with so many labelled rows."""
    return [point for point in points if point["rows"] >= rows]


def errors(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean absolute errors by head, metric and kind of context, 1,000 rows and more."""
    found = []
    for natural in (True, False):
        for tuned in (True, False):
            for head in HEADS:
                for metric in METRICS:
                    some = large(
                        select(
                            points,
                            natural=natural,
                            tuned=tuned,
                            head=head,
                            metric=metric,
                            judged=True,
                        )
                    )
                    if some:
                        found.append(
                            {
                                "natural": natural,
                                "tuned": tuned,
                                "head": head,
                                "metric": metric,
                                "contexts": len(some),
                                "error": mean(some, "error"),
                                "bias": mean(some, "signed"),
                                "largest": max(point["error"] for point in some),
                                "of_one": mean(some, "of_one"),
                                "blur": mean(some, "blur"),
                                "of_cv": mean(some, "of_cv") if head in LINEAR else None,
                                "held": mean(some, "held"),
                                "mean_held": mean(some, "mean_held"),
                            }
                        )
    return found


def by_set(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Errors and coverage of macro-F1 of every set and head, natural embeddings."""
    found = []
    for name in dict.fromkeys(point["set"] for point in points):
        for head in HEADS:
            some = select(points, set=name, head=head, metric="macro_f1", natural=True)
            if some:
                found.append(
                    {
                        "set": name,
                        "tuned": some[0]["tuned"],
                        "rows": some[0]["rows"],
                        "head": head,
                        "embeddings": len(some),
                        **{
                            key: mean(some, key)
                            for key in ("error", "signed", "of_one", "of_cv", "held", "mean_held")
                        },
                    }
                )
    return found


def by_damage(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Errors of macro-F1 of every damage and head, draws of few labels together."""

    def title(point: Mapping[str, Any]) -> str:
        return point["damage"].split(", draw")[0]

    damaged = [point for point in points if not point["natural"] and point["metric"] == "macro_f1"]
    found = []
    for name in dict.fromkeys(map(title, damaged)):
        for head in HEADS:
            some = [point for point in damaged if title(point) == name and point["head"] == head]
            if some:
                found.append(
                    {
                        "damage": name,
                        "head": head,
                        "judged": some[0]["judged"],
                        "contexts": len(some),
                        **{
                            key: mean(some, key)
                            for key in ("trained", "predicted", "error", "of_one", "held")
                        },
                    }
                )
    return found


def departures(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far heads depart from logistic regression, in macro-F1, over natural embeddings."""
    found = []
    for head in HEADS[1:]:
        gaps = [
            row["heads"][head]["macro_f1"]["trained"]
            - row["heads"]["logistic"]["macro_f1"]["trained"]
            for row in rows["contexts"]
            if row["damage"] == NATURAL and head in row["heads"] and "logistic" in row["heads"]
        ]
        if gaps:
            found.append(
                {
                    "head": head,
                    "embeddings": len(gaps),
                    "mean": float(np.mean(gaps)),
                    "least": float(np.min(gaps)),
                    "most": float(np.max(gaps)),
                }
            )
    return found


def measured(
    rows: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Everything that a target asks, on the sets that the method was not tuned on."""
    own = select(points, tuned=False, judged=True)
    enough = large(own)
    natural, damaged = select(enough, natural=True), select(enough, natural=False)
    found: dict[str, float | None] = {}
    for metric in METRICS:
        linear = select(natural, head=LINEAR, metric=metric)
        found[f"linear.{metric}"] = mean(linear, "error")
        found[f"cv.{metric}"] = mean(linear, "of_cv")
        found[f"linear.damaged.{metric}"] = mean(
            select(damaged, head=LINEAR, metric=metric), "error"
        )
        found[f"mlp.{metric}"] = mean(select(natural, head=MLPS, metric=metric), "error")
        for head in ("k-NN", "class means"):
            found[f"{head}.{metric}"] = mean(select(natural, head=head, metric=metric), "error")
    small = [p for p in select(own, head=LINEAR, metric="macro_f1") if p["rows"] < ENOUGH]
    error, one = mean(small, "error"), mean(small, "of_one")
    found["small.macro_f1"] = None if not small or error is None or not one else error / one
    found |= coverage(natural)
    found |= orders.measured(rows)
    found |= costs(rows)
    found |= {f"curve.{times}": curve(rows, times) for times in (4, 16)}
    for key, name in (("wide", "10^5 x 768, 100 classes"), ("long", "10^6 x 64, 10 classes")):
        line = next((one for one in rows["large"] if one["shape"] == name), None)
        found[f"large.{key}.seconds"] = line and line["seconds"]
        found[f"large.{key}.gigabytes"] = line and line["bytes"] / 1e9
    return found


def coverage(natural: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """How often intervals hold, macro-F1 of linear and MLP heads."""
    some = select(natural, head=(*LINEAR, *MLPS), metric="macro_f1")
    names = dict.fromkeys(point["set"] for point in some)
    each = [mean(select(some, set=name), "held") for name in names]
    widths = [p["half_width"] for p in large(some, MANY) if p["half_width"] is not None]
    return {
        "single.coverage": mean(some, "held"),
        "single.least": min((one for one in each if one is not None), default=None),
        "mean.coverage": mean(some, "mean_held"),
        "mean.half_width": float(np.median(widths)) if widths else None,
    }


def costs(rows: Mapping[str, Any]) -> dict[str, float | None]:
    """Processor seconds of predictions in those of cross-validation and of 20 trained splits."""
    some = [one for one in rows["costs"] if not one["tuned"]]

    def middle(what: str, of: str) -> float | None:
        ratios = [one[what] / one[of] for one in some if what in one and of in one]
        return float(np.median(ratios)) if ratios else None

    return {
        "cost.linear.cv": middle("logistic", "cv"),
        "cost.linear.trained": middle("logistic", "trained logistic"),
        "cost.mlp": middle("MLP(32)", "trained MLP(32)"),
    }


def curve(rows: Mapping[str, Any], times: int) -> float | None:
    """Mean absolute error of macro-F1 at so many times the labels, in points."""
    errors = [
        100.0 * abs(one["predicted"] - one["trained"])
        for one in rows["curves"]
        if one["times"] == times and not one["tuned"] and one["metric"] == "macro_f1"
    ]
    return float(np.mean(errors)) if errors else None

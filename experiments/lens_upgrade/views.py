"""Tables, claims and the figure of a run, from its results file alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.kit import shown
from experiments.kit.shown import MET, Claim, table
from experiments.kit.verdicts import FAILS, HOLDS, PART
from experiments.lens_upgrade.summary import LR, TARGETS, regret, verdict
from experiments.lens_upgrade.trained import FRESH, HEADS, MEANS, OLD
from kernlens.lens.way_answers import FEW
from kernlens.show import report
from kernlens.show.table import Table


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Errors against the targets, and what trained heads reach by what differs."""
    summary = results["summary"]
    lines: list[dict[str, Any]] = []
    for name, own in summary["errors"].items():
        for place, key in enumerate(("macro_f1", "negative_flips")):
            lines.append(
                {
                    "head": name,
                    "of": {"macro_f1": "macro-F1", "negative_flips": "negative flips"}[key],
                    "pairs": own["pairs"],
                    "mean error": own[key]["error"],
                    "wanted": TARGETS[name][place] if name in TARGETS else None,
                    "largest": own[key]["largest"],
                    "bias": own[key]["bias"],
                    "one split held": own[key]["held"],
                    "mean error with raw rows": own["with raw rows"][key]["error"],
                }
            )
    digits = {
        "mean error": ".4f", "wanted": ".3f", "largest": ".3f", "bias": "+.4f",
        "one split held": ".2f", "mean error with raw rows": ".4f",
    }  # fmt: skip
    drift = []
    for row in results["rows"]:
        ways = row["ways"]
        if "new" in row:
            continue
        line: dict[str, Any] = {
            "differs": row["pair"], "label": row["label"], "items": row["rows"],
            "head": row["head"],
        }  # fmt: skip
        for name in (OLD, "raw", "rotation", "ridge map", "whiten-rotate-colour", "distilled",
                     FEW, FRESH, "retrained"):  # fmt: skip
            if name in ways:
                line[name] = float(np.mean(ways[name]["trained"]["macro_f1"]))
        best = max((w["r2"] for w in ways.values() if w.get("r2") is not None), default=None)
        drift.append({**line, "best R²": best, "advised": row["advised"], "regret": regret(row)})
    numbers = dict.fromkeys(
        (OLD, "raw", "rotation", "ridge map", "whiten-rotate-colour", "distilled", FEW, FRESH,
         "retrained", "regret"), ".3f",
    )  # fmt: skip
    targets = [
        {"target": name, "verdict": MET[own]} for name, own in summary["met"].items()
        if own is not None
    ]  # fmt: skip
    return [
        table(lines, digits, "Predicted against the mean of trained splits"),
        table(targets, {}, "Targets"),
        *_more_tables(summary),
        table(drift, {**numbers, "best R²": ".2f"}, "Macro-F1 of trained heads"),
    ]


def _more_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Few labels and new items, where they were asked."""
    found = []
    if "few labels" in summary:
        own = summary["few labels"]
        lines = [
            {
                "of": {"macro_f1": "macro-F1", "negative_flips": "negative flips"}[key],
                "pairs": own["pairs"],
                "mean error": own[key]["error"],
                "bias": own[key]["bias"],
                "one split held": own[key]["held"],
            }
            for key in ("macro_f1", "negative_flips")
        ]
        digits = {"mean error": ".4f", "bias": "+.4f", "one split held": ".2f"}
        found.append(table(lines, digits, "Few labels: predicted against trained"))
        gains = [{"macro-F1 gained over": name, **gain} for name, gain in own["gain over"].items()]
        found.append(table(gains, {"mean": "+.4f", "least": "+.4f"}))
    if "new items" in summary:
        lines = [
            {
                "items": own["items"], "number": own["number"], "separation": own["separation"],
                "of": title, "mean error": own[key]["error"], "bias": own[key]["bias"],
                "one training held": own[key]["held"],
                "error of the common items": own[key].get("error of the common items"),
            }
            for own in summary["new items"]
            for key, title in (("macro_f1", "macro-F1"), ("accuracy", "accuracy"))
        ]  # fmt: skip
        digits = {
            "separation": ".2f", "mean error": ".4f", "bias": "+.4f", "one training held": ".2f",
            "error of the common items": ".4f",
        }  # fmt: skip
        found.append(table(lines, digits, "Items that the new version alone has"))
    return found


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Rows of claim 1 for versions that drift."""
    summary, rows = results["summary"], results["rows"]
    where = shown.title_of(results["config"])
    measured = {
        f"error of {name}": own["macro_f1"]["error"] for name, own in summary["errors"].items()
    }
    found = [
        Claim(
            f"1, version drift: what a deployed head will reach on the next version, {where}",
            measured, verdict(summary["met"]),
        )
    ]  # fmt: skip
    for head, named in ((LR, "a linear head"), (MEANS, "stored class means")):
        seeds = [row for row in rows if row["pair"] == "other seed" and row["head"] == head]
        if seeds:
            found.append(reseeded(seeds, where, named))
    return found


def reseeded(rows: Sequence[Mapping[str, Any]], where: str, named: str) -> Claim:
    """Whether a head survives a new seed of the embedding, as it is and rotated.

    Holds if on every label the raw rows lose, and a rotation wins back more than half of it.
    """
    lost, back = [], []
    for row in rows:
        values = {n: float(np.mean(w["trained"]["macro_f1"])) for n, w in row["ways"].items()}
        lost.append(values[OLD] - values["raw"])
        back.append(values["rotation"] - values["raw"])
    wins = [b > 0.5 * own > 0 for own, b in zip(lost, back, strict=True)]
    held = HOLDS if all(wins) else PART if any(wins) else FAILS
    return Claim(
        f"1, version drift: another seed breaks {named}, a rotation mends it, {where}",
        {"macro-F1 lost": float(np.mean(lost)), "won back": float(np.mean(back))}, held,
    )  # fmt: skip


def draw(results: Mapping[str, Any]) -> Any:
    """Predicted against trained macro-F1 and negative flips, a point for each way."""
    panels = []
    for key, title in (("macro_f1", "macro-F1"), ("negative_flips", "negative flips")):
        for head in HEADS:
            points = [
                (way, row)
                for row in results["rows"]
                if row["head"] == head
                for name, way in row["ways"].items()
                if name not in (OLD, FRESH) and "new" not in row
            ]
            if not points:
                continue
            values = [np.asarray(way["trained"][key]) for way, _ in points]
            panels.append(
                report.Panel(
                    title=f"{head}: {title}",
                    x=np.array([way["predicted"][key]["value"] for way, _ in points]),
                    x_label="predicted",
                    y=np.array([own.mean() for own in values]),
                    y_label="trained, mean of splits",
                    colour=np.array([float(row["rows"]) for _, row in points]),
                    y_spread=np.array([own.std() for own in values]),
                    same_unit=True,
                )
            )
    return report.figure(panels, "items", columns=max(len(panels) // 2, 1))

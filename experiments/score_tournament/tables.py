"""Tables of the tournament."""

from collections.abc import Mapping
from typing import Any

from experiments.kit.shown import MET, interval, table
from experiments.score_tournament.settings import ORDER
from kernlens.show.table import Table

RANKERS = {"bytes": "file size, compressed", "mean_norm": "norm, mean over rows"}
"""What the trivial rankers are called."""

NAMED = (
    "published_class_cosine", "proposition1", "transrate", "rankme", "parc", "uniformity",
    "dimension", "bytes", "mean_norm", "random",
)  # fmt: skip
"""Rankers that are shown wherever they stand."""

SLICES = {
    "small sets": "corrupted small sets", "items": "item2vec and text", "60 labels": "60 labels",
    "all labels": "all labels",
}  # fmt: skip


def defaults(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ranker to take in each slice.

    It is the one that the documentation names, unless one as cheap lies above its interval.
    """
    taus = {
        line["ranker"]: {"all": line["tau"]}
        | {name: part["tau"] for name, part in line["slices"].items()}
        for line in summary["rankers"]
    }
    found = []
    for line in summary["choices"]:
        own, where, cheap = taus[ORDER][line["slice"]], line["slice"], line["cheap"]
        best, reference = line["cheap_tau"]["value"], line["reference_tau"]["value"]
        said = f"τ {interval(own)}, cross-validation {reference:.2f}"
        if best > own["high"]:
            default, why = cheap, f"τ {best:.2f}, above {ORDER}: {said}"
        elif cheap == ORDER:
            default, why = ORDER, f"{said}; the best at a tenth of its cost"
        else:
            default, why = ORDER, f"{said}; {cheap}, as cheap, {best:.2f} within the interval"
        found.append({"where": where, "default": default, "why": why})
    return found


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Rankers by their agreement with trained heads, which to trust where, and the targets."""
    summary = results["summary"]
    shown = {*(line["ranker"] for line in summary["rankers"][:12]), *NAMED}
    rows = [
        {
            "ranker": RANKERS.get(line["ranker"], line["ranker"]),
            "": "kernlens' probe" if line["group"] == "probe" else None,
            "τ": interval(line["tau"]),
            **{
                title: line["slices"][name]["tau"]["value"]
                for title, name in SLICES.items()
                if name in line["slices"]
            },
            "regret, points": line["regret"]["value"],
            "ms": 1000 * line["seconds"],
            "of CV's time": line["cost"],
        }
        for line in summary["rankers"]
        if line["ranker"] in shown
    ]
    digits = dict.fromkeys([*SLICES, "of CV's time"], ".2f")
    digits |= {"regret, points": ".1f", "ms": ".1f"}
    choices = [
        {
            "where": line["slice"],
            "best τ": f"{line['best']} {line['best_tau']['value']:.2f}",
            "best at a tenth of CV": f"{line['cheap']} {line['cheap_tau']['value']:.2f}",
            "discriminant": line["default_tau"]["value"],
            "CV": line["reference_tau"]["value"],
        }
        for line in summary["choices"]
    ]
    gates = [
        {
            "target": line["gate"],
            "wanted": line["wanted"],
            "measured": line["measured"],
            "": MET[line["passed"]],
        }
        for line in summary["gates"]
    ]
    failed = [
        {"not finite, which ranks last": line["ranker"], "times": line["not_finite"]}
        for line in summary["rankers"]
        if line["not_finite"]
    ]
    return [
        table(rows, digits, f"{summary['contexts']} contexts:"),
        *([table(failed)] if failed else []),
        table(defaults(summary), None, "The default of each task, label budget and head, and why:"),
        table(choices, {"discriminant": ".2f", "CV": ".2f"}),
        table(gates),
    ]

"""Tables and the claim, from the results file alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit.shown import Claim, table
from experiments.kit.verdicts import FAILS, HOLDS, PART
from experiments.predicts_value.costs import TRAININGS
from experiments.predicts_value.settings import HEADS
from experiments.predicts_value.targets import MET, MISSED
from kernlens.show.table import Table

METRICS = {"macro_f1": "macro-F1", "accuracy": "accuracy", "log_loss": "log loss"}
CHIEF = ("kernlens", "5-fold CV", "k-NN, best k", "static list", "dimension", "pretraining loss")
"""Rankers that are shown wherever they stand."""

SHOWN = 6
"""Scores that are shown, the best of them."""


def tables(results: Mapping[str, Any]) -> list[Table]:
    """The targets; then errors by head, set and damage, the order of rankers, and costs."""
    summary, timed = results["summary"], results["rows"]["costs"]
    return [
        targets(summary),
        errors(summary),
        sets(summary),
        damages(summary),
        rankers(summary),
        departures(summary),
        *([costs(timed)] if timed else []),
    ]


def targets(summary: Mapping[str, Any]) -> Table:
    """What was wanted and what was measured."""
    rows = [
        {
            "target, on sets not tuned on": line["target"],
            "wanted": line["wanted"],
            "measured": ", ".join(said(name, value) for name, value in line["measured"].items()),
            "": line["verdict"],
        }
        for line in summary["targets"]
    ]
    natural, all_ = summary["natural"], summary["contexts"]
    return table(rows, None, f"{natural} natural embeddings, {all_ - natural} damaged ones:")


HEADLINE = {
    "logistic": "logistic regression, penalty tuned", "MLP(32)": "MLP, 32 units",
    "MLP(256)": "MLP, 256 units", "k-NN": "k nearest neighbours, k tuned",
    "class means": "class means",
}  # fmt: skip


def headline(results: Mapping[str, Any]) -> Table:
    """The few numbers that lead the README: macro-F1 and accuracy, sets not tuned on."""
    own = {
        (line["head"], line["metric"]): line
        for line in results["summary"]["errors"]
        if line["natural"] and not line["tuned"]
    }

    def both(head: str, key: str) -> str:
        first, second = (own[head, metric][key] for metric in ("macro_f1", "accuracy"))
        return "" if first is None or second is None else f"{first:.4f}, {second:.4f}"

    return table(
        [
            {
                "head": title,
                "error of the prediction": both(head, "error"),
                "of one trained split": both(head, "of_one"),
                "of 5-fold CV": both(head, "of_cv"),
                "90% intervals hold one training": f"{own[head, 'macro_f1']['held']:.0%}",
            }
            for head, title in HEADLINE.items()
        ]
    )


def said(name: str, value: float | None) -> str:
    """A measured number with the last part of its name."""
    if value is None:
        return "-"
    digits = {"seconds": 0, "gigabytes": 1}.get(name.split(".")[-1], 4 if abs(value) < 0.1 else 3)
    first, *_, last = name.split(".")
    words = {"macro_f1": "macro-F1", "log_loss": "log loss", "spearman_over_cv": "less CV's"}
    label = f"{first} {words.get(last, last)}" if first == "cv" else words.get(last, "")
    return f"{label} {value:.{digits}f}".strip()


def errors(summary: Mapping[str, Any]) -> Table:
    """Errors by head and metric, of sets tuned on and not, natural and damaged."""
    rows = [
        {
            "embeddings": ("natural" if line["natural"] else "damaged")
            + (", tuned on" if line["tuned"] else ""),
            "head": line["head"],
            "metric": METRICS[line["metric"]],
            "n": line["contexts"],
            "error": line["error"],
            "bias": line["bias"],
            "largest": line["largest"],
            "one training's": line["of_one"],
            "5-fold CV's": line["of_cv"],
            "truth ±": line["blur"],
            "held": line["held"],
            "mean held": line["mean_held"],
        }
        for line in summary["errors"]
        if line["metric"] != "accuracy" or line["head"] == "logistic"
    ]
    formats = dict.fromkeys(("error", "largest", "one training's", "5-fold CV's", "truth ±"), ".4f")
    formats |= {"bias": "+.4f", "held": ".0%", "mean held": ".0%"}
    title = (
        "Mean absolute errors against the mean of the trainings, 1,000 rows and more, next to "
        "those of one training and of cross-validation, and the standard error of that mean "
        "itself; how often 90% intervals hold one training and the mean:"
    )
    return table(rows, formats, title)


def sets(summary: Mapping[str, Any]) -> Table:
    """Errors of macro-F1 by set, linear head and MLP(32)."""
    rows = [
        {
            "set": line["set"] + (" (tuned on)" if line["tuned"] else ""),
            "rows": line["rows"],
            "embeddings": line["embeddings"],
            "head": line["head"],
            "error": line["error"],
            "bias": line["signed"],
            "one training's": line["of_one"],
            "5-fold CV's": line["of_cv"],
            "held": line["held"],
            "mean held": line["mean_held"],
        }
        for line in summary["sets"]
        if line["head"] in ("logistic", "MLP(32)")
    ]
    formats = dict.fromkeys(("error", "one training's", "5-fold CV's"), ".4f")
    formats |= {"rows": ",", "bias": "+.4f", "held": ".0%", "mean held": ".0%"}
    return table(rows, formats, "Errors of macro-F1 by set:")


def damages(summary: Mapping[str, Any]) -> Table:
    """Errors of macro-F1 by damage, all heads of a damage in a row."""
    found: dict[str, dict[str, Any]] = {}
    for line in summary["damages"]:
        name = line["damage"] + ("" if line["judged"] else " (not judged)")
        row = found.setdefault(name, {"damage": name})
        if line["head"] == "logistic":
            row |= {"trained": line["trained"], "predicted": line["predicted"]}
        row[line["head"]] = line["error"]
    formats = dict.fromkeys(HEADS, ".4f") | {"trained": ".3f", "predicted": ".3f"}
    title = (
        "Damaged embeddings: macro-F1 of logistic regression, trained and predicted, and errors by "
        "head:"
    )
    return table(list(found.values()), formats, title)


def _orders(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a ranker's order is worth over sets not tuned on, heads together, by ranker."""
    return {line["ranker"]: line for line in summary["orders"] if not line["tuned"]}


PEERS = {
    "5-fold CV": "5-fold CV of logistic regression", "k-NN, best k": "k nearest neighbours",
    "logme_centred": "LogME", "h_score": "H-score", "gbc_spherical": "GBC",
    "dimension": "the larger one first",
}  # fmt: skip
"""Rankers that the README sets beside kernlens."""


def peers(results: Mapping[str, Any]) -> Table:
    """How well kernlens and its peers order embeddings, and which of them give the value."""
    summary = results["summary"]
    found, measured = _orders(summary), summary["measured"]
    errors = {"kernlens": measured["linear.macro_f1"], "5-fold CV": measured["cv.macro_f1"]}
    rows = [
        {
            "by": title,
            "Kendall τ": found[name]["kendall"],
            "points lost by its choice": 100.0 * found[name]["regret"],
            "error of its value": errors.get(name),
        }
        for name, title in ({"kernlens": "kernlens"} | PEERS).items()
        if name in found
    ]
    formats = {"Kendall τ": ".2f", "points lost by its choice": ".1f", "error of its value": ".4f"}
    return table(rows, formats)


def rankers(summary: Mapping[str, Any]) -> Table:
    """Rankers by their mean order over sets not tuned on, heads together."""
    found = _orders(summary)
    chief = [name for name in CHIEF if name in found]
    others = sorted((n for n in found if n not in chief), key=lambda n: -found[n]["kendall"])
    rows = [
        {
            "ranker": name,
            "sets × heads": found[name]["orders"],
            "τ": found[name]["kendall"],
            "weighted τ": found[name]["weighted"],
            "Spearman": found[name]["spearman"],
            "regret, points": 100.0 * found[name]["regret"],
            "fidelity": found[name]["fidelity"] if name in CHIEF[:3] else None,
        }
        for name in [*chief, *others[:SHOWN]]
    ]
    formats: dict[str, str] = dict.fromkeys(("τ", "weighted τ", "Spearman", "fidelity"), ".2f")
    formats["regret, points"] = ".1f"
    title = (
        "Order of natural embeddings by macro-F1, sets not tuned on; fidelity is the trained gap "
        f"for a predicted gap of one; of the scores the best {SHOWN}:"
    )
    return table(rows, formats, title)


def departures(summary: Mapping[str, Any]) -> Table:
    """How far each head departs from logistic regression."""
    rows = [
        {
            "head": line["head"],
            "embeddings": line["embeddings"],
            "mean": line["mean"],
            "least": line["least"],
            "most": line["most"],
        }
        for line in summary["departures"]
    ]
    formats: dict[str, str] = dict.fromkeys(("mean", "least", "most"), "+.3f")
    return table(rows, formats, "Trained macro-F1 less that of tuned logistic regression:")


def costs(timed: Sequence[Mapping[str, Any]]) -> Table:
    """What a prediction costs beside cross-validation and beside the training of one split."""
    rows = [
        {
            "set": line["set"] + (" (tuned on)" if line["tuned"] else ""),
            "rows": line["rows"],
            "columns": line["columns"],
            "logistic": line["logistic"],
            "5-fold CV": line["cv"],
            "one training": line["trained logistic"] / TRAININGS,
            "MLP(32)": line["MLP(32)"],
            "one training of it": line["trained MLP(32)"] / TRAININGS,
        }
        for line in timed
    ]
    seconds = ("logistic", "5-fold CV", "one training", "MLP(32)", "one training of it")
    title = "Processor seconds on one core, of the first embedding of a set:"
    return table(rows, {"rows": ",", **dict.fromkeys(seconds, ".2f")}, title)


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether predictions come true: all targets, some, or none."""
    verdicts = [line["verdict"] for line in results["summary"]["targets"]]
    met, missed = verdicts.count(MET), verdicts.count(MISSED)
    own = results["summary"]["measured"]
    measured = {
        "mean absolute error of macro-F1, linear head": own["linear.macro_f1"],
        "5-fold CV": own["cv.macro_f1"],
        "MLP": own["mlp.macro_f1"],
        "single trainings in their 90% intervals": own["single.coverage"],
        "targets met": f"{met} of {met + missed}",
    }
    text = "what is predicted of a head comes true when it is trained, on sets not tuned on"
    return [Claim(f"3. {text}", measured, verdict(met, missed))]


def verdict(met: int, missed: int) -> str:
    """HOLDS if all targets that are judged are met, FAILS if none is, else PART."""
    if not missed:
        return HOLDS
    return PART if met else FAILS

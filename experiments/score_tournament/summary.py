"""What the tournament comes to: the order of the rankers, whom to trust where, and the targets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.score_tournament.rankers import GROUPS
from experiments.score_tournament.ranking import Contest, contest, mean, where
from experiments.score_tournament.settings import DEFAULT, REFERENCE, Config

COST, FORECAST_ERROR = 0.1, 0.05
"""Targets: cost of the default in that of cross-validation, and error of the forecast."""

ALIKE = (DEFAULT, f"{DEFAULT}, log loss")
"""What is judged against the targets: the default by its accuracy, and by its log loss."""


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rankers by falling tau, choices for each slice of the contexts, forecasts and targets.

    Drawn sets hold fewer embeddings, so fewer to miss: the interval of a regret lies low.
    """
    found = contest(rows, config.draws, config.seed)
    costs = {name: cost(rows, name) for name in found.tau}
    slices = slices_of(found.contexts)
    lines = [line(found, rows, name, slices, costs, config.level) for name in found.tau]
    lines.sort(key=lambda one: -one["tau"]["value"])
    told = forecasts(rows)
    return {
        "contexts": len(found.contexts),
        "rankers": lines,
        "choices": [
            {"slice": name, **choice(found, kept, costs, config.level)}
            for name, kept in slices.items()
        ],
        "forecasts": told,
        "gates": gates(lines, rows, told),
    }


def slices_of(contexts: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Contexts by what they have in common; a slice that is all of them is named once."""
    found = {"all": np.arange(len(contexts))}
    for key in ("family", "budget", "head", "task"):
        values = list(dict.fromkeys(context[key] for context in contexts))
        for value in values if len(values) > 1 else ():
            title = f"{value or 'all'} labels" if key == "budget" else value
            found[title] = where(contexts, lambda c, key=key, value=value: c[key] == value)
    return found


def cost(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Median seconds of a ranker over those of cross-validation on the same rows."""
    return float(np.median([row["seconds"][name] / row["seconds"][REFERENCE] for row in rows]))


def line(
    found: Contest,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    slices: Mapping[str, np.ndarray],
    costs: Mapping[str, float],
    level: float,
) -> dict[str, Any]:
    """What one ranker is worth and costs."""
    difference = found.tau[name] - found.tau[REFERENCE]
    return {
        "ranker": name,
        "group": GROUPS[name],
        "tau": mean(found.tau[name], level)._asdict(),
        "difference": mean(difference, level)._asdict(),
        "regret": mean(found.regret[name], level)._asdict(),
        "slices": {
            title: {
                "tau": mean(found.tau[name][kept], level)._asdict(),
                "difference": mean(difference[kept], level)._asdict(),
                "regret": mean(found.regret[name][kept], level)._asdict(),
            }
            for title, kept in slices.items()
            if title != "all"
        },
        "seconds": float(np.median([row["seconds"][name] for row in rows])),
        "cost": costs[name],
        "not_finite": sum(row["scores"][name].count(None) for row in rows),
        "compiling": max(row["compiling"][name] for row in rows),
    }


def choice(
    found: Contest, kept: np.ndarray, costs: Mapping[str, float], level: float
) -> dict[str, Any]:
    """The best ranker of a slice, the best at the target's cost, and how many are like the best."""
    values = {name: mean(tau[kept], level) for name, tau in found.tau.items()}
    best = max(values, key=lambda name: values[name].value)
    gaps = {name: mean(found.tau[best][kept] - tau[kept], level) for name, tau in found.tau.items()}
    cheap = max((k for k in values if costs[k] <= COST), key=lambda name: values[name].value)
    return {
        "contexts": len(kept),
        "best": best,
        "best_tau": values[best]._asdict(),
        "not_told_from_best": sum(gap.low <= 0 for gap in gaps.values()),
        "cheap": cheap,
        "cheap_tau": values[cheap]._asdict(),
        "cheap_below_best": gaps[cheap]._asdict(),
        "default_tau": values[DEFAULT]._asdict(),
        "default_below_best": gaps[DEFAULT]._asdict(),
        "reference_tau": values[REFERENCE]._asdict(),
    }


def forecasts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Relative error of the forecast, for each number of labels and each task, and for all."""
    told = [row for row in rows if row["forecast"]]
    sizes = list(dict.fromkeys(row["labels"] for row in told))
    tasks = list(dict.fromkeys(row["task"] for row in told))
    parts: list[tuple[str, Callable[[Any], bool]]] = [("all", lambda row: True)] * bool(told)
    parts += [(f"from {n} labels", lambda row, n=n: row["labels"] == n) for n in sizes]
    parts += [(name, lambda row, name=name: row["task"] == name) for name in tasks]
    found = []
    for title, keep in parts:
        mine = [row["forecast"] for row in told if keep(row)]
        measured = np.concatenate([one["measured"] for one in mine])
        errors = {
            key: np.abs(np.concatenate([one[key] for one in mine]) / measured - 1.0)
            for key in ("foretold", "anchored", "leave_one_out")
        }
        found.append(
            {
                "of": title,
                "forecasts": len(measured),
                "median_relative_error": float(np.median(errors["foretold"])),
                "ninth_decile": float(np.quantile(errors["foretold"], 0.9)),
                "anchored": float(np.median(errors["anchored"])),
                "leave_one_out": float(np.median(errors["leave_one_out"])),
                "seconds": float(np.median(np.concatenate([one["seconds"] for one in mine]))),
            }
        )
    return found


def gates(
    lines: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    told: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The targets, with what was measured."""
    found = []
    for name in ALIKE:
        mine = next(one for one in lines if one["ranker"] == name)
        gap = mine["difference"]
        found += [
            {
                "gate": f"{name}: tau less that of cross-validation",
                "wanted": ">= 0",
                "measured": gap["value"],
                "low": gap["low"],
                "high": gap["high"],
                "passed": gap["value"] >= 0,
            },
            _at_most(f"{name}: cost in that of cross-validation", COST, mine["cost"]),
        ]
    for budget in dict.fromkeys(row["budget"] for row in rows):
        mine = cost([row for row in rows if row["budget"] == budget], DEFAULT)
        found.append(_at_most(f"{DEFAULT}: the same at {budget or 'all'} labels", COST, mine))
    if told:
        for key, title in (
            ("median_relative_error", "by the learning curve alone"),
            ("anchored", "by the curve from leave-one-out"),
        ):
            error = told[0][key]
            title = f"median relative error of the forecast {title}"
            found.append(_at_most(title, FORECAST_ERROR, error))
    return found


def interval(found: Mapping[str, float | None], digits: int = 2) -> str:
    """A value with its interval, a dash where it is undefined."""
    if found["value"] is None:
        return "-"
    value, low, high = (f"{found[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _at_most(gate: str, most: float, measured: float) -> dict[str, Any]:
    return {
        "gate": gate,
        "wanted": f"<= {most:g}",
        "measured": measured,
        "passed": measured <= most,
    }

"""Where the theory holds and where it first fails, from the rows; the tables that say so."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.kit.shown import table
from experiments.ntk_predicts_training.settings import (
    CLOSED,
    HEAD,
    INFINITE,
    LINEAR,
    TABLES,
    TOWERS,
    Config,
    Sweep,
    of_setting,
    sweeps,
)
from kernlens.show.table import Table

METRIC = {HEAD: "macro_f1", TOWERS: "auc", TABLES: "auc"}
FIELDS = {
    "width": "width {:g}",
    "rate": "{:g} of the largest learning rate",
    "norm": "starting norm {:g}",
}


def mean(values: Any) -> float | None:
    """The mean, or None where a value is missing."""
    kept = list(values)
    return None if any(v is None for v in kept) else float(np.mean(kept))


def worst(rows: Sequence[Mapping[str, Any]], of: str = CLOSED) -> tuple[Any, Any]:
    """Mean and spread over seeds of the worst error over the steps; None where one diverged."""
    errors = [row["error"][of] for row in rows if of in row["error"]]
    if not errors or any(e is None for error in errors for e in error):
        return None, None
    peaks = [max(error) for error in errors]
    return float(np.mean(peaks)), float(np.std(peaks, ddof=min(1, len(peaks) - 1)))


def broken_at(rows: Sequence[Mapping[str, Any]], threshold: float) -> int | None:
    """The first recorded step at which the mean error over seeds is not below the threshold."""
    for k, step in enumerate(rows[0]["steps"]):
        errors = [row["error"][CLOSED][k] for row in rows]
        if any(e is None for e in errors) or not np.mean(errors) < threshold:
            return step
    return None


def summarise(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each sweep: the error of every setting, where the theory holds and where it first fails."""
    found = []
    for sweep in sweeps(config):
        lines, metric = [], METRIC[sweep.settings[0].part]
        for setting in sweep.settings:
            mine = of_setting(rows, setting)
            error, spread = worst(mine)
            lines.append(
                {
                    "value": getattr(setting, sweep.field),
                    "error": error,
                    "spread": spread,
                    "broken_at": broken_at(mine, config.threshold),
                    "linear_error": worst(mine, LINEAR)[0],
                    "infinite_error": worst(mine, INFINITE)[0],
                    "ensemble_error": mine[0]["ensemble"]["error"][-1],
                    "ensemble_noise": mine[0]["ensemble"]["noise"][-1],
                    "feature_change": mean(row["feature_change"] for row in mine),
                    "kernel_change": mean(row["kernel_change"] for row in mine),
                    "trained": [row["trained"][metric][-1] for row in mine],
                    "predicted": [row["predicted"][metric][-1] for row in mine],
                    "loss_left": mean(row["trained"]["train_loss"][-1] for row in mine),
                }
            )
        broken = next((line for line in lines if line["broken_at"] is not None), None)
        found.append(
            {
                "sweep": sweep.title,
                "field": sweep.field,
                "metric": metric,
                "last_step": sweep.settings[0].steps[-1],
                "threshold": config.threshold,
                "settings": lines,
                "holds": [line["value"] for line in lines if line["broken_at"] is None],
                "first_broken": broken,
                "verdict": verdict(sweep, lines, broken, config.threshold),
            }
        )
    return found


def verdict(
    sweep: Sweep, lines: Sequence[Mapping[str, Any]], broken: Mapping[str, Any] | None, most: float
) -> str:
    """Where the theory holds and where it first fails, in a sentence."""
    last = sweep.settings[0].steps[-1]
    name = FIELDS[sweep.field]
    holds = [f"{line['value']:g}" for line in lines if line["broken_at"] is None]
    where = name.format(0).replace("0", ", ".join(holds), 1)
    kept = f"holds (error < {most:g} to step {last}) at {where}" if holds else "holds at none"
    if broken is None:
        return f"{kept}: nowhere broken"
    if broken["error"] is not None:
        by = f"error up to {broken['error']:.2g}"
    elif broken["loss_left"] is not None:
        by = "the prediction diverges, training does not"
    else:
        by = "training diverges"
    if sweep.settings[0].minibatch and broken["linear_error"] is not None:
        by += f"; the linearised model on the same minibatches {broken['linear_error']:.2g}"
    at = name.format(broken["value"])
    return f"{kept}; first broken at {at}, from step {broken['broken_at']} ({by})"


def tables(results: Mapping[str, Any]) -> list[Table]:
    """A table for each sweep, with its verdict."""

    def number(value: float | None, digits: int = 2) -> str:
        return "diverged" if value is None else f"{value:.{digits}g}"

    def spread(values: Sequence[Any]) -> str:
        if None in values:
            return "diverged"
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"

    return [
        table(
            [
                {
                    sweep["field"]: f"{line['value']:g}",
                    "worst error": number(line["error"])
                    + ("" if line["spread"] is None else f" ± {number(line['spread'])}"),
                    "broken at step": "-" if line["broken_at"] is None else line["broken_at"],
                    "linearised": number(line["linear_error"]),
                    "infinite kernel": number(line["infinite_error"]),
                    "ensemble mean": f"{number(line['ensemble_error'])} "
                    f"({number(line['ensemble_noise'])})",
                    "kernel change": number(line["kernel_change"]),
                    "gradient change": number(line["feature_change"]),
                    "train loss": number(line["loss_left"]),
                    f"{sweep['metric']} trained": spread(line["trained"]),
                    "predicted": spread(line["predicted"]),
                }
                for line in sweep["settings"]
            ],
            title=f"{sweep['sweep']}: {sweep['verdict']}",
        )
        for sweep in results["summary"]
    ]

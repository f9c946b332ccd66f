"""The figure, from the results file alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.ntk_predicts_training.settings import (
    CLOSED,
    HEAD,
    TABLES,
    TOWERS,
    Config,
    of_setting,
    sweeps,
)
from kernlens.metrics import agreement

TOP = 10.0
"""Errors beyond this, and runs that diverged, stand at the top of a panel."""

COLOURS = ("#1f5fa8", "#2a9d8f", "#e9a03b", "#c8553d", "#6d4c8d")


def draw(results: Mapping[str, Any]) -> Any:
    """Where the theory holds and where it breaks, and what it says of losses and metrics."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(14.5, 9.2), layout="constrained", dpi=150)
    axes = made.subplots(2, 3)
    found = {sweep["sweep"]: sweep for sweep in results["summary"]}
    head, tables = f"{HEAD}, squared error", f"{TABLES}, squared error"
    towers = [name for name in found if name.startswith(f"{TOWERS} of width")]
    _errors_by_width(axes[0, 0], found, [head, f"{HEAD}, cross-entropy"])
    _errors_by_rate(axes[0, 1], found, [*towers, f"{TABLES} of norm"])
    _errors_by_step(axes[0, 2], results, tables)
    _curves(axes[1, 0], results, head, "macro_f1", "macro-F1 on test items")
    _feature_learning(axes[1, 1], results)
    _curves(axes[1, 2], results, tables, "train_loss", "squared error on training triplets")
    threshold = results["config"]["threshold"]
    for ax in (*axes[0], axes[1, 1]):
        ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", zorder=0)
        ax.set_yscale("log")
        ax.set_ylim(1e-3, 1.3 * TOP)
    for ax in axes.flat:
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=7.5, frameon=False)
    made.suptitle(
        "Training predicted by the tangent kernel at the start: relative error of test outputs, "
        f"broken from {threshold:g} (dotted); {TOP:g} or diverged at the top",
        fontsize=12,
    )
    return made


def _capped(values: Sequence[float | None]) -> np.ndarray:
    return np.array([TOP if v is None else min(v, TOP) for v in values])


def _title(ax: Any, title: str, *notes: str) -> None:
    ax.set_title("\n".join((title, *notes)), fontsize=8)


def _short(sweep: Mapping[str, Any]) -> str:
    """Where a sweep holds and breaks, as the line under a heading."""
    kept = ", ".join(f"{value:g}" for value in sweep["holds"])
    holds = f"holds at {sweep['field']} {kept}" if kept else "holds nowhere"
    broken = sweep["first_broken"]
    if broken is None:
        return holds
    return f"{holds}; broken at {broken['value']:g} from step {broken['broken_at']}"


def _errors_by_width(ax: Any, found: Mapping[str, Any], names: Sequence[str]) -> None:
    notes = []
    for name, colour, marker in zip(names, COLOURS[::3], "os", strict=False):
        if name not in found:
            continue
        lines = found[name]["settings"]
        x = [line["value"] for line in lines]
        y = _capped([line["error"] for line in lines])
        spread = [line["spread"] or 0.0 for line in lines]
        loss = name.partition(", ")[2]
        ax.errorbar(
            x, y, np.minimum(spread, 0.9 * y), color=colour, marker=marker, capsize=3,
            label=f"{loss}: own kernel",
        )  # fmt: skip
        y = _capped([line["infinite_error"] for line in lines])
        ax.plot(
            x, y, color=colour, marker=marker, fillstyle="none", linestyle="--", linewidth=1,
            label=f"{loss}: infinite kernel",
        )  # fmt: skip
        notes.append(f"{loss}: {_short(found[name])}")
    lines = found[names[0]]["settings"]
    if lines[0]["error"] is not None:
        widths = np.array([line["value"] for line in lines], float)
        guide = lines[0]["error"] * (widths / widths[0]) ** -0.5
        ax.plot(widths, guide, color="0.7", linewidth=1, zorder=0, label="1/√width")
    ax.set_xscale("log", base=2)
    ax.set_xlabel("hidden units", fontsize=9)
    ax.set_ylabel("relative error, worst step, mean ± sd over seeds", fontsize=9)
    _title(ax, f"(a) {HEAD} on a frozen embedding", *notes)


def _errors_by_rate(ax: Any, found: Mapping[str, Any], names: Sequence[str]) -> None:
    chosen = [name for name in found if any(name.startswith(start) for start in names)]
    notes = []
    for name, colour in zip(chosen, COLOURS, strict=False):
        lines = found[name]["settings"]
        y = _capped([line["error"] for line in lines])
        spread = np.minimum([line["spread"] or 0.0 for line in lines], 0.9 * y)
        spread = np.where(y < TOP, spread, 0.0)
        style = "--" if name.startswith(TABLES) else "-"
        ax.errorbar(
            [line["value"] for line in lines], y, spread, color=colour, marker="o", capsize=3,
            linestyle=style, label=name,
        )  # fmt: skip
    for name in chosen[:1]:
        notes.append(f"{name}: {_short(found[name])}")
    ax.axvline(1.0, color="0.4", linewidth=1, zorder=0)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate / bound 2N/λmax of the kernel at the start", fontsize=9)
    ax.set_ylabel("relative error, worst step, mean ± sd over seeds", fontsize=9)
    _title(ax, f"(b) {TOWERS} recommender, and the learning rate", *notes)


def _rows_of(results: Mapping[str, Any], name: str) -> list[tuple[Any, list[Mapping[str, Any]]]]:
    """The settings of a sweep: the value swept, and its rows."""
    config = Config(**{k: _tuples(v) for k, v in results["config"].items()})
    sweep = next(sweep for sweep in sweeps(config) if sweep.title == name)
    return [
        (getattr(setting, sweep.field), of_setting(results["rows"], setting))
        for setting in sweep.settings
    ]


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _errors_by_step(ax: Any, results: Mapping[str, Any], name: str) -> None:
    for (norm, rows), colour in zip(_rows_of(results, name), COLOURS, strict=False):
        errors = np.array([_capped(row["error"][CLOSED]) for row in rows])
        ax.plot(rows[0]["steps"], errors.mean(0), color=colour, marker="o", label=f"norm {norm:g}")
        ax.fill_between(
            rows[0]["steps"], errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0
        )
    sweep = next(sweep for sweep in results["summary"] if sweep["sweep"] == name)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("steps of gradient descent", fontsize=9)
    ax.set_ylabel("relative error, mean and range over seeds", fontsize=9)
    _title(ax, f"(c) {TABLES} itself, by the norm of its vectors at the start", _short(sweep))


def _curves(ax: Any, results: Mapping[str, Any], name: str, metric: str, label: str) -> None:
    """Trained and predicted, over steps, for the first, middle and last setting of a sweep."""
    every = _rows_of(results, name)
    picked = dict.fromkeys((0, len(every) // 2, len(every) - 1))
    field = next(sweep["field"] for sweep in results["summary"] if sweep["sweep"] == name)
    for k, colour in zip(picked, COLOURS[::2], strict=False):
        value, rows = every[k]
        steps = rows[0]["steps"]
        for which, style in (("trained", "-"), ("predicted", "--")):
            curves = np.array([row[which][metric] for row in rows], float)
            ax.plot(
                steps, curves.mean(0), color=colour, linestyle=style, marker="o", markersize=3,
                label=f"{field} {value:g}, {which}",
            )  # fmt: skip
            if which == "trained":
                ax.fill_between(
                    steps, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0
                )
    ax.set_xscale("log", base=2)
    ax.set_xlabel("steps of gradient descent", fontsize=9)
    ax.set_ylabel(f"{label}, mean and range", fontsize=9)
    if metric.endswith("loss"):
        ax.set_yscale("log")
    part = name.partition(",")[0]
    _title(ax, f"{part}: trained (full) and predicted (dashed)")


def _feature_learning(ax: Any, results: Mapping[str, Any]) -> None:
    for part, colour, marker in zip((HEAD, TOWERS, TABLES), COLOURS[::2], "o^s", strict=False):
        rows = [
            row
            for row in results["rows"]
            if row["part"] == part and row["feature_change"] is not None
        ]
        ax.scatter(
            [row["feature_change"] for row in rows],
            _capped([_last(row) for row in rows]),
            s=22, color=colour, marker=marker, edgecolor="white", linewidth=0.4, label=part,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlabel("change of the gradients in training, ‖J_T − J_0‖ / ‖J_0‖", fontsize=9)
    ax.set_ylabel("relative error at the last step", fontsize=9)
    ranked = [row for row in results["rows"] if row["feature_change"] is not None]
    rho = agreement.spearman(
        np.array([row["feature_change"] for row in ranked]),
        _capped([_last(row) for row in ranked]),
    )
    _title(ax, f"Error and feature learning, every run: Spearman {rho:.2f}")


def _last(row: Mapping[str, Any]) -> float | None:
    return row["error"][CLOSED][-1]

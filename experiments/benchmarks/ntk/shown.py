"""Measurements of tangent kernels as tables and a figure."""

from collections.abc import Mapping
from typing import Any

from experiments.benchmarks.ntk.gates import AUTO, OURS, PEER, RESOLUTION, median


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in shown else shown


def draw(results: Mapping[str, Any]) -> Any:
    """Time and memory of every method that finished, a line for each task."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    rows = [row for row in results["rows"] if not row["failed"]]
    tasks = list(dict.fromkeys((row["task"], row["dtype"]) for row in results["rows"]))
    several = len({dtype for _, dtype in tasks}) > 1
    methods = list(dict.fromkeys((row["by"], row["method"]) for row in results["rows"]))
    made = Figure(figsize=(11, 1.6 + 0.38 * len(tasks)), layout="constrained", dpi=150)
    axes = made.subplots(1, 2, sharey=True)
    panels = (
        ("milliseconds, median", lambda row: median(row)),
        (
            "MB at the peak, output included",
            lambda row: None if row["bytes"] is None else max(row["bytes"], RESOLUTION) / 1e6,
        ),
    )
    marks = {OURS: "osDv", PEER: "^<>x"}
    colours = {OURS: ("#1f5fa8", "#7aa6d6", "#a9c4e2", "#ccdcee"), PEER: ("#c8553d",) * 4}
    for ax, (label, value) in zip(axes, panels, strict=True):
        for by, method in methods:
            order = [m for side, m in methods if side == by].index(method)
            mine = [row for row in rows if (row["by"], row["method"]) == (by, method)]
            drawn = [(value(row), tasks.index((row["task"], row["dtype"]))) for row in mine]
            drawn = [(x, y) for x, y in drawn if x is not None]
            if drawn:
                x, y = zip(*drawn, strict=True)
                ax.scatter(
                    x, y, s=60 if method == AUTO else 26, marker=marks[by][order % 4],
                    color=colours[by][order % 4], label=f"{by}: {method}",
                    zorder=3 if method == AUTO else 2,
                )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label, fontsize=9)
        ax.set_yticks(range(len(tasks)))
        ax.set_yticklabels([f"{t}, {d}" if several else t for t, d in tasks], fontsize=8)
        ax.set_ylim(len(tasks) - 0.5, -0.5)
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return made

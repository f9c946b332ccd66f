"""Measurements of tangent kernels as tables and a figure."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.ntk_limits.gates import AUTO, OURS, PEER, RESOLUTION, median, without_output
from kernlens.show import report


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in shown else shown


def show(results: Mapping[str, Any]) -> list[Any]:
    """The measurements, the ratios and the gates."""

    def got(text: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: "" if row["failed"] else text(row)

    def megabytes(value: float | None) -> str:
        return number(None if value is None else value / 1e6)

    def spread(row: Mapping[str, Any]) -> str:
        return f"{number(min(row['milliseconds']))}–{number(max(row['milliseconds']))}"

    rows = [
        report.Column("task", lambda row: row["task"], right=False),
        report.Column("type", lambda row: row["dtype"], right=False),
        report.Column("n", lambda row: str(row["n"])),
        report.Column("by", lambda row: f"{row['by']} {row['method']}", right=False),
        report.Column("ms", lambda row: row["failed"] or number(median(row))),
        report.Column("least–most", got(spread)),
        report.Column("MB", got(lambda row: megabytes(row["bytes"]))),
        report.Column("less output", got(lambda row: megabytes(without_output(row)))),
        report.Column("output", got(lambda row: megabytes(row["output_bytes"]))),
        report.Column("difference", got(lambda row: number(row["difference"], 2))),
        report.Column("trace s", got(lambda row: number(row["trace_seconds"], 2))),
        report.Column("compile s", got(lambda row: number(row["compile_seconds"], 2))),
    ]
    ratios = [
        report.Column("task", lambda row: row["task"], right=False),
        report.Column("type", lambda row: row["dtype"], right=False),
        report.Column("auto, ms", lambda row: number(row["milliseconds"])),
        report.Column("against", lambda row: row["against"] or "none finished", right=False),
        report.Column("time, ×", lambda row: number(row["time"])),
        report.Column("memory, ×", lambda row: number(row["memory"])),
        report.Column("with output, ×", lambda row: number(row["memory_with_output"])),
        report.Column("default's time, ×", lambda row: number(row["default"])),
        report.Column("difference", lambda row: number(row["difference"], 2)),
    ]
    verdicts = {True: "pass", False: "FAIL", None: "not judged"}
    gates = [
        report.Column("gate", lambda row: row["gate"], right=False),
        report.Column("wanted", lambda row: row["wanted"]),
        report.Column("measured", lambda row: number(row["measured"])),
        report.Column("", lambda row: verdicts[row["passed"]], right=False),
    ]
    summary = results["summary"]
    return [
        report.table(results["rows"], rows, "Every method, a process each"),
        report.table(summary["ratios"], ratios, "kernlens' auto against the fastest other"),
        report.table(summary["gates"], gates, "Gates"),
    ]


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

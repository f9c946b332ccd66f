"""Tables and the figure, from the results file alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.scores.exact import CONDITIONS
from experiments.benchmarks.scores.settings import Config, median

VERDICTS = {True: "pass", False: "short", None: ""}


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every limit with what was measured, those of float64 in one; the range of matmul rates."""
    keys = ("part", "what", "measured", "unit", "wanted", "passed")
    exact = [row for row in rows if row["part"] == "float64"]
    gates = [
        {key: row[key] for key in keys} for row in rows if "passed" in row and row not in exact
    ]
    if exact:
        short = [row["what"] for row in exact if not row["passed"]]
        worst = max((row["measured"] for row in exact), key=lambda e: np.inf if e is None else e)
        kept = f"{len(exact) - len(short)} of {len(exact)} scores under every condition; worst"
        gates.append({**{key: exact[0][key] for key in keys}, "what": kept, "measured": worst})
        gates[-1] |= {"passed": not short, "short": short}
    rates = [rate for row in rows for rate in row.get("matmul_gflops", ())]
    return {"gates": gates, "matmul_gflops": [min(rates), max(rates)] if rates else None}


def number(value: float | None) -> str:
    """Three significant digits; a dash for what could not be measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def milliseconds(seconds: Sequence[float] | None) -> str:
    """Median and extremes."""
    if not seconds:
        return ""
    low, middle, high = (number(1e3 * of(seconds)) for of in (min, median, max))
    return f"{middle} ({low}–{high})"


def error_text(error: float | None) -> str:
    """A relative difference to two digits."""
    return "–" if error is None else f"{error:.1e}"


def draw(results: Mapping[str, Any]) -> Any:
    """How far within its limit everything is, and every score's difference from float64."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    gates = [row for row in results["summary"]["gates"] if row["measured"]]
    exact = [row for row in results["rows"] if row["part"] == "float64"]
    made = Figure(
        figsize=(15, 1.2 + 0.2 * max(len(gates), len(exact), 8)), layout="constrained", dpi=130
    )
    left, right = made.subplots(1, 2)
    for at, row in enumerate(gates):
        sign, bound = row["wanted"].split()
        ratio = row["measured"] / float(bound)
        within = ratio if sign == "≥" else 1.0 / ratio
        left.plot([1.0, within], [at, at], color="0.8", zorder=1)
        left.scatter(within, at, color="#1f5fa8" if row["passed"] else "#c8553d", s=30, zorder=2)
    left.set_yticks(range(len(gates)), [f"{row['part']}: {row['what']}" for row in gates])
    left.set_xlabel("times better than the limit; red: short of it")
    left.axvline(1.0, color="0.3", linewidth=0.8)
    for key, marker in zip(CONDITIONS, "osD^vP", strict=True):
        drawn = [(row["errors"][key], at) for at, row in enumerate(exact) if row["errors"][key]]
        if drawn:
            x, y = zip(*drawn, strict=True)
            right.scatter(x, y, s=16, marker=marker, label=key, alpha=0.8, zorder=2)
    right.set_yticks(range(len(exact)), [row["what"] for row in exact])
    right.set_xlabel("relative difference from float64")
    right.axvline(1e-5, color="0.3", linewidth=0.8)
    if exact:
        right.legend(fontsize=7, frameon=False)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.invert_yaxis()
        ax.tick_params(labelsize=7)
        ax.grid(color="0.93", axis="x", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return made

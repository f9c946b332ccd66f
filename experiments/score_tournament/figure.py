"""The figure, from the results file alone."""

from collections.abc import Mapping
from typing import Any

from experiments.score_tournament.rankers import BLIND, PROBES, SCORED, TRAINED, TRIVIAL
from experiments.score_tournament.settings import DEFAULT, REFERENCE
from experiments.score_tournament.summary import COST

COLOURS = {
    PROBES: "#1f5fa8",
    SCORED: "#2a9d8f",
    BLIND: "#e9a03b",
    TRIVIAL: "#9a9a9a",
    TRAINED: "#c8553d",
}


def draw(results: Mapping[str, Any]) -> Any:
    """Tau of every ranker over each family of embeddings, what its first costs, and its time."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    lines = results["summary"]["rankers"][::-1]
    families = list(dict.fromkeys(row["family"] for row in results["rows"]))
    panels: list[tuple[str, list[Any]]] = [
        (
            f"Kendall τ with held-out accuracy\n{family}",
            [one["slices"][family]["tau"] if len(families) > 1 else one["tau"] for one in lines],
        )
        for family in families
    ]
    panels.append(("regret of the first, points of accuracy\nall", [o["regret"] for o in lines]))
    made = Figure(
        figsize=(4.0 * (len(panels) + 1) + 1.0, 0.23 * len(lines) + 2.0),
        layout="constrained",
        dpi=150,
    )
    axes = made.subplots(1, len(panels) + 1, sharey=True, squeeze=False)[0]
    places = range(len(lines))
    colours = [COLOURS[one["group"]] for one in lines]
    for ax, (title, values) in zip(axes, panels, strict=False):
        for place, value, colour in zip(places, values, colours, strict=True):
            if value["value"] is None:
                continue
            ax.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=1.4)
            ax.plot(value["value"], place, "o", color=colour, markersize=5)
        ax.set_title(title, fontsize=10)
    reference = next(k for k, one in enumerate(lines) if one["ranker"] == REFERENCE)
    for ax, (_, values) in zip(axes, panels, strict=False):
        ax.axvline(values[reference]["value"], color=COLOURS[TRAINED], linewidth=0.8, linestyle=":")
    for place, one, colour in zip(places, lines, colours, strict=True):
        if one["cost"] > 0:
            axes[-1].plot(one["cost"], place, "o", color=colour, markersize=5)
    axes[-1].set_xscale("log")
    for at in (1.0, COST):
        axes[-1].axvline(at, color=COLOURS[TRAINED], linewidth=0.8, linestyle=":")
    axes[-1].set_title("seconds, warm,\nin those of cross-validation", fontsize=10)
    axes[0].set_yticks(list(places), [one["ranker"].replace("_", " ") for one in lines])
    axes[0].set_ylim(-0.7, len(lines) - 0.3)
    for label, one in zip(axes[0].get_yticklabels(), lines, strict=True):
        label.set_color(COLOURS[one["group"]])
        if one["ranker"] in (DEFAULT, REFERENCE):
            label.set_fontweight("bold")
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    for group, colour in COLOURS.items():
        axes[0].plot([], [], "o-", color=colour, label=group)
    made.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False,
        fontsize=9,
    )  # fmt: skip
    level = results["config"]["level"]
    made.suptitle(
        f"Which score to trust: {results['summary']['contexts']} contexts of task, labels, split "
        f"and head; {level:.0%} intervals over embeddings; dotted: five-fold cross-validated "
        "logistic regression",
        fontsize=11,
    )
    return made

"""The figure: predicted against trained, from the results file alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.predicts_value.settings import HEADS

PANELS = ("logistic", "MLP(32)", "k-NN", "class means")
"""Heads with a panel of their own; the others of a kind are drawn with them."""

WITH = {
    "logistic, C = 1": "logistic", "MLP(256)": "MLP(32)", "cosine": "class means",
    "kernel SVM": "MLP(32)",
}  # fmt: skip
"""The panel of the other heads."""

TITLES = {
    "logistic": "linear heads", "MLP(32)": "MLPs and kernel SVM", "k-NN": "k-NN",
    "class means": "class means and cosine",
}  # fmt: skip

FAMILIES = {
    "CJ": ("Complete Journey, behaviour", "#1f5fa8"),
    "text": ("Complete Journey, text", "#c8553d"),
    "ML": ("MovieLens-1M", "#2a9d8f"),
    "Fashion": ("Fashion-MNIST", "#8e5ea2"),
    "other": ("tables, digits, synthetic", "#e9a03b"),
}
"""Name and colour of each family of sets."""


def family(name: str) -> str:
    """The family of a set."""
    if "text" in name:
        return "text"
    return next((key for key in ("CJ", "ML", "Fashion") if name.startswith(key)), "other")


def draw(results: Mapping[str, Any]) -> Any:
    """Predicted against trained macro-F1, a panel for each kind of head.

    Filled points are natural embeddings, rings damaged ones; bars are 90% intervals of one
    training.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(11.5, 3.7), layout="constrained", dpi=160)
    axes = made.subplots(1, len(PANELS), sharey=True)
    seen: dict[str, Any] = {}
    for ax, panel in zip(axes, PANELS, strict=True):
        gaps = []
        for row in results["rows"]["contexts"]:
            if not row["judged"]:
                continue
            label, colour = FAMILIES[family(row["set"])]
            natural = row["damage"] == "natural"
            for head in HEADS:
                own = row["heads"].get(head, {}).get("macro_f1", {})
                if WITH.get(head, head) != panel or "predicted" not in own:
                    continue
                trained = own["trained"]
                if natural:
                    gaps.append(abs(own["predicted"] - trained))
                    ax.plot(
                        [trained] * 2, [own["low"], own["high"]], color=colour, lw=0.7, alpha=0.3
                    )
                (mark,) = ax.plot(
                    trained, own["predicted"], "o", ms=4.0 if natural else 3.0, color=colour,
                    mfc=colour if natural else "none", mew=0.7, alpha=0.9 if natural else 0.6,
                )  # fmt: skip
                if natural:
                    seen.setdefault(label, mark)
        ax.plot([0, 1], [0, 1], color="0.4", lw=0.8, ls=":", zorder=0)
        error = f"mean absolute error {np.mean(gaps):.3f}" if gaps else ""
        ax.set_title(f"{TITLES[panel]}\n{error}", fontsize=9.5)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("trained macro-F1", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(color="0.94")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("predicted macro-F1", fontsize=9)
    handles = [*seen.values(), *axes[0].plot([], [], "o", ms=3, mfc="none", color="0.4")]
    made.legend(
        handles, [*seen, "damaged"], loc="outside lower center", ncols=6, frameon=False, fontsize=9
    )
    return made

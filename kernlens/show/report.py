"""Results on disk: JSON, text and figures; :mod:`kernlens.show.page` writes pages."""

import io as text_io
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from kernlens.files import write_atomically
from kernlens.show.values import to_json

TITLE_WIDTH = 46
"""Letters of a panel's heading on one line, so that it does not run into what stands beside it."""


def console() -> Console:
    """A console as wide as the terminal, and wide enough for any table where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=160, highlight=False)


def write_json(path: str | Path, value: Any) -> None:
    """Writes the value as JSON, aside first and then renamed."""
    write_atomically(path, json.dumps(to_json(value), indent=1, ensure_ascii=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes the text, aside first and then renamed."""
    write_atomically(path, text)


class Panel(NamedTuple):
    """One predictor against one trained metric.

    Attributes:
      title: heading.
      x: predicted or scored value of each embedding, ``[m]``.
      x_label: what it is.
      y: trained value, ``[m]``.
      y_label: what it is.
      colour: a value for the colour scale, ``[m]``.
      x_interval: lower and upper ends, each ``[m]``, or None.
      y_spread: standard deviation of the trained value between seeds, ``[m]``, or None.
      same_unit: whether prediction and outcome share a unit, so that the diagonal means something.
      note: a second line under the heading.
      names: a name to set beside each point, or none at all.
    """

    title: str
    x: np.ndarray
    x_label: str
    y: np.ndarray
    y_label: str
    colour: np.ndarray
    x_interval: tuple[np.ndarray, np.ndarray] | None = None
    y_spread: np.ndarray | None = None
    same_unit: bool = False
    note: str = ""
    names: Sequence[str] = ()


def figure(panels: Sequence[Panel], colour_label: str, *, columns: int = 3, title: str = "") -> Any:
    """Scatter panels with a shared colour scale, as a matplotlib Figure.

    Raises:
      ValueError: matplotlib is not installed; the message names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    made = Figure(figsize=(4.2 * columns + 1.0, 3.9 * lines + 0.5), layout="constrained", dpi=150)
    if title:
        made.suptitle(title, fontsize=12, fontweight="bold")
    colours = np.concatenate([panel.colour for panel in panels])
    limits = {"vmin": float(colours.min()), "vmax": float(colours.max()), "cmap": "viridis_r"}
    drawn = None
    axes = []
    for i, panel in enumerate(panels):
        ax = made.add_subplot(lines, columns, i + 1)
        axes.append(ax)
        if panel.same_unit:
            ends = [
                min(panel.x.min(), panel.y.min()),
                max(panel.x.max(), panel.y.max()),
            ]
            ax.plot(ends, ends, color="0.6", linewidth=1, linestyle="--", zorder=0)
        errors: dict[str, Any] = {}
        if panel.x_interval is not None:
            low, high = panel.x_interval
            errors["xerr"] = np.maximum([panel.x - low, high - panel.x], 0)
        if panel.y_spread is not None:
            errors["yerr"] = panel.y_spread
        if errors:
            ax.errorbar(
                panel.x, panel.y, fmt="none", ecolor="0.75", elinewidth=0.8, zorder=1, **errors
            )
        drawn = ax.scatter(
            panel.x, panel.y, c=panel.colour, s=28, zorder=2, edgecolor="white", linewidth=0.4,
            **limits,
        )  # fmt: skip
        right = panel.x.max() + panel.x.min()
        for name, x, y in zip(panel.names, panel.x, panel.y, strict=bool(panel.names)):
            # set towards the middle, so that no name runs out of its panel
            side = (6, "left") if 2 * x <= right else (-6, "right")
            ax.annotate(
                name, (x, y), (side[0], 4), textcoords="offset points", ha=side[1], fontsize=7.5
            )
        heading = [*textwrap.wrap(panel.title, TITLE_WIDTH), panel.note]
        ax.set_title("\n".join(filter(None, heading)), fontsize=10)
        ax.set_xlabel(panel.x_label, fontsize=9)
        ax.set_ylabel(panel.y_label, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    if drawn is not None:
        bar = made.colorbar(drawn, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label(colour_label, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return made


def write_figure(path: str | Path, made: Any) -> None:
    """Writes a matplotlib Figure in the format of the suffix, aside first and then renamed."""
    path = Path(path)
    buffer = text_io.BytesIO()
    # No date in the file: the same figure is then the same bytes.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    made.savefig(buffer, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, buffer.getvalue())

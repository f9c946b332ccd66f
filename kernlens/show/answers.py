"""A comparison of embeddings as the terminal and as JSON show it."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from kernlens import io, lens
from kernlens.probes import LOG_LOSS, METRICS, Difference, value_of

MIN_WIDTH = 80
FIXED_WIDTH = 66
METRIC_WIDTH = 23
"""Characters of a table, at least; of its columns but the metrics, and of a metric with its
interval, where all stand on one line."""

_ENDS = ("value", "low", "high")

STYLES = {lens.BEST: "bold green", lens.TIED: "yellow", lens.WORSE: "dim"}


def table(found: lens.Comparison, width: int) -> Table:
    """The comparison as a table; on a narrow terminal, intervals stand under their values.

    Args:
      found: the comparison.
      width: of the terminal, in characters, at least :data:`MIN_WIDTH`.
    """
    shown = ["macro_f1", "accuracy"]
    if found.metric not in (*shown, "micro_f1"):  # micro-F1 is the accuracy
        shown.append(found.metric)
    joint = " " if width >= FIXED_WIDTH + METRIC_WIDTH * len(shown) else "\n"
    if joint == "\n":
        shown = shown[-2:]
    made = _empty_table()
    made.add_column("d", justify="right", no_wrap=True)
    for metric in shown:
        made.add_column(
            lens.METRIC_TITLES[metric].replace(" ", joint), justify="right", no_wrap=True
        )
    made.add_column(f"difference{joint}to best", justify="right", no_wrap=True)
    made.add_column("verdict", min_width=8)
    best = found.entries[0].name
    for entry in found.entries:
        cells = [
            f"{value:.3f}{joint}[{low:.3f}, {high:.3f}]"
            for value, low, high in (value_of(entry.prediction, metric) for metric in shown)
        ]
        gap = found.differences.get((entry.name, best))
        cells.append(
            "" if gap is None else f"{gap.value:+.3f}{joint}[{gap.low:+.3f}, {gap.high:+.3f}]"
        )
        verdict = Text(entry.verdict, style=STYLES[entry.verdict])
        made.add_row(entry.name, str(entry.dim), *cells, verdict)
    return made


def _empty_table() -> Table:
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    made.add_column("embedding", overflow="fold", min_width=9)
    return made


def standing_table(standing: lens.Standing) -> Table:
    """A score of every embedding, and whether it separates them from the best."""
    made = _empty_table()
    made.add_column(standing.score, justify="right")
    made.add_column("by chance", justify="right", no_wrap=True)
    made.add_column("difference to best", justify="right")
    made.add_column("verdict", min_width=8)
    for name, found in standing.intervals.items():
        gap = standing.differences.get(name)
        verdict = lens.BEST if gap is None else lens.WORSE if gap.separated else lens.TIED
        made.add_row(
            name,
            f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]",
            "" if found.null is None else f"{found.null:.3g}",
            "" if gap is None else f"{gap.value:+.3g} [{gap.low:+.3g}, {gap.high:+.3g}]",
            Text(verdict, style=STYLES[verdict]),
        )
    return made


def notes(
    joined: io.Joined, dropped: dict[str, np.ndarray], found: lens.Comparison, seconds: float
) -> str:
    """What the rows were, the floor, and the time.

    Args:
      joined: the rows.
      dropped: ids of the rows left out because they were not finite, by embedding.
      found: the comparison.
      seconds: wall time.
    """
    prediction = found.entries[0].prediction
    counts = np.bincount(prediction.target)
    largest = prediction.class_names[int(np.argmax(counts))]
    rows = len(joined.labels.codes)
    line = f"{rows:,} rows joined"
    if rows > len(prediction.target):
        line += f", {rows - len(prediction.target):,} of them without a label"
    line += f"; {np.count_nonzero(counts)} classes"
    left = {**joined.unjoined, "the labels": joined.unjoined_labels}
    listed = _listed({name: own.ids for name, own in left.items()})
    line += f"; not joined: {listed or 'none'}"
    if any(map(len, dropped.values())):
        line += f"; not finite: {_listed(dropped)}"
    title = lens.METRIC_TITLES[found.metric]
    floor = (
        f"always answering {largest!r}: macro-F1 {found.baseline.macro_f1:.3f}, "
        f"accuracy {found.baseline.accuracy:.3f}"
    )
    if found.metric == LOG_LOSS:
        floor += f"; answering the shares of the classes: log loss {found.baseline_log_loss:.3f}"
    how = f"ordered by {title}; {found.level:.0%} intervals, over rows; {seconds:.1f} s"
    return f"\n{line}\n{floor}\n{how}"


def _listed(rows: dict[str, np.ndarray]) -> str:
    """How many rows of each file, and the first of them."""
    return ", ".join(
        f"{len(ids):,} of {name} ({io.some(ids, len(ids))})"
        for name, ids in rows.items()
        if len(ids)
    )


def content(
    asked: dict[str, Any],
    files: dict[str, str],
    joined: io.Joined,
    dropped: dict[str, np.ndarray],
    found: lens.Comparison,
    standings: Sequence[lens.Standing],
    seconds: float,
) -> dict[str, Any]:
    """Everything found, in JSON's types.

    Args:
      asked: what the user asked for.
      files: file of each embedding.
      joined: the rows.
      dropped: as in :func:`notes`.
      found: the comparison.
      standings: of the scores.
      seconds: wall time.
    """
    prediction = found.entries[0].prediction
    counts = np.bincount(prediction.target, minlength=len(prediction.class_names))
    best = found.entries[0].name
    entries = [
        {
            "name": entry.name,
            "file": files[entry.name],
            "dim": entry.dim,
            "verdict": entry.verdict,
            "metrics": {
                metric: dict(zip(_ENDS, value_of(entry.prediction, metric), strict=True))
                for metric in METRICS
                if metric != LOG_LOSS or entry.prediction.loss == LOG_LOSS
            },
            "difference_to_best": _difference(found.differences.get((entry.name, best))),
            "difference_to_previous": _difference(
                found.differences.get((entry.name, previous.name)) if i else None
            ),
            "loss": entry.prediction.loss,
            "error": entry.prediction.error,
            "strength": entry.prediction.strength,
            "seconds": entry.seconds,
        }
        for i, (previous, entry) in enumerate(
            zip((found.entries[0], *found.entries), found.entries, strict=False)
        )
    ]
    return {
        "kernlens": version("kernlens"),
        **asked,
        "rows": {
            "joined": len(joined.labels.codes),
            "labelled": len(prediction.target),
            "not_finite": {name: len(ids) for name, ids in dropped.items()},
            "not_joined": {name: own.count for name, own in joined.unjoined.items()},
            "labels_not_joined": joined.unjoined_labels.count,
            "ids": {
                "not_finite": {name: ids.tolist() for name, ids in dropped.items()},
                "not_joined": {name: own.ids.tolist() for name, own in joined.unjoined.items()},
                "labels_not_joined": joined.unjoined_labels.ids.tolist(),
            },
        },
        "classes": {
            name: int(count)
            for name, count in zip(prediction.class_names, counts, strict=True)
            if count
        },
        "baseline": {**found.baseline._asdict(), "log_loss": found.baseline_log_loss},
        "entries": entries,
        "scores": [
            {
                "score": standing.score,
                "best": standing.best,
                "intervals": {name: own._asdict() for name, own in standing.intervals.items()},
                "differences_to_best": {
                    name: _difference(own) for name, own in standing.differences.items()
                },
            }
            for standing in standings
        ],
        "seconds": seconds,
    }


def _difference(found: Difference | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()

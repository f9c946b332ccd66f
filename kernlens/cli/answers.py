"""Answers of the verbs as lines of text and as JSON."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from kernlens import io, lens, metrics
from kernlens.cli.gate import FLIPS, Outcome
from kernlens.cli.given import Given, Rows
from kernlens.probes import LOG_LOSS, TITLES, Prediction
from kernlens.show.table import printable
from kernlens.types import Interval

ASKED = ("labels", "metric", "decoder", "kernel", "probe", "level", "seed")
"""Options that the JSON repeats."""


def of_rows(rows: Rows, prediction: Prediction) -> list[str]:
    """What the rows were, and the floor.

    Args:
      rows: that were read.
      prediction: of classes.
    """
    counts = np.bincount(prediction.target)
    largest = printable(prediction.names[int(np.argmax(counts))])
    floor = metrics.majority(prediction.target)
    line = (
        f"always answering '{largest}': macro-F1 {floor.macro_f1:.3f}, "
        f"accuracy {floor.accuracy:.3f}"
    )
    if prediction.metric == LOG_LOSS:
        line += f"; answering the shares of the classes: log loss {prediction.value.null:.3f}"
    return [joined_line(rows), line]


def joined_line(rows: Rows) -> str:
    """How many rows were joined, and which were left out."""
    joined, codes = rows.joined, rows.joined.labels.codes
    line = f"{len(codes):,} rows joined"
    if np.any(codes < 0):
        line += f", {np.count_nonzero(codes < 0):,} of them without a label"
    line += f"; {len(np.unique(codes[codes >= 0]))} classes"
    left = {**joined.unjoined, "the labels": joined.unjoined_labels}
    listed = _listed({name: own.ids for name, own in left.items()})
    line += f"; not joined: {listed or 'none'}"
    if any(map(len, rows.dropped.values())):
        line += f"; not finite: {_listed(rows.dropped)}"
    return printable(line)


def how(metric: str, level: float, seconds: float) -> str:
    """How the answer was made."""
    return f"ordered by {TITLES[metric]}; {level:.0%} intervals over rows; {seconds:.1f} s"


def comparison(
    config: Given,
    rows: Rows,
    found: lens.Comparison,
    standings: Sequence[lens.Standing],
    seconds: float,
) -> dict[str, Any]:
    """A comparison in full."""
    entries = [
        {
            "name": entry.name,
            "decoder": entry.decoder,
            "file": rows.files[entry.name],
            "dim": entry.dim,
            "verdict": entry.verdict,
            **_numbers(entry.prediction),
            "difference_to_best": _difference(found.to_best(entry)),
            "difference_to_previous": _difference(
                found.differences.get((entry.label, previous.label)) if i else None
            ),
            "seconds": entry.seconds,
        }
        for i, (previous, entry) in enumerate(
            zip((found.best, *found.entries), found.entries, strict=False)
        )
    ]
    return {
        **_head(config, rows),
        **_classes(found.best.prediction),
        "conclusion": found.sentence(),
        "entries": entries,
        "scores": _scores(standings),
        "seconds": seconds,
    }


def prediction(config: Given, rows: Rows, found: Prediction, seconds: float) -> dict[str, Any]:
    """A prediction in full."""
    numbers = _numbers(found)
    return {**_head(config, rows), **_classes(found), **numbers, "seconds": seconds}


def upgrade(
    config: Given, rows: Rows, found: lens.Upgrade, gates: Sequence[Outcome], seconds: float
) -> dict[str, Any]:
    """An upgrade in full."""
    ways = {
        name: {
            **_numbers(way.prediction),
            **{key: getattr(way.flips, key) for key in FLIPS},
            "difference_to_retrained": _difference(way.difference),
            "r2_of_map": way.r2,
            "labels": way.labels,
            "flipped": found.flipped(name),
        }
        for name, way in found.ways.items()
    }
    return {
        **_head(config, rows),
        **_classes(found.before),
        "advised": found.advised,
        "conclusion": found.sentence(),
        "old_version": _numbers(found.before),
        "ways": ways,
        "seed_floor": found.floor,
        "new_items": found.new_items,
        "gates": [
            {"gate": own.gate.text, "value": own.value, "passed": own.passed} for own in gates
        ],
        "warnings": found.warnings,
        "notes": found.notes,
        "seconds": seconds,
    }


def scores(
    config: Given, rows: Rows, standings: Sequence[lens.Standing], seconds: float
) -> dict[str, Any]:
    """Scores in full."""
    return {**_head(config, rows), "scores": _scores(standings), "seconds": seconds}


def _head(config: Given, rows: Rows) -> dict[str, Any]:
    joined = rows.joined
    return {
        "kernlens": version("kernlens"),
        **{name: _asked(getattr(config, name)) for name in ASKED if hasattr(config, name)},
        "files": rows.files,
        "rows": {
            "joined": len(joined.labels.codes),
            "labelled": int(np.count_nonzero(joined.labels.codes >= 0)),
            "not_finite": {name: len(ids) for name, ids in rows.dropped.items()},
            "not_joined": {name: own.count for name, own in joined.unjoined.items()},
            "labels_not_joined": joined.unjoined_labels.count,
            "ids": {
                "not_finite": rows.dropped,
                "not_joined": {name: own.ids for name, own in joined.unjoined.items()},
                "labels_not_joined": joined.unjoined_labels.ids,
            },
        },
    }


def _classes(found: Prediction) -> dict[str, Any]:
    counts = np.bincount(found.target, minlength=len(found.names))
    shares = counts[counts > 0] / len(found.target)
    return {
        "classes": {
            name: int(count) for name, count in zip(found.names, counts, strict=True) if count
        },
        "baseline": {
            **metrics.majority(found.target)._asdict(),
            LOG_LOSS: float(-np.sum(shares * np.log(shares))),
        },
    }


def _numbers(found: Prediction) -> dict[str, Any]:
    return {
        "metrics": found.metrics,
        "loss": found.loss,
        "strength": None if found.path is None else found.path.chosen,
        "notes": found.notes,
    }


def _scores(standings: Sequence[lens.Standing]) -> list[dict[str, Any]]:
    return [
        {
            "score": standing.score,
            "best": standing.best,
            "intervals": standing.intervals,
            "differences_to_best": {
                name: _difference(own) for name, own in standing.differences.items()
            },
        }
        for standing in standings
    ]


def _difference(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else {**found._asdict(), "separated": found.separated}


def _asked(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | tuple) else str(value)


def _listed(rows: dict[str, np.ndarray]) -> str:
    """How many rows of each file, and the first of them."""
    return ", ".join(
        f"{len(ids):,} of {name} ({io.some(ids, len(ids))})"
        for name, ids in rows.items()
        if len(ids)
    )

"""Answers of the verbs as lines of text and as JSON."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from kernlens import io, lens, metrics, targets
from kernlens.cli.gate import FLIPS, Outcome
from kernlens.cli.given import Given, Rows
from kernlens.datasets import NextItems
from kernlens.lens.next_items import title_of
from kernlens.probes import LOG_LOSS, TITLES, Prediction
from kernlens.probes.prediction import ONE
from kernlens.show.table import Table, printable
from kernlens.types import Interval, Labels, MultiLabels

ASKED = ("labels", "target", "separator", "metric", "decoder", "kernel", "probe", "level", "seed")
"""Options that the JSON repeats."""

OF_LOG = ("interactions", "user", "item", "time", "cutoff", "k")
"""Options of next items that the JSON repeats."""

SCHEMA = 1
"""Version of what is written, as ``docs/schema.json`` describes it; raised where a field is removed
or renamed, or means something else."""

TOO_GOOD = 0.9995
"""Macro-F1 that is shown as 1.000."""


class Shown(NamedTuple):
    """What a person is shown of an answer.

    Attributes:
      tables: in the order shown.
      lines: below them.
    """

    tables: Sequence[Table]
    lines: Sequence[str]


def of_prediction(rows: Rows, found: Prediction | lens.NextItemsPrediction) -> Shown:
    """The metrics, the baselines, and what the rows were."""
    if isinstance(found, lens.NextItemsPrediction):
        lines = [found.sentence(), found.heading, printable(rows.told), *found.notes]
        return Shown([found.table()], lines)
    tables = [found.table()] if found.curve is None else [found.table(), found.curve.table()]
    return Shown(tables, [*found.others(), *of_rows(rows, found), *found.notes])


def of_comparison(rows: Rows, found: lens.Comparison | lens.NextItemsComparison) -> Shown:
    """The entries, best first, what follows, the baselines, and what the rows were."""
    if isinstance(found, lens.NextItemsComparison):
        lines = [found.sentence(), found.heading, printable(rows.told), *found.notes]
        return Shown([found.table(), found.baseline_table()], lines)
    notes = dict.fromkeys(note for e in found.entries for note in e.prediction.notes)
    lines = [found.sentence(), *of_rows(rows, found.best.prediction), *notes]
    curve = found.best.prediction.curve
    return Shown([found.table()] if curve is None else [found.table(), curve.table()], lines)


def of_rows(rows: Rows, prediction: Prediction) -> list[str]:
    """What the rows were, what was taken as what, and the baseline that needs no embedding.

    Args:
      rows: that were read.
      prediction: of them.
    """
    lines = [joined_line(rows), printable(rows.told)]
    if isinstance(rows.target, MultiLabels):
        return lines
    if not isinstance(rows.target, Labels):
        floor = ", ".join(
            f"{TITLES[name]} {own.null:.3g}"
            for name, own in prediction.metrics.items()
            if own.null is not None
        )
        return [*lines, f"always answering the mean: {floor}"]
    counts = np.bincount(prediction.target)
    largest = printable(prediction.names[int(np.argmax(counts))])
    floor = metrics.majority(prediction.target)
    line = (
        f"always answering '{largest}': macro-F1 {floor.macro_f1:.3f}, "
        f"accuracy {floor.accuracy:.3f}"
    )
    if prediction.metric == LOG_LOSS:
        line += f"; answering the shares of the classes: log loss {prediction.value.null:.3f}"
    lines.append(line)
    if prediction.metric != LOG_LOSS and prediction.metrics["macro_f1"].value > TOO_GOOD:
        lines.append(
            "a macro-F1 of 1.000 is suspicious: is the label, or what it was made of, among the "
            "dimensions?"
        )
    return lines


def joined_line(rows: Rows) -> str:
    """How many rows were joined, what they are asked, and which were left out."""
    assert rows.joined is not None
    joined, target = rows.joined, rows.joined.labels
    n, known = targets.num_rows(target), len(targets.labelled_rows(target))
    line = f"{n:,} rows joined{' by row number' if joined.by_row else ''}"
    if known < n:
        line += f", {n - known:,} of them without a label"
    if isinstance(target, Labels):
        line += f"; {len(np.unique(target.codes[target.codes >= 0]))} classes"
    elif isinstance(target, MultiLabels):
        line += f"; {len(target.names):,} labels, {target.membership.sum() / known:.1f} a row"
    else:
        line += f"; numbers from {np.nanmin(target):.4g} to {np.nanmax(target):.4g}"
    left = {**joined.unjoined, "the labels": joined.unjoined_labels}
    listed = _listed({name: own.ids for name, own in left.items()})
    line += f"; not joined: {listed or 'none'}"
    if any(map(len, rows.dropped.values())):
        line += f"; not finite: {_listed(rows.dropped)}"
    return printable(line)


def how(metric: str, level: float, seconds: float, *, of_classes: bool = True) -> str:
    """How the answer was made; intervals of one training are those of classes alone."""
    over, title = ONE, TITLES.get(metric)
    if title is None:
        over, title = "users", title_of(metric)
    elif not of_classes:
        over = "held-out rows, all together"
    kind = "intervals of" if over == ONE else "intervals over"
    return f"ordered by {title}; {level:.0%} {kind} {over}; {seconds:.1f} s"


def comparison(
    config: Given,
    rows: Rows,
    found: lens.Comparison | lens.NextItemsComparison,
    standings: Sequence[lens.Standing],
    seconds: float,
) -> dict[str, Any]:
    """A comparison in full."""
    if isinstance(found, lens.NextItemsComparison):
        return {
            **_head(config, rows),
            "conclusion": found.sentence(),
            "entries": [
                {
                    **_entry(rows, entry),
                    **_ranks(entry.ranks),
                    "difference_to_best": _difference(entry.to_best),
                    "difference_to_baseline": _difference(entry.to_baseline),
                    "strength": entry.strength,
                    "seconds": entry.seconds,
                }
                for entry in found.entries
            ],
            "baselines": {name: _ranks(own) for name, own in found.baselines.items()},
            "notes": found.notes,
            "seconds": seconds,
        }
    entries = [
        {
            **_entry(rows, entry),
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


def prediction(
    config: Given, rows: Rows, found: Prediction | lens.NextItemsPrediction, seconds: float
) -> dict[str, Any]:
    """A prediction in full."""
    if isinstance(found, lens.NextItemsPrediction):
        return {
            **_head(config, rows),
            "conclusion": found.sentence(),
            **_ranks(found.ranks),
            "difference_to_baseline": _difference(found.to_baseline),
            "baselines": {name: _ranks(own) for name, own in found.baselines.items()},
            "strength": found.strength,
            "notes": found.notes,
            "seconds": seconds,
        }
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


def diagnosis(config: Given, rows: Rows, found: lens.Diagnosis, seconds: float) -> dict[str, Any]:
    """A diagnosis in full."""
    return {**_head(config, rows), **found.json(), "seconds": seconds}


def scores(
    config: Given, rows: Rows, standings: Sequence[lens.Standing], seconds: float
) -> dict[str, Any]:
    """Scores in full."""
    return {**_head(config, rows), "scores": _scores(standings), "seconds": seconds}


def stability(config: Given, rows: Rows, found: lens.Stability, seconds: float) -> dict[str, Any]:
    """A stability in full: every pair, class and item that moves."""
    decoders = [
        {
            "decoder": own.decoder,
            **{
                name: getattr(own, name)
                for name in ("kappa", "churn", "seed_noise", "seed_kappa", "excess", "metric",
                             "spread", "odd")
            },
            "pairs": [
                {"runs": pair, "kappa": kappa, "churn": churn}
                for pair, (kappa, churn) in own.pairs.items()
            ],
            "classes": found.classes(own.decoder, shown=None).json() if found.names else None,
            "items": None
            if found.rows is None
            else found.items(own.decoder, shown=None).json(),
        }
        for own in found.moves
    ]  # fmt: skip
    distances = [{"runs": pair, **own} for pair, own in found.distances.items()]
    return {
        **_head(config, rows), "conclusion": found.sentence(), "decoders": decoders,
        "distances": distances, "notes": found.notes, "seconds": seconds,
    }  # fmt: skip


def fusion(config: Given, rows: Rows, found: lens.Fusion, seconds: float) -> dict[str, Any]:
    """A fusion in full."""

    def told(own: lens.Fused) -> dict[str, Any]:
        gain = _difference(own.gain)
        return {"name": own.name, "verdict": own.verdict, "gain": gain, **_numbers(own.prediction)}

    return {
        **_head(config, rows), **_classes(found.alone[0].prediction),
        "conclusion": found.sentence(), "verdict": found.verdict,
        "alone": [told(own) for own in found.alone],
        "joined": [told(own) for own in found.joined], "seconds": seconds,
    }  # fmt: skip


def _head(config: Given, rows: Rows) -> dict[str, Any]:
    asked = {name: getattr(config, name) for name in ASKED if hasattr(config, name)}
    if rows.joined is None:
        of_log = {name: getattr(config, name) for name in OF_LOG}
        asked = {name: own for name, own in asked.items() if name != "labels"} | of_log
    return {
        "schema": SCHEMA,
        "kernlens": version("kernlens"),
        **{name: _asked(value) for name, value in asked.items()},
        "files": rows.files,
        "taken": rows.told,
        "warnings": rows.warnings,
        "memory_bytes": rows.needs.size,
        "rows": _rows(rows),
    }


def _rows(rows: Rows) -> dict[str, Any]:
    dropped = {name: len(ids) for name, ids in rows.dropped.items()}
    if rows.joined is None or isinstance(rows.target, NextItems):
        counts = rows.target.notes if isinstance(rows.target, NextItems) else {}
        return {"not_finite": dropped, **counts, "ids": {"not_finite": rows.dropped}}
    joined = rows.joined
    return {
        "joined": targets.num_rows(rows.target),
        "labelled": len(targets.labelled_rows(rows.target)),
        "not_finite": dropped,
        "not_joined": {name: own.count for name, own in joined.unjoined.items()},
        "labels_not_joined": joined.unjoined_labels.count,
        "by_row_number": joined.by_row,
        "ids": {
            "not_finite": rows.dropped,
            "not_joined": {name: own.ids for name, own in joined.unjoined.items()},
            "labels_not_joined": joined.unjoined_labels.ids,
        },
    }


def _classes(found: Prediction) -> dict[str, Any]:
    """Classes or labels with their counts, and the baseline that needs no embedding."""
    if found.target.ndim == 2:
        counts = dict(zip(found.names, found.target.sum(axis=0).tolist(), strict=True))
        return {"labels_of_rows": counts}
    if not found.names:
        return {"baseline": {name: own.null for name, own in found.metrics.items()}}
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


def _entry(rows: Rows, entry: lens.Entry | lens.NextItemsEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "decoder": entry.decoder,
        "file": rows.files[entry.name],
        "dim": entry.dim,
        "verdict": entry.verdict,
    }


def _ranks(found: lens.Ranks) -> dict[str, Any]:
    return {"metrics": found.metrics, "by_target": found.by_target}


def _numbers(found: Prediction) -> dict[str, Any]:
    return {
        "metrics": found.metrics,
        "means": found.means,
        "samples": found.samples,
        "curve": None if found.curve is None else found.curve.json(),
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

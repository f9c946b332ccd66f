"""Answers of the verbs in full, as JSON; ``docs/schema.json`` describes it."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from kernlens import lens, metrics, targets
from kernlens.cli.gate import FLIPS, Outcome
from kernlens.cli.options.given import Given
from kernlens.cli.rows import Rows
from kernlens.probes import LOG_LOSS, Prediction
from kernlens.targets import NextItems
from kernlens.types import Interval

ASKED = ("labels", "target", "separator", "metric", "decoder", "kernel", "probe", "level", "seed")
"""Options that the JSON repeats."""

OF_LOG = ("interactions", "user", "item", "time", "cutoff", "k")
"""Options of next items that the JSON repeats."""

SCHEMA = 1
"""Version of what is written, as ``docs/schema.json`` describes it; raised where a field is removed
or renamed, or means something else."""


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

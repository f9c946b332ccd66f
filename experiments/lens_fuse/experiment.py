"""Does a join of two embeddings gain over the better of them alone, and is it known beforehand?

Pairs of embeddings of the same items are given to ``kernlens.fuse``. Then heads are trained, on
several splits, on either alone and on every join, whose weights and maps are learnt on the training
rows, and the trained gain over the better single embedding is set beside the predicted one.

Target: where the trained gain is beyond .01, the predicted one has its sign in at least 95% of
joins. Nothing was tuned to the outcomes. Other data (--data, --small) have not
been read yet.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.kit import runner, shown
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, table
from experiments.kit.sources import common, identity, later_columns
from experiments.lens_fuse import trained
from experiments.lens_stability import runs as sources
from experiments.lens_stability.runs import Run
from kernlens import lens
from kernlens.metrics.agreement import spearman
from kernlens.models import decoders
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.types import Labels

BEYOND = 0.01
"""Least trained gain, or loss, whose sign is judged."""

LEAST = 0.95
"""Share of signs that must be right."""

HEADS: dict[str, Any] = {
    "LR": decoders.Linear(),
    "class means": decoders.InnerProduct(),
    "k-NN": decoders.Neighbours(10),
}
"""Heads that feel the scales of columns, by name."""


@dataclass(frozen=True)
class Config:
    """The pairs, the labels and the heads."""

    data: str = "complete_journey"
    """A name that kernlens.datasets.load knows; `table` is one of your own, one row an event."""
    root: Path | None = None
    """The folder with the data set's files, or the file of your own table; Complete Journey is
    found where it is installed."""
    labels: tuple[str, ...] = ("department", "brand")
    """Labels of the items."""
    pairs: tuple[str, ...] = ("text", "short")
    """What is joined to item2vec: the words of the text, fewer dimensions, another seed, noise."""
    small: tuple[str, ...] = ()
    """Sets of scikit-learn: two draws of random features of each are joined."""
    heads: tuple[str, ...] = ("LR", "k-NN")
    """Heads that are predicted and trained."""
    most: int = 2500
    """Items at most, drawn among those with a label."""
    splits: int = 4
    """Splits on which heads are trained."""
    min_class_count: int = 100
    """Classes of fewer items are left out."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead; 0 for the real."""
    columns: tuple[str, ...] = later_columns()
    """Columns of your own table, such as user=customer item=sku time=bought_at session=basket
    text=title; by default those with usual names."""


TINY = Config(
    labels=("class",), pairs=("seed", "noise"), small=(), heads=("class means",), splits=2,
    min_class_count=5, synthetic=8000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(config, splits=2, min_class_count=5, most=100)
    for name, known in (("pairs", SECOND), ("heads", HEADS)):
        unknown = [one for one in getattr(config, name) if one not in known]
        if unknown:
            raise ValueError(f"--{name} must be among {', '.join(known)}; got {unknown}")


def _text(items: sources.Items, base: Run) -> np.ndarray:
    return sources.texts(items.text, 1)[0]


def _short(items: sources.Items, base: Run) -> np.ndarray:
    return items.embed(Run(window=2, epochs=3, dim=8))


def _seed(items: sources.Items, base: Run) -> np.ndarray:
    return items.embed(base._replace(seed=1))


def _noise(items: sources.Items, base: Run) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(items.embed(base).shape)


SECOND = {"text": _text, "short": _short, "seed": _seed, "noise": _noise}
"""Second embeddings by name."""


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each pair, label, head and way to join."""
    name = identity(config.data, config.root, config.columns, config.synthetic)
    shared = cells.beside(cells.folder.parents[1] / "lens_runs" / name)
    rows: list[dict[str, Any]] = []
    if config.labels:
        items = sources.items(config, shared)
        missing = [label for label in config.labels if label not in items.labels]
        if missing:
            raise ValueError(f"--labels must be among {sorted(items.labels)}; got {missing}")
        base = sources.families(2, small=bool(config.synthetic))["seed"][0]
        for pair in config.pairs:
            made = functools.cache(
                lambda pair=pair: {"item2vec": items.embed(base), pair: SECOND[pair](items, base)}
            )
            for label in config.labels:
                rows += _rows(config, cells, pair, label, made, items.labels[label])
    for name in config.small:
        drawn, labels = sources.small_set(name, 2)
        made = functools.partial(dict, first=drawn[0], second=drawn[1])
        rows += _rows(config, cells, "draw", name, made, labels)
    return rows


def _rows(
    config: Config, cells: Cells, pair: str, label: str, made: Any, labels: Labels
) -> list[dict[str, Any]]:
    kept = common(labels, config.min_class_count, label)
    known = np.flatnonzero(kept.codes >= 0)
    known = np.sort(np.random.default_rng(0).permutation(known)[: config.most])
    own = common(Labels(kept.codes[known], kept.names), 5, label)
    known, own = known[own.codes >= 0], own._replace(codes=own.codes[own.codes >= 0])
    rows = []
    for head in config.heads:

        def make(head: str = head) -> list[dict[str, Any]]:
            given = {name: np.asarray(x)[known] for name, x in made().items()}
            return judge(given, own, head, config.splits)

        found = cells(f"{pair}, {label}, {head}", make)
        rows += [{"pair": pair, "label": label, "head": head, **row} for row in found]
    return rows


def judge(
    given: Mapping[str, np.ndarray], labels: Labels, head: str, splits: int
) -> list[dict[str, Any]]:
    """A row for each way to join: the gain predicted, and trained."""
    found = lens.fuse(dict(given), labels, decoder=HEADS[head])
    outcome = trained.reached(given, labels, head, splits, found)
    best = max(outcome[name] for name in given)
    return [
        {
            "join": own.name,
            "predicted": own.gain,
            "trained": outcome[own.name] - best,
            "value": own.prediction.value.value,
            "trained_value": outcome[own.name],
            "alone": found.alone[0].prediction.value.value,
            "trained_alone": best,
            "verdict": own.verdict,
        }
        for own in found.joined
    ]


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Signs, errors and coverage, of all joins and by way and head."""
    parts = {"all": rows}
    for key in ("head", "join", "pair"):
        for name in dict.fromkeys(row[key] for row in rows):
            parts[f"{key}: {name}"] = [row for row in rows if row[key] == name]
    found = {name: _told(own) for name, own in parts.items()}
    share = found["all"]["signs"]
    return {"parts": found, "met": None if share is None else share >= LEAST}


def _told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    predicted = np.array([row["predicted"]["value"] for row in rows])
    outcome = np.array([row["trained"] for row in rows])
    ends = np.array([(row["predicted"]["low"], row["predicted"]["high"]) for row in rows])
    large = np.abs(outcome) > BEYOND
    said = np.array([row["verdict"] in (lens.ADDS, lens.LOSES) for row in rows])
    right = np.sign(predicted) == np.sign(outcome)
    return {
        "joins": len(rows),
        "judged": int(large.sum()),
        "signs": float(right[large].mean()) if large.any() else None,
        "said": int((said & large).sum()),
        "said_right": float(right[said & large].mean()) if (said & large).any() else None,
        "error": float(np.mean(np.abs(predicted - outcome))),
        "rank": spearman(predicted, outcome) if len(rows) > 2 else None,
        "held": float(np.mean((ends[:, 0] <= outcome) & (outcome <= ends[:, 1]))),
    }


def tables(results: Mapping[str, Any]) -> list[Table]:
    """By part, and by pair, label and head: the best join."""
    rows = [
        {
            "joins": name, "number": own["joins"], "beyond .01": own["judged"],
            "sign right": shown.number(own["signs"]),
            "of those with a verdict": shown.number(own["said_right"]),
            "mean error": own["error"], "rank correlation": shown.number(own["rank"]),
            "intervals that hold": own["held"],
        }
        for name, own in results["summary"]["parts"].items()
    ]  # fmt: skip
    digits = {
        "sign right": ".2f", "of those with a verdict": ".2f", "mean error": ".4f",
        "rank correlation": ".2f", "intervals that hold": ".2f",
    }  # fmt: skip
    lines = [
        {
            "joined to the first": row["pair"], "label": row["label"], "head": row["head"],
            "way": row["join"], "alone, trained": row["trained_alone"],
            "gain predicted": shown.interval(row["predicted"]), "gain trained": row["trained"],
            "verdict": row["verdict"],
        }
        for row in results["rows"]
    ]  # fmt: skip
    numbers = {"alone, trained": ".3f", "gain predicted": "+.3f", "gain trained": "+.3f"}
    goal = f"sign of the gain where the trained one is beyond {BEYOND}: right in >= {LEAST:.0%}"
    return [
        table(rows, digits, "Gains of macro-F1 over the better single embedding"),
        table(lines, numbers),
        table([{"target": goal, "": MET[results["summary"]["met"]]}]),
    ]


def draw(results: Mapping[str, Any]) -> Any:
    """Gains, predicted against trained, by head."""
    panels = []
    for head in dict.fromkeys(row["head"] for row in results["rows"]):
        mine = [row for row in results["rows"] if row["head"] == head]
        given = [shown.interval(row["predicted"]) for row in mine]
        joins = list(dict.fromkeys(row["join"] for row in results["rows"]))
        panels.append(
            report.Panel(
                head, np.array([own.value for own in given]), "gain predicted",
                np.array([row["trained"] for row in mine]), "gain trained",
                np.array([float(joins.index(row["join"])) for row in mine]),
                (np.array([own.low for own in given]), np.array([own.high for own in given])),
                same_unit=True,
            )
        )  # fmt: skip
    return report.figure(panels, "way to join: " + ", ".join(joins), columns=3)

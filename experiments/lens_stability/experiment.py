"""How much do trained heads differ between pretraining runs, and is it known before training them?

Families of embeddings that differ in one thing (seed, weeks of data, both, dimension, epochs) are
given to ``kernlens.stability``, which trains no convex head; MLPs it trains, fold by fold, and says
so. Then heads are trained on every run, on the same splits, and compared pair by pair: the share of
held-out items that change class (churn) and Cohen's kappa. At first MLPs were predicted by random
features, whose churn beyond that of the seed was .0156 off; that led to training them. Nothing was
tuned on other data (--data, --texts, --small wine breast_cancer).

Targets: of convex heads a mean absolute error of at most .007 of churn and .015 of kappa, and a
rank correlation of at least .95; of an MLP's churn beyond that of its own seed at most .012.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.kit import runner, shown
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, table
from experiments.kit.sources import common, identity, later_columns
from experiments.lens_stability import runs as sources
from experiments.lens_stability import trained
from kernlens import lens, probes
from kernlens.metrics.agreement import spearman
from kernlens.models import decoders
from kernlens.probes.class_means import class_means
from kernlens.show.table import Table
from kernlens.types import Labels

CONVEX = ("LR", "class means", "class means, priors")
MLP = "MLP(32)"
READERS = (*CONVEX, MLP)

TARGETS = {"churn": 0.007, "kappa": 0.015, "rank": 0.95, "excess": 0.012}


@dataclass(frozen=True)
class Config:
    """The families, the labels and the heads."""

    data: str = "complete_journey"
    """A name that kernlens.datasets.load knows; `table` is one of your own, one row an event."""
    root: Path | None = None
    """The folder with the data set's files, or the file of your own table; Complete Journey is
    found where it is installed."""
    labels: tuple[str, ...] = ("department", "product_category", "brand")
    """Labels of the items."""
    families: tuple[str, ...] = (
        "seed", "seed, one epoch", "weeks, one seed", "weeks and seed", "one epoch more",
        "dimension",
    )  # fmt: skip
    """What differs between runs."""
    small: tuple[str, ...] = ("digits",)
    """Sets of scikit-learn, whose runs are draws of random features."""
    texts: int = 0
    """Runs of text embeddings, each of the words of some of the items; 0 for none."""
    runs: int = 4
    """Runs in a family."""
    splits: int = 8
    """Splits on which heads are trained; four of them for an MLP."""
    mlp_labels: tuple[str, ...] = ("department", "digits")
    """Labels and small sets on which MLPs are trained too."""
    mlp_families: tuple[str, ...] = ("seed", "seed, one epoch", "weeks and seed", "random features")
    """Families on which MLPs are trained too."""
    most: int = 4000
    """Items at most, drawn among those with a label."""
    min_class_count: int = 100
    """Classes of fewer items are left out."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead; 0 for the real."""
    columns: tuple[str, ...] = later_columns()
    """Columns of your own table, such as user=customer item=sku time=bought_at session=basket
    text=title; by default those with usual names."""


TINY = Config(
    labels=("class",), families=("seed",), small=(), runs=3, splits=2, mlp_labels=("class",),
    mlp_families=("seed",), min_class_count=5, synthetic=8000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(config, runs=3, splits=2, min_class_count=5, most=100, texts=0)
    known = sources.families(config.runs, small=bool(config.synthetic))
    unknown = [name for name in config.families if name not in known]
    if unknown:
        raise ValueError(f"--families must be among {', '.join(known)}; got {unknown}")


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each family and label, with every head."""
    name = identity(config.data, config.root, config.columns, config.synthetic)
    shared = cells.beside(cells.folder.parents[1] / "lens_runs" / name)
    items = sources.items(config, shared)
    missing = [label for label in config.labels if label not in items.labels]
    if missing:
        raise ValueError(f"--labels must be among {sorted(items.labels)}; got {missing}")
    rows = []
    for family in config.families:
        members = sources.families(config.runs, small=bool(config.synthetic))[family]
        made = functools.cache(lambda members=members: [items.embed(one) for one in members])
        for label in config.labels:
            rows.append(_row(config, cells, family, label, made, items.labels[label]))
    if config.texts:
        made = functools.cache(lambda: sources.texts(items.text, config.texts))
        for label in config.labels:
            rows.append(
                _row(config, cells, "words of some items", label, made, items.labels[label])
            )
    for name in config.small:
        made = functools.cache(functools.partial(sources.small_set, name, config.runs))
        rows.append(
            _row(config, cells, "random features", name, lambda made=made: made()[0], made()[1])
        )
    return rows


def _row(config: Config, cells: Cells, family: str, label: str, made: Any, labels: Labels) -> Any:
    def make() -> dict[str, Any]:
        kept = common(labels, config.min_class_count, label)
        known = np.flatnonzero(kept.codes >= 0)
        known = np.sort(np.random.default_rng(0).permutation(known)[: config.most])
        given = [np.asarray(x)[known] for x in made()]
        own = Labels(kept.codes[known], kept.names)
        mlp = family in config.mlp_families and label in config.mlp_labels
        return judge(given, own, config.splits, mlp=mlp)

    return {"family": family, "label": label, **cells(f"{family}, {label}", make)}


def judge(given: Sequence[np.ndarray], labels: Labels, splits: int, *, mlp: bool) -> dict[str, Any]:
    """What was predicted of some runs, and what trained heads show."""
    found: dict[str, Any] = {"rows": len(labels.codes), "classes": len(labels.names)}
    fixed = functools.partial(probes.logistic, penalties=1.0)
    asked: dict[str, dict[str, Any]] = {
        "LR": {"probe": fixed},
        "class means": {"decoders": decoders.InnerProduct()},
        "class means, priors": {"probe": functools.partial(class_means, priors=True)},
    }
    if mlp:
        asked[MLP] = {"decoders": decoders.Mlp(32)}
    distances: dict[str, list[float]] = {}
    for name, options in asked.items():
        made = lens.stability(list(given), labels, **options)
        (own,) = made.moves
        outcome = trained.TRAINED[name](given, labels, splits)
        found[name] = {
            "predicted": {
                key: getattr(own, key)
                for key in ("kappa", "churn", "seed_noise", "excess", "metric", "spread")
            },
            "trained": outcome,
        }
        distances = {
            key: [values[key] for values in made.distances.values()]
            for key in next(iter(made.distances.values()))
        }
    found["distances"] = {key: float(np.mean(values)) for key, values in distances.items()}
    return found


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors, rank correlations and how often intervals hold, by head."""
    found: dict[str, Any] = {}
    for name in READERS:
        mine = [row for row in rows if name in row]
        if not mine:
            continue
        found[name] = {}
        for key in ("kappa", "churn", "excess"):
            pairs = [
                (
                    shown.interval(row[name]["predicted"][key]),
                    shown.number(row[name]["trained"][key]),
                )
                for row in mine
                if row[name]["predicted"][key] is not None
            ]
            # Kappa is undefined where heads give one class to all.
            pairs = [(own, o) for own, o in pairs if np.isfinite(own.value) and np.isfinite(o)]
            if not pairs:
                continue
            predicted = np.array([own.value for own, _ in pairs])
            outcome = np.array([o for _, o in pairs])
            held = [own.low <= o <= own.high for own, o in pairs]
            found[name][key] = {
                "settings": len(pairs),
                "error": float(np.mean(np.abs(predicted - outcome))),
                "largest": float(np.max(np.abs(predicted - outcome))),
                "bias": float(np.mean(predicted - outcome)),
                "rank": spearman(predicted, outcome) if len(pairs) > 2 else None,
                "held": float(np.mean(held)),
            }
    return {"heads": found, "facts": _facts(rows), "met": met(found)}


def met(heads: Mapping[str, Any]) -> dict[str, bool | None]:
    """Whether each target is met; None where it was not judged."""
    convex = [heads[name] for name in CONVEX if name in heads]

    def all_of(key: str, part: str, least: bool) -> bool | None:
        values = [own[key][part] for own in convex if key in own]
        if not values or any(value is None for value in values):
            return None
        limit = TARGETS["rank" if part == "rank" else key]
        return all(value >= limit if least else value <= limit for value in values)

    excess = heads[MLP]["excess"]["error"] if MLP in heads else None
    return {
        "churn": all_of("churn", "error", False),
        "kappa": all_of("kappa", "error", False),
        "rank of churn": all_of("churn", "rank", True),
        "rank of kappa": all_of("kappa", "rank", True),
        "excess": None if excess is None else excess <= TARGETS["excess"],
    }


def _facts(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Rank correlation of facts without labels with what trained logistic regression moves."""
    rows = [row for row in rows if row["LR"]["trained"]["kappa"] is not None]
    if len(rows) < 3:
        return {}
    outcome = {
        "churn": np.array([row["LR"]["trained"]["churn"] for row in rows]),
        "1 - kappa": np.array([1.0 - row["LR"]["trained"]["kappa"] for row in rows]),
    }
    found = {}
    for name in rows[0]["distances"]:
        sign = 1.0 if name == "eigenspace instability" else -1.0
        values = sign * np.array([row["distances"][name] for row in rows])
        found[name] = {key: spearman(values, own) for key, own in outcome.items()}
    return found


def tables(results: Mapping[str, Any]) -> list[Table]:
    """By head, by family and label, and of the facts."""
    summary = results["summary"]
    heads: list[dict[str, Any]] = []
    for name, own in summary["heads"].items():
        for key in ("churn", "kappa", "excess"):
            if key in own:
                title = {"excess": "churn beyond its seed's"}.get(key, key)
                line = {part: shown.number(own[key][part]) for part in own[key]}
                heads.append({"head": name, "of": title, **line, "settings": own[key]["settings"]})
    rename = {"error": "mean error", "largest": "largest error", "rank": "rank correlation",
              "held": "intervals that hold"}  # fmt: skip
    heads = [{rename.get(key, key): value for key, value in line.items()} for line in heads]
    digits = {
        "mean error": ".4f", "largest error": ".3f", "bias": "+.4f", "rank correlation": ".2f",
        "intervals that hold": ".2f",
    }  # fmt: skip
    lines = []
    for row in results["rows"]:
        for name in ("LR", MLP):
            if name in row:
                own = row[name]
                line = {
                    "differs": row["family"], "label": row["label"], "head": name,
                    "κ predicted": shown.interval(own["predicted"]["kappa"]),
                    "κ trained": shown.number(own["trained"]["kappa"]),
                    "churn predicted": shown.interval(own["predicted"]["churn"]),
                    "churn trained": own["trained"]["churn"],
                }  # fmt: skip
                noise = own["predicted"]["seed_noise"]
                lines.append({**line, "of its seed": noise["value"] if noise else None})
    numbers: dict[str, str] = dict.fromkeys(
        ("κ predicted", "κ trained", "churn predicted", "churn trained", "of its seed"), ".3f"
    )
    found = [
        table(heads, digits, "Predicted against trained, over families and labels"),
        table(lines, numbers, "By what differs between runs"),
    ]
    if summary["facts"]:
        facts: list[dict[str, Any]] = [
            {
                "distance without labels": name,
                "rank correlation with churn of LR": own["churn"],
                "with 1 - κ": own["1 - kappa"],
            }
            for name, own in summary["facts"].items()
        ]
        found.append(table(facts, dict.fromkeys(facts[0], "+.2f")))
    goals = {
        "churn": f"convex heads, churn: mean error <= {TARGETS['churn']}",
        "kappa": f"convex heads, κ: mean error <= {TARGETS['kappa']}",
        "rank of churn": f"convex heads, churn: rank correlation >= {TARGETS['rank']}",
        "rank of kappa": f"convex heads, κ: rank correlation >= {TARGETS['rank']}",
        "excess": f"MLP, churn beyond its seed's: mean error <= {TARGETS['excess']}",
    }
    judged = [{"target": goals[key], "": MET[value]} for key, value in summary["met"].items()]
    return [*found, table(judged)]


def draw(results: Mapping[str, Any]) -> Any:
    """Churn and kappa, predicted against trained."""
    from kernlens.show import report

    rows = results["rows"]
    panels = []
    for name, key in itertools.product(("LR", MLP), ("churn", "kappa")):
        mine = [
            row for row in rows
            if name in row and row[name]["trained"][key] is not None
            and row[name]["predicted"][key]["value"] is not None
        ]  # fmt: skip
        if not mine:
            continue
        given = [shown.interval(row[name]["predicted"][key]) for row in mine]
        panels.append(
            report.Panel(
                f"{name}: {'κ' if key == 'kappa' else key}",
                np.array([own.value for own in given]), "predicted",
                np.array([shown.number(row[name]["trained"][key]) for row in mine]), "trained",
                np.array([float(row["classes"]) for row in mine]),
                (np.array([own.low for own in given]), np.array([own.high for own in given])),
                same_unit=True,
            )
        )  # fmt: skip
    return report.figure(panels, "classes", columns=2)

"""Robustness: do predictions made on weeks 1 to 40 hold for outcomes in weeks 41 to 53?

Item2vec is pretrained on weeks 1 to 40 (without the last items of baskets of weeks 37 to 40, on
which next-item predictions are made). Next items: closed-form and simple predictors of recall@10
against two dense towers trained up to week 40, judged on the held-out items and on baskets of weeks
41 to 53. Departments: closed-form predictors against logistic regression on a fifth of the items,
all alike, weighted by purchases up to week 40, and by purchases after it.

Verdict: holds if the order that kernlens predicts (ridge ranking for next items, the discriminant
probe for departments) agrees with the later outcomes, Spearman's interval over settings above 0 in
both tasks, and the shift costs less than 0.1 of the correlation in either; in part if the interval
is above 0 in one task; fails if no part of either interval is; else it is undecided.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.kit import runner, serving, shown
from experiments.kit.cells import Cells
from experiments.kit.shift import shares
from experiments.kit.shown import Claim, data_of, table
from experiments.kit.sources import common_classes
from experiments.kit.verdicts import also, exceeds, known, together
from kernlens import files
from kernlens.metrics import agreement, ranking
from kernlens.probes import recommenders
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.targets import sequences
from kernlens.types import Labels

TASKS = {
    "next items": (
        ("before", "after"),
        ("ridge ranking", "discounted average", "last item", "pretraining loss"),
    ),
    "classes": (
        ("items alike", "purchases before", "after"),
        ("discriminant probe", *serving.SCORED, "pretraining loss"),
    ),
}
"""Outcomes of each task, the first inside what is known and the last after it; and predictors."""

IN_VALUE = ("ridge ranking", "discounted average", "last item", "discriminant probe")
"""Predictors in the unit of the outcome."""

MOST_LOST = 0.1


@dataclass(frozen=True)
class Config(serving.Config):
    """The grid, the recommender, the cut and the classifier."""

    splits: int = 3
    """Splits of the items for the classifier."""


TINY = Config(**serving.TINY, splits=1)


def check(config: Config) -> None:
    """Refuses what would fail later; ValueError names the option."""
    serving.check(config)
    runner.at_least(config, splits=1)


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each embedding; the first has the baselines."""
    given = serving.known(config)
    task = common_classes(given.everything, config, config.min_class_count)[1]
    rows = []
    for one in serving.served(config, given, cells):
        classified = cells(
            f"{one.name} seed {one.seed}: classes",
            functools.partial(classify, one.embeddings, task, given, config),
        )
        rows.append(
            {
                "name": one.name, "seed": one.seed, "predicted": one.predicted,
                "next items": {
                    name: {key: float(value.mean()) for key, value in found.items()}
                    for name, found in (("before", one.before), ("after", one.after))
                },
                "classes": classified,
            }
        )  # fmt: skip
    held_out = {"before": given.before, "after": given.after}
    rows[0]["baselines"] = {name: popular(given, test) for name, test in held_out.items()}
    return rows


def popular(given: serving.Known, test: Any) -> float:
    """Recall@10 of what was popular before the cut."""
    bias = recommenders.popularity(given.known.counts)
    nothing, items = (np.zeros((n, 0), np.float32) for n in (len(test.target), len(bias)))
    place = ranking.place_by_inner_product(
        nothing, items, test.target, bias=bias, left_out=given.left_out(test)
    )
    return float(ranking.recall(place, min(serving.TOP, len(bias))).mean())


def classify(z: np.ndarray, task: Labels, given: serving.Known, config: Config) -> dict[str, float]:
    """Macro-F1 of logistic regression under three weightings of the held-out items."""
    linear = files.optional("sklearn.linear_model", extra="train")
    metrics = files.optional("sklearn.metrics", extra="train")
    selection = files.optional("sklearn.model_selection", extra="train")
    week = given.everything.session_attributes["week"]
    labelled = task.codes >= 0
    later = shares(sequences.sessions(given.everything, week > config.cut), labelled)
    weights = {
        "items alike": labelled / labelled.sum(),
        "purchases before": shares(given.known, labelled),
        "after": later,
    }
    rows = np.flatnonzero(labelled)
    x, codes = z[rows].astype(np.float64), task.codes[rows]
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    found: dict[str, list[float]] = {name: [] for name in weights}
    cutter = selection.StratifiedShuffleSplit(config.splits, test_size=0.2, random_state=0)
    for train, test in cutter.split(x, codes):
        head = linear.LogisticRegression(max_iter=500).fit(x[train], codes[train])
        guessed = head.predict(x[test])
        for name, weight in weights.items():
            own = weight[rows][test]
            found[name].append(
                metrics.f1_score(
                    codes[test], guessed, average="macro", sample_weight=own, zero_division=0.0
                )
            )
    return {name: float(np.mean(value)) for name, value in found.items()}


def outcome(row: Mapping[str, Any], task: str, name: str) -> float:
    """The outcome that predictors of a task are held against."""
    found = row[task][name]
    return float(found["recall"] if task == "next items" else found)


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of every predictor with every outcome; what the outcomes lose; the verdict."""
    groups = np.array([row["name"] for row in rows])
    lines, levels = [], []
    for task, (outcomes, predictors) in TASKS.items():
        for name in predictors:
            line: dict[str, Any] = {"task": task, "predictor": name}
            for place in outcomes:
                measured = np.array([outcome(row, task, place) for row in rows])
                given = np.array([row["predicted"][name] for row in rows])
                agreed = agreement.agreement(given, measured, groups=groups, draws=config.draws)
                line[place] = {
                    "spearman": agreed.spearman,
                    "regret": agreed.regret,
                    "error": agreed.mean_absolute_error if name in IN_VALUE else None,
                }
            lines.append(line)
        levels.append(
            {
                "task": task,
                **{
                    place: float(np.mean([outcome(row, task, place) for row in rows]))
                    for place in outcomes
                },
            }
        )
    found = report.to_json(lines)
    return {
        "lines": lines,
        "levels": levels,
        "popularity": rows[0]["baselines"],
        "verdict": verdict(found),
    }


def verdict(lines: list[dict[str, Any]]) -> str:
    """As the module's docstring says."""

    def of_task(predictor: str) -> str:
        line = next(line for line in lines if line["predictor"] == predictor)
        before, after = line[TASKS[line["task"]][0][0]]["spearman"], line["after"]["spearman"]
        values = (before["value"], after["value"])
        kept = None in values or values[0] - values[1] < MOST_LOST
        return also(exceeds(after), known(kept))

    return together(of_task(name) for name in ("ridge ranking", "discriminant probe"))


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Agreement of predictions with outcomes before and after the cut."""
    made, summary = [], results["summary"]
    for task in dict.fromkeys(line["task"] for line in summary["lines"]):
        lines = [line for line in summary["lines"] if line["task"] == task]
        places = [key for key in lines[0] if key not in ("task", "predictor")]
        rows = [
            {task: line["predictor"]}
            | {f"ρ, {place}": shown.interval(line[place]["spearman"]) for place in places}
            | {
                f"error, {place}": shown.number((line[place]["error"] or {}).get("value"))
                for place in places
            }
            for line in lines
        ]
        made.append(table(rows))
    mean = next(line for line in summary["levels"] if line["task"] == "next items")
    reached = {"popularity": summary["popularity"], "towers, mean": mean}
    rows = [
        {"recall@10": name, "before the cut": own["before"], "after it": own["after"]}
        for name, own in reached.items()
    ]
    return [*made, table(rows, {"before the cut": ".4f", "after it": ".4f"})]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether predictions hold after the cut."""
    own = {line["predictor"]: line["after"]["spearman"] for line in results["summary"]["lines"]}
    measured = {
        "after it, next items: ρ": shown.interval(own["ridge ranking"]),
        "classes: ρ": shown.interval(own["discriminant probe"]),
    }
    text = f"{data_of(results)}: predictions outlast a shift in time"
    return [Claim(text, measured, results["summary"]["verdict"])]


def draw(results: Mapping[str, Any]) -> Any:
    """kernlens' predictions against outcomes inside what is known and after it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    rows = results["rows"]
    made = Figure(figsize=(9, 4), layout="constrained", dpi=130)
    axes = made.subplots(1, 2)
    titles = {"next items": "recall@10 of next items", "classes": "macro-F1 of classes"}
    for ax, (task, (outcomes, predictors)) in zip(axes, TASKS.items(), strict=True):
        given = [row["predicted"][predictors[0]] for row in rows]
        for place, colour in zip(outcomes, ("#1f5fa8", "#4a7c59", "#c8553d"), strict=False):
            measured = [outcome(row, task, place) for row in rows]
            ax.scatter(given, measured, s=22, color=colour, label=place)
        ends = [0, 1.05 * max(max(given), max(outcome(r, task, p) for r in rows for p in outcomes))]
        ax.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
        ax.set(xlabel=f"predicted before the cut: {predictors[0]}", ylabel="trained")
        ax.set_title(titles[task], fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False)
    return made

r"""Claim 3: does a training-free average of a history predict how trained recommenders do?

Pretrains a grid of item2vec settings on baskets without their last items, ranks all items for each
held-out basket by inner products with a discounted average of its history, and sets that beside two
towers (dense, GRU, self-attention) trained on the frozen embeddings. Further predictions in closed
form: kernel ridge on next items over the averages, over the dense tower's tangent kernel, and over
features of the tangent kernels of the GRU and the self-attention tower, on fewer examples, with the
averages on as many beside. The discount :math:`\alpha` is estimated from the mixture of proposition
2 by maximum likelihood on training examples, and set beside the best of a grid.

Candidates are a protocol: all items where items recur inside a sequence, and where they do not
(baskets without repeats, ratings) all that are not in it yet. Rankers without an embedding are
baselines: popularity, the user's own past, what is near the last item, item k-NN and EASE.

Order, which the paper claims: Spearman's correlation of recall@10 over embeddings, bootstrapped
over settings. It holds where the estimated discount's correlation with every tower has an interval
above 0, in part where at least one tower's has, fails where no interval reaches above 0, and is
undecided else. Value, which the paper does not claim and we ask as well: the mean absolute
difference of recall@10 as a share of the tower's mean recall. It holds where for every tower the
interval lies within a tenth, in part where one tower's does, fails where for every tower it lies
beyond a tenth, and is undecided else. No prediction can be expected to agree with a tower better
than two seeds of the tower do: that stands beside.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from experiments.kit import runner, verdicts
from experiments.kit.cells import Cells
from experiments.kit.grid import Grid, check_grid
from experiments.kit.next_items import Task, last_items
from experiments.kit.outcomes import METRICS, ranked
from experiments.kit.sources import Source, interactions
from experiments.kit.study import Setting
from experiments.prop2_sequence_average import predictions
from experiments.prop2_sequence_average.predictions import ESTIMATED
from experiments.prop2_sequence_average.summary import TRAINED, ceiling, discounts
from experiments.prop2_sequence_average.tables import claims as claims
from experiments.prop2_sequence_average.tables import tables as tables
from kernlens.metrics import agreement
from kernlens.models.towers import TOWERS, DenseLayers, TwoTowers
from kernlens.train import pretrain, recommend, sampling
from kernlens.types import Interval

HIDDEN = (32, 16)
WITHIN = 0.1
EARLIER = {"protocol": "latest 20 items of each history left out", "queries": None}
"""How rows without a protocol of their own were ranked."""
PROTOCOLS: dict[bool, dict[str, Any]] = {
    False: {},
    True: {
        "standardise": False, "item_bias": False, "held_out": 0, "negatives": 2,
        "share_negatives": False, "contrast": pretrain.SIGMOID,
    },
}  # fmt: skip
"""How towers learn: `recommend.fit`'s arguments by whether it is as published."""


@dataclass(frozen=True)
class Config(Source, Grid):
    """The data, the grid, the recommenders and the test."""

    learning_rate: float = 3e-3
    """Adam's learning rate in pretraining."""
    published: bool = False
    """Towers learn as in the published code: a sigmoid loss over 2 negatives that each example
    draws for itself, no bias of items, and all epochs; else as `recommend.fit` does."""
    tower_seeds: int = 1
    """Trained runs of each tower on each embedding; from 2 on, how well they agree is told too."""
    tower_epochs: int = 100
    """Most passes over the training examples; unless published, held-out users say when to stop."""
    tower_rate: float = 3e-3
    """Adam's learning rate for the towers."""
    batch: int = 1024
    """Training examples a step."""
    length: int = 20
    """Most items of a history, the latest."""
    targets: int = 1
    """Training targets of a basket, the latest ones before the one held out."""
    test: int = 10_000
    """Held-out baskets that are ranked."""
    alphas: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    """Discounts of the grid, in the unit of an item's share."""
    landmarks: int = 200
    """Histories that span the dense tower's tangent kernel."""
    fitted: int = 2_000
    """Training examples on which the mixture is fitted."""
    sketched: int = 16_384
    """Training examples on which the GRU's and the self-attention tower's tangent kernels are
    fitted, with initial parameters; 0 leaves them out."""
    sketch: int = 256
    """Features of these tangent kernels."""
    draws: int = 2000
    """Bootstrap draws over settings."""


TINY = Config(
    windows=(2,), negatives=(1, 3), epochs=(1, 3), dim=8, seeds=2, tower_seeds=2, tower_epochs=1,
    batch=256, length=6, test=200, alphas=(1e-3,), landmarks=20, fitted=100, sketched=200,
    sketch=8, draws=200, synthetic=6_000,
)  # fmt: skip


@functools.cache
def adam(rate: float) -> optax.GradientTransformation:
    """One value for a rate: two optimisers are never equal, and would compile each run anew."""
    return optax.adam(rate)


def check(config: Config) -> None:
    """Refuses what would fail later, or do nothing.

    Raises:
      ValueError: names the option.
    """
    check_grid(config)
    runner.at_least(
        config, tower_seeds=1, tower_epochs=1, batch=1, length=1, targets=1, test=1, landmarks=1,
        fitted=1, sketched=0, sketch=1, draws=1, learning_rate=0, tower_rate=0,
    )  # fmt: skip
    if config.label is not None:
        raise ValueError("--label is of no use here: next items have no classes")
    if not config.alphas or min(config.alphas) <= 0:
        raise ValueError(f"--alphas must be positive, one at least; got {config.alphas}")


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """One row for each setting and seed; the first has the baselines and what was ranked."""
    data = interactions(config)
    task = last_items(data, length=config.length, targets=config.targets, most=config.test, seed=0)
    rows = []
    for setting in config.settings():
        made = functools.partial(pretrained, task, setting, config)
        fitted = cells.arrays(f"{setting.name}: embeddings", made)
        own = cells(setting.name, functools.partial(cell, task, setting, fitted, config))
        for name in TRAINED:
            make = functools.partial(train, name, task, fitted["embeddings"], config)
            trained = cells(f"{setting.name}: {name}", make)
            for row, runs in zip(own, trained, strict=True):
                row.setdefault("trained", {})[name] = runs
        if config.sketched:
            for row, table in zip(own, fitted["embeddings"], strict=True):
                name = f"{setting.name} seed {row['seed']}: tangent kernels"
                make = functools.partial(
                    predictions.tangent, task, table, HIDDEN,
                    examples=config.sketched, size=config.sketch,
                )  # fmt: skip
                row["predicted"] |= cells(name, make)
        rows += own
    make = functools.partial(predictions.baselines, task)
    rows[0]["baselines"] |= cells("baselines", make)
    queries = task.queries
    rows[0]["ranked"] = {
        "protocol": task.protocol,
        "queries": len(queries.repeated),
        "repeated": int(queries.repeated.sum()),
        "dropped": queries.dropped,
    }
    return rows


def pretrained(task: Task, setting: Setting, config: Config) -> dict[str, np.ndarray]:
    """Embeddings ``[seeds, m, dim]`` and losses ``[seeds]`` of a setting."""
    fitted = pretrain.contrastive(
        task.known,
        window=setting.window,
        negatives=setting.negatives,
        epochs=setting.epochs,
        dim=config.dim,
        seeds=config.seeds,
        noise=sampling.log_uniform(task.known.num_items),
        optimizer=adam(config.learning_rate),
    )
    return {"embeddings": fitted.embeddings, "loss": fitted.final_loss}


def cell(
    task: Task, setting: Setting, fitted: Mapping[str, np.ndarray], config: Config
) -> list[dict[str, Any]]:
    """What is said of all runs of one setting without training a recommender."""
    return [
        {
            "setting": setting._asdict(),
            "name": setting.name,
            "seed": seed,
            "loss": float(fitted["loss"][seed]),
            **predictions.averages(
                task,
                fitted["embeddings"][seed],
                HIDDEN,
                alphas=config.alphas,
                fitted=config.fitted,
                landmarks=config.landmarks,
            ),
        }
        for seed in range(config.seeds)
    ]


def train(name: str, task: Task, tables: np.ndarray, config: Config) -> list[list[dict[str, Any]]]:
    """Outcomes of a tower by table and seed."""
    made = recommend.fit(
        task.train,
        tables,
        TwoTowers(TOWERS[name](HIDDEN), DenseLayers(HIDDEN)),
        **PROTOCOLS[config.published],
        epochs=config.tower_epochs,
        batch=config.batch,
        seeds=config.tower_seeds,
        optimizer=adam(config.tower_rate),
    )
    test, found = task.queries.histories, []
    for run in range(len(tables) * config.tower_seeds):
        found.append(
            ranked(
                recommend.queries(made, test, run),
                recommend.item_vectors(made, run),
                task.queries,
                counts=task.known.counts,
            )
        )
    count = config.tower_seeds
    return [found[i * count : (i + 1) * count] for i in range(len(tables))]


def measured(row: Mapping[str, Any], tower: str, metric: str) -> float:
    """Mean of a metric over the runs of a tower."""
    return float(np.mean([run[metric]["value"] for run in row["trained"][tower]]))


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of every prediction with every tower and metric; the discounts; the verdicts."""
    groups = np.array([row["name"] for row in rows])
    predictors: dict[str, Callable[[Mapping[str, Any], str], float]] = {
        name: lambda row, metric, name=name: row["predicted"][name][metric]["value"]
        for name in rows[0]["predicted"]
    }
    predictors["last item"] = lambda row, metric: row["baselines"]["last item"][metric]["value"]
    predictors["pretraining loss"] = lambda row, metric: -row["loss"]
    lines = []
    for name, read in predictors.items():
        line: dict[str, Any] = {"predictor": name}
        for tower in TRAINED:
            for metric in METRICS:
                outcomes = np.array([measured(row, tower, metric) for row in rows])
                given = np.array([read(row, metric) for row in rows])
                agreed = agreement.agreement(given, outcomes, groups=groups, draws=config.draws)
                line[f"{tower} {metric}"] = {
                    "spearman": agreed.spearman,
                    "kendall": agreed.kendall,
                    "error": agreed.mean_absolute_error,
                    "relative_error": scaled(agreed.mean_absolute_error, outcomes.mean()),
                }
        lines.append(line)
    return {
        "predictors": lines,
        "ceiling": ceiling(rows, groups, config.draws),
        **discounts(rows),
        "ranked": rows[0].get("ranked", EARLIER),
        "verdict": order(lines),
        "value": value(lines),
    }


def scaled(interval: Interval, unit: float) -> Interval:
    """An interval in a unit, in float64."""
    value, low, high = (float(end) / unit for end in interval[:3] if end is not None)
    return Interval(value, low, high, interval.level)


def order(lines: list[dict[str, Any]]) -> str:
    """Whether the estimated discount orders embeddings by recall, as the docstring says."""
    own = next(line for line in lines if line["predictor"] == ESTIMATED)
    found = [own[f"{tower} recall"]["spearman"]._asdict() for tower in TRAINED]
    return verdicts.together(verdicts.exceeds(one) for one in found)


def value(lines: list[dict[str, Any]]) -> str:
    """Whether the estimated discount gives the value of recall, as the docstring says."""
    own = next(line for line in lines if line["predictor"] == ESTIMATED)
    found = [own[f"{tower} recall"]["relative_error"] for tower in TRAINED]
    return verdicts.together(
        verdicts.HOLDS
        if one.high <= WITHIN
        else verdicts.FAILS
        if one.low > WITHIN
        else verdicts.UNDECIDED
        for one in found
    )


def draw(results: Mapping[str, Any]) -> Any:
    """Predicted against trained recall@10, a panel for each predictor and tower."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    rows = results["rows"]
    chosen = [ESTIMATED, "ridge on averages", "ridge on the dense tower's kernel"]
    made = Figure(figsize=(4.2 * len(TRAINED), 3.6 * len(chosen)), layout="constrained", dpi=130)
    axes = made.subplots(len(chosen), len(TRAINED), squeeze=False)
    epochs = sorted({row["setting"]["epochs"] for row in rows})
    for line, name in zip(axes, chosen, strict=True):
        for ax, tower in zip(line, TRAINED, strict=True):
            both = [
                [row["predicted"][name]["recall"]["value"], measured(row, tower, "recall")]
                for row in rows
            ]
            for epoch, colour in zip(epochs, ("#c8553d", "#1f5fa8", "#4a7c59"), strict=False):
                own = [
                    b for b, r in zip(both, rows, strict=True) if r["setting"]["epochs"] == epoch
                ]
                ax.scatter(*zip(*own, strict=True), s=22, color=colour, label=f"{epoch} epochs")
            ends = [0.0, 1.05 * max(max(b) for b in both)]
            ax.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
            ax.set(xlim=ends, ylim=ends, xlabel=f"{name}, recall@10", ylabel=f"trained {tower}")
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=8, frameon=False)
    return made

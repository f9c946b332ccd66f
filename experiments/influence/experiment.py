"""Do scores of influence say what leaving training rows out does?

Handwritten digits and a network of one hidden layer, trained by full-batch descent. Rows are left
out and the network is trained again from the same initialisations: on random halves of the rows
(the linear data-modelling score: Spearman's correlation, over halves, of the sum of a half's scores
with the margin of a test row) and without each of some rows in turn (the correlation of a row's
score with what became of the margin). Outcomes are means over initialisations, as the scores are.

Scores: TRAK from `kernlens.ntk.influence` with random projections, of one model and of all; the
same from the exact tangent kernel; products of gradients, without the inverse; and cosines of the
pixels, positive for rows of the same label, which need no model.

The second part flips labels. It orders the rows by `kernlens.probes.label_influence`, how much each
label does for the predicted macro-F1, or against the squared error, of the others, and by the
probe's loss of the row itself.

The third part spoils items. Item2vec is trained on sessions; sessions of another class are added
for some items, and the scores are those of a session's pairs on the margin of a head that reads the
item's vector. The share of the worst sessions that are the added ones is compared with that of the
sessions with most items of other classes, which needs all labels and no model, and with that of all
sessions of the item.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.influence import items, training
from experiments.influence.training import Mlp, Recipe, Task
from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.shown import interval, table
from kernlens import ntk, probes
from kernlens.metrics.classification import auc
from kernlens.ntk import influence
from kernlens.show.table import Table
from kernlens.types import Interval, Labels

CLASSES = 10
LEVEL = 0.9


@dataclass(frozen=True)
class Config:
    """The rows, the models and the scores."""

    rows: int = 300
    """Training rows."""
    tests: int = 50
    """Test rows whose margins are explained."""
    width: int = 24
    """Units of the hidden layer."""
    steps: int = 200
    """Steps of full-batch descent with momentum 0.9."""
    rate: float = 0.3
    """Learning rate."""
    decay: float = 1e-3
    """Weight decay, without which margins grow for ever."""
    models: int = 3
    """Initialisations that scores and outcomes are means over."""
    halves: int = 64
    """Random halves of the training rows."""
    left_out: int = 48
    """Rows that are left out in turn."""
    features: tuple[int, ...] = (256, 1024)
    """Random features of the projection; the third part has the first."""
    ridge: float = 1e-2
    """Relative ridge of the scores."""
    flips: float = 0.1
    """Share of labels that are flipped in the second part."""
    draws: int = 4
    """Draws of the flips, and of the spoilt items."""
    spoilt: int = 12
    """Items that are spoilt in the third part."""


TINY = Config(
    rows=60, tests=8, width=8, steps=40, models=1, halves=8, left_out=4, features=(32,), draws=2,
    spoilt=3,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, rows=20, tests=2, width=1, steps=1, models=1, halves=2, left_out=2, features=1,
        draws=2, spoilt=1,
    )  # fmt: skip
    if config.left_out > config.rows:
        raise ValueError(f"--left-out must be at most --rows {config.rows}; got {config.left_out}")
    if not 0 < config.flips < 1:
        raise ValueError(f"--flips must be in (0, 1); got {config.flips}")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images as rows, and their digits, in random order.

    Raises:
      ImportError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits

    found: Any = load_digits(return_X_y=True)
    x, y = found
    order = np.random.default_rng(0).permutation(len(y))
    return (x[order] / 16.0 - 0.5).astype(np.float32), y[order].astype(np.int32)


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each score, and for each draw of flips and of spoilt items."""
    x, y = digits()
    rows = cells("margins", lambda: margins(config, x, y))
    for draw in range(config.draws):
        rows.append(cells(f"flips {draw}", lambda draw=draw: flips(config, x, y, draw)))
    for draw in range(config.draws):
        rows.append(
            cells(
                f"items {draw}",
                lambda draw=draw: items.found(config.spoilt, draw, config.features[0]),
            )
        )
    return rows


def margins(config: Config, x: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """Each score against models that are trained again."""
    n, m = config.rows, config.tests
    task = Task(x[:n], y[:n], x[n : n + m], y[n : n + m])
    recipe = Recipe(config.width, CLASSES, config.steps, config.rate, config.decay)
    rng = np.random.default_rng(0)
    halves = np.zeros((config.halves, n), bool)
    for half in halves:
        half[rng.choice(n, n // 2, replace=False)] = True
    chosen = rng.choice(n, config.left_out, replace=False)
    without = np.ones((config.left_out, n))
    without[np.arange(config.left_out), chosen] = 0.0
    weights = np.concatenate([np.ones((1, n)), halves, without])
    outcomes, trained = 0.0, []
    for seed in range(config.models):
        params, found = training.fit(recipe, task, seed, weights)
        outcomes = outcomes + np.asarray(found, np.float64) / config.models
        trained.append(jax.tree.map(lambda leaf: leaf[0], params))
    whole, of_halves, of_rows = np.split(outcomes, [1, 1 + config.halves])
    changes = (whole - of_rows).T
    rows = []
    for name, scores in scored(config, task, recipe, trained).items():
        lds = influence.linear_datamodeling_score(scores, halves, of_halves)
        loo = influence.leave_one_out_correlation(scores[:, chosen], changes)
        rows.append({"part": "margins", "score": name, "lds": lds, "loo": loo})
    return rows


def scored(config: Config, task: Task, recipe: Recipe, trained: list[Any]) -> dict[str, np.ndarray]:
    """Scores ``[tests, rows]`` by name."""
    apply: Any = Mlp(recipe.width, recipe.classes).apply
    margin = influence.margin_fn(apply)
    train, test = (task.x, jnp.asarray(task.y)), (task.x_test, jnp.asarray(task.y_test))
    kernel_fn = ntk.empirical_ntk_fn(margin, trace_axes=())
    found: dict[str, list[np.ndarray]] = {}
    for seed, params in enumerate(trained):
        residuals = np.asarray(jax.nn.sigmoid(-margin(params, train)))
        for size in config.features:
            made = influence.trak(
                jax.random.key(seed), margin, params, train, residuals, test, num_features=size,
                ridge=config.ridge,
            )  # fmt: skip
            found.setdefault(f"TRAK, {size} features", []).append(made)
        own, cross = kernel_fn(train, None, params), kernel_fn(test, train, params)
        made = influence.from_kernels(cross, own, residuals, ridge=config.ridge)
        found.setdefault("exact kernel", []).append(made)
        found.setdefault("products of gradients", []).append(np.asarray(cross) * residuals)
    named = {f"{name}, one model": made[0] for name, made in found.items()}
    if len(trained) > 1:
        named |= {f"{name}, {len(made)} models": np.mean(made, 0) for name, made in found.items()}
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (task.x_test, task.x)]
    same = np.where(task.y_test[:, None] == task.y, 1.0, -1.0)
    named["cosines of pixels"] = (unit[0] @ unit[1].T) * same
    return named


def flips(config: Config, x: np.ndarray, y: np.ndarray, draw: int) -> dict[str, Any]:
    """How well the flipped labels are found, as areas under the curve."""
    rng = np.random.default_rng(draw)
    rows = rng.choice(len(y), min(2 * config.rows, len(y)), replace=False)
    x, y = x[rows], y[rows].copy()
    wrong = rng.random(len(y)) < config.flips
    y[wrong] = (y[wrong] + rng.integers(1, CLASSES, int(np.sum(wrong)))) % CLASSES
    labels = Labels(y, tuple(str(digit) for digit in range(CLASSES)))
    made = probes.label_influence(x, labels)
    smooth = probes.label_influence(x, labels, metric="squared_error")
    own = probes.ridge(x, labels, draws=1)

    def area(scores: np.ndarray) -> float:
        return float(auc(jnp.asarray(scores), jnp.asarray(wrong)))

    return {
        "part": "flips",
        "draw": draw,
        "influence": area(-made.values),
        "smooth": area(smooth.values),
        "own loss": area(np.asarray(own.losses, np.float64)),
        "mean of wrong": float(made.values[wrong].mean()),
        "mean of right": float(made.values[~wrong].mean()),
    }


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals, over test rows and over draws."""
    made = {
        row["score"]: {name: mean(row[name]) for name in ("lds", "loo")}
        for row in rows
        if row["part"] == "margins"
    }
    found: dict[str, Any] = {"margins": made}
    for part in ("flips", "items"):
        own = [row for row in rows if row["part"] == part]
        names = [name for name in own[0] if name not in ("part", "draw")]
        found[part] = {name: mean([row[name] for row in own]) for name in names}
    return found


def mean(values: Any) -> Interval:
    """A mean with the normal interval of its standard error."""
    values = np.asarray(values, np.float64)
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * values.std(ddof=1) / len(values) ** 0.5
    half = float(half)
    middle = float(values.mean())
    return Interval(middle, middle - half, middle + half, LEVEL)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Each score against models trained again; what is found of flips and of spoilt items."""
    summary = results["summary"]
    rows = [
        {
            "score": name,
            "linear data-modelling score": interval(own["lds"]),
            "leave-one-out correlation": interval(own["loo"]),
        }
        for name, own in summary["margins"].items()
    ]
    flipped = [
        {"order by": name, "area": interval(summary["flips"][key])}
        for name, key in (
            ("influence on the others' macro-F1", "influence"),
            ("influence on the others' squared error", "smooth"),
            ("the row's own loss", "own loss"),
        )
    ]
    spoilt = [
        {"sessions": name, "share that was added": interval(summary["items"][key])}
        for name, key in (
            ("the worst by influence", "by influence"),
            ("most items of other classes", "by class"),
            ("all of the item", "of all"),
        )
    ]
    return [
        table(rows, dict.fromkeys(rows[0], ".2f"), "Margins of test rows"),
        table(flipped, {"area": ".2f"}, "Flipped labels"),
        table(spoilt, {"share that was added": ".2f"}, "Sessions that spoilt an item"),
    ]


def draw(results: Mapping[str, Any]) -> Any:
    """Both judgements of each score."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    found = results["summary"]["margins"]
    made = Figure(figsize=(6.4, 0.32 * len(found) + 1.0), layout="constrained", dpi=130)
    ax = made.subplots()
    places = np.arange(len(found))[::-1]
    for shift, (key, label) in zip(
        (0.15, -0.15), (("lds", "halves"), ("loo", "one row")), strict=True
    ):
        values = [interval(own[key]) for own in found.values()]
        middle = np.array([v.value for v in values])
        ends = np.array([[v.value - v.low, v.high - v.value] for v in values]).T
        ax.errorbar(middle, places + shift, xerr=ends, fmt="o", markersize=4, label=label)
    ax.set_yticks(places, list(found), fontsize=8)
    ax.axvline(0.0, color="0.7", linewidth=0.8)
    ax.set(xlabel="correlation with models trained again")
    ax.legend(fontsize=8, frameon=False, title="left out", title_fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return made

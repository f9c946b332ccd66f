"""Claim 1 among recommenders: does a head unlike the pretraining's make runs differ more?

Item2vec, which decodes by inner products, in independent runs; on each, two dense towers that learn
next items, joined by an inner product as in pretraining, or by an MLP on both vectors end to end (a
heterogeneous head). Embeddings stay frozen or are trained on. Every recommender is trained with
several seeds, so that its own noise can be taken out of what pretraining runs differ by.

Measured are recall@10 and the lists of ten items themselves: the share of a list that another
pretraining run replaces, less what another seed of the same recommender replaces.

Verdict by the rules of `experiments.kit.verdicts`, for frozen and for trained embeddings, of the
MLP over the inner product in the standard deviation of recall between runs and in that share of the
lists, intervals at 90%. Each of the four holds where it is surely above 1, fails where a factor of
2 is ruled out, and is undecided where neither can be seen.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import numpy as np
import optax

from experiments.kit import runner, shown, spread, verdicts
from experiments.kit.cells import Cells
from experiments.kit.next_items import Task, last_items
from experiments.kit.outcomes import METRICS, values
from experiments.kit.shown import Claim, data_of, table
from experiments.kit.sources import Source, interactions
from kernlens.metrics import ranking
from kernlens.models.towers import Concatenation, DenseLayers, DenseTower, TwoTowers
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.targets.sequences import Past
from kernlens.train import pretrain, recommend

HIDDEN = (32, 16)
TOP = 10
BLOCK = 64
INNER, CONCATENATED = "inner product", "MLP on both"
HEADS: dict[str, nn.Module | None] = {INNER: None, CONCATENATED: Concatenation(HIDDEN)}
"""How the two towers are joined; None is the inner product."""

EMBEDDINGS = {"frozen": False, "trained": True}
"""Whether a recommender trains the embeddings on."""


@dataclass(frozen=True)
class Config(Source):
    """The data, the runs and the recommenders."""

    runs: int = 5
    """Independent pretraining runs."""
    epochs: int = 4
    """Passes over the data of a run."""
    dim: int = 32
    """Embedding dimension."""
    window: int = 8
    """Tokens to either side that are positives."""
    negatives: int = 8
    """Negatives per anchor."""
    tower_seeds: int = 2
    """Trained runs of each recommender on each embedding."""
    tower_epochs: int = 100
    """Most passes over the training examples; the loss on held-out users says when to stop."""
    tower_negatives: int = 8
    """Sampled items that an example is told from; an MLP on both vectors scores each anew."""
    length: int = 20
    """Most items of a history, the latest."""
    targets: int = 1
    """Training targets of a sequence, the latest ones before the one held out."""
    test: int = 2_000
    """Held-out sequences that are ranked."""


TINY = Config(
    runs=3, epochs=1, dim=6, window=2, negatives=2, tower_epochs=1, length=6, test=100,
    synthetic=6_000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, runs=3, epochs=1, dim=1, window=1, negatives=1, tower_seeds=2, tower_epochs=1,
        tower_negatives=1, length=1, targets=1, test=1,
    )  # fmt: skip


@functools.cache
def adam() -> optax.GradientTransformation:
    """One value for all fits: another would compile each anew."""
    return optax.adam(3e-3)


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each run, head and kind of embeddings, and for each pair of runs."""
    data = interactions(config)
    task = last_items(data, length=config.length, targets=config.targets, most=config.test, seed=0)
    tables = [
        cells.arrays(f"run {seed}: embeddings", functools.partial(pretrained, task, config, seed))
        for seed in range(config.runs)
    ]
    rows = []
    for kind, head in itertools.product(EMBEDDINGS, HEADS):
        own = {"embeddings": kind, "head": head}
        found = [
            cells.arrays(
                f"run {seed}: {head}, {kind}",
                functools.partial(recommended, task, table["z"], head, kind, config, seed),
            )
            for seed, table in enumerate(tables)
        ]
        for seed, one in enumerate(found):
            rows.append(
                {
                    **own, "kind": "run", "run": seed, "loss": float(tables[seed]["loss"]),
                    **{name: one[name].mean(axis=1) for name in METRICS},
                    "by seed": within(one["top"]),
                }
            )  # fmt: skip
        rows += [
            {**own, "kind": "pair", "runs": [a, b], "by run": replaced(found[a], found[b])}
            for a, b in itertools.combinations(range(config.runs), 2)
        ]
    return rows


def pretrained(task: Task, config: Config, seed: int) -> dict[str, np.ndarray]:
    """Embeddings of one run, and its final loss."""
    fitted = pretrain.contrastive(
        task.known, window=config.window, negatives=config.negatives, dim=config.dim,
        epochs=config.epochs, seeds=(seed,), optimizer=adam(),
    )  # fmt: skip
    return {"z": fitted.embeddings[0], "loss": fitted.final_loss[0]}


def recommended(
    task: Task, z: np.ndarray, head: str, kind: str, config: Config, run: int
) -> dict[str, np.ndarray]:
    """Metrics of each held-out sequence ``[tower_seeds, n]``, and lists ``[tower_seeds, n, k]``."""
    train, test, left_out = task.train, task.queries.histories, task.queries.left_out
    seeds = [1000 * run + seed for seed in range(config.tower_seeds)]
    made = recommend.fit(
        train, z, TwoTowers(DenseTower(HIDDEN), DenseLayers(HIDDEN), HEADS[head]),
        trained=EMBEDDINGS[kind], epochs=config.tower_epochs, seeds=seeds,
        negatives=config.tower_negatives,
    )  # fmt: skip
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*METRICS, "top")}
    for at in range(len(seeds)):
        parts, start = [], 0
        for scores in recommend.scores(made, test, at, block=BLOCK):
            stop = start + len(scores)
            rows = slice(start, stop)
            out = left_out and Past(left_out.items, left_out.start[rows], left_out.stop[rows])
            place = ranking.place(scores, test.target[start:stop], left_out=out)
            parts.append({**values(place), "top": ranking.top(scores, TOP, left_out=out)})
            start = stop
        for name in found:
            found[name].append(np.concatenate([part[name] for part in parts]))
    return {name: np.stack(one) for name, one in found.items()}


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Share of a list that is not in the other, of lists ``[n, k]`` each."""
    return 1 - float(np.mean((a[:, :, None] == b[:, None]).any(axis=2)))


def replaced(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """Share of a list that the other run replaces, over all pairs of tower seeds."""
    return float(np.mean([apart(x, y) for x, y in itertools.product(a["top"], b["top"])]))


def within(tops: np.ndarray) -> float:
    """Share of a list that another tower seed replaces, over pairs of them."""
    return float(np.mean([apart(x, y) for x, y in itertools.combinations(tops, 2)]))


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A line for each head and kind of embeddings, what the heads differ by, and the verdict."""
    rows, count = report.to_json(rows), config.runs

    def of(kind: str, head: str, what: str) -> list[dict[str, Any]]:
        own = (kind, head, what)
        return [row for row in rows if (row["embeddings"], row["head"], row["kind"]) == own]

    def recalls(kind: str, head: str) -> np.ndarray:
        return np.array([row["recall"] for row in of(kind, head, "run")])

    def moves(kind: str, head: str) -> Callable[[np.ndarray], float]:
        """Share of a list that a run replaces beyond another seed, of the runs that are kept."""
        moved = spread.table(of(kind, head, "pair"), count, lambda row: row["by run"])
        own = np.array([row["by seed"] for row in of(kind, head, "run")])
        return lambda kept: float(np.mean(spread.off_diagonal(moved, kept)) - own[kept].mean())

    lines, over = [], {}
    for kind in EMBEDDINGS:
        for head in HEADS:
            recall = recalls(kind, head)
            lines.append(
                {
                    "embeddings": kind, "head": head, "recall": float(recall.mean()),
                    "sd between runs": spread.between_sd(recall),
                    "sd between seeds": float(np.sqrt(spread.parts(recall)[1])),
                    "replaced by a run": mean(of(kind, head, "pair"), "by run"),
                    "replaced by a seed": mean(of(kind, head, "run"), "by seed"),
                    "by the run alone": spread.jackknife(count, moves(kind, head)),
                }
            )  # fmt: skip
        over[kind] = {
            "sd": spread.ratio_of_sds(recalls(kind, CONCATENATED), recalls(kind, INNER)),
            "lists": spread.more(count, moves(kind, CONCATENATED), moves(kind, INNER)),
        }
    return {"lines": lines, "over": over, "verdict": verdict(over)}


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Mean of an entry over rows."""
    return float(np.mean([row[key] for row in rows]))


def verdict(over: Mapping[str, Any]) -> str:
    """As the module's docstring says."""
    return verdicts.together(
        part
        for one in over.values()
        for part in (
            verdicts.exceeds(one["sd"], none=1.0, matters=verdicts.TWOFOLD),
            verdicts.twofold(one["lists"]),
        )
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """How far recommenders differ between pretraining runs, by head."""
    rows = [
        {
            "embeddings, head": f"{line['embeddings']}, {line['head']}",
            "recall@10": line["recall"],
            "its sd between runs": shown.interval(line["sd between runs"]),
            "between seeds": line["sd between seeds"],
            "items of a list that a run replaces": line["replaced by a run"],
            "a seed": line["replaced by a seed"],
            "the run alone": shown.interval(line["by the run alone"]),
        }
        for line in results["summary"]["lines"]
    ]
    digits = dict.fromkeys(rows[0], ".4f")
    lists = ("items of a list that a run replaces", "a seed", "the run alone")
    return [table(rows, digits | dict.fromkeys(lists, ".3f"))]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether the unlike head makes runs differ more."""
    measured = {}
    for kind, one in results["summary"]["over"].items():
        measured[f"{kind}: sd of recall@10, MLP against inner product, ×"] = shown.interval(
            one["sd"]
        )
        measured[f"{kind}: added to the items of a list that change"] = shown.interval(
            one["lists"]["difference"]
        )
    text = "recommenders with an MLP as head differ more between pretraining runs"
    return [Claim(f"1. {data_of(results)}: {text}", measured, results["summary"]["verdict"])]


def draw(results: Mapping[str, Any]) -> Any:
    """Recall of every run and seed, and what of a list a run and a seed replace."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(9.5, 3.8), layout="constrained", dpi=130)
    left, right = made.subplots(1, 2)
    lines = results["summary"]["lines"]
    names = [f"{line['embeddings']},\n{line['head']}" for line in lines]
    for at, line in enumerate(lines):
        for row in results["rows"]:
            same = (row["embeddings"], row["head"]) == (line["embeddings"], line["head"])
            if same and row["kind"] == "run":
                x = at + 0.5 * (row["run"] / results["config"]["runs"] - 0.5)
                left.plot([x] * len(row["recall"]), row["recall"], ".-", color="#1f5fa8")
    for key, offset, colour in (
        ("replaced by a run", -0.2, "#1f5fa8"),
        ("replaced by a seed", 0.2, "#c8553d"),
    ):
        heights = [line[key] for line in lines]
        right.bar(np.arange(len(lines)) + offset, heights, width=0.38, color=colour, label=key)
    left.set_ylabel("recall@10, a line a pretraining run")
    right.set_ylabel("share of the ten items")
    right.legend(fontsize=8, frameon=False)
    for ax in (left, right):
        ax.set_xticks(range(len(lines)), names, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    return made

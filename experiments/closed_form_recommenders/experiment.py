"""Do recommenders in closed form reach what is published of them on MovieLens-1M?

Every user's ratings are split 80, 10 and 10 percent (the authors' own split with ``--index``, else
drawn by their rule). A model is fitted on the training part of all users. Its strength is the one
of the best nDCG@10 on the validation part, of a path that is walked up until that falls. Then it
reads each user's training and validation items and ranks all others; what counts is the test items:
nDCG and hit rate at 10 and 100, means over users, with bootstrap intervals over users. That is the
protocol of Sachdeva, Dhaliwal, Wu and McAuley (2022), who choose the strength by the hit rate at
100, on another grid.

Infinity-AE is kernel ridge of users' multi-hot rows with the tangent kernel of an infinitely wide
ReLU autoencoder of one hidden layer, from `kernlens.ntk.infinite`; the one-hot ridge is the same
with the linear kernel; EASE and the rest are `kernlens.metrics.ranking`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.closed_form_recommenders import split
from experiments.closed_form_recommenders.rankers import RANKERS, Scores
from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.shown import interval, table
from kernlens.metrics import ranking
from kernlens.scores import intervals
from kernlens.show import report
from kernlens.show.table import Table

CUTOFFS = (10, 100)
PUBLISHED = {"popularity": 0.1384, "EASE": 0.2988, "infinity-AE": 0.3282}
"""nDCG@10 on MovieLens-1M, in the README of the authors' code."""

AUTHORS = "the authors' split"
BLOCK = 1024
FIRST = "infinity-AE"
"""What the others are compared with."""


@dataclass(frozen=True)
class Config:
    """The ratings and their splits."""

    root: Path | None = None
    """Folder with MovieLens-1M as RecBole's atomic files, its lines in the order of ratings.dat."""
    index: Path | None = None
    """The authors' split, index.npz of github.com/noveens/infinite_ae_cf; None leaves it out."""
    seeds: int = 1
    """Splits that are drawn by the authors' rule."""
    draws: int = 1000
    """Bootstrap draws over users."""
    synthetic: int = 0
    """Interactions of synthetic ratings to use instead; 0 for the real ones."""


TINY = Config(seeds=2, draws=50, synthetic=3000)


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(config, seeds=0, draws=2, synthetic=0)
    if not config.synthetic and config.root is None:
        raise ValueError("--root must be the folder with MovieLens-1M's .inter file")
    if config.synthetic and (config.root or config.index):
        raise ValueError("--root and --index are of real ratings: pass --synthetic 0 to read them")
    if config.seeds == 0 and config.index is None:
        raise ValueError("--seeds must be at least 1 where there is no --index")


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each split and recommender."""
    ratings = split.made(config.synthetic) if config.root is None else split.read(config.root)
    parts = {} if config.index is None else {AUTHORS: split.published(config.index, ratings)}
    for seed in range(config.seeds):
        parts[f"seed {seed}"] = split.drawn(ratings, seed)
    rows = []
    for name, part in parts.items():
        found = split.matrices(ratings, part)
        values: dict[str, dict[str, np.ndarray]] = {}
        for ranker in RANKERS:
            values[ranker] = cells.arrays(
                f"{name}, {ranker}", lambda found=found, ranker=ranker: judged(ranker, found)
            )
        rows += [row(name, ranker, values, config) for ranker in RANKERS]
    return rows


def judged(ranker: str, parts: tuple[Any, Any, Any]) -> dict[str, np.ndarray]:
    """Each user's measures on the test part, with the strength that validation chose."""
    train, validation, test = parts
    fit, path = RANKERS[ranker]
    at = fit(train)
    tried: list[float] = []
    # Up to the first strength that is worse than the one before: the rest is never tried.
    for strength in path if len(path) > 1 else ():
        found = measured(at(strength), train, train, validation, CUTOFFS[:1])
        tried.append(float(np.mean(found[f"ndcg@{CUTOFFS[0]}"])))
        if len(tried) > 1 and tried[-1] < tried[-2]:
            break
    best = int(np.argmax(tried)) if tried else 0
    known = train + validation
    found = measured(at(path[best]), known, known, test, CUTOFFS)
    kept = {"tried": np.array(tried), "path": np.array(path), "best": np.array(best)}
    return {**found, **kept}


def measured(
    scores: Scores, read: Any, seen: Any, held: Any, cutoffs: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Measures of each user who has an item held out; the others count as 0, as the authors do."""
    n, m = held.shape
    found = {f"{name}@{k}": np.zeros(n) for name in ("ndcg", "hits") for k in cutoffs}
    whole = read.toarray()
    every = np.asarray(scores(whole))
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        own = np.where(seen[rows].toarray() > 0, np.nan, every[rows])
        wanted = held[rows].toarray() > 0
        lists = ranking.top(own, min(max(cutoffs), m))
        hit = np.take_along_axis(wanted, np.maximum(lists, 0), axis=1) & (lists >= 0)
        many = np.sum(wanted, axis=1)
        for k in cutoffs:
            gains = 1.0 / np.log2(np.arange(min(k, m)) + 2.0)
            most = np.minimum(many, len(gains))
            ideal = np.append(0.0, np.cumsum(gains))[most]
            some = most > 0
            found[f"ndcg@{k}"][rows][some] = (hit[:, :k] @ gains)[some] / ideal[some]
            found[f"hits@{k}"][rows][some] = hit[:, :k].sum(1)[some] / most[some]
    return found


def row(
    name: str, ranker: str, values: Mapping[str, Mapping[str, np.ndarray]], config: Config
) -> dict[str, Any]:
    """Means over users with intervals, and the paired difference to the first."""
    own, first = values[ranker], values[FIRST]
    users = np.arange(len(own["ndcg@10"]))
    made: dict[str, Any] = {
        "split": name,
        "ranker": ranker,
        "strength": own["path"][own["best"]],
        "tried": own["tried"],
        "path": own["path"],
        "at the edge": bool(len(own["path"]) > 1 and own["best"] in (0, len(own["path"]) - 1)),
        "users": len(users),
    }
    for measure in (f"{kind}@{k}" for kind in ("ndcg", "hits") for k in CUTOFFS):
        made[measure] = intervals.mean_with_interval(own[measure], users, draws=config.draws)
    made["difference"] = intervals.mean_difference(
        own["ndcg@10"], first["ndcg@10"], users, draws=config.draws
    )
    return made


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over splits of nDCG@10, by recommender."""
    kept = report.to_json(rows)
    found = {
        ranker: [r["ndcg@10"]["value"] for r in kept if r["ranker"] == ranker] for ranker in RANKERS
    }
    return {"ndcg@10": {ranker: float(np.mean(v)) for ranker, v in found.items()}}


def tables(results: Mapping[str, Any]) -> list[Table]:
    """What each recommender reaches, a table a split."""
    made = []
    for name in dict.fromkeys(r["split"] for r in results["rows"]):
        rows = [
            {
                "recommender": r["ranker"],
                "strength": "" if r["ranker"] == "popularity" else f"{r['strength']:g}",
                "nDCG@10": interval(r["ndcg@10"]),
                "published": PUBLISHED.get(r["ranker"]) if name == AUTHORS else None,
                "nDCG@100": interval(r["ndcg@100"]),
                "hits@10": interval(r["hits@10"]),
                "hits@100": interval(r["hits@100"]),
                f"nDCG@10 less that of {FIRST}": None
                if r["ranker"] == FIRST
                else interval(r["difference"]),
            }
            for r in results["rows"]
            if r["split"] == name
        ]
        made.append(table(rows, dict.fromkeys(rows[0], ".3f"), name))
    return made


def draw(results: Mapping[str, Any]) -> Any:
    """nDCG@10 of each recommender on each split, beside what is published."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(6.0, 3.2), layout="constrained", dpi=130)
    ax = made.subplots()
    splits = list(dict.fromkeys(r["split"] for r in results["rows"]))
    names = list(RANKERS)
    for at, name in enumerate(splits):
        own = [r for r in results["rows"] if r["split"] == name]
        values = [interval(r["ndcg@10"]) for r in own]
        places = np.arange(len(own)) + 0.12 * (at - (len(splits) - 1) / 2)
        middle = np.array([v.value for v in values])
        ends = np.array([[v.value - v.low, v.high - v.value] for v in values]).T
        ax.errorbar(places, middle, yerr=ends, fmt="o", markersize=4, label=name)
    known = [(names.index(name), value) for name, value in PUBLISHED.items()]
    ax.plot(*zip(*known, strict=True), "x", color="0.4", label="published")
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="nDCG@10", ylim=(0, None))
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return made

"""Speed of contrastive pretraining against gensim's skip-gram, quality held beside it.

One run, same sequences, window, negatives, dimension and epochs. Rates are trained positive pairs
a second, compilation left out (reported apart); the runs alternate, medians and ratios are given.
Quality is the discriminant probe's macro-F1. ``negatives`` says how they are drawn: gensim draws k
for every pair; kernlens by default draws k for every anchor, which its pairs share.
"""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from experiments.kit.cells import Cells
from experiments.kit.shown import table
from kernlens import datasets, probes, targets
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.train import pretrain, sampling
from kernlens.types import Interactions, Labels


@dataclass(frozen=True)
class Config:
    """What is timed."""

    settings: tuple[tuple[int, int], ...] = ((8, 8), (3, 3))
    """(window, negatives) pairs."""
    dim: int = 32
    """Embedding dimension."""
    epochs: int = 2
    """Passes over the data."""
    many: int = 8
    """Seeds of the runs that train several at once."""
    repeats: int = 2
    """Timed runs of each; medians are reported."""
    workers: int = 2
    """gensim's threads."""
    learning_rate: float = 1e-2
    """Adam's, falling to a hundredth of itself, as gensim's does."""
    min_class_count: int = 50
    """Classes with fewer items are left out of the probe."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    settings=((2, 2),), dim=4, epochs=1, many=2, repeats=1, min_class_count=2, synthetic=5_000
)


class Model:
    """A model under test: ``run()`` gives embeddings ``[seeds, n, d]`` and training seconds."""

    def __init__(self, negatives: str, seeds: int, run: Callable[[], tuple[np.ndarray, float]]):
        self.negatives, self.seeds, self.run = negatives, seeds, run


def gensim_skip_gram(
    data: Interactions, window: int, negatives: int, config: Config
) -> tuple[np.ndarray, float]:
    """gensim's Word2Vec; its vocabulary is built before the clock starts."""
    from gensim.models import Word2Vec

    text = data.items.astype(str)
    ends = zip(data.offsets[:-1], data.offsets[1:], strict=True)
    sentences = [text[a:b].tolist() for a, b in ends]
    model: Any = Word2Vec(
        vector_size=config.dim, window=window, negative=negatives, sg=1, hs=0, sample=0,
        shrink_windows=False, min_count=1, workers=config.workers, seed=1,
    )  # fmt: skip
    model.build_vocab(sentences)
    start = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=config.epochs)
    seconds = time.perf_counter() - start
    order = [model.wv.key_to_index[str(i)] for i in range(data.num_items)]
    return model.wv.vectors[order][None], seconds


def models(data: Interactions, window: int, negatives: int, config: Config) -> dict[str, Model]:
    """The models under test, by name."""
    steps = config.epochs * -(-len(data.items) // 1024)
    optimizer = optax.adam(
        optax.linear_schedule(config.learning_rate, config.learning_rate / 100, steps)
    )

    def ours(seeds: int, **options: Any) -> tuple[np.ndarray, float]:
        fitted = pretrain.contrastive(
            data, window=window, negatives=negatives, dim=config.dim, epochs=config.epochs,
            seeds=seeds, optimizer=optimizer, noise=sampling.unigram(data.counts), **options,
        )  # fmt: skip
        return fitted.embeddings, fitted.seconds

    sgns = {"contrast": pretrain.SIGMOID, "separate_context": True}
    return {
        "gensim skip-gram": Model(
            "pair", 1, functools.partial(gensim_skip_gram, data, window, negatives, config)
        ),
        "kernlens, gensim's loss": Model("anchor", 1, functools.partial(ours, 1, **sgns)),
        "kernlens, gensim's loss, negatives a pair": Model(
            "pair", 1, functools.partial(ours, 1, share_negatives=False, **sgns)
        ),
        f"kernlens, gensim's loss, {config.many} seeds": Model(
            "anchor", config.many, functools.partial(ours, config.many, **sgns)
        ),
        "kernlens, the paper's loss": Model("anchor", 1, functools.partial(ours, 1)),
        f"kernlens, the paper's loss, {config.many} seeds": Model(
            "anchor", config.many, functools.partial(ours, config.many)
        ),
    }


def quality(embeddings: np.ndarray, task: Labels) -> list[float]:
    """The probe's macro-F1 of each seed."""
    rows = targets.labelled_rows(task)
    kept = task._replace(codes=task.codes[rows])
    return [probes.discriminant(z[rows], kept).metrics["macro_f1"].value for z in embeddings]


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each setting and model."""
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=100, num_users=50, num_interactions=config.synthetic,
            num_classes=3,
        )  # fmt: skip
        task = data.labels["class"]
    else:
        data = datasets.load("complete_journey")
        task = data.labels["department"]
    task = targets.drop_rare(task, config.min_class_count)
    rows = []
    for window, negatives in config.settings:
        make = functools.partial(
            time_models, data, task, window, negatives, config, tell=cells.tell
        )
        rows += cells(f"window {window}, {negatives} negatives", make)
    return rows


def time_models(
    data: Interactions,
    task: Labels,
    window: int,
    negatives: int,
    config: Config,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Times all models in turn, ``repeats`` times; a first run of each, not counted, compiles."""
    made = models(data, window, negatives, config)
    first = {}
    for name, model in made.items():
        first[name] = model.run()
        tell(f"{name}: {first[name][1]:.1f} s, compiling")
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(config.repeats):
        for name, model in made.items():
            seconds[name].append(model.run()[1])
            tell(f"{name}: {seconds[name][-1]:.1f} s")
    pairs = pretrain.count_pairs(data, window) * config.epochs
    peer = np.median(seconds["gensim skip-gram"])
    return [
        {
            "window": window,
            "negatives": negatives,
            "model": name,
            "negatives_drawn_per": model.negatives,
            "seeds": model.seeds,
            "pairs": pairs * model.seeds,
            "seconds": seconds[name],
            "first_seconds": first[name][1],
            "rate": pairs * model.seeds / float(np.median(seconds[name])),
            "ratio": float(model.seeds * peer / np.median(seconds[name])),
            "macro_f1": quality(first[name][0], task),
        }
        for name, model in made.items()
    ]


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Lowest ratio to gensim over the settings, by model."""
    names = dict.fromkeys(row["model"] for row in rows)
    return {
        name: {"lowest_ratio": min(row["ratio"] for row in rows if row["model"] == name)}
        for name in names
    }


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Rates and quality of pretraining."""
    rows = [
        {
            "model": row["model"],
            "window, k": f"{row['window']}, {row['negatives']}",
            "k drawn per": row["negatives_drawn_per"],
            "M pairs/s": row["rate"] / 1e6,
            "× gensim": row["ratio"],
            "probe macro-F1": float(np.mean(row["macro_f1"])),
        }
        for row in results["rows"]
    ]
    return [table(rows, {"M pairs/s": ".2f", "× gensim": ".2f", "probe macro-F1": ".3f"})]


def draw(results: Mapping[str, Any]) -> Any:
    """Rate against quality."""
    rows = results["rows"]
    panels = []
    for window, negatives in dict.fromkeys((r["window"], r["negatives"]) for r in rows):
        mine = [r for r in rows if (r["window"], r["negatives"]) == (window, negatives)]
        panels.append(
            report.Panel(
                title=f"window {window}, {negatives} negatives",
                x=np.array([row["ratio"] for row in mine]),
                x_label="trained pairs a second, × gensim",
                y=np.array([np.mean(row["macro_f1"]) for row in mine]),
                y_label="probe macro-F1",
                colour=np.array([float(row["seeds"]) for row in mine]),
                names=[row["model"].replace("kernlens, ", "") for row in mine],
            )
        )
    return report.figure(panels, "seeds trained at once")

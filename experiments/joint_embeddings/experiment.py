"""Behaviour and text together: does a kernel learnt without training a reader serve trained ones?

Item2vec and text embeddings of the same items, for two tasks. Some items choose the weights
of the two kernels, by the gradient of the leave-one-out error of ridge regression (no reader is
trained); readers that feel a scale (logistic regression on columns as they are, k nearest
neighbours, a kernel SVM) are then trained and judged on others, in several splits. Beside
it: either alone, both as they come, and both with the same variance; and PPMI-SVD of what is bought
together, the strong simple baseline of behaviour.

Verdict: over pretraining runs, texts, tasks and readers, the learnt weights' macro-F1 less that of
the best alternative that uses both, by a bootstrap over runs. Holds where the interval lies above
0, fails where no part of it does, and is undecided where it contains 0.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from experiments.kit import runner, shown
from experiments.kit.cells import Cells
from experiments.kit.shown import Claim, table
from experiments.kit.sources import common
from experiments.kit.verdicts import exceeds
from kernlens import datasets, files, probes, targets
from kernlens.models import text
from kernlens.probes import kernel_learning
from kernlens.show.table import Table
from kernlens.train import cooccurrence, pretrain
from kernlens.types import Interactions, Labels

BEHAVIOUR, TEXT, COUNTED = "behaviour", "text", "PPMI-SVD of behaviour"
AS_THEY_COME, EQUAL, LEARNT = "both as they come", "both, equal variance", "both, learnt weights"
VARIANTS = (BEHAVIOUR, COUNTED, TEXT, AS_THEY_COME, EQUAL, LEARNT)


@dataclass(frozen=True)
class Config:
    """The embeddings, the tasks and the readers."""

    texts: tuple[str, ...] = ("minilm", "use", "glove", "tfidf")
    """Text embeddings: minilm, use (the Universal Sentence Encoder) and glove need their packages,
    tfidf none."""
    tasks: tuple[str, ...] = ("department", "brand")
    """Labels to predict."""
    runs: int = 3
    """Pretraining runs of item2vec."""
    window: int = 8
    """Tokens to either side that are positives."""
    negatives: int = 3
    """Negatives per anchor."""
    epochs: int = 5
    """Passes of pretraining over the data."""
    dim: int = 32
    """Dimension of item2vec, and of TF-IDF's components."""
    steps: int = 60
    """Most steps of learning the weights."""
    most: int = 3000
    """Items of either half, drawn among those with a label."""
    splits: int = 2
    """Splits of the second half into items to train a reader on and items to judge it on."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    draws: int = 2000
    """Bootstrap draws over runs."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    texts=("noise",), tasks=("class",), runs=2, window=2, epochs=2, dim=8, steps=5, splits=1,
    min_class_count=5, draws=100, synthetic=8000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, runs=2, window=1, negatives=1, epochs=1, dim=1, steps=1, most=10, splits=1,
        min_class_count=5, draws=1,
    )  # fmt: skip
    unknown = [name for name in config.texts if name not in TEXTS]
    if unknown or not config.texts:
        raise ValueError(f"--texts must be among {', '.join(TEXTS)}; got {unknown or 'none'}")
    if not config.tasks:
        raise ValueError("--tasks must name a label at least; got none")
    if "minilm" in config.texts:
        text.minilm_folder()


def titles(data: Interactions) -> list[str]:
    """The text of each item; ValueError where there is none."""
    if data.text is None:
        raise ValueError("the items have no text")
    return [str(one) for one in data.text]


def _minilm(data: Interactions, dim: int, cells: Cells) -> np.ndarray:
    return text.encode(
        titles(data), text.load(text.minilm_folder()), progress=_told(cells, "minilm"),
        cache=cells.folder / "minilm",
    ).embeddings  # fmt: skip


def _use(data: Interactions, dim: int, cells: Cells) -> np.ndarray:
    told = _told(cells, "use")
    return text.universal_sentence_encoder(titles(data), progress=told).embeddings


def _glove(data: Interactions, dim: int, cells: Cells) -> np.ndarray:
    return text.glove(titles(data)).embeddings


def _tfidf(data: Interactions, dim: int, cells: Cells) -> np.ndarray:
    return text.tfidf_svd(titles(data), dim=dim).embeddings


def _noise(data: Interactions, dim: int, cells: Cells) -> np.ndarray:
    return 5.0 * np.random.default_rng(0).standard_normal((data.num_items, dim))


def _told(cells: Cells, name: str) -> Callable[[int, int], None]:
    return lambda done, total: cells.tell(f"{name}: {done:,} of {total:,} texts")


TEXTS: dict[str, Callable[[Interactions, int, Cells], np.ndarray]] = {
    "minilm": _minilm, "use": _use, "glove": _glove, "tfidf": _tfidf, "noise": _noise,
}  # fmt: skip
"""Text embeddings by name; noise says nothing, and is there to be given no weight."""


def stored(cells: Cells, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An embedding of all items, float32 ``[n, d]``, made once."""
    return cells.arrays(name, lambda: {"z": np.asarray(make(), np.float32)})["z"]


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each pretraining run, text and task."""
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=300, num_users=200, num_interactions=config.synthetic,
            num_classes=4,
        )  # fmt: skip
    else:
        data = datasets.load("complete_journey")
    missing = [name for name in config.tasks if name not in data.labels]
    if missing:
        raise ValueError(f"tasks must be labels among {sorted(data.labels)}; got {missing}")
    texts = {
        name: stored(
            cells, f"texts: {name}", functools.partial(TEXTS[name], data, config.dim, cells)
        )
        for name in config.texts
    }
    seconds = {name: cells.seconds(f"texts: {name}") for name in texts}
    counted = stored(cells, COUNTED, lambda: cooccurrence.ppmi_svd(data, dim=config.dim).embeddings)
    optimizer, rows = optax.adam(3e-3), []
    for seed in range(config.runs):
        behaviour = functools.cache(functools.partial(pretrained, data, config, seed, optimizer))
        for name, given in texts.items():
            for task in config.tasks:
                classes = common(data.labels[task], config.min_class_count, task)
                make = functools.partial(cell, behaviour, given, counted, classes, config, seed)
                found = cells(f"run {seed}, {name}, {task}", make)
                rows.append(
                    {
                        "run": seed, "text": name, "task": task,
                        "text_seconds": seconds[name], **found,
                    }
                )  # fmt: skip
    return rows


def pretrained(data: Interactions, config: Config, seed: int, optimizer: Any) -> np.ndarray:
    """Item2vec of one run."""
    return pretrain.contrastive(
        data, window=config.window, negatives=config.negatives, epochs=config.epochs,
        dim=config.dim, seeds=(seed,), optimizer=optimizer,
    ).embeddings[0]  # fmt: skip


def cell(
    behaviour: Callable[[], np.ndarray],
    given: np.ndarray,
    counted: np.ndarray,
    task: Labels,
    config: Config,
    seed: int,
) -> dict[str, Any]:
    """What readers of every variant reach, the weights, and their course."""
    rows = np.random.default_rng(seed).permutation(targets.labelled_rows(task))
    half = min(len(rows) // 2, config.most)
    halves = [np.sort(part) for part in (rows[:half], rows[half : 2 * half])]
    choosing, judging = (
        ((behaviour()[part], given[part]), task._replace(codes=task.codes[part])) for part in halves
    )
    equal = kernel_learning.weights_of(choosing[0])
    learnt = kernel_learning.learn(kernel_learning.weighted, equal, *choosing, steps=config.steps)
    joint = {
        AS_THEY_COME: np.zeros(2),
        EQUAL: equal,
        LEARNT: np.asarray(learnt.params),
    }
    parts, kept = judging
    every = {BEHAVIOUR: parts[0], COUNTED: counted[halves[1]], TEXT: parts[1]} | {
        name: np.asarray(kernel_learning.weighted(jnp.asarray(w, jnp.float32), parts))
        for name, w in joint.items()
    }
    return {
        "log_ratio": {name: float(w[1] - w[0]) for name, w in joint.items()},
        "gained": float(learnt.params[1] - learnt.params[0] - (equal[1] - equal[0])),
        "errors": learnt.errors,
        "predicted": {
            name: probes.discriminant(_unit(x), kept, draws=20).metrics["macro_f1"].value
            for name, x in every.items()
        },
        "trained": {name: read(_unit(x), kept.codes, config.splits) for name, x in every.items()},
    }


def _unit(x: np.ndarray) -> np.ndarray:
    """Centred, with mean squared norm 1: readers' own strengths mean the same for all."""
    x = x - x.mean(axis=0)
    return (x / np.sqrt(np.mean(np.sum(x**2, axis=1)))).astype(np.float32)


def read(x: np.ndarray, codes: np.ndarray, splits: int) -> dict[str, list[float]]:
    """Macro-F1 of trained readers by split."""
    metrics = files.optional("sklearn.metrics", extra="train")
    selection = files.optional("sklearn.model_selection", extra="train")
    codes = np.unique(codes, return_inverse=True)[1]
    found: dict[str, list[float]] = {name: [] for name in READERS}
    cutter = selection.StratifiedShuffleSplit(splits, test_size=0.2, random_state=0)
    for train, test in cutter.split(x, codes):
        for name, make in READERS.items():
            guessed = make().fit(x[train], codes[train]).predict(x[test])
            found[name].append(float(metrics.f1_score(codes[test], guessed, average="macro")))
    return found


def _logistic() -> Any:
    return files.optional("sklearn.linear_model", extra="train").LogisticRegression(
        C=100.0, max_iter=300
    )


def _neighbours() -> Any:
    return files.optional("sklearn.neighbors", extra="train").KNeighborsClassifier(10)


def _svm() -> Any:
    return files.optional("sklearn.svm", extra="train").SVC(C=10.0, gamma=1.0)


READERS: dict[str, Callable[[], Any]] = {"LR": _logistic, "k-NN": _neighbours, "SVM": _svm}
"""Trained readers that feel the scale of a column."""


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means by text, task and variant; how far learnt weights are from the best alternative."""
    lines = []
    for name in dict.fromkeys(row["text"] for row in rows):
        for task in dict.fromkeys(row["task"] for row in rows):
            mine = [row for row in rows if (row["text"], row["task"]) == (name, task)]
            for variant in VARIANTS:
                line: dict[str, Any] = {"text": name, "task": task, "variant": variant}
                for reader in READERS:
                    values = [np.mean(row["trained"][variant][reader]) for row in mine]
                    line[reader] = float(np.mean(values))
                    line[f"{reader} sd"] = float(np.std(values, ddof=1)) if len(mine) > 1 else 0.0
                line["predicted"] = float(np.mean([row["predicted"][variant] for row in mine]))
                ratio = [row["log_ratio"][variant] for row in mine if variant in row["log_ratio"]]
                line["log_ratio"] = float(np.mean(ratio)) if ratio else None
                lines.append(line)
    found = {
        "lines": lines,
        "less both": lead(rows, (AS_THEY_COME, EQUAL), config),
        "less equal": lead(rows, (EQUAL,), config),
        "less alone": lead(rows, (BEHAVIOUR, TEXT), config),
        "text_seconds": {row["text"]: row["text_seconds"] for row in rows},
        "error": float(np.mean([1 - min(row["errors"]) / row["errors"][0] for row in rows])),
    }
    return found | {"verdict": exceeds(found["less both"])}


def lead(rows: list[dict[str, Any]], others: tuple[str, ...], config: Config) -> dict[str, Any]:
    """Macro-F1 of learnt weights less the better of others in each place, over runs.

    The better one is that of the mean over runs, so that its luck in one run is not held against
    the learnt weights.
    """
    places = sorted({(row["text"], row["task"]) for row in rows})
    runs = sorted({row["run"] for row in rows})

    def values(variant: str) -> np.ndarray:
        """``[runs, places x readers]``."""
        by = {(row["run"], row["text"], row["task"]): row["trained"][variant] for row in rows}
        return np.array(
            [
                [float(np.mean(by[(r, *place)][reader])) for place in places for reader in READERS]
                for r in runs
            ]
        )

    tables = {name: values(name) for name in (*others, LEARNT)}
    means = np.stack([tables[name].mean(axis=0) for name in others])
    stacked = np.stack([tables[name] for name in others])
    best = np.take_along_axis(stacked, np.argmax(means, axis=0)[None, None], axis=0)[0]
    gaps = tables[LEARNT] - best
    drawn = np.random.default_rng(0).integers(len(runs), size=(config.draws, len(runs)))
    low, high = np.quantile(gaps[drawn].mean(axis=(1, 2)), (0.05, 0.95))
    return {"value": float(gaps.mean()), "low": float(low), "high": float(high)}


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Macro-F1 by variant, means over classifiers."""
    heads = {"LR": "LR", "k-NN": "k-NN", "SVM": "SVM", "predicted": "discriminant probe"}
    rows = [
        {
            "classes, text": f"{line['task']}, {line['text']}",
            "embedding": line["variant"],
            **{title: line[key] for key, title in heads.items()},
            "text over behaviour": shown.number(
                None if line["log_ratio"] is None else float(np.exp(line["log_ratio"]))
            ),
        }
        for line in results["summary"]["lines"]
    ]
    digits = dict.fromkeys(heads.values(), ".3f") | {"text over behaviour": ".2g"}
    took = [
        {"text": name, "seconds of encoding all items": seconds}
        for name, seconds in results["summary"].get("text_seconds", {}).items()
    ]
    encoded = [table(took, {"seconds of encoding all items": ".0f"})] if took else []
    return [table(rows, digits), *encoded]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether learnt weights serve trained classifiers."""
    measured = {
        "macro-F1 above the better of two plain joins": shown.interval(
            results["summary"]["less both"]
        )
    }
    text = "Kernel weights learnt without a classifier serve trained ones"
    return [Claim(text, measured, results["summary"]["verdict"])]


def draw(results: Mapping[str, Any]) -> Any:
    """Macro-F1 by variant and reader, a panel for each text and task."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    lines = results["summary"]["lines"]
    texts = list(dict.fromkeys(line["text"] for line in lines))
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    made = Figure(figsize=(4.0 * len(texts), 2.6 * len(tasks) + 0.4), layout="constrained", dpi=130)
    axes = made.subplots(len(tasks), len(texts), squeeze=False, sharex="row")
    for row, task in zip(axes, tasks, strict=True):
        for ax, name in zip(row, texts, strict=True):
            mine = [line for line in lines if (line["text"], line["task"]) == (name, task)]
            for offset, (reader, colour) in enumerate(
                zip(READERS, ("#1f5fa8", "#c8553d", "#4a7c59"), strict=True)
            ):
                ax.errorbar(
                    [line[reader] for line in mine],
                    np.arange(len(mine)) + 0.2 * (offset - 1),
                    xerr=[line[f"{reader} sd"] for line in mine],
                    fmt="o", markersize=4, color=colour, label=reader, linewidth=1,
                )  # fmt: skip
            shown = [line["variant"] for line in mine] if ax is row[0] else [""] * len(mine)
            ax.set_yticks(range(len(mine)), shown)
            ax.invert_yaxis()
            ax.set_title(f"{task}, {name}", fontsize=10)
            ax.set_xlabel("macro-F1")
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=8, frameon=False)
    return made

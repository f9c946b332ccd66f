"""Trained heads on every run of a family, and how far their answers to held-out rows differ."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from kernlens.metrics.disagreement import of_classes
from kernlens.models import decoders
from kernlens.train import heads
from kernlens.types import Labels

MLP_SPLITS = 4
"""Most splits on which MLPs are trained."""

Runs = Sequence[np.ndarray]


def logistic_regression(runs: Runs, labels: Labels, splits: int) -> dict[str, float]:
    """Kappa and churn of logistic regression, means over pairs of runs and splits."""
    made = [heads.classify(x, labels, decoder=decoders.Linear(), seeds=splits) for x in runs]
    given = [[own.predicted[s, own.held_out[s]] for s in range(splits)] for own in made]
    return _over_pairs(given)


def class_means(
    runs: Runs, labels: Labels, splits: int, *, priors: bool = False
) -> dict[str, float]:
    """The same of the head by inner products with class means."""
    codes, size = labels.codes, len(labels.names)
    given: list[list[np.ndarray]] = [[] for _ in runs]
    for s in range(splits):
        held = heads.stratified_split(s, codes)
        is_of = np.eye(size)[codes[~held]]
        counts = is_of.sum(axis=0)
        for own, x in zip(given, runs, strict=True):
            x = np.asarray(x, np.float64)
            scores = x[held] @ (is_of.T @ x[~held] / counts[:, None]).T
            own.append(np.argmax(scores + priors * np.log(counts / counts.sum()), axis=1))
    return _over_pairs(given)


def mlp(runs: Runs, labels: Labels, splits: int) -> dict[str, float]:
    """The same of MLPs, each of a seed of its own, with what two seeds differ on one run."""
    splits = min(splits, MLP_SPLITS)
    held = np.stack([heads.stratified_split(s, labels.codes) for s in range(splits)])
    twice = np.concatenate([held, held])
    given: list[list[list[np.ndarray]]] = []
    for r, x in enumerate(runs):
        seeds = range(1000 + 2 * splits * r, 1000 + 2 * splits * (r + 1))
        made = heads.classify(x, labels, decoder=decoders.Mlp(32), seeds=seeds, held_out=twice)
        answers = [made.predicted[i, twice[i]] for i in range(2 * splits)]
        given.append([answers[:splits], answers[splits:]])
    # Of two runs all four pairs of their heads.
    between = [
        _over_pairs([a, b])
        for first, second in itertools.combinations(given, 2)
        for a, b in itertools.product(first, second)
    ]
    within = [_over_pairs(own) for own in given]
    churn, noise = (float(np.mean([own["churn"] for own in part])) for part in (between, within))
    return {
        "kappa": float(np.mean([own["kappa"] for own in between])),
        "churn": churn, "seed_noise": noise, "excess": churn - noise,
    }  # fmt: skip


def _over_pairs(given: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
    """Means over pairs of runs, and over splits, of ``given [R][S]``."""
    found = [
        of_classes(x, y)
        for a, b in itertools.combinations(given, 2)
        for x, y in zip(a, b, strict=True)
    ]
    defined = [own.kappa for own in found]
    return {
        "kappa": float(np.nanmean(defined)) if np.any(np.isfinite(defined)) else np.nan,
        "churn": float(np.mean([own.churn for own in found])),
    }


TRAINED: dict[str, Callable[[Runs, Labels, int], dict[str, float]]] = {
    "LR": logistic_regression,
    "class means": class_means,
    "class means, priors": lambda runs, labels, splits: class_means(
        runs, labels, splits, priors=True
    ),
    "MLP(32)": mlp,
}
"""Trained heads by the names of the experiment."""

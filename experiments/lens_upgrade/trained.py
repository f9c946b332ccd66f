"""Trained outcomes: heads of the old version, and of the new one, on splits 80/20."""

from typing import Any

import numpy as np

from kernlens import metrics
from kernlens.lens import maps
from kernlens.models import decoders
from kernlens.probes.serving import shared_groups
from kernlens.train import heads
from kernlens.types import Labels

HEADS = {"LR": decoders.Linear(), "MLP(32)": decoders.Mlp(32)}
"""Heads by name; logistic regression at C = 1."""

OLD = "old version"


def outcomes(
    old: np.ndarray, new: np.ndarray, labels: Labels, *, head: str, names: list[str], splits: int
) -> dict[str, dict[str, list[float]]]:
    """Macro-F1, accuracy and flips of each way on the held-out rows of each split.

    Heads and maps learn from the training rows of a split alone.

    Args:
      old: rows of the old version.
      new: rows of the new version.
      labels: their classes.
      head: of :data:`HEADS`.
      names: maps.
      splits: how many splits.
    """
    decoder, codes = HEADS[head], labels.codes
    held = np.stack([split(s, old, new, labels) for s in range(splits)])
    deployed = heads.train(old, labels, decoder=decoder, held_out=held, seeds=range(splits))
    later = range(splits, 2 * splits)
    again = heads.train(new, labels, decoder=decoder, held_out=held, seeds=later)
    retrained, found = again.scores(new), {}
    for s in range(splits):
        own, test = deployed.only(s), held[s]
        given = {OLD: own.scores(old)[0], "retrained": retrained[s]}
        moments = maps.joint(new[~test], old[~test])
        for name in names:
            strength = 1e-6
            mapped = maps.fit(name, moments, strength=strength)(np.asarray(new))
            given[name] = own.scores(mapped)[0]
        taught = labels._replace(codes=np.argmax(given[OLD], axis=1).astype(np.int32))
        made = heads.train(new, taught, decoder=decoder, held_out=test[None], seeds=(s,))
        given["distilled"] = made.scores(new)[0]
        before = np.argmax(given[OLD][test], axis=1)
        for name, scores in given.items():
            for key, value in _measured(codes[test], before, scores[test]).items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def split(seed: int, old: np.ndarray, new: np.ndarray, labels: Labels) -> np.ndarray:
    """Rows that a split holds out, bool ``[n]``; copies in either version stay together, since a
    held-out copy says nothing of items unlike those known."""
    groups = shared_groups([old, new], labels)
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return heads.stratified_split(seed, labels.codes[first])[place]


def _measured(codes: np.ndarray, before: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    after = np.argmax(scores, axis=1)
    size = int(max(codes.max(), after.max())) + 1
    own = metrics.from_counts(*metrics.counts(codes, after[None], size))
    moved = before != after
    return {
        "macro_f1": float(own.macro_f1[0]),
        "accuracy": float(own.accuracy[0]),
        "negative_flips": float(np.mean(moved & (before == codes))),
        "churn": float(np.mean(moved)),
    }

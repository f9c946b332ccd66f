"""Trained heads, none of them by a probe: macro-F1 on the held-out fifth of several splits."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernlens.models import decoders
from kernlens.train import heads
from kernlens.types import Labels

LINEAR, MEANS, COSINE, MLP = "logistic regression", "class means", "cosine", "MLP(32)"
DECODERS: dict[str, Any] = {
    LINEAR: None,
    MEANS: decoders.InnerProduct(),
    COSINE: decoders.Cosine(),
    MLP: decoders.Mlp(32),
}
"""Heads that are named to diagnose, and trained."""


def splits(codes: np.ndarray, groups: np.ndarray, count: int) -> list[np.ndarray]:
    """Held-out rows of splits 80/20, class by class and copies together, bool ``[n]`` each."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return [heads.stratified_split(seed, codes[first])[place] for seed in range(count)]


def macro_f1(codes: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 of the classes that occur."""
    size = 1 + int(max(codes.max(), predicted.max()))
    hits = np.bincount(codes[codes == predicted], minlength=size)
    sizes = np.bincount(codes, minlength=size) + np.bincount(predicted, minlength=size)
    return float(np.mean(2.0 * hits[sizes > 0] / sizes[sizes > 0]))


def reached(
    head: str, x: np.ndarray, codes: np.ndarray, held: Sequence[np.ndarray], penalty: float | None
) -> np.ndarray:
    """Macro-F1 of a head trained on each split, ``[S]``.

    Args:
      head: a key of :data:`DECODERS`.
      x: rows, ``[n, d]``.
      codes: class of each, ``[n]``.
      held: rows held out, by split. The MLP's trainer draws the same ones where no row is a copy.
      penalty: of logistic regression.
    """
    if head == MLP:
        names = tuple(map(str, range(int(codes.max()) + 1)))
        found = heads.classify(
            x.astype(np.float32), Labels(codes, names), decoder=DECODERS[MLP], seeds=len(held)
        )
        given = zip(found.held_out, found.predicted, strict=True)
        return np.array([macro_f1(codes[out], own[out]) for out, own in given])
    fit = _logistic if head == LINEAR else _means
    if head == COSINE:
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return np.array([macro_f1(codes[out], fit(x, codes, out, penalty)) for out in held])


def _logistic(x: np.ndarray, codes: np.ndarray, out: np.ndarray, penalty: Any) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    mean, spread = x[~out].mean(axis=0), x[~out].std(axis=0)
    z = (x - mean) / np.where(spread > 1e-6 * np.abs(mean), spread, np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps spent: that is the head's outcome
        fitted = LogisticRegression(C=1.0 / penalty, max_iter=1000).fit(z[~out], codes[~out])
    return fitted.predict(z[out])


def _means(x: np.ndarray, codes: np.ndarray, out: np.ndarray, penalty: Any) -> np.ndarray:
    classes = np.unique(codes[~out])
    means = np.stack([x[~out][codes[~out] == c].mean(axis=0) for c in classes])
    return classes[np.argmax(x[out] @ means.T, axis=1)]

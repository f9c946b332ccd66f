"""Heads trained on single and joined embeddings, with scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernlens import files, lens
from kernlens.train import heads
from kernlens.types import Labels


def reached(
    given: Mapping[str, np.ndarray], labels: Labels, head: str, splits: int, found: lens.Fusion
) -> dict[str, float]:
    """Macro-F1 on held-out rows, the mean over splits, by embedding and way to join.

    Args:
      given: two embeddings by name.
      labels: a class of each row.
      head: its name.
      splits: how many.
      found: says with which penalty a linear head is trained.

    Returns:
      Macro-F1 by name.
    """
    metrics = files.optional("sklearn.metrics", extra="train")
    values: dict[str, list[float]] = {}
    penalties = {
        own.name: own.prediction.path.chosen
        for own in (*found.alone, *found.joined)
        if own.prediction.path is not None
    }
    # Of two classes scikit-learn has one weight vector, where two share the penalty of a softmax.
    share = 0.5 if len(np.unique(labels.codes[labels.codes >= 0])) == 2 else 1.0
    parts = list(given.values())
    for seed in range(splits):
        held = heads.stratified_split(seed, labels.codes)
        kept = labels._replace(codes=np.where(held, -1, labels.codes))
        tables = dict(given)
        tables |= {
            own.name: lens.JOINS[own.name].fit(parts, kept, seed)(parts) for own in found.joined
        }
        for name, x in tables.items():
            alone = name in given or lens.JOINS[name].standardises
            model = HEADS[head](share * penalties.get(name, 1.0))
            train, test = _columns(np.asarray(x, np.float64), held, head, standardised=alone)
            given_classes = model.fit(train, labels.codes[~held]).predict(test)
            score = metrics.f1_score(labels.codes[held], given_classes, average="macro")
            values.setdefault(name, []).append(float(score))
    return {name: float(np.mean(own)) for name, own in values.items()}


def _columns(
    x: np.ndarray, held: np.ndarray, head: str, *, standardised: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows as a head reads them: a linear one in units of its own."""
    if head != "LR":
        return x[~held], x[held]
    mean, spread = x[~held].mean(axis=0), x[~held].std(axis=0)
    unit = np.where(spread > 0, spread, 1.0) if standardised else np.sqrt(np.mean(spread**2))
    return (x[~held] - mean) / unit, (x[held] - mean) / unit


class ClassMeans:
    """Inner products with class means."""

    def fit(self, x: np.ndarray, codes: np.ndarray) -> "ClassMeans":
        """Takes the mean of each class."""
        self.classes = np.unique(codes)
        self.means = np.stack([x[codes == c].mean(axis=0) for c in self.classes])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The class whose mean has the largest inner product."""
        return self.classes[np.argmax(x @ self.means.T, axis=1)]


def _logistic(penalty: float) -> Any:
    linear = files.optional("sklearn.linear_model", extra="train")
    return linear.LogisticRegression(C=1.0 / penalty, max_iter=1000)


def _neighbours(penalty: float) -> Any:
    return files.optional("sklearn.neighbors", extra="train").KNeighborsClassifier(10)


HEADS = {"LR": _logistic, "class means": lambda penalty: ClassMeans(), "k-NN": _neighbours}
"""Trained heads, of a penalty, by name."""

"""Recommenders in closed form: what is shared by all strengths, and scores at each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernlens.probes import recommenders
from kernlens.probes.recommenders.baselines import cosine_neighbours
from kernlens.probes.recommenders.user_ridge import dual_weights

Scores = Callable[[np.ndarray], np.ndarray]
"""From users' rows ``[b, m]`` to scores of all items ``[b, m]``."""

EASE_STRENGTHS = (200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
NEIGHBOURS = (10, 20, 50, 100)
RIDGES = (10.0, 20.0, 50.0, 100.0)
"""Of the linear kernel, relative to the mean of its diagonal."""

WIDE_RIDGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Of the tangent kernel."""

NONE = (0.0,)


def popularity(x: Any) -> Callable[[float], Scores]:
    """How often an item occurs."""
    counts = np.asarray(x.sum(axis=0)).ravel()
    return lambda _: lambda rows: np.broadcast_to(counts, rows.shape)


def item_knn(x: Any) -> Callable[[float], Scores]:
    """Cosine of the items' users, of the nearest items."""

    def at(neighbours: float) -> Scores:
        near = cosine_neighbours(x, int(neighbours)).toarray()
        return lambda rows: rows @ near

    return at


def ease(x: Any) -> Callable[[float], Scores]:
    """The ridge regression of each item on all others."""

    def at(strength: float) -> Scores:
        model = recommenders.fit_ease(x, strengths=[strength])
        weights = model.weights.astype(np.float32)
        return lambda rows: rows[:, model.items].astype(np.float32) @ weights

    return at


def symmetric(kernel: Callable[..., Any], rows: np.ndarray, blocks: int = 8) -> np.ndarray:
    """The kernel of rows with themselves, float32, half of its blocks computed."""
    made = np.empty((len(rows), len(rows)), np.float32)
    parts = np.array_split(np.arange(len(rows)), blocks)
    for i, left in enumerate(parts):
        right = np.concatenate(parts[i:])
        made[np.ix_(left, right)] = kernel(rows[left], rows[right])
        made[np.ix_(right, left)] = made[np.ix_(left, right)].T
    return made


def of_kernel(kernel: Callable[..., Any]) -> Callable[[Any], Callable[[float], Scores]]:
    """Kernel ridge of users' rows on themselves."""

    def fit(x: Any) -> Callable[[float], Scores]:
        rows = x.toarray().astype(np.float32)
        gram = symmetric(kernel, rows)
        crossed: list[tuple[np.ndarray, np.ndarray]] = []

        def cross(own: np.ndarray) -> np.ndarray:
            # Validation reads the rows of training, at every strength.
            if own.shape == rows.shape and np.array_equal(own, rows):
                return gram
            for known, values in crossed:
                if np.array_equal(known, own):
                    return values
            crossed.append((own, np.asarray(kernel(own.astype(np.float32), rows), np.float32)))
            return crossed[-1][1]

        def at(strength: float) -> Scores:
            # In float32: with a ridge of the mean diagonal the condition number is at most n.
            weights = dual_weights(gram, rows, strength)
            return lambda own: cross(own) @ weights

        return at

    return fit


RANKERS: dict[str, tuple[Callable[[Any], Callable[[float], Scores]], Sequence[float]]] = {
    "popularity": (popularity, NONE),
    "item k-NN": (item_knn, NEIGHBOURS),
    "one-hot ridge": (of_kernel(recommenders.linear_rows), RIDGES),
    "EASE": (ease, EASE_STRENGTHS),
    "infinity-AE": (of_kernel(recommenders.infinite_autoencoder()), WIDE_RIDGES),
}
"""Recommenders, each with the strengths (or neighbours) that validation chooses among, rising."""

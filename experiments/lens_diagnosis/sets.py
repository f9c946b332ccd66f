"""Clean tables: items of Complete Journey and MovieLens, digits, and small tables."""

import functools
from typing import Any

import numpy as np

from experiments.lens_diagnosis.plants import Table
from kernlens import datasets, targets
from kernlens.models import text
from kernlens.train.cooccurrence import ppmi_svd
from kernlens.types import Interactions

TUNED = ("CJ, behaviour", "digits")
"""Sets that thresholds were chosen on, declared before the numbers."""

SETS = (*TUNED, "CJ, text", "ML-1M, behaviour", "wine")
"""Sets of the committed run."""

KNOWN = (*SETS, "CJ, category")
"""All sets."""

CLASS_ROWS = 25
"""Least rows of a class of items."""


def load(name: str, config: Any) -> Table | None:
    """A clean table by name; None where its files were not given."""
    if name in ("digits", "wine"):
        from sklearn import datasets as tables

        data: Any = getattr(tables, f"load_{name}")()
        x, codes = _components(data.data, 16), data.target
        counts = np.random.default_rng(config.seed).zipf(1.6, len(codes)).astype(float)
        return _sampled(Table(x, codes, counts), config)
    if name == "ML-1M, behaviour":
        if config.movielens is None:
            return None
        data = datasets.load("recbole", config.movielens)
        return _items(data, ppmi_svd(data, dim=32).embeddings, "single_genre", config)
    data = _products()
    if name == "CJ, text":
        assert data.text is not None
        x = text.tfidf_svd([str(one) for one in data.text], dim=32).embeddings
    else:
        x = ppmi_svd(data, dim=32).embeddings
    label = "product_category" if name == "CJ, category" else "department"
    return _items(data, x, label, config)


@functools.cache
def _products() -> Interactions:
    """Complete Journey, read once."""
    return datasets.load("complete_journey")


def _items(data: Interactions, x: np.ndarray, label: str, config: Any) -> Table:
    # The ten largest classes, so that each keeps rows in a sample.
    given = data.labels[label]
    sizes = np.sort(np.bincount(given.codes[given.codes >= 0]))[::-1]
    kept = targets.drop_rare(given, int(sizes[min(9, len(sizes) - 1)]))
    rows = targets.labelled_rows(kept)
    table = Table(x[rows], kept.codes[rows], data.counts[rows].astype(float))
    return _sampled(table, config)


def _sampled(own: Table, config: Any) -> Table:
    """A sample of so many rows, class by class, classes of few rows left out."""
    rng = np.random.default_rng(config.seed)
    share = min(1.0, config.rows / len(own.codes))
    rows = np.concatenate(
        [
            rng.permutation(np.flatnonzero(own.codes == c))[: max(int(share * count), CLASS_ROWS)]
            for c, count in enumerate(np.bincount(own.codes))
            if count >= CLASS_ROWS
        ]
    )
    rows = rng.permutation(rows)
    codes = np.unique(own.codes[rows], return_inverse=True)[1].astype(np.int32)
    return Table(np.asarray(own.x[rows], np.float64), codes, own.counts[rows])


def _components(x: np.ndarray, dim: int) -> np.ndarray:
    z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    return z @ np.linalg.svd(z, full_matrices=False)[2][:dim].T

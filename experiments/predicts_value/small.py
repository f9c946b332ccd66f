"""Sets that scikit-learn carries, and drawn ones whose truth is known."""

from typing import Any

import numpy as np

from experiments.predicts_value.settings import Config

POPULATION = 20_000
"""Rows that heads are judged on where the truth is known."""

SIZE = 2000
"""Labelled rows of a drawn set."""

CLASSES = 5
"""Classes of a drawn set."""


def digits(config: Config, cells: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Handwritten digits, 1,797 rows: as they are, projected, with noise, random features."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    x, rng = data.data, np.random.default_rng(config.seed)
    left, singular, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    turned, size = left * singular, np.sqrt(np.mean(np.var(x, axis=0)))
    weights = rng.standard_normal((x.shape[1], 128)) / 8.0
    return {
        "pixels": x,
        "PCA 16": turned[:, :16],
        "PCA 4": turned[:, :4],
        "noise": x + 2.0 * size * rng.standard_normal(x.shape),
        "random features": np.maximum((x - x.mean(axis=0)) / size @ weights, 0.0),
    }, data.target


def table(name: str, config: Config, cells: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The standardised columns of a small table of scikit-learn."""
    from sklearn import datasets

    data: Any = getattr(datasets, f"load_{name}")()
    return {"columns": _standardised(data.data), **_leading(data.data)}, data.target


def diabetes(config: Config, cells: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Thirds of disease progression, 442 rows."""
    from sklearn.datasets import load_diabetes

    data: Any = load_diabetes()
    thirds = np.searchsorted(np.quantile(data.target, [1 / 3, 2 / 3]), data.target)
    return {"columns": _standardised(data.data), **_leading(data.data)}, thirds


def synthetic(name: str, config: Config, cells: Any) -> Any:
    """Rows that are drawn, 2,000 labelled ones, and many more that heads are judged on.

    Gaussian classes of one covariance, for which the best classifier is linear; noise that says
    nothing of five classes of equal size; rings, where the class is the radius in 4 of 8 columns.
    """
    size = min(SIZE, config.rows)
    n, rng = size + POPULATION, np.random.default_rng([config.seed, 1])
    codes = rng.permutation(n) % CLASSES
    x = rng.standard_normal((n, 16))
    if name == "Gaussian":
        mix = rng.standard_normal((16, 16)) * np.geomspace(0.1, 10.0, 16)
        x = (x + 0.5 * rng.standard_normal((CLASSES, 16))[codes]) @ mix
    elif name == "rings":
        x = x[:, :8]
        codes = np.digitize(
            np.sum(x[:, :4] ** 2, axis=1) * np.exp(0.2 * rng.standard_normal(n)),
            [1.65, 2.75, 4.04, 5.99],
        )
    return {name: x}, codes, np.arange(size)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def _leading(x: np.ndarray) -> dict[str, np.ndarray]:
    left, singular, _ = np.linalg.svd(_standardised(x), full_matrices=False)
    return {"PCA 3": (left * singular)[:, :3]}

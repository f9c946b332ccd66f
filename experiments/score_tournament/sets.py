"""Embeddings of the same rows, good and bad, and the classes that readers are to find."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.score_tournament.settings import ITEMS, TEXT_TASK, Config
from kernlens import datasets
from kernlens.models import text
from kernlens.train import pretrain, sampling
from kernlens.types import Interactions, Labels

SETTINGS = (
    (2, 1, 1, 32), (2, 3, 1, 32), (8, 8, 1, 32), (2, 3, 2, 32), (8, 3, 2, 32),
    (8, 8, 3, 32), (3, 3, 3, 32), (2, 3, 3, 8), (8, 3, 2, 8), (3, 3, 3, 64),
)  # fmt: skip
"""Window, negatives, epochs and dimension of item2vec; the third and its like collapse."""

TEXT_COMPONENTS = (8, 32)
"""Of the words of an item's text. Texts are read for departments alone: they say the category."""

MIN_PADDED = 64
"""Columns that a small set is padded to, or to twice its own."""


class Set(NamedTuple):
    """A task.

    Attributes:
      name: of the task.
      family: which kind of embeddings.
      embeddings: rows by name, float32 ``[n, d]`` each.
      codes: class of each row, int32 ``[n]``.
    """

    name: str
    family: str
    embeddings: dict[str, np.ndarray]
    codes: np.ndarray


def small_set(name: str, config: Config) -> Set:
    """A set that scikit-learn carries, corrupted in many ways."""
    x, codes = SMALL_SETS[name]()
    made = corrupted(np.asarray(x, np.float64), config, np.random.default_rng(config.seed))
    return _kept(Set(name, "corrupted small sets", made, codes.astype(np.int32)), config)


def corrupted(x: np.ndarray, config: Config, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The rows as they are, and what may have become of them, by name.

    Shift, zero columns and column scales leave a reader that standardises its columns where it was;
    noise, few components, coarse values and rows that changed places do not.
    """
    n, d = x.shape
    size = float(np.sqrt(np.mean(np.var(x, axis=0))))
    mean = x.mean(axis=0)
    rows, singular, columns = np.linalg.svd(x - mean, full_matrices=False)
    turned = rows * singular
    direction = rng.standard_normal(d)
    padded = max(MIN_PADDED, 2 * d) - d
    moved = np.arange(n)
    chosen = rng.permutation(n)[: n // 3]
    moved[chosen] = rng.permutation(chosen)
    varied = singular > 1e-6 * singular[0]
    low, wide = x.min(axis=0), np.ptp(x, axis=0)
    found = {
        "as it is": x,
        **{f"noise {a:g}": x + a * size * rng.standard_normal(x.shape) for a in config.noise},
        "shift": x + config.shift * size * direction / np.linalg.norm(direction) * np.sqrt(d),
        **{f"{k} components": turned[:, :k] for k in config.components if k < d},
        "noise columns": np.hstack([x, size * rng.standard_normal((n, padded))]),
        "zero columns": np.hstack([x, np.zeros((n, padded))]),
        "whitened": np.sqrt(n) * rows * varied,
        "squared spectrum": turned * (singular / singular[0]) @ columns,
        "1 bit": np.where(x > np.median(x, axis=0), 1.0, 0.0),
        "2 bits": np.round(3.0 * (x - low) / np.where(wide > 0, wide, 1.0)),
        "column scales": x * np.exp(2.0 * rng.standard_normal(d)),
        "a third of the rows moved": x[moved],
    }
    return {name: made.astype(np.float32) for name, made in found.items()}


@functools.cache
def complete_journey() -> Interactions:
    """The default data set, read once."""
    return datasets.load("complete_journey")


def item_rows(name: str, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Items of an item task and the class of each: the largest classes, some items of each."""
    label = {"departments": "department", "categories": "product_category"}[name]
    labels: Labels = complete_journey().labels[label]
    rng = np.random.default_rng(config.seed)
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    rows, codes = [], []
    for code, kept in enumerate(np.argsort(-counts, kind="stable")[: config.item_classes]):
        members = rng.permutation(np.flatnonzero(labels.codes == kept))[: config.item_rows]
        if len(members) >= 50:
            rows.append(np.sort(members))
            codes.append(np.full(len(members), code, np.int32))
    return np.concatenate(rows), np.concatenate(codes)


def item2vec(setting: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """Embeddings of the items by one setting."""
    data = complete_journey()
    window, negatives, epochs, dim = setting
    fitted = pretrain.contrastive(
        data, window=window, negatives=negatives, epochs=epochs, dim=dim,
        noise=sampling.log_uniform(data.num_items),
    )  # fmt: skip
    return fitted.embeddings[0][rows]


def texts_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings of the items' texts: leading components of their words, GloVe, MiniLM."""
    every = complete_journey().text
    assert every is not None
    titles = [str(every[row]) for row in rows]
    return {
        **{f"text d{dim}": text.tfidf_svd(titles, dim=dim).embeddings for dim in TEXT_COMPONENTS},
        "GloVe": text.glove(titles).embeddings,
        "MiniLM": text.encode(titles, text.load(text.minilm_folder())).embeddings,
    }


def item_set(name: str, config: Config, cells: Callable[[str, Callable[[], Any]], Any]) -> Set:
    """Items of Complete Journey under a grid of item2vec settings, and by their text."""
    tasks = {task: item_rows(task, config) for task in ITEMS}
    every = np.unique(np.concatenate([rows for rows, _ in tasks.values()]))
    rows, codes = tasks[name]
    places = np.searchsorted(every, rows)
    found = {}
    for setting in SETTINGS:
        title = "w{} k{} e{} d{}".format(*setting)
        made = cells(f"item2vec {title}", functools.partial(item2vec, setting, every))
        found[title] = np.asarray(made, np.float32)[places]
    if name == TEXT_TASK:
        made = cells("texts", functools.partial(texts_of, rows))
        found |= {title: np.asarray(x, np.float32) for title, x in made.items()}
    return _kept(Set(name, "item2vec and text", found, codes), config)


def order(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the rows whose every prefix holds the classes by their shares."""
    place = np.empty(len(codes))
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.data, data.target


def _parity() -> tuple[np.ndarray, np.ndarray]:
    x, digit = _digits()
    return x, digit % 2


def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    data: Any = load_wine()
    return _standardised(data.data), data.target


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    return _standardised(data.data), data.target


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    data: Any = load_diabetes()
    thirds = np.quantile(data.target, [1 / 3, 2 / 3])
    return _standardised(data.data), np.searchsorted(thirds, data.target)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def _kept(made: Set, config: Config) -> Set:
    kept = list(made.embeddings.items())[: config.embeddings or None]
    return made._replace(embeddings=dict(kept))


SMALL_SETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": _digits,
    "digits, even or odd": _parity,
    "wine": _wine,
    "breast cancer": _breast_cancer,
    "diabetes, thirds": _diabetes,
}
"""Rows and classes, by name."""

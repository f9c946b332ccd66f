"""Embeddings of items: of Complete Journey's products and MovieLens-1M's films."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.predicts_value.settings import Config
from kernlens import datasets
from kernlens.models import text
from kernlens.train import pretrain, sampling
from kernlens.train.cooccurrence import ppmi_svd
from kernlens.types import Interactions

SETTINGS = ((8, 8, 4, 32), (2, 3, 4, 32), (8, 3, 4, 8), (8, 8, 1, 32), (2, 1, 1, 32))
"""Window, negatives, epochs and dimension of item2vec; one epoch leaves collapsed embeddings."""

FACTORS = 64
"""Dimension of PPMI-SVD; its first columns are those of fewer dimensions."""

CATEGORIES = 25
"""Categories of products that are kept, the largest."""


@functools.cache
def products() -> Interactions:
    """Complete Journey, read once."""
    return datasets.load("complete_journey")


def titles(data: Interactions) -> list[str]:
    """The text of each item."""
    assert data.text is not None
    return [str(title) for title in data.text]


def item2vec(
    data: Interactions, name: str, setting: tuple[int, int, int, int], cells: Any, times: int = 1
) -> dict[str, np.ndarray]:
    """Embeddings of all items by one setting, ``rows``, and the pretraining ``loss``."""
    window, negatives, epochs, dim = setting

    def make() -> dict[str, np.ndarray]:
        fitted = pretrain.contrastive(
            data, window=window, negatives=negatives, epochs=times * epochs, dim=dim,
            noise=sampling.log_uniform(data.num_items),
        )  # fmt: skip
        return {"rows": fitted.embeddings[0], "loss": fitted.final_loss[0]}

    return cells.arrays(f"{name}: {title(setting)}", make)


def title(setting: tuple[int, int, int, int]) -> str:
    """What a setting of item2vec is called."""
    return "item2vec w{} k{} e{} d{}".format(*setting)


def factors(data: Interactions, name: str, cells: Any) -> np.ndarray:
    """PPMI-SVD of all items."""
    made = cells.arrays(f"{name}: PPMI", lambda: {"rows": ppmi_svd(data, dim=FACTORS).embeddings})
    return made["rows"]


def behaviour(label: str, config: Config, cells: Any) -> Any:
    """Products by what they are bought with: item2vec, PPMI-SVD and both together.

    Departments have them all, other labels the first of each.
    """
    data, (rows, codes) = products(), classes(products(), label, config)
    settings = SETTINGS if label == "department" else SETTINGS[:1]
    made = {title(s): item2vec(data, "products", s, cells) for s in settings}
    ppmi = factors(data, "products", cells)
    found = {name: one["rows"] for name, one in made.items()}
    found[f"PPMI {FACTORS}"] = ppmi
    if label == "department":
        found["PPMI 16"] = ppmi[:, :16]
        found["item2vec + PPMI"] = joined(found[title(SETTINGS[0])], ppmi[:, :16])
    losses = {name: float(one["loss"]) for name, one in made.items()}
    return _of(found, rows), codes, None, losses


def texts(label: str, config: Config, cells: Any) -> Any:
    """Products by their titles, alone and joined with behaviour.

    Titles nearly say the category, so there they are only joined with behaviour.
    """
    data, (rows, codes) = products(), classes(products(), label, config)
    item2vec_rows = item2vec(data, "products", SETTINGS[0], cells)["rows"]
    ppmi = factors(data, "products", cells)
    read = cells.arrays("products: texts", lambda: encoded(titles(data)))
    glove = read["GloVe"]
    if label == "product_category":
        return _of({"item2vec + GloVe": joined(item2vec_rows, glove)}, rows), codes
    if label == "brand":
        return _of({name: read[name] for name in ("MiniLM", "TF-IDF 64")}, rows), codes
    tfidf = read["TF-IDF 64"]
    found = {
        "GloVe": glove,
        "MiniLM": read["MiniLM"],
        "USE": read["USE"],
        "TF-IDF 64": tfidf,
        "TF-IDF 8": tfidf[:, :8],
        "item2vec + GloVe": joined(item2vec_rows, glove),
        "PPMI + TF-IDF 8": joined(ppmi, tfidf[:, :8]),
        "item2vec + TF-IDF 64": joined(item2vec_rows, tfidf),
    }
    return _of(found, rows), codes


def encoded(texts: list[str]) -> dict[str, np.ndarray]:
    """Embeddings of texts by all encoders."""
    return {
        "GloVe": text.glove(texts).embeddings,
        "MiniLM": text.encode(texts, text.load(text.minilm_folder())).embeddings,
        "USE": text.universal_sentence_encoder(texts).embeddings,
        "TF-IDF 64": text.tfidf_svd(texts, dim=64).embeddings,
    }


def movies(order: str, config: Config, cells: Any) -> Any:
    """Films of one genre: item2vec with histories in one order, PPMI-SVD, and titles."""
    if config.movielens is None:
        cells.tell(f"ML-1M ({order}): no folder given with --movielens; left out")
        return None
    recbole = any(config.movielens.glob("*.inter"))
    data = datasets.load("recbole" if recbole else "movielens", config.movielens, order=order)
    rows, codes = classes(data, "single_genre", config)
    settings = SETTINGS if order == "time" else SETTINGS[:3]
    made = {title(s): item2vec(data, f"films, {order}", s, cells, times=2) for s in settings}
    found = {name: one["rows"] for name, one in made.items()}
    if order == "time":
        ppmi = factors(data, "films", cells)
        words = text.tfidf_svd(titles(data), dim=32).embeddings
        found |= {
            f"PPMI {FACTORS}": ppmi,
            "titles, TF-IDF 32": words,
            "item2vec + PPMI": joined(found[title(SETTINGS[0])], ppmi),
        }
    losses = {name: float(one["loss"]) for name, one in made.items()}
    return _of(found, rows), codes, None, losses


def classes(data: Interactions, label: str, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A sample of the items in which the largest classes are cut to one size, and their classes."""
    given = data.labels[label].codes
    counts = np.bincount(given[given >= 0])
    kept = np.argsort(-counts, kind="stable")[:CATEGORIES]
    kept = kept[counts[kept] >= config.class_rows]
    most = cut(counts[kept], config.rows)
    rng = np.random.default_rng(config.seed)
    rows = np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(given == c))[:most] for c in kept])
    )
    return rows, np.searchsorted(np.sort(kept), given[rows])


def cut(counts: np.ndarray, total: int) -> int:
    """The most rows of a class with which all classes together have at most ``total``."""
    sizes = np.arange(1, counts.max() + 1)
    together = np.minimum(counts, sizes[:, None]).sum(axis=1)
    return int(sizes[max(np.searchsorted(together, total, side="right") - 1, 0)])


def joined(*parts: np.ndarray) -> np.ndarray:
    """Embeddings side by side, each of the same mean square a row."""
    return np.hstack([x / np.sqrt(np.mean(np.sum(x.astype(np.float64) ** 2, 1))) for x in parts])


def _of(embeddings: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: x[rows] for name, x in embeddings.items()}

"""Embeddings of the same rows, by set, and the classes that heads are to find.

An embedding that is costly to make is kept as a cell, so that an interrupted run goes on.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.predicts_value import images, items, small
from experiments.predicts_value.settings import TUNED, Config


class Set(NamedTuple):
    """Embeddings of the same rows.

    Attributes:
      name: of the set.
      embeddings: rows by name, float32 ``[n, d]`` each.
      codes: class of each row, int32 ``[n]``.
      labelled: rows whose labels are known, ``[m]``; heads are judged on all others. None where
        all are known and heads are judged on the rows that a split holds out.
      losses: pretraining loss of the embeddings that have one, by name.
    """

    name: str
    embeddings: Mapping[str, np.ndarray]
    codes: np.ndarray
    labelled: np.ndarray | None = None
    losses: Mapping[str, float] = {}

    @property
    def tuned(self) -> bool:
        """Whether the method was tuned on it."""
        return self.name in TUNED


def load(name: str, config: Config, cells: Any) -> Set | None:
    """A set by name, None where its files were not given.

    Args:
      name: a key of :data:`SETS`.
      config: rows, classes and folders.
      cells: keeps what is costly.
    """
    made = SETS[name](config, cells)
    if made is None:
        return None
    embeddings, codes, *more = made
    kept = {
        title: np.ascontiguousarray(x, np.float32)
        for title, x in list(embeddings.items())[: config.embeddings or None]
    }
    return Set(name, kept, codes.astype(np.int32), *more)


SETS: dict[str, Callable[[Config, Any], Any]] = {
    "CJ departments, behaviour": functools.partial(items.behaviour, "department"),
    "CJ departments, text": functools.partial(items.texts, "department"),
    "CJ categories, behaviour": functools.partial(items.behaviour, "product_category"),
    "CJ categories, with text": functools.partial(items.texts, "product_category"),
    "CJ brands, behaviour": functools.partial(items.behaviour, "brand"),
    "CJ brands, text": functools.partial(items.texts, "brand"),
    "ML-1M by time": functools.partial(items.movies, "time"),
    "ML-1M in random order": functools.partial(items.movies, "random"),
    "Fashion-MNIST": images.fashion,
    "digits": small.digits,
    "wine": functools.partial(small.table, "wine"),
    "breast cancer": functools.partial(small.table, "breast_cancer"),
    "diabetes, thirds": small.diabetes,
    "synthetic: Gaussian": functools.partial(small.synthetic, "Gaussian"),
    "synthetic: noise": functools.partial(small.synthetic, "noise"),
    "synthetic: rings": functools.partial(small.synthetic, "rings"),
}
"""Makers of a set: ``(config, cells) -> (embeddings, codes, ...)``, or None without its files."""

"""Rankers that any recommender has to beat."""

import chex
import numpy as np

from kernlens.datasets.sequences import Histories
from kernlens.metrics.ranking import places


def popularity(counts: np.ndarray) -> np.ndarray:
    """The baseline that ranks by how often an item occurs: a ``bias`` for all queries alike.

    Items of equal count tie, in float32 too, whatever the counts: it is their rank that is given.

        place_by_inner_product(np.zeros((n, 0)), np.zeros((m, 0)), target, bias=popularity(counts))

    Args:
      counts: of each item, ``[m]``.

    Returns:
      Number of distinct counts below each, float32 ``[m]``.
    """
    chex.assert_rank(counts, 1)
    return np.unique(counts, return_inverse=True)[1].astype(np.float32)


def last_item(embeddings: np.ndarray, histories: Histories) -> np.ndarray:
    """The baseline that asks for what is near the latest item: its embedding as the query.

    Args:
      embeddings: of all items, ``[m, d]``.
      histories: latest item in the last column.

    Returns:
      Queries, ``[n, d]``; zeros for an empty history, under which all items tie.

    Raises:
      ValueError: an item id that has no embedding.
    """
    embeddings, latest = np.asarray(embeddings), histories.items[:, -1]
    places.check_range("history", latest, len(embeddings))
    return np.where(latest[:, None] >= 0, embeddings[latest], 0).astype(embeddings.dtype)

"""Baselines that any recommender should beat: rankers without embeddings or training."""

from collections.abc import Callable
from typing import Any

import chex
import numpy as np

from kernlens.metrics.ranking import places
from kernlens.metrics.ranking.places import Place
from kernlens.metrics.ranking.protocol import Queries
from kernlens.targets.sequences import Histories
from kernlens.types import Interactions

BLOCK = 1024
"""Queries whose scores of all items are held at once."""


def popularity(counts: np.ndarray) -> np.ndarray:
    """The baseline that ranks by how often an item occurs: one ``bias`` for all queries.

    Items of equal count tie, in float32 too, whatever the counts: it is their rank that is given.

        place_by_inner_product(np.zeros((n, 0)), np.zeros((m, 0)), target, bias=popularity(counts))

    Args:
      counts: counts of each item, ``[m]``.

    Returns:
      Number of distinct counts below each, float32 ``[m]``.
    """
    chex.assert_rank(counts, 1)
    return np.unique(counts, return_inverse=True)[1].astype(np.float32)


def last_item(embeddings: np.ndarray, histories: Histories) -> np.ndarray:
    """The baseline that asks for what is near the latest item: its embedding as the query.

    Args:
      embeddings: of all items, ``[m, d]``; one that is not finite is cold and counts as absent.
      histories: latest item in the last column.

    Returns:
      Queries, ``[n, d]``: the embedding of the latest item that is not cold; zeros for a history
      without any, under which all items tie.

    Raises:
      ValueError: an item id that has no embedding.
    """
    embeddings, items = np.asarray(embeddings), histories.items
    places.check_range("history", items, len(embeddings))
    warm = np.all(np.isfinite(embeddings), axis=1)
    there = (items >= 0) & warm[items]
    column = items.shape[1] - 1 - np.argmax(there[:, ::-1], axis=1)
    latest = items[np.arange(len(items)), column]
    some = there.any(axis=1)[:, None]
    return np.where(some, embeddings[latest], 0).astype(embeddings.dtype)


def session_matrix(interactions: Interactions) -> Any:
    """How often each session holds each item: what the baselines learn from.

    Args:
      interactions: what may be known, without what is held out.

    Returns:
      SciPy CSR, float64 ``[num_sessions, num_items]``.
    """
    from scipy import sparse

    # Equal entries of a row are summed.
    found = sparse.csr_array(
        (np.ones(len(interactions.items)), interactions.items, interactions.offsets),
        shape=(interactions.num_sessions, interactions.num_items),
        copy=True,
    )
    found.sum_duplicates()
    return found


def popular(x: Any, queries: Queries) -> Place:
    """Ranks all items by how often they occur, :func:`popularity`.

    Args:
      x: how often each session holds each item, SciPy sparse ``[sessions, m]``, of
        :func:`session_matrix`.
      queries: queries of a protocol.

    Returns:
      Place.
    """
    histories, bias = queries.histories, popularity(_counts(x))
    nothing = np.zeros((len(histories.target), 0), np.float32)
    items = np.zeros((len(bias), 0), np.float32)
    return places.place_by_inner_product(
        nothing, items, histories.target, bias=bias, left_out=queries.left_out
    )


def own_past(x: Any, queries: Queries) -> Place:
    """Ranks the items that the user met before by how often, and then all others by popularity.

    Ties of the user's counts are broken by popularity too. Under ``new_items`` this is
    :func:`popular`.

    Args:
      x: as :func:`popular`.
      queries: queries of a protocol.

    Returns:
      Place.
    """
    past, m = queries.histories.past, x.shape[1]
    assert past is not None  # what every protocol checks
    counts, share = past.counts(m), popularity(_counts(x)).astype(np.float64) / m
    return placed(lambda rows: counts[rows].toarray() + share, queries)


def item_knn(x: Any, queries: Queries, *, neighbours: int = 200) -> Place:
    r"""Item k-nearest-neighbours: items that sessions share with those of the history.

    .. math:: f_j(s) = \sum_{i \in s} \frac{|S_i \cap S_j|}{\sqrt{|S_i| |S_j|}},

    with :math:`S_i` the sessions that hold item :math:`i`, over pairs where :math:`j` is among the
    nearest of :math:`i` and not :math:`i` itself. Items that are near none come after, by
    popularity.

    Args:
      x: as :func:`popular`; only whether an entry is positive counts.
      queries: queries of a protocol; what is read is the items of the histories.
      neighbours: nearest items that are kept for each item, at least 1. Fewer are faster; more
        serve sparse data.

    Returns:
      Place.

    Raises:
      ValueError: ``neighbours`` below 1.

    References:
      Sarwar, Karypis, Konstan and Riedl (2001); Deshpande and Karypis (2004), section 4.
    """
    near = cosine_neighbours(x, neighbours)
    read = read_items(queries.histories, x.shape[1])
    return _near(x, queries, lambda rows: (read[rows] @ near).toarray())


def near_last(x: Any, queries: Queries, *, neighbours: int = 200) -> Place:
    """Ranks by the similarity of :func:`item_knn` to the latest item alone.

    Args:
      x: as :func:`item_knn`.
      queries: queries of a protocol.
      neighbours: as :func:`item_knn`.

    Returns:
      Place.

    Examples:
      >>> from kernlens import datasets
      >>> from kernlens.metrics import ranking
      >>> from kernlens.probes import recommenders
      >>> from kernlens.targets import sequences
      >>> data = datasets.load("synthetic", num_items=50, num_interactions=5_000, session_length=5)
      >>> split = sequences.leave_last_out(data, length=4, targets=1, seed=0)
      >>> queries = ranking.all_items(split.test)
      >>> place = near_last(recommenders.session_matrix(split.known), queries)
      >>> len(place.above) == len(queries.repeated)
      True
    """
    near = cosine_neighbours(x, neighbours)
    read = read_items(queries.histories._replace(items=queries.histories.items[:, -1:]), x.shape[1])
    return _near(x, queries, lambda rows: (read[rows] @ near).toarray())


def cosine_neighbours(x: Any, neighbours: int) -> Any:
    """Cosine of the nearest items' sessions, SciPy CSR ``[m, m]``, rows of at most ``neighbours``.

    Args:
      x: as :func:`item_knn`.
      neighbours: entries kept in each row.

    Returns:
      Similarities in ``(0, 1]``, nothing on the diagonal.
    """
    from scipy import sparse

    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1; got {neighbours}")
    held = binary(x)
    size = np.sqrt(np.maximum(np.asarray(held.sum(axis=0)).ravel(), 1.0))
    unit = held @ sparse.diags_array(1.0 / size)
    left, m, parts = sparse.csr_array(unit.T), x.shape[1], []
    for start in range(0, m, BLOCK):
        some = (left[start : start + BLOCK] @ unit).toarray()
        rows = np.arange(len(some))
        some[rows, start + rows] = 0.0
        if neighbours < m:
            least = np.partition(some, m - neighbours, axis=1)[:, m - neighbours, None]
            some[some < least] = 0.0
        parts.append(sparse.csr_array(some))
    return sparse.csr_array(sparse.vstack(parts))


def binary(x: Any) -> Any:
    """Whether each session holds each item, SciPy CSR float64 ``[sessions, m]``."""
    from scipy import sparse

    return sparse.csr_array(x > 0).astype(np.float64)


def placed(scores_of: Callable[[slice], np.ndarray], queries: Queries) -> Place:
    """Places of all queries, whose scores are made some rows at a time.

    Args:
      scores_of: from a slice of the queries to scores ``[rows, m]``.
      queries: queries of a protocol.

    Returns:
      Place; an item without a score in any part is cold.
    """
    histories, found = queries.histories, []
    for start in range(0, max(len(histories.target), 1), BLOCK):
        rows = slice(start, start + BLOCK)
        out = queries.left_out
        out = None if out is None else out._replace(start=out.start[rows], stop=out.stop[rows])
        found.append(places.place(scores_of(rows), histories.target[rows], left_out=out))
    above, tied = (np.concatenate([one[i] for one in found]) for i in (0, 1))
    return Place(above, tied, found[0].num_items, min(one.cold for one in found))


def _counts(x: Any) -> np.ndarray:
    return np.asarray(x.sum(axis=0)).ravel()


def read_items(histories: Histories, m: int) -> Any:
    """Which items are in the latest ``length`` of each history, SciPy CSR float64 ``[n, m]``."""
    from scipy import sparse

    rows, columns = np.nonzero(histories.items >= 0)
    items = histories.items[rows, columns]
    return binary(
        sparse.csr_array((np.ones(len(rows)), (rows, items)), shape=(len(histories.items), m))
    )


def _near(x: Any, queries: Queries, similar: Callable[[slice], np.ndarray]) -> Place:
    """Places by similarity, and by popularity among items that are similar to nothing."""
    m = x.shape[1]
    below = popularity(_counts(x)).astype(np.float64) / m - 1.0

    def scores(rows: slice) -> np.ndarray:
        found = similar(rows)
        return np.where(found > 0, found, below)

    return placed(scores, queries)

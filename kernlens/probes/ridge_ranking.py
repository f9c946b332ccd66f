r"""Next items by kernel ridge, in closed form: what a tower would rank, without training it.

Features of sequences in, a ranker out. One pass over the training examples fills
:class:`~kernlens.moments.Moments` whose classes are the items that came next; the ranker follows
from these alone, for a whole path of ridge strengths, so it streams, shards and merges as they do.

    map_fn = sequence_kernels.averages(embeddings)
    queries = ranking.all_items(split.test)
    place, ranker = ridge_ranking.predict(map_fn, split.train, queries, num_items=m)
    intervals.mean_with_interval(ranking.recall(place, 10), split.test.user)

Sparse features, such as one-hot items (``sequence_kernels.one_hot(m)``), go through a sparse Gram
matrix (:func:`fit_sparse`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from kernlens import moments as moments_
from kernlens.arrays.device import calm_threads
from kernlens.kernels.sequence_kernels import SparseAverages
from kernlens.metrics import ranking
from kernlens.metrics.ranking import Place, Queries
from kernlens.moments import Moments
from kernlens.probes import STRENGTHS
from kernlens.probes.recommenders.baselines import placed
from kernlens.targets.sequences import Histories, Past
from kernlens.types import Array, FeatureMap

MAX_SPARSE = 12_000
"""Most columns of sparse features: their Gram matrix is dense, and its eigenvectors take minutes
there."""


class Ranker(NamedTuple):
    """Scores every item by an inner product, ``<features - mean, vectors[j]> + bias[j]``.

    Attributes:
      mean: mean of the features of the training examples, float64 ``[p]``.
      vectors: of all items, float64 ``[m, p]``; NaN for a cold item, one without an item vector.
      bias: of all items, float64 ``[m]``: what the items score on the mean of the features.
      strength: the chosen ridge strength, relative to the mean eigenvalue of the covariance.
      strengths: the path, ``[num_strengths]``.
      errors: generalised cross-validation along the path, ``[num_strengths]``.
    """

    mean: np.ndarray
    vectors: np.ndarray
    bias: np.ndarray
    strength: float
    strengths: np.ndarray
    errors: np.ndarray


def fit(
    moments: Moments,
    *,
    item_vectors: np.ndarray | Array | None = None,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
) -> Ranker:
    r"""The ridge ranker of next items from moments whose classes are the items.

    With :math:`z_i` the centred features of example :math:`i`, :math:`y_i` its target,
    :math:`T = \sum_i z_i z_i^\top`, :math:`S_j = \sum_{i : y_i = j} z_i` and :math:`\pi_j` the
    share of the examples whose target is :math:`j`, one-hot targets give

    .. math:: f_j(z) = \pi_j + \langle b_j, z\rangle, \qquad b_j = (T + \lambda I)^{-1} S_j:

    the probability of each item, where every item has a vector of its own, as under a softmax over
    items. The prior is the intercept, so what a history does not tell is ranked by popularity.

    With item vectors :math:`\psi_j` the target of example :math:`i` is the vector
    :math:`\psi_{y_i}` instead, and an item scores by its inner product with the prediction:

    .. math:: f_j(z) = \langle \psi_j, \bar\psi + \textstyle\sum_k \psi_k \langle b_k, z\rangle
              \rangle, \qquad \bar\psi = \sum_k \pi_k \psi_k:

    the two towers joined by an inner product, item side frozen. It is the one-hot ranker smoothed
    by the kernel :math:`\langle\psi_j, \psi_k\rangle` of items: items that were never a target have
    scores too.

    Args:
      moments: moments of the features, one class an item, all rows labelled.
      item_vectors: :math:`\psi`, ``[m, h]``; one-hot targets by default. An item whose vector is
        not finite is cold: examples that it follows say nothing beyond the mean, and it has no
        score, so it is no candidate, and a miss as a target.
      strengths: the path, relative to the mean eigenvalue of the covariance, ``[num_strengths]``,
        each positive. Generalised cross-validation of the squared error chooses, the larger of
        equals: leave-one-out with every leverage at its mean, which needs no second pass.

    Returns:
      Ranker.

    Raises:
      ValueError: moments of no rows, without classes, with rows of none or that are not finite,
        item vectors of another number of items or none of them finite, or a strength that is not
        positive.

    References:
      Golub, Heath and Wahba (1979), equation 1.4, for generalised cross-validation.
    """
    scatter, sums, counts, high, low = (
        np.asarray(part, np.float64)
        for part in (
            moments.scatter,
            moments.class_deviations,
            moments.class_counts,
            moments.mean,
            moments.mean_low,
        )
    )
    n = float(moments.count)
    if not (n > 0 and abs(counts.sum() - n) <= 1e-6 * n):
        raise ValueError(
            f"a ranker needs examples, each with a next item; got {n:g} rows, {counts.sum():g} of "
            f"them labelled with one of {len(counts)} items"
        )
    if not (np.all(np.isfinite(scatter)) and np.all(np.isfinite(sums))):
        raise ValueError(
            "the moments hold a row of features that is not finite; the maps of sequence_kernels "
            "leave items without a finite vector out of every history"
        )
    return _solved(scatter, sums, counts, high + low, item_vectors, strengths)


def fit_sparse(
    x: Any,
    target: np.ndarray | Array,
    *,
    num_items: int,
    item_vectors: np.ndarray | Array | None = None,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
) -> Ranker:
    r"""The ranker of :func:`fit` from sparse features.

    The Gram matrix :math:`X^\top X - n \bar x \bar x^\top` is a sparse product, and centring never
    fills the rows. Time is that of ``p^3``, and of ``num_items * p^2``.

    Args:
      x: features of the training examples, a SciPy sparse array, finite, ``[n, p]``, ``p`` at most
        ``MAX_SPARSE``.
      target: the item that came next, integers ``[n]`` in ``0..num_items-1``.
      num_items: ``m``.
      item_vectors: as :func:`fit`.
      strengths: as :func:`fit`.

    Returns:
      Ranker.

    Raises:
      ValueError: as :func:`fit`; no example, other numbers of rows and targets, a target out of
        range, or too many columns.
    """
    from scipy import sparse

    x, target = sparse.csr_array(x, dtype=np.float64), np.asarray(target)
    (n, p), m = x.shape, num_items
    if n == 0 or target.shape != (n,):
        raise ValueError(
            f"a ranker needs examples, each with a next item; got {n} rows and targets "
            f"{target.shape}"
        )
    if target.min() < 0 or target.max() >= m:
        raise ValueError(f"targets must be in 0..{m - 1}; got {target.min()}..{target.max()}")
    if p > MAX_SPARSE:
        raise ValueError(
            f"sparse features have a dense Gram matrix, [p, p], for p up to {MAX_SPARSE:,}; got "
            f"{p:,} columns: keep the most frequent items, or project the features"
        )
    if not np.all(np.isfinite(x.data)):
        raise ValueError("the sparse features hold a value that is not finite")
    mean = np.asarray(x.sum(axis=0)).ravel() / n
    chosen = sparse.csr_array((np.ones(n), (target, np.arange(n))), shape=(m, n))
    counts = np.bincount(target, minlength=m).astype(np.float64)
    scatter = (x.T @ x).toarray() - n * np.outer(mean, mean)
    sums = (chosen @ x).toarray() - np.outer(counts, mean)
    return _solved(scatter, sums, counts, mean, item_vectors, strengths)


@calm_threads()
def _solved(
    scatter: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    item_vectors: np.ndarray | Array | None,
    strengths: Sequence[float] | np.ndarray,
) -> Ranker:
    """The ranker from the scatter ``[p, p]``, and deviations and counts of each target."""
    strengths = np.sort(np.asarray(strengths, np.float64).ravel())
    if len(strengths) == 0 or not np.all((strengths > 0) & np.isfinite(strengths)):
        raise ValueError(f"strengths must be positive and finite; got {strengths}")
    n, m = float(counts.sum()), len(counts)
    share, warm = counts / n, None
    if item_vectors is None:
        cross, prior = sums.T, share
        total = n * (1.0 - np.sum(share**2))
    else:
        psi = np.asarray(item_vectors, np.float64)
        if psi.ndim != 2 or len(psi) != m:
            raise ValueError(f"item_vectors must be [m, h] with m = {m} items; got {psi.shape}")
        warm = np.all(np.isfinite(psi), axis=1)
        known = share[warm].sum()
        if not known > 0:
            raise ValueError("item_vectors must be finite for a target at least; none is")
        mean_vector = share[warm] @ psi[warm] / known
        # At the mean a cold item pulls no prediction anywhere.
        psi = np.where(warm[:, None], psi, mean_vector)
        cross, prior = sums.T @ psi, psi @ mean_vector
        total = float(counts @ np.sum((psi - mean_vector) ** 2, axis=1))
    eigenvalues, basis = np.linalg.eigh(scatter)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    unit = eigenvalues.mean() or 1.0
    rotated = basis.T @ cross
    inverse = 1.0 / (eigenvalues + unit * strengths[:, None])
    gained = (inverse * (2.0 - eigenvalues * inverse)) @ np.sum(rotated**2, axis=1)
    freedom = 1.0 + (eigenvalues * inverse).sum(axis=1)
    slack = 1.0 - freedom / n
    # With no more rows than that a strength fits any targets: nothing is left to judge it by.
    errors = np.where(
        slack > 0, (total - gained) / n / np.where(slack > 0, slack, 1.0) ** 2, np.inf
    )
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))
    weights = (basis * inverse[best]) @ rotated
    vectors = weights.T if item_vectors is None else psi @ weights.T
    if warm is not None:
        vectors[~warm] = np.nan
    return Ranker(mean, vectors, prior, float(strengths[best]), strengths, errors)


def place(
    ranker: Ranker,
    features: np.ndarray | Array,
    target: np.ndarray | Array,
    *,
    left_out: Past | None = None,
    block: int = 2048,
) -> Place:
    """Places of the targets of held-out sequences among all items.

    Args:
      ranker: of :func:`fit`.
      features: features of the sequences, of the map that the ranker was fitted on, ``[n, p]``.
      target: as :func:`kernlens.metrics.ranking.place`.
      left_out: as :func:`kernlens.metrics.ranking.place`.
      block: sequences, and items, at a time.

    Returns:
      Place.
    """
    features = np.asarray(features)
    queries = (features.astype(np.float64) - ranker.mean).astype(features.dtype)
    return ranking.place_by_inner_product(
        queries,
        ranker.vectors.astype(features.dtype),
        target,
        bias=ranker.bias.astype(features.dtype),
        left_out=left_out,
        block=block,
    )


def predict(
    map_fn: FeatureMap | SparseAverages,
    train: Histories,
    queries: Queries,
    *,
    num_items: int,
    item_vectors: np.ndarray | Array | None = None,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    rows: int = 8192,
) -> tuple[Place, Ranker]:
    """Where held-out next items would stand, from one pass over the training examples.

    Args:
      map_fn: from item ids ``[b, L]`` to features ``[b, p]``: of the kernel of a tower, see
        :mod:`kernlens.kernels.sequence_kernels`. Memory is ``[b, p]`` features, ``[n_test, p]``
        of them, and some arrays ``[num_items, p]``. Features of
        :func:`~kernlens.kernels.sequence_kernels.sparse_averages` stay sparse.
      train: examples to fit on; empty histories count, and say what is popular.
      queries: examples to be ranked and their candidates, of a protocol such as
        ``ranking.all_items(split.test)``.
      num_items: ``m``.
      item_vectors: as :func:`fit`.
      strengths: as :func:`fit`.
      rows: sequences whose features are made at once, ``b``.

    Returns:
      Places of the queries' targets, and the ranker.

    Raises:
      ValueError: as :func:`fit` and :func:`kernlens.metrics.ranking.place`; no training example,
        an item id out of range, features that are not finite (the row is named), or ``rows``
        below 1.
    """
    test = queries.histories
    for name, histories in (("train", train), ("test", test)):
        ids = histories.items
        if np.min(ids, initial=-1) < -1 or np.max(ids, initial=-1) >= num_items:
            raise ValueError(
                f"{name} histories must hold items in 0..{num_items - 1}, or -1 for padding; got "
                f"{ids.min()}..{ids.max()}"
            )
    if rows < 1:
        raise ValueError(f"rows must be at least 1; got {rows}")
    if isinstance(map_fn, SparseAverages):
        return _predict_sparse(map_fn, train, queries, num_items, item_vectors, strengths)
    rows = max(min(rows, len(train.items)), 1)
    state = moments_.from_stream(
        _features(map_fn, train.items, rows, "train"), train.target, num_items, rows=rows
    )
    ranker = fit(state, item_vectors=item_vectors, strengths=strengths)
    held_out = np.empty((0, len(ranker.mean)), np.float32)
    if len(test.items):
        held_out = np.concatenate(list(_features(map_fn, test.items, rows, "test")))
    return place(ranker, held_out, test.target, left_out=queries.left_out), ranker


def _predict_sparse(
    map_fn: SparseAverages,
    train: Histories,
    queries: Queries,
    num_items: int,
    item_vectors: np.ndarray | Array | None,
    strengths: Sequence[float] | np.ndarray,
) -> tuple[Place, Ranker]:
    ranker = fit_sparse(
        map_fn(train.items), train.target, num_items=num_items, item_vectors=item_vectors,
        strengths=strengths,
    )  # fmt: skip
    held_out, columns = map_fn(queries.histories.items), np.ascontiguousarray(ranker.vectors.T)
    bias = ranker.bias - ranker.mean @ columns
    return placed(lambda rows: held_out[rows] @ columns + bias, queries), ranker


def _features(map_fn: FeatureMap, items: np.ndarray, rows: int, name: str) -> Iterator[np.ndarray]:
    """Features of ``rows`` sequences at a time, the last filled up with empty ones."""
    # As an argument a map that is a pytree compiles once for all its arrays.
    given = map_fn if isinstance(map_fn, Partial) else Partial(map_fn)
    for start in range(0, len(items), rows):
        some = items[start : start + rows]
        filled = np.full((rows, items.shape[1]), -1, np.int32)
        filled[: len(some)] = some
        made = np.asarray(_mapped(given, jnp.asarray(filled)))[: len(some)]
        bad = ~np.all(np.isfinite(made), axis=1)
        if np.any(bad):
            row = int(np.argmax(bad))
            raise ValueError(
                f"features of {name} history {start + row}, items {some[row][some[row] >= 0]}, are "
                "not finite; the maps of sequence_kernels leave items without a finite vector out "
                "of every history, and another map has to as well"
            )
        yield made


@jax.jit
def _mapped(map_fn: FeatureMap, items: Array) -> Array:
    return map_fn(items)

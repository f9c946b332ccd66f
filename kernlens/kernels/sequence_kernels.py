r"""Kernels of sequences: of histories of items, under each way to read one.

A sequence kernel is a kernel like any other whose rows are item ids, ``[n, L]`` integers with
``-1`` for padding on either side. So all that takes a kernel takes it: ``features.nystrom`` with
histories as landmarks, a probe, a score. An item whose embedding is not finite is cold: it counts
as absent from every history (:func:`cold` says how often).

- A tower that averages: :func:`averages` are its exact features, for any features of items, and
  :func:`averaged` is its kernel for any kernel of items, in closed form.
- A tower that averages first and then goes through dense layers: :func:`of_average` of the dense
  layers' infinite-width kernel, in closed form.
- Any other tower: :func:`over_embeddings` makes it a function of item ids, of which
  :mod:`kernlens.ntk` has the tangent kernel, and features by sketch.

    net = ntk.infinite.serial(ntk.infinite.dense(32), ntk.infinite.relu(), ntk.infinite.dense(16))
    dense = sequence_kernels.of_average(partial(net.kernel_fn, get="ntk"), embeddings)
    map_fn = features.nystrom(dense, histories.items[:300])

    f = sequence_kernels.over_embeddings(tower_fn, embeddings)    # tower_fn(params, (z, mask))
    map_fn = ntk.features(key, f, params, 300)
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from kernlens.types import ApplyFn, Array, FeatureMap, Kernel, Params


def discount(counts: np.ndarray | Array, *, alpha: float) -> np.ndarray:
    r"""Weight of each item in an average, :math:`\alpha / (\alpha + p_0(x))`.

    Args:
      counts: how often each item occurs, ``[m]``; :math:`p_0` is its share of all.
      alpha: :math:`\alpha > 0`, in the unit of a share; infinite for equal weights. Near the shares
        of the frequent items it takes weight off them, below all shares weights go as
        :math:`1/p_0`.

    Returns:
      Weights in ``(0, 1]``, float64 ``[m]``.

    Raises:
      ValueError: ``alpha`` not positive, or counts that are negative or all zero.

    References:
      Xu and Yang (2023), proposition 2; Arora, Liang and Ma (2017), smooth inverse frequency.
    """
    counts = np.asarray(counts, np.float64)
    chex.assert_rank(counts, 1)
    if not alpha > 0:
        raise ValueError(f"alpha must be positive; got {alpha}")
    total = np.sum(counts)
    if not (np.all(counts >= 0) and 0 < total < np.inf):
        raise ValueError("counts must be finite and non-negative, with a positive sum")
    return 1.0 / (1.0 + counts / total / alpha)


class Cold(NamedTuple):
    """What histories lose because items have no embedding.

    Attributes:
      items: items whose embedding is not finite.
      entries: share of the histories' items that are such, in ``[0, 1]``.
      empty: histories that hold items, but none with an embedding.
    """

    items: int
    entries: float
    empty: int


def cold(embeddings: np.ndarray | Array, items: np.ndarray | Array) -> Cold:
    """Counts the items without an embedding, and what they take from histories.

    Args:
      embeddings: embeddings of all items, ``[m, d]``.
      items: histories, integers ``[n, L]`` below ``m``; ``-1`` for padding.

    Returns:
      Counts; every map and kernel here treats such items as absent.
    """
    embeddings, items = np.asarray(embeddings), np.asarray(items)
    chex.assert_rank([embeddings, items], [2, 2])
    without = ~np.all(np.isfinite(embeddings), axis=1)
    there = items >= 0
    lost = there & without[items]
    return Cold(
        int(without.sum()),
        float(lost.sum() / max(there.sum(), 1)),
        int(np.sum(there.any(axis=1) & (lost == there).all(axis=1))),
    )


@jax.jit
def average(vectors: Array, items: Array, weights: Array | None = None) -> Array:
    r"""Weighted average of each sequence, :math:`\sum_i w(x_i) \phi(x_i) / \sum_i w(x_i)`.

    Args:
      vectors: of all items, :math:`\phi`, ``[m, d]``: embeddings, or any features of them. A row
        that is not finite is a cold item, which counts as absent.
      items: sequences, integers ``[n, L]``; ``-1`` for padding. An id that no vector has makes its
        row NaN.
      weights: :math:`w \ge 0` of each item, ``[m]``, as :func:`discount` gives; 1 by default.

    Returns:
      Averages in the dtype of ``vectors``, ``[n, d]``; zeros for a sequence that is empty, of cold
      items alone, or of weight 0.
    """
    chex.assert_rank([vectors, items], [2, 2])
    return _average_of(vectors, _without(vectors), weights, items)


@jax.jit
def _average_of(vectors: Array, cold: Array, weights: Array | None, items: Array) -> Array:
    z, shares, _ = _gathered(vectors, cold, items, weights)
    return jnp.einsum("nl,nld->nd", shares, z, precision="highest")


def averages(vectors: Array | np.ndarray, weights: Array | np.ndarray | None = None) -> FeatureMap:
    r"""The features of a tower that averages: :func:`average` as a map of sequences.

    Their inner products are the averaged kernel whose item features are ``vectors``:
    ``averages(map_fn(embeddings))`` are the features of ``averaged(kernel, embeddings)`` where
    ``map_fn`` has those of ``kernel``.

    Args:
      vectors: as :func:`average`.
      weights: as :func:`average`.

    Returns:
      A map from item ids ``[n, L]`` to features ``[n, d]``.
    """
    vectors = jnp.asarray(vectors)
    return Partial(_average_of, vectors, _without(vectors), _on_device(weights))


class SparseAverages(NamedTuple):
    """A map of sequences whose features stay sparse, on the host.

    Attributes:
      vectors: vectors of all items, SciPy CSR float64 ``[m, p]``.
    """

    vectors: Any

    def __call__(self, items: np.ndarray) -> Any:
        """Averages of sequences ``[n, L]``, ``-1`` for padding, SciPy CSR ``[n, p]``."""
        from scipy import sparse

        items = np.asarray(items)
        rows, columns = np.nonzero(items >= 0)
        held = np.bincount(rows, minlength=len(items))
        shape = (len(items), self.vectors.shape[0])
        shares = sparse.csr_array((1.0 / held[rows], (rows, items[rows, columns])), shape=shape)
        return shares @ self.vectors


def sparse_averages(vectors: Any) -> SparseAverages:
    """:func:`averages` of items with sparse vectors, such as words of a text.

    Args:
      vectors: vectors of all items, SciPy sparse, finite, ``[m, p]``.

    Returns:
      A map from item ids ``[n, L]`` to sparse averages ``[n, p]``.
    """
    from scipy import sparse

    return SparseAverages(sparse.csr_array(vectors, dtype=np.float64))


def one_hot(num_items: int) -> SparseAverages:
    """:func:`averages` of items that have one column each: which items a sequence holds.

    Args:
      num_items: ``m``.

    Returns:
      A map from item ids ``[n, L]`` to shares of the items, ``[n, m]``, sparse.
    """
    from scipy import sparse

    return sparse_averages(sparse.eye_array(num_items))


def averaged(
    kernel: Kernel, embeddings: Array | np.ndarray, weights: Array | np.ndarray | None = None
) -> Kernel:
    r"""Kernel of the averages of a kernel's features, without the features.

    .. math:: k(s, s') = \sum_{i, j} \bar w_i \bar w'_j\, k(\phi(x_i), \phi(x'_j)),
              \qquad \bar w_i = w(x_i) / \textstyle\sum_j w(x_j).

    Args:
      kernel: kernel of items, on rows of ``embeddings``.
      embeddings: embeddings of all items, ``[m, d]``.
      weights: as :func:`average`.

    Returns:
      A kernel of item ids ``[n1, L1]`` and ``[n2, L2]``; it takes ``n1 L1 n2 L2`` values of
      ``kernel`` at once. An empty sequence has ``k = 0`` with all.

    References:
      Smola, Gretton, Song and Schölkopf (2007), equation 4: the inner product of mean maps.

    Examples:
      >>> from kernlens import kernels
      >>> items, prices = jnp.array([[0, 1], [-1, 1]]), jnp.array([[1.0], [3.0]])
      >>> averaged(kernels.linear, prices)(items, items).tolist()
      [[4.0, 6.0], [6.0, 9.0]]
    """
    embeddings, weights = jnp.asarray(embeddings), _on_device(weights)
    cold = _without(embeddings)

    def sequence_kernel(items1: Array, items2: Array) -> Array:
        z1, shares1, _ = _gathered(embeddings, cold, items1, weights)
        z2, shares2, _ = _gathered(embeddings, cold, items2, weights)
        dim = embeddings.shape[1]
        gram = kernel(z1.reshape(-1, dim), z2.reshape(-1, dim))
        gram = gram.reshape(*shares1.shape, *shares2.shape)
        return jnp.einsum("il,iljk,jk->ij", shares1, gram, shares2, precision="highest")

    return sequence_kernel


def of_average(
    kernel: Kernel, embeddings: Array | np.ndarray, weights: Array | np.ndarray | None = None
) -> Kernel:
    r"""A kernel of the averages themselves, :math:`k(s, s') = k(\bar\phi(s), \bar\phi(s'))`.

    Args:
      kernel: of vectors, such as the infinite-width tangent kernel of a tower's dense layers.
      embeddings: embeddings of all items, ``[m, d]``.
      weights: as :func:`average`.

    Returns:
      A kernel of item ids ``[n1, L1]`` and ``[n2, L2]``.
    """
    read = averages(embeddings, weights)
    return lambda items1, items2: kernel(read(items1), read(items2))


def over_embeddings(apply_fn: ApplyFn, embeddings: Array | np.ndarray) -> ApplyFn:
    """A tower over frozen embeddings, as a function of item ids.

    Args:
      apply_fn: ``apply_fn(params, (z [n, L, d], mask [n, L])) -> [n, h]``; a Flax tower by
        ``lambda params, x: tower.apply(params, *x)``.
      embeddings: embeddings of all items, ``[m, d]``.

    Returns:
      ``f(params, items [n, L]) -> [n, h]``; padding and cold items (embeddings that are not finite)
      are zeros outside the mask.
    """
    embeddings = jnp.asarray(embeddings)
    cold = _without(embeddings)

    def f(params: Params, items: Array) -> Any:
        z, _, mask = _gathered(embeddings, cold, items, None)
        return apply_fn(params, (z, mask))

    return f


def _on_device(weights: Array | np.ndarray | None) -> Array | None:
    return None if weights is None else jnp.asarray(weights)


def _without(vectors: Array) -> Array:
    """Which items have no vector, ``[m]``: once for a table, not at each of its readings."""
    return ~jnp.all(jnp.isfinite(vectors), axis=-1)


def _gathered(
    vectors: Array, cold: Array, items: Array, weights: Array | None
) -> tuple[Array, Array, Array]:
    """What histories hold, cold items left out.

    Returns:
      Vectors ``[n, L, d]``, zeros where there is none; shares of the weight ``[n, L]``; and whether
      there is an item ``[n, L]``.
    """
    items = jnp.asarray(items)
    at = jnp.maximum(items, 0)
    take = partial(jnp.take, indices=at, axis=0, mode="fill")
    # An id without a row is a mistake and stays NaN; a row that is not finite is a cold item.
    mask = (items >= 0) & ~jnp.take(cold, at, axis=0, mode="fill", fill_value=False)
    z = jnp.where(mask[..., None], take(vectors), 0)
    w = mask.astype(vectors.dtype)
    if weights is not None:
        chex.assert_shape(weights, (vectors.shape[0],))
        w = jnp.where(mask, take(weights).astype(vectors.dtype), 0)
    total = jnp.sum(w, axis=-1, keepdims=True)
    # An unknown id has weight NaN where weights are given, and a vector of NaN in any case.
    some = total != 0
    return z, jnp.where(some, w / jnp.where(some, total, 1), 0), mask

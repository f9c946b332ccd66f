"""Item embeddings from co-occurrence counts: PPMI and a singular value decomposition."""

from typing import Any, NamedTuple

import numpy as np

from kernlens.targets import sequences
from kernlens.types import Interactions


class Factors(NamedTuple):
    """Embeddings of items from their co-occurrences.

    Attributes:
      embeddings: float32 ``[num_items, dim]``.
      partners: items that an item meets more often than by chance, int64 ``[num_items]``; 0 where
        its row is zero.
    """

    embeddings: np.ndarray
    partners: np.ndarray


def ppmi_svd(
    interactions: Interactions,
    *,
    dim: int = 32,
    shift: float = 1.0,
    context_power: float = 0.75,
    spectrum_power: float = 0.5,
) -> Factors:
    r"""Decomposes the positive pointwise mutual information of items that share a session.

    With :math:`c_{ij}` the number of sessions that hold both i and j, :math:`i \ne j`,

    .. math:: M_{ij} = \max\Bigl(0, \log \frac{c_{ij} \sum_k c_k^a}{c_i c_j^a} - \log s\Bigr),
       \quad c_i = \sum_j c_{ij}, \quad M \approx U_d S_d V_d^T, \quad \phi = U_d S_d^p.

    A session counts as a set, so the order inside a basket does not matter. An item that meets no
    other more often than by chance gets a row of zeros.

    Args:
      interactions: the sessions.
      dim: d, at least 1 and at most the number of items less 2.
      shift: s > 0; 1 is plain PPMI, k matches skip-gram with k negatives.
      context_power: a in ``[0, 1]``; below 1, rare items are less close to each other.
      spectrum_power: p >= 0.

    Returns:
      Embeddings and how many partners each item has. Memory grows with the pairs of items that
      meet.

    Raises:
      ValueError: an argument out of range, interactions that `sequences.check` refuses, no session
        of two items, or no two items that meet more often than by chance.

    References:
      Levy, Goldberg and Dagan (2015), sections 3.1 to 3.3.
    """
    import scipy.sparse as sparse
    from scipy.sparse.linalg import svds

    sequences.check(interactions)
    n = interactions.num_items
    if not 1 <= dim <= n - 2:
        raise ValueError(f"dim must be in 1..{n - 2}, two below the number of items; got {dim}")
    if not 0 < shift < np.inf:
        raise ValueError(f"shift must be positive and finite; got {shift}")
    if not 0 <= context_power <= 1:
        raise ValueError(f"context_power must be in [0, 1]; got {context_power}")
    if not 0 <= spectrum_power < np.inf:
        raise ValueError(f"spectrum_power must be at least 0 and finite; got {spectrum_power}")
    held = sparse.csr_array(
        (np.ones(len(interactions.items)), interactions.items, interactions.offsets),
        shape=(interactions.num_sessions, n),
        copy=True,  # what follows works in place
    )
    held.sum_duplicates()
    held.data[:] = 1
    met = (held.T @ held).tocoo()
    apart = met.row != met.col
    if not apart.any():
        raise ValueError(
            f"no session holds two different items: {interactions.num_sessions} sessions of "
            f"{len(interactions.items)} interactions"
        )
    row, col, count = met.row[apart], met.col[apart], met.data[apart]
    total = np.bincount(row, count, n)
    context = total**context_power * (total > 0)
    information = np.log(count / (total[row] * context[col]) * (context.sum() / shift))
    above = information > 0
    if not above.any():
        raise ValueError("no two items share a session more often than by chance")
    ppmi = sparse.csr_array((information[above], (row[above], col[above])), shape=(n, n))
    # A start of our own, for the same embedding every time; and, where values lie close to each
    # other, three vectors for each of them converge in far fewer products than ARPACK's two.
    start = np.random.default_rng(0).standard_normal(n)
    decompose: Any = svds  # its annotations have the tolerance whole
    left, values, _ = decompose(ppmi, k=dim, v0=start, ncv=min(n - 1, max(3 * dim, 20)), tol=1e-6)
    order = np.argsort(-values)
    left, values = left[:, order], values[order]
    peaks = left[np.abs(left).argmax(axis=0), np.arange(dim)]
    partners = np.bincount(row[above], minlength=n)
    embeddings = left * np.where(peaks < 0, -1, 1) * values**spectrum_power
    embeddings[partners == 0] = 0  # what they have is rounding
    return Factors(embeddings.astype(np.float32), partners)

r"""Kernel ridge of users' rows on themselves: autoencoders in closed form.

A user's row says which items the user holds. Ridge regression of all rows on themselves, through a
kernel of rows, scores every item for every user from one solve of users². With the tangent kernel
of an infinitely wide autoencoder that is the model known as infinity-AE; with the linear kernel it
is the one-hot ridge.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.metrics.ranking import places
from kernlens.metrics.ranking.measures import reciprocal_rank
from kernlens.metrics.ranking.places import Place
from kernlens.metrics.ranking.protocol import Queries
from kernlens.probes.recommenders.baselines import binary, placed, read_items
from kernlens.probes.recommenders.ease import hidden_items

RowKernel = Callable[[np.ndarray, np.ndarray], Any]
"""``kernel(rows1 [n1, m], rows2 [n2, m]) -> [n1, n2]``, on float32 rows."""

STRENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Default path, relative to the mean of the kernel's diagonal."""
MEMORY = 4e9


class UserRidge(NamedTuple):
    """A fitted model: a user scores an item by kernel values times the item's dual weights.

    Attributes:
      kernel: of users' rows.
      rows: of the users that were fitted, float32 ``[n, m]``.
      weights: dual, float64 ``[n, m]``.
      strength: the chosen ridge strength.
      strengths: the path, ``[num_strengths]``.
      validation: mean reciprocal rank along the path, ``[num_strengths]``; NaN for a single one.
    """

    kernel: RowKernel
    rows: np.ndarray
    weights: np.ndarray
    strength: float
    strengths: np.ndarray
    validation: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores of all items for users' rows ``[b, m]``, float64 ``[b, m]``."""
        cross = np.asarray(self.kernel(np.asarray(rows, np.float32), self.rows), np.float64)
        return cross @ self.weights


def infinite_autoencoder(
    depth: int = 1, *, W_std: float = 2**0.5, b_std: float = 0.1, get: str = "ntk"
) -> RowKernel:
    """The tangent kernel of an infinitely wide ReLU autoencoder, by :mod:`kernlens.ntk.infinite`.

    It reads the inner products of the rows, a matrix product.

    Args:
      depth: hidden layers, at least 1.
      W_std: standard deviation of the weights, as published by default.
      b_std: of the biases.
      get: ``"ntk"``, or ``"nngp"`` for an autoencoder whose last layer alone is trained.

    Returns:
      The kernel.

    Raises:
      ValueError: no hidden layer.

    References:
      Sachdeva, Dhaliwal, Wu and McAuley (2022), section 3.
    """
    from kernlens.ntk import infinite  # Flax, which most rankings need not load

    if depth < 1:
        raise ValueError(f"depth must be at least 1; got {depth}")
    dense = infinite.dense(1, W_std, b_std)
    hidden = [layer for _ in range(depth) for layer in (dense, infinite.relu())]
    net = infinite.serial(*hidden, dense)

    def kernel(rows1: np.ndarray, rows2: np.ndarray) -> Any:
        # Of rows of ones and zeros the products are whole numbers, without rounding.
        rows1, rows2 = (np.asarray(rows, np.float32) for rows in (rows1, rows2))
        squares1, squares2 = (np.sum(rows**2, axis=1) for rows in (rows1, rows2))
        products = rows1 @ rows2.T
        return net.kernel_of_products(products, squares1, squares2, rows1.shape[1], get)

    return kernel


def linear_rows(rows1: np.ndarray, rows2: np.ndarray) -> np.ndarray:
    """Items that two users share: the kernel of the one-hot ridge."""
    return np.asarray(rows1 @ np.asarray(rows2).T)


def fit_user_ridge(
    x: Any,
    *,
    kernel: RowKernel | None = None,
    strengths: Sequence[float] = STRENGTHS,
    memory: float = MEMORY,
    seed: int = 0,
) -> UserRidge:
    r"""Fits kernel ridge of users' rows on themselves, and chooses its strength.

    .. math:: W = (K + \lambda \bar k I)^{-1} X, \qquad \bar k = \mathrm{tr}(K) / n,

    and a user of row :math:`r` scores the items by :math:`k(r, X)\, W`.

    Hidden items of a tenth of the users choose :math:`\lambda`, as in
    :func:`~kernlens.probes.recommenders.fit_ease`. The model is then fitted on all users.

    Args:
      x: how often each user (or session) holds each item, SciPy sparse ``[n, m]``; only whether an
        entry is positive counts.
      kernel: of users' rows; :func:`infinite_autoencoder` by default.
      strengths: :math:`\lambda` to choose among, each positive; a single one is taken as it is.
      memory: bytes that the dense matrices of users² and of users times items may take; more is
        refused.
      seed: of the users that are held out, and of what is hidden in their rows.

    Returns:
      The model.

    Raises:
      ValueError: an argument out of range, matrices that do not fit, or no user of two items to
        choose a strength by.

    References:
      Sachdeva, Dhaliwal, Wu and McAuley (2022), equation 3.
    """
    path = np.sort(np.asarray(strengths, np.float64).ravel())
    if len(path) == 0 or not np.all((path > 0) & np.isfinite(path)):
        raise ValueError(f"strengths must be positive and finite; got {path}")
    n, m = x.shape
    # The kernel and its factor, the rows and the weights, in float64.
    needed = 8.0 * n * (2 * n + 3 * m)
    if needed > memory:
        raise ValueError(
            f"a kernel of {n:,} users on {m:,} items takes {needed / 1e9:.1f} GB, more than "
            f"memory={memory:g} bytes; give more, or fewer users: EASE needs items² alone"
        )
    kernel = infinite_autoencoder() if kernel is None else kernel
    held = binary(x)
    validation = np.full(len(path), np.nan)
    if len(path) > 1:
        validation = _validated(held, kernel, path, seed)
    best = len(path) - 1 - int(np.argmax(validation[::-1])) if len(path) > 1 else 0
    rows = held.toarray().astype(np.float32)
    gram = np.asarray(kernel(rows, rows), np.float64)
    weights = dual_weights(gram, rows, float(path[best]))
    return UserRidge(kernel, rows, weights, float(path[best]), path, validation)


def dual_weights(gram: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    r"""Dual weights of ridge regression for any number of outputs at once.

    Args:
      gram: kernel of the rows, ``[n, n]``, positive semi-definite; the solve is in its dtype.
      targets: ``[n, m]``.
      strength: of the ridge, relative to the mean of the kernel's diagonal, positive.

    Returns:
      :math:`(K + \lambda\, \mathrm{tr}(K)/n\, I)^{-1} Y`, ``[n, m]``, in the dtype of ``gram``.
    """
    from scipy.linalg import cho_factor, cho_solve

    ridged = np.array(gram)
    ridged[np.diag_indices_from(ridged)] += strength * np.mean(np.diagonal(ridged))
    factor = cho_factor(ridged, lower=True, overwrite_a=True)
    return cho_solve(factor, np.asarray(targets, ridged.dtype))


def user_ridge(
    x: Any,
    queries: Queries,
    *,
    kernel: RowKernel | None = None,
    strengths: Sequence[float] = STRENGTHS,
    memory: float = MEMORY,
    seed: int = 0,
) -> Place:
    """Ranks by kernel ridge of users' rows, on the items of the histories.

    Args:
      x: as :func:`fit_user_ridge`.
      queries: of a protocol; what is read is the items of the histories.
      kernel: as :func:`fit_user_ridge`.
      strengths: as :func:`fit_user_ridge`.
      memory: as :func:`fit_user_ridge`.
      seed: as :func:`fit_user_ridge`.

    Returns:
      Place.

    Raises:
      ValueError: as :func:`fit_user_ridge`.
    """
    model = fit_user_ridge(x, kernel=kernel, strengths=strengths, memory=memory, seed=seed)
    read = read_items(queries.histories, x.shape[1])

    def scores(rows: slice) -> np.ndarray:
        some = read[rows].toarray()
        return model.scores(some) if len(some) else np.zeros(some.shape)

    return placed(scores, queries)


def _validated(held: Any, kernel: RowKernel, path: np.ndarray, seed: int) -> np.ndarray:
    """Mean reciprocal rank of hidden items along the path."""
    known, judged, target = hidden_items(held, seed)
    rows, columns = judged.nonzero()
    left = known.toarray().astype(np.float32)
    gram = np.asarray(kernel(left, left), np.float64)
    cross = np.asarray(kernel(judged.toarray().astype(np.float32), left), np.float64)
    found = []
    for strength in path:
        scores = cross @ dual_weights(gram, left, strength)
        scores[rows, columns] = -np.inf
        found.append(reciprocal_rank(places.place(scores, target)).mean())
    return np.array(found)

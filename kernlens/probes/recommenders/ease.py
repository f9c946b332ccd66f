"""EASE: a linear model of each item by all others, in closed form."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.arrays.device import calm_threads
from kernlens.metrics.ranking import places
from kernlens.metrics.ranking.measures import reciprocal_rank
from kernlens.metrics.ranking.places import Place
from kernlens.metrics.ranking.protocol import Queries
from kernlens.probes.recommenders.baselines import binary, placed, read_items

STRENGTHS = (10.0, 100.0, 1_000.0, 10_000.0)
"""Default path, absolute as in the published model: a strength adds that many sessions to the
diagonal of the co-occurrence counts. The probes have relative strengths."""
MEMORY = 4e9
HELD = 2_000
"""Most sessions that are held out to choose the strength."""


class Ease(NamedTuple):
    """A fitted model: an item scores the sum of its weights over the items of a history.

    Attributes:
      items: the items that are modelled, the most frequent ones, int64 ``[k]``.
      weights: from an item of the history to an item that is scored, float64 ``[k, k]`` with a
        diagonal of zeros.
      strength: the chosen ridge strength.
      strengths: the path, ``[num_strengths]``.
      validation: mean reciprocal rank along the path, ``[num_strengths]``; NaN for a single one.
    """

    items: np.ndarray
    weights: np.ndarray
    strength: float
    strengths: np.ndarray
    validation: np.ndarray


def fit_ease(
    x: Any,
    *,
    strengths: Sequence[float] = STRENGTHS,
    most: int | None = None,
    memory: float = MEMORY,
    seed: int = 0,
) -> Ease:
    r"""Fits EASE and chooses its strength.

    With :math:`P = (X^\top X + \lambda I)^{-1}` the weights are
    :math:`B_{ij} = -P_{ij} / P_{jj}`, :math:`B_{jj} = 0`: the ridge regression of each item on all
    others.

    A tenth of the sessions, at most 2,000, choose :math:`\lambda`: one random item of each is
    hidden and ranked by the others among the items that the session does not hold, and the mean
    reciprocal rank is compared. The model is then fitted on all sessions.

    Args:
      x: how often each session holds each item, SciPy sparse ``[sessions, m]``; only whether an
        entry is positive counts.
      strengths: :math:`\lambda` to choose among, each positive; a single one is taken as it is.
      most: items that are modelled, the most frequent; all by default. The others have no score.
      memory: bytes that the three dense matrices of items² may take; more is refused.
      seed: random seed of the sessions that are held out, and of what is hidden in them.

    Returns:
      The model.

    Raises:
      ValueError: an argument out of range, items² that do not fit, or no session of two items to
        choose a strength by.

    References:
      Steck (2019), equation 8.
    """
    path = np.sort(np.asarray(strengths, np.float64).ravel())
    if len(path) == 0 or not np.all((path > 0) & np.isfinite(path)):
        raise ValueError(f"strengths must be positive and finite; got {path}")
    m = x.shape[1]
    if most is not None and most < 1:
        raise ValueError(f"most must be at least 1; got {most}")
    k = m if most is None else min(most, m)
    if 24.0 * k * k > memory:
        raise ValueError(
            f"EASE on {k:,} items takes three dense matrices of items², {24e-9 * k * k:.1f} GB, "
            f"more than memory={memory:g} bytes; give more, or most={int((memory / 24) ** 0.5)} to "
            "model the most frequent items alone"
        )
    held = binary(x)
    counts = np.asarray(held.sum(axis=0)).ravel()
    items = np.sort(np.argsort(-counts, kind="stable")[:k])
    held = held[:, items]
    validation = np.full(len(path), np.nan)
    if len(path) > 1:
        validation = _validated(held, path, seed)
    best = len(path) - 1 - int(np.argmax(validation[::-1])) if len(path) > 1 else 0
    gram = (held.T @ held).toarray()
    return Ease(items, _weights(gram, path[best]), float(path[best]), path, validation)


def ease(
    x: Any,
    queries: Queries,
    *,
    strengths: Sequence[float] = STRENGTHS,
    most: int | None = None,
    memory: float = MEMORY,
    seed: int = 0,
) -> Place:
    """Ranks by EASE on the items of the histories.

    Args:
      x: as :func:`fit_ease`.
      queries: queries of a protocol; what is read is the items of the histories.
      strengths: as :func:`fit_ease`.
      most: as :func:`fit_ease`; a target that is not modelled is a miss.
      memory: as :func:`fit_ease`.
      seed: as :func:`fit_ease`.

    Returns:
      Place; items that are not modelled are cold.

    Raises:
      ValueError: as :func:`fit_ease`.
    """
    model = fit_ease(x, strengths=strengths, most=most, memory=memory, seed=seed)
    read, m = read_items(queries.histories, x.shape[1])[:, model.items], x.shape[1]

    def scores(rows: slice) -> np.ndarray:
        found = np.full((len(queries.histories.target[rows]), m), np.nan)
        found[:, model.items] = read[rows] @ model.weights
        return found

    return placed(scores, queries)


@calm_threads()
def _weights(gram: np.ndarray, strength: float) -> np.ndarray:
    """The weights of a Gram matrix, which is overwritten."""
    from scipy.linalg import get_lapack_funcs

    potrf, potri = get_lapack_funcs(("potrf", "potri"), (gram,))
    gram[np.diag_indices_from(gram)] += strength
    factor, failed = potrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise ValueError(f"the Gram matrix plus strength {strength:g} is not positive definite")
    inverse, _ = potri(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse, -1)
    weights = lower + lower.T
    weights /= -np.diagonal(inverse)
    return weights


def hidden_items(held: Any, seed: int) -> tuple[Any, Any, np.ndarray]:
    """Sessions to fit on, and others with an item hidden, to choose a strength by.

    Args:
      held: whether each session holds each item, SciPy CSR ``[sessions, m]``.
      seed: of the sessions that are held out, a tenth and at most 2,000, and of what is hidden.

    Returns:
      The sessions that are left, those held out without the hidden item, and that item of each.

    Raises:
      ValueError: no session has two items.
    """
    rng, sizes = np.random.default_rng(seed), np.diff(held.indptr)
    some = np.flatnonzero(sizes > 1)
    if len(some) == 0:
        raise ValueError("no session has two items to choose a strength by; give a single strength")
    some = np.sort(rng.permutation(some)[: min(max(len(some) // 10, 1), HELD)])
    rest = np.ones(held.shape[0], bool)
    rest[some] = False
    known, judged = held[rest], held[some].copy()
    hidden = judged.indptr[:-1] + rng.integers(0, sizes[some])
    target = judged.indices[hidden].copy()
    judged.data[hidden] = 0.0
    judged.eliminate_zeros()
    return known, judged, target


def _validated(held: Any, path: np.ndarray, seed: int) -> np.ndarray:
    """Mean reciprocal rank of hidden items along the path."""
    known, judged, target = hidden_items(held, seed)
    rows, columns = judged.nonzero()
    gram, found = (known.T @ known).toarray(), []
    for strength in path:
        scores = judged @ _weights(gram.copy(), strength)
        scores[rows, columns] = -np.inf
        found.append(reciprocal_rank(places.place(scores, target)).mean())
    return np.array(found)

"""Ways to join embeddings of the same items into one, with nothing learnt or by a gradient."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens.types import Labels

Parts = Sequence[np.ndarray]
JoinFn = Callable[[Parts], np.ndarray]
"""``join_fn(parts, B arrays [n, d_b]) -> rows [n, p]``."""

LEARNING = 2e8
"""Products of a row's columns over all rows that learn: with more, fewer rows do."""

MAX_ROWS, MIN_ROWS = 8192, 1024

SHARE = 0.75
"""Of all rows, those that learn at most: a little less than are left without a fold."""

WIDE = 128
"""Leading components of a part that weights are learnt from; the weights go to all of it."""

RANK = 64
STEPS = 30


class Join(NamedTuple):
    """A way to join.

    Attributes:
      fit: ``(parts, labels, seed) -> join_fn``; what is learnt, is learnt of these rows.
      learns: whether it reads labels.
      of_columns: whether it is undone by a reader that standardises its columns.
      standardises: whether its columns are standardised, whoever reads them.
    """

    fit: Callable[[Parts, Labels | None, int], JoinFn]
    learns: bool = False
    of_columns: bool = True
    standardises: bool = False


def _as_they_come(parts: Parts, labels: Labels | None, seed: int) -> JoinFn:
    del parts, labels, seed
    return lambda given: np.concatenate([np.asarray(part, np.float64) for part in given], axis=1)


def _scaled(scales: Sequence[Any], given: Parts) -> np.ndarray:
    return np.concatenate(
        [np.asarray(part, np.float64) * s for s, part in zip(scales, given, strict=True)], axis=1
    )


def _standardised(parts: Parts, labels: Labels | None, seed: int) -> JoinFn:
    del labels, seed
    return partial(_scaled, [_inverse(np.std(part, axis=0, dtype=np.float64)) for part in parts])


def _equal_variance(parts: Parts, labels: Labels | None, seed: int) -> JoinFn:
    del labels, seed
    return partial(_scaled, [float(_inverse(_size(part))) for part in parts])


def _learnt_weights(parts: Parts, labels: Labels | None, seed: int) -> JoinFn:
    """Weights of the parts' kernels with the least leave-one-out error of ridge regression."""
    assert labels is not None
    parts = [np.asarray(part, np.float64) for part in parts]
    equal = [float(_inverse(_size(part))) for part in parts]
    short = [_leading(part * s) for s, part in zip(equal, parts, strict=True)]
    rows = _learners(labels, sum(part.shape[1] for part in short), seed)
    from kernlens.probes import kernel_learning  # optax takes a third of a second to load

    learnt = kernel_learning.learn(
        kernel_learning.weighted, np.zeros(len(parts)), tuple(part[rows] for part in short),
        labels._replace(codes=labels.codes[rows]), steps=STEPS,
    )  # fmt: skip
    weights = np.exp(0.5 * (learnt.params - np.max(learnt.params)))
    return partial(_scaled, [float(w) * s for w, s in zip(weights, equal, strict=True)])


def _low_rank(parts: Parts, labels: Labels | None, seed: int) -> JoinFn:
    """A linear map to few columns with the least such error, from the leading components on."""
    assert labels is not None
    scaled = _equal_variance(parts, None, seed)
    x = scaled(parts)
    mean = x.mean(axis=0)
    rank = min(RANK, x.shape[1])
    rows = _learners(labels, max(rank, x.shape[1] // 4), seed)
    start = _axes(x - mean)[:, :rank]
    from kernlens.probes import kernel_learning  # optax takes a third of a second to load

    learnt = kernel_learning.learn(
        _mapped, start, x[rows] - mean, labels._replace(codes=labels.codes[rows]), steps=STEPS
    )
    return lambda given: (scaled(given) - mean) @ learnt.params


def _mapped(weights: Any, x: Any) -> Any:
    return jnp.matmul(x, weights, precision="highest")


def _size(part: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.var(part, axis=0, dtype=np.float64))))


def _inverse(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return np.where(x > 0, 1.0 / np.where(x > 0, x, 1.0), 0.0)


def _axes(centred: np.ndarray) -> np.ndarray:
    """Principal axes, the leading ones first, ``[p, p]``."""
    return np.linalg.eigh(centred.T @ centred)[1][:, ::-1]


def _leading(part: np.ndarray) -> np.ndarray:
    """The leading components of a wide part, or the part."""
    if part.shape[1] <= WIDE:
        return part
    centred = part - part.mean(axis=0)
    return centred @ _axes(centred)[:, :WIDE]


def _learners(labels: Labels, width: int, seed: int) -> np.ndarray:
    """Rows that learn: as many without a fold as of all, so that one program serves."""
    most = int(np.clip(LEARNING / width**2, MIN_ROWS, MAX_ROWS))
    rows = np.flatnonzero(labels.codes >= 0)
    size = min(most, int(len(labels.codes) * SHARE) // 16 * 16)
    if size < 16 or len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng([seed, 3]).permutation(rows)[:size])


JOINS: dict[str, Join] = {
    "as they come": Join(_as_they_come),
    "standardised": Join(_standardised, standardises=True),
    "equal variance": Join(_equal_variance),
    "learnt weights": Join(_learnt_weights, learns=True),
    "low-rank map": Join(_low_rank, learns=True, of_columns=False),
}
"""Ways to join, by name. A reader that standardises its columns sees the first four as one."""

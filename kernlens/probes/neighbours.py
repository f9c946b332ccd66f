"""Nearest neighbours: a row goes to the class that most of its nearest rows have."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.probes import copies
from kernlens.probes.blocks import blocks, check_rows, known_classes
from kernlens.probes.by_folds import answered, by_fold
from kernlens.probes.folds import FOLDS, share_out
from kernlens.probes.held_out import HeldOut
from kernlens.probes.nearest import nearest
from kernlens.probes.prediction import MACRO_F1, Prediction, check_draws
from kernlens.types import Array, Classification, Labels, Stream

NUMBERS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that are tried where none is given."""

VOTES_BYTES = 2**25
"""Bytes of the votes of a block."""


def neighbours(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    k: int | None = None,
    metric: str = MACRO_F1,
    folds: int = FOLDS,
    groups: np.ndarray | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""What a classifier by the nearest rows will reach on held-out rows.

    A row goes to the class with most of its ``k`` nearest rows by Euclidean distance, all votes
    alike, of tied classes to the first: ``KNeighborsClassifier(k)`` of scikit-learn. Columns are
    read as they are, so one of large scale decides; ``decoders.Neighbours(standardised=True)``
    standardises them, and ``metric="cosine"`` reads rows of length 1.

    The neighbours of a row are rows of the other folds, so there are as many to choose from as an
    80/20 split trains on, and no copy of the row is among them. Where ``k`` is chosen, each fold
    is answered with the ``k`` that was best on the other folds, so that the choice does not flatter
    the value.

    Time is that of ``n * n * p``: two cores take about a second for 13,000 rows of 32 columns.
    All rows are held in float64.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, read three times. The
        result does not depend on a common scale, a shift or a rotation.
      labels: one label per row, ``[n]``; rows without one are left out.
      k: number of neighbours; the best of :data:`NUMBERS` by default.
      metric: the field of ``Classification`` that ``k`` is chosen by, of equals the larger.
      folds: number of folds, at least 2.
      groups: equal for copies of one row, integers ``[n]``, ``-1`` where there is no label.
        Default: those of :func:`kernlens.probes.copies.groups`.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the folds and of the draws.

    Returns:
      Prediction; its loss is the error rate.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, fewer
        rows to choose from than ``k``, or an argument out of its range.

    References:
      Cover and Hart (1967), Nearest neighbor pattern classification.
    """
    check_draws(draws, level)
    if metric not in Classification._fields:
        raise ValueError(f"metric must be one of {Classification._fields}; got {metric!r}")
    codes = np.asarray(labels.codes)
    features = check_rows(features, len(codes))
    kept, classes, own = known_classes(labels)
    groups = copies.groups(features, codes) if groups is None else np.asarray(groups)
    groups = groups[kept]
    fold = share_out(own, groups, folds=folds, seed=seed)
    tried = _tried(k, fold)
    x = np.concatenate([values for values, _ in blocks(features, kept)])
    votes = _votes(nearest(x, fold, max(tried)), own, tried, len(classes))
    predicted, chosen = _cross_fitted(votes, own, fold, metric, folds)
    best = tried[chosen]
    return answered(
        HeldOut(None, predicted.astype(np.int32), own.astype(np.int32), fold, labels.names, groups),
        classes, draws=draws, level=level, seed=seed,
        notes=_note(best, tried, k, metric), num_folds=folds,
    )  # fmt: skip


def _tried(k: int | None, fold: np.ndarray) -> tuple[int, ...]:
    """The numbers of neighbours to try, each no larger than the rows to choose from."""
    least = len(fold) - int(np.max(np.bincount(fold + 1)))
    if k is None:
        return tuple(number for number in NUMBERS if number <= least) or (1,)
    if not 1 <= k <= least:
        raise ValueError(
            f"k must lie in 1..{least}, the rows that are there to choose from; got {k}"
        )
    return (int(k),)


def _votes(near: np.ndarray, codes: np.ndarray, tried: tuple[int, ...], num_classes: int):
    """The class that most of the first k neighbours have, for each k, ``[len(tried), n]``."""
    size = max(1, VOTES_BYTES // (4 * num_classes))
    size = min(1 << size.bit_length() - 1, 1 << (len(near) - 1).bit_length())
    given = np.where(near >= 0, codes[near], num_classes).astype(np.int32)
    parts = []
    for start in range(0, len(given), size):
        part = given[start : start + size]
        padded = np.full((size, given.shape[1]), num_classes, np.int32)
        padded[: len(part)] = part
        made = _most(jnp.asarray(padded), num_classes=num_classes)
        parts.append(np.asarray(made)[[number - 1 for number in tried], : len(part)])
    return np.concatenate(parts, axis=1)


@partial(jax.jit, static_argnames="num_classes")
def _most(given: Array, *, num_classes: int) -> Array:
    """The class with most votes after each neighbour, ``[k, n]``; the first of tied classes."""
    rows = jnp.arange(given.shape[0])

    def step(counts, vote):
        counts = counts.at[rows, vote].add(1, mode="drop")
        return counts, jnp.argmax(counts, axis=1).astype(jnp.int32)

    start = jnp.zeros((given.shape[0], num_classes), jnp.int32)
    return jax.lax.scan(step, start, given.T)[1]


def _cross_fitted(
    votes: np.ndarray, codes: np.ndarray, fold: np.ndarray, metric: str, num_folds: int
) -> tuple[np.ndarray, int]:
    """Each fold by the number that is best on the others, and the best on all: its place."""
    quality = np.nan_to_num(getattr(by_fold(codes, votes, fold, num_folds=num_folds), metric))
    others = (quality.sum(axis=1, keepdims=True) - quality) / max(num_folds - 1, 1)
    taken, best = _last_best(others), int(_last_best(quality.mean(axis=1)))
    return votes[taken[np.maximum(fold, 0)], np.arange(len(codes))], best


def _last_best(quality: np.ndarray) -> np.ndarray:
    """The place of the highest value along the first axis, the last of equals."""
    return len(quality) - 1 - np.argmax(np.round(quality, 12)[::-1], axis=0)


def _note(best: int, tried: tuple[int, ...], k: int | None, metric: str) -> tuple[str, ...]:
    if k is not None:
        return ()
    said = f"{best} nearest rows, chosen by {metric} among {', '.join(map(str, tried))}"
    edge = "; the largest that was tried" if best == tried[-1] > 1 else ""
    return (said + edge,)

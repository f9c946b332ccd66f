"""Nearest neighbours: a row goes to the class that most of its nearest rows have."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

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

SPLITS = 50
"""Folds, over several partitions, of which a metric is the mean."""

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
    the value. A metric is the mean over :data:`SPLITS` folds, of ten partitions of the rows into
    five: the nearest rows are sought once, and each partition leaves out those of a row's own fold.

    Time is that of ``n * n * p``: two cores take about a second for 13,000 rows of 32 columns.
    All rows are held in float64.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, read three times. The
        result does not depend on a common scale, a shift or a rotation.
      labels: one label per row, ``[n]``; rows without one are left out.
      k: number of neighbours; the best of :data:`NUMBERS` by default.
      metric: the field of ``Classification`` that ``k`` is chosen by, of equals the larger.
      folds: number of folds of a partition, at least 2.
      groups: equal for copies of one row, integers ``[n]``, ``-1`` where there is no label.
        Default: those of :func:`kernlens.probes.copies.groups`.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the folds and of the draws.

    Returns:
      Prediction; its loss is the error rate. Its ``held_out`` has the answers of one partition.

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
    partitions = [
        share_out(own, groups, folds=folds, seed=[seed, i] if i else seed)
        for i in range(max(SPLITS // folds, 1))
    ]
    tried = _tried(k, partitions)
    x = np.concatenate([values for values, _ in blocks(features, kept)])
    near = nearest(x, groups, _depth(max(tried), folds))
    votes = [
        _votes(_of_other_folds(near, x, fold, max(tried)), own, tried, len(classes))
        for fold in partitions
    ]
    quality = _by_fold(votes, own, partitions, folds)
    asked = np.nan_to_num(getattr(quality, metric))
    others = (asked.sum(axis=2, keepdims=True) - asked) / max(folds - 1, 1)
    taken, best = _last_best(others), int(_last_best(asked.mean(axis=(1, 2))))
    values = {
        name: float(np.nanmean(np.take_along_axis(found, taken[None], axis=0)))
        for name, found in quality._asdict().items()
    }
    fold = partitions[0]
    predicted = votes[0][taken[0, np.maximum(fold, 0)], np.arange(len(own))]
    return answered(
        HeldOut(None, predicted.astype(np.int32), own.astype(np.int32), fold, labels.names, groups),
        classes, draws=draws, level=level, seed=seed, values=values,
        notes=_note(tried[best], tried, k, metric), num_folds=folds,
    )  # fmt: skip


def _tried(k: int | None, partitions: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The numbers of neighbours to try, each no larger than the rows to choose from."""
    least = min(len(fold) - int(np.max(np.bincount(fold + 1))) for fold in partitions)
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
        made = _most(jnp.asarray(padded), tried=tried, num_classes=num_classes)
        parts.append(np.asarray(made)[:, : len(part)])
    return np.concatenate(parts, axis=1)


@partial(jax.jit, static_argnames=("tried", "num_classes"))
def _most(given: Array, *, tried: tuple[int, ...], num_classes: int) -> Array:
    """The class with most votes of the first k neighbours, for each k, the first of tied ones."""
    rows, found = jnp.arange(given.shape[0])[:, None], []
    counts = jnp.zeros((given.shape[0], num_classes), jnp.int32)
    for start, stop in pairwise((0, *tried)):
        counts = counts.at[rows, given[:, start:stop]].add(1, mode="drop")
        found.append(jnp.argmax(counts, axis=1).astype(jnp.int32))
    return jnp.stack(found)


def _depth(num: int, folds: int) -> int:
    """How many nearest rows hold ``num`` of other folds, but for rows one in a million."""
    expected = num * folds / (folds - 1)
    return int(np.ceil(expected + 5.0 * np.sqrt(expected / folds) + 5.0))


def _of_other_folds(near: np.ndarray, x: np.ndarray, fold: np.ndarray, num: int) -> np.ndarray:
    """The ``num`` nearest rows of other folds, of lists of nearest rows ``[n, m]``; -1 where there
    are no more."""
    known = (near >= 0) & (fold[near] != fold[:, None])
    rank = np.cumsum(known, axis=1)
    rows, places = np.nonzero(known & (rank <= num))
    found = np.full((len(near), num), -1, np.int32)
    found[rows, rank[rows, places] - 1] = near[rows, places]
    # A list that ends with a row may go on; one that ends with -1 has all rows there are.
    short = np.flatnonzero((rank[:, -1] < num) & (near[:, -1] >= 0))
    if len(short):
        found[short] = nearest(x, fold, num, queries=short)
    return found


def _by_fold(
    votes: list[np.ndarray], codes: np.ndarray, partitions: list[np.ndarray], num_folds: int
) -> Classification:
    """Metrics by number of neighbours, partition and fold, ``[len(tried), P, num_folds]`` each."""
    found = [
        by_fold(codes, given, fold, num_folds=num_folds)
        for given, fold in zip(votes, partitions, strict=True)
    ]
    return Classification(*(np.stack(own, axis=1) for own in zip(*found, strict=True)))


def _last_best(quality: np.ndarray) -> np.ndarray:
    """The place of the highest value along the first axis, the last of equals."""
    return len(quality) - 1 - np.argmax(np.round(quality, 12)[::-1], axis=0)


def _note(best: int, tried: tuple[int, ...], k: int | None, metric: str) -> tuple[str, ...]:
    if k is not None:
        return ()
    said = f"{best} nearest rows, chosen by {metric} among {', '.join(map(str, tried))}"
    edge = "; the largest that was tried" if best == tried[-1] > 1 else ""
    return (said + edge,)

"""Means of a metric over queries, and differences of means, with intervals over users."""

from collections.abc import Sequence
from typing import Any

import chex
import numpy as np

from kernlens.scores.intervals.ends import difference, interval
from kernlens.scores.intervals.hashes import MAX_ROW, bootstrap_weights
from kernlens.scores.intervals.replicates import Replicates
from kernlens.types import Array, Interval

USERS_AT_ONCE = 4096
"""Users whose bootstrap weights, one for each draw, are held at once."""


def mean_with_interval(
    values: np.ndarray | Array,
    users: np.ndarray | Array,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.9,
) -> Interval:
    r"""Mean of a metric over queries, with a bootstrap interval over users.

    Queries of one user depend on each other, so users are resampled, not queries: in each draw a
    user counts a Poisson number of times with all its queries, and the draw's mean is
    :math:`\sum_u w_u S_u / \sum_u w_u n_u` from the users' sums and counts. The weights are
    functions of seed, user and draw alone. What another training would change is not included.

    Args:
      values: metric of each query, in ``[0, 1]``, ``[n]``, such as
        :func:`kernlens.metrics.ranking.recall` returns.
      users: whose query it is, integers ``[n]`` from 0.
      seed: random seed of the draws.
      draws: at least 2; a draw without any user is left out.
      level: nominal coverage, in ``(0, 1)``.

    Returns:
      Interval.

    Raises:
      ValueError: a value that is not in ``[0, 1]``, fewer than two users, or an argument out of
        range.

    References:
      Chamandy et al. (2012) for Poisson weights; Davison and Hinkley (1997), section 3.8, for
      resampling of groups.
    """
    (found,) = resampled((values,), users, seed, draws)
    return interval(found, level=level, bounds=(0.0, 1.0))


def mean_by_target(
    values: np.ndarray | Array,
    users: np.ndarray | Array,
    repeated: np.ndarray | Array,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.9,
) -> dict[str, Interval | None]:
    """Mean of a metric over queries whose target the user had met before, and over the others.

    Where items recur, a ranker of the user's own past earns all it has from the first.

    Args:
      values: as :func:`mean_with_interval`.
      users: as :func:`mean_with_interval`.
      repeated: whether the target was met before, bool ``[n]``, of ``ranking.Queries``.
      seed: as :func:`mean_with_interval`.
      draws: as :func:`mean_with_interval`.
      level: as :func:`mean_with_interval`.

    Returns:
      Intervals of ``"repeated"`` and ``"new"`` targets, None where fewer than two users have one.

    Raises:
      ValueError: as :func:`mean_with_interval`.
    """
    values, users, repeated = (np.asarray(part) for part in (values, users, repeated))
    chex.assert_equal_shape([users, repeated])
    found: dict[str, Interval | None] = {}
    for name, rows in (("repeated", repeated), ("new", ~repeated)):
        found[name] = None
        if len(np.unique(users[rows])) > 1:
            found[name] = mean_with_interval(
                values[rows], users[rows], seed=seed, draws=draws, level=level
            )
    return found


def mean_difference(
    a: np.ndarray | Array,
    b: np.ndarray | Array,
    users: np.ndarray | Array,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.9,
) -> Interval:
    """Paired difference of a metric's mean between two rankers of the same queries.

    Both are taken on the same resampled users, so what they share (hard users, rare targets)
    cancels.

    Args:
      a: metric of each query by one ranker, in ``[0, 1]``, ``[n]``.
      b: by the other.
      users: whose query it is, integers ``[n]`` from 0.
      seed: random seed of the draws.
      draws: at least 2.
      level: nominal coverage, in ``(0, 1)``.

    Returns:
      Interval of ``a`` minus ``b``, ``separated`` where it leaves out 0.

    Raises:
      ValueError: as :func:`mean_with_interval`.
    """
    return difference(*resampled((a, b), users, seed, draws), level=level)


def resampled(
    metrics: Sequence[Any], users: np.ndarray | Array, seed: int, draws: int
) -> list[Replicates]:
    """Means of each metric over all users and over each draw of users.

    Args:
      metrics: each of all queries, in ``[0, 1]``, ``[n]``.
      users: as :func:`mean_with_interval`.
      seed: as :func:`mean_with_interval`.
      draws: as :func:`mean_with_interval`.

    Returns:
      Replicates of each metric, for ``scores.intervals``.

    Raises:
      ValueError: as :func:`mean_with_interval`.
    """
    values = np.stack([np.asarray(metric, np.float64) for metric in metrics], axis=1)
    users = np.asarray(users)
    chex.assert_rank([values, users], [2, 1])
    chex.assert_equal_shape_prefix([values, users], 1)
    bad = ~np.all((values >= 0) & (values <= 1), axis=1)
    if np.any(bad):
        row = int(np.argmax(bad))
        raise ValueError(f"metrics must be in [0, 1]; got {values[row]} in row {row}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2; got {draws}")
    ids, inverse = np.unique(users, return_inverse=True)
    if len(ids) < 2 or ids[0] < 0 or ids[-1] > MAX_ROW:
        raise ValueError(
            f"an interval over users needs two of them at least, in 0..{MAX_ROW}; got {len(ids)}: "
            f"{ids[:3]}"
        )
    sums = np.stack(
        [np.bincount(inverse, column) for column in (np.ones(len(users)), *values.T)], axis=1
    )
    totals = np.zeros((draws, sums.shape[1]))
    for start in range(0, len(ids), USERS_AT_ONCE):
        part = slice(start, start + USERS_AT_ONCE)
        totals += np.asarray(bootstrap_weights(seed, ids[part], draws), np.float64) @ sums[part]
    totals = totals[totals[:, 0] > 0]
    if len(totals) < 2:
        raise ValueError(f"{draws} draws of {len(ids)} users left fewer than 2 with any; draw more")
    means, point = totals[:, 1:] / totals[:, :1], sums.sum(axis=0)
    rows = (draws, seed, len(users))
    return [
        Replicates(float(point[1 + i] / point[0]), means[:, i], None, rows)
        for i in range(len(metrics))
    ]

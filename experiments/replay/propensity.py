r"""Values of policies from a log of another one, by inverse propensities.

The logged baskets do not say what was shown, so the log is simulated over them: every basket is
shown items drawn one by one from a mixture of popularity and the uniform distribution, and an item
is rewarded where it is the one that was bought. A policy that shows one of its k best at random is
then valued by

.. math:: \hat v = \frac1n \sum_i \frac{\pi(a_i \mid x_i)}{\mu(a_i \mid x_i)} r_i,

or self-normalised, by the mean of the ratios; k times it is recall@k.
"""

from typing import NamedTuple

import numpy as np


class Log(NamedTuple):
    """Impressions.

    Attributes:
      row: which basket, ``[t]``.
      item: what was shown, ``[t]``.
      propensity: the chance that it was, ``[t]``.
      reward: whether it was bought, ``[t]``.
    """

    row: np.ndarray
    item: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray


def simulate(
    target: np.ndarray,
    seen: np.ndarray,
    counts: np.ndarray,
    *,
    shown: int,
    uniform: float,
    seed: int,
) -> Log:
    """Shows items to baskets.

    Args:
      target: what is bought, ``[n]``.
      seen: items of the history, which are never shown, ``[n, L]``, -1 for padding.
      counts: popularity of each item, ``[m]``.
      shown: draws a basket; those of a seen item are not shown.
      uniform: share of the uniform distribution, in ``(0, 1]``.
      seed: of the draws.
    """
    share = (1 - uniform) * counts / counts.sum() + uniform / len(counts)
    total = np.cumsum(share)
    drawn = np.random.default_rng(seed).random((len(target), shown)) * total[-1]
    items = np.minimum(np.searchsorted(total, drawn, side="right"), len(counts) - 1)
    unique = np.sort(seen, axis=1)
    first = np.ones(unique.shape, bool)
    first[:, 1:] = unique[:, 1:] != unique[:, :-1]
    lost = np.sum(np.where((unique >= 0) & first, share[np.maximum(unique, 0)], 0.0), axis=1)
    kept = np.ones(items.shape, bool)
    for column in range(seen.shape[1]):
        kept &= items != seen[:, column : column + 1]
    row, place = np.nonzero(kept)
    item = items[row, place]
    return Log(row, item, share[item] / (1.0 - lost[row]), item == target[row])


def ratios(log: Log, top: np.ndarray) -> np.ndarray:
    """Chance of each impression under the policy over that of the log, ``[t]``.

    Args:
      log: impressions.
      top: the k items of each basket, one of which the policy shows, ``[n, k]``.
    """
    own = (top[log.row] == log.item[:, None]).any(axis=1)
    return own / top.shape[1] / log.propensity


def estimates(
    log: Log, top: np.ndarray, users: np.ndarray, *, draws: int, level: float = 0.9
) -> dict[str, dict[str, float]]:
    """Recall@k by inverse propensities, plain and self-normalised, with intervals over users.

    Args:
      log: impressions.
      top: ``[n, k]``.
      users: of each basket, ``[n]``.
      draws: bootstrap draws over users.
      level: nominal coverage.
    """
    replicates = resampled(log, top, users, draws=draws)
    tails = (0.5 - level / 2, 0.5 + level / 2)
    found = {}
    for name, values in replicates.items():
        low, high = np.quantile(values[1:], tails)
        found[name] = {"value": float(values[0]), "low": float(low), "high": float(high)}
    return found


def resampled(
    log: Log, top: np.ndarray, users: np.ndarray, *, draws: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The estimates, then those of resampled users, ``[1 + draws]``; the same users for a seed."""
    names, owner = np.unique(users, return_inverse=True)
    weight = ratios(log, top)
    sums = [
        np.bincount(owner[log.row], weights=part, minlength=len(names))
        for part in (weight * log.reward, weight, np.ones(len(weight)))
    ]
    rng = np.random.default_rng(seed)
    times = [np.ones(len(names))]
    for _ in range(draws):
        drawn = rng.integers(len(names), size=len(names))
        times.append(np.bincount(drawn, minlength=len(names)).astype(float))
    gained, weights, count = (np.array(times) @ np.stack(sums, axis=1)).T
    k = top.shape[1]
    return {
        "inverse propensity": k * gained / count,
        "self-normalised": k * gained / np.where(weights > 0, weights, np.inf),
    }

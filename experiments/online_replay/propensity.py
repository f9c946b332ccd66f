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

ESTIMATORS = ("inverse propensity", "self-normalised")


class Log(NamedTuple):
    """Impressions.

    Attributes:
      row: which basket, ``[t]``; as many of each.
      item: what was shown, ``[t]``. Some are in the basket already: no policy that is to be valued
        shows those, so their weight is 0.
      propensity: the chance that it was, positive, ``[t]``.
      reward: whether it was bought, ``[t]``.
    """

    row: np.ndarray
    item: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray


class Households(NamedTuple):
    """Resampled households.

    Attributes:
      owner: household of each basket, ``[n]`` in ``0..h-1``.
      times: how often each counts, first as it is, then in each draw, ``[1 + draws, h]``.
    """

    owner: np.ndarray
    times: np.ndarray


def simulate(
    target: np.ndarray, counts: np.ndarray, *, shown: int, uniform: float, seed: int
) -> Log:
    """Shows items to baskets.

    Args:
      target: what is bought, ``[n]``.
      counts: popularity of each item, ``[m]``.
      shown: independent draws a basket.
      uniform: share of the uniform distribution, in ``(0, 1]``.
      seed: of the draws.
    """
    share = (1 - uniform) * counts / counts.sum() + uniform / len(counts)
    total = np.cumsum(share)
    drawn = np.random.default_rng(seed).random(len(target) * shown) * total[-1]
    item = np.minimum(np.searchsorted(total, drawn, side="right"), len(counts) - 1)
    row = np.repeat(np.arange(len(target)), shown)
    return Log(row, item, share[item], item == target[row])


def households(users: np.ndarray, *, draws: int, seed: int = 0) -> Households:
    """Households drawn with replacement; the same for a seed, so that policies compare in pairs.

    Args:
      users: of each basket, ``[n]``.
      draws: bootstrap draws.
      seed: of the draws.
    """
    names, owner = np.unique(users, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = [np.ones(len(names))]
    for _ in range(draws):
        drawn = rng.integers(len(names), size=len(names))
        times.append(np.bincount(drawn, minlength=len(names)).astype(float))
    return Households(owner, np.array(times))


def ratios(log: Log, top: np.ndarray) -> np.ndarray:
    """Chance of each impression under the policy over that of the log, ``[t]``.

    Args:
      log: impressions.
      top: the k items of each basket, one of which the policy shows, ``[n, k]``.
    """
    shown = np.zeros(len(log.row), bool)
    for column in top.T:
        shown |= column[log.row] == log.item
    return shown / top.shape[1] / log.propensity


def recalls(log: Log, top: np.ndarray, drawn: Households) -> dict[str, np.ndarray]:
    """Recall@k by either estimator, as it is and in each draw, ``[1 + draws]``.

    Args:
      log: impressions.
      top: as :func:`ratios`.
      drawn: of :func:`households`.
    """
    weight, owner = ratios(log, top), drawn.owner[log.row]
    sums = [
        np.bincount(owner, weights=part, minlength=drawn.times.shape[1])
        for part in (weight * log.reward, weight, np.ones(len(weight)))
    ]
    gained, weights, count = (drawn.times @ np.stack(sums, axis=1)).T
    k = top.shape[1]
    found = k * gained / count, k * gained / np.where(weights > 0, weights, np.inf)
    return dict(zip(ESTIMATORS, found, strict=True))


def replayed(values: np.ndarray, drawn: Households) -> np.ndarray:
    """Mean of a metric of each basket, as it is and in each draw, ``[1 + draws]``; NaN for none."""
    size = drawn.times.shape[1]
    sums = np.bincount(drawn.owner, values, size), np.bincount(drawn.owner, minlength=size)
    total, count = (drawn.times @ np.stack(sums, axis=1)).T
    return total / np.where(count > 0, count, np.nan)


def lift(own: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Own value over a base's, less 1, draw for draw; NaN where the base is worth nothing."""
    return own / np.where(base > 0, base, np.nan) - 1


def ends(values: np.ndarray, *, level: float = 0.9) -> dict[str, float]:
    """A value and its percentile interval, from ``[1 + draws]``.

    Args:
      values: the value, then those of the draws.
      level: nominal coverage.
    """
    low, high = np.nanquantile(values[1:], (0.5 - level / 2, 0.5 + level / 2))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}

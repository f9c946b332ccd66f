"""From replicates to intervals, and to what a difference says."""

import math

import numpy as np

from kernlens.scores.estimator import Estimator
from kernlens.scores.intervals.replicates import Replicates
from kernlens.types import Interval


def interval(
    found: Replicates, *, level: float = 0.9, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    r"""The interval of a score from its replicates.

    Jackknife: with :math:`h_j` one over the share of the rows in block ``j`` and
    :math:`\theta_{(j)}` the score without it,

    .. math:: \tilde\theta_j = h_j \theta - (h_j - 1) \theta_{(j)}, \qquad
              \mathrm{se}^2 = \frac1G \sum_j \frac{(\tilde\theta_j - \bar\theta)^2}{h_j - 1},
              \qquad \bar\theta = \sum_j \tilde\theta_j / h_j,

    and the ends are :math:`\theta \pm t\, \mathrm{se}`, with ``t`` of ``G - 1`` degrees of
    freedom. Bootstrap: quantiles of the draws less their mean, plus :math:`\theta`.

    A score whose range ends at 0, and which no resample brings there, is taken by its logarithm:
    where it is skewed, as ``gbc_full`` near 0, its error grows with its size.

    Args:
      found: a score on the rows and on resamples of them.
      level: nominal coverage, in ``(0, 1)``.
      bounds: range of the score (:func:`bounds_of`), at which the ends are cut.

    Returns:
      Interval; of no width where no resample differs, as of a score that is 0 by convention (one
      class, no labels, constant rows).

    Raises:
      ValueError: ``level`` out of range.

    References:
      Quenouille (1956); Busing, Meijer and van der Leeden (1999), equations 6 and 7, for blocks of
      unlike size; Chamandy et al. (2012) for Poisson weights.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1); got {level}")
    sign = 1.0 if bounds[0] == 0.0 else -1.0
    one_signed = 0.0 in bounds and min(sign * found.value, *(sign * found.values)) > 0.0
    if one_signed:
        logs = found._replace(value=np.log(sign * found.value), values=np.log(sign * found.values))
        low, high = sorted(sign * np.exp(_centred_interval(logs, level)[:2]))
    else:
        low, high = _centred_interval(found, level)[:2]
    low, high = (float(np.clip(end, *bounds)) for end in (low, high))
    return Interval(found.value, low, high, level, found.null)


def bounds_of(row: Estimator) -> tuple[float, float]:
    """The ends of an estimator's range that are numbers; infinite where they vary with the rows."""
    low, high = row.range[1:-1].split(", ")
    return _number(low, -math.inf), _number(high, math.inf)


def difference(a: Replicates, b: Replicates, *, level: float = 0.9) -> Interval:
    """Paired difference of a score between two embeddings of the same rows.

    Both leave out the same rows, or give them the same weights, so what they share cancels.

    Args:
      a: of one embedding.
      b: of another, resampled with the same method and seed.
      level: nominal coverage, in ``(0, 1)``.

    Returns:
      Interval of ``a`` minus ``b``, ``separated`` where it leaves out 0.

    Raises:
      ValueError: other rows, labels, method or seed, or ``level`` out of range.
    """
    if a.rows != b.rows or (a.shares is None) != (b.shares is None):
        raise ValueError(
            "a paired difference needs the same rows, labels, method and seed on both sides; got "
            f"{a.rows[2]} rows in {a.rows[0]} resamples of seed {a.rows[1]} and {b.rows[2]} in "
            f"{b.rows[0]} of seed {b.rows[1]}, or other row numbers or classes"
        )
    both = a._replace(value=a.value - b.value, values=a.values - b.values, null=None)
    return interval(both, level=level)


def sentence(found: Interval, first: str, second: str, score: str) -> str:
    """What a difference of ``score`` between ``first`` and ``second`` says, in a sentence."""
    numbers = f"{found:+.3g} at {found.level:.0%}"
    if not found.separated:
        return f"cannot separate {first} from {second} by {score}: difference {numbers}"
    return f"{first} is {'above' if found.value > 0 else 'below'} {second} by {score}: {numbers}"


def standard_error(found: Replicates) -> float:
    """Standard error of a score, from its replicates; :func:`interval` has the formula.

    In float32 it has a floor near 1e-6 of the value.
    """
    return _centred_interval(found, 0.5)[2]


def _centred_interval(found: Replicates, level: float) -> tuple[float, float, float]:
    """Both ends, and the standard error."""
    tails = np.array([0.5 * (1.0 - level), 0.5 * (1.0 + level)])
    if found.shares is None:
        moved = found.values - np.mean(found.values)
        error = float(np.std(moved, ddof=1))
        low, high = found.value + np.quantile(moved, tails)
        return low, high, error
    from scipy.special import stdtrit

    ratio = 1.0 / found.shares
    # The value is taken off first: what is left is small, and its multiples lose no digits.
    pseudo = -(ratio - 1.0) * (found.values - found.value)
    pseudo = pseudo - np.sum(pseudo * found.shares)
    error = float(np.sqrt(np.mean(pseudo**2 / (ratio - 1.0))))
    low, high = found.value + error * stdtrit(len(pseudo) - 1, tails)
    return low, high, error


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise

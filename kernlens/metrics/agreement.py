"""Agreement of predictions with measured outcomes over several embeddings, with intervals."""

from typing import NamedTuple

import numpy as np

from kernlens.types import Interval


class Agreement(NamedTuple):
    """Agreement of predictions with measurements over embeddings.

    Attributes:
      spearman: rank correlation, in ``[-1, 1]``; undefined (NaN) where either side is constant.
      kendall: tau-b, in ``[-1, 1]``; undefined (NaN) where either side is constant.
      mean_absolute_error: in the unit of the metric.
      max_absolute_error: in the unit of the metric.
      bias: mean of predicted minus measured.
      regret: best measured value minus that of the embedding predicted best.
    """

    spearman: Interval
    kendall: Interval
    mean_absolute_error: Interval
    max_absolute_error: Interval
    bias: Interval
    regret: Interval


def agreement(
    predicted: np.ndarray,
    measured: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> Agreement:
    """All measures of agreement, with percentile bootstrap intervals over the embeddings.

    A draw takes embeddings with replacement, so the interval says how the number would vary with
    another choice of embeddings. Runs of one setting are not independent: give them one group and
    whole groups are drawn. A draw in which a measure is undefined is left out of its interval. The
    cost is ``draws * m**2``; memory is ``m**2``.

    Args:
      predicted: score of each embedding, higher is better, ``[m]``. The errors, bias and maximum
        mean something only for a prediction in the unit of ``measured``.
      measured: trained outcome of each embedding, higher is better, ``[m]``.
      groups: group of each embedding, ``[m]``, any values that compare; each its own by default.
      draws: number of bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws.

    Returns:
      Agreement. ``value`` is NaN where a measure is undefined: a rank correlation with a constant
      side, which is what a score that cannot tell embeddings apart should show.

    Raises:
      ValueError: shapes that differ, fewer than two embeddings, a value that is not finite, or a
        ``draws`` or ``level`` out of range.
    """
    predicted, measured = _checked(predicted, measured)
    if draws < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"draws must be >= 1 and level in (0, 1); got {draws} and {level}")
    m = len(predicted)
    if groups is None:
        members = np.arange(m)
    else:
        groups = np.asarray(groups)
        if groups.shape != (m,):
            raise ValueError(f"groups must have one value per embedding, [{m}]; got {groups.shape}")
        members = np.unique(groups, return_inverse=True)[1]
    num_groups = int(members.max()) + 1
    shares = np.full(num_groups, 1.0 / num_groups)
    picks = np.random.default_rng(seed).multinomial(num_groups, shares, size=draws)
    points = _measures(predicted, measured, np.ones((1, m)))
    samples = _measures(predicted, measured, picks[:, members].astype(float))
    return Agreement(
        **{name: _interval(points[name][0], samples[name], level) for name in Agreement._fields}
    )


def spearman(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where a side is constant.

    Args:
      predicted: scores, ``[m]``.
      measured: outcomes, ``[m]``.

    Returns:
      Correlation in ``[-1, 1]``.

    Raises:
      ValueError: shapes that differ, fewer than two entries, or a value that is not finite.
    """
    predicted, measured = _checked(predicted, measured)
    return float(_spearman(predicted, measured, np.ones((1, len(predicted))))[0])


def kendall(predicted: np.ndarray, measured: np.ndarray) -> float:
    r"""Kendall's tau-b, :math:`(C - D) / \sqrt{(C + D + T_p)(C + D + T_m)}`.

    :math:`C` and :math:`D` are the numbers of concordant and discordant pairs, :math:`T_p` and
    :math:`T_m` those tied only in the measured and only in the predicted values.

    Args:
      predicted: scores, ``[m]``.
      measured: outcomes, ``[m]``.

    Returns:
      Correlation in ``[-1, 1]``; NaN where a side is constant.

    Raises:
      ValueError: shapes that differ, fewer than two entries, or a value that is not finite.

    References:
      Kendall (1945), The treatment of ties in ranking problems.
    """
    predicted, measured = _checked(predicted, measured)
    return float(_kendall(predicted, measured, np.ones((1, len(predicted))))[0])


def mean_absolute_error(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Mean of ``|predicted - measured|``, both ``[m]``; raises as :func:`agreement` does."""
    predicted, measured = _checked(predicted, measured)
    return float(np.mean(np.abs(predicted - measured)))


def bias(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Mean of ``predicted - measured``, both ``[m]``; raises as :func:`agreement` does."""
    predicted, measured = _checked(predicted, measured)
    return float(np.mean(predicted - measured))


def regret(predicted: np.ndarray, measured: np.ndarray) -> float:
    """What is lost by taking the embedding that the prediction ranks first.

    The best measured value minus the measured value of the embedding with the highest prediction;
    among embeddings tied there, their mean, as if one were taken at random.

    Args:
      predicted: score of each embedding, higher is better, ``[m]``.
      measured: outcome of each embedding, higher is better, ``[m]``.

    Returns:
      Regret, at least 0, in the unit of ``measured``.

    Raises:
      ValueError: shapes that differ, fewer than two entries, or a value that is not finite.
    """
    predicted, measured = _checked(predicted, measured)
    return float(_regret(predicted, measured, np.ones((1, len(predicted))))[0])


def _checked(predicted, measured) -> tuple[np.ndarray, np.ndarray]:
    predicted, measured = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if predicted.ndim != 1 or predicted.shape != measured.shape or len(predicted) < 2:
        raise ValueError(
            "predicted and measured must be [m] with m >= 2, one entry per embedding; "
            f"got shapes {predicted.shape} and {measured.shape}"
        )
    for name, values in (("predicted", predicted), ("measured", measured)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(
                f"{name} must be finite; {bad.size} of {len(values)} are not, "
                f"first entry {bad[0]}: {values[bad[0]]}"
            )
    return predicted, measured


def _measures(predicted, measured, weights) -> dict[str, np.ndarray]:
    """Each measure under each row of multiplicities ``weights [draws, m]``, as ``[draws]``.

    A draw with replacement is its multiplicities: every measure is a weighted sum, so the
    comparisons of pairs are made once and the draws cost one matrix product each.
    """
    difference = predicted - measured
    total = np.sum(weights, axis=1)
    return {
        "spearman": _spearman(predicted, measured, weights),
        "kendall": _kendall(predicted, measured, weights),
        "mean_absolute_error": weights @ np.abs(difference) / total,
        "max_absolute_error": np.max(np.where(weights > 0, np.abs(difference), 0.0), axis=1),
        "bias": weights @ difference / total,
        "regret": _regret(predicted, measured, weights),
    }


def _spearman(predicted, measured, weights) -> np.ndarray:
    total = np.sum(weights, axis=1, keepdims=True)

    def centred_ranks(values):
        # Rank minus mean rank, twice over: integers, so a constant side is exactly zero.
        return weights @ np.sign(values[None, :] - values[:, None])

    def moment(a, b):
        return np.sum(weights * a * b, axis=1) / total[:, 0]

    x, y = centred_ranks(predicted), centred_ranks(measured)
    return _correlation(moment(x, y), moment(x, x), moment(y, y))


def _kendall(predicted, measured, weights) -> np.ndarray:
    x = np.sign(predicted[:, None] - predicted[None, :])
    y = np.sign(measured[:, None] - measured[None, :])

    def pairs(a):
        return np.sum(weights * (weights @ a), axis=1)

    return _correlation(pairs(x * y), pairs(x * x), pairs(y * y))


def _correlation(cross, left, right) -> np.ndarray:
    defined = (left > 0) & (right > 0)
    scale = np.sqrt(np.where(defined, left, 1.0)) * np.sqrt(np.where(defined, right, 1.0))
    return np.where(defined, np.clip(cross / scale, -1.0, 1.0), np.nan)


def _regret(predicted, measured, weights) -> np.ndarray:
    drawn = weights > 0
    best = np.max(np.where(drawn, measured, -np.inf), axis=1)
    scores = np.where(drawn, predicted, -np.inf)
    first = np.where(scores == np.max(scores, axis=1, keepdims=True), weights, 0.0)
    # The gaps are averaged, not the values, so that an exact hit gives an exact zero.
    gaps = np.where(drawn, best[:, None] - measured, 0.0)
    return np.sum(first * gaps, axis=1) / np.sum(first, axis=1)


def _interval(value, samples, level) -> Interval:
    samples = samples[np.isfinite(samples)]
    if not np.isfinite(value) or not samples.size:
        return Interval(float(value), float("nan"), float("nan"), level)
    low, high = np.quantile(samples, (0.5 * (1.0 - level), 0.5 * (1.0 + level)))
    return Interval(float(value), float(low), float(high), level)

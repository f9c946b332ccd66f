"""Closed-form held-out prediction: what a trained reader would reach, without training one.

Both probes refit without each row in turn, exactly, for every row and a whole path of ridge
strengths, at the cost of one fit. The metrics that follow are those of held-out rows.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from kernlens import metrics
from kernlens.probes.leave_one_out import discriminant_path, ridge_path, select_rows
from kernlens.scores import Estimator
from kernlens.types import Array, Classification, EmbeddingStream, Labels, Prediction

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.logspace(-4.0, 2.0, 25))
"""Default path: four strengths a factor of ten, relative to the mean eigenvalue."""

NEAR = 0.5
"""Standard errors of held-out loss within which the weakest strength is taken. Chosen on 18
Complete Journey embeddings, where any from a quarter to three quarters predicts
logistic regression's macro-F1 to 0.01; one standard error predicts it too high there."""

LOG_LOSS, SQUARED_ERROR = "log_loss", "squared_error"
"""Losses that a probe leaves one row out for."""

METRICS: tuple[str, ...] = (*Classification._fields, LOG_LOSS)
"""What predictions can be compared by; of the log loss less is better."""

MIN_STRENGTH = 1e-8
"""Below this, leave-one-out in float64 loses its digits to cancellation."""


class Difference(NamedTuple):
    """How two predictions on the same rows differ.

    Attributes:
      value: metric of the first minus metric of the second.
      low: lower end of the interval.
      high: upper end.
      level: nominal coverage of the interval, in ``(0, 1)``.
      separated: True where the interval leaves out 0, so that the two can be told apart.
    """

    value: float
    low: float
    high: float
    level: float
    separated: bool


def discriminant(
    features: np.ndarray | Array | EmbeddingStream,
    labels: Labels,
    *,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    select: str = "weakest",
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Leave-one-out regularised linear discriminant analysis.

    With class means :math:`m_k`, counts :math:`n_k` and pooled within-class scatter
    :math:`W = \sum_i (x_i - m_{y_i})(x_i - m_{y_i})^\top`, a row goes to the class with the largest

    .. math::
      g_k(x) = \log \pi_k - \tfrac{\nu}{2} (x - m_k)^\top (W + \lambda I)^{-1} (x - m_k),

    :math:`\pi_k` the class's share of the rows and :math:`\nu` the number of rows minus the number
    of classes, so that :math:`W / \nu` is the unbiased covariance. Leaving out row :math:`i` of
    class :math:`c` takes :math:`\alpha\, a a^\top` from :math:`W`, where :math:`a = x_i - m_c` and
    :math:`\alpha = n_c / (n_c - 1)`. With :math:`M = (W + \lambda I)^{-1}`,
    :math:`s = 1 - \alpha\, a^\top M a` and :math:`b_k = x_i - m_k`, the squared distances
    without it are

    .. math::
      b_k^\top M b_k + \alpha (a^\top M b_k)^2 / s \quad (k \ne c), \qquad
      \alpha^2 a^\top M a / s \quad (k = c).

    The penalty :math:`\lambda` is absolute, and the shares :math:`\pi_k` are those of all rows:
    both are the same for every row left out. Shares of the other rows would be smaller by a row for
    the row's own class alone; where the features say nothing and classes are balanced, that would
    decide, against every row, and noise would score near 0.

    A class of one row is allowed. Left out, its row has no class to go to: it counts as a mistake
    in the metrics and is not part of ``error``, where its loss would be infinite.

    Args:
      features: one row per item, real, ``[n, p]``, in any unit: the result does not depend on a
        common scale, a shift, or a rotation. Constant features give each row the largest class. Of
        a stream, read four times, no more than chunks of rows are in memory.
      labels: one label per row, ``[n]``; rows without one are left out.
      strengths: the path, relative to the mean eigenvalue of the within-class covariance (at least
        1e-12 of that of the covariance), ``[num_strengths]``, each at least ``MIN_STRENGTH``.
      select: ``"weakest"`` takes the weakest strength whose leave-one-out log loss is within
        ``NEAR`` standard errors of the least: trained readers regularise little, so among
        strengths of nearly the same loss the weakest is most like them. ``"error"`` takes that
        of the least loss; a field of ``Classification`` that of the highest such metric, which
        flatters it a little. Ties go to the larger strength.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``. They are percentile intervals over
        resampled rows: how the metric would vary with other rows to evaluate. What refitting,
        another initialisation or another pretraining run adds is not in them.
      seed: of the draws.

    Returns:
      Prediction; ``error`` is the mean log loss in nats.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, fewer than
        two rows more than classes, or an argument out of its range.

    References:
      Hastie, Tibshirani and Friedman (2009), sections 4.3 and 12.6; the rank-one updates are
      Sherman and Morrison (1950).
    """
    return _predict(
        discriminant_path, LOG_LOSS, features, labels, strengths, select, draws, level, seed
    )


def ridge(
    features: np.ndarray | Array | EmbeddingStream,
    labels: Labels,
    *,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    select: str = "weakest",
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Leave-one-out ridge regression on one-hot targets, with an unpenalised intercept.

    With :math:`z_i` the centred rows, :math:`T = \sum_i z_i z_i^\top` and one-hot targets
    :math:`y_i`, the fit, the leverage and the residual of the fit without row :math:`i` are

    .. math::
      f_i = \bar y + z_i^\top (T + \lambda I)^{-1} \sum_j z_j y_j^\top, \quad
      h_i = \tfrac1n + z_i^\top (T + \lambda I)^{-1} z_i, \quad
      r_i = \frac{y_i - f_i}{1 - h_i}.

    The class of a row is the largest entry of :math:`y_i - r_i + (y_i - \bar y) / (n - 1)`, the
    prediction without the row but with the intercept :math:`\bar y` of all rows, for the reason
    that :func:`discriminant` gives for its shares; ``error`` is of :math:`r_i` itself. The penalty
    :math:`\lambda` is absolute: the same for every row left out. On unbalanced classes this ranks
    embeddings well, but its macro-F1 is far below that of a trained classifier;
    :func:`discriminant` has the value.

    Args:
      features: one row per item, real, ``[n, p]``, in any unit; or a stream, as there.
      labels: one label per row, ``[n]``; rows without one are left out.
      strengths: the path, relative to the mean eigenvalue of the covariance, ``[num_strengths]``,
        each at least ``MIN_STRENGTH``.
      select: as :func:`discriminant`, by leave-one-out squared error.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the percentile intervals over resampled rows, in ``(0, 1)``; see
        :func:`discriminant`.
      seed: of the draws.

    Returns:
      Prediction; ``error`` is the squared error summed over classes, averaged over rows.

    Raises:
      ValueError: as :func:`discriminant`.

    References:
      Allen (1974), The relationship between variable selection and data augmentation (PRESS);
      Hastie, Tibshirani and Friedman (2009), equation 7.52.
    """
    return _predict(
        ridge_path, SQUARED_ERROR, features, labels, strengths, select, draws, level, seed
    )


def paired_difference(
    a: Prediction,
    b: Prediction,
    *,
    metric: str = "macro_f1",
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> Difference:
    """Difference of a metric between two predictions on the same rows.

    Each bootstrap draw resamples rows and takes both predictions there, so what the two share (hard
    rows, rare classes) cancels: the interval is narrower than two intervals set side by side. A
    difference of log losses is a mean over rows, and takes the normal interval of one.

    Args:
      a: a prediction.
      b: a prediction of the same targets, row by row.
      metric: a field of ``Classification``, or ``"log_loss"``.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the interval, in ``(0, 1)``.
      seed: of the draws.

    Returns:
      Difference, ``a`` minus ``b``.

    Raises:
      ValueError: targets or class names that differ, a log loss of a probe that has none, or an
        argument out of its range.
    """
    _check_metric(metric)
    _check_draws(draws, level)
    if a.class_names != b.class_names or not np.array_equal(a.target, b.target):
        raise ValueError(
            "a paired difference needs the same rows and labels on both sides; got "
            f"{len(a.target)} and {len(b.target)} rows, "
            f"{len(a.class_names)} and {len(b.class_names)} classes, or other targets"
        )
    if metric == LOG_LOSS:
        return _loss_difference(a, b, level)
    points, samples = metrics.resampled(a.target, (a.predicted, b.predicted), draws, seed)
    value = getattr(points[0], metric) - getattr(points[1], metric)
    differences = getattr(samples[0], metric) - getattr(samples[1], metric)
    low, high = np.quantile(differences, _tails(level))
    return Difference(float(value), float(low), float(high), level, bool(low > 0 or high < 0))


def value_of(prediction: Prediction, metric: str) -> tuple[float, float, float]:
    """A metric of a prediction and the ends of its interval.

    Args:
      prediction: what a probe gave.
      metric: one of :data:`METRICS`.

    Returns:
      Value, low and high.

    Raises:
      ValueError: an unknown metric, or a log loss of a probe that has none.
    """
    _check_metric(metric)
    if metric == LOG_LOSS:
        _check_log_loss(prediction)
        return prediction.error, prediction.error_low, prediction.error_high
    low, high = getattr(prediction.low, metric), getattr(prediction.high, metric)
    return getattr(prediction.metrics, metric), low, high


PROBES: dict[str, Callable[..., Prediction]] = {"discriminant": discriminant, "ridge": ridge}
"""Closed-form held-out predictions, by name."""

ABOUT: dict[str, Estimator] = {
    "discriminant": Estimator(
        discriminant,
        formula=r"g_k(x) = \log \pi_k - \tfrac\nu2 (x - m_k)^\top (W + \lambda I)^{-1} (x - m_k)",
        source="Hastie, Tibshirani and Friedman (2009), sections 4.3 and 12.6, each row left out",
        range="[0, 1] for the metrics, [0, inf) for the log loss",
        null="the share of the largest class, and the entropy of the labels",
        predicts="accuracy, macro-F1 and log loss of a trained linear reader, in value",
        pitfalls="linear: boosting and neighbours may read more; accuracies of few rows tie, where "
        "log loss does not; the intervals hold other rows, not another fit",
        shift_free=True,
    ),
    "ridge": Estimator(
        ridge,
        formula=r"r_i = (y_i - f_i) / (1 - h_i)",
        source="Allen (1974), PRESS; Hastie, Tibshirani and Friedman (2009), equation 7.52",
        range="[0, 1] for the metrics, [0, inf) for the squared error",
        null="the share of the largest class, and the variance of the labels",
        predicts="order of trained linear readers; squared error of ridge, in value",
        pitfalls="macro-F1 of unbalanced classes far below that of a trained classifier",
        shift_free=True,
    ),
}
"""What a reader must know of each of :data:`PROBES`."""


def _predict(path_fn, loss, features, labels, strengths, select, draws, level, seed) -> Prediction:
    strengths = _check_options(strengths, select, draws, level)
    rows = select_rows(features, labels)
    predicted, path_errors, standard_errors, losses = path_fn(rows, strengths)
    if not np.all(np.isfinite(path_errors)):
        raise ValueError(
            f"leave-one-out overflowed at strengths {strengths[~np.isfinite(path_errors)]}"
        )
    path_metrics = metrics.from_counts(*metrics.counts(rows.codes, predicted, len(rows.classes)))
    quality = getattr(path_metrics, select) if select in path_metrics._fields else -path_errors
    best = max(range(len(strengths)), key=lambda i: (quality[i], strengths[i]))
    if select == "weakest":
        near = path_errors <= path_errors[best] + NEAR * standard_errors[best]
        best = min(np.flatnonzero(near), key=lambda i: strengths[i])
    (points,), (samples,) = metrics.resampled(rows.codes, (predicted[best],), draws, seed)
    low, high = (
        Classification(*(float(np.quantile(v, tail)) for v in samples)) for tail in _tails(level)
    )
    reach = _normal_quantile(level) * standard_errors[best]
    return Prediction(
        metrics=Classification(*(float(v) for v in points)),
        low=low,
        high=high,
        level=level,
        loss=loss,
        error=float(path_errors[best]),
        error_low=float(max(path_errors[best] - reach, 0.0)),
        error_high=float(path_errors[best] + reach),
        strength=float(strengths[best]),
        strengths=strengths,
        path_errors=path_errors,
        path_metrics=path_metrics,
        losses=losses[best],
        predicted=rows.classes[predicted[best]].astype(np.int32),
        target=rows.classes[rows.codes].astype(np.int32),
        class_names=labels.names,
    )


def _loss_difference(a: Prediction, b: Prediction, level: float) -> Difference:
    for side in (a, b):
        _check_log_loss(side)
    counted = np.isfinite(a.losses) & np.isfinite(b.losses)
    gaps = a.losses[counted].astype(np.float64) - b.losses[counted]
    value = a.error - b.error
    reach = _normal_quantile(level) * float(np.std(gaps, ddof=1)) / np.sqrt(len(gaps))
    low, high = value - reach, value + reach
    return Difference(value, float(low), float(high), level, bool(low > 0 or high < 0))


def _normal_quantile(level) -> float:
    return NormalDist().inv_cdf(_tails(level)[1])


def _tails(level) -> tuple[float, float]:
    return 0.5 * (1.0 - level), 0.5 * (1.0 + level)


def _check_metric(metric) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}; got {metric!r}")


def _check_log_loss(prediction) -> None:
    if prediction.loss != LOG_LOSS:
        raise ValueError(
            f"this probe has a {prediction.loss}, and no log loss; the discriminant has one"
        )


def _check_draws(draws, level) -> None:
    if draws < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"draws must be >= 1 and level in (0, 1); got {draws} and {level}")


def _check_options(strengths, select, draws, level) -> np.ndarray:
    _check_draws(draws, level)
    if select not in ("weakest", "error", *Classification._fields):
        raise ValueError(
            f"select must be 'weakest', 'error' or one of {Classification._fields}; got {select!r}"
        )
    strengths = np.array(strengths, np.float64)
    if strengths.ndim != 1 or not strengths.size or not np.all(np.isfinite(strengths)):
        raise ValueError(f"strengths must be finite numbers, [num_strengths]; got {strengths}")
    if np.min(strengths) < MIN_STRENGTH:
        raise ValueError(f"strengths must be at least {MIN_STRENGTH}; got {np.min(strengths)}")
    return strengths

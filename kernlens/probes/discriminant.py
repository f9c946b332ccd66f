"""Leave-one-out regularised linear discriminant analysis, exactly, at the cost of one fit."""

from collections.abc import Sequence

import numpy as np

from kernlens.probes import paths
from kernlens.probes.leave_one_out import discriminant_path
from kernlens.probes.paths import STRENGTHS
from kernlens.probes.prediction import LOG_LOSS, Prediction
from kernlens.types import Array, Labels, Stream


def discriminant(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    strengths: Sequence[float] | np.ndarray = STRENGTHS,
    select: str = "weakest",
    standardised: bool = True,
    groups: np.ndarray | None = None,
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
      features: one row per item, real, ``[n, p]``, in any unit: the result does not depend on the
        scale of a column, nor on a shift. Constant features give each row the largest class. Of
        a stream, read seven times, no more than chunks of rows are in memory.
      labels: one label per row, ``[n]``; rows without one are left out.
      strengths: the path, relative to the mean eigenvalue of the within-class covariance of the
        standardised columns (at least 1e-12 of that of the covariance), ``[num_strengths]``,
        each at least ``MIN_STRENGTH``.
      select: ``"weakest"`` takes the weakest strength whose leave-one-out log loss is within
        ``NEAR`` standard errors of the least: trained classifiers regularise little, so among
        strengths of nearly the same loss the weakest is most like them. ``"error"`` takes that
        of the least loss; a field of ``Classification`` that of the highest such metric, which
        flatters it a little. Ties go to the larger strength.
      standardised: whether each column is first divided by its standard deviation, so that one of
        large scale, such as a price, does not make the ridge drown the others. False keeps the
        scales, for features whose scales say how much they count, as those of a kernel do.
      groups: equal for copies of one row, integers ``[n]``. A row is left out with all its copies.
        Default: those of :func:`kernlens.probes.copies.groups`.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``; :mod:`kernlens.probes.spread` says
        what the three kinds hold. What another pretraining run would change is in none of them.
      seed: random seed of the draws.

    Returns:
      Prediction; ``error`` is the mean log loss in nats.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, fewer than
        two rows more than classes, or an argument out of its range.

    References:
      Hastie, Tibshirani and Friedman (2009), sections 4.3 and 12.6; the rank-one updates are
      Sherman and Morrison (1950).
    """
    return paths.prediction_of(
        discriminant_path, LOG_LOSS, features, labels,
        strengths=strengths, select=select, standardised=standardised, groups=groups,
        draws=draws, level=level, seed=seed,
    )  # fmt: skip

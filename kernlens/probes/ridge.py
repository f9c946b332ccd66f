"""Leave-one-out ridge regression on one-hot targets, exactly, at the cost of one fit."""

from collections.abc import Sequence

import numpy as np

from kernlens.probes import paths
from kernlens.probes.leave_one_out import ridge_path
from kernlens.probes.paths import STRENGTHS
from kernlens.probes.prediction import SQUARED_ERROR, Prediction
from kernlens.types import Array, Labels, Stream


def ridge(
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
      strengths: the path, relative to the mean eigenvalue of the covariance of the standardised
        columns, ``[num_strengths]``, each at least ``MIN_STRENGTH``.
      select: as :func:`discriminant`, by leave-one-out squared error.
      standardised: as :func:`discriminant`.
      groups: as :func:`discriminant`.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``; see :func:`discriminant`.
      seed: random seed of the draws.

    Returns:
      Prediction; ``error`` is the squared error summed over classes, averaged over rows.

    Raises:
      ValueError: as :func:`discriminant`.

    References:
      Allen (1974), The relationship between variable selection and data augmentation (PRESS);
      Hastie, Tibshirani and Friedman (2009), equation 7.52.
    """
    return paths.prediction_of(
        ridge_path, SQUARED_ERROR, features, labels,
        strengths=strengths, select=select, standardised=standardised, groups=groups,
        draws=draws, level=level, seed=seed,
    )  # fmt: skip

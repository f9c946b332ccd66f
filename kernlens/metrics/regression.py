"""Metrics of regression."""

import numpy as np


def r2(target: np.ndarray, predicted: np.ndarray) -> float:
    r"""Share of variance explained, :math:`1 - \sum_i e_i^2 / \sum_i (y_i - \bar y)^2`.

    Args:
      target: true numbers, ``[n]``.
      predicted: predicted numbers, ``[n]``.

    Returns:
      At most 1; 0 is what the mean of all rows reaches. NaN where the target is constant.
    """
    spread = np.sum((target - np.mean(target)) ** 2)
    return float(1.0 - np.sum((target - predicted) ** 2) / spread) if spread > 0 else np.nan


def rmse(target: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error, both ``[n]``, in the unit of the target."""
    return float(np.sqrt(np.mean((target - predicted) ** 2)))


def mae(target: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, both ``[n]``, in the unit of the target."""
    return float(np.mean(np.abs(target - predicted)))

r"""Exact leave-one-out of ridge regression on any outputs, along a path of strengths.

With :math:`z_i` the standardised rows, :math:`\sum_i z_i z_i^\top = V E V^\top`,
:math:`u_i = V^\top z_i` and centred outputs :math:`y_i`, the fit without row :math:`i` is
:math:`y_i - r_i` with

.. math::
  r_i = \frac{y_i - u_i^\top (E + \lambda I)^{-1} \sum_j u_j y_j^\top}
             {1 - \tfrac1n - u_i^\top (E + \lambda I)^{-1} u_i},

intercept refitted. The means and standard deviations of the columns are those of all rows.

References:
  Allen (1974), PRESS; Hastie, Tibshirani and Friedman (2009), equation 7.52.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernlens.probes.blocks import blocks

MAX_LEVERAGE = 1.0 - 1e-12


class Fit(NamedTuple):
    """Ridge regression with each row left out, at the strength of the least squared error.

    Attributes:
      chosen: that strength, relative to the mean eigenvalue of the covariance of the standardised
        rows.
      left_out: outputs predicted without the row, float64 ``[n, t]``.
      errors: mean squared error along the path, ``[num_strengths, t]``.
    """

    chosen: float
    left_out: np.ndarray
    errors: np.ndarray


def leave_one_out(
    features: Any,
    kept: np.ndarray,
    outputs: np.ndarray,
    strengths: np.ndarray,
    *,
    copies: np.ndarray | None = None,
) -> Fit:
    """Leave-one-out of every strength, and the predictions of the best of them.

    Args:
      features: an array or a stream, as :func:`kernlens.probes.blocks.check_rows` returns; read
        through six times.
      kept: whether a row counts, bool ``[n_all]``.
      outputs: of the rows kept, in order, float64 ``[n, t]``.
      strengths: the path, positive, ``[num_strengths]``; of equal errors the larger is taken.
      copies: how many rows are copies of a row, itself among them, ``[n]``; they are left out
        together, which multiplies its leverage. One each by default.

    Returns:
      Fit.

    Raises:
      ValueError: fewer than three rows, or a value that is not finite.
    """
    n, p = int(np.count_nonzero(kept)), features.shape[1]
    if n < 3:
        raise ValueError(f"leave-one-out needs three rows or more with a target; got {n}")
    mean, scale = _standards(features, kept, p, n)
    rotate, eigenvalues = _basis(features, kept, mean, scale, n)
    centred = outputs - np.mean(outputs, axis=0)
    cross = np.zeros((len(eigenvalues), outputs.shape[1]))
    for u, rows in _rotated(features, kept, mean, scale, rotate):
        cross += u.T @ centred[rows]
    copies = np.ones(n) if copies is None else copies
    unit = np.sum(eigenvalues) / p or 1.0  # the mean over all p, those that are zero included

    def residuals(u, rows, strength):
        weight = 1.0 / (eigenvalues + strength * unit)
        leverage = np.minimum(copies[rows] * (1.0 / n + u**2 @ weight), MAX_LEVERAGE)
        return (centred[rows] - (u * weight) @ cross) / (1.0 - leverage)[:, None]

    errors = np.zeros((len(strengths), outputs.shape[1]))
    for u, rows in _rotated(features, kept, mean, scale, rotate):
        for i, strength in enumerate(strengths):
            errors[i] += np.sum(residuals(u, rows, strength) ** 2, axis=0) / n
    best = max(range(len(strengths)), key=lambda i: (-np.sum(errors[i]), strengths[i]))
    left_out = np.empty_like(centred)
    for u, rows in _rotated(features, kept, mean, scale, rotate):
        left_out[rows] = outputs[rows] - residuals(u, rows, strengths[best])
    return Fit(float(strengths[best]), left_out, errors)


def _standards(features, kept, p, n) -> tuple[np.ndarray, np.ndarray]:
    total, squares = np.zeros(p), np.zeros(p)
    for values, _ in blocks(features, kept):
        total += values.sum(axis=0)
    mean = total / n
    for values, _ in blocks(features, kept):
        squares += np.sum((values - mean) ** 2, axis=0)
    scale = np.sqrt(squares / n)
    return mean, np.where(scale > 0, scale, 1.0)


def _basis(features, kept, mean, scale, n) -> tuple[np.ndarray, np.ndarray]:
    """What turns standardised rows into coordinates, ``[p, r]``, and the eigenvalues, ``[r]``."""
    p = features.shape[1]
    if p <= n:
        scatter = np.zeros((p, p))
        for values, _ in blocks(features, kept):
            z = (values - mean) / scale
            scatter += z.T @ z
        eigenvalues, vectors = np.linalg.eigh(scatter)
        return vectors, np.maximum(eigenvalues, 0.0)
    z = np.concatenate([(values - mean) / scale for values, _ in blocks(features, kept)])
    eigenvalues, vectors = np.linalg.eigh(z @ z.T)
    held = eigenvalues > n * np.finfo(np.float64).eps * eigenvalues[-1]
    eigenvalues, vectors = eigenvalues[held], vectors[:, held]
    return z.T @ (vectors / np.sqrt(eigenvalues)), eigenvalues


def _rotated(features, kept, mean, scale, rotate) -> Iterator[tuple[np.ndarray, slice]]:
    start = 0
    for values, _ in blocks(features, kept):
        yield ((values - mean) / scale) @ rotate, slice(start, start + len(values))
        start += len(values)

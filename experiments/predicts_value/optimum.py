r"""Penalised multinomial logistic regression at its optimum, in float64, by SciPy.

The loss is scikit-learn's,

.. math:: \sum_i -\log \mathrm{softmax}(W z_i + b)_{y_i} + \frac{1}{2C} \|W\|^2,

searched by L-BFGS in coordinates in which its curvature is nearly that of a ball: principal axes
:math:`V` of the columns, each divided by :math:`\sqrt{n \sigma_j^2 / K + 1 / C}`. scikit-learn
searches in the columns themselves, where collinear ones take thousands of steps; a test holds both
to the same optimum.
"""

from typing import Any, NamedTuple

import numpy as np

GRADIENT = 3e-5
"""Largest entry of the gradient at the optimum, per row, in the coordinates of the search."""

STEPS = 1000


class Axes(NamedTuple):
    """Rows to train on in principal axes.

    Attributes:
      x: rows, a 1 appended, ``[m, d + 1]``.
      vectors: axes, ``[d, d]``.
      variances: of the axes, ``[d]``.
    """

    x: np.ndarray
    vectors: np.ndarray
    variances: np.ndarray


def axes(z: np.ndarray) -> Axes:
    """Principal axes of centred rows."""
    variances, vectors = np.linalg.eigh(z.T @ z / len(z))
    x = np.concatenate([z @ vectors, np.ones((len(z), 1))], axis=1)
    return Axes(x, vectors, np.maximum(variances, 0.0))


def fit(rows: Axes, codes: np.ndarray, num_classes: int, c: float, start: Any = None) -> np.ndarray:
    """The optimum at one penalty.

    Args:
      rows: to train on.
      codes: class of each, ``[m]`` in ``0..K-1``.
      num_classes: K.
      c: scikit-learn's ``C``.
      start: an optimum nearby, ``[d + 1, K]``; the shares of the classes by default.

    Returns:
      Weights in principal axes and, last, intercepts, ``[d + 1, K]``.
    """
    from scipy.optimize import minimize

    m, width = rows.x.shape
    target = np.zeros((m, num_classes))
    target[np.arange(m), codes] = 1.0
    penalty = np.append(np.full(width - 1, 1.0 / c), 0.0)[:, None]
    curvature = np.append(rows.variances, 1.0)[:, None] * m / num_classes + penalty
    scale = 1.0 / np.sqrt(curvature)
    if start is None:
        shares = np.bincount(codes, minlength=num_classes) / m
        start = np.zeros((width, num_classes))
        start[-1] = np.log(np.maximum(shares, 1e-3 / m))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = scale * flat.reshape(width, num_classes)
        logits = rows.x @ weights
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[np.arange(m), codes]
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1, keepdims=True)
        value = np.sum(np.log(sums[:, 0]) - own) + 0.5 * np.sum(penalty * weights**2)
        logits /= sums
        logits -= target
        gradient = scale * (rows.x.T @ logits + penalty * weights)
        return float(value), gradient.ravel()

    found = minimize(
        loss, (start / scale).ravel(), jac=True, method="L-BFGS-B",
        options={
            "gtol": GRADIENT * np.sqrt(m), "ftol": 0.0, "maxiter": STEPS, "maxfun": 2 * STEPS,
            "maxcor": 20,
        },
    )  # fmt: skip
    return scale * found.x.reshape(width, num_classes)


def logits(rows: Axes, weights: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Logits of any centred rows, ``[n, K]``."""
    return (z @ rows.vectors) @ weights[:-1] + weights[-1]


def turned(weights: np.ndarray, given: Axes, wanted: Axes) -> np.ndarray:
    """Weights in other principal axes; what standardising by other rows changes is left out."""
    return np.concatenate([wanted.vectors.T @ (given.vectors @ weights[:-1]), weights[-1:]])

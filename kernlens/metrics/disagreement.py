r"""How much two classifiers, or regressions, of the same rows disagree, with each row's influence.

Churn is what moves: the share of rows that change class, of pairs of row and label that change, or
the root mean squared change of a number over the standard deviation of the target. It follows the
shares of the classes: two poor classifiers that give the largest class to all agree. So agreement
beyond chance goes first: Cohen's kappa,

.. math:: \kappa = \frac{p_o - p_e}{1 - p_e}, \qquad p_e = \sum_c p_c q_c,

with :math:`p_o` the share of equal answers and :math:`p, q` the shares of the classes in either,
and, of numbers, Lin's concordance, to which kappa with squared weights comes.

References:
  Cohen (1960); Lin (1989); Milani Fard et al. (2016), on prediction churn.
"""

from typing import NamedTuple

import numpy as np


class Disagreement(NamedTuple):
    """Two sets of answers to the same rows.

    Attributes:
      kappa: agreement beyond chance, at most 1, NaN where both give one class to all; of numbers,
        the concordance.
      churn: what moves, at least 0.
      moved: how far each row moved, float64 ``[n]``: 1 or 0 of classes, the share of labels that
        changed, or the change in standard deviations of the target.
      influences: of each row on kappa and on churn, float64 ``[2, n]``, of mean 0: their standard
        deviations over the root of ``n`` are standard errors.
    """

    kappa: float
    churn: float
    moved: np.ndarray
    influences: np.ndarray


def of_classes(a: np.ndarray, b: np.ndarray) -> Disagreement:
    """Disagreement of two sets of classes.

    >>> found = of_classes(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    >>> found.churn, found.kappa
    (0.25, 0.5)

    Args:
      a: classes, integers from 0, ``[n]``.
      b: classes, ``[n]``.

    Returns:
      Disagreement.
    """
    moved = (a != b).astype(np.float64)
    size = int(max(a.max(), b.max())) + 1
    first, second = (np.bincount(given, minlength=size) / len(given) for given in (a, b))
    chance = float(first @ second)
    kappa, psi = _beyond(1.0 - moved, chance, second[a] + first[b] - 2.0 * chance)
    return Disagreement(kappa, float(moved.mean()), moved, np.stack([psi, moved - moved.mean()]))


def of_labels(a: np.ndarray, b: np.ndarray) -> Disagreement:
    """Disagreement of two sets of labels, bool ``[n, C]``, over all pairs of row and label."""
    moved = np.mean(a != b, axis=1)
    first, second = float(a.mean()), float(b.mean())
    chance = first * second + (1.0 - first) * (1.0 - second)
    on_a = np.where(a, second, 1.0 - second).mean(axis=1)
    on_b = np.where(b, first, 1.0 - first).mean(axis=1)
    kappa, psi = _beyond(1.0 - moved, chance, on_a + on_b - 2.0 * chance)
    return Disagreement(kappa, float(moved.mean()), moved, np.stack([psi, moved - moved.mean()]))


def of_numbers(a: np.ndarray, b: np.ndarray, target: np.ndarray) -> Disagreement:
    """Disagreement of two sets of numbers, ``[n]``, in standard deviations of the target ``[n]``.

    Kappa is Lin's concordance, :math:`2 s_{ab} / (s_a^2 + s_b^2 + (\\bar a - \\bar b)^2)`.
    """
    unit = float(np.std(target)) or 1.0
    gaps = (a - b) / unit
    squares = gaps**2
    churn = float(np.sqrt(np.mean(squares)))
    on_churn = (squares - np.mean(squares)) / (2.0 * churn) if churn > 0 else np.zeros(len(a))
    x, y, shift = a - a.mean(), b - b.mean(), a.mean() - b.mean()
    above = 2.0 * np.mean(x * y)
    below = np.mean(x**2) + np.mean(y**2) + shift**2
    if not below > 0:
        return Disagreement(np.nan, churn, np.abs(gaps), np.stack([np.zeros(len(a)), on_churn]))
    on_above = 2.0 * x * y - above
    on_below = x**2 + y**2 + 2.0 * shift * (x - y) - below + shift**2
    psi = on_above / below - above / below**2 * on_below
    return Disagreement(float(above / below), churn, np.abs(gaps), np.stack([psi, on_churn]))


def _beyond(agreed: np.ndarray, chance: float, on_chance: np.ndarray) -> tuple[float, np.ndarray]:
    """Kappa and the influence of each row; NaN where chance alone agrees on all."""
    if chance > 1.0 - 1e-12:
        return np.nan, np.zeros(len(agreed))
    observed = float(np.mean(agreed))
    kappa = (observed - chance) / (1.0 - chance)
    psi = (agreed - observed) / (1.0 - chance)
    psi -= (1.0 - observed) / (1.0 - chance) ** 2 * on_chance
    return kappa, psi

r"""Power laws through a few points of a learning curve, averaged over their exponents.

The curve is :math:`y(t) = a - b\, t^{-c}` at :math:`t` times the labels. Given the exponent it is
linear in :math:`a` and :math:`b`; the exponents of a grid are weighted by how well they fit and by
a prior.

References:
  Viering and Loog (2023), The shape of learning curves, section 3, for power laws and where they
  fail; Mackay (1992), section 2, for the weights.
"""

from typing import NamedTuple

import numpy as np

EXPONENTS = np.geomspace(0.1, 1.5, 15)
"""Of the labels, from hardly falling to faster than a parametric fit's."""

SPREAD = 0.2
"""Standard deviation of the logarithm of the exponent, of its prior."""

GAIN = 0.3
"""Standard deviation of the part of the curve that more labels can gain, of its prior."""


class PowerLaws(NamedTuple):
    """A mixture of power laws.

    Attributes:
      weights: weights of the exponents, sum 1, ``[k]``.
      means: of ``(a, b)`` at each exponent, ``[k, 2]``.
      covariances: ``[k, 2, 2]``.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation at ``t`` times the labels, ``[m]`` each."""
        basis = _basis(np.asarray(times, np.float64), EXPONENTS[:, None])
        means = np.einsum("kmj,kj->km", basis, self.means)
        variances = np.einsum("kmi,kij,kmj->km", basis, self.covariances, basis)
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (variances + (means - mean) ** 2))

    @property
    def exponent(self) -> float:
        """Mean of the exponent."""
        return float(self.weights @ EXPONENTS)


def typical_exponent(labels: float, parameters: float) -> float:
    """Exponent to expect of a linear head, from labels per free parameter.

    With many labels a parameter the excess error of a parametric fit falls as one over the labels;
    with few, slowly. The two numbers were chosen on digits and on Complete Journey's behaviour
    embeddings.

    Args:
      labels: how many there are.
      parameters: parameters of the head: columns times classes less one.
    """
    return float(np.clip(0.25 + 0.15 * np.log2(1.0 + labels / max(parameters, 1.0)), 0.2, 1.0))


def fit(
    times: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    *,
    exponent: float,
    gain: float = GAIN,
) -> PowerLaws:
    """Power laws through points.

    Args:
      times: labels, 1 where the curve is anchored, ``[m]``.
      values: values of a metric of which more is better, ``[m]``.
      errors: standard deviation of each, positive, ``[m]``.
      exponent: centre of its prior, positive.
      gain: standard deviation of ``b`` before anything is seen.

    Returns:
      PowerLaws.
    """
    basis = _basis(times, EXPONENTS[:, None])
    weighted = basis / errors[:, None] ** 2
    prior = np.diag([1.0, gain**-2.0])
    centre = np.array([values[np.argmin(np.abs(np.log(times)))], 0.0])
    precision = np.einsum("kmi,kmj->kij", weighted, basis) + prior
    right = np.einsum("kmi,m->ki", weighted, values) + prior @ centre
    means = np.linalg.solve(precision, right[..., None])[..., 0]
    residuals = (values - np.einsum("kmj,kj->km", basis, means)) / errors
    moved = means - centre
    logs = -0.5 * (
        np.sum(residuals**2, axis=1)
        + np.einsum("ki,ij,kj->k", moved, prior, moved)
        + np.linalg.slogdet(precision)[1]
        + (np.log(EXPONENTS / exponent) / SPREAD) ** 2
    )
    weights = np.exp(logs - np.max(logs))
    return PowerLaws(weights / np.sum(weights), means, np.linalg.inv(precision))


def _basis(times: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    falling = -(times**-exponents)
    return np.stack([np.ones_like(falling), falling], axis=-1)

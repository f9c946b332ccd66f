r"""Proposition 1's inequality in closed form, between a training and a test distribution of items.

With :math:`m_p = E_p[y z]`, :math:`\Sigma_p = E_p[z z^\top]`, the linear kernel's classifier is
:math:`f(x) = \langle z(x), m_p \rangle / \sqrt{E k^2}` and, for x from q and x' from p,

.. math:: a = E_q[y f(x)] = \frac{\langle m_q, m_p \rangle}{\sqrt{E k^2}}, \qquad
          E k^2 = \mathrm{tr}(\Sigma_q \Sigma_p), \qquad E_q f^2 \le 1.

Printed: :math:`1 - R \ge \sqrt\delta\, a`. Chebyshev's inequality leaves a rest on the event that
:math:`|f| > 1/\sqrt\delta`, so what it proves is :math:`1 - R \ge \sqrt\delta\, a - \delta`, at
best :math:`a^2/4`; Cauchy and Schwarz give :math:`1 - R \ge a^2` without :math:`\delta`. Here
:math:`1 - R = P(y f > 0)`, y in {-1, 1}. With more classes, as printed, :math:`k_Y = 1[y = y']`:
:math:`y` is a one-hot vector, a sums over classes, and 1 - R is the accuracy of the largest score.
"""

from typing import NamedTuple

import numpy as np


class Sides(NamedTuple):
    """Both sides, for one embedding and two distributions.

    Attributes:
      known: a with both expectations over the training distribution: what can be said before.
      alignment: a, as the proof has it.
      measured: 1 - R on the test distribution.
      trivial: the test share of the training distribution's largest class.
      spread: :math:`E_q f^2`, at most 1 (of two classes; else its sum over classes).
    """

    known: float
    alignment: float
    measured: float
    trivial: float
    spread: float


def sides(z: np.ndarray, codes: np.ndarray, train: np.ndarray, test: np.ndarray) -> Sides:
    """Both sides of the inequality.

    Args:
      z: ``[n, d]``.
      codes: classes ``[n]``, ``-1`` for none; with two classes the targets are -1 and 1.
      train: distribution of training items, ``[n]``, zero where there is no class.
      test: distribution of test items, likewise.
    """
    classes = int(codes.max()) + 1
    rows = codes >= 0
    z, codes = np.asarray(z[rows], np.float64), codes[rows]
    train, test = train[rows] / train[rows].sum(), test[rows] / test[rows].sum()
    target = np.eye(classes)[codes]
    if classes == 2:
        target = target[:, 1:] - target[:, :1]
    second = [z.T @ (share[:, None] * z) for share in (train, test)]
    means = [(share[:, None] * target).T @ z for share in (train, test)]
    size = np.sqrt(np.sum(second[0] * second[1]))
    scores = z @ means[0].T / size
    guessed = (scores[:, 0] > 0).astype(int) if classes == 2 else np.argmax(scores, axis=1)
    prior = np.bincount(codes, weights=train, minlength=classes)
    return Sides(
        known=float(np.sum(means[0] ** 2) / np.linalg.norm(second[0])),
        alignment=float(np.sum(means[1] * means[0]) / size),
        measured=float(test[guessed == codes].sum()),
        trivial=float(test[codes == np.argmax(prior)].sum()),
        spread=float(np.sum(test[:, None] * scores**2)),
    )


def bounds(alignment: float, delta: float) -> dict[str, float]:
    """Lower bounds on 1 - R: as printed, as Chebyshev proves it, and by Cauchy and Schwarz."""
    positive = max(alignment, 0.0)
    return {
        "printed": float(np.sqrt(delta)) * positive,
        "Chebyshev": max(float(np.sqrt(delta)) * positive - delta, 0.0),
        "Cauchy-Schwarz": positive**2,
    }

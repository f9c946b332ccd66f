r"""What more labels bring to a linear head, drawn from normal classes like those at hand.

Few labels show the start of a learning curve, and a power law through it does not see where it
ends. The rows themselves say more: how far the class means lie apart in the directions of the
covariance within classes decides what a linear head can reach, and how many rows it needs. Means
and covariance are estimated, what sampling alone would put into them is taken out, and items are
drawn from them: as many as there are, and more. What discriminant analysis gains between the two,
in logits, is added to what the probe has reached.

References:
  Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices,
  section 3.2; Gavish and Donoho (2017), Optimal shrinkage of singular values, section 4 (operator
  norm: the singular value before noise), for the class means; Viering and Loog (2023), The shape
  of learning curves.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernlens import metrics
from kernlens.probes.prediction import ACCURACY, MACRO_F1
from kernlens.scores.shrinkage import ledoit_wolf

STRENGTHS = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge added to the covariance within classes, in its mean eigenvalue; the best is taken."""

DRAWS, DRAWS_BEYOND = 8, 4
"""Samples drawn of as many items as there are, and of more, at most."""

FEW_COLUMNS, MOST_COLUMNS = 512, 1024
"""The cost of a sample grows with the cube of the columns: with more than the first fewer are
drawn, with more than the second none."""

SHUFFLES = 3
"""Shuffled labels whose means say how large those of noise are."""

BEYOND_NOISE = 1.05
"""Singular value of the class means, in the largest of noise, from which on it counts."""

TEST = 4000
"""Drawn items that judge each head."""

ENTRIES = 2**24
"""Most numbers of the largest sample drawn (rows times columns)."""

EDGE = 1e-3
"""Values are taken for this far from 0 and 1 before their logit."""


class NormalClasses(NamedTuple):
    """Classes about their means, in the axes of the covariance within them.

    Attributes:
      means: of the classes, in standard deviations of each axis, ``[C, d]``.
      deviations: standard deviation of each axis, ``[d]``.
      shares: of the classes, sum 1, ``[C]``.
    """

    means: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Items and their classes, ``[count, d]`` and ``[count]``."""
        codes = rng.choice(len(self.shares), count, p=self.shares)
        noise = rng.standard_normal((count, len(self.deviations)))
        return (self.means[codes] + noise) * self.deviations, codes


def beyond(
    features: np.ndarray,
    codes: np.ndarray,
    values: Mapping[str, float],
    times: Sequence[float],
    *,
    share: float = 0.8,
    seed: int = 0,
) -> dict[str, dict[float, float]]:
    """What a linear head would reach with more labels.

    Args:
      features: distinct rows with a label, ``[n, d]``.
      codes: class of each, ``[n]``.
      values: what the head has reached with these, of accuracy and macro-F1.
      times: labels wanted, in those at hand, each above 1.
      share: of the labels that a head is trained on.
      seed: random seed of the draws.

    Returns:
      By metric, and by those of ``times`` whose sample has at most :data:`ENTRIES` numbers, its
      value: what is gained in logits, and never less than heads on drawn items reach, or than has
      been reached. Empty where not two classes have two rows, where their means differ by no
      more than noise does, and beyond :data:`MOST_COLUMNS`.
    """
    x = np.asarray(features, np.float64)
    x = x[:, varying(x)]
    n, d = x.shape
    times = [t for t in times if t * n * d <= ENTRIES]
    place, codes = np.unique(codes, return_inverse=True)
    if not 0 < d <= MOST_COLUMNS or not times:
        return {}
    if len(place) < 2 or np.sum(np.bincount(codes) > 1) < 2:
        return {}
    with np.errstate(over="ignore", invalid="ignore"):
        drawn = normal_classes(x, codes)
    if drawn is None or not np.any(drawn.means):
        return {}
    rng = np.random.default_rng([seed, n])
    test = drawn.draw(TEST, rng)

    def reached(size: int, most: int) -> np.ndarray:
        draws = int(np.clip((FEW_COLUMNS / d) ** 3, 1, most))
        return np.mean(
            [_best(drawn.draw(size, rng), test, len(place)) for _ in range(draws)], axis=0
        )

    now = reached(max(round(share * n), 2), DRAWS)
    found: dict[str, dict[float, float]] = {ACCURACY: {}, MACRO_F1: {}}
    for t in times:
        later = reached(round(share * n * t), DRAWS_BEYOND)
        for column, (metric, row) in enumerate(found.items()):
            moved = _logit(values[metric]) + _logit(later[column]) - _logit(now[column])
            row[t] = float(max(1.0 / (1.0 + np.exp(-moved)), later[column], values[metric]))
    return found


def varying(features: np.ndarray) -> np.ndarray:
    """Columns that hold more than one value, bool ``[d]``."""
    return np.any(features != features[:1], axis=0)


def normal_classes(x: np.ndarray, codes: np.ndarray) -> NormalClasses | None:
    """Normal classes of one covariance, as they are before sampling spreads their means.

    Args:
      x: rows, float64 ``[n, d]``, whose columns vary.
      codes: class of each, ``0..C-1``, each of them present, ``[n]``.

    Returns:
      NormalClasses; None where squares of the rows overflow.
    """
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    if not np.all(np.isfinite(x)):
        return None
    counts = np.bincount(codes).astype(np.float64)
    found, deviations = _scaled_means(x, codes, counts)
    d, k = x.shape[1], len(counts) - 1
    # Of shuffled labels the largest singular value is that of noise; where columns are nearly as
    # many as rows it is larger than of as many normal numbers.
    rng = np.random.default_rng(0)
    shuffled = [_scaled_means(x, rng.permutation(codes), counts)[0] for _ in range(SHUFFLES)]
    edge = np.sqrt(d) + np.sqrt(k)
    noise = max(1.0, float(np.mean([np.linalg.norm(own, 2) for own in shuffled])) / edge)
    left, singular, right = np.linalg.svd(found / noise, full_matrices=False)
    squares = singular**2 - d - k
    inside = np.maximum(squares**2 - 4.0 * d * k, 0.0)
    parent = np.sqrt(np.maximum(squares + np.sqrt(inside), 0.0) / 2.0)
    kept = np.where(singular > BEYOND_NOISE * edge, parent, 0.0)
    return NormalClasses(
        (left * kept) @ right / np.sqrt(counts)[:, None], deviations, counts / len(x)
    )


def _scaled_means(
    x: np.ndarray, codes: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Class means times the root of their count, in deviations of the axes within classes, which
    come second; of noise alone all have variance 1."""
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, codes, x)
    means /= counts[:, None]
    values, axes = np.linalg.eigh(_shrunk_covariance(x - means[codes], len(x) - len(counts)))
    deviations = np.sqrt(np.maximum(values, max(1e-6 * values[-1], 1e-12)))
    return np.sqrt(counts)[:, None] * (means @ axes) / deviations, deviations


def _shrunk_covariance(residuals: np.ndarray, freedom: int) -> np.ndarray:
    """Ledoit and Wolf's, towards a multiple of the identity."""
    n, d = residuals.shape
    raw = residuals.T @ residuals / max(freedom, 1)
    scale = np.trace(raw) / d
    away = np.sum(raw**2) - d * scale**2
    fourth = np.mean(np.sum(residuals**2, axis=1) ** 2)
    weight = ledoit_wolf(np.sum(raw**2), away, fourth, n)
    return (1.0 - weight) * raw + weight * scale * np.eye(d)


def _best(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], size: int
) -> np.ndarray:
    """Accuracy and macro-F1 of discriminant analysis, each of its best strength, ``[2]``."""
    x, codes = train
    counts = np.bincount(codes, minlength=size).astype(np.float64)
    present = np.flatnonzero(counts)
    means = np.zeros((size, x.shape[1]))
    np.add.at(means, codes, x)
    means = means[present] / counts[present, None]
    place = np.cumsum(counts > 0) - 1
    residuals = x - means[place[codes]]
    values, axes = np.linalg.eigh(residuals.T @ residuals / max(len(x) - len(present), 1))
    values, rows, means = np.maximum(values, 0.0), test[0] @ axes, means @ axes
    priors = np.log(counts[present] / len(x))
    answers = []
    for strength in STRENGTHS:
        inverse = 1.0 / (values + strength * np.mean(values))
        scores = rows @ (means * inverse).T - 0.5 * (means**2 @ inverse) + priors
        answers.append(present[np.argmax(scores, axis=1)])
    told = metrics.counts(test[1], np.stack(answers), size)
    # Macro-F1 is over the classes that were drawn, also where a rarer one is answered.
    drawn = told[2][0] > 0
    found = metrics.from_counts(*(own[:, drawn] for own in told))
    return np.max([found.accuracy, found.macro_f1], axis=1)


def _logit(value: float) -> float:
    inside = np.clip(value, EDGE, 1.0 - EDGE)
    return float(np.log(inside / (1.0 - inside)))

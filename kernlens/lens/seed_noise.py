r"""What a head's own seed moves: heads that differ in nothing else, trained.

Where heads are predicted, runs have the same random features, so that what moves between them is
theirs alone.
Two runs are served by heads of two seeds, which move rows too. A row changes where its margin is
small against how far its logits move; moves of two causes that know nothing of each other add their
variances, so churn adds by squares,

.. math:: c = \sqrt{c_\mathrm{run}^2 + c_\mathrm{seed}^2},

and kappa is that of this churn, at the agreement by chance of the trained heads.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernlens.lens.run_pairs import Pairs, mean_over_runs
from kernlens.metrics.disagreement import Disagreement, of_classes
from kernlens.types import Interval, Labels

if TYPE_CHECKING:  # Flax and what trains by it take most of a second to load.
    import flax.linen as nn

SPLITS = 2
"""Splits of the rows on which two heads each are trained."""


def has_seed_noise(decoder: Any, dim: int) -> bool:
    """Whether a head can be trained here and depends on where its training starts.

    Args:
      decoder: a decoder.
      dim: columns of the rows that it reads.
    """
    import flax.linen as nn

    from kernlens.models import decoders
    from kernlens.train.heads.recipes import is_affine

    if not isinstance(decoder, nn.Module):
        return False

    reads_pairs = isinstance(decoder, decoders.InnerProduct | decoders.Cosine)
    return not reads_pairs and not is_affine(decoder, dim)


def seed_noise(
    rows: np.ndarray, labels: Labels, decoder: "nn.Module", *, splits: int = SPLITS
) -> list[Disagreement]:
    """Disagreement of two trained heads that differ in their seeds alone.

    Args:
      rows: of one embedding, labelled, ``[n, d]``.
      labels: a class of each.
      decoder: Flax head.
      splits: how many splits of the rows; on each, two heads.

    Returns:
      Disagreement on the rows that a split holds out, of each split.
    """
    from kernlens.train import heads

    held = np.stack([heads.stratified_split(s, labels.codes) for s in range(splits)])
    trained = heads.classify(
        rows, labels, decoder=decoder, seeds=2 * splits, held_out=np.repeat(held, 2, axis=0)
    )
    return [
        of_classes(trained.predicted[2 * s, held[s]], trained.predicted[2 * s + 1, held[s]])
        for s in range(splits)
    ]


def noise_of(runs: Sequence[np.ndarray], labels: Labels, decoder: "nn.Module") -> np.ndarray:
    """Kappa and churn that a head's seed alone makes in each run, ``[R, 2]``."""
    found = [seed_noise(rows, labels, decoder) for rows in runs]
    return np.array([np.mean([(d.kappa, d.churn) for d in own], axis=0) for own in found])


def with_seed_noise(
    pairs: Pairs, noise: np.ndarray, *, level: float = 0.9
) -> tuple[Interval, Interval]:
    """Kappa and churn of two runs with heads of two seeds.

    Args:
      pairs: of the runs, predicted with the same random features.
      noise: kappa and churn that the seed alone makes in each run, ``[R, 2]``.
      level: nominal coverage of the intervals, in ``(0, 1)``.

    Returns:
      Intervals of kappa and churn; their ends are those of both parts, independent of each other.
    """
    seed_kappa, seed_churn = (mean_over_runs(column, level=level) for column in noise.T)
    value = float(np.hypot(pairs.churn.value, seed_churn.value))
    share = pairs.churn.value / value if value > 0 else 1.0
    low, high = (
        np.hypot(
            share * (end - pairs.churn.value),
            np.sqrt(1.0 - share**2) * (seed_end - seed_churn.value),
        )
        for end, seed_end in (
            (pairs.churn.low, seed_churn.low),
            (pairs.churn.high, seed_churn.high),
        )
    )
    churn = Interval(value, max(value - low, 0.0), min(value + high, 1.0), level)
    by_chance = _disagree_by_chance(seed_kappa.value, seed_churn.value)
    if by_chance is None:
        return pairs.kappa, churn
    kappa = Interval(
        1.0 - churn.value / by_chance, 1.0 - churn.high / by_chance, 1.0 - churn.low / by_chance,
        level,
    )  # fmt: skip
    return kappa, churn


def _disagree_by_chance(kappa: float, churn: float) -> float | None:
    """How much heads of these shares of classes would disagree by chance; None if they never do."""
    return churn / (1.0 - kappa) if kappa < 1.0 - 1e-9 else None

"""What moves between pretraining runs under one decoder."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernlens.lens.run_answers import Answers, compared_by
from kernlens.lens.run_pairs import mean_over_runs, pairs_of, spread
from kernlens.lens.seed_noise import with_seed_noise
from kernlens.probes import Prediction
from kernlens.probes.prediction import BOUNDS
from kernlens.types import Interval


class Moves(NamedTuple):
    """What moves between runs under one decoder.

    Attributes:
      decoder: its name; "" where none was named.
      kappa: agreement beyond chance, the mean over pairs of runs; of numbers, the concordance.
      churn: what moves, the mean over pairs: the share of rows that change class, or of labels that
        change, or the root mean squared change over the target's standard deviation.
      seed_noise: churn of two trained heads of one run that differ in their seeds alone, the mean
        over runs; None of a head whose training has one optimum, or that is not trained here.
      seed_kappa: kappa of such heads, or None.
      metric: mean over runs of the metric.
      spread: standard deviation of the metric between runs.
      pairs: kappa and churn of each pair of names, with intervals over items; where such a head is
        predicted (``train=False``), without the noise of its own seed.
      odd: name of the run that is apart from the others, or None.
      moved: how far each row moves, the mean over pairs, float64 ``[n]``.
      answers: of each run to each row, by name, ``[n, ...]``.
      predictions: of each run, by name.
    """

    decoder: str
    kappa: Interval
    churn: Interval
    seed_noise: Interval | None
    seed_kappa: Interval | None
    metric: Interval
    spread: Interval
    pairs: Mapping[tuple[str, str], tuple[Interval, Interval]]
    odd: str | None
    moved: np.ndarray
    answers: Mapping[str, np.ndarray]
    predictions: Mapping[str, Prediction]

    @property
    def after(self) -> str:
        """The decoder's name at the end of a title."""
        return f", {self.decoder}" if self.decoder else ""

    @property
    def excess(self) -> Interval | None:
        """Churn beyond that of the head's own seed, at least 0; None where there is no such."""
        if self.seed_noise is None:
            return None
        floor = self.seed_noise.value
        value, low, high = (max(end - floor, 0.0) for end in self.churn[:3])
        return Interval(value, low, high, self.churn.level)


def moves_of(title: str, given: Answers, counted: np.ndarray, level: float) -> Moves:
    """What moves under a decoder, from the answers of its heads to each run.

    Args:
      title: the decoder's name.
      given: answers of the runs, and the noise of the heads' own seeds.
      counted: places of the rows that count, ``[n]``.
      level: nominal coverage of the intervals.

    Returns:
      Moves.
    """
    found, noise = given.predictions, given.noise
    first = next(iter(found.values()))
    disagree, most = compared_by(first, counted)
    answers = {name: own.predicted[counted] for name, own in found.items()}
    pairs = pairs_of(list(answers.values()), disagree, level=level, most=most)
    values = [own.value.value for own in found.values()]
    within = {"level": level, "bounds": BOUNDS.get(first.metric)}
    names = list(found)
    kappa, churn = pairs.kappa, pairs.churn
    seed_kappa = seed_noise = None
    if noise is not None:
        seed_kappa, seed_noise = (mean_over_runs(column, level=level) for column in noise.T)
        if not given.trained:
            kappa, churn = with_seed_noise(pairs, noise, level=level)
    return Moves(
        title, kappa, churn, seed_noise, seed_kappa, mean_over_runs(values, **within),
        spread(values, **within),
        {(names[i], names[j]): own for (i, j), own in pairs.by_pair.items()},
        None if pairs.odd is None else names[pairs.odd], pairs.moved, answers, found,
    )  # fmt: skip

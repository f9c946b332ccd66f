"""What a probe returns: metrics with intervals, and the arrays they were computed from."""

import html
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kernlens.probes.held_out import HeldOut
from kernlens.show.table import Column, Table, printable, to_frame
from kernlens.types import Interval

if TYPE_CHECKING:
    from kernlens.probes.curve import Curve

ACCURACY, MICRO_F1, MACRO_F1 = "accuracy", "micro_f1", "macro_f1"
BALANCED_ACCURACY, LOG_LOSS, SQUARED_ERROR = "balanced_accuracy", "log_loss", "squared_error"
ERROR_RATE = "error_rate"
R2, RMSE, MAE, AVERAGE_PRECISION = "r2", "rmse", "mae", "average_precision"

TITLES = {
    MACRO_F1: "macro-F1",
    ACCURACY: "accuracy",
    MICRO_F1: "micro-F1",
    BALANCED_ACCURACY: "balanced accuracy",
    LOG_LOSS: "log loss",
    SQUARED_ERROR: "squared error",
    ERROR_RATE: "error rate",
    R2: "R²",
    RMSE: "RMSE",
    MAE: "MAE",
    AVERAGE_PRECISION: "average precision",
}
"""What a metric is called in text, in the order in which metrics are shown."""

LOWER_IS_BETTER = frozenset({LOG_LOSS, SQUARED_ERROR, ERROR_RATE, RMSE, MAE})
"""Metrics of which less is better."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    MACRO_F1: (0.0, 1.0), ACCURACY: (0.0, 1.0), MICRO_F1: (0.0, 1.0),
    BALANCED_ACCURACY: (0.0, 1.0), AVERAGE_PRECISION: (0.0, 1.0),
}  # fmt: skip
"""The least and the largest that a metric can be, where it has both."""

ONE, MEAN, SAMPLE = "one training", "mean of ten trainings", "another sample of items"
"""What an interval of classes is for; :mod:`kernlens.probes.spread` has their meaning."""

MAX_LINES = 12
"""Lines of a printed prediction."""


class Path(NamedTuple):
    """Leave-one-out along the ridge strengths of a probe.

    Attributes:
      strengths: relative to the mean eigenvalue of the (within-class) covariance,
        ``[num_strengths]``.
      losses: mean leave-one-out loss, ``[num_strengths]``.
      metrics: by name, ``[num_strengths]`` each.
      chosen: the strength taken.
    """

    strengths: np.ndarray
    losses: np.ndarray
    metrics: Mapping[str, np.ndarray]
    chosen: float


class Prediction(NamedTuple):
    """What a closed-form probe says a trained head will reach on held-out rows.

    Attributes:
      metrics: held-out value by name of the metric. Of classes its interval is what one training
        will show, of numbers and labels what other rows would; its null is what guesses in the same
        proportions would reach, where that was asked.
      metric: the metric asked for, a key of ``metrics``.
      loss: the key of ``metrics`` that the probe minimises.
      predicted: leave-one-out prediction of each labelled row: classes int32 ``[n]``, numbers
        float64 ``[n]``, or labels bool ``[n, C]``.
      target: what is true of it, in the same form.
      losses: leave-one-out loss of each labelled row, float32 ``[n]``; infinite, and not part of
        the mean, where discriminant analysis leaves out the only row of a class.
      names: names of classes or labels by code; empty for numbers.
      scores: what was compared with a threshold, float64 ``[n, C]``, for labels; else None.
      path: the ridge strengths, or None for a probe that has none.
      notes: what else a person should know, such as how a kernel became features.
      held_out: answers to each row by a classifier that did not see it, of a probe by folds; else
        None.
      means: the same values with the interval of the mean of ten trainings, of classes; else empty.
        :mod:`kernlens.probes.spread` says what the three intervals are.
      samples: the same with the interval of another sample of items, of classes; else empty.
      curve: the metrics at other numbers of labels, where that was asked; else None.
    """

    metrics: Mapping[str, Interval]
    metric: str
    loss: str
    predicted: np.ndarray
    target: np.ndarray
    losses: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()
    held_out: HeldOut | None = None
    means: Mapping[str, Interval] = {}
    samples: Mapping[str, Interval] = {}
    curve: "Curve | None" = None

    @property
    def value(self) -> Interval:
        """The metric asked for."""
        return self.metrics[self.metric]

    @property
    def level(self) -> float:
        """Nominal coverage of the intervals, in ``(0, 1)``."""
        return self.value.level

    @property
    def is_chance(self) -> bool:
        """Whether the interval of the metric asked for holds what chance gives, or is worse; a
        metric without a null is taken for better."""
        null = self.value.null
        if null is None:
            return False
        if self.metric in LOWER_IS_BETTER:
            return not self.value.high < null
        return not self.value.low > null

    @property
    def guess(self) -> str:
        """What reaches the nulls: chance or, of numbers, the mean as every answer."""
        return "chance" if self.names else "the mean answer"

    def table(self) -> Table:
        """The metrics, the one asked for first."""
        order = [self.metric, *(name for name in TITLES if name != self.metric)]
        rows = [
            {"metric": TITLES[name], "value": own, "chance": own.null}
            for name, own in ((name, self.metrics[name]) for name in order if name in self.metrics)
        ]
        columns = [Column("metric"), Column("value", ONE if self.means else "held out", ".3f")]
        if any(row["chance"] is not None for row in rows):
            columns.append(Column("chance", f"by {self.guess}", ".3f"))
        return Table(rows, columns)

    def heading(self) -> str:
        """What was predicted for how many rows."""
        what = f"in {len(self.names):,} classes" if self.names else "with a number each"
        if self.target.ndim == 2:
            what = f"with {len(self.names):,} labels"
        over = f"of {ONE} on four fifths" if self.means else "over rows"
        return f"{len(self.target):,} rows {what}, {self.level:.0%} intervals {over}"

    def others(self) -> tuple[str, ...]:
        """That the metric asked for is no better than chance, where it is not, and that metric with
        the other intervals, where it has any: a line each."""
        chance = ()
        if self.is_chance:
            value = self.value
            said = f"{TITLES[self.metric]} {value.value:.3f} is no better than {self.guess}"
            chance = (f"{said}, {value.null:.3f}.",)
        if self.metric not in self.means:
            return chance
        found = ((MEAN, self.means[self.metric]), (SAMPLE, self.samples[self.metric]))
        listed = "; ".join(f"{kind} [{own.low:.3f}, {own.high:.3f}]" for kind, own in found)
        more = "" if self.curve is None else f"; {self.curve.sentence()}"
        return (*chance, f"{TITLES[self.metric]} {self.value.value:.3f}: {listed}{more}")

    to_frame = to_frame

    def to_dict(self) -> dict[str, float]:
        """The numbers under one flat name each, as experiment loggers take them.

        Returns:
          ``{"macro_f1": 0.87, "macro_f1_low": 0.84, "macro_f1_high": 0.9, "macro_f1_null": 0.17,
          ...}``, and the ends of the other two intervals as ``macro_f1_mean_low`` and
          ``macro_f1_sample_low``.
        """
        row = {
            **self.metrics,
            **{f"{name}_mean": own for name, own in self.means.items()},
            **{f"{name}_sample": own for name, own in self.samples.items()},
        }
        return Table([row], ()).flat()

    def __repr__(self) -> str:
        lines = [self.heading(), *self.others(), self.table().text()]
        room = MAX_LINES - sum(line.count("\n") + 1 for line in lines)
        notes = list(self.notes)
        if len(notes) > room:
            notes = [*notes[: room - 1], f"... and {len(notes) - room + 1} more: .notes has all"]
        return "\n".join([*lines, *notes])

    def _repr_html_(self) -> str:
        made = self.table()._replace(title=self.heading()).html()
        below = (*self.others(), *self.notes)
        return made + "".join(f"<p>{html.escape(printable(note))}</p>" for note in below)


def normal_quantile(level: float) -> float:
    """Standard errors from the value to either end of a normal interval."""
    return NormalDist().inv_cdf(tails(level)[1])


def tails(level: float) -> tuple[float, float]:
    """The quantiles at the ends of an interval."""
    return 0.5 * (1.0 - level), 0.5 * (1.0 + level)


def check_draws(draws: int, level: float) -> None:
    """Refuses bootstrap options out of their range.

    Raises:
      ValueError: ``draws`` below 1, or ``level`` not in ``(0, 1)``.
    """
    if draws < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"draws must be >= 1 and level in (0, 1); got {draws} and {level}")


def check_metric(prediction: Prediction, metric: str) -> None:
    """Refuses a metric that a prediction does not have.

    Raises:
      ValueError: names those that it has.
    """
    if metric not in prediction.metrics:
        raise ValueError(
            f"metric must be one that the probe gives, {', '.join(prediction.metrics)}; got "
            f"{metric!r}"
        )

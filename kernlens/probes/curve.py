"""A metric at any number of labels, as :func:`kernlens.probes.learning_curve` finds it."""

import html
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from kernlens.probes.power_laws import PowerLaws
from kernlens.probes.prediction import TITLES, normal_quantile
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.types import Interval

HALVINGS = 4
"""The probe is fitted at a half, a quarter, ... of the rows, down to a sixteenth."""

MISFIT = 0.01
"""Standard deviation of a metric about a power law; chosen, as BEYOND, on digits and on Complete
Journey's behaviour embeddings."""

BEYOND = 0.008
"""What each doubling beyond the labels adds to it."""

MISFIT_LOSS, BEYOND_LOSS = 0.03, 0.06
"""The same of the logarithm of a loss."""

FURTHEST = 256.0
"""Times the labels up to which ``needed`` looks."""


class Forecast(NamedTuple):
    """The curve of one metric.

    Attributes:
      laws: the curve, of the metric, or of minus the logarithm of a loss.
      alone: the curve through what was measured alone, without what is drawn of more labels.
      offset: what is added to it, so that it goes through the value at all labels.
      sample: standard deviation of the value over other items.
      measured: what the probe reached at each size that was fitted, ``[m]``, the largest first.
      errors: standard deviation of each about the curve, ``[m]``.
      is_loss: whether less is better.
      level: level of the intervals.
    """

    laws: PowerLaws
    alone: PowerLaws
    offset: float
    sample: float
    measured: np.ndarray
    errors: np.ndarray
    is_loss: bool
    level: float

    def at(self, times: float) -> Interval:
        """The metric at ``times`` the labels, for another sample of items."""
        (mean,), (error,) = self.laws.at(np.array([times]))
        middle = float(mean) + self.offset
        beyond, misfit, doublings = BEYOND_LOSS, MISFIT_LOSS, abs(np.log2(times))
        if not self.is_loss:
            room = np.clip(4.0 * middle * (1.0 - middle), 0.2, 1.0)  # less near either end
            beyond, misfit = BEYOND * room, MISFIT * room
        squares = error**2, self.sample**2, (beyond * doublings) ** 2, misfit**2 * (doublings > 0)
        reach = normal_quantile(self.level) * float(np.sqrt(sum(squares)))
        ends = (middle, middle - reach, middle + reach)
        if self.is_loss:
            value, high, low = np.exp(-np.array(ends))
        else:
            value, low, high = np.clip(ends, 0.0, 1.0)
        return Interval(float(value), float(low), float(high), self.level)


class Curve(NamedTuple):
    """A metric at any number of labels.

    Attributes:
      labels: how many there are.
      sizes: labels at which the probe was fitted, ``[m]``, the largest first.
      forecasts: by metric: accuracy, macro-F1 and, where the probe has one, log loss.
      metric: the metric shown first.
      times: multiples of the labels that are shown.
      notes: where the curve is not to be trusted, and why.
    """

    labels: int
    sizes: np.ndarray
    forecasts: Mapping[str, Forecast]
    metric: str
    times: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def at(self, times: float, metric: str | None = None) -> Interval:
        """A metric at ``times`` the labels; the interval is that of another sample of items.

        Raises:
          ValueError: ``times`` not from 1/16 to 256, or a metric without a curve.
        """
        return self._forecast(metric).at(checked_times(times))

    def needed(self, value: float, metric: str | None = None) -> float:
        """How many labels reach a value of a metric.

        Args:
          value: to reach.
          metric: by default the one shown first.

        Returns:
          The fewest labels from which on it is reached, a sixteenth of those at hand at least;
          infinite where 256 times the labels do not reach it.

        Raises:
          ValueError: a value that is no finite number, or a metric without a curve.
        """
        found = self._forecast(metric)
        if not (isinstance(value, Real) and np.isfinite(value)):
            raise ValueError(f"value must be a finite number; got {value!r}")
        grid = np.geomspace(1.0 / 2**HALVINGS, FURTHEST, 400)
        reached = np.array([found.at(t).value for t in grid])
        short = reached > value if found.is_loss else reached < value
        if short[-1]:
            return np.inf
        first = len(grid) - int(np.argmax(short[::-1])) if short.any() else 0
        return float(np.ceil(self.labels * grid[first]))

    def sentence(self) -> str:
        """The metric shown first at 4 times the labels."""
        found = self.at(4.0)
        return f"at 4x the labels {TITLES[self.metric]} {found:.3f}"

    def table(self) -> Table:
        """A row for each multiple of the labels."""
        order = [self.metric, *(name for name in self.forecasts if name != self.metric)]
        rows = [
            {
                "times": f"{t:g}x",
                "labels": round(t * self.labels),
                **{name: self.forecasts[name].at(t) for name in order},
            }
            for t in self.times
        ]
        columns = [Column("times", ""), Column("labels")]
        return Table(rows, [*columns, *(Column(name, TITLES[name], ".3f") for name in order)])

    def json(self) -> dict[str, Any]:
        """The rows shown, and the notes, in JSON's types."""
        return {"metric": self.metric, "rows": self.table().json(), "notes": list(self.notes)}

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        return "\n".join([self.table().text(), *self.notes])

    def _repr_html_(self) -> str:
        below = "".join(f"<p>{html.escape(printable(note))}</p>" for note in self.notes)
        return self.table().html() + below

    def _forecast(self, metric: str | None) -> Forecast:
        name = metric or self.metric
        if name not in self.forecasts:
            raise ValueError(f"the curve has {tuple(self.forecasts)}; got {name!r}")
        return self.forecasts[name]


def checked_times(times: float) -> float:
    """A multiple of the labels at which a curve speaks.

    Raises:
      ValueError: it is no number, or not from 1/16 to 256.
    """
    if not (isinstance(times, Real) and 1.0 / 2**HALVINGS <= times <= FURTHEST):
        raise ValueError(
            f"times must be numbers from 1/{2**HALVINGS} to {FURTHEST:g}; got {times!r}"
        )
    return float(times)

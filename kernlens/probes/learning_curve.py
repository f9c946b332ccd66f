"""Learning curves: what more labels would bring, and what fewer would have cost."""

import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from kernlens import steps
from kernlens.kernels.mapped import walk
from kernlens.probes import growth, power_laws
from kernlens.probes.discriminant import discriminant
from kernlens.probes.folds import share_out
from kernlens.probes.logistic import logistic
from kernlens.probes.power_laws import PowerLaws
from kernlens.probes.prediction import (
    ACCURACY,
    LOG_LOSS,
    LOWER_IS_BETTER,
    MACRO_F1,
    TITLES,
    Prediction,
    check_draws,
    check_metric,
    normal_quantile,
)
from kernlens.probes.ridge import ridge
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.types import Array, Interval, Labels, Stream

TIMES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
"""Multiples of the labels at which a curve is shown."""

HALVINGS = 4
"""The probe is fitted at a half, a quarter, ... of the rows, down to a sixteenth."""

PARTS = 4
"""Most parts of the rows at each size; all of them together are twice the rows, at most."""

LEAST_ROWS = 40
"""Rows of the smallest part that is fitted."""

MISFIT = 0.01
"""Standard deviation of a metric about a power law; chosen, as BEYOND, on digits and on Complete
Journey's behaviour embeddings."""

BEYOND = 0.008
"""What each doubling beyond the labels adds to it."""

MISFIT_LOSS, BEYOND_LOSS = 0.03, 0.06
"""The same of the logarithm of a loss."""

LINEAR = (logistic, discriminant, ridge)
"""Probes of linear heads, whose growth :mod:`kernlens.probes.growth` knows."""

DRAWN, DRAWN_ERROR = (4.0, 16.0), 0.005
"""Multiples of the labels at which growth is drawn, and the standard deviation of what it says in
the fit; chosen as MISFIT was."""

APART = 1.25
"""Log loss of a head chosen by another metric, in the least of its path, from which on the curve of
log losses is not trusted."""

FURTHEST = 256.0
"""Times the labels up to which ``needed`` looks."""


class Forecast(NamedTuple):
    """The curve of one metric.

    Attributes:
      laws: the curve, of the metric, or of minus the logarithm of a loss.
      offset: what is added to it, so that it goes through the value at all labels.
      sample: standard deviation of the value over other items.
      measured: what the probe reached at each size that was fitted, ``[m]``, the largest first.
      errors: standard deviation of each about the curve, ``[m]``.
      is_loss: whether less is better.
      level: level of the intervals.
    """

    laws: PowerLaws
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
        return self._forecast(metric).at(_checked(times))

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


def learning_curve(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    probe: Callable[..., Prediction] = logistic,
    times: Sequence[float] = TIMES,
    metric: str = MACRO_F1,
    level: float = 0.9,
    seed: int = 0,
    whole: Prediction | None = None,
    groups: np.ndarray | None = None,
) -> Curve:
    """What a head would reach with fewer labels and with more, up to sixteen times.

    The probe is fitted to all rows and to stratified parts of them, a half to a sixteenth; its
    held-out answers to the parts of one size are put together, and a power law goes through the
    sizes (:mod:`kernlens.probes.power_laws`), and for linear heads through what normal classes
    like these say of more (:mod:`kernlens.probes.growth`). Macro-F1 is over the classes that all
    rows have: a part without a class counts 0 for it, so that the sizes speak of the same mean.
    The cost is two to four predictions.

    Args:
      features: one row per item, ``[n, p]``; of a stream the parts, half of the rows at most, are
        held in memory.
      labels: one label per row, ``[n]``; rows without one are left out.
      probe: ``(features, labels, *, draws, level, seed) -> Prediction`` with held-out answers.
      times: multiples of the labels to show, each positive.
      metric: accuracy, macro-F1 or the probe's loss: the one shown first.
      level: nominal coverage of the intervals, in ``(0, 1)``: of another sample of items with that
        many labels.
      seed: random seed of the parts, and of the probe.
      whole: the probe's prediction of all rows, where it is known.
      groups: groups of the probe: equal for rows that are held out together, ``[n]``.

    Returns:
      Curve. Its notes say where it is ill-behaved.

    Raises:
      ValueError: what the probe raises, fewer than 80 labelled rows, an argument out of its range,
        or a probe without held-out answers.
    """
    check_draws(1, level)
    if not times:
        raise ValueError("times must have at least one multiple of the labels; got none")
    for t in times:
        _checked(t)
    if whole is None:
        bound = {} if groups is None else {"groups": groups}
        whole = probe(features, labels, **bound, draws=200, level=level, seed=seed)
    check_metric(whole, metric)
    if whole.held_out is None:
        raise ValueError("a learning curve needs a probe of classes with held-out answers")
    codes = np.asarray(labels.codes)
    rows = np.flatnonzero(codes >= 0)
    if len(rows) < 2 * LEAST_ROWS:
        raise ValueError(
            f"a learning curve needs {2 * LEAST_ROWS} labelled rows or more; got {len(rows)}"
        )
    together = whole.held_out.groups if groups is None else groups[rows]
    together = together if len(together) == len(rows) else np.arange(len(rows))
    levels, by_loss = [_answers([whole])], _by_loss([whole])
    sizes = [2**halving for halving in range(1, HALVINGS + 1)]
    for count in steps.steps(sizes, lambda count: f"1/{count} of the labels"):
        if len(rows) / count < LEAST_ROWS:
            break
        shares = share_out(codes[rows], together, folds=count, seed=seed)
        parts = []
        for part in range(min(count, PARTS)):
            own = rows[shares == part]
            if len(np.unique(codes[own])) < 2:
                continue
            part_labels = labels._replace(codes=codes[own])
            bound = {} if groups is None else {"groups": groups[own]}
            part_rows = _rows(features, own)
            parts.append(probe(part_rows, part_labels, **bound, draws=1, level=level, seed=seed))
        if len(parts) < min(count, PARTS):
            break
        levels.append(_answers(parts))
        by_loss = by_loss and _by_loss(parts)
    sizes = len(rows) / 2.0 ** np.arange(len(levels))
    grow, width = None, features.shape[1]
    distinct = rows[np.sort(np.unique(together, return_index=True)[1])]
    if min(DRAWN) * len(distinct) * width <= growth.ENTRIES:
        own = _rows(features, distinct)
        width = int(np.sum(growth.varying(own)))
        if _is_linear(probe):
            grow = partial(growth.beyond, own, codes[distinct], times=DRAWN, seed=seed)
    return _curve(levels, sizes, whole, width, tuple(times), metric, grow, by_loss)


def _is_linear(probe: Callable[..., Prediction]) -> bool:
    while isinstance(probe, partial):
        probe = probe.func
    return probe in LINEAR


def _checked(times: float) -> float:
    if not (isinstance(times, Real) and 1.0 / 2**HALVINGS <= times <= FURTHEST):
        raise ValueError(
            f"times must be numbers from 1/{2**HALVINGS} to {FURTHEST:g}; got {times!r}"
        )
    return float(times)


def _by_loss(parts: Sequence[Prediction]) -> bool:
    """Whether no other head of the path has a log loss much below that of the one chosen."""
    return all(
        own.path is None
        or own.loss != LOG_LOSS
        or own.metrics[LOG_LOSS].value <= APART * float(np.min(own.path.losses))
        for own in parts
    )


class _Level(NamedTuple):
    """Held-out answers to the parts of one size."""

    target: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray


def _answers(parts: Sequence[Prediction]) -> _Level:
    found = []
    for own in parts:
        held = own.held_out
        kept = held.folds >= 0 if held is not None else np.ones(len(own.target), bool)
        found.append((own.target[kept], own.predicted[kept], own.losses[kept]))
    return _Level(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _rows(features: Any, own: np.ndarray) -> np.ndarray:
    if not isinstance(features, Stream):
        return np.asarray(features[own])
    chosen = np.zeros(features.shape[0], bool)
    chosen[own] = True
    return np.concatenate([values[chosen[at]] for values, at in walk(features, 65_536)])


def _curve(levels, sizes, whole, width, times, metric, grow, by_loss) -> Curve:
    classes = np.unique(levels[0].target)
    names = [ACCURACY, MACRO_F1, *([whole.loss] if whole.loss == LOG_LOSS else [])]
    exponent = power_laws.typical_exponent(sizes[0], width * (len(classes) - 1))
    forecasts, notes = {}, []
    if metric not in names:
        raise ValueError(f"a learning curve has {tuple(names)}; got {metric!r}")
    measured = {name: np.array([_measure(name, own, classes) for own in levels]) for name in names}
    drawn = {} if grow is None else grow({name: own[0] for name, own in measured.items()})
    for name, own in measured.items():
        later = drawn.get(name, {})
        forecasts[name] = _forecast(name, own, later, levels, sizes, whole, exponent)
    lost = len(classes) - len(np.unique(levels[-1].target))
    if len(levels) < 3:
        notes.append(
            f"only {len(levels)} sizes could be fitted, too few for a shape: the curve is that of "
            "a typical head"
        )
    notes += _ill_behaved(metric, forecasts[metric], sizes)
    if LOG_LOSS in forecasts and not by_loss:
        notes.append(
            f"log loss is that of heads chosen by {TITLES[whole.metric]}, whose penalty jumps from "
            "size to size: ask it by metric='log_loss' before trusting its curve"
        )
    if lost:
        notes.append(
            f"{lost} of {len(classes)} classes are too small to be seen at {sizes[-1]:,.0f} labels "
            "and count 0 there; macro-F1 may grow by less than the curve says"
        )
    return Curve(round(sizes[0]), sizes, forecasts, metric, times, tuple(notes))


def _measure(name: str, own: _Level, classes: np.ndarray) -> float:
    if name == LOG_LOSS:
        return float(np.mean(own.losses[np.isfinite(own.losses)], dtype=np.float64))
    if name == ACCURACY:
        return float(np.mean(own.target == own.predicted))
    size = int(max(classes.max(), own.predicted.max())) + 1
    hits = np.bincount(own.target[own.target == own.predicted], minlength=size)
    either = np.bincount(own.target, minlength=size) + np.bincount(own.predicted, minlength=size)
    return float(np.mean(2.0 * hits[classes] / np.maximum(either[classes], 1)))


def _forecast(name, measured, later, levels, sizes, whole, exponent) -> Forecast:
    is_loss = name in LOWER_IS_BETTER
    sample = whole.samples[name]
    spread = (sample.high - sample.low) / (2.0 * normal_quantile(sample.level))
    answered = np.array([len(own.target) for own in levels])
    if is_loss:
        values = -np.log(np.maximum(measured, 1e-12))
        value = -np.log(max(sample.value, 1e-12))
        spread /= max(sample.value, 1e-12)
        misfit = MISFIT_LOSS
        noise = np.full(len(values), misfit)
    else:
        values, value, misfit = measured, sample.value, MISFIT
        noise = np.sqrt(np.maximum(values * (1.0 - values), 0.01) / answered)
    halvings = np.log2(sizes[0] / sizes)
    errors = np.sqrt(misfit**2 * (1.0 + halvings) + noise**2)
    errors[0] = 0.5 * misfit
    laws = power_laws.fit(
        np.append(sizes / sizes[0], list(later)), np.append(values, list(later.values())),
        np.append(errors, [DRAWN_ERROR] * len(later)), exponent=exponent,
        gain=1.0 if is_loss else power_laws.GAIN,
    )  # fmt: skip
    offset = float(value - laws.at(np.ones(1))[0][0])
    return Forecast(laws, offset, float(spread), measured, errors, is_loss, sample.level)


def _ill_behaved(metric: str, found: Forecast, sizes: np.ndarray) -> list[str]:
    values = -np.log(found.measured) if found.is_loss else found.measured
    notes = []
    falls = values[:-1] - values[1:] < -2.0 * np.hypot(found.errors[:-1], found.errors[1:])
    if np.any(falls):
        at = int(np.argmax(falls))
        notes.append(
            f"ill-behaved: {TITLES[metric]} is worse at {sizes[at]:,.0f} labels, "
            f"{found.measured[at]:.3f}, than at {sizes[at + 1]:,.0f}, {found.measured[at + 1]:.3f}"
        )
    residuals = (values - found.laws.at(sizes / sizes[0])[0]) / found.errors
    if np.max(np.abs(residuals)) > 3.0 and not notes:
        at = int(np.argmax(np.abs(residuals)))
        notes.append(
            f"ill-behaved: no power law goes through {TITLES[metric]} at {sizes[at]:,.0f} labels, "
            f"{found.measured[at]:.3f}"
        )
    return notes

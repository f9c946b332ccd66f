"""Learning curves: what more labels would bring, and what fewer would have cost."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kernlens.kernels.mapped import walk
from kernlens.probes import growth, power_laws
from kernlens.probes.curve import HALVINGS, MISFIT, MISFIT_LOSS, Curve, Forecast, checked_times
from kernlens.probes.discriminant import discriminant
from kernlens.probes.folds import share_out
from kernlens.probes.logistic import logistic
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
from kernlens.show import steps
from kernlens.types import Array, Labels, Stream

TIMES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
"""Multiples of the labels at which a curve is shown."""

OVER = "intervals by number of labels are of another sample of so many items, not of one training"
"""What is noted of every curve."""

PARTS = 4
"""Most parts of the rows at each size; all of them together are twice the rows, at most."""

LEAST_ROWS = 40
"""Rows of the smallest part that is fitted."""

LINEAR = (logistic, discriminant, ridge)
"""Probes of linear heads, whose growth :mod:`kernlens.probes.growth` knows."""

DRAWN, DRAWN_ERROR = (4.0, 16.0), 0.005
"""Multiples of the labels at which growth is drawn, and the standard deviation of what it says in
the fit; chosen as MISFIT was."""

APART = 1.25
"""Log loss of a head chosen by another metric, in the least of its path, from which on the curve of
log losses is not trusted."""


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
      Curve. Its notes say what its intervals are over, and where it is ill-behaved.

    Raises:
      ValueError: what the probe raises, fewer than 80 labelled rows, an argument out of its range,
        or a probe without held-out answers.
    """
    check_draws(1, level)
    if not times:
        raise ValueError("times must have at least one multiple of the labels; got none")
    for t in times:
        checked_times(t)
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
    # Of the parts only the answers are read.
    alone = {"repeats": 1} if "repeats" in inspect.signature(probe).parameters else {}
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
            bound = alone if groups is None else {**alone, "groups": groups[own]}
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
    forecasts, notes = {}, [OVER]
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
            "size to size: ask for it by the metric log_loss before trusting its curve"
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
    options = {"exponent": exponent, "gain": 1.0 if is_loss else power_laws.GAIN}
    alone = laws = power_laws.fit(sizes / sizes[0], values, errors, **options)
    if later:
        laws = power_laws.fit(
            np.append(sizes / sizes[0], list(later)), np.append(values, list(later.values())),
            np.append(errors, [DRAWN_ERROR] * len(later)), **options,
        )  # fmt: skip
    offset = float(value - laws.at(np.ones(1))[0][0])
    return Forecast(laws, alone, offset, float(spread), measured, errors, is_loss, sample.level)


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
    residuals = (values - found.alone.at(sizes / sizes[0])[0]) / found.errors
    if np.max(np.abs(residuals)) > 3.0 and not notes:
        at = int(np.argmax(np.abs(residuals)))
        notes.append(
            f"ill-behaved: no power law goes through {TITLES[metric]} at {sizes[at]:,.0f} labels, "
            f"{found.measured[at]:.3f}"
        )
    return notes

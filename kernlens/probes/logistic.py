"""Logistic regression at its optimum, held out by folds: what a trained linear head reaches."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kernlens.probes import copies, partitions, softmax, spread
from kernlens.probes.design import refolded
from kernlens.probes.folds import FOLDS, held_rows, share_out
from kernlens.probes.given import MAX_ROWS, Given, sorted_rows
from kernlens.probes.held_out import HeldOut
from kernlens.probes.logistic_path import (
    METRICS,
    Fitted,
    by_fold,
    checked_penalties,
    chosen,
    fit_path,
)
from kernlens.probes.paths import NULLS
from kernlens.probes.prediction import (
    LOG_LOSS,
    MACRO_F1,
    Path,
    Prediction,
    check_draws,
)
from kernlens.types import Array, Labels, Stream

PENALTIES: tuple[float, ...] = (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2)
"""Default path of :func:`logistic`; scikit-learn's ``C`` from 1e-4 to 100, twice that of two
classes."""

OUTLYING = 0.5
"""Share of the variance in a hundredth of the rows from which on a note tells of outliers."""

EDGE_GAIN = 0.001
"""Gain of the last penalty of the path over the one before it, from which on a note tells that the
path may end too early."""

SHOWN = 3
"""Classes that a note names."""

APART = 2.0
"""Log loss of a head chosen by another metric, in the least of its path, from which on a note says
that the two are not the same."""


def logistic(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    penalties: float | Sequence[float] | np.ndarray = PENALTIES,
    metric: str = MACRO_F1,
    standardised: bool = True,
    max_rows: int | None = MAX_ROWS,
    groups: np.ndarray | None = None,
    repeats: int = partitions.PARTITIONS,
    mesh: Mesh | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Penalised multinomial logistic regression, held out by five stratified folds.

    With columns standardised to :math:`z`, the head that is predicted minimises

    .. math:: \sum_i -\log \mathrm{softmax}(W z_i + b)_{y_i} + \frac\lambda2 \|W\|^2,

    the intercept free: :func:`kernlens.train.heads.classify` with ``l2=λ``, and scikit-learn's
    ``LogisticRegression(C=1 / λ)`` after ``StandardScaler``; of two classes its ``C=2 / λ``, since
    it then has one weight vector where a softmax has two that share the penalty. A fold's
    classifier is the optimum of the other four fifths of the rows, standardised by themselves:
    exactly what an 80/20 split trains.
    A metric is the mean over folds of the fold's own metric, on test rows as a split has them; of
    standardised columns and at most 20,000 rows, over three partitions into folds too, and over the
    penalties that the rest of the rows might have chosen (:mod:`kernlens.probes.partitions`).
    Where columns outnumber rows it is sought among combinations of all rows as all of them are
    standardised, which misses log losses by some 1%, more where columns are nearly empty.
    Nothing is clipped, as nothing is in those heads; where outliers rule the columns, a note says
    so, and weak penalties of the path make up for the scale that they take.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, read three times, four
        where it holds copies, and once more for each further partition. The unit and the place of
        a column do not matter, and a constant column changes nothing.
      labels: one label per row, ``[n]``; rows without one are left out.
      penalties: :math:`\lambda`, each above 0. One number is the penalty of a head whose ``C`` is
        fixed; of several each fold takes the one that is best by ``metric`` on the other folds, so
        that the choice flatters nobody, the larger of equals. ``held_out`` has its answers.
      metric: what chooses the penalty, and is shown first: macro-F1, accuracy, micro-F1, balanced
        accuracy or log loss.
      standardised: whether each column is; False for the features of a kernel, whose scales are
        part of it: one scale then makes their mean variance 1.
      max_rows: most rows to fit; of more a stratified sample, and a note says so. None fits all
        rows, whose coordinates, four bytes each, are then held in memory.
      groups: equal for rows that are copies of one another, ``[n]``, and ``-1`` for a row to leave
        out. Default: those of :func:`kernlens.probes.copies.groups`. Copies share a fold: a head
        that learnt a row's copy has learnt the row.
      repeats: ways to share rows out to folds over which values are means, at least 1; with 1 they
        are those of the answers in ``held_out``.
      mesh: devices of this process over which rows are spread, as in
        ``kl.predict(..., probe=functools.partial(probes.logistic, mesh=mesh))``; by default one.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``; see :mod:`kernlens.probes.spread`.
      seed: random seed of folds, sample and draws.

    Returns:
      Prediction; its ``held_out`` has the answers of each row's own fold. A class with one distinct
      row is held out by no fold, as by no split: it counts in no metric, and is a mistake in
      ``predicted``.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, no class
        of two distinct rows, or an argument out of its range.

    References:
      Hastie, Tibshirani and Friedman (2009), sections 4.4 and 7.10; the solver is that of
      :mod:`kernlens.probes.softmax`.
    """
    check_draws(draws, level)
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1; got {repeats}")
    path = checked_penalties(penalties)
    if metric not in METRICS:
        raise ValueError(
            f"metric must be one that the probe gives, {', '.join(METRICS)}; got {metric!r}"
        )
    given = sorted_rows(features, labels, max_rows=max_rows, groups=groups, seed=seed)
    fitted = fit_path(given, path, metric, standardised=standardised, mesh=mesh)
    values = averaged(given, fitted, metric, repeats=repeats, seed=seed) if standardised else None
    return predicted_by(
        given, fitted, metric=metric, values=values, draws=draws, level=level, seed=seed
    )


def averaged(
    given: Given, fitted: Fitted, metric: str, *, seed: int, repeats: int = partitions.PARTITIONS
) -> dict[str, float] | None:
    """Metrics over several partitions, but for those without an optimum, and choices, of a head on
    standardised columns; None of more rows than are worth it."""
    if repeats == 1 or len(given.codes) > partitions.MAX_ROWS:
        return None
    taken, best = chosen(fitted, metric)
    chance = np.eye(len(fitted.penalties))[taken]
    if metric != LOG_LOSS and len(fitted.penalties) > 1:
        chance = partitions.chances(
            given.codes, given.folds, given.groups, fitted.predicted, metric, seed=seed
        )
    others = []
    for i in range(1, repeats):
        folds = share_out(given.codes, given.groups, seed=[seed, i])
        made = refolded(fitted.design, given.features, given.kept, folds)
        solved = softmax.solve(
            made.rows, jnp.float32(fitted.penalties[best]), made.roughness, fitted.whole[best],
            jnp.zeros_like(fitted.folds[best]), fitted.curvature, num_classes=len(given.classes),
            by_heart=made.by_heart,
        )  # fmt: skip
        if not solved.converged:
            continue
        found = by_fold(
            given.codes, made.in_order(solved.predicted), made.in_order(solved.losses),
            held_rows(given.codes, folds),
        )  # fmt: skip
        others.append({name: float(np.mean(own)) for name, own in found.items()})
    return partitions.averaged(fitted.values, chance, best, others)


def predicted_by(
    given: Given,
    fitted: Fitted,
    *,
    metric: str,
    values: Mapping[str, float] | None = None,
    draws: int,
    level: float,
    seed: int,
) -> Prediction:
    """The prediction of a path of solutions, with better values than its folds give if known."""
    codes, folds, path = given.codes, given.folds, fitted.values
    tests = held_rows(codes, folds)
    taken, best = chosen(fitted, metric)
    at = np.maximum(folds, 0)
    predicted = fitted.predicted[taken[at], np.arange(len(codes))]
    log_probabilities = _log_probabilities(fitted, taken)
    losses = -log_probabilities[np.arange(len(codes)), codes]
    losses[folds < 0] = np.inf
    points = {name: float(np.mean(own[taken, np.arange(FOLDS)])) for name, own in path.items()}
    points[LOG_LOSS] = float(np.mean([np.mean(losses[rows]) for rows in tests]))
    points |= values or {}
    shares = np.bincount(codes) / len(codes)
    held_out = HeldOut(
        _all_classes(log_probabilities, given), given.classes[predicted].astype(np.int32),
        given.classes[codes].astype(np.int32), folds, given.names, given.groups,
    )  # fmt: skip
    kinds = spread.of_answers(
        held_out,
        losses,
        LOG_LOSS,
        values=points,
        null=NULLS[LOG_LOSS](shares),
        draws=draws,
        level=level,
        seed=seed,
    )
    return Prediction(
        metrics=kinds.metrics,
        means=kinds.means,
        samples=kinds.samples,
        metric=metric,
        loss=LOG_LOSS,
        predicted=held_out.predicted,
        target=held_out.target,
        losses=losses,
        names=given.names,
        path=Path(
            fitted.penalties,
            path[LOG_LOSS].mean(axis=1),
            {name: own.mean(axis=1) for name, own in path.items() if name != LOG_LOSS},
            float(fitted.penalties[best]),
        ),
        notes=(*_notes(given, fitted, best, metric), *_of_loss(points, fitted, metric)),
        held_out=held_out,
    )


def _log_probabilities(fitted: Fitted, taken: np.ndarray) -> np.ndarray:
    """Held-out log probabilities at each fold's penalty, float32 ``[n, C]``."""
    folds = jnp.stack([fitted.folds[i][k] for k, i in enumerate(taken)])
    found = softmax.log_probabilities(fitted.design.rows, folds)
    return fitted.design.in_order(jnp.moveaxis(found, 1, 2)).copy()


def _all_classes(log_probabilities: np.ndarray, given: Given) -> np.ndarray:
    if len(given.classes) == len(given.names):
        return log_probabilities
    found = np.full((len(given.codes), len(given.names)), -np.inf, np.float32)
    found[:, given.classes] = log_probabilities
    return found


def _of_loss(points: Mapping[str, float], fitted: Fitted, metric: str) -> tuple[str, ...]:
    own, least = points[LOG_LOSS], float(np.min(fitted.values[LOG_LOSS].mean(axis=1)))
    if metric == LOG_LOSS or own <= APART * least:
        return ()
    return (
        f"log loss {own:.3f} is that of the head chosen by {metric}; one chosen by log loss has "
        f"{least:.3f}: metric log_loss",
    )


def _gained(values: np.ndarray, best: int) -> float:
    """How much better the last penalty of the path, at either end, is than the one before it."""
    return float(abs(np.mean(values[best]) - np.mean(values[best - 1 if best else 1])))


def _notes(given: Given, fitted: Fitted, best: int, metric: str) -> tuple[str, ...]:
    found, n = [], len(given.codes)
    if n < given.total:
        found.append(
            f"fitted on a stratified sample of {n:,} of {given.total:,} labelled rows; the "
            "intervals hold its sampling error; max_rows=None fits all"
        )
    found.extend(copies.note(given.groups))
    for few, what in ((given.lonely(), "one distinct row, held out never"), (given.few(), f"fewer "
                      f"than {FOLDS} rows, too few to judge alone")):  # fmt: skip
        if len(few):
            shown = ", ".join(given.names[given.classes[c]] for c in few[:SHOWN])
            more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
            found.append(f"{len(few)} of {len(given.classes)} classes have {what}: {shown}{more}")
    if n >= 100 and fitted.design.outlying > OUTLYING:
        found.append(
            f"1% of the rows hold {fitted.design.outlying:.0%} of the variance of the columns: "
            "these outliers set the scale of a head that is trained on standardised columns, "
            "which is the head predicted here; clipping them before training may do better"
        )
    if fitted.design.lopsided:
        number = fitted.design.lopsided
        found.append(
            f"{number} column{'s owe' if number > 1 else ' owes'} all but a millionth of "
            f"{'their' if number > 1 else 'its'} variance to a few rows, so that heads with and "
            "without them are not the same head: look for corrupt cells, or clip them"
        )
    last = len(fitted.penalties) - 1
    edge = last and (best == 0 or (best == last and not fitted.stopped))
    if edge and _gained(fitted.values[metric], best) > EDGE_GAIN:
        side = "weaker" if best else "stronger"
        found.append(
            f"the penalty chosen by {metric}, {fitted.penalties[best]:g}, is at the edge of the "
            f"path; a {side} one may do better: penalties= of kernlens.probes.logistic, in Python"
        )
    if not np.all(fitted.converged):
        short = fitted.penalties[~fitted.converged]
        found.append(f"not converged at penalties {', '.join(f'{value:g}' for value in short)}")
    return tuple(found)

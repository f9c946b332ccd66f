r"""The ways to serve a new version of an embedding to a head that gives a number.

A linear head of numbers is ridge regression on standardised columns, a function of the moments of
rows and numbers. So heads and maps without each fold, and their held-out errors along a path of
penalties, come from one pass over the rows:

.. math:: w = D^{-1} (D^{-1} S D^{-1} + \lambda I)^{-1} D^{-1} \sum_i x_i y_i, \qquad
          b = \bar y - \bar x^\top w,

with centred rows, their scatter :math:`S` and :math:`D` the columns' standard deviations.

References:
  Hoerl and Kennard (1970).
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from kernlens.lens.corrections import corrected
from kernlens.lens.flips import of_numbers as flips_of
from kernlens.lens.maps import Joint, Map, explained, joint
from kernlens.lens.new_items import on_new_items, shift
from kernlens.lens.versions import Versions
from kernlens.lens.way_answers import DISTILLED, FEW, RETRAINED, best_of, fitted_maps
from kernlens.lens.ways import Made, Served
from kernlens.probes import Prediction, copies, paired_difference
from kernlens.probes.folds import FOLDS, share_out
from kernlens.probes.numbers import of_numbers
from kernlens.probes.paths import STRENGTHS
from kernlens.probes.prediction import check_draws, check_metric
from kernlens.probes.serving import shared_groups
from kernlens.types import Decoder, Labels


class NumberHead(Protocol):
    """What gives numbers to rows."""

    def given(self, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Numbers ``[n]`` of rows, each by the head of its own fold; -1 for that of all rows."""
        ...


class RidgeHeads(NamedTuple):
    """Ridge regressions, one without each fold and one of all rows.

    Attributes:
      folds: affine maps to one column.
      whole: of all rows.
      penalties: of each, that of all rows last.
    """

    folds: tuple[Map, ...]
    whole: Map
    penalties: tuple[float, ...]

    def given(self, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Numbers ``[n]`` of rows, each by the head of its own fold; -1 for that of all rows."""
        found = np.empty(len(rows))
        for k in np.unique(folds).tolist():
            at = folds == k
            found[at] = (self.whole if k < 0 else self.folds[k])(np.asarray(rows[at]))[:, 0]
        return found


class GivenNumbers(NamedTuple):
    """A trained head of the user's, the same for every fold.

    Attributes:
      fn: rows ``[n, d]`` to numbers ``[n]`` or ``[n, 1]``.
    """

    fn: Any

    def given(self, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Numbers ``[n]``.

        Raises:
          ValueError: the head fails on these rows, or gives something else than a number each.
        """
        del folds
        try:
            made = np.asarray(self.fn(rows), np.float64)
        except Exception as error:
            raise ValueError(
                f"head: failed on rows {tuple(rows.shape)}: {type(error).__name__}: {error}"
            ) from error
        if made.shape not in ((len(rows),), (len(rows), 1)):
            raise ValueError(
                f"head: expected a number for each row, [{len(rows)}]; got shape {made.shape}"
            )
        made = made.reshape(len(rows))
        if not np.all(np.isfinite(made)):
            row = int(np.argmin(np.isfinite(made)))
            raise ValueError(f"head: gives a number that is not finite, first for row {row}")
        return made


def number_ways(
    found: Versions,
    *,
    decoder: Decoder | None,
    head: Any,
    maps: tuple[str, ...],
    few_labels: int,
    penalty: float | None,
    metric: str,
    draws: int,
    level: float,
    seed: int,
) -> Made:
    """Every way of a target of numbers; arguments as :func:`kernlens.upgrade`.

    Raises:
      ValueError: a decoder that is not linear, a head that gives no numbers, or a metric that
        numbers do not have.
    """
    _check_decoder(decoder)
    check_draws(draws, level)
    values = np.asarray(found.target, np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError("target: the numbers must be finite, or NaN where there is none")
    if len(values) and np.all(values == values[0]):
        raise ValueError(f"target: the numbers are all {values[0]:g}; there is nothing to predict")
    kinds = Labels(np.unique(values, return_inverse=True)[1].astype(np.int32), ())
    groups = shared_groups([found.old, found.new], kinds)
    if int(groups.max()) + 1 < FOLDS:
        raise ValueError(
            f"target: upgrade needs {FOLDS} distinct items with a number at least; got "
            f"{int(groups.max()) + 1}"
        )
    folds = share_out(np.zeros(len(values), np.int32), groups, seed=seed)
    again = ridge_heads(found.new, values, folds, penalty=penalty)
    own: NumberHead = (
        ridge_heads(found.old, values, folds, penalty=penalty)
        if head is None
        else given_numbers(head)
    )
    notes = list(copies.note(groups))
    if head is not None and decoder is None:
        notes.append("distilled and retrained heads are ridge regressions")
    counted = np.ones(len(values), bool)
    if found.trained_on is not None:
        counted = ~found.trained_on
    elif head is not None:
        notes.append(
            "items that the head learnt from count as if it had not; name them by trained_on="
        )
    fitted = fitted_maps(found, folds, maps)
    before = own.given(found.old, folds)
    given: dict[str, tuple[np.ndarray, float | None, int]] = {}
    for name, one in fitted.items():
        given[name] = (own.given(one.mapped(found.new, folds), folds), one.r2, 0)

    def predicted(numbers: np.ndarray) -> Prediction:
        made = of_numbers(values[counted], numbers[counted], level=level)
        check_metric(made, metric)
        return made._replace(metric=metric)

    given[DISTILLED] = (distilled(own, found, folds, again), None, 0)
    if fitted:
        start = best_of({name: predicted(given[name][0]) for name in fitted}, metric)
        numbers, used = few_numbers(
            found.new, given[start][0], values, folds, groups, number=few_labels, seed=seed
        )
        given[FEW] = (numbers, None, used)
        notes.append(f"few labels: {used:,} on the new version, starting from the {start}")
    given[RETRAINED] = (again.given(found.new, folds), None, len(values))
    whole = predicted(given[RETRAINED][0])
    ways = {}
    for name, (numbers, r2, labels) in given.items():
        prediction = predicted(numbers)
        gap = None
        if name != RETRAINED:
            gap = paired_difference(prediction, whole, metric=metric, level=level)
        moves = flips_of(before, numbers, values, counted, level=level)
        ways[name] = Served(prediction, moves, gap, r2, labels)
    news = None
    if found.new_items is not None:
        moved = shift(found.new, found.new_items, seed=seed)
        own_weights = moved.weights[counted]
        moved = moved._replace(weights=own_weights / np.mean(own_weights))
        by_way = {n: on_new_items(way.prediction, moved, seed=seed) for n, way in ways.items()}
        news = (moved, by_way)
    whole_maps = {name: one.whole for name, one in fitted.items()}
    return Made(predicted(before), ways, whole_maps, None, news, (), tuple(notes))


def ridge_heads(
    rows: np.ndarray, values: np.ndarray, folds: np.ndarray, *, penalty: float | None = None
) -> RidgeHeads:
    """Ridge regressions without each fold, and of all rows.

    Args:
      rows: ``[n, d]``.
      values: a number for each, ``[n]``.
      folds: fold of each, from 0, ``[n]``.
      penalty: on standardised columns, that of scikit-learn's ``Ridge(alpha)``; by default that of
        the least held-out error, each fold's chosen by the errors of the others.
    """
    parts = [joint(rows[folds == k], values[folds == k, None]) for k in range(folds.max() + 1)]
    whole = joint(rows, values[:, None])
    rest = [whole.without(own) for own in parts]
    tried = [penalty] if penalty is not None else [s * len(values) for s in STRENGTHS]
    made = [[ridge(own, strength) for own in rest] for strength in tried]
    errors = np.array(
        [[explained(m, own)[0] for m, own in zip(line, parts, strict=True)] for line in made]
    )
    # The larger of equal penalties, as the probe of numbers has it.
    best = [_least(errors.sum(axis=1) - errors[:, k]) for k in range(len(parts))]
    last = _least(errors.sum(axis=1))
    return RidgeHeads(
        tuple(made[best[k]][k] for k in range(len(parts))), ridge(whole, tried[last]),
        (*(tried[i] for i in best), tried[last]),
    )  # fmt: skip


def _least(errors: np.ndarray) -> int:
    return len(errors) - 1 - int(np.argmin(errors[::-1]))


def ridge(moments: Joint, penalty: float) -> Map:
    """Ridge regression of the second rows of joint moments on the standardised first."""
    spread = np.sqrt(np.diag(moments.new) / moments.count)
    floor = 1e-6 * np.abs(moments.new_mean)
    inverse = np.where(spread > floor, 1.0 / np.where(spread > floor, spread, 1.0), 0.0)
    scatter = moments.new * np.outer(inverse, inverse)
    # A column that does not vary has no weight.
    held = scatter + np.diag(np.where(inverse > 0, penalty, 1.0))
    weights = inverse[:, None] * np.linalg.solve(held, inverse[:, None] * moments.cross)
    return Map("ridge", weights, moments.old_mean - moments.new_mean @ weights)


def distilled(own: NumberHead, found: Versions, folds: np.ndarray, again: RidgeHeads) -> np.ndarray:
    """Numbers by heads on the new version that learn what the old head of the same fold gives."""
    numbers = np.empty(len(folds))
    for k in range(len(again.folds)):
        rest, out = folds != k, folds == k
        taught = own.given(found.old[rest], np.full(int(rest.sum()), k))
        made = ridge(joint(found.new[rest], taught[:, None]), again.penalties[k])
        numbers[out] = made(np.asarray(found.new[out]))[:, 0]
    return numbers


def few_numbers(
    rows: np.ndarray,
    offsets: np.ndarray,
    values: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    *,
    number: int,
    seed: int = 0,
) -> tuple[np.ndarray, int]:
    """Numbers of the mapped head, corrected by ridge regression on few labels of the new version;
    labels are drawn, and the penalty is chosen, by :func:`kernlens.lens.corrections.corrected`.

    Args:
      rows: of the new version, ``[n, d]``.
      offsets: numbers of the mapped head of each row's fold, ``[n]``.
      values: true numbers, ``[n]``.
      folds: fold of each, ``[n]``.
      groups: equal for copies, ``[n]``.
      number: labels that a head has; at most half of a fold.
      seed: of the draw.

    Returns:
      Numbers ``[n]``, and the labels that a head had.
    """
    x = np.asarray(rows, np.float64)
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    z = np.column_stack([z, np.ones(len(z))])
    left = values - offsets

    def answers(learnt: np.ndarray, asked: np.ndarray, penalty: float) -> np.ndarray:
        return z[asked] @ _correction(z[learnt], left[learnt], penalty)

    def loss(added: np.ndarray, asked: np.ndarray) -> float:
        gap = left[asked] - added
        return float(gap @ gap)

    added, fewest = corrected(
        np.zeros(len(left)), folds, groups, answers, loss, number=number, seed=seed
    )
    return offsets + added, fewest


def _correction(z: np.ndarray, left: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ left)


def given_numbers(head: Any) -> GivenNumbers:
    """A trained head of the user's as the ways ask it.

    Args:
      head: a fitted regressor of scikit-learn, or a function of rows ``[n, d]`` that gives numbers.

    Raises:
      ValueError: something else, or a classifier.
    """
    if hasattr(head, "classes_"):
        raise ValueError(
            f"head: {type(head).__name__} gives classes, and the target has numbers; expected a "
            "fitted regressor"
        )
    if hasattr(head, "predict"):
        return GivenNumbers(head.predict)
    if hasattr(head, "init") and hasattr(head, "apply"):
        raise ValueError(
            "head: a Flax module has no trained parameters; expected a function of rows, such as "
            "functools.partial(module.apply, params)"
        )
    if not callable(head):
        raise ValueError(
            "head: expected a fitted scikit-learn regressor, or a function of rows [n, d] that "
            f"gives numbers [n]; got {type(head).__name__}"
        )
    return GivenNumbers(head)


def _check_decoder(decoder: Decoder | None) -> None:
    if decoder is None:
        return
    from kernlens.models import decoders

    if not isinstance(decoder, decoders.Linear):
        raise ValueError(
            f"decoder: of numbers upgrade predicts linear heads; {type(decoder).__name__} has no "
            "closed form that holds on mapped rows. Give the trained head itself by head="
        )

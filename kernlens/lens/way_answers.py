"""What each way to serve a new version answers to the items that a fold holds out."""

from typing import Any, NamedTuple

import numpy as np

from kernlens.lens import maps as maps_of
from kernlens.lens import refits
from kernlens.lens.flips import share
from kernlens.lens.heads import heads
from kernlens.lens.maps import Fitted
from kernlens.lens.served import (
    Head,
    answered_by,
    answers,
    train_folds,
)
from kernlens.lens.versions import Versions
from kernlens.probes import LOWER_IS_BETTER, Prediction
from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import FoldHeads, prediction_of
from kernlens.show import steps
from kernlens.types import Decoder, Interval, Labels

DISTILLED, FEW, RETRAINED = "distilled", "few labels", "retrained"

SAMPLED = 20_000
"""Items on which the penalty of a linear head is chosen, where there are more."""


class Way(NamedTuple):
    """Answers of one way.

    Attributes:
      answers: to the items, each by the head, and the map, that did not learn from it.
      r2: of the map, or None.
      labels: on the new version that a head learns from.
    """

    answers: HeldOut
    r2: float | None
    labels: int


class Ways(NamedTuple):
    """Answers of all ways, by one partition of the items into folds.

    Attributes:
      before: answers of the head of the old version to its own rows.
      ways: by name.
      own: the deployed head.
      again: heads of the new version, whose folds are those of all ways.
      fitted: maps by name.
      floor: share of the items that another seed of the deployed head changes, where it has one.
      notes: what was noticed.
    """

    before: HeldOut
    ways: dict[str, Way]
    own: Head
    again: FoldHeads
    fitted: dict[str, Fitted]
    floor: Interval | None
    notes: tuple[str, ...]


def answered_ways(
    found: Versions,
    *,
    decoder: Decoder | None,
    given: Head | None,
    is_trained: bool,
    maps: tuple[str, ...],
    few_labels: int,
    groups: np.ndarray,
    penalty: float | None,
    metric: str,
    draws: int,
    level: float,
    seed: int,
) -> Ways:
    """Every way; arguments as :func:`kernlens.upgrade`.

    Args:
      found: the two versions.
      decoder: the head.
      given: a trained head, in place of one of folds.
      is_trained: whether heads of the decoder are trained, fold by fold.
      maps: names of the maps.
      few_labels: labels of the way that has few.
      groups: equal for copies in either version, ``[n]``.
      penalty: of a linear head, or None.
      metric: what chooses a penalty, and the map that few labels start from.
      draws: of the heads' own intervals.
      level: of them.
      seed: of folds and what is drawn.
    """
    asked: dict[str, Any] = {
        "decoder": None if is_trained else decoder, "penalty": penalty, "metric": metric,
        "groups": groups, "repeats": 1, "draws": draws, "level": level, "seed": seed,
    }  # fmt: skip
    steps.at("head of the new version", 0, 4)
    # Of an MLP that is trained below, folds and columns are all that is asked of these heads.
    again = heads(found.new, found.labels, **_with_penalty(found.new, found, asked))
    # Folds are those of items and labels alone: the same on both versions.
    steps.at("head of the old version", 1, 4)
    on_old = None
    if given is None and not is_trained:
        on_old = heads(found.old, found.labels, **_with_penalty(found.old, found, asked))
    own: Head = on_old if given is None else given  # pyright: ignore[reportAssignmentType]
    held, notes = again.held_out, list(again.prediction.notes)
    steps.at("maps", 2, 4)
    fitted = fitted_maps(found, held.folds, maps)
    floor, trained = None, None
    if is_trained:
        # Random features outside the rows that they were drawn for are another head than a trained
        # one, and know nothing of its seed.
        trained = train_folds(found.new, found.labels, held, decoder=decoder, seed=seed + 2)
        notes.append("MLPs were trained, fold by fold, not predicted: that is quicker")
        if given is None:
            own, floor = _trained_twice(found, held, decoder, level, seed)
    counted = held.folds
    if found.trained_on is not None:
        counted = np.where(found.trained_on, -1, held.folds).astype(np.int32)
        if not np.any(counted >= 0):
            raise ValueError("trained_on: no item is left that the head did not learn from")

    def way(answered: HeldOut, r2: float | None = None, labels: int = 0) -> Way:
        return Way(answered._replace(folds=counted), r2, labels)

    made, scores = {}, {}
    for name, one in fitted.items():
        mapped = one.mapped(found.new, again.folds)
        scores[name] = own.scores(mapped, np.maximum(again.folds, 0))
        made[name] = way(answered_by(scores[name], held, own.has_probabilities), one.r2)
    features = np.asarray(again.features_fn(found.new))
    steps.at("head that is distilled", 3, 4)
    taught = _taught(own, found.old, again)
    if trained is None:
        learnt = refits.distilled(again, features, taught).answers(found.new)
    else:
        learnt = _distilled_trained(found, held, decoder, taught, seed)
    made[DISTILLED] = way(learnt)
    if scores and own.has_probabilities and again.has_probabilities:
        values = {
            name: prediction_of(made[name].answers, metric=metric, draws=1) for name in scores
        }
        start = best_of(values, metric)
        corrected, number = refits.few_labels(
            features, scores[start], held, number=few_labels, seed=seed,
            standardised=again.options.get("standardised", True),
        )  # fmt: skip
        made[FEW] = way(answered_by(corrected, held, True), labels=number)
        notes.append(f"few labels: {number:,} on the new version, starting from the {start}")
    whole = held if trained is None else answers(trained, found.new, held)
    made[RETRAINED] = way(whole, labels=len(found.labels.codes))
    before = answers(own, found.old, held)._replace(folds=counted)
    return Ways(before, made, own, again, fitted, floor, tuple(notes))


def fitted_maps(found: Versions, folds: np.ndarray, maps: tuple[str, ...]) -> dict[str, Fitted]:
    """Maps by name, of all common items and without each fold."""
    parts = [
        maps_of.joint(found.new[folds == k], found.old[folds == k])
        for k in range(int(folds.max()) + 1)
    ]
    whole = maps_of.joint(
        np.concatenate([found.new, found.unlabelled[1]]),
        np.concatenate([found.old, found.unlabelled[0]]),
    )
    return {name: maps_of.fit_folds(name, whole, parts) for name in maps}


def best_of(predictions: dict[str, Prediction], metric: str) -> str:
    """Name of the best prediction."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max(predictions, key=lambda name: sign * predictions[name].metrics[metric].value)


def _with_penalty(rows: np.ndarray, found: Versions, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of the heads; of many items the penalty is chosen on a sample of them."""
    from kernlens.models import decoders

    decoder, n = asked["decoder"], len(rows)
    linear = decoder is None or isinstance(decoder, decoders.Linear)
    if asked["penalty"] is not None or not linear or n <= SAMPLED:
        return asked
    rng = np.random.default_rng([asked["seed"], 17])
    some = np.sort(rng.permutation(n)[:SAMPLED])
    labels: Labels = found.labels._replace(codes=found.labels.codes[some])
    made = heads(rows[some], labels, **{**asked, "groups": asked["groups"][some], "draws": 1})
    return {**asked, "penalty": made.penalty}


def _trained_twice(
    found: Versions, held: HeldOut, decoder: Any, level: float, seed: int
) -> tuple[Head, Interval]:
    """The head of the old version, and the share of items that another seed of it changes."""
    made = [train_folds(found.old, found.labels, held, decoder=decoder, seed=seed + i)
            for i in range(2)]  # fmt: skip
    classes = [answers(one, found.old, held).predicted for one in made]
    counted = held.folds >= 0
    moved = np.count_nonzero(counted & (classes[0] != classes[1]))
    return made[0], share(int(moved), int(np.count_nonzero(counted)), level)


def _distilled_trained(
    found: Versions, held: HeldOut, decoder: Any, taught: np.ndarray, seed: int
) -> HeldOut:
    """Answers of heads that are trained on the old head's classes, one without each fold."""
    from kernlens.train.heads import train as train_heads

    scores = np.zeros((len(held.folds), len(found.labels.names)), np.float32)
    for k in range(len(taught) - 1):
        mask = held.folds == k
        labels = found.labels._replace(codes=taught[k])
        made = train_heads(
            found.new, labels, decoder=decoder, held_out=mask[None], seeds=(seed + 3,)
        )
        scores[mask] = made.scores(found.new[mask])[0]
    return answered_by(scores, held, has_probabilities=True)


def _taught(own: Head, old: np.ndarray, again: FoldHeads) -> np.ndarray:
    """Classes that the old head of each fold, and last that of all items, gives to every item."""
    n, num_folds = len(old), int(again.folds.max()) + 1
    return np.stack(
        [
            np.argmax(own.scores(old, np.full(n, k)), axis=1).astype(np.int32)
            for k in (*range(num_folds), -1)
        ]
    )

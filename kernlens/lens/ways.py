"""The ways to serve a new version of an embedding, each judged on items that it did not learn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens import maps as maps_of
from kernlens.lens import refits
from kernlens.lens.flips import Flips, flips, share
from kernlens.lens.heads import heads
from kernlens.lens.maps import Fitted, Map
from kernlens.lens.new_items import Shift, on_new_items, shift
from kernlens.lens.served import (
    Head,
    answered_by,
    answers,
    given_head,
    train_folds,
)
from kernlens.lens.versions import Versions
from kernlens.probes import LOWER_IS_BETTER, TITLES, Prediction, paired_difference
from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import FoldHeads, prediction_of, shared_groups
from kernlens.show import steps
from kernlens.types import Decoder, Interval

DISTILLED, FEW, RETRAINED = "distilled", "few labels", "retrained"

SAMPLED = 20_000
"""Items on which the penalty of a linear head is chosen, where there are more."""

DIFFERENCE_DRAWS = 500
"""Bootstrap draws of the difference to retraining."""

GAIN = 0.01
"""Gain over the old version from which it is asked whether scale alone makes it."""


class Served(NamedTuple):
    """A way to serve the new version.

    Attributes:
      prediction: on items that were held out.
      flips: against the head on the old version.
      difference: of the metric, to retraining, paired; None of retraining itself.
      r2: share of the variance of the old version that the map explains on items that it was not
        fitted to, a fact that does not say how a head fares; None of a way without a map.
      labels: on the new version that a head learns from; 0 where it needs none.
    """

    prediction: Prediction
    flips: Flips
    difference: Interval | None
    r2: float | None
    labels: int


class Made(NamedTuple):
    """All ways; see :class:`kernlens.lens.advice.Upgrade`."""

    before: Prediction
    ways: dict[str, Served]
    maps: dict[str, Map]
    floor: Interval | None
    new_items: tuple[Shift, dict[str, dict[str, Interval]]] | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def ways_of(
    found: Versions,
    *,
    decoder: Decoder | None,
    head: Any,
    maps: tuple[str, ...],
    few_labels: int,
    penalty: float | None,
    train: bool | None,
    metric: str,
    draws: int,
    level: float,
    seed: int,
) -> Made:
    """Every way; arguments as :func:`kernlens.upgrade`."""
    # Here, since Flax takes half a second to load.
    from kernlens.models import decoders

    notes: list[str] = []
    given = None if head is None else given_head(head, found.labels)
    if decoder is None and head is not None:
        decoder, said = decoder_of(head)
        notes.extend(said)
    groups = shared_groups([found.old, found.new], found.labels)
    asked: dict[str, Any] = {
        "decoder": decoder, "penalty": penalty, "metric": metric, "groups": groups, "draws": draws,
        "level": level, "seed": seed,
    }  # fmt: skip
    # Of an MLP that is trained below, folds and columns are all that is asked of these heads.
    is_trained = isinstance(decoder, decoders.Mlp) and train is not False
    asked["decoder"] = None if is_trained else decoder
    steps.at("head of the new version", 0, 4)
    again = heads(found.new, found.labels, **_with_penalty(found.new, found, asked))
    # Folds are those of items and labels alone: the same on both versions.
    steps.at("head of the old version", 1, 4)
    on_old = None
    if given is None and not is_trained:
        on_old = heads(found.old, found.labels, **_with_penalty(found.old, found, asked))
    own: Head = on_old if given is None else given  # pyright: ignore[reportAssignmentType]
    held = again.held_out
    notes.extend(again.prediction.notes)
    steps.at("maps", 2, 4)
    fitted = fitted_maps(found, held.folds, maps)
    floor, trained = None, None
    if is_trained:
        # Random features outside the rows that they were drawn for are another head than a trained
        # one, and know nothing of its seed.
        assert isinstance(decoder, decoders.Mlp)
        trained = train_folds(found.new, found.labels, held, decoder=decoder, seed=seed + 2)
        notes.append("MLPs were trained, fold by fold, not predicted: that is quicker")
        if given is None:
            own, floor = _trained_twice(found, held, decoder, level, seed)
    if found.trained_on is not None:
        held = held._replace(folds=np.where(found.trained_on, -1, held.folds).astype(np.int32))
        if not np.any(held.folds >= 0):
            raise ValueError("trained_on: no item is left that the head did not learn from")
    elif given is not None:
        notes.append(
            "items that the head learnt from count as if it had not; name them by trained_on="
        )

    def predicted(answered: HeldOut) -> Prediction:
        answered = answered._replace(folds=held.folds)
        return prediction_of(answered, metric=metric, draws=draws, level=level, seed=seed)

    before = predicted(answers(own, found.old, again.held_out))
    results: dict[str, tuple[Prediction, float | None, int]] = {}
    scores = {}
    for name, one in fitted.items():
        mapped = one.mapped(found.new, again.folds)
        scores[name] = own.scores(mapped, np.maximum(again.folds, 0))
        results[name] = (
            predicted(answered_by(scores[name], held, own.has_probabilities)), one.r2, 0,
        )  # fmt: skip
    features = np.asarray(again.features_fn(found.new))
    steps.at("head that is distilled", 3, 4)
    taught = _taught(own, found.old, again)
    if trained is None:
        learnt = refits.distilled(again, features, taught).answers(found.new)
    else:
        learnt = _distilled_trained(found, again.held_out, decoder, taught, seed)
    results[DISTILLED] = (predicted(learnt), None, 0)
    if scores and own.has_probabilities and again.has_probabilities:
        start = best_of({name: results[name][0] for name in scores}, metric)
        made, number = refits.few_labels(
            features, scores[start], again.held_out, number=few_labels, seed=seed,
            standardised=again.options.get("standardised", True),
        )  # fmt: skip
        results[FEW] = (predicted(answered_by(made, held, True)), None, number)
        notes.append(f"few labels: {number:,} on the new version, starting from the {start}")
    if trained is not None:
        whole = predicted(answers(trained, found.new, again.held_out))
    else:
        # By the folds of all other ways, where the head's own value is a mean over more.
        whole = predicted(again.held_out)
    results[RETRAINED] = (whole, None, len(found.labels.codes))
    ways = {
        name: Served(
            prediction,
            flips(_answers(before, held), _answers(prediction, held), level=level),
            None if name == RETRAINED
            else paired_difference(
                prediction, whole, metric=metric, level=level, seed=seed, draws=DIFFERENCE_DRAWS
            ),
            r2, labels,
        )
        for name, (prediction, r2, labels) in results.items()
    }  # fmt: skip
    warnings = _scale_alone(found, own, again, fitted, before, ways, predicted, metric, level)
    news = None
    if found.new_items is not None:
        moved = shift(found.new, found.new_items, seed=seed)
        by_way = {
            name: on_new_items(way.prediction, moved, seed=seed) for name, way in ways.items()
        }
        news = (moved, by_way)
    whole_maps = {name: one.whole for name, one in fitted.items()}
    return Made(before, ways, whole_maps, floor, news, tuple(warnings), tuple(dict.fromkeys(notes)))


def _with_penalty(rows: np.ndarray, found: Versions, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of the heads; of many items the penalty is chosen on a sample of them."""
    from kernlens.models import decoders

    decoder, n = asked["decoder"], len(rows)
    linear = decoder is None or isinstance(decoder, decoders.Linear)
    if asked["penalty"] is not None or not linear or n <= SAMPLED:
        return asked
    rng = np.random.default_rng([asked["seed"], 17])
    some = np.sort(rng.permutation(n)[:SAMPLED])
    labels = found.labels._replace(codes=found.labels.codes[some])
    made = heads(rows[some], labels, **{**asked, "groups": asked["groups"][some], "draws": 1})
    return {**asked, "penalty": made.penalty}


def decoder_of(head: Any) -> tuple[Decoder, tuple[str, ...]]:
    """What a given head would be retrained as, and a note where that is a guess."""
    from kernlens.models import decoders

    last = head.steps[-1][1] if hasattr(head, "steps") else head
    kind = type(last).__name__
    if kind == "MLPClassifier":
        sizes = last.hidden_layer_sizes
        return decoders.Mlp(tuple(np.atleast_1d(sizes).tolist())), ()
    if kind in ("LogisticRegression", "LogisticRegressionCV"):
        return decoders.Linear(), ()
    return decoders.Linear(), (
        "distilled and retrained heads are linear; name another by decoder=",
    )


def _answers(prediction: Prediction, held: HeldOut) -> HeldOut:
    return held._replace(predicted=prediction.predicted)


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


def best_of(predictions: dict[str, Prediction], metric: str) -> str:
    """Name of the best prediction."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max(predictions, key=lambda name: sign * predictions[name].metrics[metric].value)


def _scale_alone(
    found: Versions,
    own: Head,
    again: FoldHeads,
    fitted: dict[str, Fitted],
    before: Prediction,
    ways: dict[str, Served],
    predicted: Callable[[HeldOut], Prediction],
    metric: str,
    level: float,
) -> list[str]:
    """Warnings of gains that go when the mapped rows have the old rows' scale again."""
    said = []
    if metric in LOWER_IS_BETTER:
        return said
    for name, one in fitted.items():
        way = ways[name]
        gain = way.prediction.metrics[metric].value - before.metrics[metric].value
        if gain < GAIN:
            continue
        mapped = one.mapped(found.new, again.folds)
        mean = mapped.mean(axis=0)
        ratio = np.sqrt(
            np.sum(np.var(found.old, axis=0)) / max(np.sum(np.var(mapped, axis=0)), 1e-300)
        )
        rescaled = mean + ratio * (mapped - mean)
        plain = predicted(answers(own, rescaled, again.held_out))
        left = plain.metrics[metric].value - before.metrics[metric].value
        if (
            left < 0.5 * gain
            and paired_difference(way.prediction, plain, metric=metric, level=level).separated
        ):
            said.append(
                f"{name}: a gain of {gain:.3f} in {TITLES[metric]} over the old version is scale "
                f"alone: {max(left, 0.0):.3f} is left at the old scale; look at accuracy, log loss "
                "and flips too"
            )
    return said

"""The ways to serve a new version of an embedding, each judged on items that it did not learn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens.flips import Flips, flips, shares
from kernlens.lens.maps import Map
from kernlens.lens.new_items import Shift, on_new_items, shift
from kernlens.lens.served import answers, given_head
from kernlens.lens.versions import Versions
from kernlens.lens.way_answers import RETRAINED, Ways, answered_ways
from kernlens.probes import LOWER_IS_BETTER, TITLES, Prediction, paired_difference, partitions
from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import prediction_of, shared_groups
from kernlens.types import Decoder, Interval

OTHER_FOLDS = 1009
"""What is added to the seed for another partition of the items into folds."""

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
    """Every way; arguments as :func:`kernlens.upgrade`.

    Of at most 20,000 items metrics and shares of flips are means over three partitions into folds,
    as those of :func:`kernlens.predict` are; what is said of single items is of the first.
    """
    # Here, since Flax takes half a second to load.
    from kernlens.models import decoders

    given = None if head is None else given_head(head, found.labels)
    said: tuple[str, ...] = ()
    if decoder is None and head is not None:
        decoder, said = decoder_of(head)
    is_trained = isinstance(decoder, decoders.Mlp) and train is not False
    asked: dict[str, Any] = {
        "decoder": decoder, "given": given, "is_trained": is_trained, "maps": maps,
        "few_labels": few_labels, "groups": shared_groups([found.old, found.new], found.labels),
        "penalty": penalty, "metric": metric, "draws": draws, "level": level,
    }  # fmt: skip
    made = answered_ways(found, **asked, seed=seed)
    notes = [*said, *made.notes]
    if given is not None and found.trained_on is None:
        notes.append(
            "items that the head learnt from count as if it had not; name them by trained_on="
        )
    repeats = partitions.PARTITIONS if _repeated(made, is_trained, len(found.new)) else 1
    others = [answered_ways(found, **asked, seed=seed + OTHER_FOLDS * i) for i in range(1, repeats)]
    before_values, values, shares = _means([made, *others], metric)

    def predicted(answered: HeldOut, better: Mapping[str, float] | None = None) -> Prediction:
        return prediction_of(
            answered, metric=metric, draws=draws, level=level, seed=seed, values=better
        )

    before = predicted(made.before, before_values)
    # By the folds of all other ways, where the head's own value is a mean over more.
    whole = predicted(made.ways[RETRAINED].answers, values[RETRAINED])
    ways = {}
    for name, way in made.ways.items():
        prediction = whole if name == RETRAINED else predicted(way.answers, values[name])
        difference = None if name == RETRAINED else paired_difference(
            prediction, whole, metric=metric, level=level, seed=seed, draws=DIFFERENCE_DRAWS
        )  # fmt: skip
        ways[name] = Served(
            prediction,
            flips(made.before, way.answers, level=level, values=shares[name]),
            difference, way.r2, way.labels,
        )  # fmt: skip
    warnings = _scale_alone(found, made, predicted, metric, level)
    news = None
    if found.new_items is not None:
        moved = shift(found.new, found.new_items, seed=seed)
        by_way = {
            name: on_new_items(way.prediction, moved, seed=seed) for name, way in ways.items()
        }
        news = (moved, by_way)
    whole_maps = {name: one.whole for name, one in made.fitted.items()}
    told = tuple(dict.fromkeys(notes))
    return Made(before, ways, whole_maps, made.floor, news, tuple(warnings), told)


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


def _repeated(made: Ways, is_trained: bool, num_items: int) -> bool:
    """Whether values are means over several partitions: of heads that cost little, as those of
    :func:`kernlens.predict` are."""
    plain = bool(made.again.options.get("standardised", True))
    return plain and not is_trained and num_items <= partitions.MAX_ROWS


def _means(
    made: Sequence[Ways], metric: str
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Metrics of the old version, metrics of each way and shares of its flips: means over the
    partitions."""

    def mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([one[name] for one in found])) for name in found[0]}

    def measured(held: HeldOut) -> dict[str, float]:
        found = prediction_of(held, metric=metric, draws=1).metrics
        return {name: own.value for name, own in found.items()}

    names = made[0].ways
    return (
        mean([measured(one.before) for one in made]),
        {n: mean([measured(one.ways[n].answers) for one in made]) for n in names},
        {n: mean([shares(one.before, one.ways[n].answers) for one in made]) for n in names},
    )


def _scale_alone(
    found: Versions,
    made: Ways,
    predicted: Callable[[HeldOut], Prediction],
    metric: str,
    level: float,
) -> list[str]:
    """Warnings of gains that go when the mapped rows have the old rows' scale again."""
    said = []
    if metric in LOWER_IS_BETTER:
        return said
    before = predicted(made.before)
    for name, one in made.fitted.items():
        way = predicted(made.ways[name].answers)
        gain = way.metrics[metric].value - before.metrics[metric].value
        if gain < GAIN:
            continue
        mapped = one.mapped(found.new, made.again.folds)
        mean = mapped.mean(axis=0)
        ratio = np.sqrt(
            np.sum(np.var(found.old, axis=0)) / max(np.sum(np.var(mapped, axis=0)), 1e-300)
        )
        rescaled = answers(made.own, mean + ratio * (mapped - mean), made.again.held_out)
        plain = predicted(rescaled._replace(folds=made.before.folds))
        left = plain.metrics[metric].value - before.metrics[metric].value
        if (
            left < 0.5 * gain
            and paired_difference(way, plain, metric=metric, level=level).separated
        ):
            said.append(
                f"{name}: a gain of {gain:.3f} in {TITLES[metric]} over the old version is scale "
                f"alone: {max(left, 0.0):.3f} is left at the old scale; look at accuracy, log loss "
                "and flips too"
            )
    return said

"""Does a second embedding add anything to the first?"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens.compare import same_rows
from kernlens.lens.joins import JOINS, Join, JoinFn
from kernlens.lens.known import held_rows, known_places
from kernlens.lens.predict import Probe, predict_rows
from kernlens.lens.verdicts import ADDS, ALONE, LOSES, STYLES, UNCLEAR
from kernlens.probes import (
    LOWER_IS_BETTER,
    TITLES,
    Prediction,
    logistic,
    paired_difference,
    simultaneous_level,
    widened,
)
from kernlens.probes.folds import FOLDS
from kernlens.probes.prediction import MACRO_F1, check_draws
from kernlens.probes.serving import shared_groups
from kernlens.probes.stitched import stitched
from kernlens.show import steps
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.targets.next_items import NextItems
from kernlens.types import Decoder, Interval, Labels


class Fused(NamedTuple):
    """One embedding alone, or all joined in one way.

    Attributes:
      name: name of the embedding, or of the way, a key of :data:`kernlens.lens.joins.JOINS`.
      prediction: what a trained head will reach.
      gain: over the best single embedding, positive where better, paired row by row; None of that
        one. The gains of all joins hold together at their level.
      verdict: ``ADDS``, ``LOSES`` or ``UNCLEAR`` of a join; ``ALONE`` of a single embedding.
      join_fn: ``{name: rows [n, d]} -> rows [n, p]``, with what was learnt from all rows; of a
        single embedding its rows.
    """

    name: str
    prediction: Prediction
    gain: Interval | None
    verdict: str
    join_fn: Any


class Fusion(NamedTuple):
    """What joining embeddings of the same items is worth.

    Attributes:
      alone: each embedding, best first.
      joined: each way to join, best first.
      metric: by which they are ordered.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      notes: what else a person should know.
    """

    alone: tuple[Fused, ...]
    joined: tuple[Fused, ...]
    metric: str
    level: float
    notes: tuple[str, ...]

    @property
    def best(self) -> Fused:
        """The best way to join."""
        return self.joined[0]

    @property
    def verdict(self) -> str:
        """Whether any way adds, or all lose, or neither is shown."""
        verdicts = {own.verdict for own in self.joined}
        if ADDS in verdicts:
            return ADDS
        return LOSES if verdicts == {LOSES} else UNCLEAR

    def table(self) -> Table:
        """A row for each embedding alone and each way to join them."""
        shown = [self.metric]
        for name in ("accuracy", "log_loss", "rmse"):
            if name in self.best.prediction.metrics and name not in shown and len(shown) < 2:
                shown.append(name)
        columns = (
            Column("name", "embedding"),
            *(Column(name, TITLES[name], ".3f") for name in shown),
            Column("gain", f"gain over {self.alone[0].name}", "+.3f"),
            Column("verdict", styles=STYLES),
        )
        rows = [
            {"name": own.name, **own.prediction.metrics, "gain": own.gain, "verdict": own.verdict}
            for own in self.alone
        ]
        rows += [
            {
                "name": f"joined, {own.name}", **own.prediction.metrics, "gain": own.gain,
                "verdict": own.verdict,
            }
            for own in self.joined
        ]  # fmt: skip
        return Table(rows, columns)

    def tables(self) -> tuple[Table, ...]:
        """The one table."""
        return (self.table(),)

    def sentence(self) -> str:
        """What follows."""
        first, title = self.alone[0], TITLES[self.metric]
        others = " and ".join(own.name for own in self.alone[1:])
        gain = f"{self.best.gain:+.3f}"
        reached = f"{title} {self.best.prediction.value:.3f}"
        if self.verdict == ADDS:
            said = (
                f"{others} {'adds' if len(self.alone) == 2 else 'add'} to {first.name}: joined "
                f"({self.best.name}) they reach {reached}, {gain} over {first.name} alone."
            )
        elif self.verdict == LOSES:
            said = (
                f"Keep {first.name} alone: every way to join {others} to it loses; the best "
                f"({self.best.name}) {gain}."
            )
        else:
            said = (
                f"No gain over {first.name} alone is shown: the best way to join {others} "
                f"({self.best.name}) reaches {reached}, {gain}."
            )
        return printable(said)

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        return "\n".join([self.table().text(), self.sentence(), *self.notes])

    def _repr_html_(self) -> str:
        return self.table()._replace(title=self.sentence()).html()


def fuse(
    embeddings: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    metric: str | None = None,
    draws: int = 400,
    level: float = 0.9,
    seed: int = 0,
) -> Fusion:
    """What joining embeddings of the same items is worth, over the best of them alone.

    Each is predicted alone, then all of them side by side: as they come, standardised, each with
    the same variance, with weights learnt by the gradient of a held-out error, and through a
    low-rank map learnt so. All share their folds; what is learnt is learnt once without each fold,
    and judged on that fold alone.

    A linear head reads joined columns as they stand, so that their scales count, but for the
    "standardised" join. An MLP standardises its columns: it sees the joins that differ in scales
    alone as one, and they are told once.

    Args:
      embeddings: two or more by name, ``{name: rows}``, or a list; of the same items in the same
        order.
      target: classes, or several labels or numbers: of those nothing is learnt, and all plain joins
        are one.
      decoder: the head, as for :func:`kernlens.predict`.
      metric: the metric to order by. Default: macro-F1 of classes and labels, R² of numbers.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds, draws and the sample that learns.

    Returns:
      Fusion, which prints itself; ``best.join_fn`` joins further rows.

    Raises:
      ValueError: one embedding, numbers of rows that differ, next items, and what
        :func:`kernlens.predict` raises, with the name of the embedding.

    References:
      Allen (1974) for the error that is differentiated; Lanckriet et al. (2004) for weights of
      kernels.
    """
    if isinstance(target, NextItems):
        raise ValueError(
            "fuse joins rows of a table, and next items are ranked by histories; expected classes, "
            "several labels or numbers. compare() takes joined rows and next items"
        )
    check_draws(draws, level)
    named, target = same_rows(embeddings, target)
    if len(named) < 2:
        raise ValueError(
            f"fuse needs two embeddings or more, by name; got one, {next(iter(named))!r}"
        )
    places, target = known_places(target)
    named = {name: held_rows(rows)[places] for name, rows in named.items()}
    for name, rows in named.items():
        if not np.all(np.isfinite(np.asarray(rows, np.float64))):
            raise ValueError(f"{name}: embeddings must be finite where the target is known")
    groups = shared_groups(list(named.values()), target) if isinstance(target, Labels) else None
    asked = {"metric": metric, "groups": groups, "level": level, "seed": seed, "draws": draws}
    alone, joins = [], _seen(target, decoder, named)
    parts = steps.steps([*named, *joins])
    for (name, rows), _ in zip(named.items(), parts, strict=False):
        try:
            prediction = predict_rows(rows, target, decoder=decoder, **asked)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        prediction = _by_its_folds(prediction, asked)
        alone.append(Fused(name, prediction, None, ALONE, partial(_one, name)))
    joined = [
        _joined(name, join, named, target, decoder, alone[0].prediction, asked)
        for (name, join), _ in zip(joins.items(), parts, strict=False)
    ]
    return _compared(alone, joined, draws=draws, level=level, seed=seed)


def _one(name: str, given: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(given[name])


def _all(names: tuple[str, ...], join_fn: JoinFn, given: Mapping[str, np.ndarray]) -> np.ndarray:
    return join_fn([given[name] for name in names])


def _seen(target: Any, decoder: Any, named: Mapping[str, np.ndarray]) -> dict[str, Join]:
    """The joins that a reader of this target can tell from one another."""
    classes = isinstance(target, Labels)
    if classes and not _standardises(decoder, sum(int(x.shape[1]) for x in named.values())):
        return JOINS
    return {
        name: join
        for name, join in JOINS.items()
        if join.standardises or (classes and join.learns and not join.of_columns)
    }


def _standardises(decoder: Any, dim: int) -> bool:
    """Whether a reader of classes standardises its columns; a linear head is told not to."""
    if decoder is None:
        return False
    from kernlens.kernels.of_decoder import of_decoder

    return of_decoder(decoder, dim=dim).standardised


def _is_linear(decoder: Any) -> bool:
    if decoder is None:
        return True
    from kernlens.models import decoders

    return isinstance(decoder, decoders.Linear)


def _joined(
    name: str, join: Join, named: Mapping[str, np.ndarray], target: Any, decoder: Any,
    first: Prediction, asked: dict[str, Any],
) -> Fused:  # fmt: skip
    parts, seed = list(named.values()), asked["seed"]
    probe: Probe | None = None
    if isinstance(target, Labels) and _is_linear(decoder) and not join.standardises:
        probe = partial(logistic, standardised=False, metric=asked["metric"] or MACRO_F1)
    given = {**asked, "probe": probe} if probe else {**asked, "decoder": decoder}
    whole = join.fit(parts, target, seed)
    if not join.learns:
        prediction = _by_its_folds(predict_rows(whole(parts), target, **given), asked)
    else:
        assert first.held_out is not None
        prediction = _cross_fitted(join, parts, target, first.held_out.folds, given)
    return Fused(name, prediction, None, UNCLEAR, partial(_all, tuple(named), whole))


def _by_its_folds(prediction: Prediction, asked: dict[str, Any]) -> Prediction:
    """The prediction by the folds alone in which joins are learnt.

    A probe may average over further partitions of the rows, which joins that are learnt without
    each fold have not.
    """
    if prediction.held_out is None:
        return prediction
    again = stitched([prediction] * FOLDS, **{n: asked[n] for n in ("draws", "level", "seed")})
    return again._replace(notes=prediction.notes, path=prediction.path)


def _cross_fitted(
    join: Join, parts: list[np.ndarray], target: Labels, folds: np.ndarray, given: dict[str, Any]
) -> Prediction:
    """The prediction on joins that were learnt without the fold that they answer."""
    found = []
    if len(folds) < len(target.codes):
        raise ValueError(
            f"weights are learnt of at most {len(folds):,} rows of this width; got "
            f"{len(target.codes):,}: give a sample of them"
        )
    for k in steps.steps(range(FOLDS), lambda k: f"fold {k + 1}"):
        learners = target._replace(codes=np.where(folds == k, -1, target.codes))
        join_fn = join.fit(parts, learners, given["seed"])
        found.append(predict_rows(join_fn(parts), target, **{**given, "draws": 1}))
    asked = {name: given[name] for name in ("draws", "level", "seed")}
    return stitched(found, **asked)


def _compared(
    alone: list[Fused], joined: list[Fused], *, draws: int, level: float, seed: int
) -> Fusion:
    metric = alone[0].prediction.metric
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0

    def order(found: list[Fused]) -> list[Fused]:
        return sorted(found, key=lambda own: -sign * own.prediction.metrics[metric].value)

    alone, joined = order(alone), order(joined)
    best = alone[0].prediction
    together = simultaneous_level(
        [best, *(own.prediction for own in joined)], metric, level=level, seed=seed
    )

    def gained(own: Fused) -> Interval:
        found = paired_difference(
            own.prediction, best, metric=metric, draws=draws, level=level, seed=seed
        )
        found = widened(found, together)
        if sign < 0:
            found = Interval(-found.value, -found.high, -found.low, level)
        return found

    judged = []
    for own in joined:
        gain = gained(own)
        verdict = ADDS if gain.low > 0 else LOSES if gain.high < 0 else UNCLEAR
        judged.append(own._replace(gain=gain, verdict=verdict))
    singles = (alone[0], *(own._replace(gain=gained(own)) for own in alone[1:]))
    notes = dict.fromkeys(note for own in (*alone, *joined) for note in own.prediction.notes)
    return Fusion(singles, tuple(judged), metric, level, tuple(notes))

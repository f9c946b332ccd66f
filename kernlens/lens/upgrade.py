"""The embedding was retrained: does the deployed head still work, mapped or refitted?"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens import maps as maps_of
from kernlens.lens.flips import CLOSE, Flips
from kernlens.lens.maps import Map
from kernlens.lens.number_ways import number_ways
from kernlens.lens.versions import Versions, versions_of
from kernlens.lens.ways import DISTILLED, FEW, RETRAINED, Served, ways_of
from kernlens.probes import LOWER_IS_BETTER, TITLES, Prediction, paired_difference
from kernlens.probes.prediction import ACCURACY, LOG_LOSS, MACRO_F1, MAE, R2, RMSE
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.types import Decoder, Interval, Labels

MAPS = tuple(maps_of.MAPS)
"""Names of the label-free maps that are tried by default."""

FEW_LABELS = 200
"""Labels on the new version that the way with few labels has."""

TOLERANCE = 0.005
"""How much of the metric a way that is cheaper to serve may lack and still be advised."""

ADVICE = {
    maps_of.RAW: "Keep the head, and serve it the new rows as they are",
    maps_of.ROTATION: "Keep the head with a rotation",
    maps_of.RIDGE: "Keep the head with a ridge map",
    maps_of.WHITENED: "Keep the head with a map that whitens, rotates and colours",
    DISTILLED: "Distil the head on the new version, without labels",
    FEW: "Map, and correct the head with {labels:,} labels",
}
"""What is said of each way but retraining."""

FLIPS = {
    "negative_flips": "becomes wrong",
    "positive_flips": "becomes right",
    "other_flips": "wrong otherwise",
}
"""Kinds of changes of class, and what tables call them."""

MOVES = {
    "negative_flips": "moves away",
    "positive_flips": "moves nearer",
    "other_flips": "moves otherwise",
}
"""The same of numbers: away from the truth, nearer to it."""

SHOWN = (MACRO_F1, ACCURACY, LOG_LOSS, R2, RMSE, MAE)
"""Metrics that tables show, of those that a head has."""

MAX_LINES = 2
"""Warnings and notes that a printed result shows."""


class NewItems(NamedTuple):
    """Items that only the new version has, predicted apart.

    Attributes:
      count: how many.
      separation: how well the rows tell them from the common items, an area under the ROC curve,
        .5 where they are alike.
      ways: predicted metrics by way.
    """

    count: int
    separation: float
    ways: dict[str, dict[str, Interval]]

    def table(self) -> Table:
        """A row for each way."""
        rows = [{"way": name, **own} for name, own in self.ways.items()]
        names = [n for n in SHOWN if any(n in row for row in rows)]
        columns = [Column("way"), *(Column(name, TITLES[name], ".3f") for name in names)]
        title = (
            f"{self.count:,} new items, told from the others with area {self.separation:.2f}; "
            "their labels are not known, so intervals are wider"
        )
        return Table(rows, columns, title)


class Upgrade(NamedTuple):
    """The ways to serve a new version of an embedding, and which of them is advised.

    Attributes:
      before: the head on the old version.
      ways: by name, cheapest to serve first.
      advised: name of the way that is advised.
      metric: that it was chosen by.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      maps: of the ways that have one, fitted to all common items.
      ids: of the labelled items, in the order of ``rows`` of flips, ``[n]``.
      floor: share of the items whose class changes by the head's own seed, or None of a head that
        has none.
      new_items: items that only the new version has, or None.
      warnings: what may mislead.
      notes: what else a person should know.
      change: of the metric, from the old version to the best way on the new one, paired.
      tolerance: how much of the metric the advised way may lack.
    """

    before: Prediction
    ways: dict[str, Served]
    advised: str
    metric: str
    level: float
    maps: dict[str, Map]
    ids: np.ndarray
    floor: Interval | None = None
    new_items: NewItems | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    change: Interval | None = None
    tolerance: float = TOLERANCE

    @property
    def worse(self) -> bool:
        """Whether the new version, served in the best way, is worse than the old one: by more than
        the tolerance, with a paired interval that leaves out 0."""
        if self.change is None or not self.change.separated:
            return False
        return -_sign(self.metric) * self.change.value > self.tolerance

    @property
    def chosen(self) -> Served:
        """The way that is advised."""
        return self.ways[self.advised]

    @property
    def map(self) -> Map:
        """The map that is advised, or the best where another way is: a function of new rows, with
        ``save(path)``; :func:`kernlens.lens.maps.load` reads it again.

        Raises:
          ValueError: no map was asked for.
        """
        if not self.maps:
            raise ValueError(
                "no map was among the ways; expected maps= to name one of " + str(MAPS)
            )
        name = self.advised if self.advised in self.maps else _best(self._mapped(), self.metric)
        return self.maps[name]

    def flipped(self, way: str | None = None) -> dict[str, np.ndarray]:
        """Ids of the items whose class changes, by kind; of the way that is advised by default."""
        own: Flips = self.ways[self.advised if way is None else way].flips
        return {
            "negative": self.ids[own.negative_rows],
            "positive": self.ids[own.positive_rows],
            "other": self.ids[own.other_rows],
        }

    def table(self) -> Table:
        """What the old version and each way reach."""
        shown = dict.fromkeys((self.metric, *SHOWN))
        columns = [
            Column("way"),
            *(Column(n, TITLES[n], ".3f") for n in shown if n in self.before.metrics),
            Column("verdict", styles={"advised": "bold green"}),
        ]
        rows = [{"way": "old version", **self.before.metrics}]
        for name, way in self.ways.items():
            verdict = "advised" if name == self.advised else ""
            rows.append({"way": name, **way.prediction.metrics, "verdict": verdict})
        return Table(rows, columns)

    def flips_table(self) -> Table:
        """What each way changes for the items, and what it needs."""
        columns = [
            Column("way"),
            *(Column(name, title, ".3f") for name, title in self.kinds.items()),
            Column("labels", "labels needed"),
            Column("r2", "R² of map", ".2f"),
        ]
        rows = [
            {
                "way": name,
                **{kind: getattr(way.flips, kind) for kind in self.kinds},
                "labels": way.labels,
                "r2": way.r2,
            }
            for name, way in self.ways.items()
        ]
        return Table(rows, columns)

    def tables(self) -> list[Table]:
        """What the ways reach, their flips, and the new items where there are some."""
        more = [self.new_items.table()] if self.new_items else []
        return [self.table(), self.flips_table(), *more]

    def sentence(self) -> str:
        """The verdict."""
        return printable(self._sentence())

    def _sentence(self) -> str:
        if not self.worse:
            return self._advice()
        best = self.ways[_best(self.ways, self.metric)].prediction.value.value
        advice = self._advice()
        return (
            f"The new version is worse: at best it reaches {TITLES[self.metric]} {best:.3f}, the "
            f"old one reaches {self._before:.3f} (difference {self.change:+.3f}). To serve the new "
            f"one, {advice[0].lower()}{advice[1:]}"
        )

    @property
    def _before(self) -> float:
        return self.before.metrics[self.metric].value

    def _advice(self) -> str:
        way, title = self.chosen, TITLES[self.metric]
        old = f"old version {self._before:.3f}"
        value = format(way.prediction.value, ".3f")
        wrong = f"{way.flips.negative_flips.value:.1%} of items {self.become_wrong}"
        again = self.ways.get(RETRAINED)
        if self.advised == RETRAINED:
            other = self._mapped() or {k: v for k, v in self.ways.items() if k != RETRAINED}
            if not other:
                return f"Retrain: {title} {value} ({old}); {wrong}."
            name = _best(other, self.metric)
            rival = other[name].prediction.value.value
            gap = np.floor(abs(way.prediction.value.value - rival) * 1000) / 1000
            return (
                f"Retrain: no map comes within {gap:.3f}: {title} {value} ({name} {rival:.3f}, "
                f"{old}); {wrong}."
            )
        told = "" if again is None else f"retraining {again.prediction.value.value:.3f}, "
        advice = ADVICE[self.advised].format(labels=way.labels)
        return f"{advice}: {title} {value} ({told}{old}); {wrong}."

    @property
    def of_numbers(self) -> bool:
        """Whether the head gives numbers, not classes."""
        return not self.before.names

    @property
    def kinds(self) -> dict[str, str]:
        """What tables call each kind of change, by field of :class:`Flips`."""
        return MOVES if self.of_numbers else FLIPS

    @property
    def become_wrong(self) -> str:
        """What items do that the head answers worse than before, as a predicate."""
        move = f"move away from the truth by over {CLOSE} standard deviations"
        return move if self.of_numbers else "become wrong"

    def _mapped(self) -> dict[str, Served]:
        return {name: way for name, way in self.ways.items() if name in self.maps}

    def _record(self) -> Table:
        """The ways with their metrics and their flips."""
        flips = {row["way"]: row for row in self.flips_table().rows}
        table = self.table()
        return table._replace(rows=[{**row, **flips.get(row["way"], {})} for row in table.rows])

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        rows = []
        for name, row in zip((None, *self.ways), self.table().rows, strict=True):
            way = None if name is None else self.ways[name]
            rows.append(
                {
                    **row,
                    **{key: float(row[key]) for key in (ACCURACY, LOG_LOSS, RMSE) if key in row},
                    self.metric: row[self.metric],
                    "wrong": None if way is None else way.flips.negative_flips,
                }
            )
        columns = [
            Column("way"),
            *(
                Column(key, TITLES[key], ".3f")
                for key in dict.fromkeys((self.metric, ACCURACY, LOG_LOSS, RMSE))
                if key in rows[0]
            ),
            Column("wrong", self.kinds["negative_flips"], ".3f"),
            Column("verdict"),
        ]
        said = [*self.warnings, *self.notes]
        if self.floor is not None:
            said.insert(0, self.floor_sentence())
        more = len(said) - MAX_LINES
        said = said[:MAX_LINES]
        if more > 0:
            said[-1] += f" (and {more} more notes)"
        return "\n".join([self.sentence(), Table(rows, columns).text(), *said])

    def floor_sentence(self) -> str:
        """What the head's own seed changes."""
        assert self.floor is not None
        return f"The head's own seed changes the class of {self.floor.value:.1%} of the items."

    def _repr_html_(self) -> str:
        said = [*([self.floor_sentence()] if self.floor else []), *self.warnings, *self.notes]
        first, *more = self.tables()
        made = first._replace(title=self.sentence()).html() + "".join(t.html() for t in more)
        return made + "".join(f"<p>{html.escape(printable(note))}</p>" for note in said)


def upgrade(
    old: Any,
    new: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    head: Any = None,
    maps: Sequence[str] = MAPS,
    new_items: Any = None,
    ids: Any = None,
    trained_on: Any = None,
    few_labels: int = FEW_LABELS,
    penalty: float | None = None,
    train: bool | None = None,
    metric: str | None = None,
    tolerance: float = TOLERANCE,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Upgrade:
    """Will a head of the old version serve the new one, and what if one maps or refits?

    Ways to serve, each predicted on items that no head, and no map, has learnt from: the new rows
    as they are (``raw``), mapped into the old version without labels (a rotation, a ridge map,
    whitened, rotated and coloured again), a head on the new version that is distilled on the old
    head's classes, one that starts from the mapped head and has few labels, and one retrained.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> old = rng.normal(size=(400, 4))
    >>> new = old[:, ::-1] + 0.1 * rng.normal(size=(400, 4))
    >>> found = upgrade(old, new, np.where(old[:, 0] + old[:, 1] > 0, "up", "down"))
    >>> found.ways["rotation"].prediction.value.value > 0.9
    True
    >>> found.map(new).shape
    (400, 4)

    Args:
      old: rows of the old version, ``[n, d1]``, as :func:`kernlens.predict` takes them.
      new: rows of the new version, ``[n, d2]``, the same items in the same order; or, with
        ``ids`` of both, any items.
      target: classes of the items of ``old``, or a number for each (a ridge regression). Of
        numbers a flip is a move by over 0.1 standard deviations of the target, away from the truth
        or nearer to it.
      decoder: the head that is deployed, as for :func:`kernlens.predict`; linear by default, and
        for numbers.
      head: the deployed head itself, trained: a fitted scikit-learn classifier or regressor, or a
        function ``apply_fn(rows [n, d1])`` that gives logits ``[n, C]`` in the order of the
        classes, or numbers ``[n]``. Its own answers are then judged; ``decoder`` is what it would
        be retrained as.
      maps: names of the maps to try, of :data:`kernlens.lens.maps.MAPS`.
      new_items: rows that only the new version has, ``[m, d2]``, predicted apart.
      ids: of the items, ``[n]``; or a pair, ids of ``old`` and of ``new``, which are then joined,
        and the items of ``new`` alone become ``new_items``. Row numbers by default.
      trained_on: with ``head``, whether it learnt from an item, bool ``[n]``; such items are not
        counted.
      few_labels: labels on the new version of the way with few labels, at least 1.
      penalty: of a linear head on standardised columns, where it is fixed; chosen on held-out
        rows by default.
      train: whether an MLP is trained, fold by fold, instead of predicted. Default: it is, since
        that is quicker and right; random features extrapolate otherwise than a trained head, and
        do not know what its seed changes. False predicts.
      metric: what a way is chosen by, and is shown first; macro-F1, or R² of numbers, by default.
      tolerance: how much of it a way that is cheaper to serve may lack and still be advised.
      draws: bootstrap draws, at least 1; those of numbers are normal.
      level: nominal coverage of the intervals, of one test set of a fifth of the items, in
        ``(0, 1)``.
      seed: of folds, draws, random features and labels that are drawn.

    Returns:
      Upgrade, which prints itself.

    Raises:
      ValueError: rows that do not match, no common item, next items, several labels an item, a
        head of other classes or one that fails, maps that there are not, k nearest neighbours, or
        an argument out of its range; the message names the argument.
    """
    found = versions_of(old, new, target, ids=ids, new_items=new_items, trained_on=trained_on)
    if few_labels < 1:
        raise ValueError(f"few_labels must be at least 1; got {few_labels}")
    if not (tolerance >= 0 and np.isfinite(tolerance)):
        raise ValueError(f"tolerance must be 0 or more; got {tolerance}")
    asked: dict[str, Any] = {
        "decoder": decoder, "head": head, "maps": _asked(maps, found), "few_labels": few_labels,
        "penalty": penalty, "draws": draws, "level": level, "seed": seed,
    }  # fmt: skip
    if isinstance(found.target, Labels):
        name = metric or MACRO_F1
        made = ways_of(found, train=train, metric=name, **asked)
    else:
        name = metric or R2
        made = number_ways(found, metric=name, **asked)
    new_part = None
    if made.new_items is not None:
        shifted, by_way = made.new_items
        new_part = NewItems(shifted.count, shifted.separation, by_way)
    best = made.ways[_best(made.ways, name)].prediction
    change = paired_difference(best, made.before, metric=name, level=level)
    return Upgrade(
        before=made.before, ways=made.ways, advised=advised(made.ways, name, tolerance),
        metric=name, level=level, maps=made.maps, ids=found.ids, floor=made.floor,
        new_items=new_part, warnings=made.warnings, notes=(*found.notes, *made.notes),
        change=change, tolerance=tolerance,
    )  # fmt: skip


def _asked(maps: Sequence[str], found: Versions) -> tuple[str, ...]:
    """The maps to try; raw only where widths are equal, unless it was asked for by name."""
    if isinstance(maps, str):
        raise ValueError(f"maps must be a list of names; got {maps!r}")
    other = [name for name in maps if name not in maps_of.MAPS]
    if other:
        raise ValueError(f"maps must be among {MAPS}; got {other[0]!r}")
    unequal = found.old.shape[1] != found.new.shape[1]
    return tuple(n for n in MAPS if n in maps and not (n == maps_of.RAW and unequal))


def _sign(metric: str) -> float:
    return -1.0 if metric in LOWER_IS_BETTER else 1.0


def _best(ways: Mapping[str, Served], metric: str) -> str:
    return advised(ways, metric, tolerance=0.0)


def advised(ways: Mapping[str, Served], metric: str, tolerance: float = TOLERANCE) -> str:
    """Name of the cheapest way, in the order of ``ways``, within the tolerance of the best."""
    sign = _sign(metric)
    values = {name: sign * way.prediction.metrics[metric].value for name, way in ways.items()}
    best = max(values.values())
    return next(name for name, value in values.items() if value >= best - tolerance)

"""What an upgrade says: the ways to serve a new version, and which of them is advised."""

import html
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernlens.lens import maps as maps_of
from kernlens.lens.flips import CLOSE, Flips
from kernlens.lens.maps import Map
from kernlens.lens.way_answers import DISTILLED, FEW, RETRAINED
from kernlens.lens.ways import Served
from kernlens.probes import LOWER_IS_BETTER, TITLES, Prediction
from kernlens.probes.prediction import ACCURACY, LOG_LOSS, MACRO_F1, MAE, R2, RMSE
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.types import Interval

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
                "no map was among the ways; expected maps= to name one of "
                + str(tuple(maps_of.MAPS))
            )
        name = self.advised if self.advised in self.maps else best_way(self._mapped(), self.metric)
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
        best = self.ways[best_way(self.ways, self.metric)].prediction.value.value
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
            name = best_way(other, self.metric)
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


def _sign(metric: str) -> float:
    return -1.0 if metric in LOWER_IS_BETTER else 1.0


def best_way(ways: Mapping[str, Served], metric: str) -> str:
    """Name of the cheapest of the ways that reach most."""
    return advised(ways, metric, tolerance=0.0)


def advised(ways: Mapping[str, Served], metric: str, tolerance: float = TOLERANCE) -> str:
    """Name of the cheapest way, in the order of ``ways``, within the tolerance of the best."""
    sign = _sign(metric)
    values = {name: sign * way.prediction.metrics[metric].value for name, way in ways.items()}
    best = max(values.values())
    return next(name for name, value in values.items() if value >= best - tolerance)

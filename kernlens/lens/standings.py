"""Transferability scores of embeddings, with intervals, and which of them a score separates."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kernlens.lens.compare import same_rows
from kernlens.lens.verdicts import BEST, STYLES, TIED, WORSE
from kernlens.scores import Estimator, intervals
from kernlens.show import steps
from kernlens.show.table import Column, Table
from kernlens.types import Interval, Labels, MultiLabels


class Standing(NamedTuple):
    """Embeddings of the same rows by one score.

    Attributes:
      score: its name.
      best: the embedding that the score puts first.
      intervals: value with interval and null, by embedding, best first.
      differences: paired, each other embedding minus the best.
    """

    score: str
    best: str
    intervals: dict[str, Interval]
    differences: dict[str, Interval]

    def table(self) -> Table:
        """A row for each embedding, best first."""
        rows = [
            {
                "embedding": name,
                "value": found,
                "chance": found.null,
                "to_best": self.differences.get(name),
                "verdict": self._verdict(name),
            }
            for name, found in self.intervals.items()
        ]
        columns = (
            Column("embedding"),
            Column("value", self.score, ".3g"),
            Column("chance", "by chance", ".3g"),
            Column("to_best", "difference to best", "+.3g"),
            Column("verdict", styles=STYLES),
        )
        return Table(rows, columns)

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()

    def _verdict(self, name: str) -> str:
        gap = self.differences.get(name)
        return BEST if gap is None else WORSE if gap.separated else TIED


def standings(
    embeddings: Any,
    labels: Any,
    scores: Mapping[str, Estimator],
    *,
    level: float = 0.9,
    method: intervals.Jackknife | intervals.Bootstrap = intervals.Jackknife(),  # noqa: B008
) -> tuple[Standing, ...]:
    """Scores of embeddings with intervals, and which of them a score cannot separate.

    Args:
      embeddings: as for :func:`kernlens.lens.compare`.
      labels: classes, as for :func:`kernlens.lens.predict`.
      scores: rows of ``scores.SCORES``, by name.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      method: how rows are resampled.

    Returns:
      A standing for each score.

    Raises:
      ValueError: no embedding, row counts that differ, a target that is not classes, and what
        :func:`kernlens.scores.intervals.table_replicates` raises, with the name of the embedding.
    """
    named, labels = same_rows(embeddings, labels)
    if not isinstance(labels, Labels):
        raise ValueError(f"scores read classes; expected one a row, got {_kind(labels)}")
    if not scores:
        return ()
    found = {}
    for name, rows in steps.steps(named.items(), lambda own: own[0]):
        try:
            found[name] = intervals.table_replicates(
                scores, rows, labels.codes, len(labels.names), method=method
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return tuple(
        _standing(score, row, {name: own[score] for name, own in found.items()}, level)
        for score, row in scores.items()
    )


def _standing(
    score: str, row: Estimator, found: dict[str, intervals.Replicates], level: float
) -> Standing:
    names = sorted(found, key=lambda name: -row.sign * found[name].value)
    bounds = intervals.bounds_of(row)
    return Standing(
        score,
        names[0],
        {name: intervals.interval(found[name], level=level, bounds=bounds) for name in names},
        {
            name: intervals.difference(found[name], found[names[0]], level=level)
            for name in names[1:]
        },
    )


def _kind(target: Any) -> str:
    return "several labels a row" if isinstance(target, MultiLabels) else "a number a row"

"""Which embedding ranks next items best, and does any of them beat a baseline without one?"""

import itertools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernlens.arrays.embeddings import as_named
from kernlens.lens.next_items import (
    PROMISE,
    REMINDER,
    Asked,
    Ranks,
    against,
    ask_baselines,
    counted,
    heading,
    history_map,
    metric_columns,
    paragraphs,
    ranked,
    ranks_of,
    title_of,
)
from kernlens.lens.verdicts import BEST, STYLES, TIED, WORSE
from kernlens.probes import level_together, widened
from kernlens.scores import intervals
from kernlens.show import steps
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.targets.next_items import NextItems
from kernlens.types import Interval

MAX_SHOWN = 4
"""Entries that a printed comparison shows."""


class NextItemsEntry(NamedTuple):
    """One embedding, read by one tower.

    Attributes:
      name: name of the embedding.
      decoder: name of the tower; "" where none was named.
      ranks: what the closed-form ranker reaches.
      dim: number of columns of the embedding.
      strength: the chosen ridge strength, relative to the mean eigenvalue.
      seconds: wall time; the first of a kind includes compilation.
      verdict: ``BEST``, ``TIED`` or ``WORSE`` among the embeddings; "" of one alone.
      to_best: the entry minus the best entry, paired by users; None of the best.
      to_baseline: the entry minus the best baseline, paired by users.
    """

    name: str
    decoder: str
    ranks: Ranks
    dim: int
    strength: float
    seconds: float
    verdict: str
    to_best: Interval | None
    to_baseline: Interval

    @property
    def label(self) -> str:
        """Name of the embedding, and of the tower where there is one."""
        return label_of((self.name, self.decoder))

    @property
    def loses(self) -> bool:
        """Whether the best baseline is significantly better."""
        return self.to_baseline.separated and self.to_baseline.value < 0


class NextItemsComparison(NamedTuple):
    """Embeddings ranked by what a closed-form ranker of next items reaches, best first.

    Attributes:
      entries: one for each embedding and tower, best first.
      baselines: rankers without an embedding by name, best first.
      metric: the metric that orders the entries, such as ``"ndcg@10"``.
      level: nominal coverage of all intervals; all differences hold together at it.
      asked: what was asked, with the queries.
      notes: what a person should know.
    """

    entries: tuple[NextItemsEntry, ...]
    baselines: Mapping[str, Ranks]
    metric: str
    level: float
    asked: Asked
    notes: tuple[str, ...]

    @property
    def best(self) -> NextItemsEntry:
        """The entry with the best value."""
        return self.entries[0]

    @property
    def best_baseline(self) -> str:
        """Name of the baseline to beat."""
        return next(iter(self.baselines))

    @property
    def heading(self) -> str:
        """How many next items were asked of whom, and among what."""
        return heading(self.asked, self.level)

    def table(self) -> Table:
        """A row for each entry."""
        columns = [
            Column("embedding"),
            *([Column("decoder", "tower")] if any(e.decoder for e in self.entries) else []),
            Column("d", format="d", spare=True),
            *metric_columns(self.best.ranks, self.metric, every=False),
            *([Column("to_best", "minus best", "+.3f")] if len(self.entries) > 1 else []),
            Column("to_baseline", f"minus {self.best_baseline}", "+.3f"),
            Column("verdict", styles=STYLES),
        ]
        rows = []
        for entry in self.entries:
            verdict = against(entry.to_baseline, self.best_baseline)
            rows.append(
                {
                    "embedding": entry.name,
                    "decoder": entry.decoder,
                    "d": entry.dim,
                    **entry.ranks.metrics,
                    **entry.ranks.by_target,
                    "to_best": entry.to_best,
                    "to_baseline": entry.to_baseline,
                    "verdict": f"{entry.verdict}; {verdict}" if entry.verdict else verdict,
                }
            )
        return Table(rows, columns)

    def baseline_table(self) -> Table:
        """A row for each baseline."""
        rows = [
            {"baseline": name, **found.metrics, **found.by_target}
            for name, found in self.baselines.items()
        ]
        columns = metric_columns(self.best.ranks, self.metric, every=True)
        return Table(rows, [Column("baseline"), *columns])

    def sentence(self) -> str:
        """What follows from the comparison."""
        best, title = self.best, title_of(self.metric)
        said = f"{best.label} {against(best.to_baseline, self.best_baseline)}"
        if len(self.entries) > 1:
            tied = [entry.label for entry in self.entries if entry.verdict == TIED]
            listed = ", ".join(tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
            said += f" and has the best {title}" if tied else " and is the best of these"
            said += f"; not told apart from it: {listed}" if tied else ""
        lost = [entry.label for entry in self.entries if entry.loses]
        if lost:
            listed = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
            said += f'. Warning: "{self.best_baseline}" needs no embedding and is above {listed}'
        return printable(said + ".")

    def baselines_line(self) -> str:
        """The baselines in a line, and random order."""
        values = ", ".join(
            f"{name} {found.metrics[self.metric].value:.3f}"
            for name, found in self.baselines.items()
        )
        null = self.best.ranks.metrics[self.metric].null
        return f"Baselines, {title_of(self.metric)}: {values}, random order {null:.3f}."

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        return "\n".join(
            [
                self.heading,
                *self.table().first_lines(MAX_SHOWN),
                self.baselines_line(),
                self.sentence(),
                *map(printable, self.notes),
            ]
        )

    def _repr_html_(self) -> str:
        title = f"{self.heading}. {self.sentence()}"
        tables = self.table()._replace(title=title).html() + self.baseline_table().html()
        return tables + paragraphs(self.notes)


def compare_next_items(
    embeddings: Any,
    ask: NextItems,
    *,
    decoders: Mapping[str, Any],
    kernel: Any = None,
    metric: str | None = None,
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> NextItemsComparison:
    """Which embedding ranks next items best, with baselines and paired differences over users.

    All differences, between entries and to the best baseline, hold together at ``level``.

    Args:
      embeddings: by name, each as for :func:`kernlens.lens.next_items.predict_next_items`; or a
        list of them, named by position.
      ask: of :func:`kernlens.targets.next_items`.
      decoders: towers by name, each as for ``predict_next_items``.
      kernel: as for ``predict_next_items``.
      metric: as for ``predict_next_items``.
      draws: bootstrap draws of users, at least 2.
      level: nominal coverage, in ``(0, 1)``.
      seed: as for ``predict_next_items``.

    Returns:
      NextItemsComparison, which prints itself.

    Raises:
      ValueError: no embedding, and what ``predict_next_items`` raises, with the embedding's name.
    """
    tables = _named(embeddings)
    asked = ask_baselines(ask, metric=metric, draws=draws, level=level)
    places, made, notes = [], [], {}
    for name, title in steps.steps(itertools.product(tables, decoders), label_of):
        table, start = tables[name], time.perf_counter()
        try:
            map_fn, told = history_map(
                table, ask, decoder=decoders[title], kernel=kernel, seed=seed
            )
            place, ranker = ranked(map_fn, asked)
        except ValueError as error:
            raise ValueError(f"{label_of((name, title))}: {error}") from error
        seconds = time.perf_counter() - start
        places.append(place)
        made.append((name, title, int(table.shape[1]), ranker.strength, seconds))
        notes[name] = told
    ranks, baselines = ranks_of(places, asked, draws=draws, level=level, seed=seed)
    best_baseline = next(iter(baselines.values()))
    order = sorted(range(len(made)), key=lambda i: -ranks[i].metrics[asked.metric].value)
    together = _level(
        [*(ranks[i] for i in order), best_baseline], asked, level=level, seed=seed
    )  # fmt: skip

    def gap(a: Ranks, b: Ranks) -> Interval:
        sides = (side.replicates[asked.metric] for side in (a, b))
        return widened(intervals.difference(*sides, level=level), together)

    entries = []
    for place, i in enumerate(order):
        name, title, dim, strength, seconds = made[i]
        to_best = gap(ranks[i], ranks[order[0]]) if place else None
        verdict = BEST if to_best is None else WORSE if to_best.separated else TIED
        entries.append(
            NextItemsEntry(
                name, title, ranks[i], dim, strength, seconds, verdict if len(order) > 1 else "",
                to_best, gap(ranks[i], best_baseline),
            )
        )  # fmt: skip
    told = (" ".join((*asked.notes, counted(asked, notes))), PROMISE, REMINDER)
    return NextItemsComparison(tuple(entries), baselines, asked.metric, level, asked, told)


def label_of(entry: tuple[str, str]) -> str:
    """The name of an embedding, and of a decoder where it has one."""
    name, decoder = entry
    return f"{name} · {decoder}" if decoder else name


def _named(embeddings: Any) -> dict[str, Any]:
    """Embeddings by name; sparse ones stay as they are."""
    if isinstance(embeddings, Mapping):
        pairs = embeddings
    elif isinstance(embeddings, list | tuple):
        pairs = dict(enumerate(embeddings))
    else:
        return as_named(embeddings)
    dense = {name: rows for name, rows in pairs.items() if not hasattr(rows, "tocsr")}
    found = as_named(dense) if dense or not pairs else {}
    return {str(name): found.get(str(name), rows) for name, rows in pairs.items()}


def _level(found: list[Ranks], asked: Asked, *, level: float, seed: int) -> float:
    """Level of each difference with which all hold together, from the influence of each user."""
    users = np.unique(asked.queries.histories.user, return_inverse=True)[1]
    psi = []
    for own in found:
        values = own.per_query[asked.metric]
        psi.append(np.bincount(users, values - values.mean()) / len(values))
    return level_together(np.stack(psi), level=level, seed=seed)

"""Next items: what a closed-form ranker reaches from an embedding, beside the usual baselines."""

import html
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernlens.arrays.embeddings import as_rows
from kernlens.kernels import sequence_kernels
from kernlens.kernels.sequence_kernels import SparseAverages
from kernlens.lens.reading import read
from kernlens.metrics import ranking
from kernlens.metrics.ranking import Place, Queries
from kernlens.probes import recommenders, ridge_ranking
from kernlens.probes.prediction import check_draws
from kernlens.scores import intervals
from kernlens.scores.intervals import Replicates
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.targets.next_items import NextItems
from kernlens.types import Interval, Stream

MEASURES = {"ndcg": "NDCG", "recall": "recall", "mrr": "MRR"}
"""Metrics of next items, in the order shown, and their titles."""

EASE_MEMORY = 6e8
"""Bytes for EASE, 5,000 items: with more it takes minutes, and is left out."""

PROMISE = (
    "Closed form: of trained towers it promises the order at most; elsewhere it missed their value "
    "by 0.02 to 0.09."
)
REMINDER = (
    "Valid only if no embedding was pretrained on the held-out events: pretrain on rows known_rows "
    "of the log, or on split.known."
)


class Ranks(NamedTuple):
    """What one ranker reaches.

    Attributes:
      metrics: with intervals over users, such as ``"ndcg@10"``, by name; their null is a random
        order of the candidates.
      by_target: the metric asked for over ``"repeated"`` and ``"new"`` targets, None of fewer than
        two users.
      per_query: each metric of each query, float64 ``[n]``, by name.
      replicates: each metric over draws of users, by name.
      place: where the targets stand.
    """

    metrics: Mapping[str, Interval]
    by_target: Mapping[str, Interval | None]
    per_query: Mapping[str, np.ndarray]
    replicates: Mapping[str, Replicates]
    place: Place


class NextItemsPrediction(NamedTuple):
    """What the closed-form ranker reaches from an embedding, with baselines that have none.

    Attributes:
      ranks: ranks of the embedding.
      baselines: of each baseline, best first.
      to_baseline: the embedding minus the best baseline, paired by users.
      metric: the metric asked for, a key of ``ranks.metrics``.
      queries: what was asked.
      strength: the chosen ridge strength, relative to the mean eigenvalue.
      heading: how many next items were asked of whom.
      notes: what a person should know.
    """

    ranks: Ranks
    baselines: Mapping[str, Ranks]
    to_baseline: Interval
    metric: str
    queries: Queries
    strength: float
    heading: str
    notes: tuple[str, ...]

    @property
    def metrics(self) -> Mapping[str, Interval]:
        """Metrics of the embedding."""
        return self.ranks.metrics

    @property
    def value(self) -> Interval:
        """The metric asked for."""
        return self.ranks.metrics[self.metric]

    @property
    def best_baseline(self) -> str:
        """Name of the baseline to beat."""
        return next(iter(self.baselines))

    @property
    def loses(self) -> bool:
        """Whether the best baseline is significantly better."""
        return self.to_baseline.separated and self.to_baseline.value < 0

    def table(self) -> Table:
        """A row for the embedding and one for each baseline."""
        rows = []
        for name, found in {"this embedding": self.ranks, **self.baselines}.items():
            rows.append({"ranker": name, **found.metrics, **found.by_target})
        columns = [Column("ranker"), *metric_columns(self.ranks, self.metric, every=True)]
        return Table(rows, columns)

    def sentence(self) -> str:
        """Whether the embedding is worth having."""
        verdict = against(self.to_baseline, self.best_baseline)
        return f"This embedding {verdict}: {title_of(self.metric)} {self.to_baseline:+.3f}."

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        lines = [self.heading, *self.table().text().splitlines(), self.sentence()]
        return "\n".join([*lines, *map(printable, self.notes)])

    def _repr_html_(self) -> str:
        made = self.table()._replace(title=f"{self.heading}. {self.sentence()}").html()
        return made + paragraphs(self.notes)


class Asked(NamedTuple):
    """What all embeddings are asked, and what the baselines reach.

    Attributes:
      ask: the target.
      queries: queries of its protocol.
      metric: the metric asked for.
      names: all metrics, the one asked for first.
      baselines: their places, by name.
      random: places of a random order.
      notes: baselines that were left out, and why.
    """

    ask: NextItems
    queries: Queries
    metric: str
    names: tuple[str, ...]
    baselines: dict[str, Place]
    random: Place
    notes: tuple[str, ...]


def predict_next_items(
    embeddings: Any,
    ask: NextItems,
    *,
    decoder: Any = None,
    kernel: Any = None,
    metric: str | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> NextItemsPrediction:
    """What a ranker of next items reaches from an embedding, in closed form.

    Ridge regression from averages of histories to the item that follows, as in
    :mod:`kernlens.probes.ridge_ranking`. The unit of the embedding does not matter.

    Args:
      embeddings: one row per item, in the order of ``ids``, ``[m, d]``, as :func:`predict` takes
        them, or a SciPy sparse array. A row that is not finite is a cold item: it is left out of
        histories.
      ask: of :func:`kernlens.targets.next_items`.
      decoder: a tower with a kernel in closed form, a row of ``kernels.of_tower.OF_TOWER``.
        Default: the average of the history.
      kernel: any kernel of items ``(x1, x2) -> K``, whose features are averaged.
      metric: ``"ndcg"`` (the default), ``"recall"`` or ``"mrr"``, at the ``k`` of the target.
      draws: bootstrap draws of users, at least 2.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of the draws, and of landmarks.

    Returns:
      NextItemsPrediction, which prints itself.

    Raises:
      ValueError: another number of rows than items, no finite row, a decoder that reads no
        histories, both a decoder and a kernel, an unknown metric, or an argument out of range.
    """
    asked = ask_baselines(ask, metric=metric, draws=draws, level=level)
    map_fn, notes = history_map(embeddings, ask, decoder=decoder, kernel=kernel, seed=seed)
    place, ranker = ranked(map_fn, asked)
    (found,), baselines = ranks_of([place], asked, draws=draws, level=level, seed=seed)
    best = next(iter(baselines.values()))
    gap = intervals.difference(
        found.replicates[asked.metric], best.replicates[asked.metric], level=level
    )
    told = (*asked.notes, counted(asked, {"": notes}), PROMISE, REMINDER)
    return NextItemsPrediction(
        found, baselines, gap, asked.metric, asked.queries, ranker.strength,
        heading(asked, level), told,
    )  # fmt: skip


def ask_baselines(ask: NextItems, *, metric: str | None, draws: int, level: float) -> Asked:
    """Places of the baselines, which no embedding changes."""
    check_draws(draws, level)
    names = tuple(f"{name}@{ask.k}" for name in MEASURES)
    chosen = names[0] if metric is None else metric if "@" in metric else f"{metric}@{ask.k}"
    if chosen not in names:
        raise ValueError(
            f"metric must be one of {', '.join(map(repr, names))}, k as in next_items(k=...); got "
            f"{metric!r}"
        )
    queries = ranking.PROTOCOLS[ask.protocol](ask.split.test)
    users = len(np.unique(queries.histories.user))
    if users < 2:
        raise ValueError(
            f"candidates are {ask.protocol}, and {users} users have a target among them; expected "
            "two or more: try protocol='all items'"
        )
    x, places, notes = recommenders.session_matrix(ask.split.known), {}, []
    for name, fn in recommenders.BASELINES.items():
        options = {"memory": EASE_MEMORY} if fn is recommenders.ease else {}
        try:
            places[name] = fn(x, queries, **options)
        except ValueError as error:
            notes.append(f"{name} was left out: {error}.")
    target, m = queries.histories.target, ask.num_items
    random = ranking.place_by_inner_product(
        np.zeros((len(target), 1), np.float32), np.zeros((m, 1), np.float32), target,
        left_out=queries.left_out,
    )  # fmt: skip
    order = (chosen, *(name for name in names if name != chosen))
    return Asked(ask, queries, chosen, order, places, random, tuple(notes))


def history_map(
    embeddings: Any, ask: NextItems, *, decoder: Any, kernel: Any, seed: int
) -> tuple[Any, tuple[str, ...]]:
    """The features of histories over an embedding, and what was left out or approximated."""
    if decoder is not None and kernel is not None:
        raise ValueError("give a decoder or a kernel, not both: a decoder has its own kernel")
    if hasattr(embeddings, "tocsr"):
        if decoder is not None or kernel is not None:
            raise ValueError("sparse items are averaged; give neither a decoder nor a kernel")
        _check_rows(embeddings.shape, ask)
        return sequence_kernels.sparse_averages(embeddings), ()
    rows = as_rows(embeddings)
    if isinstance(rows, Stream):
        raise ValueError("histories read rows in any order: load the stream into memory first")
    _check_rows(rows.shape, ask)
    values = np.asarray(rows, np.float64)
    warm = np.all(np.isfinite(values), axis=1)
    notes = (f"{np.sum(~warm):,} items without a finite row",) if not warm.all() else ()
    if not warm.any():
        raise ValueError("no item has a finite row")
    if kernel is not None:
        reading = read(np.asarray(rows)[warm], kernel=kernel, seed=seed)
        phi = np.asarray(reading.features, np.float64)
        values = np.full((len(values), phi.shape[1]), np.nan)
        values[warm], notes = phi, (*notes, *reading.notes)
    # The largest entry first: the squares of tiny or huge ones are not numbers of float64.
    largest = np.max(np.abs(values[warm])) or 1.0
    values = values / largest
    values = (values / (np.sqrt(np.mean(values[warm] ** 2)) or 1.0)).astype(np.float32)
    if decoder is None:
        return sequence_kernels.averages(values), notes
    # Here, since Flax takes half a second to load and most calls need none of it.
    from kernlens.kernels import of_tower as tower_kernels

    counts, items = ask.split.known.counts, ask.split.train.items
    made = tower_kernels.of_tower(decoder, values, items, counts=counts, seed=seed)
    if isinstance(decoder, tower_kernels.towers.DenseTower):
        notes = (*notes, f"a dense tower's kernel by up to {tower_kernels.LANDMARKS} landmarks")
    return made, notes


def ranked(map_fn: Any | SparseAverages, asked: Asked) -> tuple[Place, ridge_ranking.Ranker]:
    """Places of the targets by the closed-form ranker."""
    ask = asked.ask
    return ridge_ranking.predict(map_fn, ask.split.train, asked.queries, num_items=ask.num_items)


def ranks_of(
    places: list[Place], asked: Asked, *, draws: int, level: float, seed: int
) -> tuple[list[Ranks], dict[str, Ranks]]:
    """Metrics of embeddings and of baselines, the best of these first, over the same draws."""
    every = [*places, *asked.baselines.values()]
    values = [_values(place, asked) for place in every]
    null = {name: float(own.mean()) for name, own in _values(asked.random, asked).items()}
    draws = max(draws, 2)
    users = asked.queries.histories.user
    flat = [own[name] for own in values for name in asked.names]
    resampled = iter(intervals.resampled(flat, users, seed, draws))
    parts = _by_target([own[asked.metric] for own in values], asked, draws, level, seed)
    found = []
    for place, own, part in zip(every, values, parts, strict=True):
        replicates = {name: next(resampled)._replace(null=null[name]) for name in asked.names}
        found.append(Ranks(_intervals(replicates, level), part, own, replicates, place))
    named = dict(zip(asked.baselines, found[len(places) :], strict=True))
    best_first = sorted(named, key=lambda name: -named[name].metrics[asked.metric].value)
    return found[: len(places)], {name: named[name] for name in best_first}


def heading(asked: Asked, level: float) -> str:
    """How many next items were asked of whom, and among what."""
    ask, test = asked.ask, asked.queries.histories
    reason = f" ({ask.reason})" if ask.reason else ""
    return (
        f"{len(test.target):,} held-out next items of {len(np.unique(test.user)):,} users among "
        f"{ask.num_items:,} items; candidates: {ask.protocol}{reason}; {level:.0%} intervals over "
        "users"
    )


def counted(asked: Asked, notes: Mapping[str, tuple[str, ...]]) -> str:
    """What was left aside, in a line."""
    found = asked.ask.notes
    parts = [
        f"{found[name]:,} {name.replace('_', ' ')}"
        for name in found
        if found[name] and name != "targets_met_before"
    ]
    if asked.queries.dropped:
        parts.append(f"{asked.queries.dropped:,} targets met before, which are not asked")
    parts += [f"{name}: {n}" if name else n for name, own in notes.items() for n in own]
    return f"Counted: {'; '.join(parts) or 'nothing left aside'}."


def against(gap: Interval, baseline: str) -> str:
    """How an embedding stands to a baseline."""
    if not gap.separated:
        return f'ties with "{baseline}"'
    return f'{"beats" if gap.value > 0 else "loses to"} "{baseline}"'


def title_of(metric: str) -> str:
    """``"NDCG@10"`` of ``"ndcg@10"``."""
    name, k = metric.split("@")
    return f"{MEASURES[name]}@{k}"


def metric_columns(found: Ranks, metric: str, *, every: bool) -> list[Column]:
    """Columns of the metrics, and of repeated and new targets where there are both."""
    names = [name for name in found.metrics if every or name == metric]
    columns = [Column(name, title_of(name), ".3f", spare=name != metric) for name in names]
    if all(value is not None for value in found.by_target.values()):
        columns += [
            Column(name, f"{title_of(metric)}, {name} targets", ".3f", spare=True)
            for name in found.by_target
        ]
    return columns


def paragraphs(notes: tuple[str, ...]) -> str:
    """Notes in HTML."""
    return "".join(f"<p>{html.escape(printable(note))}</p>" for note in notes)


def _intervals(replicates: Mapping[str, Replicates], level: float) -> dict[str, Interval]:
    return {
        name: intervals.interval(one, level=level, bounds=(0.0, 1.0))
        for name, one in replicates.items()
    }


def _by_target(
    values: list[np.ndarray], asked: Asked, draws: int, level: float, seed: int
) -> list[dict[str, Interval | None]]:
    """A metric of each ranker over repeated and over new targets, from the same draws of users."""
    users, repeated = asked.queries.histories.user, asked.queries.repeated
    found: list[dict[str, Interval | None]] = [{} for _ in values]
    for name, rows in (("repeated", repeated), ("new", ~repeated)):
        some = len(np.unique(users[rows])) > 1
        drawn = (
            intervals.resampled([v[rows] for v in values], users[rows], seed, draws) if some else ()
        )
        own = _intervals({str(i): one for i, one in enumerate(drawn)}, level)
        for i, part in enumerate(found):
            part[name] = own.get(str(i))
    return found


def _values(place: Place, asked: Asked) -> dict[str, np.ndarray]:
    measures = {
        "ndcg": ranking.ndcg, "recall": ranking.recall, "mrr": ranking.reciprocal_rank,
    }  # fmt: skip
    return {name: measures[name.split("@")[0]](place, asked.ask.k) for name in asked.names}


def _check_rows(shape: tuple[int, ...], ask: NextItems) -> None:
    if len(shape) != 2 or shape[0] != ask.num_items:
        raise ValueError(
            f"the embedding needs a row for each of {ask.num_items:,} items, in the order of ids; "
            f"got {tuple(shape)}; ids=range(m) says that the log holds row numbers below m"
        )

"""How much do results move between pretraining runs?"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens import distances as facts
from kernlens.lens.compare import named_decoders, same_rows
from kernlens.lens.known import check_ids, held_rows, known_places
from kernlens.lens.moves import Moves, moves_of
from kernlens.lens.predict import Probe
from kernlens.lens.run_answers import answers_of, counted_rows
from kernlens.probes import TITLES
from kernlens.probes.prediction import check_draws
from kernlens.probes.serving import shared_groups
from kernlens.show import steps
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.targets import num_rows
from kernlens.targets.next_items import NextItems
from kernlens.types import Decoder, Kernel, Labels

TWO_RUNS = (
    "two runs are one pair: intervals of agreement and change hold the sampling of items alone; "
    "the sd between runs has a wide interval, being of two values; a third run would narrow it"
)

SDS = "move, sd of the target"
"""What tables call the change of a prediction of numbers."""

SHOWN = 10
"""Items and classes that a table shows by default."""


class Stability(NamedTuple):
    """How much answers move between runs of an embedding.

    Attributes:
      runs: their names, in the order given.
      moves: what moves under each decoder, in the order given.
      distances: facts of each pair of runs that know no labels, by pair of names; see
        :mod:`kernlens.lens.distances`.
      target: what was asked of the rows that count, ``[n, ...]``.
      names: names of classes or labels.
      rows: numbers of these rows in the table given, or their ids, ``[n]``; None where the probe
        read a sample.
      metric: name of the metric.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      notes: what else a person should know.
    """

    runs: tuple[str, ...]
    moves: tuple[Moves, ...]
    distances: Mapping[tuple[str, str], Mapping[str, float]]
    target: np.ndarray
    names: tuple[str, ...]
    rows: np.ndarray | None
    metric: str
    level: float
    notes: tuple[str, ...]

    @property
    def over(self) -> str:
        """What the intervals are over."""
        if len(self.runs) < 3:
            return "items, those of the metric and of its sd over the two runs"
        return "items and runs, those of the metric and of its sd over runs"

    def table(self) -> Table:
        """A row for each decoder, agreement beyond chance first."""
        agree, move = self._heads()
        noisy = any(own.seed_noise is not None for own in self.moves)
        columns = [
            *([Column("decoder")] if any(own.decoder for own in self.moves) else []),
            Column("kappa", agree, ".3f"),
            Column("churn", move, ".3f"),
            *([Column("seed_noise", f"{move} of its seed", ".3f")] if noisy else []),
            *([Column("excess", f"{move} beyond its seed's", ".3f")] if noisy else []),
            Column("metric", TITLES[self.metric], ".3f"),
            Column("spread", "sd between runs", ".4f"),
            *([Column("odd", "odd run")] if any(own.odd for own in self.moves) else []),
        ]
        rows = [{**own._asdict(), "excess": own.excess} for own in self.moves]
        return Table(rows, columns)

    def pairs(self) -> Table:
        """A row for each pair of runs: kappa and churn by decoder, and facts without labels."""
        agree, move = self._heads()
        columns, rows = [Column("pair")], []
        for own in self.moves:
            title = f" {own.decoder}" if own.decoder else ""
            columns += [Column(f"kappa{title}", f"{agree}{title}", ".3f"),
                        Column(f"churn{title}", f"{move}{title}", ".3f")]  # fmt: skip
        columns += [Column(name, format=".3f") for name in facts.DISTANCES]
        for pair in self.moves[0].pairs:
            row: dict[str, Any] = {"pair": " / ".join(pair), **self.distances.get(pair, {})}
            for own in self.moves:
                title = f" {own.decoder}" if own.decoder else ""
                row[f"kappa{title}"], row[f"churn{title}"] = own.pairs[pair]
            rows.append(row)
        return Table(rows, columns, "Pairs of runs; distances know no labels and rank no decoder")

    def classes(self, decoder: str | None = None, *, shown: int | None = SHOWN) -> Table:
        """A row for each class: how much of it moves, the most moved first.

        Args:
          decoder: name of one; the first by default.
          shown: most rows; None for all.

        Raises:
          ValueError: a target without classes or labels, or an unknown decoder.
        """
        own = self._of(decoder)
        if not self.names:
            raise ValueError("a target of numbers has no classes; items() has what moves")
        rows = []
        for code, name in enumerate(self.names):
            of_class = self.target[:, code] if self.target.ndim == 2 else self.target == code
            if np.any(of_class):
                moved = float(np.mean(own.moved[of_class]))
                rows.append({"class": name, "rows": int(np.sum(of_class)), "churn": moved})
        rows.sort(key=lambda row: -row["churn"])
        columns = (Column("class"), Column("rows"), Column("churn", format=".3f"))
        title = f"What moves, by class{_cut(shown, len(rows))}{own.after}"
        return Table(rows[:shown], columns, title)

    def items(self, decoder: str | None = None, *, shown: int | None = SHOWN) -> Table:
        """The rows that move most, with what they are given.

        Args:
          decoder: name of one; the first by default.
          shown: most rows; None for all that move.

        Raises:
          ValueError: an unknown decoder, or runs of which the probe read a sample.
        """
        own = self._of(decoder)
        if self.rows is None:
            raise ValueError("the probe read a sample of the rows, whose numbers are not kept")
        order = np.argsort(-own.moved, kind="stable")
        order = order[own.moved[order] > 0]
        rows = [
            {
                "item": str(self.rows[at]),
                "moved": float(own.moved[at]),
                "true": self._said(self.target[at]),
                "given": self._given([answers[at] for answers in own.answers.values()]),
            }
            for at in order[:shown]
        ]
        columns = (
            Column("item"), Column("moved", "share of pairs" if self.names else SDS, ".2f"),
            Column("true"),
            Column("given", "given by runs"),
        )  # fmt: skip
        title = f"What moves most{_cut(shown, len(order), ' that move')}{own.after}"
        return Table(rows, columns, title)

    def tables(self) -> tuple[Table, ...]:
        """All tables: decoders, pairs, classes and items of the first decoder."""
        found = [self.table(), self.pairs()]
        if self.names:
            found.append(self.classes())
        if self.rows is not None:
            found.append(self.items())
        return tuple(found)

    def _heads(self) -> tuple[str, str]:
        """What columns call agreement and change."""
        return ("κ", "churn") if self.names else ("concordance", SDS)

    def sentence(self) -> str:
        """What follows."""
        return " ".join(printable(self._told(own)) for own in self.moves)

    def _told(self, own: Moves) -> str:
        title = f"{own.decoder}: " if own.decoder else ""
        if self.names:
            what = "labels" if self.target.ndim == 2 else "items"
            moved = f"{own.churn:.1%} of {what} change from run to run"
            agreed = f"κ {own.kappa:.2f}"
        else:
            moved = f"predictions move by {own.churn:.2f} standard deviations of the target"
            agreed = f"concordance {own.kappa:.2f}"
        said = f"{title}{agreed}; {moved}"
        if own.seed_noise is not None:
            said += f", {own.seed_noise.value:.1%} by another seed of the head alone"
        said += f"; {TITLES[self.metric]} {own.metric.value:.3f}"
        if len(self.runs) < 3:  # The sd of two values says little without its interval.
            said += f", sd between runs {own.spread:.3f}"
        else:
            said += f" ± {own.spread.value:.3f}"
        return f"{said}; {own.odd} is apart from the other runs." if own.odd else f"{said}."

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        heading = (
            f"{len(self.runs)} runs, {len(self.target):,} rows, {self.level:.0%} intervals over "
            f"{self.over}"
        )
        return "\n".join([heading, self.table().text(), self.sentence(), *self.notes])

    def _repr_html_(self) -> str:
        return self.table()._replace(title=self.sentence()).html()

    def _of(self, decoder: str | None) -> Moves:
        named = {own.decoder: own for own in self.moves}
        if decoder is None:
            return self.moves[0]
        if decoder not in named:
            raise ValueError(f"decoder must be one of {', '.join(named)}; got {decoder!r}")
        return named[decoder]

    def _said(self, value: Any) -> str:
        if self.target.ndim == 2:
            return ", ".join(name for name, has in zip(self.names, value, strict=True) if has)
        return self.names[int(value)] if self.names else f"{value:.3g}"

    def _given(self, values: Sequence[Any]) -> str:
        if not self.names:
            return ", ".join(f"{value:.3g}" for value in values)
        counted: dict[str, int] = {}
        for value in values:
            said = self._said(value) or "none"
            counted[said] = counted.get(said, 0) + 1
        order = sorted(counted, key=lambda said: -counted[said])
        return ", ".join(f"{said} ×{counted[said]}" for said in order)


def stability(
    runs: Any,
    target: Any,
    *,
    decoders: Decoder | Sequence[Decoder] | Mapping[str, Decoder] | None = None,
    kernel: Kernel | None = None,
    probe: Probe | None = None,
    metric: str | None = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    train: bool | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> Stability:
    """How much the answers of a head move from one pretraining run to another.

    Every run is predicted on the same folds, and each row answered by heads that did not see it,
    so what differs between two runs is the embedding alone. Agreement beyond chance (kappa) comes
    first: churn follows the shares of the classes, and two poor embeddings whose heads give the
    largest class to all agree.

    A head that starts at random, such as an MLP, moves some rows by its own seed. Such heads are
    trained, without each fold and with two seeds: the churn is what two runs with heads of two
    seeds show, and what two seeds of one run show stands next to it.

    Args:
      runs: embeddings of the same items in the same order, two or more; three show the spread
        between runs. A list, a mapping by name, or an array ``[R, n, d]``. Their widths may differ.
      target: as for :func:`kernlens.predict`: classes, several labels, or numbers.
      decoders: one decoder, several, or several by name. Default: a linear head.
      kernel: any kernel, in place of decoders.
      probe: another probe, as for :func:`kernlens.predict`. Bind a penalty where yours is fixed,
        ``partial(probes.logistic, penalties=1.0)``: fewer choices move less.
      metric: the metric whose spread is told. Default: macro-F1 of classes and labels, R² of
        numbers.
      ids: names of the items, ``[n]``. Default: row numbers.
      train: whether heads that start at random are trained with two seeds each. Default: they are,
        since that is quicker and right. False answers by :func:`kernlens.predict`, with the same
        seed for all runs, and adds the noise of the seed, by a few trained heads.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of folds, landmarks and random features.

    Returns:
      Stability, which prints itself; ``items()`` and ``classes()`` say what moves, ``pairs()`` has
      every pair of runs.

    Raises:
      ValueError: fewer than two runs, runs of other numbers of rows, next items, and what
        :func:`kernlens.predict` raises, with the name of the run.

    References:
      Milani Fard et al. (2016) for churn; Cohen (1960) for kappa.
    """
    if isinstance(target, NextItems):
        raise ValueError(
            "stability compares answers to rows, and next items are lists of each user; expected "
            "classes, several labels or numbers. compare() has the paired differences of runs"
        )
    check_draws(1, level)
    if isinstance(runs, np.ndarray) and runs.ndim == 3:
        runs = list(runs)
    named, target = same_rows(runs, target)
    if len(named) < 2:
        raise ValueError(
            "stability needs at least two runs: no single run says how far another would differ; "
            f"got one, {next(iter(named))!r}"
        )
    check_ids(ids, target)
    ids = np.arange(num_rows(target)) if ids is None else np.asarray(ids)
    places, target = known_places(target)
    named = {name: held_rows(rows)[places] for name, rows in named.items()}
    groups = shared_groups(list(named.values()), target) if isinstance(target, Labels) else None
    asked = {
        "kernel": kernel, "probe": probe, "metric": metric, "level": level, "seed": seed,
        "groups": groups, "train": train,
    }  # fmt: skip
    found = {
        title: answers_of(named, target, title, decoder=decoder, **asked)
        for title, decoder in steps.steps(named_decoders(decoders).items(), lambda own: own[0])
    }
    first = next(iter(next(iter(found.values())).predictions.values()))
    counted = counted_rows(first)
    true = first.target[counted]
    moves = tuple(moves_of(title, own, counted, level) for title, own in found.items())
    notes = [note for own in found.values() for note in next(iter(own.predictions.values())).notes]
    runs = tuple(named)
    return Stability(
        runs, moves,
        {(a, b): facts.distances(named[a], named[b], seed=seed)
         for i, a in enumerate(runs) for b in runs[i + 1 :]},
        true, first.names,
        ids[places][counted] if len(counted) == len(places) else None,
        first.metric, level,
        tuple(dict.fromkeys([*([TWO_RUNS] if len(runs) == 2 else []), *notes])),
    )  # fmt: skip


def _cut(shown: int | None, total: int, what: str = "") -> str:
    """How many rows a table shows of how many, where it does not show all."""
    return "" if shown is None or total <= shown else f", {shown:,} of {total:,}{what}"

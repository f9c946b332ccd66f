"""Which of these embeddings is best under which decoder, and are they really different?"""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

from kernlens import arrays
from kernlens.arrays.embeddings import as_named
from kernlens.lens.next_items_compare import NextItemsComparison, compare_next_items, label_of
from kernlens.lens.predict import Probe, predict, refuse_curve, refuse_probe
from kernlens.lens.verdicts import ABOVE, BEST, CHANCE, STYLES, TIED, WORSE
from kernlens.probes import (
    LOWER_IS_BETTER,
    TITLES,
    Prediction,
    pairwise_differences,
)
from kernlens.show import steps
from kernlens.show.table import Column, Table, printable, to_dict, to_frame
from kernlens.targets import as_target
from kernlens.targets.next_items import NextItems
from kernlens.types import Decoder, Interval, Kernel

MAX_SHOWN = 7
"""Entries that a printed comparison shows."""


class Entry(NamedTuple):
    """One embedding under one decoder.

    Attributes:
      name: name of the embedding.
      decoder: name of the decoder; "" where none was named.
      prediction: what a trained head will reach.
      dim: number of columns of the embedding.
      seconds: wall time of the prediction; the first of a kind includes compilation.
      verdict: ``BEST``, ``TIED`` where the interval of the difference to the best holds 0, or
        ``WORSE``; ``CHANCE`` where the best, or what ties with it, has an interval that holds what
        chance gives; ``ABOVE`` of one entry alone that is better.
    """

    name: str
    decoder: str
    prediction: Prediction
    dim: int
    seconds: float
    verdict: str

    @property
    def label(self) -> str:
        """Name of the embedding, and of the decoder where there is one."""
        return label_of((self.name, self.decoder))


class Comparison(NamedTuple):
    """Embeddings of the same rows under one or more decoders, best first.

    Attributes:
      entries: one for each embedding and decoder, best first.
      differences: paired differences by pair of labels of entries, the first minus the second:
        each entry to the best, and to the one before it. Their signs hold together at ``level``.
      metric: the metric that orders the entries.
      level: nominal coverage of each interval, and with which the signs of all differences hold
        together, in ``(0, 1)``.
    """

    entries: tuple[Entry, ...]
    differences: dict[tuple[str, str], Interval]
    metric: str
    level: float

    @property
    def best(self) -> Entry:
        """The entry with the best value."""
        return self.entries[0]

    def to_best(self, entry: Entry) -> Interval | None:
        """An entry minus the best; None of the best itself."""
        return self.differences.get((entry.label, self.best.label))

    def table(self) -> Table:
        """A row for each entry."""
        shown = [self.metric]
        for name in ("macro_f1", "accuracy", "r2", "rmse"):
            if name in self.best.prediction.metrics and name not in shown and len(shown) < 2:
                shown.append(name)
        columns = [
            Column("embedding"),
            *([Column("decoder")] if any(entry.decoder for entry in self.entries) else []),
            Column("d", format="d", spare=True),
            *(Column(name, TITLES[name], ".3f", spare=name != self.metric) for name in shown),
            *([Column("to_best", "difference to best", "+.3f")] if len(self.entries) > 1 else []),
            Column("verdict", styles=STYLES),
        ]
        rows = [
            {
                "embedding": entry.name,
                "decoder": entry.decoder,
                "d": entry.dim,
                **entry.prediction.metrics,
                "to_best": self.to_best(entry),
                "verdict": entry.verdict,
            }
            for entry in self.entries
        ]
        return Table(rows, columns)

    def sentence(self) -> str:
        """What follows from the comparison."""
        return printable(self._sentence())

    def _sentence(self) -> str:
        best, title = self.best, TITLES[self.metric]
        value = format(best.prediction.value, ".3f")
        null = best.prediction.value.null
        guess = best.prediction.guess
        chance = "" if null is None else f"; {guess} gives {null:.3f}"
        curve = best.prediction.curve
        more = "" if curve is None else f"; {curve.sentence()}"
        if best.verdict == CHANCE:
            return f"{best.label}: {title} {value} is no better than {guess}{chance}."
        if len(self.entries) == 1:
            return f"{best.label} reaches {title} {value}{chance}{more}."
        tied = [entry.label for entry in self.entries if entry.verdict == TIED]
        if not tied:
            return f"{best.label} is best: {title} {value}{chance}{more}."
        listed = ", ".join(tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
        return (
            f"{best.label} has the best {title}, {value}{chance}; not told apart: {listed}{more}."
        )

    to_frame, to_dict = to_frame, to_dict

    def __repr__(self) -> str:
        return "\n".join([*self.table().first_lines(MAX_SHOWN), self.sentence()])

    def _repr_html_(self) -> str:
        return self.table()._replace(title=self.sentence()).html()


@overload
def compare(
    embeddings: Any, target: NextItems, *, decoders: Any = ...,
    kernel: Kernel | None = ..., probe: Probe | None = ..., metric: str | None = ...,
    draws: int = ..., level: float = ..., seed: int = ..., curve: bool = ...,
) -> NextItemsComparison: ...  # fmt: skip
@overload
def compare(
    embeddings: Any, target: Any, *, decoders: Any = ...,
    kernel: Kernel | None = ..., probe: Probe | None = ..., metric: str | None = ...,
    draws: int = ..., level: float = ..., seed: int = ..., curve: bool = ...,
) -> Comparison: ...  # fmt: skip
def compare(
    embeddings: Any,
    target: Any,
    *,
    decoders: Decoder | Sequence[Decoder] | Mapping[str, Decoder] | None = None,
    kernel: Kernel | None = None,
    probe: Probe | None = None,
    metric: str | None = None,
    draws: int = 2000,
    level: float = 0.9,
    seed: int = 0,
    curve: bool = False,
) -> Comparison | NextItemsComparison:
    """Which embedding will do best, and which of the others cannot be told apart from it.

    Metrics have the interval of one training; differences that of another sample of items, to which
    all heads are fitted. They are paired: all entries answer the same rows, so hard rows and rare
    classes cancel. Their signs hold together, over all pairs of entries: among many equal
    embeddings none seems worse by chance more often than ``1 - level`` says
    (:func:`kernlens.probes.step_down`).

    Args:
      embeddings: rows by name, ``{name: rows}``, as :func:`predict` takes them; or a list of
        them, named by position. The same items in the same order; ``d`` may differ.
      target: as for :func:`predict`.
      decoders: one decoder, several, or several by name; every embedding is predicted under each.
        Decision trees, forests and boosting have no kernel, and are refused: their order of
        embeddings may be another than that of linear heads.
      kernel: any kernel, in place of decoders.
      probe: as for :func:`predict`.
      metric: the metric to order by. Default: macro-F1 of classes and labels, R² of numbers; of
        losses and errors the least is best. ``"log_loss"`` separates embeddings whose accuracies
        tie.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: as for :func:`predict`.
      curve: as for :func:`predict`, of each entry.

    Returns:
      Comparison, which prints itself; equal metrics keep the order given. Of next items, a
      :class:`~kernlens.lens.NextItemsComparison`.

    Raises:
      ValueError: no embedding, row counts that differ, an unknown metric, and what :func:`predict`
        raises, with the name of the embedding.
    """
    if isinstance(target, NextItems):
        refuse_probe(probe)
        refuse_curve(curve)
        return compare_next_items(
            embeddings, target, decoders=named_decoders(decoders), kernel=kernel, metric=metric,
            draws=draws, level=level, seed=seed,
        )  # fmt: skip
    named, target = same_rows(embeddings, target)
    entries, heads = [], named_decoders(decoders)
    for name, title in steps.steps(itertools.product(named, heads), label_of):
        rows, start = named[name], time.perf_counter()
        try:
            prediction = predict(
                rows, target, decoder=heads[title], kernel=kernel, probe=probe, metric=metric,
                draws=draws, level=level, seed=seed, curve=curve,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{label_of((name, title))}: {error}") from error
        seconds = time.perf_counter() - start
        entries.append(Entry(name, title, prediction, int(rows.shape[1]), seconds, BEST))
    return compared(entries, level=level, seed=seed)


def compared(entries: Sequence[Entry], *, level: float = 0.9, seed: int = 0) -> Comparison:
    """Entries whose predictions are made, best first, with their differences and verdicts.

    Args:
      entries: of the same rows and target; their verdicts are not read.
      level: as :func:`compare`.
      seed: as :func:`compare`.

    Returns:
      Comparison.
    """
    metric = entries[0].prediction.metric
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    entries = sorted(entries, key=lambda entry: -sign * entry.prediction.value.value)
    gaps = pairwise_differences(
        [entry.prediction for entry in entries], metric, level=level, seed=seed
    )
    best, differences = entries[0], {}
    for i, entry in enumerate(entries):
        for other in dict.fromkeys((0, i - 1)) if i else ():
            differences[entry.label, entries[other].label] = gaps[i, other]
        if i and differences[entry.label, best.label].separated:
            verdict = WORSE
        elif entry.prediction.is_chance:
            verdict = CHANCE
        elif len(entries) == 1:
            verdict = ABOVE
        else:
            verdict = TIED if i else BEST
        entries[i] = entry._replace(verdict=verdict)
    return Comparison(tuple(entries), differences, metric, level)


def same_rows(embeddings: Any, target: Any) -> tuple[dict[str, Any], Any]:
    """Embeddings by name, and the target.

    Raises:
      ValueError: no embedding, other numbers of rows, or pandas indexes in another order.
    """
    named = as_named(embeddings)
    given = embeddings.values() if isinstance(embeddings, Mapping) else embeddings
    for name, own in zip(named, given, strict=True):
        arrays.check_same_order(own, target, names=(name, "the target"))
    shapes = {name: tuple(rows.shape) for name, rows in named.items()}
    if len({shape[:1] for shape in shapes.values()}) > 1:
        raise ValueError(f"all embeddings need the same rows; got shapes {shapes}")
    return named, as_target(target)


def named_decoders(decoders: Any) -> dict[str, Any]:
    """Decoders by name, from one, several, several by name, or None.

    Raises:
      ValueError: an empty list or mapping.
    """
    if decoders is None:
        return {"": None}
    if isinstance(decoders, Mapping):
        named = dict(decoders)
    elif isinstance(decoders, tuple) and len(decoders) == 2 and all(map(_is_function, decoders)):
        named = {"": decoders}
    elif isinstance(decoders, list | tuple):
        titles = [decoder_name(decoder) for decoder in decoders]
        repeated = {title for title in titles if titles.count(title) > 1}
        named = {
            f"{title} {i}" if title in repeated else title: decoder
            for i, (title, decoder) in enumerate(zip(titles, decoders, strict=True))
        }
    else:
        named = {"": decoders}
    if not named:
        raise ValueError("expected at least one decoder; got none")
    return named


def _is_function(value: Any) -> bool:
    """A function of a pair ``(init_fn, apply_fn)``, and not a Flax module, which can be called."""
    return callable(value) and not hasattr(value, "init")


def decoder_name(decoder: Any) -> str:
    """What a decoder is called in a table: ``Mlp(32)``, ``Neighbours(10)``, ``Linear``."""
    if isinstance(decoder, tuple):
        return getattr(decoder[1], "__qualname__", "apply_fn").rsplit(".", 1)[-1]
    name = type(decoder).__name__
    size = getattr(decoder, "hidden", getattr(decoder, "k", None))
    return name if size is None else f"{name}({size})"

"""Mistakes of a prediction: classes that are lost, pairs that are confused, and the worst rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens.advice import Upgrade
from kernlens.lens.compare import Comparison
from kernlens.lens.diagnosis import Diagnosis
from kernlens.lens.fuse import Fusion
from kernlens.lens.stability import Stability
from kernlens.probes import LOG_LOSS, TITLES, Prediction
from kernlens.show.table import Column, Table

WORST = 20
"""Rows that are listed."""

CONFUSED = 15
"""Pairs of classes that are listed."""


class Judged(NamedTuple):
    """The prediction that a result is about, row by row.

    Attributes:
      name: of the embedding; "" where the result does not know it.
      label: what the prediction is called.
      prediction: of the labelled rows.
    """

    name: str
    label: str
    prediction: Prediction


def judged(result: Any) -> Judged | None:
    """The best, advised or only prediction of a result; None of next items and scores."""
    if isinstance(result, Prediction):
        return Judged("", "this embedding", result)
    if isinstance(result, Comparison):
        return Judged(result.best.name, result.best.label, result.best.prediction)
    if isinstance(result, Diagnosis):
        return Judged("", result.decoder, result.prediction)
    if isinstance(result, Fusion):
        return Judged(
            result.alone[0].name, f"the join ({result.best.name})", result.best.prediction
        )
    if isinstance(result, Upgrade):
        return Judged("", f"the new version ({result.advised})", result.chosen.prediction)
    if isinstance(result, Stability):
        run, prediction = next(iter(result.moves[0].predictions.items()))
        decoder = result.moves[0].decoder
        return Judged(run, f"{run}, {decoder}" if decoder else run, prediction)
    return None


class Answers(NamedTuple):
    """What each row is, and what a head that did not see it says.

    Attributes:
      target: codes ``[n]``, numbers ``[n]`` or labels ``[n, C]``.
      predicted: likewise.
      counted: whether the row was held out, bool ``[n]``.
    """

    target: np.ndarray
    predicted: np.ndarray
    counted: np.ndarray


def answers(prediction: Prediction) -> Answers:
    """Held-out answers, of :attr:`Prediction.held_out` where the probe has them."""
    held = prediction.held_out
    if held is not None:
        return Answers(held.target, held.predicted, held.folds >= 0)
    counted = np.ones(len(prediction.target), bool)
    return Answers(prediction.target, prediction.predicted, counted)


def by_class(
    prediction: Prediction, others: Mapping[str, Prediction] | None = None
) -> Table | None:
    """A row for each class or label, the lowest F1 first.

    Args:
      prediction: of classes or labels.
      others: further predictions of the same rows by name, whose F1 is shown too.

    Returns:
      Table, or None for numbers.
    """
    if not prediction.names:
        return None
    counts = _counts(prediction)
    more = {name: _counts(own) for name, own in (others or {}).items()}
    pairs = {} if prediction.target.ndim == 2 else _pairs(answers(prediction))
    rows = []
    for code, name in enumerate(prediction.names):
        true, given, both = (int(own[code]) for own in counts)
        if not true:
            continue
        to = [(count, other) for (own, other), count in pairs.items() if own == code]
        count, other = max(to, default=(0, -1))
        rows.append(
            {
                "class": name,
                "rows": true,
                "f1": 2 * both / max(true + given, 1),
                "recall": both / true,
                "precision": both / given if given else None,
                "other": f"{prediction.names[other]} ({count:,})" if count else None,
                **{
                    f"f1 {label}": 2 * int(own[2][code]) / max(int(own[0][code] + own[1][code]), 1)
                    for label, own in more.items()
                },
            }
        )
    rows.sort(key=lambda row: row["f1"])
    columns = [
        Column("class", "class" if prediction.target.ndim == 1 else "label"),
        Column("rows"),
        Column("f1", "F1", ".3f"),
        Column("recall", format=".3f"),
        Column("precision", format=".3f"),
        *(Column(f"f1 {label}", f"F1 of {label}", ".3f") for label in more),
    ]
    if pairs:
        columns.append(Column("other", "most often taken for"))
    several = prediction.target.ndim == 2
    return Table(rows, columns, f"{'Labels' if several else 'Classes'}, the lowest F1 first")


def confused(prediction: Prediction) -> Table | None:
    """Pairs of classes that are most often taken for each other; None without classes or errors."""
    if not prediction.names or prediction.target.ndim == 2:
        return None
    found = answers(prediction)
    counts = np.bincount(found.target[found.counted], minlength=len(prediction.names))
    pairs = sorted(_pairs(found).items(), key=lambda own: -own[1])[:CONFUSED]
    rows = [
        {
            "true": prediction.names[true],
            "given": prediction.names[given],
            "rows": count,
            "share": count / int(counts[true]),
        }
        for (true, given), count in pairs
    ]
    columns = (
        Column("true", "true class"),
        Column("given", "class given"),
        Column("rows"),
        Column("share", "share of the true class", ".1%"),
    )
    return Table(rows, columns, "Classes that are confused") if rows else None


def worst(prediction: Prediction, ids: Sequence[Any] | np.ndarray | None = None) -> Table:
    """The rows whose held-out loss is largest.

    Args:
      prediction: of any target.
      ids: names of the labelled rows, ``[n]``; their places by default.
    """
    names = np.arange(len(prediction.target)) if ids is None else np.asarray(ids)
    found, held = answers(prediction), prediction.held_out
    losses = np.where(found.counted & np.isfinite(prediction.losses), prediction.losses, -np.inf)
    order = [at for at in np.argsort(-losses, kind="stable")[:WORST] if losses[at] > 0]
    chances = None if held is None else held.log_probabilities
    rows = []
    for at in order:
        row = {
            "id": str(names[at]),
            "true": cell(prediction, found.target[at]),
            "given": cell(prediction, found.predicted[at]),
            "loss": float(losses[at]),
        }
        if chances is not None:
            row["chance"] = float(np.exp(chances[at, found.target[at]]))
        rows.append(row)
    loss = (
        "log loss, nats"
        if prediction.loss == LOG_LOSS
        else TITLES.get(prediction.loss, prediction.loss.replace("_", " "))
    )
    columns = [
        Column("id", "row" if ids is None else "id"),
        Column("true", format=number_format(prediction)),
        Column("given", "predicted", number_format(prediction)),
        Column("loss", loss, "#.3g"),
        *(
            [Column("chance", "probability of the true class", "#.2g")]
            if chances is not None
            else []
        ),
    ]
    return Table(rows, columns, "Rows with the largest held-out loss")


def changed(result: Upgrade, most: int) -> Table:
    """Items whose answer changes with the advised way, those that become wrong first.

    Args:
      result: of ``upgrade``.
      most: items of each kind.
    """
    held, flips = result.chosen.prediction, result.chosen.flips
    before, after = answers(result.before), answers(held)
    negative, positive, _ = result.kinds.values()
    rows = [
        {
            "id": str(result.ids[at]),
            "change": kind,
            "true": cell(held, before.target[at]),
            "before": cell(held, before.predicted[at]),
            "after": cell(held, after.predicted[at]),
        }
        for kind, places in ((negative, flips.negative_rows), (positive, flips.positive_rows))
        for at in places[:most]
    ]
    columns = (
        Column("id"),
        Column("change"),
        Column("true", format=number_format(held)),
        Column("before", "old version", number_format(held)),
        Column("after", f"new version, {result.advised}", number_format(held)),
    )
    return Table(rows, columns, f"Items that change with the advised way, at most {most} a kind")


def cell(prediction: Prediction, value: Any) -> str | float:
    """An answer in a table: a class, several labels, or a number."""
    if prediction.target.ndim == 2:
        return (
            ", ".join(name for name, has in zip(prediction.names, value, strict=True) if has)
            or "none"
        )
    return prediction.names[int(value)] if prediction.names else float(value)


def number_format(prediction: Prediction) -> str:
    """Format of a column of answers."""
    return "" if prediction.names else "#.4g"


def _counts(prediction: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: rows that have it, that are given it, and both."""
    found = answers(prediction)
    target, predicted = found.target[found.counted], found.predicted[found.counted]
    if prediction.target.ndim == 2:
        return target.sum(axis=0), predicted.sum(axis=0), (target & predicted).sum(axis=0)
    size = len(prediction.names)
    right = target[target == predicted]
    true, given, both = (np.bincount(own, minlength=size) for own in (target, predicted, right))
    return true, given, both


def _pairs(found: Answers) -> dict[tuple[int, int], int]:
    """How many rows of one class are given another, by both."""
    wrong = found.counted & (found.target != found.predicted)
    both = np.stack([found.target[wrong], found.predicted[wrong]], axis=1)
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    return {(int(a), int(b)): int(n) for (a, b), n in zip(pairs, counts, strict=True)}

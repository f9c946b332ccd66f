"""What is predicted and trained: an embedding, the rows whose labels are known, and splits.

A natural embedding is split 80/20, class by class, and judged on the rows held out. Where the
labels of a sample alone are known (few labels, drawn sets), the heads train on 80% of the sample
and are judged on all rows outside it, which is what their user will meet. Equal rows of one class
are taken for copies and stay on one side of a split: that is the truth, since a held-out copy says
nothing of items unlike those known. What naive splits show is measured too, and not judged.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from experiments.predicts_value.sets import Set
from experiments.predicts_value.settings import BASES, Config
from kernlens.train.heads import stratified_split

NATURAL = "natural"
NAIVE = "naive splits"
"""Of an embedding with copies; not judged."""

COPIES = 5


class Context(NamedTuple):
    """An embedding under one damage.

    Attributes:
      set: name of the set.
      embedding: name of the embedding.
      damage: what was done to it, :data:`NATURAL` if nothing.
      tuned: whether the method was tuned on the set.
      x: rows, ``[n, d]``.
      codes: class of each, ``[n]``.
      labelled: rows whose labels are known, ``[m]``.
      groups: rows of one group are copies, ``[n]``; None where all are distinct.
    """

    set: str
    embedding: str
    damage: str
    tuned: bool
    x: np.ndarray
    codes: np.ndarray
    labelled: np.ndarray
    groups: np.ndarray | None = None

    @property
    def title(self) -> str:
        """Names of the set, the embedding and the damage."""
        return f"{self.set} | {self.embedding} | {self.damage}"


class Split(NamedTuple):
    """Who trains a head, and who judges it.

    Attributes:
      train: rows to train on, bool ``[n]``.
      single: held-out fifth of the rows with labels, bool ``[n]``: what one training shows.
      judged: rows whose metrics are the truth, bool ``[n]``.
    """

    train: np.ndarray
    single: np.ndarray
    judged: np.ndarray


def splits(context: Context, count: int) -> list[Split]:
    """Splits 80/20 of the labelled rows, class by class and copies together."""
    n = len(context.codes)
    known = np.zeros(n, bool)
    known[context.labelled] = True
    same = np.arange(n) if context.groups is None else context.groups
    _, first, place = np.unique(same, return_index=True, return_inverse=True)
    codes = np.where(known, context.codes, -1)[first]
    others = ~np.isin(place, place[known])
    found = []
    for seed in range(count):
        held = stratified_split(seed, codes)[place] & known
        found.append(Split(known & ~held, held, held if known.all() else others))
    return found


def natural(given: Set) -> list[Context]:
    """The embeddings of a set as they are."""
    rows = np.arange(len(given.codes)) if given.labelled is None else given.labelled
    return [
        Context(
            given.name, name, NATURAL, given.tuned, x, given.codes, rows, groups(x, given.codes)
        )
        for name, x in given.embeddings.items()
    ]


def naive(given: Set) -> list[Context]:
    """Natural embeddings of which every tenth row or more is a copy, split as if none were."""
    return [
        context._replace(damage=NAIVE, groups=None)
        for context in natural(given)
        if context.groups is not None and len(np.unique(context.groups)) < 0.9 * len(context.groups)
    ]


def groups(x: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Numbers that copies share, None where all rows are distinct.

    Equal rows of different classes are items that the embedding cannot tell apart, and no copies.
    """
    _, same = np.unique(x + 0.0, axis=0, return_inverse=True)
    same = same.ravel()
    _, first = np.unique(same, return_index=True)
    mixed = np.zeros(len(first), bool)
    np.logical_or.at(mixed, same, codes != codes[first[same]])
    found = np.where(mixed[same], len(first) + np.arange(len(x)), same)
    return None if len(np.unique(found)) == len(x) else found


def damaged(given: Set, config: Config) -> Iterator[Context]:
    """The embedding of a set that is damaged, if it has one, under every damage."""
    name = BASES.get(given.name)
    if not config.damages or name is None or name not in given.embeddings:
        return
    own = next(context for context in natural(given) if context.embedding == name)
    for damage, change in DAMAGES.items():
        yield change(own, np.random.default_rng([config.seed, 7]))._replace(damage=damage)
    counts = {"8 a class": 8, "60 labels": 60, "200 labels": 200}
    for title, count in counts.items():
        for draw in range(config.samples):
            rng = np.random.default_rng([config.seed, 8, draw])
            sample = few(own.codes, count, rng, each=title == "8 a class")
            yield own._replace(damage=f"{title}, draw {draw}", labelled=sample)


def judged(context: Context) -> bool:
    """Whether the trained outcomes of a context are the truth."""
    return NAIVE not in context.damage


def few(codes: np.ndarray, count: int, rng: np.random.Generator, *, each: bool) -> np.ndarray:
    """A few rows: ``count`` of each class, or ``count`` in all by the classes' shares."""
    place = np.empty(len(codes))
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        rank = np.arange(len(rows))
        place[rows] = rank if each else (rank + rng.random()) / len(rows)
    if each:
        return np.flatnonzero(place < count)
    return np.sort(np.argsort(place, kind="stable")[:count])


Change = Callable[[Context, np.random.Generator], Context]


def _rows(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """A damage of the rows alone."""

    def apply(own: Context, rng: np.random.Generator) -> Context:
        x = change(own.x.astype(np.float64), rng).astype(np.float32)
        return own._replace(x=x, groups=groups(x, own.codes))

    return apply


def outlier_rows(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One row in a hundred, 200 times as long."""
    out = x.copy()
    out[rng.permutation(len(x))[: max(len(x) // 100, 1)]] *= 200.0
    return out


def heavy_tails(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of a Cauchy distribution, 0.3 standard deviations wide, on every value."""
    return x + 0.3 * x.std(axis=0) * rng.standard_cauchy(x.shape)


def row_scales(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every row times a log-normal factor."""
    return x * np.exp(rng.standard_normal((len(x), 1)))


def large_column(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One more column, like a price in cents, that says nothing."""
    return np.hstack([x, np.exp(8.0 + 1.5 * rng.standard_normal((len(x), 1)))])


def common_direction(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mean that all rows share, 30 times their spread."""
    direction = rng.standard_normal(x.shape[1])
    return x + 30.0 * np.sqrt(np.sum(np.var(x, axis=0))) * direction / np.linalg.norm(direction)


def collapsed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nearly all variance in two directions: the others a thousandth, with noise as large."""
    left, singular, right = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    small = np.where(np.arange(len(singular)) < 2, 1.0, 1e-3)
    noise = 1e-3 * x.std() * rng.standard_normal(x.shape)
    return (left * singular * small) @ right + noise


def quantised(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two bits a value."""
    low, wide = x.min(axis=0), np.ptp(x, axis=0)
    return np.round(3.0 * (x - low) / np.where(wide > 0, wide, 1.0))


def whitened(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All directions of equal variance."""
    left, singular, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return np.sqrt(len(x)) * left * (singular > 1e-6 * singular[0])


def label_noise(own: Context, rng: np.random.Generator) -> Context:
    """One label in five drawn from all labels."""
    codes, wrong = own.codes.copy(), rng.random(len(own.codes)) < 0.2
    codes[wrong] = rng.permutation(own.codes)[wrong]
    return own._replace(codes=codes, groups=groups(own.x, codes))


def copies(own: Context, rng: np.random.Generator) -> Context:
    """A fifth of the rows, each five times."""
    kept = np.concatenate(
        [
            rng.permutation(np.flatnonzero(own.codes == c))[: max(count // COPIES, 2)]
            for c, count in enumerate(np.bincount(own.codes))
        ]
    )
    rows = rng.permutation(np.repeat(kept, COPIES))
    x, codes = own.x[rows], own.codes[rows]
    return own._replace(x=x, codes=codes, labelled=np.arange(len(rows)), groups=groups(x, codes))


DAMAGES: dict[str, Change] = {
    "outlier rows": _rows(outlier_rows),
    "heavy tails": _rows(heavy_tails),
    "row scales": _rows(row_scales),
    "one large column": _rows(large_column),
    "common direction": _rows(common_direction),
    "collapse": _rows(collapsed),
    "every row five times": copies,
    "every row five times, naive splits": lambda own, rng: copies(own, rng)._replace(groups=None),
    "label noise": label_noise,
    "quantised": _rows(quantised),
    "whitened": _rows(whitened),
}
"""What is done to an embedding."""

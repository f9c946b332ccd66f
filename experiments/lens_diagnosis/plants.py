"""Faults of moderate strength that are planted in clean tables, one for each cause."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CLEAN = "clean"


class Table(NamedTuple):
    """Rows, the class of each, how often each was met, and whether rows are those of the clean one.

    Attributes:
      x: ``[n, d]``.
      codes: ``[n]``.
      counts: ``[n]``.
      same_rows: whether row ``i`` is row ``i`` of the clean table, so that losses are comparable.
    """

    x: np.ndarray
    codes: np.ndarray
    counts: np.ndarray
    same_rows: bool = True


Plant = Callable[[Table, np.random.Generator], Table]


def clean(own: Table, rng: np.random.Generator) -> Table:
    """Nothing."""
    return own


def outlier_rows(own: Table, rng: np.random.Generator) -> Table:
    """One row in a hundred, 50 times as long, in a direction of its own."""
    x = own.x.copy()
    rows = rng.permutation(len(x))[: max(len(x) // 100, 2)]
    size = 50.0 * np.median(np.linalg.norm(x, axis=1))
    drawn = rng.standard_normal((len(rows), x.shape[1]))
    x[rows] = size * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return own._replace(x=x)


def large_column(own: Table, rng: np.random.Generator) -> Table:
    """One column that says nothing takes the place of the last, 30 times as wide as the widest."""
    x = own.x.copy()
    x[:, -1] = 30.0 * x.std(axis=0).max() * rng.standard_normal(len(x))
    return own._replace(x=x)


def lost_rank(own: Table, rng: np.random.Generator) -> Table:
    """A quarter of the columns are sums of the others, of the variance that they had."""
    x, lost = own.x.copy(), max(own.x.shape[1] // 4, 1)
    sums = x[:, lost:] @ rng.standard_normal((x.shape[1] - lost, lost))
    x[:, :lost] = sums / sums.std(axis=0) * x[:, :lost].std(axis=0)
    return own._replace(x=x)


def quantised(own: Table, rng: np.random.Generator) -> Table:
    """Three bits a value."""
    low, wide = own.x.min(axis=0), np.ptp(own.x, axis=0)
    return own._replace(x=np.round(7.0 * (own.x - low) / np.where(wide > 0, wide, 1.0)))


def copies(own: Table, rng: np.random.Generator) -> Table:
    """A third of the rows, each three times."""
    kept = np.concatenate(
        [
            rng.permutation(np.flatnonzero(own.codes == c))[: max(count // 3, 2)]
            for c, count in enumerate(np.bincount(own.codes))
        ]
    )
    rows = rng.permutation(np.repeat(kept, 3))
    return Table(own.x[rows], own.codes[rows], own.counts[rows], same_rows=False)


def in_label_order(own: Table, rng: np.random.Generator) -> Table:
    """Rows sorted by their labels, but for a fifth of them."""
    order = np.argsort(own.codes, kind="stable")
    free = np.sort(rng.permutation(len(order))[: len(order) // 5])
    order[free] = order[rng.permutation(free)]
    return Table(own.x[order], own.codes[order], own.counts[order], same_rows=False)


def shuffled(own: Table, rng: np.random.Generator) -> Table:
    """Rows joined to the labels of others."""
    return own._replace(x=own.x[rng.permutation(len(own.x))])


def starved(own: Table, rng: np.random.Generator) -> Table:
    """The rarer half of the rows are noise about the mean, as where training hardly met them."""
    x = own.x.copy()
    rare = np.argsort(own.counts, kind="stable")[: len(x) // 2]
    x[rare] = x.mean(axis=0) + 0.3 * x.std(axis=0) * rng.standard_normal((len(rare), x.shape[1]))
    return own._replace(x=x)


def few_labels(own: Table, rng: np.random.Generator) -> Table:
    """The smaller half of the classes keep twelve rows."""
    counts = np.bincount(own.codes)
    small = np.argsort(counts, kind="stable")[: max(len(counts) // 2, 1)]
    kept = np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(own.codes == c))[: 12 if c in small else count]
                for c, count in enumerate(counts)
            ]
        )
    )
    return Table(own.x[kept], own.codes[kept], own.counts[kept], same_rows=False)


def common_direction(own: Table, rng: np.random.Generator) -> Table:
    """A mean that all rows share, three times their spread."""
    direction = rng.standard_normal(own.x.shape[1])
    size = 3.0 * np.sqrt(np.sum(own.x.var(axis=0)))
    return own._replace(x=own.x + size * direction / np.linalg.norm(direction))


def row_scales(own: Table, rng: np.random.Generator) -> Table:
    """Every row times a log-normal factor."""
    return own._replace(x=own.x * np.exp(rng.standard_normal((len(own.x), 1))))


def popular_lengths(own: Table, rng: np.random.Generator) -> Table:
    """Every row times a power of its count."""
    return own._replace(x=own.x * (1.0 + own.counts[:, None]) ** 0.5)


def leak(own: Table, rng: np.random.Generator) -> Table:
    """The last column is the number of the class, and a little noise."""
    x, code = own.x.copy(), own.codes - own.codes.mean()
    noisy = code + 0.1 * code.std() * rng.standard_normal(len(code))
    x[:, -1] = x.std(axis=0).mean() * noisy / code.std()
    return own._replace(x=x)


def label_noise(own: Table, rng: np.random.Generator) -> Table:
    """One label in five drawn from all labels."""
    codes, wrong = own.codes.copy(), rng.random(len(own.codes)) < 0.2
    codes[wrong] = rng.permutation(own.codes)[wrong]
    return own._replace(codes=codes, same_rows=False)


PLANTS: dict[str, Plant] = {
    CLEAN: clean,
    "outlier rows": outlier_rows,
    "column scales": large_column,
    "rank loss": lost_rank,
    "quantised": quantised,
    "duplicates": copies,
    "row order": in_label_order,
    "no signal": shuffled,
    "starvation": starved,
    "few labels": few_labels,
    "anisotropy": common_direction,
    "row scales": row_scales,
    "popularity in norms": popular_lengths,
    "leak": leak,
    "suspect labels": label_noise,
}
"""What is planted, by the cause that is to be found."""

"""Trained recommenders and the mixture of proposition 2: what depended on scale and origin."""

import functools

import jax
import numpy as np

from experiments.prop2_sequence_average import mixture
from kernlens.metrics import ranking
from kernlens.models.towers import DenseLayers, DenseTower, TwoTowers
from kernlens.targets import sequences
from kernlens.train import recommend
from kernlens.train.recommend import Trained
from tests.cases import toy_interactions
from tests.corrected.case import Case

TOWERS = TwoTowers(DenseTower((4,)), DenseLayers((4,)))
ITEMS, CLASSES = 60, 6


@functools.cache
def problem() -> tuple[sequences.Split, np.ndarray]:
    """Sessions inside a class, its items popular by rank; the table tells the classes."""
    rng = np.random.default_rng(0)
    share = 1.0 / np.arange(1, ITEMS // CLASSES + 1)
    within = rng.choice(len(share), (2_000, 5), p=share / share.sum())
    items = within * CLASSES + rng.integers(0, CLASSES, (2_000, 1))
    table = np.eye(CLASSES)[np.arange(ITEMS) % CLASSES] + 0.1 * rng.normal(size=(ITEMS, CLASSES))
    split = sequences.leave_last_out(toy_interactions(items), length=3, targets=1, seed=None)
    return split, table.astype(np.float32)


def recall(trained: Trained) -> float:
    """Recall@10 of the first run, whose ten items are those of a class."""
    asked = ranking.all_items(problem()[0].test)
    return float(ranking.recall(recommend.place(trained, asked, 0), 10).mean())


def by_default() -> float:
    """Recall@10 of two towers as `recommend.fit` trains them."""
    split, table = problem()
    return recall(recommend.fit(split.train, table, TOWERS))


def small() -> float:
    """The same of the table times 0.01."""
    split, table = problem()
    return recall(recommend.fit(split.train, 0.01 * table, TOWERS))


def forgotten_bias() -> float:
    """Largest difference of inner products of vectors to the scores."""
    split, table = problem()
    made = recommend.fit(split.train, table, TOWERS, epochs=1)
    made = made._replace(params={**made.params, "bias": jax.numpy.full((1, ITEMS), 0.25)})
    scores = np.concatenate(list(recommend.scores(made, split.test, 0)))
    found = recommend.queries(made, split.test, 0) @ recommend.item_vectors(made, 0).T
    return float(np.max(np.abs(scores - found)))


def cold() -> str:
    """What is said of a table that lacks an item."""
    split, table = problem()
    missing = np.arange(ITEMS)[:, None] == 7
    made = recommend.fit(split.train, np.where(missing, np.nan, table), TOWERS, epochs=0)
    return f"{made.notes['cold_items']} cold item, told"


LAM, SCALE = 0.5, 2.0


@functools.cache
def mixed() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Queries, items and targets of a mixture, and its discount."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(200, 4))
    items -= items.mean(axis=0)
    # The grid of scales is in units of the items' variance.
    items *= np.sqrt(4.0 / np.mean(np.sum(items**2, axis=1)))
    queries = 0.5 * rng.normal(size=(2_000, 4))
    own = np.exp(SCALE * queries @ items.T)
    z = own.sum(axis=1, keepdims=True)
    total = np.cumsum(LAM / 200 + (1 - LAM) * own / z, axis=1)
    target = (rng.random((2_000, 1)) > total).sum(axis=1).clip(0, 199)
    return queries, items, target, (1 - LAM) / LAM / float(np.median(z))


def discount() -> float:
    """Estimated over true discount of items whose mean is (10, 10, 10, 10)."""
    queries, items, target, right = mixed()
    given = ((rows + 10).astype(np.float32) for rows in (queries, items))
    return mixture.fit(*given, np.full(200, 1 / 200), target).alpha / right


CASES: tuple[Case, ...] = (
    Case(
        "towers trained too little by default",
        "recall(recommend.fit(train, table, towers))",
        before=0.3415,
        right=1.0,
        measure=by_default,
        tolerance=0.02,
    ),
    Case(
        "a recommender depended on the scale of its table",
        "recall(recommend.fit(train, 0.01 * table, towers))",
        before=0.1855,
        right=1.0,
        measure=small,
        tolerance=0.02,
    ),
    Case(
        "item vectors lacked the items' biases",
        "abs(scores(trained, test, 0) - queries(trained, test, 0) @ item_vectors(trained, 0).T)",
        before=0.25,
        right=0.0,
        measure=forgotten_bias,
        tolerance=1e-5,
    ),
    Case(
        "a table with a cold item was refused",
        "recommend.fit(train, table_with_a_row_of_nan, towers)",
        before="ValueError",
        right="1 cold item, told",
        measure=cold,
    ),
    Case(
        "the discount of proposition 2 followed outliers",
        "mixture.fit(queries + 10, items + 10, share, target).alpha / true",
        before=2.392e-12,
        right=1.0,
        measure=discount,
        tolerance=0.15,
    ),
)

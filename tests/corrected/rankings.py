"""Rankings of next items: what leaked, what was left out, and items without a vector."""

import numpy as np

from kernlens.kernels import sequence_kernels
from kernlens.metrics import ranking
from kernlens.probes import recommenders, ridge_ranking
from kernlens.targets import sequences
from kernlens.targets.sequences import Histories
from tests.cases import pasts, toy_interactions
from tests.corrected.case import Case


def recurring() -> Histories:
    """Users whose next item is one of the 20 that they met before, each equally often."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(20) for _ in range(300)]).astype(np.int32)
    target = rng.integers(0, 20, 300).astype(np.int32)
    past = pasts(list(rows))
    return Histories(rows, np.full(300, 20), target, np.arange(300), past, past)


def own_counts() -> float:
    """Recall@1 of own counts, which say nothing of which of 20 items comes next."""
    test = recurring()
    x = test.past.counts(30)
    return float(ranking.recall(recommenders.own_past(x, ranking.all_items(test)), 1).mean())


def eliminated() -> str:
    """What is said where the past of a repeated target is left out."""
    test = recurring()
    try:
        ranking.place(np.zeros((300, 30)), test.target, left_out=test.past)
    except ValueError:
        return "refused"
    return "ranked"


def forgotten() -> float:
    """Recall@1 of popularity where users met the most popular items long ago."""
    rows = [[0, 1, 2, 3, 4, 5, 6 + user % 3] for user in range(30)]
    data = toy_interactions(rows)
    split = sequences.leave_last_out(data, length=2, seed=None)
    known = recommenders.session_matrix(split.known)
    place = recommenders.popular(known, ranking.new_items(split.test))
    # Three items are left, as popular as each other: never met in training.
    return float(ranking.recall(place, 1).mean())


def cold_histories() -> float:
    """Recall@1 by averages of histories that each hold an item without a vector."""
    vectors = np.eye(4, dtype=np.float32)
    vectors[3] = np.nan
    items = np.array([[0, 3], [3, 1], [2, 3]], np.int32)
    queries = np.asarray(sequence_kernels.average(vectors, items))
    place = ranking.place_by_inner_product(queries, vectors, np.array([0, 1, 2]))
    return float(ranking.recall(place, 1).mean())


def cold_last_item() -> float:
    """Recall@1 by the latest item where that has no vector."""
    vectors = np.eye(3, dtype=np.float32)
    vectors[2] = np.nan
    items = np.array([[0, 2], [1, 2]], np.int32)
    histories = Histories(items, np.array([2, 2]), np.array([0, 1]), np.arange(2))
    queries = recommenders.last_item(vectors, histories)
    place = ranking.place_by_inner_product(queries, vectors, histories.target)
    return float(ranking.recall(place, 1).mean())


def cold_ridge() -> float:
    """Recall@2 of ridge ranking: two groups, and an item without a vector in every history."""
    rng = np.random.default_rng(0)
    vectors = np.eye(2, dtype=np.float32)[np.arange(5) % 2]
    vectors[4] = np.nan
    group = rng.integers(0, 2, 200)
    items = np.stack([group, np.full(200, 4)], axis=1).astype(np.int32)
    target = (group + 2 * rng.integers(0, 2, 200)).astype(np.int32)
    train = Histories(items, np.full(200, 2), target, np.arange(200), pasts(list(items)))
    place, _ = ridge_ranking.predict(
        sequence_kernels.averages(vectors), train, ranking.all_items(train), num_items=5
    )
    return float(ranking.recall(place, 2).mean())


CASES: tuple[Case, ...] = (
    Case(
        "own counts find a repeated target by elimination",
        "recall(place(counts, target, excluded=test.items), 1), now own_past under all_items",
        before=1.0, right=1 / 20, tolerance=1e-12, measure=own_counts,
    ),
    Case(
        "a past with the target in it is left out of the candidates",
        "place(scores, target, <past of the user>)",
        before="ranked", right="refused", measure=eliminated,
    ),
    Case(
        "only the latest items of the past are left out",
        "recall(place(popularity, target, <length=2 items>), 1), now popular under new_items",
        before=0.0, right=1 / 3, tolerance=1e-12, measure=forgotten,
    ),
    Case(
        "an item without a vector makes its histories misses",
        "recall(place_by_inner_product(average(vectors, items), vectors, target), 1)",
        before=0.0, right=1.0, measure=cold_histories,
    ),
    Case(
        "a latest item without a vector makes its history a miss",
        "recall(place_by_inner_product(last_item(vectors, histories), vectors, target), 1)",
        before=0.0, right=1.0, measure=cold_last_item,
    ),
    Case(
        "ridge ranking refuses items without a vector, by an option that it lacks",
        "recall(ridge_ranking.predict(averages(vectors), train, ...)[0], 2)",
        before="ValueError", right=1.0, measure=cold_ridge,
    ),
)  # fmt: skip

"""What is said of an embedding's rankings of next items without training a recommender."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kit.next_items import Task
from experiments.kit.outcomes import outcome, ranked
from experiments.prop2_sequence_average import mixture
from kernlens import ntk
from kernlens.kernels import features, sequence_kernels
from kernlens.models.towers import TOWERS
from kernlens.probes import recommenders, ridge_ranking
from kernlens.targets import sequences

ESTIMATED, PLAIN = "discounted, estimated α", "plain average"
EASE_ITEMS = 4_000
"""Most frequent items that the EASE baseline models."""
SKETCHED = {"gru": "GRU tower", "attention": "self-attention tower"}


def averages(
    task: Task,
    table: np.ndarray,
    hidden: tuple[int, ...],
    *,
    alphas: tuple[float, ...],
    fitted: int,
    landmarks: int,
) -> dict[str, Any]:
    """What averages of histories say of one embedding, and ridge rankers over their kernels.

    Args:
      task: what is known, and the held-out examples.
      table: the embedding, ``[num_items, d]``.
      hidden: widths of the dense tower whose tangent kernel is taken.
      alphas: discounts to try beside the estimated one.
      fitted: training examples on which the mixture is fitted.
      landmarks: histories that span the dense tower's tangent kernel.

    Returns:
      The mixture, the outcome of each ranker by name, and of the embedding's last item.
    """
    train, test, counts = task.train, task.queries.histories, task.known.counts

    def averaged(weights: np.ndarray | None) -> dict[str, Any]:
        queries = np.asarray(sequence_kernels.average(table, test.items, weights))
        return ranked(queries, table, task.queries, counts=counts)

    some = np.sort(np.random.default_rng(0).permutation(len(train.target))[:fitted])
    found = mixture.fit(
        np.asarray(sequence_kernels.average(table, train.items[some])),
        table,
        counts / counts.sum(),
        train.target[some],
    )
    weights = {f"α = {a:g}": sequence_kernels.discount(counts, alpha=a) for a in alphas}
    return {
        "mixture": found._asdict(),
        "predicted": {
            ESTIMATED: averaged(sequence_kernels.discount(counts, alpha=found.alpha)),
            PLAIN: averaged(None),
            **{name: averaged(w) for name, w in weights.items()},
            "ridge on averages": ridge(task, sequence_kernels.averages(table)),
            "ridge on the dense tower's kernel": ridge(
                task, dense_kernel(task, table, hidden, landmarks)
            ),
        },
        "baselines": {
            "last item": ranked(
                recommenders.last_item(table, test), table, task.queries, counts=counts
            ),
        },
    }


def dense_kernel(
    task: Task, table: np.ndarray, hidden: tuple[int, ...], landmarks: int
) -> Callable[[Any], Any]:
    """Feature map of the dense tower's tangent kernel, spanned by some training histories."""
    layers: list[Any] = []
    for width in hidden:
        layers += [ntk.infinite.dense(width), ntk.infinite.relu()]
    net = ntk.infinite.serial(*layers, ntk.infinite.dense(1))
    kernel = sequence_kernels.of_average(functools.partial(net.kernel_fn, get="ntk"), table)
    drawn = np.random.default_rng(1).permutation(len(task.train.items))[:landmarks]
    return features.nystrom(kernel, jnp.asarray(task.train.items[np.sort(drawn)]))


def tangent(
    task: Task, table: np.ndarray, hidden: tuple[int, ...], *, examples: int, size: int
) -> dict[str, Any]:
    """Ridge rankers over features of the towers' tangent kernels, and over averages beside.

    Args:
      task: what is known, and the held-out examples.
      table: the embedding, ``[num_items, d]``.
      hidden: widths of the towers, whose parameters are initial ones.
      examples: training examples that are read.
      size: features of each kernel.

    Returns:
      The outcome of each ranker by name.
    """
    most = min(examples, len(task.train.target))
    length, dim = task.train.items.shape[1], table.shape[1]
    beside = ridge(task, sequence_kernels.averages(table), most)
    found = {f"ridge on averages, {most:,} examples": beside}
    example = jnp.zeros((1, length, dim)), jnp.ones((1, length), bool)
    for at, (name, title) in enumerate(SKETCHED.items()):
        tower = TOWERS[name](hidden)
        first, second = jax.random.split(jax.random.key(at))
        both = {"tower": tower.init(first, *example), "table": jnp.asarray(table)}
        map_fn = ntk.features(
            second, _over_table(name, hidden), both, size, params_filter=_of_tower,
            method="structured",
        )  # fmt: skip
        found[f"ridge on the {title}'s kernel"] = ridge(task, map_fn, most)
    return found


@functools.cache
def _over_table(name: str, hidden: tuple[int, ...]) -> Callable[[Any, Any], Any]:
    """A tower as a function of its parameters beside a table, so that it compiles once for all."""
    tower = TOWERS[name](hidden)

    def f(both: Mapping[str, Any], items: Any) -> Any:
        over = sequence_kernels.over_embeddings(
            lambda params, histories: tower.apply(params, *histories), both["table"]
        )
        return over(both["tower"], items)

    return f


def _of_tower(path: tuple[Any, ...]) -> bool:
    return path[0] == "tower"


def ridge(task: Task, map_fn: Callable[[Any], Any], most: int | None = None) -> dict[str, Any]:
    """Outcome of the ridge ranker over features of sequences, on a sample of the examples."""
    train = task.train
    if most is not None:
        some = np.sort(np.random.default_rng(2).permutation(len(train.target))[:most])
        train = sequences.take(train, some)
    place, ranker = ridge_ranking.predict(
        map_fn, train, task.queries, num_items=task.known.num_items
    )
    return {**outcome(place, task.queries), "strength": ranker.strength}


def baselines(task: Task) -> dict[str, Any]:
    """Outcomes of the rankers without an embedding, by name; EASE on the most frequent items."""
    x, found = recommenders.session_matrix(task.known), {}
    for name, fn in recommenders.BASELINES.items():
        options = {"most": EASE_ITEMS} if fn is recommenders.ease else {}
        place = fn(x, task.queries, **options)
        found[name] = {**outcome(place, task.queries), "cold": place.cold}
    return found

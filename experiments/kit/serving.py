"""Recommenders as they would be served: made from what is known at a week, judged afterwards.

Known are the baskets up to the cut, without the last items of its last weeks. On those, held out,
predictions are made without training a recommender; then two towers are trained on each embedding,
and serve the weeks after the cut.
"""

import functools
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.kit import runner, shift
from experiments.kit.cells import Cells
from experiments.kit.grid import Grid, check_grid
from experiments.kit.next_items import asked, without_last
from experiments.kit.outcomes import values
from experiments.kit.sources import Source, common_classes
from experiments.kit.study import Setting
from kernlens import moments, probes, targets
from kernlens.kernels import sequence_kernels
from kernlens.metrics import ranking
from kernlens.models.towers import DenseLayers, DenseTower, TwoTowers
from kernlens.probes import recommenders, ridge_ranking
from kernlens.scores import SCORES
from kernlens.targets import sequences
from kernlens.targets.sequences import Histories, Past
from kernlens.train import pretrain, recommend, sampling
from kernlens.types import Interactions

TOP = 10
SCORED = ("published_class_cosine", "proposition1", "centred_alignment")
BLOCK = 1000


@dataclass(frozen=True)
class Config(Source, Grid):
    """The data, the grid of embeddings, the recommender and the cut."""

    cut: int = 40
    """The last week that is known."""
    held: int = 4
    """Last known weeks, whose baskets' last items are held out to predict on."""
    tower_epochs: int = 100
    """Most passes over the training examples; the loss on held-out users says when to stop."""
    targets: int = 1
    """Training targets of a basket, the latest ones."""
    length: int = 20
    """Most items of a history, the latest."""
    test: int = 10_000
    """Baskets that are ranked, before the cut and after it."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    draws: int = 2000
    """Bootstrap draws."""


TINY = {
    "windows": (2,), "negatives": (1, 3), "epochs": (1, 3), "dim": 8, "tower_epochs": 1,
    "length": 6, "test": 200, "min_class_count": 5, "draws": 100, "synthetic": 8000,
}  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    check_grid(config)
    runner.at_least(
        config, cut=1, held=1, tower_epochs=1, targets=1, length=1, test=2, min_class_count=2,
        draws=1,
    )  # fmt: skip


class Known(NamedTuple):
    """What may be known, and what comes.

    Attributes:
      everything: all baskets, shuffled inside; only its labels, and what is after, are to be used.
      known: baskets up to the cut without held-out items: all that is trained on.
      train: training examples of recommenders.
      before: held-out last items of the last known weeks.
      after: last items of baskets after the cut.
      week: of each basket of ``after``.
      protocol: what the candidates are, a name in ``ranking.PROTOCOLS``.
    """

    everything: Interactions
    known: Interactions
    train: Histories
    before: Histories
    after: Histories
    week: np.ndarray
    protocol: str

    def left_out(self, test: Histories) -> Past | None:
        """What is left out of examples that are asked under the protocol."""
        return ranking.PROTOCOLS[self.protocol](test).left_out


class Served(NamedTuple):
    """One embedding behind its recommender.

    Attributes:
      name: the setting's.
      seed: of pretraining.
      loss: of pretraining.
      embeddings: of all items.
      predicted: what was said of it before the cut, by name.
      queries: of the trained recommender's histories after the cut, ``[n, h]``.
      items: its item vectors, ``[m, h]``; inner products are scores, biases included.
      before: recall, NDCG and reciprocal rank of it before the cut, each ``[n]``.
      after: the same after it.
      top: its lists after the cut, ``[n, TOP]``.
      households: the recommender's queries of what each household bought last before the cut,
        ``[num_users, h]``.
    """

    name: str
    seed: int
    loss: float
    embeddings: np.ndarray
    predicted: dict[str, float]
    queries: np.ndarray
    items: np.ndarray
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    top: np.ndarray
    households: np.ndarray


@functools.cache
def adam() -> optax.GradientTransformation:
    """One value for all fits: another would compile each anew."""
    return optax.adam(3e-3)


def known(config: Config) -> Known:
    """Cuts the data.

    Raises:
      ValueError: as :func:`experiments.kit.shift.load`, or no week before the cut, or after it.
    """
    everything = sequences.shuffle_ties(shift.load(config), seed=0)
    week = everything.session_attributes["week"]
    shift.check_cut(config.cut, week, config.held)
    held = (week <= config.cut) & (week > config.cut - config.held)

    def last(mask: np.ndarray) -> tuple[Histories, np.ndarray]:
        rows = np.flatnonzero(mask[long])
        kept = np.sort(np.random.default_rng(0).permutation(rows)[: config.test])
        return sequences.take(every, kept), week[long][kept]

    # Of all baskets, so that a past reaches across the cut.
    every = sequences.leave_last_out(everything, length=config.length, targets=1, seed=None).test
    long = np.diff(everything.offsets) > 1
    after, weeks = last(week > config.cut)
    protocol, queries = asked(after)
    after, weeks = queries.histories, weeks[queries.asked]
    before = ranking.PROTOCOLS[protocol](last(held)[0]).histories
    past = sequences.sessions(without_last(everything, held), week <= config.cut)
    train = sequences.leave_last_out(
        past, length=config.length, targets=config.targets, seed=None
    ).train
    return Known(everything, past, train, before, after, weeks, protocol)


def served(config: Config, given: Known, cells: Cells) -> list[Served]:
    """Every embedding of the grid, computed once whichever experiment asks.

    Args:
      config: of the grid.
      given: of :func:`known`.
      cells: of the experiment; what is served is kept beside its folder.
    """
    own = runner.fingerprint(config, [field.name for field in fields(Config)])
    shared, found = cells.beside(cells.folder.parents[1] / "serving" / own), []
    for setting in config.settings():
        fit = functools.cache(functools.partial(_pretrained, config, given, setting))
        for seed in range(config.seeds):
            make = functools.partial(_serve, config, given, fit, seed)
            kept = shared.arrays(f"{setting.name} seed {seed}", make)
            found.append(_unpacked(setting.name, seed, kept))
    return found


def _pretrained(config: Config, given: Known, setting: Setting) -> pretrain.Fitted:
    return pretrain.contrastive(
        given.known, dim=config.dim, seeds=config.seeds, optimizer=adam(),
        noise=sampling.log_uniform(given.known.num_items), **setting._asdict(),
    )  # fmt: skip


def _serve(config: Config, given: Known, fit: Any, seed: int) -> dict[str, np.ndarray]:
    fitted = fit()
    z = fitted.embeddings[seed]
    predicted = predict(config, given, z) | {"pretraining loss": -float(fitted.final_loss[seed])}
    made = recommend.fit(
        given.train, z, TwoTowers(DenseTower((32, 16)), DenseLayers((32, 16))),
        epochs=config.tower_epochs, seeds=(seed,),
    )  # fmt: skip
    items = recommend.item_vectors(made, 0)
    found = {"z": z, "loss": np.asarray(fitted.final_loss[seed]), "items": items}
    for name, test in (("before", given.before), ("after", given.after)):
        queries = recommend.queries(made, test, 0)
        found[f"{name} queries"] = queries
        place = ranking.place_by_inner_product(
            queries, items, test.target, left_out=given.left_out(test)
        )
        found |= {f"{name} {key}": value for key, value in values(place).items()}
    found["top"] = top(found["after queries"], items, given.left_out(given.after))
    found["households"] = recommend.queries(made, households(given, config.length), 0)
    return found | {f"predicted {key}": np.asarray(value) for key, value in predicted.items()}


def _unpacked(name: str, seed: int, kept: dict[str, np.ndarray]) -> Served:
    def under(prefix: str, keys: Any = None) -> dict[str, np.ndarray]:
        cut = {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
        return {k: v for k, v in cut.items() if keys is None or k in keys}

    metrics = ("recall", "ndcg", "mrr")
    return Served(
        name=name, seed=seed, loss=float(kept["loss"]), embeddings=kept["z"],
        predicted={k: float(v) for k, v in under("predicted ").items()},
        queries=kept["after queries"], items=kept["items"],
        before=under("before ", metrics), after=under("after ", metrics), top=kept["top"],
        households=kept["households"],
    )  # fmt: skip


def households(given: Known, length: int) -> Histories:
    """The latest known items of each household, one row a household, empty where it has none."""
    past = given.known
    owner = np.repeat(past.users, np.diff(past.offsets))
    ends = np.cumsum(np.bincount(owner, minlength=past.num_users))
    starts = np.concatenate([[0], ends[:-1]])
    items = np.full((past.num_users, length), -1, np.int32)
    for user, (start, end) in enumerate(zip(starts, ends, strict=True)):
        some = past.items[max(start, end - length) : end]
        items[user, length - len(some) :] = some
    lengths = np.sum(items >= 0, axis=1).astype(np.int32)
    users = np.arange(past.num_users, dtype=np.int32)
    return Histories(items, lengths, np.full(len(items), -1, np.int32), users)


def predict(config: Config, given: Known, z: np.ndarray) -> dict[str, float]:
    """All that is said of an embedding before the cut, higher for better."""
    test, counts = given.before, given.known.counts
    num_items = given.known.num_items

    def recall(place: ranking.Place) -> float:
        return float(values(place)["recall"].mean())

    def by_product(queries: np.ndarray) -> float:
        place = ranking.place_by_inner_product(
            queries, z, test.target, left_out=given.left_out(test)
        )
        return recall(place)

    weights = sequence_kernels.discount(np.maximum(counts, 1), alpha=1e-3)
    place, _ = ridge_ranking.predict(
        sequence_kernels.averages(z),
        given.train,
        ranking.PROTOCOLS[given.protocol](test),
        num_items=num_items,
    )
    task = common_classes(given.everything, config, config.min_class_count)[1]
    rows = targets.labelled_rows(task)
    kept = task._replace(codes=task.codes[rows])
    found = {
        "ridge ranking": recall(place),
        "discounted average": by_product(
            np.asarray(sequence_kernels.average(z, test.items, weights))
        ),
        "last item": by_product(recommenders.last_item(z, test)),
        "discriminant probe": float(
            probes.discriminant(z[rows], kept, draws=20).metrics["macro_f1"].value
        ),
    }
    for name in SCORED:
        estimator = SCORES[name]
        summary = moments.from_arrays(
            estimator.features(jnp.asarray(z[rows])), jnp.asarray(kept.codes), len(kept.names)
        )
        found[name] = float(estimator.fn(summary).value)
    return found


def top(queries: np.ndarray, items: np.ndarray, left_out: Past | None) -> np.ndarray:
    """The ``TOP`` items of each query, best first, ``[n, TOP]``."""
    found = []
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        out = left_out and Past(left_out.items, left_out.start[rows], left_out.stop[rows])
        found.append(ranking.top(queries[rows] @ items.T, TOP, left_out=out))
    return np.concatenate(found)

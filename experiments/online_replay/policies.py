"""Policies of the replay: what choosers take, what they are held against, and how two compare."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.kit import serving
from experiments.online_replay import coupons, interleaving, propensity
from kernlens.kernels import sequence_kernels
from kernlens.metrics import ranking
from kernlens.probes import recommenders, ridge_ranking
from kernlens.scores import intervals

CHOOSERS = {
    "kernlens": "ridge ranking",
    "discounted average": "discounted average",
    "pretraining loss": "pretraining loss",
    "published score": "published_class_cosine",
}
"""What each chooser goes by."""

RANDOM, ORACLE, POPULARITY, UNTRAINED = "random", "oracle", "popularity", "kernlens' own ranker"
LAST = "last item"
METRICS = ("recall", "ndcg", "mrr")


class Replay(NamedTuple):
    """What policies are replayed on.

    Attributes:
      given: what was known, and the baskets after.
      log: the first simulated log of these baskets.
      drawn: their households, resampled.
      campaigns: those after, or none.
    """

    given: serving.Known
    log: propensity.Log
    drawn: propensity.Households
    campaigns: list[coupons.Campaign]


def popularity(given: serving.Known) -> serving.Served:
    """The policy that recommends what was bought most before the cut."""
    items = recommenders.popularity(given.known.counts)[:, None]
    after, known = (
        np.ones((n, 1), np.float32) for n in (len(given.after.target), given.known.num_users)
    )
    return _policy(given, POPULARITY, after, items, known)


def untrained(given: serving.Known, one: serving.Served) -> serving.Served:
    """The ridge ranker that predicts, itself served on the same embedding."""
    read = sequence_kernels.averages(one.embeddings)
    _, ranker = ridge_ranking.predict(
        read,
        given.train,
        ranking.PROTOCOLS[given.protocol](given.before),
        num_items=given.known.num_items,
    )
    past = serving.households(given, given.after.items.shape[1])
    after, known = (
        np.asarray(read(jnp.asarray(h.items))) - ranker.mean for h in (given.after, past)
    )
    # The bias is one more column, as in a trained recommender's vectors.
    queries, households = (
        np.pad(part, ((0, 0), (0, 1)), constant_values=1) for part in (after, known)
    )
    items = np.concatenate([ranker.vectors, ranker.bias[:, None]], axis=1)
    parts = (part.astype(np.float32) for part in (queries, items, households))
    return _policy(given, one.name, *parts)._replace(seed=one.seed)


def last_item(given: serving.Known, one: serving.Served) -> serving.Served:
    """The policy that recommends what is nearest, by inner product, to the last item."""
    z, past = one.embeddings, serving.households(given, given.after.items.shape[1])
    after, known = (recommenders.last_item(z, h) for h in (given.after, past))
    return _policy(given, one.name, after, z, known)._replace(seed=one.seed)


def _policy(
    given: serving.Known,
    name: str,
    queries: np.ndarray,
    items: np.ndarray,
    households: np.ndarray,
) -> serving.Served:
    test = given.after
    left_out = given.left_out(test)
    place = ranking.place_by_inner_product(queries, items, test.target, left_out=left_out)
    return serving.Served(
        name=name, seed=0, loss=0.0, embeddings=items, predicted={}, queries=queries, items=items,
        before={}, after=serving.values(place),
        top=serving.top(queries, items, left_out), households=households,
    )  # fmt: skip


def choose(own: list[serving.Served], chooser: str) -> serving.Served:
    """The embedding that a chooser takes among those of one pretraining run."""
    if chooser == ORACLE:
        return max(own, key=lambda one: one.after["recall"].mean())
    return max(own, key=lambda one: one.predicted[CHOOSERS[chooser]])


def taken(every: list[serving.Served], replay: Replay) -> dict[str, list[list[serving.Served]]]:
    """For each chooser and pretraining run, the policies that share its baskets evenly."""
    runs = [[one for one in every if one.seed == seed] for seed in sorted({o.seed for o in every})]
    popular = popularity(replay.given)
    found = {name: [[choose(own, name)] for own in runs] for name in (*CHOOSERS, ORACLE)}
    return {
        **found,
        RANDOM: runs,
        POPULARITY: [[popular]] * len(runs),
        LAST: [[last_item(replay.given, own[0])] for own in found["kernlens"]],
        UNTRAINED: [[untrained(replay.given, own[0])] for own in found["kernlens"]],
    }


def lines(every: list[serving.Served], replay: Replay) -> list[dict[str, Any]]:
    """What each chooser reaches, and kernlens' choice against it, pretraining runs laid together.

    Args:
      every: the policies to choose from.
      replay: what they are replayed on.
    """
    found = taken(every, replay)
    return [_line(name, found, replay) for name in found]


def _line(
    chooser: str, found: dict[str, list[list[serving.Served]]], replay: Replay
) -> dict[str, Any]:
    given, drawn, runs = replay.given, replay.drawn, found[chooser]
    after, ours = given.after, found["kernlens"]
    users = np.tile(after.user, len(runs))

    def laid(runs: list[list[serving.Served]], metric: str) -> np.ndarray:
        return np.concatenate([np.mean([o.after[metric] for o in own], axis=0) for own in runs])

    def less(rows: np.ndarray) -> dict[str, Any]:
        a, b = (laid(some, "recall")[rows] for some in (ours, runs))
        return intervals.mean_difference(a, b, users[rows])._asdict()

    def weekly(week: int) -> dict[str, float]:
        rows = given.week == week
        some = drawn._replace(owner=drawn.owner[rows])
        a, b = (np.mean(np.split(laid(r, "recall"), len(r)), axis=0)[rows] for r in (ours, runs))
        return propensity.ends(propensity.replayed(a, some) - propensity.replayed(b, some))

    everywhere = np.ones(len(users), bool)
    at = np.repeat(np.arange(len(runs)), len(after.user))
    line: dict[str, Any] = {
        "chooser": chooser,
        "chosen": [] if chooser in (RANDOM, POPULARITY) else [own[0].name for own in runs],
        **{name: intervals.mean_with_interval(laid(runs, name), users) for name in METRICS},
        "kernlens less it": less(everywhere),
        "by run": [less(at == i) for i in range(len(runs))],
        "by week": {str(week): weekly(week) for week in np.unique(given.week)},
        "interleaved": _interleaved(ours, runs, given),
        "lift": _lifts(runs, found[POPULARITY], replay),
    }
    if replay.campaigns:
        own, other = (_redeemed(some, replay.campaigns) for some in (ours, runs))
        line["coupons"] = intervals.mean_with_interval(*other)
        line["coupons, kernlens less it"] = intervals.mean_difference(own[0], *other)
    return line


def _interleaved(
    ours: list[list[serving.Served]], runs: list[list[serving.Served]], given: serving.Known
) -> dict[str, Any] | None:
    """Share of credits that kernlens' choice earns, with its interval over households."""
    won, users = [], []
    for i, (first, own) in enumerate(zip(ours, runs, strict=True)):
        for second in own:
            credit = interleaving.credits(first[0].top, second.top, given.after.target, seed=i)
            won.append(credit[credit != 0] > 0)
            users.append(given.after.user[credit != 0])
    credited, owners = np.concatenate(won).astype(float), np.concatenate(users)
    if len(np.unique(owners)) < 2:
        return None
    return {**intervals.mean_with_interval(credited, owners)._asdict(), "credits": len(credited)}


def hits(one: serving.Served, given: serving.Known) -> np.ndarray:
    """Whether a list holds what was bought: recall with ties as the list broke them, ``[n]``."""
    return (one.top == given.after.target[:, None]).any(axis=1).astype(float)


def _lifts(
    runs: list[list[serving.Served]], base: list[list[serving.Served]], replay: Replay
) -> dict[str, dict[str, float]]:
    """Recall over that of popularity, less 1: replayed, and by propensities from one log."""

    def mean(some: list[list[serving.Served]], of: Any) -> np.ndarray:
        return np.mean([np.mean([of(one) for one in own], axis=0) for own in some], axis=0)

    def true(one: serving.Served) -> np.ndarray:
        return propensity.replayed(hits(one, replay.given), replay.drawn)

    def estimated(one: serving.Served, name: str) -> np.ndarray:
        return propensity.recalls(replay.log, one.top, replay.drawn)[name]

    ways = {"replayed": true} | {
        name: functools.partial(estimated, name=name) for name in propensity.ESTIMATORS
    }
    base = base[:1]
    return {
        name: propensity.ends(propensity.lift(mean(runs, of), mean(base, of)))
        for name, of in ways.items()
    }


def _redeemed(
    runs: list[list[serving.Served]], campaigns: list[coupons.Campaign]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of redeemed coupons, runs laid together, and whose they are."""
    values, users = [], []
    for own in runs:
        found = [coupon_places(one, campaigns) for one in own]
        values.append(np.mean([one[0] for one in found], axis=0))
        users.append(found[0][1])
    return np.concatenate(values), np.concatenate(users)


def coupon_places(
    one: serving.Served, campaigns: list[coupons.Campaign]
) -> tuple[np.ndarray, np.ndarray]:
    """`coupons.places` of one policy, from what households had bought before the cut."""
    return coupons.places(
        campaigns,
        functools.partial(coupons.best, queries=one.households, items=one.items),
    )

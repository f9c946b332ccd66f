"""Claim 4, online: would choosing the embedding by kernel analysis have paid?

The paper's online test, replayed from logs. Every embedding of a grid is put behind the same
recommender (two dense towers), trained on Complete Journey's baskets up to week 40. Choosers, who
see those weeks alone and train no recommender, pick one embedding in each pretraining run: by
kernlens' closed-form ridge ranking, by the discounted average (proposition 2), by pretraining loss,
by the published class-cosine score, at random (the expectation), and the oracle, who knows the
outcome. Baskets of weeks 41 to 53 are replayed in order: given a basket's items in shuffled order,
the recommender ranks all others, and the one held out was bought.

Beside the outcome itself: team-draft interleaving of kernlens' choice with each other choice; lift
over popularity by inverse propensities, from a log that is simulated over the real baskets, since
the real one has no propensities; and, as a second outcome, whose coupons were redeemed in the
campaigns that began after week 40.

Verdict: holds if kernlens' choice has a higher recall@10 than the random choice and than the
published score's (90% intervals of the paired differences, over households, above 0) and at least
0.95 of the oracle's; in part if it is above the random choice; else it fails.
"""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import runner
from experiments.replay import coupons, interleaving, propensity
from experiments.robust_to_shift import interval
from experiments.shift import serving
from kernlens import ranking, report

CHOOSERS = {
    "kernlens": "ridge ranking",
    "discounted average": "discounted average",
    "pretraining loss": "pretraining loss",
    "published score": "published_class_cosine",
}
"""What each chooser goes by."""

RANDOM, ORACLE, POPULARITY = "random", "oracle", "popularity"
METRICS = ("recall", "ndcg", "mrr")
NEAR = 0.95


@dataclass(frozen=True)
class Config(serving.Config):
    """The grid, the recommender, the cut and the simulated log."""

    shown: int = 200
    """Items that the simulated log shows to each basket."""
    uniform: float = 0.2
    """Share of them drawn uniformly, the rest by popularity."""
    since: str = "2017-10-02"
    """Campaigns that begin on this day or later count; week 41 begins then."""


TINY = Config(**serving.TINY, shown=20)


def run(config: Config, cells: runner.Cells) -> list[dict[str, Any]]:
    """A row for each embedding, for popularity, and for each pretraining run's choices."""
    given = serving.known(config)
    every = serving.served(config, given, cells)
    after = given.after
    log = propensity.simulate(
        after.target, after.items, given.known.counts, shown=config.shown,
        uniform=config.uniform, seed=0,
    )  # fmt: skip
    campaigns, notes = ([], {}) if config.synthetic else coupons.read(given.known, config.since)
    popular = popularity(given)

    def outcomes(one: serving.Served) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: ranking.mean_with_interval(one.after[name], after.user) for name in METRICS
        }
        found["by week"] = {
            str(week): float(one.after["recall"][given.week == week].mean())
            for week in np.unique(given.week)
        }
        found["estimates"] = propensity.estimates(log, one.top, after.user, draws=200)
        found["lift"] = lift(log, one.top, popular.top, after.user)
        if campaigns:
            found["coupons"] = ranking.mean_with_interval(
                *coupons.places(campaigns, one.households, one.items, one.bias)
            )
        return found

    rows: list[dict[str, Any]] = [
        {
            "kind": "policy", "name": one.name, "seed": one.seed, "predicted": one.predicted,
            **cells(f"{one.name} seed {one.seed}: outcomes", functools.partial(outcomes, one)),
        }
        for one in [*every, popular]
    ]  # fmt: skip
    rows.append(
        {
            "kind": "choices",
            "coupons": notes,
            "share_hit": float(log.reward.mean()),
            **cells("choices", functools.partial(choices, every, popular, campaigns, given)),
        }
    )
    return rows


def popularity(given: serving.Known) -> serving.Served:
    """The policy that recommends what was bought most before the cut."""
    bias = ranking.popularity(given.known.counts).astype(np.float32)
    test = given.after
    nothing, items = (np.zeros((n, 1), np.float32) for n in (len(test.target), len(bias)))
    place = ranking.place_by_inner_product(
        nothing, items, test.target, bias=bias, excluded=test.items
    )
    return serving.Served(
        name=POPULARITY, seed=0, loss=0.0, embeddings=items, predicted={}, queries=nothing,
        items=items, bias=bias, before={}, after=serving.values(place),
        top=serving.top(nothing, items, bias, test.items),
        households=np.zeros((given.known.num_users, 1), np.float32),
    )  # fmt: skip


def lift(
    log: propensity.Log, top: np.ndarray, base: np.ndarray, users: np.ndarray
) -> dict[str, dict[str, float]]:
    """Estimated recall over that of popularity, less 1, with 90% intervals over users."""
    own, other = (propensity.resampled(log, one, users, draws=200) for one in (top, base))
    found = {}
    for name in own:
        share = own[name] / np.where(other[name] > 0, other[name], np.nan) - 1
        low, high = np.nanquantile(share[1:], (0.05, 0.95))
        found[name] = {"value": float(share[0]), "low": float(low), "high": float(high)}
    return found


def choose(own: list[serving.Served], chooser: str) -> serving.Served:
    """The embedding that a chooser takes among those of one pretraining run."""
    if chooser == ORACLE:
        return max(own, key=lambda one: one.after["recall"].mean())
    return max(own, key=lambda one: one.predicted[CHOOSERS[chooser]])


def choices(
    every: list[serving.Served],
    popular: serving.Served,
    campaigns: list[coupons.Campaign],
    given: serving.Known,
) -> dict[str, Any]:
    """What each chooser takes, and kernlens' choice against it, pretraining runs laid together."""
    seeds = sorted({one.seed for one in every})
    after, lines = given.after, []
    users = np.tile(after.user, len(seeds))

    def of(chooser: str, seed: int) -> list[serving.Served]:
        own = [one for one in every if one.seed == seed]
        if chooser == POPULARITY:
            return [popular]
        return own if chooser == RANDOM else [choose(own, chooser)]

    def laid(chooser: str, metric: str) -> np.ndarray:
        return np.concatenate(
            [np.mean([one.after[metric] for one in of(chooser, s)], axis=0) for s in seeds]
        )

    def redeemed(chooser: str) -> tuple[np.ndarray, np.ndarray]:
        found = [
            [
                coupons.places(campaigns, one.households, one.items, one.bias)
                for one in of(chooser, s)
            ]
            for s in seeds
        ]
        values = np.concatenate([np.mean([one[0] for one in own], axis=0) for own in found])
        return values, np.concatenate([own[0][1] for own in found])

    for chooser in (*CHOOSERS, RANDOM, ORACLE, POPULARITY):
        taken = [] if chooser in (RANDOM, POPULARITY) else [of(chooser, s)[0] for s in seeds]
        line: dict[str, Any] = {"chooser": chooser, "chosen": [one.name for one in taken]}
        for metric in METRICS:
            line[metric] = ranking.mean_with_interval(laid(chooser, metric), users)
        line["kernlens less it"] = ranking.mean_difference(
            laid("kernlens", "recall"), laid(chooser, "recall"), users
        )
        line["interleaved"] = interleaved(
            [(of("kernlens", s)[0], one, i) for i, s in enumerate(seeds) for one in of(chooser, s)],
            given,
        )
        if campaigns:
            line["coupons"] = ranking.mean_with_interval(*redeemed(chooser))
            own = redeemed("kernlens")
            line["coupons, kernlens less it"] = ranking.mean_difference(
                own[0], redeemed(chooser)[0], own[1]
            )
        lines.append(line)
    return {"lines": lines}


def interleaved(
    pairs: list[tuple[serving.Served, serving.Served, int]], given: serving.Known
) -> dict[str, Any] | None:
    """Share of credits that the first of each pair earns, with its interval over households."""
    won, users = [], []
    for first, second, seed in pairs:
        found = interleaving.credits(first.top, second.top, given.after.target, seed=seed)
        won.append(found[found != 0] > 0)
        users.append(given.after.user[found != 0])
    credited = np.concatenate(won).astype(float)
    owners = np.concatenate(users)
    if len(np.unique(owners)) < 2:
        return None
    return {**ranking.mean_with_interval(credited, owners)._asdict(), "credits": len(credited)}


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The choices, how good the propensity estimates are, and the verdict."""
    rows = report.to_json(rows)
    policies = [row for row in rows if row["kind"] == "policy"]
    lines = next(row for row in rows if row["kind"] == "choices")["lines"]
    estimated = {}
    for name in policies[0]["estimates"]:
        given = [(row["estimates"][name], row["recall"]["value"]) for row in policies]
        estimated[name] = {
            "error": float(np.mean([abs(one["value"] - true) for one, true in given])),
            "covered": float(np.mean([one["low"] <= true <= one["high"] for one, true in given])),
        }
    popular = next(row for row in policies if row["name"] == POPULARITY)["recall"]["value"]
    by = {(row["name"], row["seed"]): row for row in policies}
    for line in lines:
        taken = [by[name, seed] for seed, name in enumerate(line["chosen"])]
        line["lift"] = [
            {"replayed": row["recall"]["value"] / popular - 1, **row["lift"]["self-normalised"]}
            for row in taken
        ]
    return {"lines": lines, "estimated": estimated, "verdict": verdict(lines)}


def lifts(line: Mapping[str, Any]) -> str:
    """Lift of each run's choice over popularity as estimated, and as replayed."""
    return ", ".join(
        f"{one['value']:+.0%} [{one['low']:+.0%}, {one['high']:+.0%}] ({one['replayed']:+.0%})"
        for one in line["lift"]
    )


def verdict(lines: list[dict[str, Any]]) -> str:
    """As the module's docstring says."""
    by = {line["chooser"]: line for line in lines}

    def above(chooser: str) -> bool:
        return by[chooser]["kernlens less it"]["low"] > 0

    near = by["kernlens"]["recall"]["value"] >= NEAR * by[ORACLE]["recall"]["value"]
    if above(RANDOM) and above("published score") and near:
        return "holds"
    return "holds in part" if above(RANDOM) else "fails"


def show(results: Mapping[str, Any]) -> list[Any]:
    """Choosers, and the estimates."""
    found, column = results["summary"], report.Column
    columns = [
        column("chosen by", lambda line: line["chooser"], right=False),
        column("embeddings", lambda line: ", ".join(line["chosen"]) or "–", right=False),
        column("recall@10", lambda line: interval(line["recall"], 4)),
        column("kernlens less it", lambda line: interval(line["kernlens less it"], 4)),
        column("told apart", lambda line: _apart(line)),
        column("NDCG", lambda line: f"{line['ndcg']['value']:.4f}"),
        column("MRR", lambda line: f"{line['mrr']['value']:.4f}"),
        column("kernlens interleaved", lambda line: interval(line["interleaved"], 3)),
        column("lift by propensities (replayed)", lambda line: lifts(line) or "–"),
    ]
    if "coupons" in found["lines"][0]:
        columns += [
            column("coupons, AUC", lambda line: interval(line["coupons"], 3)),
            column("kernlens less it", lambda line: interval(line["coupons, kernlens less it"], 3)),
        ]
    told = "; ".join(
        f"{name}: mean error {one['error']:.4f}, 90% intervals hold the replayed value in "
        f"{one['covered']:.0%}"
        for name, one in found["estimated"].items()
    )
    return [report.table(found["lines"], columns, f"Weeks after the cut: {found['verdict']}"), told]


def _apart(line: Mapping[str, Any]) -> str:
    if line["chooser"] == "kernlens":
        return "–"
    return "yes" if line["kernlens less it"]["separated"] else "cannot be"


def draw(results: Mapping[str, Any]) -> Any:
    """Recall by week of the choices, and of every policy against its estimate."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    policies = [row for row in results["rows"] if row["kind"] == "policy"]
    lines = {line["chooser"]: line for line in results["summary"]["lines"]}
    made = Figure(figsize=(10, 4), layout="constrained", dpi=130)
    left, right = made.subplots(1, 2)
    own = [row for row in policies if row["name"] != POPULARITY]
    for row in own:
        weeks = sorted(row["by week"], key=int)
        left.plot(
            [int(w) for w in weeks], [row["by week"][w] for w in weeks], color="0.85", linewidth=0.8
        )
    shown = {"kernlens": "#1f5fa8", "published score": "#c8553d", ORACLE: "#4a7c59"}
    for chooser, colour in shown.items():
        taken = [
            row for row in own for seed, name in enumerate(lines[chooser]["chosen"])
            if (row["name"], row["seed"]) == (name, seed)
        ]  # fmt: skip
        weeks = sorted(taken[0]["by week"], key=int)
        means = [np.mean([row["by week"][w] for row in taken]) for w in weeks]
        left.plot(
            [int(w) for w in weeks], means, color=colour, marker="o", markersize=3, label=chooser,
            linestyle="--" if chooser == ORACLE else "-",
        )  # fmt: skip
    popular = next(row for row in policies if row["name"] == POPULARITY)
    weeks = sorted(popular["by week"], key=int)
    left.plot(
        [int(w) for w in weeks], [popular["by week"][w] for w in weeks], color="black",
        linewidth=1, label=POPULARITY,
    )  # fmt: skip
    left.set(xlabel="week", ylabel="recall@10", title="replayed; all embeddings in grey")
    left.legend(fontsize=8, frameon=False)
    name = "self-normalised"
    values = [row["estimates"][name] for row in policies]
    truth = [row["recall"]["value"] for row in policies]
    right.errorbar(
        truth, [one["value"] for one in values],
        yerr=[
            [one["value"] - one["low"] for one in values],
            [one["high"] - one["value"] for one in values],
        ],
        fmt="o", markersize=4, linewidth=1, color="#1f5fa8",
    )  # fmt: skip
    ends = [0, 1.1 * max(one["high"] for one in values)]
    right.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
    right.set(xlabel="replayed recall@10", ylabel="by inverse propensities", title="simulated log")
    for ax in (left, right):
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    return made


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))

"""Claim 4, online: would choosing the embedding by kernel analysis have paid?

The paper's online test, replayed from logs. Every embedding of a grid is put behind the same
recommender (two dense towers), trained on Complete Journey's baskets up to week 40. Choosers, who
see those weeks alone and train no recommender, pick one embedding in each pretraining run: by
kernlens' closed-form ridge ranking, by the discounted average (proposition 2), by pretraining loss,
by the published class-cosine score, at random (the expectation), and the oracle, who knows the
outcome. A sample of the baskets of weeks 41 to 53 is replayed in order: given a basket's items in
shuffled order, the recommender ranks all others, and the one held out was bought. (The catalogue
itself, items in 20 baskets or more and their numbers, is that of the whole year.) Beside the
choices stand popularity, what is nearest to the last item in the embedding that kernlens chose, and
kernlens' own ridge ranker served as it is, without training.

Beside the outcome itself: team-draft interleaving of kernlens' choice with each other choice; lift
over popularity by inverse propensities, from logs that are simulated over the real baskets, since
the real one has no propensities, set beside the replayed lift; and, as a second outcome, whose
coupons were redeemed in the campaigns that began after week 40.

Intervals are over households, given the pretraining runs and the trained recommenders; the
difference in each run stands beside. Two choices whose interval of the paired difference holds 0
cannot be told apart.

Verdict: holds if kernlens' choice has a higher recall@10 than the random choice and than the
published score's (90% intervals of the paired differences above 0) and at least 0.95 of the
oracle's; in part if it is above the random choice; fails if no part of the interval of that
difference lies above 0; else it is undecided.
"""

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.kit import runner, serving
from experiments.kit.cells import Cells
from experiments.kit.verdicts import also, exceeds, known
from experiments.online_replay import coupons, policies, propensity
from experiments.online_replay.policies import METRICS, ORACLE, POPULARITY, RANDOM
from experiments.online_replay.tables import claims as claims
from experiments.online_replay.tables import tables as tables
from kernlens.scores import intervals
from kernlens.show import report

NEAR = 0.95
DRAWN = 200


@dataclass(frozen=True)
class Config(serving.Config):
    """The grid, the recommender, the cut and the simulated logs."""

    shown: int = 200
    """Items that a simulated log shows to each basket, one by one."""
    uniform: float = 0.2
    """Share of them drawn uniformly, the rest by popularity."""
    logs: int = 10
    """Simulated logs, over which errors and coverage are counted."""
    since: str = "2017-10-02"
    """Campaigns that begin on this day or later count; week 41 begins then."""


TINY = Config(**serving.TINY, shown=20, logs=2)


def check(config: Config) -> None:
    """Refuses what would fail later, or do nothing.

    Raises:
      ValueError: names the option.
    """
    serving.check(config)
    runner.at_least(config, shown=1, logs=1)
    if not 0 < config.uniform <= 1:
        raise ValueError(f"--uniform must be in (0, 1]; got {config.uniform}")
    try:
        datetime.date.fromisoformat(config.since)
    except ValueError as error:
        raise ValueError(
            f"--since must be a day such as 2017-10-02; got {config.since!r}"
        ) from error
    if config.since != Config.since and (config.data != coupons.DATA or config.synthetic):
        raise ValueError(f"--since is of {coupons.DATA}'s coupons, which other data lack")


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each embedding, for popularity, for each chooser, and for coupons' baselines."""
    given = serving.known(config)
    every = serving.served(config, given, cells)
    popular, after = policies.popularity(given), given.after
    drawn = propensity.households(after.user, draws=DRAWN)
    campaigns, notes = [], {}
    if config.data == coupons.DATA and not config.synthetic:
        campaigns, notes = coupons.read(given.known, config.since, config.root)

    @functools.lru_cache(1)
    def log(seed: int) -> propensity.Log:
        return propensity.simulate(
            after.target, given.known.counts, shown=config.shown, uniform=config.uniform, seed=seed
        )

    def outcomes(one: serving.Served) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: intervals.mean_with_interval(one.after[name], after.user) for name in METRICS
        }
        found["by week"] = {
            str(week): float(one.after["recall"][given.week == week].mean())
            for week in np.unique(given.week)
        }
        found["hits"] = float(policies.hits(one, given).mean())
        if campaigns:
            found["coupons"] = intervals.mean_with_interval(*policies.coupon_places(one, campaigns))
        return found

    def estimates(seed: int) -> list[dict[str, Any]]:
        base = propensity.recalls(log(seed), popular.top, drawn)
        found = []
        for one in [*every, popular]:
            own = propensity.recalls(log(seed), one.top, drawn)
            found.append(
                {
                    name: {
                        "recall": propensity.ends(own[name]),
                        "lift": propensity.ends(propensity.lift(own[name], base[name])),
                    }
                    for name in own
                }
            )
        return found

    rows: list[dict[str, Any]] = [
        {
            "kind": "policy", "name": one.name, "seed": one.seed, "predicted": one.predicted,
            **cells(f"{one.name} seed {one.seed}: outcomes", functools.partial(outcomes, one)),
            "estimates": [],
        }
        for one in [*every, popular]
    ]  # fmt: skip
    for seed in range(config.logs):
        made = cells(f"log {seed}: estimates", functools.partial(estimates, seed))
        for row, found in zip(rows, made, strict=True):
            row["estimates"].append(found)
    replay = policies.Replay(given, log(0), drawn, campaigns)
    chosen = cells("choices", functools.partial(policies.lines, every, replay))
    rows += [{"kind": "choice", **line} for line in chosen]
    if campaigns:
        rows.append({"kind": "coupons", "notes": notes, **baselines(campaigns, given)})
    return rows


def baselines(campaigns: list[coupons.Campaign], given: serving.Known) -> dict[str, Any]:
    """Places of redeemed coupons by what is known without households."""
    scores = {
        "number of products": coupons.sizes,
        "purchases of its products": functools.partial(coupons.bought, counts=given.known.counts),
    }
    return {
        name: intervals.mean_with_interval(*coupons.places(campaigns, score))
        for name, score in scores.items()
    }


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The choices, how good the propensity estimates are, the coupons' baselines, the verdict."""
    rows = report.to_json(rows)
    lines = [row for row in rows if row["kind"] == "choice"]
    every = [row for row in rows if row["kind"] == "policy"]
    others = [row for row in every if row["name"] != POPULARITY]
    base = next(row for row in every if row["name"] == POPULARITY)
    found = {
        "lines": lines,
        "estimated": estimated(others, base["hits"]),
        "above popularity": float(
            np.mean([row["recall"]["value"] > base["recall"]["value"] for row in others])
        ),
        "verdict": verdict(lines),
    }
    told = [row for row in rows if row["kind"] == "coupons"]
    return {**found, "coupons": told[0]} if told else found


def estimated(every: list[dict[str, Any]], base: float) -> list[dict[str, Any]]:
    """Error, bias and coverage of estimates, over policies and logs.

    Args:
      every: rows of policies.
      base: share of hits that lifts are over.
    """
    found = []
    for name in propensity.ESTIMATORS:
        for quantity in ("recall", "lift"):
            pairs = []
            for row in every:
                true = row["hits"]
                if quantity == "lift":
                    true = true / base - 1 if base else np.nan
                pairs += [(one[name][quantity], true) for one in row["estimates"]]
            error = np.array([one["value"] - true for one, true in pairs], float)
            found.append(
                {
                    "estimator": name, "of": quantity,
                    "error": float(np.mean(np.abs(error))), "bias": float(np.mean(error)),
                    "covered": float(np.mean([o["low"] <= true <= o["high"] for o, true in pairs])),
                }
            )  # fmt: skip
    return found


def verdict(lines: list[dict[str, Any]]) -> str:
    """As the module's docstring says."""
    by = {line["chooser"]: line for line in lines}
    near = by["kernlens"]["recall"]["value"] >= NEAR * by[ORACLE]["recall"]["value"]
    random, published = (
        exceeds(by[chooser]["kernlens less it"]) for chooser in (RANDOM, "published score")
    )
    return also(random, published, known(near))


def lifts(line: Mapping[str, Any]) -> str:
    """Lift over popularity as estimated, self-normalised, and as replayed."""
    return f"{_lift(line['lift']['self-normalised'])} ({_lift(line['lift']['replayed'])})"


def _lift(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "–"
    return f"{found['value']:+.0%} [{found['low']:+.0%}, {found['high']:+.0%}]"


def draw(results: Mapping[str, Any]) -> Any:
    """Recall by week of the choices, and every policy's lift against its estimate."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    every = [row for row in results["rows"] if row["kind"] == "policy"]
    lines = {line["chooser"]: line for line in results["summary"]["lines"]}
    made = Figure(figsize=(10, 4), layout="constrained", dpi=130)
    left, right = made.subplots(1, 2)
    for row in every:
        _weekly(left, [row], color="0.85", linewidth=0.8)
    own = {(row["name"], row["seed"]): row for row in every}
    seeds = sorted({row["seed"] for row in every})
    for chooser, colour in (
        ("kernlens", "#1f5fa8"), ("published score", "#c8553d"), (ORACLE, "#4a7c59"),
    ):  # fmt: skip
        taken = [own[pair] for pair in zip(lines[chooser]["chosen"], seeds, strict=True)]
        dashed = "--" if chooser == ORACLE else "-"
        _weekly(left, taken, color=colour, marker="o", markersize=3, label=chooser, ls=dashed)
    _weekly(left, [own[POPULARITY, 0]], color="black", linewidth=1, label=POPULARITY)
    left.set(xlabel="week", ylabel="recall@10", title="replayed; trained policies in grey")
    left.set_ylim(bottom=0)
    left.legend(fontsize=8, frameon=False)
    base = own[POPULARITY, 0]["hits"]
    others = [row for row in every if row["name"] != POPULARITY]
    found = [row["estimates"][0]["self-normalised"]["recall"] for row in others]
    truth = [row["hits"] for row in others]
    value, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    right.errorbar(
        truth, value, yerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)], fmt="o",
        markersize=4, linewidth=1, color="#1f5fa8", label="a trained policy, one log",
    )  # fmt: skip
    ends = [0, 1.1 * max(high.max(), *truth)]
    right.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
    right.axvline(base, color="black", linewidth=0.8, linestyle=":", label=POPULARITY)
    right.set(
        xlabel="replayed recall@10", ylabel="by inverse propensities, self-normalised",
        title="simulated log",
    )  # fmt: skip
    right.legend(fontsize=8, frameon=False)
    for ax in (left, right):
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    return made


def _weekly(ax: Any, rows: list[Any], **style: Any) -> None:
    weeks = sorted(rows[0]["by week"], key=int)
    means = [np.mean([row["by week"][week] for row in rows]) for week in weeks]
    ax.plot([int(week) for week in weeks], means, **style)

r"""Claim 2, the inequality: does proposition 1 bound what the kernel classifier gets right?

Item2vec pretrained on weeks 1 to 40 in one half of the stores. The kernel classifier of proposition
1 is computed in closed form from items of one distribution and judged on items of another:

- in distribution: other items, drawn alike;
- held-out departments: items of departments that gave no training item (brand alone);
- later weeks: other items, weighted by purchases of weeks 41 to 53, trained by those up to 40;
- other stores: other items, weighted by purchases in the other half of the stores.

Tasks: department (as printed, :math:`k_Y = 1[y = y']`) and brand (:math:`k_Y = y y'`, for which the
proof works). Embeddings are read raw, with unit rows, and centred by the training mean.

Verdict: the claim holds if the printed inequality is never violated, at any judged :math:`\delta`
and on either side's expectations, and its left side ranks embeddings by accuracy as they come (raw)
in and out of distribution (Spearman's interval over settings above 0 everywhere); in part if it is
never violated where the expectations are those of the proof; else it fails. Judged are those
:math:`\delta` of the list that are at most 0.5: a statement with probability :math:`1 - \delta`
says nothing at :math:`\delta = 1`, where violations are counted and shown, not judged.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from experiments.kit import runner, shift, shown
from experiments.kit.cells import Cells
from experiments.kit.grid import Grid, check_grid
from experiments.kit.shown import Claim, data_of, table
from experiments.kit.sources import Source, classes, common_classes
from experiments.kit.study import Setting
from experiments.kit.verdicts import also, exceeds, known, together
from experiments.prop1_bound.inequality import bounds, sides
from kernlens import targets
from kernlens.metrics import agreement
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.train import pretrain, sampling
from kernlens.types import Interactions, Labels

IN = "in distribution"
DEPARTMENTS = "held-out departments"
BRAND = "brand"
FORMS = ("raw", "unit rows", "centred")
JUDGED = 0.5
"""Largest chance of failing with which the statement counts as one."""


@dataclass(frozen=True)
class Config(Source, Grid):
    """The grid and the distributions."""

    cut: int = 40
    """The last week that pretraining sees."""
    splits: int = 5
    """Splits of the items, and of the departments, into training and test."""
    deltas: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)
    """Chances at which the inequality is checked; those above 0.5 are not judged."""
    min_class_count: int = 50
    """Classes with fewer items are left out."""
    draws: int = 2000
    """Bootstrap draws over settings."""


TINY = Config(
    windows=(2,), negatives=(1, 3), epochs=(1, 3), dim=8, splits=2, min_class_count=5, draws=100,
    synthetic=8000,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    check_grid(config)
    runner.at_least(config, cut=1, splits=1, min_class_count=2, draws=1)
    if not config.deltas or not all(0 < delta <= 1 for delta in config.deltas):
        raise ValueError(f"--deltas must be in (0, 1], one at least; got {config.deltas}")
    if min(config.deltas) > JUDGED:
        raise ValueError(
            f"--deltas must hold one of at most {JUDGED:g}, those that are judged; got "
            f"{config.deltas}"
        )


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each setting, run, form, task and distribution: means over splits."""
    everything = shift.load(config)
    common_classes(everything, config, config.min_class_count)
    shift.check_cut(config.cut, everything.session_attributes["week"])
    cut = shift.parts(everything, cut=config.cut, seed=0)
    optimizer, rows = optax.adam(3e-3), []
    for setting in config.settings():
        make = functools.partial(cell, everything, cut, setting, config, optimizer)
        rows += cells(setting.name, make)
    return rows


def cell(
    everything: Interactions, cut: shift.Parts, setting: Setting, config: Config, optimizer: Any
) -> list[dict[str, Any]]:
    """All runs of one setting."""
    fitted = pretrain.contrastive(
        cut.known, dim=config.dim, seeds=config.seeds, optimizer=optimizer,
        noise=sampling.log_uniform(everything.num_items), **setting._asdict(),
    )  # fmt: skip
    main, _ = classes(everything, config)
    tasks = {
        name: targets.drop_rare(everything.labels[name], config.min_class_count)
        for name in (main, BRAND)
        if name in everything.labels
    }
    rows = []
    for seed, z in enumerate(fitted.embeddings):
        for task, given in tasks.items():
            for place, pairs in distributions(cut, given, tasks[main], config).items():
                if place == DEPARTMENTS and task == main:
                    continue
                for form in FORMS:
                    found = [
                        sides(formed(z, form, p), given.codes, p, q)._asdict() for p, q in pairs
                    ]
                    rows.append(
                        {
                            "name": setting.name, "seed": seed, "task": task, "place": place,
                            "form": form, "splits": found,
                            **{k: float(np.mean([one[k] for one in found])) for k in found[0]},
                        }
                    )  # fmt: skip
    return rows


def formed(z: np.ndarray, form: str, share: np.ndarray) -> np.ndarray:
    """Rows as they come, of norm 1, or less their mean under a distribution."""
    z = np.asarray(z, np.float64)
    if form == "unit rows":
        return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30)
    return z - share @ z if form == "centred" else z


def distributions(
    cut: shift.Parts, task: Labels, departments: Labels, config: Config
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Training and test distributions of items, a pair a split, by name."""
    labelled = task.codes >= 0
    # An item that pretraining never met has a vector of no meaning; it is left to the test side
    # where it is bought.
    known = labelled & (cut.known.counts > 0)
    away = "other stores" if "store" in cut.known.session_attributes else "other users"
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        name: [] for name in (IN, DEPARTMENTS, "later weeks", away)
    }
    for split in range(config.splits):
        rng = np.random.default_rng(split)
        held = rng.random(len(labelled)) < 0.2
        train, test = known & ~held, known & held
        found[IN].append((train / train.sum(), test / test.sum()))
        p = shift.shares(cut.known, train)
        found["later weeks"].append((p, shift.shares(cut.later, labelled & held)))
        found[away].append((p, shift.shares(cut.elsewhere, labelled & held)))
        names = rng.permutation(len(departments.names))
        left = np.isin(departments.codes, names[: len(names) // 2])
        train, test = (known & (departments.codes >= 0) & side for side in (~left, left))
        found[DEPARTMENTS].append((train / train.sum(), test / test.sum()))
    return found


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Violations, slack and order for each task, form and distribution."""
    lines = []
    for task, place, form in dict.fromkeys((r["task"], r["place"], r["form"]) for r in rows):
        mine = [r for r in rows if (r["task"], r["place"], r["form"]) == (task, place, form)]
        every = [one for r in mine for one in r["splits"]]
        measured = np.array([r["measured"] for r in mine])
        groups = np.array([r["name"] for r in mine])

        def ranked(key: str, mine=mine, measured=measured, groups=groups) -> Any:
            given = np.array([r[key] for r in mine])
            return agreement.agreement(given, measured, groups=groups, draws=config.draws).spearman

        lines.append(
            {
                "task": task, "place": place, "form": form,
                "measured": float(measured.mean()),
                "trivial": float(np.mean([r["trivial"] for r in mine])),
                "known": float(np.mean([r["known"] for r in mine])),
                "alignment": float(np.mean([r["alignment"] for r in mine])),
                "spread": float(max(one["spread"] for one in every)),
                "violated": {
                    f"{side}, {name}": violations(
                        every, side, name, [delta for delta in config.deltas if delta <= JUDGED]
                    )
                    for side in ("alignment", "known")
                    for name in bounds(0.0, JUDGED)
                },
                "violated_at": {
                    f"{delta:g}": violations(every, "alignment", "printed", [delta])
                    for delta in config.deltas
                },
                "bound": {f"{delta:g}": mean_bounds(every, delta) for delta in config.deltas},
                "order": ranked("known"),
                "order_on_test": ranked("alignment"),
            }
        )  # fmt: skip
    return {"lines": lines, "verdict": verdict(report.to_json(lines))}


def violations(
    splits: list[dict[str, float]], side: str, name: str, deltas: Sequence[float]
) -> float:
    """Share of splits in which a bound exceeds what was measured, at one chance at least."""
    return float(
        np.mean(
            [
                any(bounds(one[side], delta)[name] > one["measured"] + 1e-9 for delta in deltas)
                for one in splits
            ]
        )
    )


def mean_bounds(splits: list[dict[str, float]], delta: float) -> dict[str, float]:
    """Each bound at one chance, the mean over splits."""
    found = [bounds(one["alignment"], delta) for one in splits]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def verdict(lines: Sequence[Mapping[str, Any]]) -> str:
    """As the module's docstring says."""
    proof = all(line["violated"]["alignment, printed"] == 0 for line in lines)
    before = all(line["violated"]["known, printed"] == 0 for line in lines)
    order = together(exceeds(line["order"]) for line in lines if line["form"] == "raw")
    return also(known(proof), known(before), order)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Both sides of the inequality for embeddings as they come, by task and distribution."""
    first = next(iter(results["summary"]["lines"][0]["bound"]))
    rows = [
        {
            "classes, distribution": f"{line['task']}, {line['place']}",
            "1 - R": line["measured"],
            "majority": line["trivial"],
            "a": line["alignment"],
            f"√δ a, δ = {first}": line["bound"][first]["printed"],
            "a²": line["bound"][first]["Cauchy-Schwarz"],
            "violated, δ ≤ 0.5": line["violated"]["alignment, printed"],
            **{
                f"at δ = {delta}": share
                for delta, share in line["violated_at"].items()
                if float(delta) > JUDGED
            },
            "ρ of a, before": shown.interval(line["order"]),
        }
        for line in results["summary"]["lines"]
        if line["form"] == "raw"
    ]
    digits = dict.fromkeys(rows[0], ".3f") | {"ρ of a, before": ".2f"}
    return [table(rows, digits | {"violated, δ ≤ 0.5": ".0%", "at δ = 1": ".0%"})]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether the printed inequality holds."""
    lines = results["summary"]["lines"]
    raw = [line for line in lines if line["form"] == "raw"]
    violated = max(line["violated"]["alignment, printed"] for line in lines)
    first = next(iter(lines[0]["bound"]))
    measured = {
        "violated, δ ≤ 0.5": f"{violated:.0%}",
        **{
            f"at δ = {delta}, where it claims nothing": (
                f"{max(line['violated_at'][delta] for line in lines):.0%}"
            )
            for delta in lines[0]["violated_at"]
            if float(delta) > JUDGED
        },
        f"bound at δ = {first}, at most": max(line["bound"][first]["printed"] for line in raw),
        "1 - R, at least": min(line["measured"] for line in raw),
    }
    text = f"2. {data_of(results)}: proposition 1's inequality, in and out of distribution"
    return [Claim(text, measured, results["summary"]["verdict"])]


def draw(results: Mapping[str, Any]) -> Any:
    """The bound's left side against accuracy, a panel for each task and distribution."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    rows = results["rows"]
    places = list(dict.fromkeys(row["place"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    made = Figure(figsize=(3.6 * len(places), 3.2 * len(tasks)), layout="constrained", dpi=130)
    axes = made.subplots(len(tasks), len(places), squeeze=False)
    for line, task in zip(axes, tasks, strict=True):
        for ax, place in zip(line, places, strict=True):
            own = [row for row in rows if (row["task"], row["place"]) == (task, place)]
            if not own:
                ax.set_axis_off()
                continue
            for form, colour in zip(FORMS, ("#1f5fa8", "#c8553d", "#4a7c59"), strict=True):
                some = [row for row in own if row["form"] == form]
                ax.scatter(
                    [row["alignment"] for row in some], [row["measured"] for row in some], s=18,
                    color=colour, label=form,
                )  # fmt: skip
            ends = np.linspace(0, max(max(row["alignment"] for row in own), 1e-3), 50)
            ax.plot(ends, ends, color="0.4", linewidth=0.9, label="printed, δ = 1")
            ax.plot(ends, ends**2, color="0.4", linewidth=0.9, linestyle=":", label="a²")
            ax.axhline(own[0]["trivial"], color="0.75", linewidth=0.9, label="majority")
            ax.set(xlabel="a", ylabel="1 - R", ylim=(0, 1), title=f"{task}, {place}")
            ax.title.set_fontsize(10)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=7, frameon=False)
    return made

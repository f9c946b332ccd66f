"""Whether what kernlens predicts of a head comes true when the head is trained.

    python -m experiments.predicts_value --movielens FOLDER --fashion-mnist FOLDER

Some fifty embeddings of items, images and tables, four of them damaged in many ways too. On each,
nine heads are trained over many splits 80/20 (:mod:`experiments.predicts_value.heads`), and the
same heads are predicted by the library's verbs from one look at the rows. A prediction is right if
it gives the mean of the trainings in value, if its intervals hold single trainings and that mean,
and if the order and the differences of embeddings come out. Cross-validation, nearest neighbours
and every score stand beside it. The targets, what was tuned on what, and what is cut for time were
declared before the numbers (:mod:`experiments.predicts_value.settings`).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from experiments.kit import runner
from experiments.predicts_value import (
    contexts,
    costs,
    curves,
    large,
    orders,
    predictions,
    rankers,
    sets,
    trained,
)
from experiments.predicts_value.contexts import NATURAL, Context
from experiments.predicts_value.figure import draw
from experiments.predicts_value.rows import pairs, row
from experiments.predicts_value.settings import HEADS, TINY, Config
from experiments.predicts_value.summary import summarise
from experiments.predicts_value.tables import claims, tables

__all__ = ["TINY", "Config", "check", "claims", "draw", "run", "summarise", "tables"]


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: an option out of range, or an unknown set or head.
      FileNotFoundError: a folder or a file that is not there.
    """
    runner.at_least(
        config, rows=100, splits=1, slow_splits=1, light_splits=1, neighbour_splits=1,
        linear_splits=1, folds=2, samples=1, jobs=1,
    )  # fmt: skip
    for field, known in (("sets", sets.SETS), ("heads", HEADS)):
        unknown = [name for name in getattr(config, field) if name not in known]
        if unknown:
            raise ValueError(f"--{field} must be of {', '.join(known)}; got {', '.join(unknown)}")
    for field in ("movielens", "fashion_mnist", "peer"):
        path = getattr(config, field)
        if path is not None and not path.exists():
            flag = field.replace("_", "-")
            raise FileNotFoundError(f"--{flag}: {path} is not there")


def run(config: Config, cells: runner.Cells) -> dict[str, Any]:
    """Outcomes and predictions by context, rankers and pairs by set, curves, costs, large inputs.

    Each is kept by the fields that it depends on, so that a run of more sets or heads goes on from
    one of fewer.
    """
    kept = beside(cells, "outcomes", config, trained.FIELDS)
    told_by = beside(cells, "predictions", config, predictions.FIELDS)
    rows, by_set, learnt, timed = [], [], [], []
    for name in config.sets:
        given = sets.load(name, config, kept)
        if given is None:
            continue
        natural = contexts.natural(given)
        every = [*natural, *contexts.naive(given), *contexts.damaged(given, config)]
        outcomes = {one.title: trained.outcomes(one, config, kept) for one in every}
        told, compared = foretold(natural, config, told_by)
        for one in every[len(natural) :]:
            told |= foretold([one], config, told_by)[0]
        made = [row(one, outcomes[one.title], told[one.title]) for one in every]
        rows += made
        by_set.append(
            {
                "set": name,
                "tuned": given.tuned,
                "pairs": {
                    head: pairs(own, orders.truths(made, name, head))
                    for head, own in compared.items()
                },
                "rankers": told_by(
                    f"{name} | rankers | {rankers.VERSION}",
                    functools.partial(rankers.ranked, given, natural, config),
                ),
            }
        )
        learnt += curves.of_set(natural, config, told_by, kept)
        timed += costs.measured(natural, config, told_by) if config.costs else []
        # Each of its programs holds memory maps, of which a process may have some 65,000.
        jax.clear_caches()
    return {
        "contexts": rows,
        "sets": by_set,
        "curves": learnt,
        "costs": timed,
        "large": large.measured(told_by) if config.large else [],
    }


def beside(cells: runner.Cells, kind: str, config: Config, fields: Sequence[str]) -> runner.Cells:
    """Cells that depend on some fields alone."""
    return cells.beside(cells.folder.parent / f"{kind}-{runner.fingerprint(config, fields)}")


def foretold(
    some: Sequence[Context], config: Config, cells: runner.Cells
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predictions of contexts of the same rows, by title and head; and by head, their pairs."""
    told: dict[str, Any] = {one.title: {} for one in some}
    compared = {}
    for head in config.heads:
        if head not in trained.heads_of(some[0]) or predictions.asked(head, some[0]) is None:
            continue
        name = f"{some[0].set} | {some[0].damage} | {some[0].embedding} | {head}"
        found = cells(
            f"{name} | predictions {predictions.VERSION}",
            functools.partial(predictions.predicted, head, some, config),
        )
        for one in some:
            key = one.embedding if one.damage == NATURAL else one.damage
            told[one.title][head] = found["values"][key]
        if "pairs" in found:
            compared[head] = {key: found[key] for key in ("pairs", "best", "worse")}
    return told, compared

"""Trained outcomes, a cell for each embedding and head; no prediction enters them."""

import re
from collections.abc import Sequence
from typing import Any

from experiments.predicts_value import contexts, heads
from experiments.predicts_value.contexts import Context, Split
from experiments.predicts_value.settings import DAMAGED_HEADS, HEADS, Config

VERSIONS = {"logistic": 3}
"""Of the code that trains a head, 1 if not here: a change of what is trained counts it up."""

FIELDS = (
    "rows", "class_rows", "splits", "slow_splits", "light_splits", "neighbour_splits",
    "linear_splits", "folds", "seed",
)  # fmt: skip
"""Fields of a configuration that outcomes depend on, with the set and the head in a cell's name."""


def outcomes(context: Context, config: Config, cells: Any) -> dict[str, Any]:
    """Metrics of every head by split, ``{head: {"macro_f1": [...], "single": {...}, ...}}``."""
    wanted = [head for head in config.heads if head in heads_of(context)]
    found: dict[str, Any] = {}
    for head in wanted:
        if head == "logistic, C = 1" and "logistic" in wanted:
            continue
        found |= cells(
            f"{context.title} | {head} | {VERSIONS.get(head, 1)}",
            lambda head=head: train(head, context, config),
        )
    return found


def heads_of(context: Context) -> Sequence[str]:
    """The heads that a context is for: all of a natural embedding, the cheaper of a damaged one."""
    if context.damage == contexts.NAIVE:
        return HEADS[:1]
    return HEADS if context.damage == contexts.NATURAL else DAMAGED_HEADS


def train(head: str, context: Context, config: Config) -> dict[str, Any]:
    """Outcomes of one head; logistic regression gives those at all its choices of a penalty."""
    natural = context.damage == contexts.NATURAL
    count = config.splits_of(head, len(context.labelled), natural=natural)
    splits = contexts.splits(context, count)
    if width := re.fullmatch(r"MLP\((\d+)\)", head):
        return {head: listed(heads.mlp(int(width[1]), context, splits, config))}
    found = light("logistic" if head.startswith("logistic") else head, context, splits, config)
    return {name: listed([one[name] for one in found]) for name in found[0]}


def light(head: str, context: Context, splits: Sequence[Split], config: Config) -> list[Any]:
    """One head on every split, in processes of their own."""
    from joblib import Parallel, delayed

    return list(
        Parallel(n_jobs=config.jobs)(
            delayed(heads.light)(head, context, split, config) for split in splits
        )  # type: ignore[arg-type]
    )


def listed(found: Sequence[heads.Measured]) -> dict[str, Any]:
    """Metrics by name, a value a split, to six digits."""

    def digits(value: float) -> float:
        return float(f"{value:.6g}")

    def by_name(rows: Sequence[tuple[float, ...]]) -> dict[str, list[float]]:
        return {name: [digits(row[i]) for row in rows] for i, name in enumerate(heads.METRICS)}

    return {
        "judged": by_name([one.judged for one in found]),
        "single": by_name([one.single for one in found]),
        "chosen": [one.chosen for one in found],
    }

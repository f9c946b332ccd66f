"""Which score to trust: all of them, over embeddings, tasks, label budgets and trained heads.

Small sets of scikit-learn under noise, projection, padding, shift, whitening and coarse values, and
Complete Journey items under a grid of item2vec settings, some collapsed, and by their text (words,
GloVe, MiniLM). A ranker sees the labels of the budget, and all rows without theirs where it can use
them; a head is trained on the same labels and judged on all other rows. A ranker is as good as the
order it puts the embeddings of a task in, by Kendall's tau-b with their accuracies, and as the
accuracy that taking its first loses: its regret. Intervals are over embeddings, drawn with
replacement within each task. Beside the scores stand five-fold cross-validated logistic regression,
which costs as much as training, and what knows nothing of the task: dimension, compressed size,
norm, chance.
"""

import functools
from typing import Any

import numpy as np

from experiments.kit.cells import Cells
from experiments.score_tournament import heads, rankers, sets
from experiments.score_tournament.figure import draw
from experiments.score_tournament.settings import ITEMS, TEXT_TASK, TINY, Config
from experiments.score_tournament.summary import summarise
from experiments.score_tournament.tables import tables as tables
from kernlens.models import text

__all__ = ["TINY", "Config", "check", "draw", "run", "summarise", "tables"]

DIGITS = 6
"""Significant digits kept of a number."""


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ImportError: a package with an encoder's weights is missing.
    """
    if TEXT_TASK in config.tasks:
        text.minilm_folder()
        text.glove(["a word"])


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each task, label budget and split; its lists go over the embeddings."""
    rows = []
    for name in config.tasks:
        task = sets.item_set(name, config, cells) if name in ITEMS else sets.small_set(name, config)
        most = round(config.share * len(task.codes))
        blind = cells(
            f"{name}: rankers without labels", functools.partial(judge_blind, task, config)
        )
        for budget in config.budgets:
            size = budget or most
            if size > most or (budget and size == most):
                cells.tell(f"{name}: {size} labels are not to be had of {len(task.codes)} rows")
                continue
            for split in range(config.splits):
                order = sets.order(task.codes, np.random.default_rng([config.seed, split]))
                title = f"{name}, {size} labels, split {split}"
                outcomes = cells(
                    f"{title}: heads", functools.partial(train, task, order[:size], config)
                )
                ranked = cells(
                    f"{title}: rankers", functools.partial(judge, task, order[:size], config)
                )
                more = config.forecast * size
                foretold = {}
                if budget and more <= most:
                    foretold = cells(
                        f"{title}: forecasts of ridge",
                        functools.partial(foretell, task, order, size, more),
                    )
                rows.append(
                    {
                        "task": name,
                        "family": task.family,
                        "budget": budget,
                        "labels": size,
                        "held_out": len(task.codes) - size,
                        "split": split,
                        "embeddings": list(task.embeddings),
                        "outcomes": outcomes,
                        **{key: blind[key] | ranked[key] for key in blind},
                        "forecast": foretold,
                    }
                )
    return rows


def train(task: sets.Set, labelled: np.ndarray, config: Config) -> dict[str, list[float]]:
    """Held-out accuracy of every head on every embedding."""
    from joblib import Parallel, delayed

    found: Any = Parallel(n_jobs=config.jobs)(
        delayed(heads.accuracy)(head, x, task.codes, labelled)
        for head in config.heads
        for x in task.embeddings.values()
    )
    each = iter([rounded(value) for value in found])
    return {head: [next(each) for _ in task.embeddings] for head in config.heads}


def judge_blind(task: sets.Set, config: Config) -> dict[str, dict[str, Any]]:
    """What the rankers that read no labels say of every embedding."""
    return gathered(
        [
            rankers.rank_blind(x, (config.seed, i), config, i < config.clocked)
            for i, x in enumerate(task.embeddings.values())
        ]
    )


def judge(task: sets.Set, labelled: np.ndarray, config: Config) -> dict[str, dict[str, Any]]:
    """What the others say of every embedding."""
    warm(task, labelled)
    return gathered(
        [
            rankers.rank(x, task.codes, labelled, config, i < config.clocked)
            for i, x in enumerate(task.embeddings.values())
        ]
    )


def gathered(found: list[dict[str, rankers.Ranked]]) -> dict[str, dict[str, Any]]:
    """Values of every ranker, median seconds over the embeddings timed, most of compilation."""
    return {
        "scores": {name: [rounded(one[name].value) for one in found] for name in found[0]},
        "seconds": {
            name: rounded(float(np.nanmedian([one[name].seconds for one in found])))
            for name in found[0]
        },
        "compiling": {
            name: rounded(float(np.nanmax([one[name].compiling for one in found])))
            for name in found[0]
        },
    }


def warm(task: sets.Set, labelled: np.ndarray) -> None:
    """Cross-validates once, so that no import is timed."""
    x = next(iter(task.embeddings.values()))
    heads.cross_validated(x[labelled], task.codes[labelled])


def foretell(
    task: sets.Set, order: np.ndarray, size: int, more: int
) -> dict[str, list[float] | int]:
    """Squared error of ridge at ``more`` labels: measured, foretold from ``size``, and by LOO."""
    measured, told = [], []
    for x in task.embeddings.values():
        measured.append(heads.ridge_error(x, task.codes, order[:more]))
        told.append(rankers.forecast(x, task.codes, order[:size], more))
    return {
        "labels": more,
        "measured": [rounded(value) for value in measured],
        "foretold": [rounded(one.error) for one in told],
        "anchored": [rounded(one.anchored) for one in told],
        "leave_one_out": [rounded(one.leave_one_out) for one in told],
        "seconds": [rounded(one.seconds) for one in told],
    }


def rounded(value: float) -> float:
    """The value to as many digits as it has a use for."""
    return float(f"{value:.{DIGITS}g}")

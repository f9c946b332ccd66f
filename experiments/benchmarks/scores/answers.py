"""From stored moments to a score of something else, edit and score together."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.machine import timed
from experiments.benchmarks.scores.settings import Config, Gate, class_rows, line, median
from kernlens import moments
from kernlens.moments import Moments
from kernlens.scores import SCORES, Score

ANSWER = Gate("≤", 50.0)


def answers(config: Config) -> list[dict[str, Any]]:
    """Milliseconds of each edit and score."""
    n, dim, count, m = config.stored_rows, config.stored_dim, config.classes, config.changed
    x, codes = class_rows(n + m, 2 * dim, count)
    first, second = (np.ascontiguousarray(a) for a in (x[:n, :dim], x[:n, dim:]))
    new, old = np.ascontiguousarray(x[n:, :dim]), codes[:n]
    after = (old + 1) % count

    def stored(rows: np.ndarray, targets: np.ndarray | None = None, **more: Any) -> Moments:
        return moments.from_arrays(rows, old, count, targets, **more)

    def beside(width: int) -> Callable[[], Moments]:
        """Two embeddings of so many dimensions each, and what is stored of them."""
        a, b = stored(first[:, :width], second[:, :width]), stored(second[:, :width])
        return lambda: moments.concatenate(moments.drop_targets(a), b, a.cross)

    whole = stored(first, fourths=True)
    some = np.sort(np.random.default_rng(2).permutation(dim)[: dim // 2])
    edits: dict[str, Callable[[], Moments]] = {
        f"{len(some)} of {dim} dimensions": lambda: moments.select(whole, some),
        f"labels of {m:,} of {n:,} rows changed": lambda: moments.relabel(
            whole, first[:m], old[:m], after[:m]
        ),
        f"{m:,} rows appended": lambda: moments.update(whole, new, codes[n:]),
        **{f"{p} and {p} dimensions concatenated": beside(p) for p in config.concatenated},
    }
    lines = [
        answer(f"{what}, then {score}", edit, score, config, ANSWER)
        for what, edit in edits.items()
        for score in config.read
    ]
    score = config.read[-1]
    again = answer(
        f"labels of all {n:,} rows changed, a pass over them, then {score}",
        lambda: moments.with_labels(whole, first, after, count),
        score,
        config,
    )
    return [*lines, again]


def answer(
    what: str, edit: Callable[[], Moments], score: str, config: Config, gate: Gate | None = None
) -> dict[str, Any]:
    """Times an edit and a score of what it gives."""

    def asked() -> Score:
        return SCORES[score].fn(edit())

    timed(asked)  # compiles
    seconds = [timed(asked)[1] for _ in range(5 * config.repeats)]
    return line("answers", what, 1e3 * median(seconds), "ms", gate, seconds=seconds)

"""What predictions cost beside what they spare, on one core.

A process of its own that has one core: threads that wait for each other would count otherwise, and
scikit-learn's solver has one. What is compiled is compiled before the clock starts.
"""

import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.predicts_value import contexts, heads, predictions, rankers
from experiments.predicts_value.contexts import Context
from experiments.predicts_value.settings import Config

VERSION = 1

CLOCKED = 1
"""Embeddings of a set, the first so many."""

ENOUGH = 1000
"""Rows of a set from which on it is timed."""

TRAININGS = 20
"""Trainings that a prediction spares."""

FEW = 3
"""Trainings of logistic regression that are timed, of which none is quicker than another."""

ON_ONE_CORE = """\
import os, runpy, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=False)
"""


def measured(natural: Sequence[Context], config: Config, cells: Any) -> list[dict[str, Any]]:
    """Processor seconds of the first embeddings of a set, a row for each.

    Returns:
      ``set``, ``embedding``, ``tuned``, ``rows``, ``columns``, and seconds by what was done:
      ``logistic`` and ``MLP(32)`` predicted, ``cv``, and 20 trainings of each.
    """
    some = [one for one in natural if len(one.labelled) >= ENOUGH][:CLOCKED]
    return [
        {
            "set": one.set, "embedding": one.embedding, "tuned": one.tuned,
            "rows": len(one.labelled), "columns": one.x.shape[1],
            **cells(
                f"{one.title} | costs {VERSION}", functools.partial(in_a_process, one, config.seed)
            ),
        }
        for one in some
    ]  # fmt: skip


def in_a_process(context: Context, seed: int) -> dict[str, float]:
    """Seconds of one embedding, by a process that has one core."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, x=context.x, codes=context.codes, labelled=context.labelled, seed=seed)
        done = subprocess.run(
            [sys.executable, "-c", ON_ONE_CORE, __name__, str(path)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def clocked(context: Context, config: Config) -> dict[str, float]:
    """Processor seconds of predictions, of cross-validation and of trainings."""
    splits = contexts.splits(context, TRAININGS)
    found = {
        head: again(predictions.asker(head, context, config)) for head in ("logistic", "MLP(32)")
    }
    found["cv"] = rankers.cross_validated(context)["seconds"]
    linear = [heads.light("logistic", context, split, config) for split in splits[:FEW]]
    found["trained logistic"] = TRAININGS * float(
        np.mean([one["logistic"].seconds for one in linear])
    )
    found["trained MLP(32)"] = again(lambda: heads.mlp(32, context, splits, config))
    return {name: float(f"{seconds:.4g}") for name, seconds in found.items()}


def again(made: Callable[[], Any]) -> float:
    """Seconds of the second call."""
    made()
    start = time.process_time()
    made()
    return time.process_time() - start


def main(path: str) -> None:
    """Prints the seconds of the rows in a file."""
    with np.load(path) as kept:
        x, codes, labelled, seed = (kept[name] for name in ("x", "codes", "labelled", "seed"))
    context = Context(
        "", "", contexts.NATURAL, False, x, codes, labelled, contexts.groups(x, codes)
    )
    print(json.dumps(clocked(context, Config(seed=int(seed)))))


if __name__ == "__main__":
    main(sys.argv[2])

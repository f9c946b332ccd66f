"""Learning curves: what is foretold from few labels of what heads reach with more."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.predicts_value import contexts, predictions, trained
from experiments.predicts_value.contexts import Context
from experiments.predicts_value.settings import Config
from kernlens import probes

TIMES = (4, 16)
"""Labels to foretell, in those given."""

LEAST = 1600
"""Rows of a set from which on there are curves: a sixteenth of them is 100."""

VERSION = 1
"""Of curves: a change of the library's gives it another number."""


def of_set(natural: Sequence[Context], config: Config, cells: Any) -> list[dict[str, Any]]:
    """A row for each embedding of a large set, metric and size of the sample."""
    found = []
    for context in natural:
        if len(context.labelled) < LEAST or "logistic" not in config.heads:
            continue
        found += cells(
            f"{context.title} | curves {VERSION}",
            functools.partial(foretold, context, config),
        )
    return found

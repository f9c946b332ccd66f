"""Data sets: files of their owners to `Interactions`."""

import inspect
from pathlib import Path
from typing import Any

from kernlens.datasets import (
    amazon,
    complete_journey,
    events,
    instacart,
    movielens,
    online_retail,
    recbole,
    synthetic,
)
from kernlens.datasets.table import histories
from kernlens.types import Interactions

DATASETS = {
    "complete_journey": complete_journey.load,
    "movielens": movielens.load,
    "recbole": recbole.load,
    "instacart": instacart.load,
    "amazon": amazon.load,
    "online_retail": online_retail.load,
    "table": events.load,
    "synthetic": synthetic.load,
}

__all__ = [
    "DATASETS",
    "histories",
    "load",
    "synthetic",
]


def load(name: str, /, root: str | Path | None = None, **options: Any) -> Interactions:
    """Interactions of a named data set.

    Args:
      name: a name of the table ``DATASETS``; by position, for a loader may have a ``name`` too.
      root: folder with the files that the owner publishes; for ``table``, a file of events;
        ``complete_journey`` has an installed default and ``synthetic`` needs none.
      **options: those of the loader, such as ``min_count`` and ``seed``; see its docstring.

    Returns:
      Interactions.

    Raises:
      ValueError: an unknown name or option; lists the choices. And what the loader raises for
        files that are not as expected.
      FileNotFoundError: a missing file or folder.
      ImportError: a missing optional package; names the extra to install.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set {name!r}; choose one of {', '.join(DATASETS)}")
    loader = DATASETS[name]
    known = [
        parameter.name
        for parameter in inspect.signature(loader).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; its options: {', '.join(known)}")
    return loader(root, **options)

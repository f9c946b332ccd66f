"""Committed results: where they stand, what they are called, and the experiment behind them.

Each experiment keeps its own: ``experiments/prop1_bound/results`` holds ``prop1_bound``, and
``experiments/prop1_bound/results/movielens`` holds ``prop1_bound/movielens``.
"""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

HOME = Path(__file__).parents[1]
RESULTS = "results"


def folders(home: Path | None = None) -> dict[str, Path]:
    """Folders with committed results, by name and in its order.

    Args:
      home: folder of the experiments; the one that this file is in by default.
    """
    home = home or HOME
    found = [path.parent for path in home.glob(f"**/{RESULTS}/**/results.json")]
    named = {_name(folder.relative_to(home)): folder for folder in found}
    return {name: named[name] for name in sorted(named)}


def read(name: str) -> dict[str, Any]:
    """Committed results.

    Raises:
      ValueError: there are none of that name.
    """
    found = folders()
    if name not in found:
        raise ValueError(f"no results {name}; there are {', '.join(found)}")
    return json.loads((found[name] / "results.json").read_text())


def name_of(results: Mapping[str, Any]) -> str:
    """Name of the experiment that wrote a results file, as its command has it.

    Raises:
      ValueError: the command runs no experiment.
    """
    named = re.match(r"python -m experiments\.([\w.]+)", results["command"])
    if named is None:
        raise ValueError(f"no experiment in the command {results['command']!r}")
    return named[1]


def experiment(name: str) -> ModuleType:
    """An experiment by its name, such as ``prop1_bound`` or ``benchmarks.ntk``."""
    return importlib.import_module(f"experiments.{name}.experiment")


def experiment_of(results: Mapping[str, Any]) -> ModuleType:
    """The experiment that wrote a results file; raises as :func:`name_of`."""
    return experiment(name_of(results))


def name_in_command(module: ModuleType) -> str:
    """Name of an experiment: its folder; of a script elsewhere, its file."""
    path = Path(str(module.__file__)).with_suffix("")
    return ".".join(path.relative_to(HOME).parts[:-1]) if path.is_relative_to(HOME) else path.stem


def home_of(name: str) -> Path:
    """Folder for the results of an experiment's default configuration."""
    return HOME.joinpath(*name.split("."), RESULTS)


def _name(folder: Path) -> str:
    return "/".join(part for part in folder.parts if part != RESULTS)

"""Key numbers of every experiment's tiny version, which tests hold later code to.

    python -m experiments.kit.tiny
    python -m experiments.kit.tiny prop2_sequence_average head_mismatch

Runs the tiny versions in a folder of their own and writes ``tests/golden/tiny/<experiment>.json``.
The numbers at one place of all rows, or of the summary, become three: how many there are, their
mean, and their mean weighted by position, which changes with their order. What depends on the
machine's speed or memory is left out. Written with jax 0.10, they hold with 0.11 to `TOLERANCE`.
"""

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from experiments.kit import committed, runner
from experiments.kit.committed import name_of
from experiments.kit.summaries import leaves
from kernlens.show import report

GOLDEN = committed.HOME.parent / "tests" / "golden" / "tiny"
TOLERANCE = {"rtol": 0.01, "atol": 0.001}
DIGITS = 6
"""Significant digits kept of a mean."""
LARGEST = 1e4
"""What counts for anything larger: how far something has diverged, rounding decides."""
INDEX = re.compile(r"\[\d+\]")

CLOCKED = re.compile(
    r"seconds|compiling|\bcost|cheap|gates|\bratio|lowest_ratio|\.rate\b|gflops|bytes|memory"
    r"|versions|platform|over_best|best_single|\.default\b|\.time\b"
)
"""Places whose values depend on the machine."""

MEASURED = {
    "benchmarks.ntk_structures": re.compile(r"\.high|\.low|\.passed"),
    "benchmarks.scores": re.compile(r"\.measured|\.passed|against"),
    # Of 72 items one that lies between two classes is an answer of the last digit.
    "lens_stability": re.compile(r"MLP\(32\)"),
}
"""The same, in one experiment."""


def key_numbers(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What the rows and the summary of a results file come to.

    Returns:
      By place, its indices left out: ``[count, mean, weighted mean]`` of numbers, where None and
      words do not count; ``[count, *words]`` where there are words alone, each once.
    """
    name = name_of(results)
    found: dict[str, list[Any]] = {}
    for part in ("rows", "summary"):
        for place, value in leaves(results[part]):
            key = f"{part}.{re.sub(INDEX, '', place).lstrip('.')}"
            if not CLOCKED.search(key) and not (name in MEASURED and MEASURED[name].search(key)):
                found.setdefault(key, []).append(value)
    return {key: _told(values) for key, values in sorted(found.items())}


def _told(values: Sequence[Any]) -> list[Any]:
    numbers = np.array(
        [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)], float
    )
    if not numbers.size:
        return [len(values), *sorted({str(value) for value in values})]
    numbers = np.clip(numbers, -LARGEST, LARGEST)
    weighted = np.average(numbers, weights=np.arange(1, len(numbers) + 1))
    return [len(numbers), *(float(f"{v:.{DIGITS}g}") for v in (numbers.mean(), weighted))]


def run(experiment: ModuleType, folder: Path) -> Any:
    """Results of an experiment's tiny version, its files written to a folder."""
    options = runner.Options(tiny=True, out=folder / "out", cells=folder / "cells")
    return runner.results(experiment, experiment.TINY, options, report.console())


def experiments() -> list[str]:
    """Names of all experiments that have committed results."""
    return sorted({name_of(committed.read(name)) for name in committed.folders()})


def main(names: Sequence[str]) -> int:
    """Command line: names of experiments, all by default."""
    there = experiments()
    unknown = [name for name in names if name not in there]
    if unknown:
        print(
            f"error: no experiment {', '.join(unknown)}; there are {', '.join(there)}",
            file=sys.stderr,
        )
        return 1
    for name in names or there:
        experiment = committed.experiment(name)
        with tempfile.TemporaryDirectory() as folder:
            write(GOLDEN / f"{name}.json", key_numbers(run(experiment, Path(folder))))
    return 0


def write(path: Path, found: Mapping[str, list[Any]]) -> None:
    """Writes key numbers as JSON, a place a line."""
    lines = [
        f" {json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in found.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

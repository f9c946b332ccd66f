"""Tangent kernels of models as libraries write them, against the same models written plainly.

    python -m experiments.benchmarks.ntk_structures

Both forms of a structure have the same kernel. They are timed in turn in one process, compiled
before, and the median of the ratios of each pair of runs is judged, in processor time: what differs
from run to run on a busy machine meets both. ``--before FOLDER`` names a checkout of an earlier
kernlens; its time for the second form is measured by the same lines, at ``before_n`` rows, as is
this one's.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.ntk_structures.structures import STRUCTURES
from experiments.kit.cells import Cells
from experiments.kit.runner import at_least
from experiments.kit.shown import MET, number, table
from kernlens.show.table import Table

SCRIPT = Path(__file__).with_name("structures.py")
ROOT = Path(__file__).parents[3]
DIFFERENCE = 1e-4
"""Most by which the two kernels may differ, over the largest entry, in float32."""


@dataclass(frozen=True)
class Config:
    """What is measured."""

    structures: tuple[str, ...] = tuple(STRUCTURES)
    """Structures, by name."""
    n: int = 512
    """Rows at which ratios are judged, where dispatch does not count."""
    width: int = 256
    """Features of an example."""
    repeats: int = 7
    """Timed runs of each form."""
    before: Path | None = None
    """Checkout of an earlier kernlens; none to leave it out."""
    before_n: int = 64
    """Rows at which the earlier one is timed, which may be some hundred times slower."""


TINY = Config(structures=("loop", "joined"), n=8, width=8, repeats=2)


def check(config: Config) -> None:
    """Refuses unknown structures, sizes that are none, and a checkout that is not there."""
    at_least(config, n=1, width=4, repeats=1, before_n=1)
    unknown = set(config.structures) - set(STRUCTURES)
    if unknown:
        known = ", ".join(map(repr, STRUCTURES))
        raise ValueError(f"no structure {', '.join(map(repr, unknown))}; there are {known}")
    if config.before is not None and not (config.before / "kernlens").is_dir():
        raise ValueError(f"--before {config.before}: expected a checkout with a folder kernlens")


def launch(root: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Measures in a process of its own, by the kernlens of a checkout.

    Raises:
      ValueError: the process failed; its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, str(SCRIPT), json.dumps({**spec, "out": str(out)})]
        environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not out.exists():
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ValueError(f"{spec['name']}: {said[:300]}")
        return json.loads(out.read_text())


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each structure."""
    rows = []
    for name in config.structures:
        spec = {"name": name, "width": config.width, "repeats": config.repeats}
        both = {**spec, "n": config.n, "forms": ["plain", "written"]}
        row = {"structure": name, **cells(name, lambda both=both: launch(ROOT, both))}
        if config.before is not None:
            alone = {**spec, "n": config.before_n, "forms": ["written"]}
            for when, root in (("before", config.before), ("after", ROOT)):
                label = f"{name}, {when}"
                found = cells(label, lambda root=root, alone=alone: launch(root, alone))
                row[when] = found["milliseconds"]["written"]
        rows.append(row)
        cells.tell(f"{name}: {median(row, 'plain'):.1f} ms and {median(row, 'written'):.1f} ms")
    return rows


def median(row: Mapping[str, Any], form: str) -> float:
    """Median milliseconds of a form."""
    return float(np.median(row["milliseconds"][form]))


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios of the two forms, with their quartiles, and whether each is reached."""
    lines = []
    for row in rows:
        wall, processor = (
            np.divide(row[clock]["written"], row[clock]["plain"])
            for clock in ("milliseconds", "processor_milliseconds")
        )
        low, ratio, high = (float(q) for q in np.quantile(processor, (0.25, 0.5, 0.75)))
        most = STRUCTURES[row["structure"]].most
        lines.append(
            {
                "structure": row["structure"],
                "ratio": ratio,
                "low": low,
                "high": high,
                "ratio_wall": float(np.median(wall)),
                "most": most,
                "passed": ratio <= most and row["difference"] <= DIFFERENCE,
                "difference": row["difference"],
                "speedup": (
                    float(np.median(row["before"]) / np.median(row["after"]))
                    if "before" in row
                    else None
                ),
            }
        )
    return {"lines": lines}


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Both forms' times, their ratio and the limit; the second form before and after."""
    config, rows = results["config"], {row["structure"]: row for row in results["rows"]}
    lines, earlier = [], []
    for line in results["summary"]["lines"]:
        row, known = rows[line["structure"]], STRUCTURES[line["structure"]]
        lines.append(
            {
                "plainly": known.plain,
                "as libraries write it": known.written,
                "plainly, ms": median(row, "plain"),
                "so written, ms": median(row, "written"),
                "ratio, wall": line["ratio_wall"],
                "ratio, processor": line["ratio"],
                "wanted": f"≤ {line['most']:g}",
                "": MET[line["passed"]],
                "difference": line["difference"],
            }
        )
        if "before" in row:
            earlier.append(
                {
                    "as libraries write it": known.written,
                    "before, ms": float(np.median(row["before"])),
                    "now, ms": float(np.median(row["after"])),
                    "faster, ×": number(line["speedup"]),
                }
            )
    formats = {"plainly, ms": ",.1f", "so written, ms": ",.1f", "ratio, wall": ".2f"}
    formats |= {"ratio, processor": ".2f", "difference": ".0e"}
    made = [table(lines, formats, f"{config['n']} rows of {config['width']} features")]
    if earlier:
        formats = {"before, ms": ",.1f", "now, ms": ",.1f", "faster, ×": ",.0f"}
        made.append(
            table(earlier, formats, f"{config['before_n']} rows, an earlier kernlens and now")
        )
    return made


def draw(results: Mapping[str, Any]) -> Any:
    """The ratio of each structure, with its quartiles over runs and its limit."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    lines = results["summary"]["lines"]
    made = Figure(figsize=(7, 1.2 + 0.4 * len(lines)), layout="constrained", dpi=150)
    ax = made.subplots()
    places = range(len(lines))
    ax.hlines(places, [x["low"] for x in lines], [x["high"] for x in lines], color="0.7")
    ax.plot([x["ratio"] for x in lines], places, "o", label="measured")
    ax.plot([x["most"] for x in lines], places, "|", markersize=14, color="0.2", label="limit")
    ax.set_yticks(list(places), [STRUCTURES[x["structure"]].written for x in lines], fontsize=8)
    ax.set_xlim(left=0)
    ax.set_xlabel("processor time over that of the plain form", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    ax.invert_yaxis()
    return made

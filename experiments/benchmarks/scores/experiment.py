"""Moments and scores against limits: their own multiplications, peers, a disk, float64, a click.

    python -m experiments.benchmarks.scores

Each part runs in a process of its own, with as many threads for NumPy as for XLA. What it measures
are ratios within that process, of medians of runs that take turns; the rate of square matrix
products is measured between them. Rows are normal classes with a falling spectrum.

- one pass: the stream repeats a block of rows that is held in memory, so memory is bounded.
- peers: re-timed in NumPy from their formulas, not from their packages; float32 rows go in, and are
  widened where the authors do.
- disk: a ``.npy`` file in the temporary folder, cold and warm, and the memory of the process.
- float64: every score in float32, and in a process with ``JAX_ENABLE_X64=1`` from the same float32
  rows. Differences are relative to the value; the rounding of unit rows counts.
- answers: from stored moments to a score of other dimensions, labels, rows or embeddings.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.scores.answers import answers
from experiments.benchmarks.scores.disk import from_disk
from experiments.benchmarks.scores.exact import against_float64, score_values
from experiments.benchmarks.scores.one_pass import one_pass
from experiments.benchmarks.scores.peers import against_peers
from experiments.benchmarks.scores.settings import TINY, Config
from experiments.benchmarks.scores.shown import draw, summarise
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, number, table
from kernlens.files import use_compilation_cache
from kernlens.show import report
from kernlens.show.table import Table

__all__ = ["TINY", "Config", "draw", "run", "summarise", "tables"]

ROOT = Path(__file__).parents[3]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RESTS = "OPENBLAS_THREAD_TIMEOUT"


def float64(config: Config) -> list[dict[str, Any]]:
    """Scores of this process against those of one in float64."""
    return against_float64(config, launch("values", config, JAX_ENABLE_X64="1"))


PARTS: dict[str, Callable[[Config], list[dict[str, Any]]]] = {
    "one pass": one_pass,
    "peers": against_peers,
    "disk": from_disk,
    "float64": float64,
    "answers": answers,
}


def launch(part: str, config: Config, **environment: str) -> Any:
    """What a part measures, in a process of its own."""
    threads = dict.fromkeys(THREADS, str(os.cpu_count() or 1))
    # What kernlens sets for itself is not handed on: NumPy, loaded first, is to run as by default.
    inherited = {name: value for name, value in os.environ.items() if name != RESTS}
    start = "from experiments.benchmarks.scores.experiment import worker; worker()"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        spec = json.dumps({"part": part, "config": report.to_json(config), "out": str(out)})
        made = subprocess.run(
            [sys.executable, "-c", start, spec], cwd=ROOT,
            env={**inherited, **threads, **environment},
        )  # fmt: skip
        if made.returncode:
            raise ValueError(f"{part}: its process ended with status {made.returncode}")
        return json.loads(out.read_text())


def worker() -> None:
    """A measuring process: reads its part from the command line, writes a file of JSON."""
    spec = json.loads(sys.argv[-1])
    use_compilation_cache()
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in spec["config"].items()
    }
    measure: Callable[[Config], Any] = {**PARTS, "values": score_values}[spec["part"]]
    Path(spec["out"]).write_text(json.dumps(report.to_json(measure(Config(**given)))))


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for everything measured."""
    unknown = set(config.parts) - set(PARTS)
    if unknown:
        raise ValueError(f"no part {', '.join(map(repr, unknown))}; there are {list(PARTS)}")
    rows = []
    for part in config.parts:

        def make(part: str = part) -> list[dict[str, Any]]:
            return launch(part, config) if config.alone else PARTS[part](config)

        found = cells(part, make)
        for row in found:
            if row.get("wanted") and part != "float64":
                cells.tell(f"{row['what']}: {number(row['measured'])} {row['unit']}")
        rows += found
    return rows


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Every limit of moments and scores with what was measured."""
    rows = [
        {
            "part": line["part"],
            "what": line["what"],
            "wanted": line["wanted"],
            "measured": number(line["measured"]),
            "unit": line["unit"],
            "": MET[line["passed"]],
        }
        for line in results["summary"]["gates"]
    ]
    rates = results["summary"]["matmul_gflops"]
    ran = "Square products ran at {:.0f} to {:.0f} GFLOP/s.".format(*rates) if rates else ""
    return [table(rows, None, ran)]

"""Seconds and memory of upgrade, stability, diagnose and fuse, by number of rows.

    python -m experiments.benchmarks.lens

Made rows of normal classes, with a linear head: ``upgrade`` with all maps between a version and
another that is turned and noisier; ``stability`` of three such versions; ``diagnose`` of one, with
counts, without the learning curve; ``fuse`` of two, with learnt joins. Every verb runs once, in a
process of its own, so seconds hold what is compiled on the first call.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.machine import peak_bytes
from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, table
from kernlens.show.table import Table
from kernlens.types import Labels

ROOT = Path(__file__).parents[3]
VERBS = ("upgrade", "stability", "diagnose", "fuse")
WANTED = ("upgrade", 100_000, 30.0)
"""Verb, rows of 64 columns, and the most seconds that it may take on two cores."""


@dataclass(frozen=True)
class Config:
    """What is timed."""

    verbs: tuple[str, ...] = VERBS
    """Verbs."""
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of rows."""
    most_fused: int = 100_000
    """Most rows that fuse is timed on, whose learnt joins take thirteen predictions."""
    columns: int = 64
    """Columns of an embedding."""
    classes: int = 10
    """Classes of the labels."""
    seed: int = 0
    """Of made rows."""


TINY = Config(verbs=("upgrade", "stability"), rows=(500,), columns=4, classes=3)


def check(config: Config) -> None:
    """Refuses what would fail later.

    Raises:
      ValueError: names the option.
    """
    runner.at_least(config, rows=100, columns=2, classes=2)
    unknown = [name for name in config.verbs if name not in VERBS]
    if unknown:
        raise ValueError(f"--verbs must be among {', '.join(VERBS)}; got {unknown}")


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each verb and number of rows."""
    return [
        cells(f"{verb}, {n:,}", lambda verb=verb, n=n: alone(config, verb, n))
        for n in sorted(config.rows)
        for verb in config.verbs
        if verb != "fuse" or n <= config.most_fused
    ]


def alone(config: Config, verb: str, n: int) -> dict[str, Any]:
    """One call in a process whose memory and compiled programs are its own."""
    asked = {
        "verb": verb, "n": n, "columns": config.columns, "classes": config.classes,
        "seed": config.seed,
    }  # fmt: skip
    code = "from experiments.benchmarks.lens import experiment; experiment.worker()"
    made = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asked)], cwd=ROOT, capture_output=True, text=True
    )
    if made.returncode:
        raise RuntimeError(f"{verb} of {n:,} rows failed: {made.stderr.strip().splitlines()[-1]}")
    return json.loads(made.stdout.splitlines()[-1])


def versions(
    n: int, columns: int, classes: int, seed: int, *, number: int
) -> tuple[list[np.ndarray], Labels]:
    """Versions of normal classes, each turned and with noise of its own, float32 ``[n, d]``."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n).astype(np.int32)
    scale = np.arange(1, columns + 1) ** -0.5
    centres = (2.5 * rng.normal(size=(classes, columns)) / columns**0.5).astype(np.float32)
    items = centres[codes] + rng.standard_normal((n, columns), np.float32)
    made = []
    for _ in range(number):
        turn = np.linalg.qr(rng.normal(size=(columns, columns)))[0] * scale
        noisy = items + 0.3 * rng.standard_normal((n, columns), np.float32)
        made.append(noisy @ turn.astype(np.float32))
    return made, Labels(codes, tuple(map(str, range(classes))))


def worker() -> None:
    """Times the verb that the command line names, and prints what it took."""

    import kernlens as kl

    asked = json.loads(sys.argv[-1])
    verb, n = asked["verb"], asked["n"]
    rows, labels = versions(
        n, asked["columns"], asked["classes"], asked["seed"], number=3 if verb == "stability" else 2
    )
    calls = {
        "upgrade": lambda: kl.upgrade(*rows, labels),
        "stability": lambda: kl.stability(rows, labels),
        "diagnose": lambda: kl.diagnose(
            rows[0], labels, interactions=np.arange(n) % 97 + 1, curve=False
        ),
        "fuse": lambda: kl.fuse(rows, labels),
    }
    before = (peak_bytes() or 0) / 1e9
    wall, cpu = time.perf_counter(), time.process_time()
    calls[verb]()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    memory = (peak_bytes() or 0) / 1e9
    found = {"verb": verb, "rows": n, "columns": asked["columns"]}
    found |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps({**found, "memory_before": before, "memory_gigabytes": memory}))


def is_wanted(row: Mapping[str, Any]) -> bool:
    """Whether a limit was set for this verb and size."""
    return (row["verb"], row["rows"]) == WANTED[:2] and row["columns"] == 64


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The limit that was set, where it was timed."""
    return {
        "gates": [
            {
                "what": f"{row['verb']}, {row['rows']:,} rows",
                "passed": bool(row["seconds"] <= WANTED[2]),
            }
            for row in rows
            if is_wanted(row)
        ]
    }


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Seconds and memory, a line for each verb and number of rows."""
    lines = [
        {
            "verb": row["verb"],
            "rows": f"{row['rows']:,} x {row['columns']}",
            "s": row["seconds"],
            "CPU s": row["cpu_seconds"],
            "GB": row["memory_gigabytes"],
            "GB of which rows and Python": row["memory_before"],
            "wanted": f"{WANTED[2]:.0f} s: {MET[row['seconds'] <= WANTED[2]]}"
            if is_wanted(row)
            else None,
        }
        for row in results["rows"]
    ]
    digits = {"s": ".1f", "CPU s": ".1f", "GB": ".2f", "GB of which rows and Python": ".2f"}
    return [table(lines, digits)]


def draw(results: Mapping[str, Any]) -> Any:
    """Seconds by number of rows, a line for each verb."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    made = Figure(figsize=(6.0, 3.8), layout="constrained", dpi=160)
    ax = made.subplots()
    for verb in dict.fromkeys(row["verb"] for row in results["rows"]):
        own = [row for row in results["rows"] if row["verb"] == verb]
        x, y = [row["rows"] for row in own], [row["seconds"] for row in own]
        (line,) = ax.plot(x, y, marker="o")
        ax.annotate(
            verb, (x[-1], y[-1]), xytext=(6, 0), textcoords="offset points", va="center",
            color=line.get_color(),
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds")
    ax.margins(x=0.18)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return made

"""Time and memory of empirical NTKs against neural-tangents, kernels compared.

    python -m experiments.benchmarks.ntk --peer /path/to/environment/bin/python

The peer's environment has neural-tangents (commit c17e770) with jax = jaxlib = 0.4.38, flax 0.10.4,
optax 0.2.5, numpy 2.2.6, scipy 1.13.1, tensorflow 2.21.0 and tf2jax 0.3.7. Without it, ratios are
against kernlens' own ``jacobian`` method, and gates that name the peer are not judged.

Every method of every task runs in a process of its own: compiled ahead of time, then run once for
its memory, then again for its time (medians; the spread is kept). Memory is the peak of resident
bytes over those just before the first run, compilation left out; on an accelerator the device's own
count. It is given with the kernel's own bytes and without. Tasks and their sizes are in
`experiments.benchmarks.ntk.tasks`. ``auto`` is timed a second time in turn with the best single
methods, in one process, in processor time: other work on the machine meets both. Where it came to
the very program of the best one, their ratio is 1.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.ntk.gates import AUTO, BASELINE, OURS, PEER, median, summary
from experiments.benchmarks.ntk.shown import draw
from experiments.benchmarks.ntk.tasks import PRODUCT, TASKS, Problem, work
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, number, table
from kernlens.show.table import Table

__all__ = ["TINY", "Config", "draw", "run", "summarise", "tables"]

ROOT = Path(__file__).parents[3]
PEER_METHODS = ("structured derivatives", "vector products", "jacobian contraction")
POLL_SECONDS = 0.02
LEAST_ROUNDS = 5
"""Timed runs of each method where two are compared in turn, however long they take."""


@dataclass(frozen=True)
class Config:
    """What is measured."""

    peer: Path | None = None
    """Python of an environment that has neural-tangents; none to leave the peer out."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks, by name."""
    methods: tuple[str, ...] = (AUTO, "structured", BASELINE, "vector_products")
    """kernlens' methods; "auto" is the one that ratios are of."""
    n: int = 0
    """Rows of every task; 0 for each task's own."""
    repeats: int = 9
    """Most timed runs of a method after its first."""
    seconds: float = 12.0
    """Timed runs of a method stop after about this long; a slower method is timed on its first."""
    limit_seconds: float = 90.0
    """A process that runs longer is ended and recorded so."""
    limit_gb: float = 18.0
    """A process that holds more (10⁹ bytes) is ended and recorded as out of memory."""
    alone: bool = True
    """A process for each method, so that its memory is its own; else one for each task."""
    matmul: tuple[int, ...] = (1024, 2048, 4096)
    """Sizes of the square matrix products that measure the machine's peak."""


TINY = Config(
    tasks=("towers 2,000",), methods=(AUTO, BASELINE), n=8, repeats=2, seconds=1.0, alone=False,
    matmul=(128,),
)  # fmt: skip


def kernel_of(problem: Problem, trace_axes: tuple[int, ...], method: str) -> Any:
    """kernlens' kernel by one method."""
    from kernlens import ntk

    kernel = ntk.empirical_ntk_fn(
        problem.f, trace_axes=trace_axes, diagonal_axes=(), vmap_axes=0, method=ntk.Method(method)
    )
    return lambda x, params: kernel(x, None, params)


def worker() -> None:
    """A measuring process of kernlens' side."""
    names = ("kernlens", "jax", "jaxlib", "numpy")
    work(kernel_of, {name: importlib.metadata.version(name) for name in names})


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process; 0 where that cannot be read."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def launch(python: str | Path, side: str, spec: Mapping[str, Any], config: Config) -> Any:
    """Runs a measuring process within the limits of time and memory.

    Returns:
      What it measured and its packages' versions, or ``{"failed": reason}``.
    """
    start = ["-c", "from experiments.benchmarks.ntk.experiment import worker; worker()"]
    if side == PEER:
        start = ["-m", "experiments.benchmarks.ntk.peer_neural_tangents"]
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "out.json", Path(folder) / "said.txt"
        command = [str(python), *start, json.dumps({**spec, "out": str(out)})]
        begun = time.perf_counter()
        with said.open("w") as text:
            process = subprocess.Popen(command, cwd=ROOT, stdout=text, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    time.sleep(POLL_SECONDS)
                    if resident_bytes(process.pid) > 1e9 * config.limit_gb:
                        return {"failed": f"out of memory (over {config.limit_gb:g} GB)"}
                    if time.perf_counter() - begun > config.limit_seconds:
                        return {"failed": f"over {config.limit_seconds:g} s"}
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
        found = (
            json.loads(out.read_text())
            if out.exists()
            else {"value": failure(said, process.returncode)}
        )
    value = found["value"]
    return value if "failed" in value else {**found, "measured": value}


def failure(said: Path, code: int) -> dict[str, str]:
    """Why a process ended without a result, from what it said and its exit status."""
    text = said.read_text(errors="replace").strip()
    signs = ("RESOURCE_EXHAUSTED", "out of memory", "bad_alloc")
    if any(sign.lower() in text.lower() for sign in signs):
        return {"failed": "out of memory"}
    if code < 0:
        return {"failed": f"ended by signal {-code}"}
    return {"failed": (text.splitlines() or [f"exit status {code}"])[-1][:300]}


def measure_task(
    name: str, dtype: str, config: Config, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for every method of a task, kernels compared with that of ``auto``."""
    spec = spec_of(name, dtype, config)
    n = spec["n"]
    sides = {OURS: (sys.executable, config.methods)}
    if config.peer is not None:
        sides[PEER] = (str(config.peer), PEER_METHODS)
    rows = []
    with tempfile.TemporaryDirectory() as keep:
        for side, (python, methods) in sides.items():
            folder = Path(keep) / side
            folder.mkdir()
            together = [[method] for method in methods] if config.alone else [list(methods)]
            for group in together:
                found = launch(
                    python, side, {**spec, "methods": group, "keep": str(folder)}, config
                )
                failed = {"failed": found.get("failed")}
                for i, method in enumerate(group):
                    row = {"task": name, "dtype": dtype, "n": n, "by": side, "method": method}
                    row |= found["measured"][i] if "measured" in found else {}
                    rows.append({**row, **failed, "versions": found.get("versions")})
                    tell(f"{name}, {dtype}, {side} {method}: {said_of(rows[-1])}")
        compare(rows, Path(keep))
    auto = next((row for row in rows if row["method"] == AUTO), None)
    if auto is not None and (auto["failed"] or not auto["finite"]):
        raise ValueError(f"{name}, {dtype}: auto gave no kernel: {auto['failed'] or 'NaN'}")
    return rows


def spec_of(name: str, dtype: str, config: Config) -> dict[str, Any]:
    """What a measuring process is told of a task."""
    return {
        "task": name,
        "n": config.n or TASKS[name].n,
        "dtype": dtype,
        "repeats": config.repeats,
        "seconds": config.seconds,
    }


def said_of(row: Mapping[str, Any]) -> str:
    """A row in a line."""
    return row["failed"] or f"{median(row):.1f} ms"


def compare(rows: list[dict[str, Any]], keep: Path) -> None:
    """Sets each row's greatest difference from ``auto``'s kernel, over its greatest entry."""
    reference = keep / OURS / f"{AUTO}.npy"
    for row in rows:
        kept = keep / row["by"] / f"{row['method']}.npy"
        row["difference"] = None
        if not row["failed"] and kept.exists() and reference.exists():
            wanted = np.load(reference).astype(np.float64)
            row["difference"] = np.abs(np.load(kept) - wanted).max() / np.abs(wanted).max()


def duel(name: str, dtype: str, rows: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """Times ``auto`` in turn with the single methods that come near the best."""
    single = [
        row for row in rows if row["by"] == OURS and row["method"] != AUTO and not row["failed"]
    ]
    if not single:
        return {}
    best = min(median(row) for row in single)
    near = [row["method"] for row in single if median(row) <= 1.3 * best]
    measured = [row for row in rows if row["by"] == OURS and row["method"] in (AUTO, *near)]
    if config.alone:
        spec = spec_of(name, dtype, config)
        methods = {**spec, "methods": [AUTO, *near], "keep": None, "least": LEAST_ROUNDS}
        if TASKS[name].operations is not None:
            methods["matmul"] = max(config.matmul)
        together = replace(config, limit_seconds=len(methods["methods"]) * config.limit_seconds)
        found = launch(sys.executable, OURS, methods, together)
        if "failed" in found:
            return {"duel_failed": found["failed"]}
        measured = found["measured"]
    times = {row["method"]: row["processor_milliseconds"] for row in measured}
    programs = {row["method"]: row.get("program") for row in measured}
    fastest = min(near, key=lambda method: np.median(times[method]))
    # Run by run, in pairs: what slows a while of the machine slows both.
    pairs = np.divide(*(times[m][: len(times[fastest])] for m in (AUTO, fastest)))
    return {
        "best_single": fastest,
        "best_single_same": programs[AUTO] == programs[fastest],
        "auto_over_best": float(np.median(pairs)),
        "share_of_gflops": share(name, times, config),
    }


def share(name: str, times: Mapping[str, list[float]], config: Config) -> float | None:
    """A kernel's rate of operations over that of a matrix product in turn, where both are known."""
    operations = TASKS[name].operations
    if operations is None or PRODUCT not in times:
        return None
    ratio = operations(config.n or TASKS[name].n) / (2 * max(config.matmul) ** 3)
    return float(np.median(ratio * np.divide(times[PRODUCT], times[AUTO])))


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for each task, number type, side and method."""
    unknown = set(config.tasks) - set(TASKS)
    if unknown:
        known = ", ".join(map(repr, TASKS))
        raise ValueError(f"no task {', '.join(map(repr, unknown))}; there are {known}")
    if config.peer is not None and not config.peer.is_file():
        raise FileNotFoundError(f"{config.peer}: no such file; expected an environment's Python")

    def peak(dtype: str) -> dict[str, Any]:
        spec = {"task": None, "dtype": dtype, "sizes": config.matmul, "repeats": 5}
        found = launch(sys.executable, OURS, spec, config)
        if "failed" in found:
            raise ValueError(f"matrix product, {dtype}: {found['failed']}")
        return found["measured"]

    rows = []
    dtypes = ["float32"]
    for dtype in dtypes:
        matmul = cells(f"matrix product, {dtype}", lambda dtype=dtype: peak(dtype))
        if matmul["platform"] != "cpu" and "bfloat16" not in dtypes:
            dtypes.append("bfloat16")
        for name in config.tasks:
            found = cells(
                f"{name}, {dtype}",
                lambda name=name, dtype=dtype: measure_task(name, dtype, config, cells.tell),
            )
            in_turn = cells(
                f"{name}, {dtype}, in turn",
                lambda name=name, dtype=dtype, found=found: duel(name, dtype, found, config),
            )
            for row in found:
                row.pop("program", None)
                row |= in_turn if row["method"] == AUTO else {}
                rows.append({**row, "matmul_gflops": matmul["rates"]})
    return rows


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios by task, and every gate with what was measured."""
    return summary(rows)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Time and memory of empirical tangent kernels, and the targets that were met or missed."""
    rows = [
        {
            "task": line["task"],
            "ms": line["milliseconds"],
            "fastest of neural-tangents": line["against"] or "none finished",
            "its time, ×": number(line["time"]),
            "its memory, ×": number(line["memory"]),
        }
        for line in results["summary"]["ratios"]
        if line["dtype"] == "float32"
    ]
    gates = [
        {
            "target": line["gate"],
            "wanted": line["wanted"],
            "measured": number(line["measured"]),
            "": MET[line["passed"]],
        }
        for line in results["summary"]["gates"]
    ]
    in_turn = [
        {
            "task": row["task"],
            "best single method": row["best_single"],
            "auto runs": "the same program" if row["best_single_same"] else "another program",
            "auto over it, in turn": row["auto_over_best"],
            "rate, over a matrix product's": number(row["share_of_gflops"]),
        }
        for row in results["rows"]
        if row["dtype"] == "float32" and row.get("best_single")
    ]
    return [
        table(rows, {"ms": ",.1f", "its time, ×": ".1f", "its memory, ×": ".1f"}),
        table(gates),
        table(in_turn, {"auto over it, in turn": ".2f", "rate, over a matrix product's": ".2f"}),
    ]

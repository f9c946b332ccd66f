"""Time and memory of empirical NTKs against neural-tangents, kernels compared.

    python -m experiments.bench_ntk --peer /path/to/environment/bin/python

The peer's environment has neural-tangents (commit c17e770) with jax = jaxlib = 0.4.38, flax 0.10.4,
optax 0.2.5, numpy 2.2.6, scipy 1.13.1, tensorflow 2.21.0 and tf2jax 0.3.7. Without it, ratios are
against kernlens' own ``jacobian`` method, and gates that name the peer are not judged.

Every method of every task runs in a process of its own: compiled ahead of time, then run once for
its memory, then again for its time (medians; the spread is kept). Memory is the peak of resident
bytes over those just before the first run, compilation left out; on an accelerator the device's own
count. It is given with the kernel's own bytes and without. Tasks and their sizes are in
`experiments.ntk_tasks`. ``auto`` is timed a second time in turn with the best single methods, in
one process, so that the two are compared on the same machine state.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import ntk_tasks, runner
from kernlens import report

ROOT = Path(__file__).parent.parent
OURS, PEER = "kernlens", "neural-tangents"
PEER_METHODS = ("structured derivatives", "vector products", "jacobian contraction")
PEER_DEFAULT = "jacobian contraction"
AUTO, BASELINE = "auto", "jacobian"
POLL_SECONDS = 0.02
RESOLUTION = 2**20  # bytes; a smaller difference of resident memory says nothing


@dataclass(frozen=True)
class Config:
    """What is measured."""

    peer: Path | None = None
    """Python of an environment that has neural-tangents; none to leave the peer out."""
    tasks: tuple[str, ...] = tuple(ntk_tasks.TASKS)
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


class Gate(NamedTuple):
    """A ratio that has to be reached against the peer.

    Attributes:
      task: the task's name.
      what: "time" or "memory" (without the kernel's own bytes) against the peer's fastest method,
        or "default" for the time of the peer's default.
      least: the ratio, peer over kernlens.
    """

    task: str
    what: str
    least: float


GATES = (
    Gate("mlp trace", "time", 3),
    Gate("mlp trace", "memory", 1),
    Gate("mlp trace", "default", 100),
    Gate("mlp full", "time", 4),
    Gate("mlp full", "memory", 10),
    Gate("towers frozen", "time", 6),
    Gate("towers 2,000", "time", 30),
    Gate("towers 20,000", "time", 100),
    Gate("tower16 trace 2,000", "time", 30),
    Gate("tower16 trace 20,000", "time", 100),
    Gate("transformer trace", "time", 2),
    Gate("transformer trace", "memory", 4),
    Gate("transformer full", "time", 1.3),
)
TABLES = (
    ("towers 2,000", "towers 20,000", "towers 1,000,000"),
    ("tower16 trace 2,000", "tower16 trace 20,000"),
)
INDEPENDENT = 1.25  # most that time or memory may differ between tables
AUTO_WITHIN = 1.1
OVERHEAD_SECONDS = 1.0
PEAK_TASK, PEAK_SHARE = "mlp trace 8,192", 0.5


def kernel_of(problem: ntk_tasks.Problem, trace_axes: tuple[int, ...], method: str) -> Any:
    """kernlens' kernel by one method."""
    from kernlens import ntk

    kernel = ntk.empirical_ntk_fn(
        problem.f, trace_axes=trace_axes, diagonal_axes=(), vmap_axes=0, method=ntk.Method(method)
    )
    return lambda x, params: kernel(x, None, params)


def worker() -> None:
    """A measuring process of kernlens' side."""
    names = ("kernlens", "jax", "jaxlib", "numpy")
    ntk_tasks.work(kernel_of, {name: importlib.metadata.version(name) for name in names})


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
    start = ["-c", "from experiments import bench_ntk; bench_ntk.worker()"]
    if side == PEER:
        start = ["-m", "experiments.peer_neural_tangents"]
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
    n = config.n or ntk_tasks.TASKS[name].n
    spec = {
        "task": name, "n": n, "dtype": dtype, "repeats": config.repeats, "seconds": config.seconds,
    }  # fmt: skip
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
    if auto is not None:
        if auto["failed"] or not auto["finite"]:
            raise ValueError(f"{name}, {dtype}: auto gave no kernel: {auto['failed'] or 'NaN'}")
        auto |= duel(rows, spec, config)
    return rows


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


def duel(rows: list[dict[str, Any]], spec: Mapping[str, Any], config: Config) -> dict[str, Any]:
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
        methods = {**spec, "methods": [AUTO, *near], "keep": None}
        found = launch(sys.executable, OURS, methods, config)
        if "failed" in found:
            return {"duel_failed": found["failed"]}
        measured = found["measured"]
    times = {row["method"]: median(row) for row in measured}
    fastest = min(near, key=times.__getitem__)
    return {"best_single": fastest, "auto_over_best": times[AUTO] / times[fastest]}


def median(row: Mapping[str, Any]) -> float:
    """Milliseconds, the median."""
    return float(np.median(row["milliseconds"]))


def run(config: Config, cells: runner.Cells) -> list[dict[str, Any]]:
    """A row for each task, number type, side and method."""
    unknown = set(config.tasks) - set(ntk_tasks.TASKS)
    if unknown:
        known = ", ".join(map(repr, ntk_tasks.TASKS))
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
            rows += [{**row, "matmul_gflops": matmul["rates"]} for row in found]
    return rows


def without_output(row: Mapping[str, Any]) -> float | None:
    """Peak bytes less the kernel's own."""
    return None if row["bytes"] is None else max(row["bytes"] - row["output_bytes"], 0)


def times_less(other: float | None, ours: float | None) -> float | None:
    """Ratio of bytes, each at least what can be told apart; None where one is unknown."""
    if other is None or ours is None:
        return None
    return max(other, RESOLUTION) / max(ours, RESOLUTION)


def finished(rows: Sequence[Mapping[str, Any]], **wanted: str) -> list[Mapping[str, Any]]:
    """Rows with a result and the wanted values, fastest first."""
    found = [
        row
        for row in rows
        if not row["failed"] and all(row[key] == value for key, value in wanted.items())
    ]
    return sorted(found, key=median)


def against(
    rows: Sequence[Mapping[str, Any]], task: str, dtype: str = "float32"
) -> dict[str, Any] | None:
    """kernlens' ``auto`` on a task against the peer's fastest method, or ``jacobian`` without one.

    A peer on another platform is not compared.
    """
    ours = next(iter(finished(rows, by=OURS, task=task, dtype=dtype, method=AUTO)), None)
    if ours is None:
        return None
    with_peer = any(row["by"] == PEER for row in rows)
    other = {"by": PEER} if with_peer else {"by": OURS, "method": BASELINE}
    found = finished(rows, task=task, dtype=dtype, platform=ours["platform"], **other)
    default = [row for row in found if row["by"] == PEER and row["method"] == PEER_DEFAULT]
    best = found[0] if found else None
    return {
        "task": task,
        "dtype": dtype,
        "milliseconds": median(ours),
        "against": None if best is None else f"{best['by']} {best['method']}",
        "time": median(best) / median(ours) if best else None,
        "memory": times_less(without_output(best), without_output(ours)) if best else None,
        "memory_with_output": times_less(best["bytes"], ours["bytes"]) if best else None,
        "default": median(default[0]) / median(ours) if default else None,
        "difference": best["difference"] if best else None,
    }


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios by task, and every gate with what was measured."""
    keys = dict.fromkeys((row["task"], row["dtype"]) for row in rows)
    ratios = [found for key in keys if (found := against(rows, *key)) is not None]
    versions = {row["by"]: row["versions"] for row in rows if row["versions"]}
    return {
        "gates": judge(rows),
        "ratios": ratios,
        "matmul_gflops": {row["dtype"]: row["matmul_gflops"] for row in rows},
        "versions": versions,
    }


def judge(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each gate in float32: what is wanted, what was measured, whether it passed.

    ``passed`` is None where it could not be measured, and for a ratio without the peer.
    """
    lines = []

    def line(gate: str, sign: str, bound: float, measured: float | None, judged: bool = True):
        passed = None
        if measured is not None and judged:
            passed = measured >= bound if sign == "≥" else measured <= bound
        lines.append(
            {"gate": gate, "wanted": f"{sign} {bound:g}", "measured": measured, "passed": passed}
        )

    with_peer = any(row["by"] == PEER for row in rows)
    other = PEER if with_peer else f"kernlens' {BASELINE}"
    for gate in GATES:
        found = against(rows, gate.task)
        if found is not None:
            words = {"time": "time", "memory": "memory", "default": "time against the default"}
            text = f"{gate.task}: {words[gate.what]}, {other} over kernlens"
            line(text, "≥", gate.least, found[gate.what], with_peer)
    auto = {row["task"]: row for row in finished(rows, by=OURS, method=AUTO, dtype="float32")}
    for tables in TABLES:
        mine = [auto[task] for task in tables if task in auto]
        if len(mine) < 2:
            continue
        times = [median(row) for row in mine]
        bytes_ = [without_output(row) for row in mine]
        known = [b for b in bytes_ if b is not None]
        first, last = mine[0]["task"], mine[-1]["task"]
        line(f"{first} to {last}: time, most over least", "≤", INDEPENDENT, max(times) / min(times))
        spread = times_less(max(known), min(known)) if known else None
        line(f"{first} to {last}: memory, most over least", "≤", INDEPENDENT, spread)
    if auto:
        slowest = max(row["trace_seconds"] for row in auto.values())
        line("seconds to trace and choose, any task", "≤", OVERHEAD_SECONDS, slowest)
    if PEAK_TASK in auto:
        row = auto[PEAK_TASK]
        task = ntk_tasks.TASKS[PEAK_TASK]
        peak = max(row["matmul_gflops"].values())
        for what, each in (("least", task.floor), ("layerwise", task.layerwise)):
            rate = each * row["n"] * (row["n"] + 1) / 2 / median(row) / 1e6
            line(
                f"{PEAK_TASK}: share of {peak:.0f} GFLOP/s, {what} count of {each:,} a pair, "
                "half of the pairs",
                "≥", PEAK_SHARE, rate / peak, what == "least",
            )  # fmt: skip
    duels = [row["auto_over_best"] for row in auto.values() if row.get("auto_over_best")]
    if duels:
        line("auto over the best single method, any task", "≤", AUTO_WITHIN, max(duels))
    return lines


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in shown else shown


def show(results: Mapping[str, Any]) -> list[Any]:
    """The measurements, the ratios and the gates."""

    def got(text: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: "" if row["failed"] else text(row)

    def megabytes(value: float | None) -> str:
        return number(None if value is None else value / 1e6)

    def spread(row: Mapping[str, Any]) -> str:
        return f"{number(min(row['milliseconds']))}–{number(max(row['milliseconds']))}"

    rows = [
        report.Column("task", lambda row: row["task"], right=False),
        report.Column("type", lambda row: row["dtype"], right=False),
        report.Column("n", lambda row: str(row["n"])),
        report.Column("by", lambda row: f"{row['by']} {row['method']}", right=False),
        report.Column("ms", lambda row: row["failed"] or number(median(row))),
        report.Column("least–most", got(spread)),
        report.Column("MB", got(lambda row: megabytes(row["bytes"]))),
        report.Column("less output", got(lambda row: megabytes(without_output(row)))),
        report.Column("output", got(lambda row: megabytes(row["output_bytes"]))),
        report.Column("difference", got(lambda row: number(row["difference"], 2))),
        report.Column("trace s", got(lambda row: number(row["trace_seconds"], 2))),
        report.Column("compile s", got(lambda row: number(row["compile_seconds"], 2))),
    ]
    ratios = [
        report.Column("task", lambda row: row["task"], right=False),
        report.Column("type", lambda row: row["dtype"], right=False),
        report.Column("auto, ms", lambda row: number(row["milliseconds"])),
        report.Column("against", lambda row: row["against"] or "none finished", right=False),
        report.Column("time, ×", lambda row: number(row["time"])),
        report.Column("memory, ×", lambda row: number(row["memory"])),
        report.Column("with output, ×", lambda row: number(row["memory_with_output"])),
        report.Column("default's time, ×", lambda row: number(row["default"])),
        report.Column("difference", lambda row: number(row["difference"], 2)),
    ]
    verdicts = {True: "pass", False: "FAIL", None: "not judged"}
    gates = [
        report.Column("gate", lambda row: row["gate"], right=False),
        report.Column("wanted", lambda row: row["wanted"]),
        report.Column("measured", lambda row: number(row["measured"])),
        report.Column("", lambda row: verdicts[row["passed"]], right=False),
    ]
    summary = results["summary"]
    return [
        report.table(results["rows"], rows, "Every method, a process each"),
        report.table(summary["ratios"], ratios, "kernlens' auto against the fastest other"),
        report.table(summary["gates"], gates, "Gates"),
    ]


def draw(results: Mapping[str, Any]) -> Any:
    """Time and memory of every method that finished, a line for each task."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'kernlens[report]'") from error
    rows = [row for row in results["rows"] if not row["failed"]]
    tasks = list(dict.fromkeys((row["task"], row["dtype"]) for row in results["rows"]))
    several = len({dtype for _, dtype in tasks}) > 1
    methods = list(dict.fromkeys((row["by"], row["method"]) for row in results["rows"]))
    made = Figure(figsize=(11, 1.6 + 0.38 * len(tasks)), layout="constrained", dpi=150)
    axes = made.subplots(1, 2, sharey=True)
    panels = (
        ("milliseconds, median", lambda row: median(row)),
        (
            "MB at the peak, output included",
            lambda row: None if row["bytes"] is None else max(row["bytes"], RESOLUTION) / 1e6,
        ),
    )
    marks = {OURS: "osDv", PEER: "^<>x"}
    colours = {OURS: ("#1f5fa8", "#7aa6d6", "#a9c4e2", "#ccdcee"), PEER: ("#c8553d",) * 4}
    for ax, (label, value) in zip(axes, panels, strict=True):
        for by, method in methods:
            order = [m for side, m in methods if side == by].index(method)
            mine = [row for row in rows if (row["by"], row["method"]) == (by, method)]
            drawn = [(value(row), tasks.index((row["task"], row["dtype"]))) for row in mine]
            drawn = [(x, y) for x, y in drawn if x is not None]
            if drawn:
                x, y = zip(*drawn, strict=True)
                ax.scatter(
                    x, y, s=60 if method == AUTO else 26, marker=marks[by][order % 4],
                    color=colours[by][order % 4], label=f"{by}: {method}",
                    zorder=3 if method == AUTO else 2,
                )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label, fontsize=9)
        ax.set_yticks(range(len(tasks)))
        ax.set_yticklabels([f"{t}, {d}" if several else t for t, d in tasks], fontsize=8)
        ax.set_ylim(len(tasks) - 0.5, -0.5)
        ax.tick_params(labelsize=8)
        ax.grid(color="0.93", zorder=-1)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return made


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))

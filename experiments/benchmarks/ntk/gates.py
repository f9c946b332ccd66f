"""What was measured of tangent kernels, against the peer and the limits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.ntk.tasks import TASKS

OURS, PEER = "kernlens", "neural-tangents"
PEER_DEFAULT = "jacobian contraction"
AUTO, BASELINE = "auto", "jacobian"
RESOLUTION = 2**20  # bytes; a smaller difference of resident memory says nothing


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
    Gate("conv trace", "time", 1.5),
    Gate("conv trace", "memory", 1),
)
TABLES = (
    ("towers 2,000", "towers 20,000", "towers 1,000,000"),
    ("tower16 trace 2,000", "tower16 trace 20,000"),
)
INDEPENDENT = 1.25  # most that time or memory may differ between tables
AUTO_WITHIN = 1.1
OVERHEAD_SECONDS = 1.0
PEAK_TASK, PEAK_SHARE = "mlp trace 8,192", 0.5


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
        task = TASKS[PEAK_TASK]
        peak = max(row["matmul_gflops"].values())
        for what, each in (("least", task.floor), ("layerwise", task.layerwise)):
            rate = each * row["n"] * (row["n"] + 1) / 2 / median(row) / 1e6
            line(
                f"{PEAK_TASK}: share of {peak:.0f} GFLOP/s, {what} count of {each:,} a pair, "
                "half of the pairs",
                "≥", PEAK_SHARE, rate / peak, what == "least",
            )  # fmt: skip
    for task, row in auto.items():
        if row.get("share_of_gflops") is not None:
            text = f"{task}: rate of operations over that of a matrix product in turn"
            line(text, "≥", PEAK_SHARE, row["share_of_gflops"])
    duels = [
        1.0 if row["best_single_same"] else row["auto_over_best"]
        for row in auto.values()
        if row.get("auto_over_best")
    ]
    if duels:
        line("auto over the best single method, any task", "≤", AUTO_WITHIN, max(duels))
    return lines


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
        "time": times_slower(best, ours) if best else None,
        "memory": times_less(without_output(best), without_output(ours)) if best else None,
        "memory_with_output": times_less(best["bytes"], ours["bytes"]) if best else None,
        "default": times_slower(default[0], ours) if default else None,
        "difference": best["difference"] if best else None,
    }


def finished(rows: Sequence[Mapping[str, Any]], **wanted: str) -> list[Mapping[str, Any]]:
    """Rows with a result and the wanted values, fastest first."""
    found = [
        row
        for row in rows
        if not row["failed"] and all(row[key] == value for key, value in wanted.items())
    ]
    return sorted(found, key=median)


def median(row: Mapping[str, Any]) -> float:
    """Milliseconds, the median."""
    return float(np.median(row["milliseconds"]))


def times_slower(other: Mapping[str, Any], ours: Mapping[str, Any]) -> float:
    """Ratio of times: of the processor, which other work does not lengthen, where both have it."""
    clock = "processor_milliseconds"
    if not (other.get(clock) and ours.get(clock)):
        clock = "milliseconds"
    return float(np.median(other[clock]) / np.median(ours[clock]))


def without_output(row: Mapping[str, Any]) -> float | None:
    """Peak bytes less the kernel's own."""
    return None if row["bytes"] is None else max(row["bytes"] - row["output_bytes"], 0)


def times_less(other: float | None, ours: float | None) -> float | None:
    """Ratio of bytes, each at least what can be told apart; None where one is unknown."""
    if other is None or ours is None:
        return None
    return max(other, RESOLUTION) / max(ours, RESOLUTION)

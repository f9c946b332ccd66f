"""Tangent kernels on an accelerator, in one process and less than eight minutes.

    python -m experiments.benchmarks.ntk.accelerator --out runs/accelerator.json

The tasks of the NTK benchmark by ``auto``, in float32 (products in full precision) and with
bfloat16 parameters and inputs: tower tables of 10⁶ items and a transformer at 1,024 rows among
them; then models as libraries write them against the same models written plainly. Memory is what
the compiled program reserves. The share of peak is that of the largest square matrix product of
the same number type, for tasks whose operations were counted: the MLP and the convolutions. What
would begin after ``--seconds`` is left out and listed, so that the file is whole whenever it ends.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.machine import matmul_peak
from experiments.benchmarks.ntk.tasks import TASKS, problem
from experiments.benchmarks.ntk_structures.structures import STRUCTURES
from experiments.kit.runner import environment
from kernlens import ntk
from kernlens.show import report

DTYPES = ("float32", "bfloat16")
ROWS = {
    "mlp trace 8,192": 8192,
    "towers 1,000,000": 1024,
    "transformer trace": 1024,
    "mlp trace": 1024,
    "mlp full": 1024,
    "conv trace": 256,
    "tower16 trace 20,000": 1024,
    "towers 20,000": 1024,
    "transformer full": 128,
}
"""Tasks in order of importance, with their rows."""


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      rows: of each task; 0 for its own.
      repeats: timed runs of a program.
      matmul: sizes of the matrix products that measure the machine's peak.
      structure_rows: rows of a structure.
      structure_width: its features.
    """

    rows: int
    repeats: int
    matmul: tuple[int, ...]
    structure_rows: int
    structure_width: int


FULL = Sizes(0, 7, (4096, 8192), 2048, 1024)
TINY = Sizes(8, 1, (64,), 8, 8)


def timed(call: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of each run after a first one."""
    jax.block_until_ready(call())
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(1e3 * (time.perf_counter() - start))
    return found


def kernel(f: Any, params: Any, x: Any, trace: bool, repeats: int) -> dict[str, Any]:
    """Time and memory of a kernel by ``auto``."""
    kernel_fn = ntk.empirical_ntk_fn(f, trace_axes=(-1,) if trace else ())
    start = time.perf_counter()
    program = jax.jit(lambda x, p: kernel_fn(x, None, p)).lower(x, params).compile()
    ready = time.perf_counter() - start
    memory = program.memory_analysis()
    return {
        "milliseconds": timed(lambda: program(x, params), repeats),
        "compile_seconds": ready,
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "output_bytes": memory.output_size_in_bytes if memory else None,
        "finite": bool(jnp.isfinite(program(x, params)).all()),
    }


def task_row(name: str, dtype: str, sizes: Sizes, peak: float) -> dict[str, Any]:
    """A task of the benchmark; the share of peak for those that have a count of operations."""
    task, n = TASKS[name], sizes.rows or ROWS[name]
    made = problem(task, n, jnp.dtype(dtype))
    row = {"task": name, "dtype": dtype, "n": n}
    row |= kernel(made.f, made.params, made.x, task.trace, sizes.repeats)
    if task.operations is not None:
        rate = task.operations(n) / np.median(row["milliseconds"]) / 1e6
        row["share_of_peak"] = rate / peak
    return row


def structure_row(name: str, dtype: str, sizes: Sizes) -> dict[str, Any]:
    """A structure as libraries write it over the same one written plainly."""
    structure = STRUCTURES[name]
    made = structure.make(np.random.default_rng(0), sizes.structure_rows, sizes.structure_width)

    def put(leaf: Any) -> jax.Array:
        return jnp.asarray(leaf, None if leaf.dtype.kind == "i" else jnp.dtype(dtype))

    x = put(made.x)
    plain, written = (
        kernel(f, jax.tree.map(put, params), x, True, sizes.repeats)
        for f, params in (
            (made.plain, made.plain_params),
            (made.written, made.written_params),
        )
    )
    ratio = np.median(written["milliseconds"]) / np.median(plain["milliseconds"])
    return {
        "structure": structure.written,
        "dtype": dtype,
        "n": sizes.structure_rows,
        "plain": plain,
        "written": written,
        "ratio": float(ratio),
        "most": structure.most,
    }


def measure(
    sizes: Sizes, seconds: float, write: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Everything that begins in time; written after each part."""
    start = time.perf_counter()
    found: dict[str, Any] = {"environment": environment(), "peaks": {}, "rows": [], "left_out": []}
    for dtype in DTYPES:
        peak = matmul_peak(dtype, list(sizes.matmul), 3)
        found["peaks"][dtype] = peak
    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for name in ROWS:
        for dtype in DTYPES:
            best = found["peaks"][dtype]["peak"]
            parts.append(
                (
                    f"{name}, {dtype}",
                    lambda name=name, dtype=dtype, best=best: task_row(name, dtype, sizes, best),
                )
            )
    parts += [
        (f"{name}, float32", lambda name=name: structure_row(name, "float32", sizes))
        for name in STRUCTURES
    ]
    for label, make in parts:
        if time.perf_counter() - start > seconds:
            found["left_out"].append(label)
            continue
        try:
            row = make()
        except (RuntimeError, ValueError, TypeError) as error:
            row = {"part": label, "failed": f"{type(error).__name__}: {error}"[:300]}
        found["rows"].append(row)
        print(f"{time.perf_counter() - start:6.1f} s  {label}: {said(row)}", flush=True)
        write(found)
    found["seconds"] = time.perf_counter() - start
    write(found)
    return found


def said(row: dict[str, Any]) -> str:
    """A row in a few words."""
    if "failed" in row:
        return row["failed"]
    if "ratio" in row:
        return f"{row['ratio']:.2f} times the plain form"
    share = f", {row['share_of_peak']:.0%} of peak" if "share_of_peak" in row else ""
    return f"{np.median(row['milliseconds']):.2f} ms{share}"


def main(args: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of JSON to write")
    parser.add_argument(
        "--seconds", type=float, default=400.0, help="begin nothing after so many (default: 400)"
    )
    parser.add_argument("--tiny", action="store_true", help="the few-row version of the tests")
    given = parser.parse_args(args)
    if not given.out.parent.is_dir():
        print(f"error: --out {given.out}: no folder {given.out.parent}", file=sys.stderr)
        return 1
    jax.config.update("jax_default_matmul_precision", "highest")
    measure(
        TINY if given.tiny else FULL,
        given.seconds,
        lambda found: report.write_json(given.out, report.to_json(found)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

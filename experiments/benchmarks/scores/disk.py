"""Moments of a file in one pass, against reading it and multiplying its rows, one after the other.

A pass is timed after the pages of the file were dropped from the page cache (cold), and with as
many of them in it as the system keeps (warm). Reading alone fills one buffer over and over;
multiplying alone is ``x.T @ x`` of chunks in memory, as many and of the shape that the pass takes.
"""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.machine import peak_bytes, timed
from experiments.benchmarks.scores.settings import (
    Config,
    Gate,
    class_rows,
    gflops,
    line,
    median,
)
from kernlens import io, moments
from kernlens.moments.arrays import CHUNK_BYTES

SHARE, GIGABYTES = Gate("≥", 0.7), Gate("≤", 1.5)


def from_disk(config: Config) -> list[dict[str, Any]]:
    """Ratios, cold and warm, and the most memory of the process."""
    block, codes = class_rows(min(config.disk_rows, config.block), config.disk_dim, config.classes)
    with tempfile.TemporaryDirectory() as folder:
        room = shutil.disk_usage(folder).free // 2 // block.nbytes
        repeat = max(min(config.disk_rows // len(block), room), 1)
        path = Path(folder) / "embeddings.npy"
        write(path, block, repeat)
        return measure(path, block, np.tile(codes, repeat), config)


def measure(
    path: Path, block: np.ndarray, codes: np.ndarray, config: Config
) -> list[dict[str, Any]]:
    """The same for a file that repeats a block."""
    n, dim, stream = len(codes), block.shape[1], io.open_embeddings(path)
    rows = min(CHUNK_BYTES // block[0].nbytes, len(block))
    held = [jnp.asarray(block[i : i + rows]) for i in range(0, len(block) - rows + 1, rows)]

    @jax.jit
    def add_product(total: jax.Array, chunk: jax.Array) -> jax.Array:
        return total + jnp.matmul(chunk.T, chunk, precision="highest")

    def multiply(times: int = -(-n // rows)) -> jax.Array:
        total = jnp.zeros((dim, dim), jnp.float32)
        for chunk in itertools.islice(itertools.cycle(held), times):
            total = add_product(total, chunk)
        return total

    calls = {
        "pass": lambda: moments.from_stream(stream, codes, config.classes),
        "read": lambda: read(path),
        "multiply": multiply,
    }
    # Compiles both.
    jax.block_until_ready(moments.from_stream([block], codes[: len(block)], config.classes))
    jax.block_until_ready(multiply(1))
    times: dict[str, dict[str, list[float]]] = {
        state: {what: [] for what in calls} for state in ("cold", "warm")
    }
    rates, memory = [], None
    for _ in range(config.repeats):
        for state, what in itertools.product(times, calls):
            if state == "cold" and what != "multiply":
                drop_pages(path)
            value, spent = timed(calls[what])
            times[state][what].append(spent)
            if what == "pass" and int(value.count) != n:
                raise ValueError(f"the pass took {value.count} rows; expected {n}")
            memory = memory or peak_bytes()  # of the first pass, before anything else is run
        rates.append(gflops(config))
    named = f"{n:,} x {dim} float32, {path.stat().st_size / 1e9:.2f} GB"
    lines = [share(f"{named}, {state}", found, rates) for state, found in times.items()]
    gigabytes = None if memory is None else memory / 1e9
    return [
        *lines,
        line("disk", f"{named}: most memory of the process", gigabytes, "GB", GIGABYTES),
    ]


def share(what: str, found: dict[str, list[float]], rates: list[float]) -> dict[str, Any]:
    """What reading and multiplying alone take of the time of a pass."""
    cost = [a + b for a, b in zip(found["read"], found["multiply"], strict=True)]
    return line(
        "disk", f"{what}: reading and multiplying over the pass",
        median(cost) / median(found["pass"]), "", SHARE,
        seconds=found["pass"], against="reading, then multiplying", against_seconds=cost,
        read_seconds=found["read"], multiply_seconds=found["multiply"], matmul_gflops=rates,
    )  # fmt: skip


def write(path: Path, block: np.ndarray, repeat: int) -> None:
    """A ``.npy`` file of a block, so many times."""
    header = {
        "descr": np.lib.format.dtype_to_descr(block.dtype),
        "fortran_order": False,
        "shape": (repeat * len(block), block.shape[1]),
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(repeat):
            file.write(block.data)
        file.flush()
        os.fsync(file.fileno())


def drop_pages(path: Path) -> None:
    """Asks the system to forget the file's pages, so that the disk is read again."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> int:
    """Reads all bytes into one buffer, and counts them."""
    buffer, count = bytearray(CHUNK_BYTES), 0
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            count += got
    return count

"""Time and memory where rows or columns are many, each in a process of its own."""

import functools
import json
import subprocess
import sys
from typing import Any

SHAPES = {
    "10^5 x 768, 100 classes": (100_000, 768, 100),
    "10^6 x 64, 10 classes": (1_000_000, 64, 10),
}
"""Rows, columns and classes."""

LIMITS = {"10^5 x 768, 100 classes": (120.0, 3e9), "10^6 x 64, 10 classes": (20.0, None)}
"""Most seconds, and most bytes."""

VERSION = 2


def measured(cells: Any) -> list[dict[str, Any]]:
    """A row for each shape: bytes, and seconds of the clock and the processor with compilation."""
    return [
        {
            "shape": name,
            **cells(f"{name} | large {VERSION}", functools.partial(in_a_process, shape)),
        }
        for name, shape in SHAPES.items()
    ]


def in_a_process(shape: tuple[int, int, int]) -> dict[str, float]:
    """What a fresh process took for one path of penalties."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, shape)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def predict(n: int, d: int, num_classes: int) -> dict[str, float]:
    """Predicts a linear head on drawn rows."""
    import time

    import numpy as np

    import kernlens as kl
    from experiments.benchmarks.machine import peak_bytes
    from kernlens.types import Labels

    rng = np.random.default_rng(0)
    codes = rng.integers(num_classes, size=n).astype(np.int32)
    means = 0.35 * rng.standard_normal((num_classes, d)).astype(np.float32)
    x = means[codes]
    for start in range(0, n, 10_000):
        part = x[start : start + 10_000]
        part += rng.standard_normal(part.shape, np.float32)
    labels = Labels(codes, tuple(map(str, range(num_classes))))
    clock, processor = time.perf_counter(), time.process_time()
    found = kl.predict(x, labels)
    return {
        "macro_f1": float(found.metrics["macro_f1"].value),
        "seconds": time.perf_counter() - clock,
        "processor_seconds": time.process_time() - processor,
        "bytes": peak_bytes() or 0,
    }


if __name__ == "__main__":
    print(json.dumps(predict(*map(int, sys.argv[1:]))))

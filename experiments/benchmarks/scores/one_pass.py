"""Moments of many rows and every score of them, over the multiplications that they need."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.linalg import get_lapack_funcs

from experiments.benchmarks.machine import peak_bytes, timed
from experiments.benchmarks.scores.settings import (
    Config,
    Gate,
    chosen,
    class_rows,
    gflops,
    line,
    median,
    runs,
    tell,
)
from kernlens import moments
from kernlens.arrays.rows import identity, unit_rows
from kernlens.moments import Moments
from kernlens.scores import SCORES, SPECTRA, Estimator
from kernlens.types import FeatureMap

PASS = Gate("≤", 1.5)
EVERY_PAIR = "gbc_full"
"""The score that factors a matrix for each pair of classes; what it costs is shown apart."""

PLAIN, CLASSES, UNIT = "plain", "class scatters", "unit rows, class scatters"
PASSES: dict[str, tuple[FeatureMap, bool]] = {
    PLAIN: (identity, False),
    CLASSES: (identity, True),
    UNIT: (unit_rows, True),
}
"""Features of each pass, and whether the scatter of each class is kept."""


def one_pass(config: Config) -> list[dict[str, Any]]:
    """Ratios of passes and scores, and the time of each score alone."""
    x, codes = class_rows(config.block, config.dim, config.classes)
    repeat = max(config.rows // config.block, 1)
    every_code = np.tile(codes, repeat)

    def taken(name: str, times: int) -> Moments:
        map_fn, class_scatters = PASSES[name]
        return moments.from_stream(
            itertools.repeat(x, times), every_code[: times * len(x)], config.classes,
            features=map_fn, class_scatters=class_scatters,
        )  # fmt: skip

    for name in PASSES:
        jax.block_until_ready(taken(name, 1))  # compiles
    rates: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in PASSES}
    made: dict[str, Moments] = {}
    for _ in range(config.repeats):
        for name in PASSES:
            rates.append(gflops(config))
            made.pop(name, None)
            made[name], spent = timed(taken, name, repeat)
            seconds[name].append(spent)
            tell(f"{name}: {spent:.1f} s at {rates[-1]:.0f} GFLOP/s")
    memory = peak_bytes()
    tables = {PASSES[name][0]: made[name] for name in (CLASSES, UNIT)}

    def together(rows: Mapping[str, Estimator]) -> list[float]:
        """Seconds of scores in one program, which shares what they have in common."""
        maps = list(dict.fromkeys(row.features for row in rows.values()))

        def every(values: list[Moments]) -> dict[str, Any]:
            own = dict(zip(maps, values, strict=True))
            return {name: row.fn(own[row.features]) for name, row in rows.items()}

        values = [tables[phi] for phi in maps]
        compiled = jax.jit(every).lower(values).compile()
        spent = runs(lambda: compiled(values), config)
        tell(f"{', '.join(rows)}: {median(spent):.2f} s")
        return spent

    alone = {name: together({name: row}) for name, row in chosen(config, SCORES, SPECTRA).items()}
    heavy = median(alone.get(EVERY_PAIR, [0.0]))
    light = {name: row for name, row in chosen(config, SCORES).items() if name != EVERY_PAIR}
    own = {name: row for name, row in light.items() if row.features is identity}
    bare = {name: row for name, row in own.items() if not row.class_scatters}
    all_s, own_s, bare_s = (median(together(rows)) for rows in (light, own, bare))
    product = 2e-9 * repeat * len(x) * config.dim**2

    def share(
        what: str, names: Sequence[str], scores: float, products: int, gate: Gate | None = None
    ) -> dict[str, Any]:
        took = [sum(each) + scores for each in zip(*(seconds[n] for n in names), strict=True)]
        needed = [products * product / rate for rate in rates]
        return line(
            "one pass", what, median(took) / median(needed), "× the products", gate,
            seconds=took, against=f"{products} × n p²", against_seconds=needed,
            scores_seconds=scores, matmul_gflops=rates, peak_bytes=memory,
        )  # fmt: skip

    def factorisations() -> dict[str, Any]:
        """Those of the score of every pair, by LAPACK from SciPy and with nothing around them."""
        pairs = config.classes * (config.classes - 1) // 2
        some = min(pairs, 100)
        matrix = np.asfortranarray(np.cov(x[: 2 * config.dim].T), np.float32)
        (potrf,) = get_lapack_funcs(("potrf",), (matrix,))
        found = runs(lambda: [potrf(matrix, lower=1)[1] for _ in range(some)], config)
        spent = [pairs / some * each for each in found]
        needed = [2 * product / rate for rate in rates]
        return line(
            "one pass", f"{pairs:,} Cholesky factors that {EVERY_PAIR} is made of, alone",
            median(spent) / median(needed), "× the products", seconds=spent,
            against="2 × n p²", against_seconds=needed,
        )  # fmt: skip

    size = f"{repeat * len(x):,} x {config.dim}, C = {config.classes}"
    both = (CLASSES, UNIT)
    return [
        share(f"{size}: moments", [PLAIN], 0.0, 1),
        share(f"{size}: moments and the scores of them", [PLAIN], bare_s, 1, PASS),
        share("with class scatters: moments", [CLASSES], 0.0, 2),
        share(f"with class scatters: and their scores but {EVERY_PAIR}", [CLASSES], own_s, 2, PASS),
        share("with class scatters: and the scores of them", [CLASSES], own_s + heavy, 2, PASS),
        share("with class scatters, features and unit rows: moments", both, 0.0, 2),
        share(f"with class scatters, both: all scores but {EVERY_PAIR}", both, all_s, 2),
        share("with class scatters, both: all scores", both, all_s + heavy, 2, PASS),
        factorisations(),
        *(
            line("score alone", name, 1e3 * median(each), "ms", seconds=each)
            for name, each in alone.items()
        ),
    ]

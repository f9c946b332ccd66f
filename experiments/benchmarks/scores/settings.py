"""What is measured, the limits, and what all parts share."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.machine import matmul_peak, timed
from kernlens.scores import Estimator


@dataclass(frozen=True)
class Config:
    """What is measured."""

    parts: tuple[str, ...] = ("one pass", "peers", "disk", "float64", "answers")
    """Of these five."""
    rows: int = 1_000_000
    """Rows of the pass."""
    block: int = 100_000
    """Rows of it in memory, which the stream repeats."""
    dim: int = 768
    """Dimension of the pass and of what the peers get."""
    classes: int = 100
    """Classes everywhere but in float64."""
    peers: tuple[str, ...] = ("LogME", "H-score", "TransRate", "class cosine")
    """Peers' scores, by name."""
    peer_rows: int = 10_000
    """Rows that the peers get."""
    narrow: int = 32
    """A second dimension for the published class cosine, that of its paper."""
    disk_rows: int = 10_000_000
    """Rows of the file; what half of the free space holds if those are fewer."""
    disk_dim: int = 128
    """Its dimension, in float32."""
    exact_rows: int = 20_000
    """Rows whose scores are compared with float64."""
    exact_dim: int = 64
    """Their dimension."""
    exact_classes: int = 10
    """Their classes."""
    sample: int = 1_000
    """Rows of them for the scores of rows."""
    stored_rows: int = 100_000
    """Rows of the stored moments that are edited."""
    stored_dim: int = 256
    """Their dimension."""
    changed: int = 1_000
    """Rows that change their label, or are appended."""
    concatenated: tuple[int, ...] = (128, 256)
    """Dimensions of two embeddings that are concatenated, at most those stored."""
    read: tuple[str, ...] = ("centred_alignment", "gcv")
    """Scores read after an edit: one without and one with an eigendecomposition."""
    scores: tuple[str, ...] = ()
    """Names of the scores of the pass and of float64; all by default."""
    repeats: int = 3
    """Timed runs of each."""
    seconds: float = 20.0
    """Runs of one score are no more after about this long; one there is always."""
    matmul: tuple[int, ...] = (1024, 2048, 4096)
    """Sizes of the square matrix products of which the greatest rate counts."""
    alone: bool = True
    """A process for each part, so that its memory is its own."""


TINY = Config(
    parts=("peers", "disk", "float64"), rows=400, block=200, dim=8, classes=4, peers=("H-score",),
    peer_rows=200, narrow=4,
    disk_rows=3_000, disk_dim=8, exact_rows=120, exact_dim=4, exact_classes=3, sample=40,
    stored_rows=200, stored_dim=8, changed=20, concatenated=(4,), read=("centred_alignment",),
    scores=("centred_alignment", "cka"), repeats=1, matmul=(64,), alone=False,
)  # fmt: skip


class Gate(NamedTuple):
    """A limit.

    Attributes:
      sign: "≤" or "≥".
      bound: what the measured number is held against.
    """

    sign: str
    bound: float

    def keeps(self, measured: float | None) -> bool:
        """Whether the limit is kept; what could not be measured does not keep it."""
        if measured is None or not np.isfinite(measured):
            return False
        return measured <= self.bound if self.sign == "≤" else measured >= self.bound


def line(
    part: str, what: str, measured: float | None, unit: str, gate: Gate | None = None, **more: Any
) -> dict[str, Any]:
    """A measured number with its limit, if it has one, and what it was made of."""
    found = {"part": part, "what": what, "measured": measured, "unit": unit}
    if gate is not None:
        found |= {"wanted": f"{gate.sign} {gate.bound:g}", "passed": gate.keeps(measured)}
    return {**found, **more}


def class_rows(n: int, dim: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of normal classes, float32 ``[n, dim]``, and their classes ``[n]``.

    The variance of feature ``k`` falls as ``1 / k``.
    """
    rng = np.random.default_rng(0)
    codes = rng.integers(0, num_classes, n, dtype=np.int32)
    codes[:num_classes] = np.arange(num_classes)
    x = rng.standard_normal((n, dim), dtype=np.float32)
    x += 0.3 * rng.standard_normal((num_classes, dim), dtype=np.float32)[codes]
    x *= np.sqrt(1.0 / np.arange(1, dim + 1, dtype=np.float32))
    return x, codes


def gflops(config: Config) -> float:
    """Greatest rate of square float32 products now, 10⁹ operations a second."""
    return matmul_peak(jnp.float32, list(config.matmul), 3)["peak"]


def runs(call: Callable[[], Any], config: Config) -> list[float]:
    """Seconds of a compiled call, run a few times."""
    found: list[float] = []
    while not found or (len(found) < config.repeats and sum(found) < config.seconds):
        found.append(timed(call)[1])
    return found


def tell(text: str) -> None:
    """Says how far a measuring process is."""
    print(text, file=sys.stderr, flush=True)


def median(seconds: Sequence[float]) -> float:
    """The median."""
    return float(np.median(seconds))


def chosen(config: Config, *tables: Mapping[str, Estimator]) -> dict[str, Estimator]:
    """The estimators of the tables that are asked for."""
    every = {name: row for table in tables for name, row in table.items()}
    return {name: row for name, row in every.items() if not config.scores or name in config.scores}

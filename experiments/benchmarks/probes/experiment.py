"""Cost of predicting a head against training it: logistic and MLP probes, and two sizes.

    python -m experiments.benchmarks.probes

On one Complete Journey embedding, departments as classes: the logistic probe over a path against
scikit-learn's five-fold cross-validation over the same penalties (standardised, its defaults
otherwise) and against twenty trained splits at one penalty; the MLP probe against twenty trained
splits. Then one path of penalties on made rows of two sizes. Seconds are of the wall, and of all
processors together, which others' work on the machine changes less; compiling is left out by a
first run that is not counted, but not of the sizes, which run once, in a process of their own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.machine import peak_bytes
from experiments.kit.cells import Cells
from experiments.kit.shown import MET, table
from kernlens import datasets, probes, targets
from kernlens.models import decoders
from kernlens.probes.folds import FOLDS, share_out
from kernlens.show import report
from kernlens.show.table import Table
from kernlens.train import heads, pretrain
from kernlens.types import Labels

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Config:
    """What is timed."""

    dim: int = 32
    """Embedding dimension."""
    penalties: tuple[float, ...] = (100.0, 10.0, 1.0)
    """Path, scikit-learn's one over C."""
    splits: int = 20
    """Trained splits."""
    hidden: int = 32
    """Width of the MLP."""
    sizes: tuple[tuple[int, int, int, int], ...] = (
        (1_000_000, 64, 10, 20),
        (100_000, 768, 100, 120),
    )
    """(rows, columns, classes, seconds wanted) of made rows."""
    seed: int = 0
    """Of made rows."""
    min_class_count: int = 50
    """Classes with fewer items are left out, as in other experiments."""
    synthetic: int = 0
    """Interactions of a synthetic data set to use instead of Complete Journey; 0 for the real."""


TINY = Config(
    dim=4,
    penalties=(10.0, 1.0),
    splits=2,
    hidden=4,
    sizes=((2_000, 8, 3, 60),),
    synthetic=5_000,
    min_class_count=2,
)


def run(config: Config, cells: Cells) -> list[dict[str, Any]]:
    """A row for everything timed."""
    rows = cells("heads", lambda: time_heads(config, cells.tell))
    for size in config.sizes:
        rows += cells(f"{size[0]:,} x {size[1]}", lambda size=size: [alone(size, config.seed)])
    return rows


def embedding(config: Config) -> tuple[np.ndarray, Labels]:
    """Rows and labels."""
    if config.synthetic:
        data = datasets.load(
            "synthetic", num_items=300, num_users=50, num_interactions=config.synthetic,
            num_classes=3,
        )  # fmt: skip
        return datasets.synthetic.embeddings(data, seed=1)[:, : config.dim], data.labels["class"]
    data = datasets.load("complete_journey")
    fitted = pretrain.contrastive(data, window=8, negatives=8, dim=config.dim, seeds=1)
    return np.asarray(fitted.embeddings[0]), data.labels["department"]


def time_heads(config: Config, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Each predictor, and what it replaces."""
    x, labels = embedding(config)
    labels = targets.drop_rare(labels, config.min_class_count)
    kept = labels.codes >= 0
    x, labels = x[kept], labels._replace(codes=labels.codes[kept])
    one, splits = config.penalties[-1], config.splits
    mlp = decoders.Mlp(config.hidden)
    runs = {
        "logistic, a path": lambda: probes.logistic(x, labels, penalties=config.penalties),
        "logistic, one penalty": lambda: probes.logistic(x, labels, penalties=one),
        "MLP": lambda: probes.mlp(x, labels, hidden=config.hidden),
        "scikit-learn, five folds, the same path": lambda: by_scikit_learn(
            x, labels.codes, config.penalties
        ),
        "scikit-learn, trained splits": lambda: trained(x, labels.codes, one, splits),
        "trained MLP": lambda: heads.classify(x, labels, decoder=mlp, seeds=splits),
    }
    timed = {}
    for name, make in runs.items():
        if not name.startswith("scikit-learn"):
            make()  # compiles
        timed[name] = clocked(make)
        tell(f"{name}: {timed[name]['seconds']:.2f} s")
    pairs = (
        ("logistic, a path", "scikit-learn, five folds, the same path", 5),
        ("logistic, one penalty", "scikit-learn, trained splits", 20),
        ("MLP", "trained MLP", 5),
    )
    return [
        {
            "what": mine, "against": peer, "wanted": wanted,
            "seconds": timed[mine]["seconds"], "cpu_seconds": timed[mine]["cpu_seconds"],
            "peer_seconds": timed[peer]["seconds"], "peer_cpu_seconds": timed[peer]["cpu_seconds"],
        }
        for mine, peer, wanted in pairs
    ]  # fmt: skip


def by_scikit_learn(x: np.ndarray, codes: np.ndarray, penalties: tuple[float, ...]) -> None:
    """Held-out macro-F1 of every penalty, each fold fitted from nothing."""
    folds = share_out(codes, np.arange(len(codes)))
    for penalty in penalties:
        for k in range(FOLDS):
            fitted(x, codes, folds == k, penalty)


def trained(x: np.ndarray, codes: np.ndarray, penalty: float, splits: int) -> None:
    """Held-out macro-F1 of each split."""
    for seed in range(splits):
        fitted(x, codes, heads.stratified_split(seed, codes), penalty)


def fitted(x: np.ndarray, codes: np.ndarray, test: np.ndarray, penalty: float) -> float:
    """Macro-F1 on the rows held out of scikit-learn's fit to the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000))
    given = head.fit(x[~test], codes[~test]).predict(x[test])
    return float(f1_score(codes[test], given, average="macro"))


def clocked(make: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the wall and of all processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    make()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def alone(size: tuple[int, int, int, int], seed: int) -> dict[str, Any]:
    """One path on made rows, in a process whose memory is its own."""
    code = "from experiments.benchmarks.probes import experiment; experiment.worker()"
    made = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*size, seed])],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(made.stdout.splitlines()[-1])


def worker() -> None:
    """Rows of normal classes with a falling spectrum; prints what the default path took."""
    n, p, num_classes, wanted, seed = json.loads(sys.argv[-1])
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, num_classes, n).astype(np.int32)
    scale = (np.arange(1, p + 1) ** -0.5).astype(np.float32)
    centres = (2.5 * rng.normal(size=(num_classes, p)) / p**0.5).astype(np.float32)
    x = np.empty((n, p), np.float32)
    for start in range(0, n, 65_536):
        own = codes[start : start + 65_536]
        x[start : start + len(own)] = scale * (
            centres[own] + rng.standard_normal((len(own), p), np.float32)
        )
    labels = Labels(codes, tuple(map(str, range(num_classes))))
    found = clocked(lambda: probes.logistic(x, labels))
    memory = (peak_bytes() or 0) / 1e9
    row = {"what": f"{n:,} x {p}, {num_classes} classes", "wanted": wanted, **found}
    print(json.dumps({**row, "against": "seconds", "memory_gigabytes": memory}))


def summarise(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Limits that were kept."""
    return {
        "gates": [
            {"what": row["what"], "passed": bool(_measured(row) <= _limit(row))} for row in rows
        ]
    }


def _measured(row: Mapping[str, Any]) -> float:
    return row["seconds"] / row["peer_seconds"] if "peer_seconds" in row else row["seconds"]


def _limit(row: Mapping[str, Any]) -> float:
    return 1.0 / row["wanted"] if "peer_seconds" in row else row["wanted"]


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Cost of each prediction and of what it replaces."""
    rows = [
        {
            "predicted": row["what"],
            "against": row["against"],
            "s": row["seconds"],
            "CPU s": row["cpu_seconds"],
            "its s": row.get("peer_seconds"),
            "GB": row.get("memory_gigabytes"),
            "times cheaper": row["peer_seconds"] / row["seconds"]
            if "peer_seconds" in row
            else None,
            "wanted": f"{row['wanted']} times" if "peer_seconds" in row else f"{row['wanted']} s",
            "": MET[gate["passed"]],
        }
        for row, gate in zip(results["rows"], results["summary"]["gates"], strict=True)
    ]
    return [
        table(
            rows, {"s": ".2f", "CPU s": ".2f", "its s": ".2f", "times cheaper": ".1f", "GB": ".2f"}
        )
    ]


def draw(results: Mapping[str, Any]) -> Any:
    """Seconds of each prediction against seconds allowed."""
    rows = results["rows"]
    allowed = [
        r["peer_seconds"] / r["wanted"] if "peer_seconds" in r else r["wanted"] for r in rows
    ]
    panel = report.Panel(
        title="cost of predictions",
        x=np.array(allowed),
        x_label="seconds allowed",
        y=np.array([row["seconds"] for row in rows]),
        y_label="seconds taken",
        colour=np.array([row["cpu_seconds"] for row in rows]),
        names=[row["what"] for row in rows],
    )
    return report.figure([panel], "seconds of all processors")

"""Everything that ranks embeddings without training a head on them, timed.

NCE, LEEP, PACTran and energy ask for a source classifier, which no embedding here has.

A ranker that is timed is called twice in a row: the second call is its cost, what the first took
beyond that is compilation, or reading what was compiled from disk. Rows are padded with rows of
weight 0 to a power of two, so that label budgets share compiled programs; the scores of one
embedding share one pass over its rows, which counts in full in the cost of each.
"""

import functools
import math
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.score_tournament import heads
from experiments.score_tournament.settings import Config
from kernlens import kernels, moments, probes
from kernlens.arrays.rows import identity
from kernlens.kernels import features
from kernlens.moments import Moments
from kernlens.scores import ROWS, SCORES, SPECTRA, Estimator, Score, learning_curve
from kernlens.types import Array, Labels

CLASSES = 10
"""Classes that moments are made for: of any task here, so that all share compiled programs."""

PROBES, SCORED, BLIND, TRIVIAL, TRAINED = (
    "probe", "score", "spectrum, blind to labels", "trivial", "cross-validated",
)  # fmt: skip

PROBE_NAMES = (
    "discriminant", "discriminant, log loss", "ridge", "ridge, error",
    "ridge on RBF features", "ridge on RBF features, error",
)  # fmt: skip

SAMPLE = 500
"""Rows, at most, that what compares all pairs of rows sees."""

GROUPS: dict[str, str] = {
    **dict.fromkeys(PROBE_NAMES, PROBES),
    **dict.fromkeys([*SCORES, "neighbour_accuracy", "parc"], SCORED),
    **dict.fromkeys([*SPECTRA, "uniformity"], BLIND),
    **dict.fromkeys(["dimension", "bytes", "mean_norm", "random"], TRIVIAL),
    **dict.fromkeys(["cv_logistic", "cv_logistic, log loss"], TRAINED),
}
"""Which kind each ranker is of."""


class Ranked(NamedTuple):
    """What a ranker says of an embedding, more is better; seconds warm, and of compilation.

    Seconds are NaN where it was not timed.
    """

    value: float
    seconds: float
    compiling: float


class Forecast(NamedTuple):
    """Squared error of ridge at more labels.

    Attributes:
      error: by the learning curve.
      anchored: by the learning curve's share of itself at the labels given, times the error there
        by leave-one-out.
      leave_one_out: that error itself, as if more labels changed nothing.
      seconds: of the learning curve, its pass included.
    """

    error: float
    anchored: float
    leave_one_out: float
    seconds: float


def rank_blind(
    x: np.ndarray, seed: tuple[int, ...], config: Config, clocked: bool
) -> dict[str, Ranked]:
    """What rankers that read no labels say of an embedding, ``x [n, d]``, by name.

    Args:
      x: all rows.
      seed: of the random ranker.
      config: which scores.
      clocked: whether to time them.
    """
    return {
        "dimension": Ranked(float(x.shape[1]), 0.0, 0.0),
        "random": Ranked(float(np.random.default_rng(seed).random()), 0.0, 0.0),
        "bytes": _ranked(lambda: len(zlib.compress(x.tobytes(), 1)), clocked),
        "mean_norm": _ranked(lambda: np.mean(np.linalg.norm(x, axis=1)), clocked),
        **_scores(SPECTRA, x, np.full(len(x), -1, np.int32), config, clocked),
        **of_rows({"uniformity": (x,)}, seed, config, clocked),
    }


def rank(
    x: np.ndarray, codes: np.ndarray, train: np.ndarray, config: Config, clocked: bool
) -> dict[str, Ranked]:
    """What the others say of it from the labels of the rows ``train``, by name.

    Args:
      x: all rows, ``[n, d]``.
      codes: class of each; only those of ``train`` are looked at.
      train: rows of the label budget.
      config: landmarks, and which scores.
      clocked: whether to time them.
    """
    seen, known = x[train], codes[train]
    found = _scores(SCORES, seen, known, config, clocked)
    given = {"neighbour_accuracy": (seen, known, CLASSES), "parc": (seen, known)}
    found |= of_rows(given, (config.seed, len(train)), config, clocked)
    labels = Labels(known, tuple(map(str, range(CLASSES))))

    def on_rbf() -> Any:
        return probes.ridge(rbf_features(x, train, config), labels, draws=1)

    for name, error, predict in (
        ("discriminant", "discriminant, log loss",
         lambda: probes.discriminant(seen, labels, draws=1)),
        ("ridge", "ridge, error", lambda: probes.ridge(seen, labels, draws=1)),
        ("ridge on RBF features", "ridge on RBF features, error", on_rbf),
    ):  # fmt: skip
        predicted, seconds, compiling = timed(predict, clocked)
        found[name] = Ranked(predicted.metrics["accuracy"].value, seconds, compiling)
        found[error] = Ranked(-predicted.metrics[predicted.loss].value, seconds, compiling)
    start = time.perf_counter()
    trained = heads.cross_validated(seen, known)
    seconds = time.perf_counter() - start if clocked else math.nan
    found["cv_logistic"] = Ranked(trained.accuracy, seconds, 0.0)
    found["cv_logistic, log loss"] = Ranked(-trained.log_loss, seconds, 0.0)
    return found


def forecast(x: np.ndarray, codes: np.ndarray, train: np.ndarray, size: int) -> Forecast:
    """Squared error of ridge at ``size`` labels, from those of ``train`` and rows without."""
    known = np.full(len(x), -1, np.int32)
    known[train] = codes[train]

    def foretell() -> Array:
        return learning_curve(one_pass(identity, x, known), [len(train), size]).errors

    errors, seconds, _ = timed(foretell, True)
    now, then = (float(error) for error in errors)
    labels = Labels(codes[train], tuple(map(str, range(CLASSES))))
    left_out = probes.ridge(x[train], labels, draws=1, select="error")
    return Forecast(
        then,
        left_out.metrics[left_out.loss].value * then / now,
        left_out.metrics[left_out.loss].value,
        seconds,
    )


def one_pass(phi: Callable[[Array], Array], x: np.ndarray, codes: np.ndarray) -> Moments:
    """Moments of features, with all that any score reads."""
    rows, known, weights = _padded(x, codes)
    return moments.from_arrays(
        phi(jnp.asarray(rows)), known, CLASSES, weights=weights, class_scatters=True
    )


def rbf_features(x: np.ndarray, train: np.ndarray, config: Config) -> np.ndarray:
    """Features of the RBF kernel of standardised columns, landmarks from all rows."""
    spread = x.std(axis=0)
    varied = spread > 1e-6 * np.max(spread)
    z = np.where(varied, (x - x.mean(axis=0)) / np.where(varied, spread, 1.0), 0.0)
    z = z.astype(np.float32)
    landmarks = z[np.random.default_rng(config.seed).permutation(len(z))[: config.landmarks]]
    rows, _, _ = _padded(z[train], np.zeros(len(train), np.int32))
    made = _nystrom(rows, landmarks, np.float32(np.sqrt(max(np.sum(varied), 1))))
    return np.asarray(made)[: len(train)]


def timed(fn: Callable[[], Any], clocked: bool) -> tuple[Any, float, float]:
    """Value, seconds of a second call, and what the first took beyond it; NaN if not clocked."""
    if not clocked:
        return fn(), math.nan, math.nan
    marks = [time.perf_counter()]
    value = None
    for _ in range(2):
        value = jax.block_until_ready(fn())
        marks.append(time.perf_counter())
    first, second = np.diff(marks)
    return value, float(second), float(max(first - second, 0.0))


def _ranked(fn: Callable[[], Any], clocked: bool) -> Ranked:
    value, seconds, compiling = timed(fn, clocked)
    return Ranked(float(value), seconds, compiling)


def of_rows(
    given: dict[str, tuple[Any, ...]], seed: tuple[int, ...], config: Config, clocked: bool
) -> dict[str, Ranked]:
    """Scores of rows, on a sample where they compare all pairs; the same for every embedding."""
    found = {}
    for name, (x, *codes) in given.items():
        if config.scores and name not in config.scores:
            continue
        row, arrays = ROWS[name], (x, *codes)
        if name != "neighbour_accuracy":
            rows = np.random.default_rng(seed[:1]).permutation(len(x))[:SAMPLE]
            arrays = tuple(part[rows] for part in arrays)

        def score(row: Estimator = row, arrays: tuple[Any, ...] = arrays) -> Any:
            return row.fn(row.features(jnp.asarray(arrays[0])), *arrays[1:])

        ranked = _ranked(score, clocked)
        found[name] = ranked._replace(value=row.sign * ranked.value)
    return found


def _scores(
    table: dict[str, Estimator], x: np.ndarray, codes: np.ndarray, config: Config, clocked: bool
) -> dict[str, Ranked]:
    passes, found = {}, {}
    for name, row in table.items():
        if config.scores and name not in config.scores:
            continue
        if row.features not in passes:
            passes[row.features] = timed(
                functools.partial(one_pass, row.features, x, codes), clocked
            )
        summary, reading, _ = passes[row.features]
        value, seconds, compiling = timed(functools.partial(row.fn, summary), clocked)
        value = value.value if isinstance(value, Score) else value
        found[name] = Ranked(row.sign * float(value), reading + seconds, compiling)
    return found


def _padded(x: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(x)
    more = (1 << (n - 1).bit_length()) - n
    weights = np.concatenate([np.ones(n, np.float32), np.zeros(more, np.float32)])
    rows = np.concatenate([x, np.zeros((more, x.shape[1]), x.dtype)])
    return rows, np.concatenate([codes, np.full(more, -1, np.int32)]), weights


@jax.jit
def _nystrom(rows: Array, landmarks: Array, lengthscale: Array) -> Array:
    kernel = functools.partial(kernels.rbf, lengthscale=lengthscale)
    return features.nystrom(kernel, landmarks)(rows)

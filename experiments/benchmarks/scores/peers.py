"""Peers' scores after their formulas, in NumPy, beside ours.

The order of steps, the number types and the loops over classes are those of the authors' code,
since those make its time; the lines are not.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.machine import timed
from experiments.benchmarks.scores.settings import Config, Gate, class_rows, line, median, runs
from kernlens import moments
from kernlens.scores import SCORES, Score, transrate_of_rows

REST = 0.1
"""Seconds after a peer's call: NumPy's threads spin for a while and would hold up what is next."""

TIMES_AS_FAST, PUBLISHED = Gate("≥", 10.0), Gate("≥", 50.0)


def authors_logme(x: np.ndarray, codes: np.ndarray, num_classes: int) -> float:
    """LogME by its fixed point, class after class: You et al. (2021), algorithm 3."""
    x = x.astype(np.float64)
    n, dim = x.shape
    _, squared, right = np.linalg.svd(x.T @ x)
    singular = np.sqrt(squared)
    left = (x @ right.T) / singular
    evidences, weights = [], []
    for c in range(num_classes):
        y = (codes == c).astype(np.float64)
        along = left.T @ y
        outside = np.sum(y**2) - np.sum(along**2)
        alpha = beta = ratio = 1.0
        size = residual = 0.0
        for _ in range(11):
            ratio = alpha / beta
            gamma = np.sum(squared / (squared + ratio))
            size = np.sum(squared * along**2 / (ratio + squared) ** 2)
            residual = np.sum(along**2 / (1.0 + squared / ratio) ** 2) + outside
            alpha, beta = gamma / (size + 1e-5), (n - gamma) / (residual + 1e-5)
            if abs(alpha / beta - ratio) <= 1e-3 * ratio:
                break
        evidence = dim * np.log(alpha) + n * np.log(beta / (2.0 * np.pi))
        evidence -= np.sum(np.log(alpha + beta * squared)) + beta * residual + alpha * size
        evidences.append(0.5 * evidence / n)
        weights.append(right.T @ (singular * along / (ratio + squared)))  # the authors keep them
    return float(np.mean(evidences))


def tllib_h_score(x: np.ndarray, codes: np.ndarray, num_classes: int) -> float:
    """H-score: pseudo-inverse of the covariance times the covariance of the class means."""
    means = np.zeros_like(x)
    for c in range(num_classes):
        means[codes == c] = x[codes == c].mean(axis=0)
    inverse = np.linalg.pinv(np.cov(x, rowvar=False), rcond=1e-15)
    return float(np.trace(inverse @ np.cov(means, rowvar=False)))


def tllib_transrate(x: np.ndarray, codes: np.ndarray, num_classes: int) -> float:
    """TransRate: log determinants for all rows and for those of each class."""

    def rate(rows: np.ndarray) -> float:
        n, dim = rows.shape
        return 0.5 * np.linalg.slogdet(np.eye(dim) + rows.T @ rows / (1e-4 * n))[1]

    x = x - x.mean(axis=0, keepdims=True)
    return float(rate(x) - sum(rate(x[codes == c]) for c in range(num_classes)) / num_classes)


def published_loop(x: np.ndarray, codes: np.ndarray, num_classes: int) -> float:
    """The published class cosine: both ``[n, n]`` kernels made in full, then a loop over rows."""
    del num_classes
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    gram = unit @ unit.T
    same = np.array([(codes == code).astype(np.float32) for code in codes])
    total = count = 0.0
    for own, alike in zip(gram, same, strict=True):
        total += np.sum(alike * own)
        count += np.sum(alike)
    return float(total / count)


def of_moments(name: str) -> Callable[[np.ndarray, np.ndarray, int], Score]:
    """A score of the table: moments of the rows, and the score of them."""
    row = SCORES[name]

    def ours(x: np.ndarray, codes: np.ndarray, num_classes: int) -> Score:
        made = moments.from_stream(
            [x], codes, num_classes,
            features=row.features, scatter=row.scatter, class_scatters=row.class_scatters,
        )  # fmt: skip
        return row.fn(made)

    return ours


class Peer(NamedTuple):
    """A peer's score and ours.

    Attributes:
      fn: ``fn(x, codes, num_classes)``, in NumPy.
      ours: the same score, of the same arguments.
      gate: limit on how many times as fast ours is.
      factor: what ours makes of the scatter at least, if it makes one.
    """

    fn: Callable[[np.ndarray, np.ndarray, int], float]
    ours: Callable[[np.ndarray, np.ndarray, int], Score]
    gate: Gate
    factor: Callable[[jax.Array], Any] | None = None


COSINE = "class cosine"
PEERS = {
    "LogME": Peer(authors_logme, of_moments("logme"), TIMES_AS_FAST, jnp.linalg.eigh),
    "H-score": Peer(tllib_h_score, of_moments("h_score"), TIMES_AS_FAST, jnp.linalg.cholesky),
    "TransRate": Peer(tllib_transrate, transrate_of_rows, TIMES_AS_FAST, jnp.linalg.cholesky),
    COSINE: Peer(published_loop, of_moments("published_class_cosine"), PUBLISHED),
}
"""The authors' LogME, tllib's H-score and TransRate, the published class cosine."""


def against_peers(config: Config) -> list[dict[str, Any]]:
    """Each peer's score of rows in memory beside ours, from the same NumPy array."""
    x, codes = class_rows(config.peer_rows, config.dim, config.classes)
    narrow = np.ascontiguousarray(x[:, : config.narrow])
    rows = [beside(name, x, codes, config) for name in config.peers]
    return [line for made in (*rows, beside(COSINE, narrow, codes, config)) for line in made]


def beside(name: str, x: np.ndarray, codes: np.ndarray, config: Config) -> list[dict[str, Any]]:
    """A peer and ours in turn; then the product and the factorisation that ours is made of."""
    peer, given = PEERS[name], (x, codes, config.classes)
    value = float(timed(peer.ours, *given)[0].value)
    seconds, theirs, published = [], [], 0.0
    for _ in range(config.repeats):
        published, spent = timed(peer.fn, *given)
        theirs.append(spent)
        time.sleep(REST)
        seconds += [timed(peer.ours, *given)[1] for _ in range(3)]
    against = {"against": "NumPy after the formulas", "against_seconds": theirs}
    what = f"{name}, {len(x):,} x {x.shape[1]}, C = {config.classes}"
    found = line(
        "peers", what, median(theirs) / median(seconds), "times as fast", peer.gate,
        seconds=seconds, **against,
        value=value, peer_value=published, difference=abs(value - published) / abs(published),
    )  # fmt: skip
    if peer.factor is None:
        return [found]
    least = jax.jit(partial(factored, peer.factor)).lower(x).compile()
    rows = jnp.asarray(x)
    spent = runs(lambda: least(rows), config)
    alone = line(
        "peers", f"{what}: its product and {peer.factor.__name__} alone",
        median(theirs) / median(spent), "times as fast", seconds=spent, **against,
    )  # fmt: skip
    return [found, alone]


def factored(factor: Callable[[jax.Array], Any], x: jax.Array) -> Any:
    """A factorisation of the covariance of rows, and nothing else."""
    covariance = jnp.matmul(x.T, x, precision="highest") / x.shape[0]
    return factor(covariance + 1e-3 * jnp.eye(x.shape[1], dtype=x.dtype))

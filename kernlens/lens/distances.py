"""How far apart two embeddings of the same rows lie, without labels: facts, and no verdicts."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from kernlens.scores import pairs, rows

SAMPLE = 4096
"""Rows among which nearest rows are looked for."""

QUERIES, NEIGHBOURS = 512, 10


def distances(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """CKA, eigenspace instability, overlap of neighbours and Procrustes R² of two embeddings.

    They do not know what is asked of the embeddings: a poor one gives most rows the largest class
    under any run, and so agrees with itself whatever its geometry does.

    Args:
      a: rows, ``[n, p]``.
      b: rows of the same items, ``[n, q]``.
      seed: random seed of the sample of rows whose neighbours are compared.

    Returns:
      Values by the names of :data:`DISTANCES`.

    References:
      Kornblith et al. (2019); Leszczynski et al. (2020); Schönemann (1966).
    """
    a, b = (_single(x) for x in (a, b))
    pair = pairs.from_arrays(a, b)
    return {name: fn(pair, a, b, seed) for name, fn in DISTANCES.items()}


def _single(x: np.ndarray) -> np.ndarray:
    """Float32 columns about 0, of a size that squares keep."""
    x = np.asarray(x, np.float64)
    return ((x - x.mean(axis=0)) / (np.abs(x - x.mean(axis=0)).max() or 1.0)).astype(np.float32)


def _cka(pair: pairs.Pair, a: np.ndarray, b: np.ndarray, seed: int) -> float:
    return float(pairs.debiased_cka(pair))


def _instability(pair: pairs.Pair, a: np.ndarray, b: np.ndarray, seed: int) -> float:
    return float(pairs.eigenspace_instability(pair))


def _overlap(pair: pairs.Pair, a: np.ndarray, b: np.ndarray, seed: int) -> float:
    chosen = np.random.default_rng(seed).permutation(len(a))[:SAMPLE]
    queries = jnp.arange(min(QUERIES, len(chosen)))
    return float(
        rows.neighbour_overlap(
            jnp.asarray(a[chosen]), jnp.asarray(b[chosen]), queries,
            neighbours=min(NEIGHBOURS, len(chosen) - 1),
        )
    )  # fmt: skip


def _procrustes(pair: pairs.Pair, a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """Share of either's variance that the best rotation and scale of the other explain."""
    return float(jnp.cos(pairs.procrustes_angle(pair)) ** 2)


DISTANCES: dict[str, Callable[[pairs.Pair, np.ndarray, np.ndarray, int], float]] = {
    "CKA": _cka,
    "eigenspace instability": _instability,
    "k-NN overlap": _overlap,
    "Procrustes R²": _procrustes,
}
"""Facts of a pair of embeddings, by name."""

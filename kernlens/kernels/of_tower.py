"""The kernel of a sequence tower, as features of histories over a frozen embedding."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernlens import ntk
from kernlens.kernels import features, sequence_kernels
from kernlens.models import towers
from kernlens.types import Array, FeatureMap, Params

LANDMARKS = 512
"""Histories that span the tangent kernel of a dense tower."""


def of_tower(
    tower: Any,
    embeddings: np.ndarray | Array,
    histories: np.ndarray,
    *,
    counts: np.ndarray,
    seed: int = 0,
) -> FeatureMap:
    """Features whose inner products are the kernel of a tower, on histories of item ids.

    Args:
      tower: a row of :data:`OF_TOWER`: ``towers.MeanPool()``, ``DiscountedAverage(alpha)`` or
        ``DenseTower(hidden)``. The first two are exact; the third is the infinite-width tangent
        kernel of its dense layers, from landmarks.
      embeddings: embeddings of all items, ``[m, d]``; a row that is not finite is a cold item.
      histories: item ids to choose landmarks from, ``[n, L]``, ``-1`` for padding.
      counts: how often each item occurs, ``[m]``, for the discount.
      seed: random seed of the landmarks, an integer >= 0.

    Returns:
      A map from item ids ``[b, L]`` to features ``[b, p]``.

    Raises:
      ValueError: another tower, or what is none.
    """
    for kind, rule in OF_TOWER.items():
        if isinstance(tower, kind):
            return rule(tower, embeddings, histories, counts=counts, seed=seed)
    choices = ", ".join(f"towers.{kind.__name__}" for kind in OF_TOWER)
    hint = "a head reads rows of an embedding, and next items are asked of histories"
    if type(tower) in towers.TOWERS.values():
        hint = (
            "this tower's kernel has no closed form; ntk.features over "
            "sequence_kernels.over_embeddings gives its features to probes.ridge_ranking.predict"
        )
    raise ValueError(f"next items take {choices}; got {tower!r}: {hint}")


def _mean(
    tower: towers.MeanPool, embeddings: Any, histories: Any, *, counts: Any, seed: int
) -> FeatureMap:
    del tower, histories, counts, seed
    return sequence_kernels.averages(embeddings)


def _discounted(
    tower: towers.DiscountedAverage, embeddings: Any, histories: Any, *, counts: Any, seed: int
) -> FeatureMap:
    del histories, seed
    if not tower.normalise:
        raise ValueError("a discounted average is read with normalise=True; got False")
    weights = sequence_kernels.discount(counts, alpha=tower.alpha).astype(np.float32)
    return sequence_kernels.averages(embeddings, weights)


def _dense(
    tower: towers.DenseTower, embeddings: Any, histories: np.ndarray, *, counts: Any, seed: int
) -> FeatureMap:
    del counts
    layers: list[Params] = []
    for width in tower.hidden:
        layers += [ntk.infinite.dense(width), ntk.infinite.relu()]
    net = ntk.infinite.serial(*layers, ntk.infinite.dense(1))
    kernel = sequence_kernels.of_average(partial(net.kernel_fn, get="ntk"), embeddings)
    filled = np.unique(histories[np.any(histories >= 0, axis=1)], axis=0)
    drawn = np.random.default_rng(seed).permutation(len(filled))[:LANDMARKS]
    return features.nystrom(kernel, jnp.asarray(filled[np.sort(drawn)]))


OF_TOWER: dict[type, Callable[..., FeatureMap]] = {
    towers.MeanPool: _mean,
    towers.DiscountedAverage: _discounted,
    towers.DenseTower: _dense,
}
"""Towers whose kernel has a closed form, and the features of each."""

"""Sampling: sequences to skip-gram batches, and negatives for them.

Sequences are laid end to end, in an order of their own for each epoch and seed, and cut into blocks
of tokens. A block carries the next ``window`` tokens behind it, so no pair is lost at a cut: the
block owns the pairs whose left token lies in it. Every pair is read in both directions.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array, Interactions


class Blocks(NamedTuple):
    """Token blocks of one pass over the data.

    Attributes:
      items: item ids, int32 ``[num_blocks, block + window]``.
      sequences: which sequence a token belongs to, int32, same shape; ``-1`` is padding.
    """

    items: Any
    sequences: Any


class Noise(NamedTuple):
    """A distribution over items, as integer slots; item ``i`` owns ``starts[i]..starts[i + 1]``.

    Attributes:
      starts: int32 ``[num_items + 1]``, rising, ``starts[-1] = num_slots``.
      owners: item of each slot, int32 ``[num_slots]``.
    """

    starts: Array
    owners: Array


class Triplets(NamedTuple):
    """Explicit skip-gram examples.

    Attributes:
      anchor: item ids, int32 ``[num_pairs]``.
      positive: item ids, int32 ``[num_pairs]``.
      negatives: item ids, int32 ``[num_pairs, k]``.
      weight: 1 for an example, 0 for padding, float32 ``[num_pairs]``.
      negative_weight: 1 where the negative counts, float32 ``[num_pairs, k]``.
    """

    anchor: Array
    positive: Array
    negatives: Array
    weight: Array
    negative_weight: Array


def keep_probability(counts: np.ndarray, threshold: float | None) -> np.ndarray:
    r"""Chance that a token survives the sub-sampling of frequent items.

    :math:`\min(1, \sqrt{t / f_i} + t / f_i)`, with :math:`f_i` the item's share of all tokens.

    Args:
      counts: tokens per item, ``[num_items]``.
      threshold: t in (0, 1]; None keeps every token.

    Returns:
      Probabilities in ``[0, 1]``, float64 ``[num_items]``.

    References:
      Mikolov et al. (2013), section 2.3, in the form their program uses.
    """
    if threshold is None:
        return np.ones(len(counts))
    if not 0 < threshold <= 1:
        raise ValueError(f"subsample must be None or in (0, 1]; got {threshold}")
    ratio = threshold * counts.sum() / np.maximum(counts, 1)
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


def num_blocks(counts: np.ndarray, keep: np.ndarray, block: int) -> int:
    """Blocks that hold an epoch's tokens, six standard deviations of sub-sampling allowed for."""
    mean = float(counts @ keep)
    spread = float(np.sqrt(counts @ (keep * (1 - keep))))
    return max(1, int(np.ceil(min(mean + 6 * spread, float(counts.sum())) / block)))


def blocks(
    seed: tuple[int, ...],
    interactions: Interactions,
    *,
    block: int,
    window: int,
    subsample: float | None = None,
) -> Blocks:
    """Cuts one epoch's tokens, its sequences in random order, into blocks.

    Args:
      seed: integers that fix the order and the sub-sampling, such as ``(seed, epoch)``.
      interactions: the sequences.
      block: tokens a block owns.
      window: how many tokens to either side are positives; the length of a block's tail.
      subsample: threshold of `keep_probability`.

    Returns:
      Blocks, their number a function of the data alone.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    lengths = np.diff(interactions.offsets)
    order = generator.permutation(len(lengths))
    lengths = lengths[order]
    ends = np.cumsum(lengths)
    # Source position of every token once the sequences stand in their new order.
    source = np.arange(ends[-1]) + np.repeat(
        interactions.offsets[:-1][order] - (ends - lengths), lengths
    )
    items = interactions.items[source]
    sequences = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    counts = interactions.counts
    keep = keep_probability(counts, subsample)
    if subsample is not None:
        kept = generator.random(len(items), np.float32) < keep[items]
        items, sequences = items[kept], sequences[kept]
    count = num_blocks(counts, keep, block)
    size = min(len(items), count * block)
    padded = np.zeros(count * block + window, np.int32)
    padded[:size] = items[:size]
    marks = np.full(count * block + window, -1, np.int32)
    marks[:size] = sequences[:size]
    cut = np.arange(count)[:, None] * block + np.arange(block + window)
    return Blocks(padded[cut], marks[cut])


def _slots(probabilities: np.ndarray, num_slots: int) -> Noise:
    edges = np.concatenate([[0.0], np.cumsum(probabilities / probabilities.sum())])
    free = num_slots - len(probabilities)
    # One slot each, the rest in proportion: no item is out of reach.
    starts = np.round(edges * free).astype(np.int64) + np.arange(len(edges))
    owners = np.repeat(np.arange(len(probabilities), dtype=np.int32), np.diff(starts))
    return Noise(jnp.asarray(starts, jnp.int32), jnp.asarray(owners))


def log_uniform(num_items: int, *, num_slots: int | None = None) -> Noise:
    r"""Log-uniform noise over popularity ranks, :math:`P(i) = \log\frac{i+2}{i+1} / \log(n+1)`.

    Ids must be ranks by falling frequency, as `Interactions` has them.

    Args:
      num_items: n.
      num_slots: resolution of the distribution; by default at least 2^20 and 8 n.

    References:
      The candidate sampler of Xu and Yang's (2023) published code.
    """
    ranks = np.arange(num_items, dtype=np.float64)
    return _slots(np.log1p(1 / (ranks + 1)), num_slots or max(1 << 20, 8 * num_items))


def unigram(counts: np.ndarray, *, power: float = 0.75, num_slots: int | None = None) -> Noise:
    r"""Noise proportional to :math:`count_i^{power}`.

    Args:
      counts: tokens per item, ``[num_items]``.
      power: 0.75 as in word2vec; 0 is uniform.
      num_slots: resolution of the distribution; by default at least 2^20 and 8 n.

    References:
      Mikolov et al. (2013), section 2.2.
    """
    weights = np.asarray(counts, np.float64) ** power
    return _slots(weights, num_slots or max(1 << 20, 8 * len(weights)))


def draw(key: Array, noise: Noise, excluded: Array, k: int) -> Array:
    """Draws items from ``noise`` given that they are none of the excluded ones, exactly.

    A uniform slot is drawn among those that the excluded items leave, then moved past theirs.

    Args:
      key: PRNG key.
      noise: the distribution.
      excluded: item ids, int32 ``[..., m]``, m small; repeats allowed.
      k: draws for each row.

    Returns:
      Item ids, int32 ``[..., k]``.
    """
    excluded = jnp.sort(excluded, axis=-1)
    repeat = jnp.concatenate(
        [jnp.zeros_like(excluded[..., :1], bool), excluded[..., 1:] == excluded[..., :-1]], -1
    )
    first = noise.starts[excluded]
    width = jnp.where(repeat, 0, noise.starts[excluded + 1] - first)
    free = noise.owners.shape[0] - jnp.sum(width, -1, keepdims=True, dtype=jnp.int32)
    uniform = jax.random.uniform(key, (*excluded.shape[:-1], k))
    slot = jnp.minimum((uniform * free.astype(uniform.dtype)).astype(jnp.int32), free - 1)
    for j in range(excluded.shape[-1]):
        slot = slot + jnp.where(slot >= first[..., j : j + 1], width[..., j : j + 1], 0)
    return noise.owners[slot]


def offsets_of(window: int) -> range:
    """Distances at which a pair's right token stands: ``1..window``."""
    return range(1, window + 1)


def negatives(
    key: Array, noise: Noise, items: Array, sequences: Array, *, window: int, k: int
) -> tuple[Array, Array]:
    """Draws ``k`` negatives for each token, to serve all pairs it anchors.

    A negative is never the anchor (excluded exactly) and never one of its positives: a draw that
    hits the window is drawn once more, and left out if it hits again.

    Args:
      key: PRNG key.
      noise: distribution over items.
      items: a block's ids, int32 ``[block + window]``.
      sequences: its sequence marks, same shape.
      window: tokens to either side that are positives.
      k: negatives per anchor.

    Returns:
      Item ids, int32 ``[block + window, k]``, and which of them count, bool, same shape.
    """
    chex.assert_equal_shape((items, sequences))
    both = draw(key, noise, items[:, None], 2 * k)
    hit = jnp.zeros(both.shape, bool)
    size = items.shape[0]
    for offset in offsets_of(window):
        pad = jnp.full((offset,), -1, items.dtype)
        same = sequences[: size - offset] == sequences[offset:]
        right = jnp.concatenate([jnp.where(same, items[offset:], -1), pad])
        left = jnp.concatenate([pad, jnp.where(same, items[: size - offset], -1)])
        hit = hit | (both == right[:, None]) | (both == left[:, None])
    first, second = both[:, :k], both[:, k:]
    return jnp.where(hit[:, :k], second, first), ~(hit[:, :k] & hit[:, k:])


def pairs(items: Array, sequences: Array, *, window: int) -> tuple[Array, Array, Array]:
    """All ordered pairs that a block owns.

    Args:
      items: a block's ids, int32 ``[block + window]``.
      sequences: its sequence marks, same shape; ``-1`` is padding.
      window: tokens to either side that are positives.

    Returns:
      Positions of the anchor and of the positive in the block, and whether the pair is one,
      each ``[2 * window * block]``.
    """
    block = items.shape[0] - window
    left = jnp.tile(jnp.arange(block), window)
    right = left + jnp.repeat(jnp.arange(1, window + 1), block)
    valid = (sequences[left] == sequences[right]) & (sequences[left] >= 0)
    anchor = jnp.concatenate([left, right])
    positive = jnp.concatenate([right, left])
    return anchor, positive, jnp.concatenate([valid, valid])


def triplets(
    key: Array,
    noise: Noise,
    items: Array,
    sequences: Array,
    *,
    window: int,
    k: int,
    share_negatives: bool = True,
) -> Triplets:
    """Spells a block out as triplets.

    Args:
      key: PRNG key.
      noise: distribution of negatives.
      items: a block's ids, int32 ``[block + window]``.
      sequences: its sequence marks, same shape.
      window: tokens to either side that are positives.
      k: negatives per pair.
      share_negatives: the pairs of one anchor share its k negatives; otherwise each pair has its
        own, which are never its anchor or its positive (excluded exactly).

    Returns:
      Triplets, ``num_pairs = 2 * window * block``.
    """
    anchor, positive, valid = pairs(items, sequences, window=window)
    if share_negatives:
        drawn, counts = negatives(key, noise, items, sequences, window=window, k=k)
        drawn, counts = drawn[anchor], counts[anchor]
    else:
        excluded = jnp.stack([items[anchor], items[positive]], -1)
        drawn = draw(key, noise, excluded, k)
        counts = jnp.ones(drawn.shape, bool)
    return Triplets(
        items[anchor],
        items[positive],
        drawn,
        valid.astype(jnp.float32),
        counts.astype(jnp.float32),
    )

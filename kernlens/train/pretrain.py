"""Contrastive pretraining of item embeddings, with all seeds of a setting in one program."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.targets import sequences
from kernlens.train import loop, sampling
from kernlens.train.checksums import checksum
from kernlens.types import ApplyFn, Array, Interactions, Params

_STEPS_A_ROUND = 256


class Contrast(NamedTuple):
    """A contrastive loss, split so that pairs of one anchor share the work on its negatives.

    Attributes:
      summary: ``(negative logits [..., k], counts [..., k]) -> [...]``.
      pair: ``(positive logits [...], summary [...]) -> losses [...]``.
    """

    summary: Callable[[Array, Array], Array]
    pair: Callable[[Array, Array], Array]


def _log_sum_exp(logits: Array, counts: Array) -> Array:
    floor = jnp.asarray(-1e9, logits.dtype)  # finite, so an anchor with no negative has a gradient
    return jax.nn.logsumexp(jnp.where(counts, logits, floor), axis=-1)


def _cross_entropy(positive: Array, summary: Array) -> Array:
    return jax.nn.softplus(summary - positive)


def _sum_softplus(logits: Array, counts: Array) -> Array:
    return jnp.sum(jnp.where(counts, jax.nn.softplus(logits), 0), axis=-1)


def _binary_cross_entropy(positive: Array, summary: Array) -> Array:
    return jax.nn.softplus(-positive) + summary


SOFTMAX = Contrast(_log_sum_exp, _cross_entropy)
r"""Cross-entropy over 1+k candidates, :math:`-\log\frac{e^{s^+}}{e^{s^+}+\sum_j e^{s_j^-}}`:
the loss of Xu and Yang's (2023) published code."""

SIGMOID = Contrast(_sum_softplus, _binary_cross_entropy)
r"""Skip-gram with negative sampling,
:math:`-\log\sigma(s^+) - \sum_j \log\sigma(-s_j^-)` (Mikolov et al., 2013, equation 4)."""

CONTRASTS = {"softmax": SOFTMAX, "sigmoid": SIGMOID}


class Fitted(NamedTuple):
    """A pretrained encoder, one for each seed.

    Attributes:
      apply_fn: ``apply_fn(params, items) -> embeddings``, for the parameters of one seed.
      params: encoder parameters, every leaf ``[seeds, ...]``.
      embeddings: embeddings of all items, float32 ``[seeds, num_items, dim]``.
      losses: mean loss a round, float32 ``[rounds, seeds]``; an epoch is one round or several.
      final_loss: mean loss over the last epoch, float32 ``[seeds]``.
      pairs: positive pairs trained on, an estimate from the data (sub-sampling left out), a seed.
      seconds: wall time of all seeds together, compilation included.
    """

    apply_fn: ApplyFn
    params: Params
    embeddings: np.ndarray
    losses: np.ndarray
    final_loss: np.ndarray
    pairs: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class SkipGramLoss:
    """Mean contrastive loss over the pairs a block owns; see `contrastive` for the fields."""

    encoder: nn.Module
    decoder: nn.Module | None
    contrast: Contrast
    window: int
    negatives: int
    share_negatives: bool
    separate_context: bool

    def init(self, key: Array) -> Params:
        """Parameters of encoder, context encoder (if separate) and decoder."""
        keys = jax.random.split(key, 3)
        items = jnp.zeros((1,), jnp.int32)
        params = {"encoder": self.encoder.init(keys[0], items)}
        if self.separate_context:
            params["context"] = self.encoder.init(keys[1], items)
        if self.decoder is not None:
            z = self.encoder.apply(params["encoder"], items)
            params["decoder"] = self.decoder.init(keys[2], z, z)
        return params

    def _embed(self, params: Params, items: Array, drawn: Array) -> tuple[Any, Any, Any]:
        # One look-up for all ids of a table: its gradient is then one scatter.
        flat = drawn.reshape(-1)
        size = items.shape[0]
        if self.separate_context:
            z = self.encoder.apply(params["encoder"], items)
            both: Any = self.encoder.apply(params["context"], jnp.concatenate([items, flat]))
            context = both[:size]
        else:
            both = self.encoder.apply(params["encoder"], jnp.concatenate([items, flat]))
            z = context = both[:size]
        return z, context, both[size:].reshape(*drawn.shape, -1)

    def _score(self, params: Params, z1: Array, z2: Array) -> Any:
        if self.decoder is None:
            return jnp.sum(z1 * z2, axis=-1)
        return self.decoder.apply(params["decoder"], z1, z2)

    def __call__(
        self, params: Params, key: Array, batch: sampling.Blocks, shared: sampling.Noise
    ) -> Array:
        """The loss of one block."""
        if self.share_negatives:
            return self._shared(params, key, batch, shared)
        return self._per_pair(params, key, batch, shared)

    def _shared(
        self, params: Params, key: Array, batch: sampling.Blocks, noise: sampling.Noise
    ) -> Array:
        items, sequences = batch
        block = items.shape[0] - self.window
        drawn, counts = sampling.negatives(
            key, noise, items, sequences, window=self.window, k=self.negatives
        )
        z, context, z_negative = self._embed(params, items, drawn)
        summary = self.contrast.summary(self._score(params, z[:, None], z_negative), counts)
        total = jnp.zeros((), z.dtype)
        number = jnp.zeros((), z.dtype)
        for offset in sampling.offsets_of(self.window):
            end = block + offset
            same = (sequences[:block] == sequences[offset:end]) & (sequences[:block] >= 0)
            onward = self._score(params, z[:block], context[offset:end])
            back = (
                self._score(params, z[offset:end], context[:block])
                if self.separate_context
                else onward
            )
            losses = self.contrast.pair(onward, summary[:block]) + self.contrast.pair(
                back, summary[offset:end]
            )
            total += jnp.sum(jnp.where(same, losses, 0))
            number += 2 * jnp.sum(same.astype(z.dtype))
        return total / jnp.maximum(number, 1)

    def _per_pair(
        self, params: Params, key: Array, batch: sampling.Blocks, noise: sampling.Noise
    ) -> Array:
        items, sequences = batch
        anchor, positive, _ = sampling.pairs(items, sequences, window=self.window)
        triplets = sampling.triplets(
            key,
            noise,
            items,
            sequences,
            window=self.window,
            k=self.negatives,
            share_negatives=False,
        )
        z, context, z_negative = self._embed(params, items, triplets.negatives)
        scores = self._score(params, z[anchor][:, None], z_negative)
        summary = self.contrast.summary(scores, triplets.negative_weight > 0)
        losses = self.contrast.pair(self._score(params, z[anchor], context[positive]), summary)
        return jnp.sum(triplets.weight * losses) / jnp.maximum(jnp.sum(triplets.weight), 1)


def count_pairs(interactions: Interactions, window: int) -> int:
    """Ordered skip-gram pairs of one pass over the data."""
    lengths = np.diff(interactions.offsets)
    return int(sum(2 * np.maximum(lengths - o, 0).sum() for o in sampling.offsets_of(window)))


def contrastive(
    interactions: Interactions,
    *,
    window: int = 5,
    negatives: int = 5,
    dim: int = 32,
    epochs: int = 5,
    seeds: int | Sequence[int] = 1,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    contrast: Contrast = SOFTMAX,
    noise: sampling.Noise | None = None,
    optimizer: optax.GradientTransformation | None = None,
    subsample: float | None = None,
    separate_context: bool = False,
    share_negatives: bool = True,
    block: int = 1024,
    seeds_at_once: int | None = None,
    checkpoint: str | Path | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
) -> Fitted:
    """Learns item embeddings from sequences by skip-gram (item2vec), for several seeds at once.

    Args:
      interactions: the sequences.
      window: tokens to either side of an anchor that are its positives; at least 1.
      negatives: k, negatives per anchor; at least 1.
      dim: embedding dimension d, unless ``encoder`` is given.
      epochs: passes over the data.
      seeds: how many runs (seeds 0, 1, ...), or the seeds themselves. A seed fixes the
        initialisation, the order of the sequences, the sub-sampling and the negatives.
      encoder: Flax module from item ids to embeddings; default a `flax.linen.Embed` table that
        starts with norms near 0.1: a start near the origin leaves less noise in the vectors of
        rare items.
      decoder: Flax module that scores pairs; None is the inner product.
      contrast: the loss, `SOFTMAX` over 1+k candidates or `SIGMOID`.
      noise: distribution of negatives; default `sampling.unigram` at power 0.75. The paper's is
        `sampling.log_uniform`, under which rare items are hardly ever pushed apart.
      optimizer: any optax optimiser; default Adam at 3e-3.
      subsample: threshold of `sampling.keep_probability`; None keeps all tokens.
      separate_context: contexts have a table of their own; the paper shares one.
      share_negatives: the pairs of one anchor share its k negatives (fast); otherwise every pair
        draws its own.
      block: tokens a step trains on.
      seeds_at_once: seeds that `jax.vmap` trains side by side; the rest follow in the same compiled
        program. None is all of them on an accelerator and one on a CPU, where two tables
        no longer fit the cache that one does.
      checkpoint: folder to save in and resume from; that of a run with other arguments is refused.
      on_round: called after each round of at most 256 steps.

    Returns:
      The encoder, its parameters and the embeddings of all items, by seed.

    Raises:
      ValueError: an argument out of range, interactions that `sequences.check` refuses or that have
        no pair, or a checkpoint of another run.

    References:
      Xu and Yang (2023), section 3; Barkan and Koenigstein (2016), item2vec.
    """
    for name, value in (
        ("window", window),
        ("negatives", negatives),
        ("dim", dim),
        ("epochs", epochs),
        ("block", block),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one run; got none")
    sequences.check(interactions)
    pairs = count_pairs(interactions, window)
    if pairs == 0:
        raise ValueError(
            f"no sequence has two items to pair: {interactions.num_sessions} sequences, "
            f"{len(interactions.items)} interactions"
        )
    encoder = encoder or _table(interactions.num_items, dim)
    loss = SkipGramLoss(
        encoder, decoder, contrast, window, negatives, share_negatives, separate_context
    )
    keys = loop.seed_keys(seeds)
    split = jax.vmap(lambda key: jax.random.split(key))(keys)
    params = jax.vmap(loss.init)(split[:, 0])
    stream = _Stream(interactions, seeds, block, window, subsample)
    noise = sampling.unigram(interactions.counts) if noise is None else noise
    fitted = loop.fit(
        loss,
        optimizer or _ADAM,
        params,
        split[:, 1],
        stream,
        rounds=epochs * stream.rounds,
        shared=noise,
        seeds_at_once=seeds_at_once or (1 if jax.default_backend() == "cpu" else len(seeds)),
        checkpoint=checkpoint,
        fingerprint=_fingerprint(loss, seeds, block, subsample, interactions) if checkpoint else "",
        on_round=on_round,
    )
    items = jnp.arange(interactions.num_items)

    def apply_fn(params: Params, items: Array) -> Any:
        return encoder.apply(params, items)

    embeddings = jax.vmap(apply_fn, (0, None))(fitted.params["encoder"], items)
    return Fitted(
        apply_fn=apply_fn,
        params=fitted.params["encoder"],
        embeddings=np.asarray(embeddings),
        losses=fitted.losses,
        final_loss=fitted.losses[-stream.rounds :].mean(axis=0),
        pairs=pairs * epochs,
        seconds=fitted.seconds,
    )


@functools.lru_cache(maxsize=128)
def _table(num_items: int, dim: int) -> nn.Module:
    """One value for a shape: two initialisers are never equal, and would compile each run anew."""
    return nn.Embed(num_items, dim, embedding_init=nn.initializers.normal(0.1 / dim**0.5))


def _fingerprint(
    loss: SkipGramLoss,
    seeds: tuple[int, ...],
    block: int,
    subsample: float | None,
    interactions: Interactions,
) -> str:
    """Identifies the run when a checkpoint is resumed, with what `loop.fit` compares itself."""
    data = checksum((interactions.items, interactions.offsets))
    # The law of the initial parameters; their values could differ in the last bit by machine.
    initial = checksum(jax.make_jaxpr(loss.init)(jax.random.key(0)))
    return (
        f"seeds={seeds} window={loss.window} block={block} subsample={subsample} data={data} "
        f"initial={initial}"
    )


_ADAM = optax.adam(3e-3)


class _Stream:
    """The blocks of every round, for all seeds: ``stream(i)``, leaves ``[steps, seeds, ...]``."""

    def __init__(
        self,
        interactions: Interactions,
        seeds: tuple[int, ...],
        block: int,
        window: int,
        subsample: float | None,
    ):
        self._make = lambda seed, epoch: sampling.blocks(
            (seed, epoch), interactions, block=block, window=window, subsample=subsample
        )
        self._seeds = seeds
        counts = interactions.counts
        total = sampling.num_blocks(counts, sampling.keep_probability(counts, subsample), block)
        self.rounds = -(-total // _STEPS_A_ROUND)
        self.steps = -(-total // self.rounds)
        self._epoch = -1
        self._blocks: Any = None

    def __call__(self, i: int) -> sampling.Blocks:
        epoch, part = divmod(i, self.rounds)
        if epoch != self._epoch:
            made = [self._make(seed, epoch) for seed in self._seeds]
            short = self.rounds * self.steps - len(made[0].items)
            self._blocks = sampling.Blocks(
                _stack([b.items for b in made], short, 0),
                _stack([b.sequences for b in made], short, -1),
            )
            self._epoch = epoch
        rows = slice(part * self.steps, (part + 1) * self.steps)
        return sampling.Blocks(self._blocks.items[rows], self._blocks.sequences[rows])


def _stack(arrays: list[np.ndarray], short: int, fill: int) -> np.ndarray:
    stacked = np.stack(arrays, axis=1)
    return np.pad(stacked, ((0, short), (0, 0), (0, 0)), constant_values=fill)

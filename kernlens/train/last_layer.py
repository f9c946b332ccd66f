"""The last layer of a text encoder as an encoder of items, to fine-tune it alone.

All layers below are frozen, so what they give is computed once, for each distinct text; a training
step then costs one layer over the distinct texts, however many items share them.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import unfreeze

from kernlens.models import decoders
from kernlens.models.text.batching import batches, by_length, distinct
from kernlens.models.text.bert import (
    Bert,
    Layer,
    Pooling,
    SentenceEncoder,
    Tokens,
    mean_pooling,
    pooled,
)
from kernlens.models.text.encoding import (
    ProgressFn,
    TextEncoder,
    digest,
    length_limit,
    model_digest,
)
from kernlens.models.text.wordpiece import tokenise
from kernlens.train import loop
from kernlens.types import Array, Labels, Params

_STEPS_A_ROUND = 10


class States(NamedTuple):
    """What the last layer reads, and its published weights.

    Attributes:
      hidden: states below it, of each distinct text by rising length, float32 ``[u, t, d]``.
      mask: True where there is a token, bool ``[u, t]``.
      spans: first text, text behind the last, and width, of texts that are computed together.
      texts: distinct text of each item, int32 ``[num_items]``.
      layer: parameters of :class:`kernlens.models.text.bert.Layer`.
    """

    hidden: Array
    mask: Array
    spans: tuple[tuple[int, int, int], ...]
    texts: Array
    layer: Params


class LastLayer(nn.Module):
    """Item ids to embeddings of their texts, by the last layer of a BERT; it alone is trained.

    Training starts from the published weights whatever the key. :func:`last_layer` makes one.

    Attributes:
      digest: of the encoder's weights and the items' texts, which tells two such modules apart.
      heads: attention heads.
      intermediate: width inside the layer's net.
      states: what the layer reads.
      layer_norm_eps: added to the variance in layer normalisation.
      pooling: from hidden states to a vector.
      normalise: whether to divide by the norm.

    References:
      Xu and Yang (2023), the variants BERT-LR and BERT-IP.
    """

    digest: str
    heads: int
    intermediate: int
    states: States = dataclasses.field(compare=False, repr=False)
    layer_norm_eps: float = 1e-12
    pooling: Pooling = mean_pooling
    normalise: bool = True

    @nn.compact
    def __call__(self, items: Array) -> Array:
        """Embeds items.

        Args:
          items: item ids in ``0..num_items-1``, any shape; an id outside is clipped into range.

        Returns:
          Embeddings, ``[*items.shape, d]``.
        """
        hidden, mask, spans, texts, published = self.states
        params = self.param("layer", lambda _: unfreeze(published))
        rows = texts.at[items].get(mode="clip")
        layer = Layer(self.heads, self.intermediate, self.layer_norm_eps, parent=None)
        embed = functools.partial(
            _embed, params, layer=layer, pooling=self.pooling, normalise=self.normalise
        )
        # All texts where that is less work than a row for every id.
        if rows.size * hidden.shape[1] < sum((stop - start) * wide for start, stop, wide in spans):
            flat = rows.reshape(-1)
            return embed(hidden[flat], mask[flat]).reshape(*rows.shape, -1)
        table = [embed(hidden[a:b, :wide], mask[a:b, :wide]) for a, b, wide in spans]
        return jnp.concatenate(table)[rows]


# Compiled as one, since pretraining initialises outside of any program.
@functools.partial(jax.jit, static_argnames=("layer", "pooling", "normalise"))
def _embed(
    params: Params, hidden: Array, mask: Array, *, layer: Layer, pooling: Pooling, normalise: bool
) -> Array:
    top: Any = layer.apply({"params": params}, hidden, mask)
    return pooled(top, mask, pooling, normalise)


def last_layer(
    texts: Iterable[str],
    model: TextEncoder,
    *,
    normalise: bool | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: ProgressFn | None = None,
) -> LastLayer:
    """An encoder of items that trains the last layer of a text encoder.

    Pass it to :func:`kernlens.train.pretrain.contrastive` to train by inner products (BERT-IP),
    with large blocks, since a step costs one pass over all texts whatever the block; or to
    :func:`fine_tune` to train by logistic regression (BERT-LR).

    Args:
      texts: a text for each item.
      model: the encoder, as :func:`kernlens.models.text.load` gives it.
      normalise: whether embeddings have norm 1; by default as the model has it.
      batch_size: as in :func:`kernlens.models.text.encode`.
      max_length: as in :func:`kernlens.models.text.encode`.
      progress: as in :func:`kernlens.models.text.encode`.

    Returns:
      The encoder; before training it gives what ``encode`` gives. It holds 4 t d bytes for each
      distinct text, t the length of the longest.

    Raises:
      ValueError: as :func:`kernlens.models.text.encode`, or no texts.
    """
    once, place = distinct(texts)
    if not once:
        raise ValueError("no texts; expected one for each item")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    limit = length_limit(model, max_length)
    ids = tokenise(model.tokenizer, once, limit).ids
    order = by_length(ids)
    ids = [ids[row] for row in order]
    bert = _bert(model)
    below = bert.clone(num_hidden_layers=bert.num_hidden_layers - 1)
    params = {"params": model.params["params"]["bert"]}
    wide = len(ids[-1])
    hidden = np.zeros((len(ids), wide, bert.hidden_size), np.float32)
    mask = np.zeros((len(ids), wide), bool)
    starts: dict[int, int] = {}
    for start, stop, batch in batches(ids, batch_size, limit):
        width = min(batch.ids.shape[1], wide)
        found = np.asarray(_apply(params, batch, module=below))
        hidden[start:stop, :width] = found[: stop - start, :width]
        mask[start:stop, :width] = batch.mask[: stop - start, :width]
        starts.setdefault(width, start)
        if progress is not None:
            progress(stop, len(ids))
    if not np.isfinite(hidden).all():
        raise ValueError("the encoder gives NaN or infinity; are its parameters finite?")
    edges = [*starts.values(), len(ids)]
    spans = tuple(zip(edges[:-1], edges[1:], starts, strict=True))
    layer = params["params"][f"layer_{bert.num_hidden_layers - 1}"]
    texts_of_items = np.argsort(order)[place].astype(np.int32)
    return LastLayer(
        digest=digest(model_digest(model), [*ids, texts_of_items]),
        states=States(
            jnp.asarray(hidden), jnp.asarray(mask), spans, jnp.asarray(texts_of_items), layer
        ),
        heads=bert.num_attention_heads,
        intermediate=bert.intermediate_size,
        layer_norm_eps=bert.layer_norm_eps,
        pooling=model.module.pooling,
        normalise=model.module.normalise if normalise is None else normalise,
    )


def with_last_layer(model: TextEncoder, params: Params) -> TextEncoder:
    """The text encoder with a fine-tuned last layer, to embed other texts.

    Args:
      model: the encoder that :func:`last_layer` was given.
      params: parameters of one seed of its :class:`LastLayer`.

    Returns:
      The encoder.

    Examples:
      >>> import jax
      >>> from tokenizers import Tokenizer, models, processors
      >>> from kernlens.models import text
      >>> words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "tea": 4, "milk": 5}
      >>> tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
      >>> tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
      >>> bert = text.Bert(6, 8, 2, 2, 16)
      >>> module = text.SentenceEncoder(bert, pooling=text.mean_pooling)
      >>> example = text.Tokens(jnp.ones((1, 3), jnp.int32), jnp.ones((1, 3), bool))
      >>> params = {"params": module.init(jax.random.key(0), example)["params"]}
      >>> model = text.TextEncoder(module, params, tokenizer, 16, 512)
      >>> items = last_layer(["tea", "milk"], model)
      >>> tuned = items.init(jax.random.key(1), jnp.array([0]))  # train these, then:
      >>> text.encode(["milk", "tea"], with_last_layer(model, tuned)).embeddings.shape
      (2, 8)
    """
    name = f"layer_{_bert(model).num_hidden_layers - 1}"
    bert = {**model.params["params"]["bert"], name: params["params"]["layer"]}
    return model._replace(params={"params": {**model.params["params"], "bert": bert}})


class FineTuned(NamedTuple):
    """An encoder trained under a head, one for each seed.

    Attributes:
      params: encoder parameters, every leaf ``[seeds, ...]``.
      head: head parameters, every leaf ``[seeds, ...]``.
      embeddings: embeddings of all items, float32 ``[seeds, num_items, d]``.
      losses: mean loss of each round of 10 steps, float32 ``[rounds, seeds]``.
      seconds: wall time of all seeds together, compilation included.
    """

    params: Params
    head: Params
    embeddings: np.ndarray
    losses: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class _HeadLoss:
    """Mean cross-entropy of a batch of item ids."""

    encoder: nn.Module
    head: nn.Module

    def init(self, key: Array) -> Params:
        items = jnp.zeros((1,), jnp.int32)
        z, encoder = self.encoder.init_with_output(key, items)
        return {"encoder": encoder, "head": self.head.init(key, z)}

    def __call__(self, params: Params, key: Array, batch: Array, shared: Array) -> Array:
        del key
        z = self.encoder.apply(params["encoder"], batch)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            self.head.apply(params["head"], z),  # pyright: ignore[reportArgumentType]
            shared[batch],
        )
        return jnp.mean(losses)


_ADAM = optax.multi_transform(
    {"encoder": optax.adam(1e-4), "head": optax.adam(1e-2)},
    {"encoder": "encoder", "head": "head"},
)


def fine_tune(
    encoder: nn.Module,
    labels: Labels,
    *,
    rows: np.ndarray | None = None,
    head: nn.Module | None = None,
    steps: int = 100,
    batch_size: int = 256,
    seeds: int | Sequence[int] = 1,
    optimizer: optax.GradientTransformation | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
) -> FineTuned:
    r"""Trains an encoder of items and a softmax head on top of it together (BERT-LR).

    The loss is :math:`\frac1b \sum_i -\log \mathrm{softmax}(f(\phi(i)))_{y_i}` over batches of b
    labelled items.

    Args:
      encoder: Flax module from item ids to embeddings, such as a :class:`LastLayer`.
      labels: class of each item; items labelled ``-1`` are left out.
      rows: items to train on, int ``[m]``; all labelled ones by default. Leave out those on which
        the embeddings are to be judged.
      head: Flax module from embeddings to logits; a linear one by default.
      steps: number of steps, rounded up to tens.
      batch_size: b, items a step, drawn from passes in random order.
      seeds: how many runs (seeds 0, 1, ...), or the seeds themselves. A seed fixes the order of
        the items and the initial head.
      optimizer: of parameters ``{"encoder": ..., "head": ...}``; by default Adam at 1e-4 for the
        encoder and at 1e-2 for the head.
      on_round: called after each round of 10 steps.

    Returns:
      Parameters and embeddings, by seed.

    Raises:
      ValueError: an argument out of range, no labelled row, or training that diverged.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one run; got none")
    codes = np.asarray(labels.codes)
    rows = np.arange(len(codes)) if rows is None else np.asarray(rows)
    outside = rows[(rows < 0) | (rows >= len(codes))]
    if len(outside):
        raise ValueError(f"rows must be in 0..{len(codes) - 1}; got {outside[0]}")
    rows = rows[codes[rows] >= 0]
    if not len(rows):
        raise ValueError("no row has a label; expected one at least")
    loss = _HeadLoss(encoder, head or decoders.Linear(len(labels.names)))
    rounds = -(-steps // _STEPS_A_ROUND)
    keys = loop.seed_keys(seeds)
    fitted = loop.fit(
        loss,
        optimizer or _ADAM,
        jax.jit(jax.vmap(loss.init))(keys),
        keys,
        functools.partial(_drawn, rows.astype(np.int32), seeds, batch_size),
        rounds=rounds,
        shared=jnp.asarray(codes, jnp.int32),
        seeds_at_once=1 if jax.default_backend() == "cpu" else None,
        on_round=on_round,
    )
    if not np.isfinite(fitted.losses[-1]).all():
        raise ValueError(f"training diverged: losses {fitted.losses[-1]}; take smaller steps")
    params = fitted.params["encoder"]
    embeddings = _embeddings(params, jnp.arange(len(codes)), encoder=encoder)
    return FineTuned(
        params, fitted.params["head"], np.asarray(embeddings), fitted.losses, fitted.seconds
    )


@functools.partial(jax.jit, static_argnames=("encoder",))
def _embeddings(params: Params, items: Array, *, encoder: nn.Module) -> Any:
    return jax.lax.map(lambda one: encoder.apply(one, items), params)


def _drawn(rows: np.ndarray, seeds: tuple[int, ...], batch_size: int, i: int) -> np.ndarray:
    """Items of the steps of round i, ``[steps, seeds, batch_size]``."""
    places = np.arange(i * _STEPS_A_ROUND * batch_size, (i + 1) * _STEPS_A_ROUND * batch_size)
    passes, at = np.divmod(places, len(rows))
    drawn = []
    for seed in seeds:
        orders = {
            int(number): np.random.default_rng((seed, number)).permutation(rows)
            for number in np.unique(passes)
        }
        drawn.append([orders[int(n)][k] for n, k in zip(passes, at, strict=True)])
    return np.array(drawn, np.int32).reshape(len(seeds), -1, batch_size).swapaxes(0, 1)


def _bert(model: TextEncoder) -> Bert:
    bert = getattr(model.module, "bert", None)
    if not isinstance(model.module, SentenceEncoder) or not isinstance(bert, Bert):
        raise ValueError(f"expected a SentenceEncoder of a Bert; got {type(model.module).__name__}")
    return bert


@functools.partial(jax.jit, static_argnames=("module",))
def _apply(params: Params, batch: Tokens, *, module: nn.Module) -> Array:
    return module.apply(params, batch)  # pyright: ignore[reportReturnType]

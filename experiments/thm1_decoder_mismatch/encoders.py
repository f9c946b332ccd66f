"""Encoders in independent runs: item2vec, and a text encoder whose last layer is fine-tuned."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from experiments.kit import runner
from experiments.kit.cells import Cells
from experiments.kit.sources import Source
from kernlens.models import decoders, text
from kernlens.targets import sequences
from kernlens.train import last_layer, pretrain
from kernlens.types import Labels

CL, IP_TUNED, LR_TUNED = "CL", "BERT, by inner products", "BERT, by logistic regression"
IP, LR = "IP", "LR"
PRETRAINED_BY = {CL: IP, IP_TUNED: IP, LR_TUNED: LR}
"""Families of runs, with what their pretraining decodes by."""

READS_HISTORIES = (CL, IP_TUNED)
"""Families whose embeddings depend on what was bought or seen together, and in which order."""

ITEMS = (*(field.name for field in dataclasses.fields(Source)), "min_class_count")
FIELDS = {
    CL: (*ITEMS, "epochs", "dim", "window", "negatives"),
    IP_TUNED: (*ITEMS, "window", "negatives", "text_baskets"),
    LR_TUNED: (*ITEMS, "text_steps", "text_batch"),
}
"""What an embedding depends on; the readers are not among them."""


def runs(
    name: str, data: Any, task: Labels, rows: np.ndarray, train: np.ndarray, config: Any,
    cells: Cells,
) -> Iterator[tuple[np.ndarray, float]]:  # fmt: skip
    """Embeddings of ``rows`` and final loss, run by run; each is made once, whatever reads it.

    Args:
      name: a family.
      data: interactions.
      task: classes of all items.
      rows: items that are read.
      train: items whose classes fine-tuning by logistic regression learns from.
      config: the experiment's.
      cells: the experiment's; embeddings are kept in a folder of their own.
    """
    own = runner.fingerprint(config, FIELDS[name])
    shared = cells.beside(cells.folder.parents[1] / "mismatch_embeddings" / own)

    @functools.cache  # a text encoder is loaded where a run of it is missing
    def maker() -> Callable[[int], tuple[np.ndarray, float]]:
        if name == CL:
            return functools.partial(pretrained, data, config)
        return tuned(name, data, task, train, config, cells.tell)

    def embedded(seed: int) -> dict[str, np.ndarray]:
        z, loss = maker()(seed)
        return {"z": np.asarray(z[rows], np.float32), "loss": np.asarray(loss)}

    for seed in range(config.runs if name == CL else config.text_runs):
        kept = shared.arrays(f"{name} run {seed}", functools.partial(embedded, seed))
        yield kept["z"], float(kept["loss"])


@functools.cache
def adam() -> optax.GradientTransformation:
    """Item2vec's, one value for all runs: another would compile each anew."""
    return optax.adam(3e-3)


@functools.cache
def decayed(steps: int) -> optax.GradientTransformation:
    """Of BERT-LR: Adam whose rates fall to 0, so that runs end where they converge."""
    rates = {"encoder": 1e-4, "head": 1e-2}
    fitting: Any = {k: optax.adam(optax.cosine_decay_schedule(r, steps)) for k, r in rates.items()}
    return optax.multi_transform(fitting, {name: name for name in rates})


def head_loss(fitted: last_layer.FineTuned, task: Labels, rows: np.ndarray) -> float:
    """Mean log loss of the first run over all items it learnt from, not those of a few steps."""
    head = jax.tree.map(lambda leaf: leaf[0], fitted.head)
    logits: Any = decoders.Linear(len(task.names)).apply(head, fitted.embeddings[0][rows])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, task.codes[rows])
    return float(np.mean(losses))


def pretrained(data: Any, config: Any, seed: int) -> tuple[np.ndarray, float]:
    """Embeddings of one run and its final loss."""
    fitted = pretrain.contrastive(
        data, window=config.window, negatives=config.negatives, dim=config.dim,
        epochs=config.epochs, seeds=(seed,), optimizer=adam(),
    )  # fmt: skip
    return fitted.embeddings[0], float(fitted.final_loss[0])


def tuned(
    name: str, data: Any, task: Labels, train: np.ndarray, config: Any, tell: Callable[[str], None]
) -> Callable[[int], tuple[np.ndarray, float]]:
    """A maker of the text encoder's embeddings of all items and the final loss, by seed."""
    assert data.text is not None
    encoder = last_layer.last_layer(
        map(str, data.text), text.load(text.minilm_folder()), normalise=False,
        progress=lambda done, total: tell(f"layers below: {done:,} of {total:,} texts"),
    )  # fmt: skip
    if name == LR_TUNED:

        def by_classes(seed: int) -> tuple[np.ndarray, float]:
            fitted = last_layer.fine_tune(
                encoder, task, rows=train, steps=config.text_steps,
                batch_size=config.text_batch, seeds=(seed,), optimizer=decayed(config.text_steps),
            )  # fmt: skip
            return fitted.embeddings[0], head_loss(fitted, task, train)

        return by_classes
    kept = np.random.default_rng(0).permutation(data.num_sessions)[: config.text_baskets]
    some = sequences.sessions(data, np.sort(kept))
    optimizer = optax.adam(1e-4)

    def by_products(seed: int) -> tuple[np.ndarray, float]:
        fitted = pretrain.contrastive(
            some, window=config.window, negatives=config.negatives, epochs=1, seeds=(seed,),
            encoder=encoder, decoder=decoders.Cosine(0.1), optimizer=optimizer, block=16_384,
        )  # fmt: skip
        return fitted.embeddings[0], float(fitted.final_loss[0])

    return by_products

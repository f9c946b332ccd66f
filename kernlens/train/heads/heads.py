"""Flax heads on a frozen embedding, trained over many seeds at once."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.train import loop
from kernlens.train.heads.recipes import Affine, General, is_affine
from kernlens.train.heads.splits import Task, make_task, measure, of_labelled
from kernlens.types import Array, Labels, Outcome, Params


def classify(
    embeddings: Any,
    labels: Labels,
    *,
    decoder: nn.Module,
    seeds: int | Sequence[int] = 5,
    test_fraction: float = 0.2,
    held_out: np.ndarray | None = None,
    l2: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    steps: int | None = None,
    on_round: Callable[[loop.Progress], None] | None = None,
) -> Outcome:
    r"""Trains a softmax classifier on the frozen embedding, all seeds together.

    The loss over the :math:`m` training rows of a seed, with :math:`z` the standardised embedding
    and :math:`f` the head, is

    .. math:: \frac1m \sum_i -\log \mathrm{softmax}(f(z_i))_{y_i} + \frac{\lambda}{2m} \|W\|^2.

    There are two recipes; the head decides.

    - A head that is affine in ``z`` and linear in its parameters (`decoders.Linear`) has a convex
      loss, whose optimum is reached: full batches, L-BFGS until a round of 10 steps lowers no
      seed's loss by more than a millionth. :math:`W` is then the slope of the logits in ``z``, so
      biases are free, and ``l2=1`` is scikit-learn's ``LogisticRegression(C=1)``. The steps are
      taken in whitened coordinates, which moves the path, not the optimum, and lets columns that
      are nearly collinear converge as fast as others.
    - Any other head (`decoders.Mlp`) takes a fixed number of steps of Adam at 0.01, falling to 0
      along a cosine, on batches of 256 rows; :math:`W` is then every parameter of rank 2 or more.
      Nothing is chosen by a run's own held-out rows.

    Args:
      embeddings: rows to classify, ``[n, d]``, finite where labelled.
      labels: their classes, ``n`` rows; rows labelled ``-1`` are left out.
      decoder: Flax head, ``[n, d]`` to logits ``[n, C]``; its ``num_outputs`` is set to C here.
      seeds: how many (seeds 0, 1, ...), or the seeds themselves.
      test_fraction: share of each class to hold out, in ``(0, 1)``.
      held_out: rows that each seed holds out, bool ``[seeds, n]``, in place of a random share of
        each class, such as splits that keep copies of a row together; with the same rows twice, two
        seeds differ by the head alone.
      l2: :math:`\lambda \ge 0`; default 1 for an affine head, 10 for another.
      optimizer: any optax optimiser in place of the recipe's; an affine head then takes all its
        steps.
      steps: most steps of a seed, rounded up to whole rounds; default 500 for an affine head,
        1,500 for another.
      on_round: called after each round of training.

    Returns:
      Metrics on held-out and on training rows, and the classes given, by seed.

    Raises:
      ValueError: rows that do not match, are not finite, or are too few; fewer than two classes;
        an argument out of range; a loss that became infinite or NaN.

    Warns:
      RuntimeWarning: L-BFGS ran out of steps, so the outcome is not the optimum's.

    References:
      Xu and Yang (2023), the protocol of the entity tasks; Liu and Nocedal (1989), L-BFGS.
    """
    start = time.perf_counter()
    held = None if held_out is None else of_labelled(held_out, labels, seeds)
    task = make_task(embeddings, labels, seeds, test_fraction, held)
    trained = _trained(task, decoder, l2, optimizer, steps, on_round)
    predicted, losses = map(np.asarray, _predict(trained.recipe, trained.params, trained.shared))
    return measure(task, predicted, start)._replace(losses=losses)


class Trained(NamedTuple):
    """Trained heads, one a seed or fold, that can be asked about other rows.

    Attributes:
      recipe: how they were trained.
      params: every leaf ``[S, ...]``.
      shared: what training read.
      task: the rows, and who held out which.
      l2: penalty.
    """

    recipe: Any
    params: Params
    shared: Any
    task: Task
    l2: float

    def only(self, place: int) -> "Trained":
        """One of the heads."""
        shared = self.shared._replace(
            shift=self.shared.shift[place][None], scale=self.shared.scale[place][None]
        )
        params = jax.tree.map(lambda leaf: leaf[place][None], self.params)
        return self._replace(params=params, shared=shared)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Logits of rows ``[m, d]`` by every head, float32 ``[S, m, C]``."""
        x = self.recipe.coordinates(self.task, self.l2, self.task.standardised(rows))
        with jax.default_matmul_precision("highest"):
            shared = self.shared._replace(x=jnp.asarray(x, jnp.float32))
            return np.asarray(_logits_of(self.recipe, self.params, shared))


def train(
    embeddings: Any,
    labels: Labels,
    *,
    decoder: nn.Module,
    held_out: np.ndarray,
    seeds: Sequence[int],
    l2: float | None = None,
    steps: int | None = None,
) -> Trained:
    """Trains heads as :func:`classify` does, on splits that are given, and keeps them.

    Args:
      embeddings: as :func:`classify`.
      labels: as :func:`classify`.
      decoder: as :func:`classify`.
      held_out: rows that a head does not learn from, bool ``[S, n]``, of the labelled rows.
      seeds: seeds of initial values and batches, one for each head, ``S``.
      l2: as :func:`classify`.
      steps: as :func:`classify`.

    Returns:
      Trained.

    Raises:
      ValueError: as :func:`classify`, or splits that do not match rows and seeds.
    """
    labelled = int(np.count_nonzero(np.asarray(labels.codes) >= 0))
    if held_out.shape != (len(seeds), labelled):
        raise ValueError(
            f"held_out must be [seeds, labelled rows], {(len(seeds), labelled)}; "
            f"got {held_out.shape}"
        )
    task = make_task(embeddings, labels, seeds, 0.2, held_out)
    return _trained(task, decoder, l2, None, steps, None)


def _trained(task, decoder, l2, optimizer, steps, on_round) -> Trained:
    if l2 is not None and not 0.0 <= l2 < math.inf:
        raise ValueError(f"l2 must be 0 or more, and finite; got {l2}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    head = decoder.clone(num_outputs=task.num_classes) if _sized(decoder) else decoder
    dim = task.x.shape[1]
    _check_logits(head, dim, task.num_classes)
    with jax.default_matmul_precision("highest"):
        recipe = (Affine if is_affine(head, dim) else General)(head)
        shared = recipe.shared(task, recipe.l2 if l2 is None else l2)
        streams = jax.vmap(jax.random.split)(loop.seed_keys(task.seeds))
        params = _init(head, streams[:, 0], dim)
        steps = steps or recipe.steps
        rounds = -(-steps // recipe.round)
        fitted = loop.fit(
            recipe,
            optimizer or recipe.optimizer(steps),
            params,
            streams[:, 1],
            recipe.batches(task, -(-steps // rounds)),
            rounds=rounds,
            shared=shared,
            on_round=on_round,
            until=recipe.until if optimizer is None else None,
        )
        if not np.isfinite(fitted.losses[-1]).all():
            bad = task.seeds[int(np.argmin(np.isfinite(fitted.losses[-1])))]
            raise ValueError(
                f"training diverged: seed {bad} ended at loss {fitted.losses[-1].max()}; "
                "take smaller steps or a larger l2"
            )
        if optimizer is None:
            recipe.check(fitted, shared)
    return Trained(recipe, fitted.params, shared, task, recipe.l2 if l2 is None else l2)


def _sized(decoder: nn.Module) -> bool:
    return "num_outputs" in getattr(decoder, "__dataclass_fields__", {})


@functools.lru_cache(maxsize=128)
def _check_logits(head: nn.Module, dim: int, num_classes: int) -> None:
    rows = jax.ShapeDtypeStruct((2, dim), jnp.float32)
    try:
        logits, _ = jax.eval_shape(head.init_with_output, jax.random.key(0), rows)
    except TypeError as error:
        raise ValueError(f"decoder must be a head that reads one embedding; got {head}") from error
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"decoder must give {num_classes} logits a row, one a class; got shape {logits.shape} "
            f"for 2 rows from {head}"
        )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init(head: nn.Module, keys: Array, dim: int) -> Params:
    example = jnp.zeros((1, dim), jnp.float32)
    return jax.vmap(lambda key: head.init(key, example))(keys)


@functools.partial(jax.jit, static_argnums=0)
def _predict(recipe: Any, params: Params, shared: Any) -> tuple[Array, Array]:
    """Classes given to all rows by every seed, int32 ``[S, n]``, and their log losses."""

    def one(at: Any) -> tuple[Array, Array]:
        logits = recipe.logits(*at, shared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shared.codes)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), losses

    return jax.lax.map(one, (params, jnp.arange(shared.shift.shape[0])))


@functools.partial(jax.jit, static_argnums=0)
def _logits_of(recipe: Any, params: Params, shared: Any) -> Array:
    """Logits of the rows shared by every seed, ``[S, m, C]``."""
    places = jnp.arange(shared.shift.shape[0])
    return jax.lax.map(lambda at: recipe.logits(*at, shared), (params, places))

"""A small classifier, trained on many subsets of the same rows at once."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.ntk import influence


class Mlp(nn.Module):
    """One hidden layer."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, x):
        """Logits of rows."""
        return nn.Dense(self.classes)(nn.tanh(nn.Dense(self.width)(x)))


class Task(NamedTuple):
    """Rows and labels to train on, and those whose margins are explained."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


class Recipe(NamedTuple):
    """How each model is trained: full batches, so that rows alone make a difference."""

    width: int
    classes: int
    steps: int
    rate: float
    decay: float


def fit(recipe: Recipe, task: Task, seed: int, weights: np.ndarray) -> tuple[Any, np.ndarray]:
    """Models from one initialisation, on rows that count by their weights.

    Args:
      recipe: of the training.
      task: rows.
      seed: of the initialisation.
      weights: of the rows, for each model, ``[models, n]``.

    Returns:
      Parameters, leaves ``[models, ...]``, and margins of the test rows, ``[models, m]``.
    """
    return _fit(recipe, task, jax.random.key(seed), jnp.asarray(weights, jnp.float32))


@partial(jax.jit, static_argnums=0)
def _fit(recipe, task, key, weights):
    model = Mlp(recipe.width, recipe.classes)
    params = model.init(key, task.x)
    optimizer = optax.sgd(recipe.rate, 0.9)
    apply: Any = model.apply
    margin = influence.margin_fn(apply)

    def one(own):
        def loss(params):
            losses = optax.softmax_cross_entropy_with_integer_labels(apply(params, task.x), task.y)
            size = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
            # Divided by all rows: a row that is left out leaves the others what they were.
            return jnp.sum(own * losses) / len(task.y) + 0.5 * recipe.decay * size

        def step(state, _):
            params, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(params), moments)
            return (optax.apply_updates(params, updates), moments), None

        start = (params, optimizer.init(params))
        (found, _), _ = jax.lax.scan(step, start, None, length=recipe.steps)
        return found, margin(found, (task.x_test, task.y_test))

    return jax.lax.map(one, weights, batch_size=64)

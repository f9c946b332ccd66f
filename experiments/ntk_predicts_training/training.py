"""The three models, and gradient descent of each or of its linearisation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.ntk_predicts_training.settings import (
    HEAD,
    LOGISTIC,
    SOFTMAX,
    SQUARED,
    TABLES,
    TOWERS,
    Setting,
)
from experiments.ntk_predicts_training.tasks import Task
from kernlens.ntk import cross_ntk_fn, dynamics, infinite, linearize
from kernlens.types import Array, Params


class Model(NamedTuple):
    """A network of one width, its kernels, and the kernel at infinite width."""

    init: Callable[[Array, Any], Params]
    f: Callable[[Params, Any], Any]
    kernel_fn: Callable[..., Array]
    limit_fn: Callable[..., Array]


@functools.cache
def model(part: str, width: int, outputs: int, items: int) -> Model:
    """The model of a part; one object a width, so that its settings share what is compiled."""
    hidden = infinite.dense(width, 2**0.5, 0.1), infinite.relu()
    if part == HEAD:
        net = infinite.serial(*hidden, infinite.dense(outputs))
    elif part == TOWERS:
        tower = infinite.serial(*hidden, infinite.dense(width))
        net = infinite.two_tower(tower, tower)
    else:
        table = infinite.lookup(items, width, parameterization="standard")
        net = infinite.two_tower(table, table)
    module: Any = net.module
    # A score has one output, over which a trace is the kernel itself.
    kernel_fn = cross_ntk_fn(module.apply, trace_axes=() if part == HEAD else (-1,))
    return Model(jax.jit(module.init), module.apply, kernel_fn, net.kernel_fn)


def initial_size(setting: Setting) -> float:
    """Factor on item2vec's tables; its scores are over sqrt(d), so its vectors over d ** 0.25."""
    return setting.norm / setting.width**0.25 if setting.part == TABLES else 1.0


def targets(loss: str, y: Array) -> Array:
    """Labels as the loss wants them: about zero for squared error."""
    return y - 1.0 / max(y.shape[1], 2) if loss == SQUARED else y


def flatness(loss: str, y: Array) -> int:
    """Outputs over which a squared error of the greatest curvature of this loss is a mean."""
    return {SQUARED: y.size, SOFTMAX: 2 * len(y), LOGISTIC: 4 * y.size}[loss]


@functools.partial(jax.jit, static_argnames=("f", "loss", "linear", "minibatch"))
def descend(
    f: Callable[[Params, Any], Array],
    loss: str,
    linear: bool,
    minibatch: int,
    origin: Params,
    params: Params,
    x: Any,
    y: Array,
    learning_rate: Array,
    steps: tuple[Array, Array],
) -> Params:
    """Gradient descent from one step to another, of the model or of its linearisation."""
    model = linearize(f, origin) if linear else f

    def step(i: Array, params: Params) -> Params:
        rows = slice(None)
        if minibatch:
            key = jax.random.fold_in(jax.random.key(0), i)
            rows = jax.random.choice(key, len(y), (minibatch,), replace=False)
        batch, wanted = jax.tree.map(lambda leaf: leaf[rows], (x, y))
        slope = jax.grad(lambda p: dynamics.LOSSES[loss](model(p, batch), wanted))(params)
        return jax.tree.map(lambda p, g: p - learning_rate.astype(p.dtype) * g, params, slope)

    return jax.lax.fori_loop(*steps, step, params)


class Curve(NamedTuple):
    """Outputs at the recorded steps, ``[T, n, C]``."""

    train: Array
    test: Array


@functools.partial(jax.jit, static_argnums=(0, 1))
def outputs(
    f: Callable[[Params, Any], Array], linear: bool, origin: Params, params: Params, x: Any, z: Any
) -> Curve:
    """Outputs on training and test rows, of the model or of its linearisation."""
    chosen = linearize(f, origin) if linear else f
    return Curve(chosen(params, x), chosen(params, z))


def train(
    f: Callable[[Params, Any], Array],
    setting: Setting,
    task: Task,
    rate: float,
    origin: Params,
    *,
    linear: bool = False,
) -> tuple[Curve, Params]:
    """Trains the model, or its linearisation: outputs at the recorded steps, last parameters."""
    y = targets(setting.loss, task.y)
    params, last, seen = origin, 0, []
    for step in setting.steps:
        span = jnp.asarray(last), jnp.asarray(step)
        params = descend(
            f, setting.loss, linear, setting.minibatch, origin, params, task.x, y,
            jnp.asarray(rate), span,
        )  # fmt: skip
        seen.append(outputs(f, linear, origin, params, task.x, task.x_test))
        last = step
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen), params

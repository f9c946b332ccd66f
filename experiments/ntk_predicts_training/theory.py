"""What the kernel at the start says of training, and how far it is from what training did."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.ntk_predicts_training.settings import SQUARED, Setting
from experiments.ntk_predicts_training.training import Curve, targets
from kernlens import metrics
from kernlens.ntk import dynamics
from kernlens.types import Array, Params


class Kernels(NamedTuple):
    """Of the training rows with themselves, of test with training rows, and axes without a pair."""

    train: Any
    cross: Array
    trace_axes: tuple[int, ...]


def predict(setting: Setting, given: Kernels, y: Array, rate: float, start: Curve) -> Curve:
    """The theory: descent in closed form on squared error, else the flow."""
    steps = jnp.asarray(setting.steps)
    if setting.loss != SQUARED:
        times = steps.astype(y.dtype)
        return flow(setting.loss, given.trace_axes, given.train, given.cross, y, rate, times, start)
    made = dynamics.discrete_gradient_descent_mse(given.train, y, rate, trace_axes=given.trace_axes)
    return Curve(*made(steps, *start, given.cross))


@functools.partial(jax.jit, static_argnums=(0, 1))
def flow(
    loss: str,
    trace_axes: tuple[int, ...],
    train: Array,
    cross: Array,
    y: Array,
    rate: Any,
    times: Array,
    start: Curve,
) -> Curve:
    """Gradient flow, one program for all kernels of a shape."""
    made = dynamics.gradient_descent(dynamics.LOSSES[loss], train, y, rate, trace_axes=trace_axes)
    return Curve(*made(times, *start, cross))


@jax.jit
def relative_error(predicted: Array, trained: Array, start: Array) -> Array:
    """How far apart two curves are, over how far the second has come, ``[T]``."""
    size = functools.partial(jnp.linalg.norm, axis=(1, 2))
    return size(predicted - trained) / size(trained - start)


@jax.jit
def ensemble_error(expected: Array, members: Array) -> dict[str, Array]:
    """How far the mean of trained outputs, ``[seeds, T, n, C]``, is from the theory's, relatively.

    ``noise`` is what the mean of so few members would be off by were the theory exact.
    """
    size = functools.partial(jnp.linalg.norm, axis=(1, 2))
    mean = members.mean(0)
    noise = members.std(0) / max(len(members) - 1, 1) ** 0.5
    return {"error": size(expected - mean) / size(mean), "noise": size(noise) / size(mean)}


@functools.partial(jax.jit, static_argnums=0)
def measure(loss: str, curve: Curve, y: Array, y_test: Array) -> dict[str, Array]:
    """Loss on training and test rows, metrics on test rows, at the recorded steps."""
    loss_fn = jax.vmap(dynamics.LOSSES[loss], (0, None))
    found = {
        "train_loss": loss_fn(curve.train, targets(loss, y)),
        "test_loss": loss_fn(curve.test, targets(loss, y_test)),
    }
    if y.shape[1] == 1:
        truth = y_test[:, 0]
        return {**found, "auc": jax.vmap(lambda fx: metrics.auc(fx[:, 0], truth))(curve.test)}
    truth = jnp.argmax(y_test, -1)
    made = jax.vmap(lambda fx: metrics.classification(truth, jnp.argmax(fx, -1), y.shape[1]))(
        curve.test
    )
    return {**found, "accuracy": made.accuracy, "macro_f1": made.macro_f1}


def change(
    kernel_fn: Callable[..., Array], x: Any, start: Params, end: Params
) -> dict[str, float | None]:
    r"""How far training moved the kernel, and the gradients that it is made of.

    :math:`\|K_T - K_0\| / \|K_0\|`, and with the kernel between the two moments,
    :math:`\|J_T - J_0\| / \|J_0\|`, whose square is :math:`(K_{TT} + K_{00} - 2 K_{0T}) / K_{00}`
    in traces.
    """
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(end)):
        return {"kernel_change": None, "feature_change": None}
    before, after, both = (
        kernel_fn(x, None, *pair) for pair in ((start, start), (end, end), (start, end))
    )
    own, moved, shared = (float(total_trace(k)) for k in (before, after, both))
    return {
        "kernel_change": float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before)),
        "feature_change": (max(moved + own - 2.0 * shared, 0.0) / own) ** 0.5,
    }


def total_trace(kernel: Array) -> Array:
    """Trace of a kernel, over outputs as over rows."""
    diagonal = jnp.diagonal(kernel)  # [*outputs twice, n]
    return jnp.sum(diagonal if diagonal.ndim == 1 else jnp.trace(diagonal))

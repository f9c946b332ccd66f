"""Runs resumed as another run, and compiled gradients of a row's distance to itself."""

import functools
from tempfile import TemporaryDirectory
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import kernels
from kernlens.train import pretrain
from tests.cases import toy_interactions
from tests.corrected.case import Case


def _contrast(weight: float) -> pretrain.Contrast:
    return pretrain.Contrast(
        lambda logits, counts: weight * pretrain.SIGMOID.summary(logits, counts),
        lambda positive, summary: pretrain.SIGMOID.pair(positive, summary),
    )


def _table(scale: float) -> nn.Embed:
    return nn.Embed(4, 2, embedding_init=nn.initializers.normal(scale))


RUN: dict[str, Any] = {
    "contrast": _contrast(1.0), "encoder": _table(0.1), "optimizer": optax.adam(1e-3),
    "window": 1, "negatives": 1, "block": 8, "epochs": 1,
}  # fmt: skip
OTHERS = {
    "optimizer": optax.adam(1e-1),
    "contrast": _contrast(2.0),
    "encoder": _table(10.0),
}


@functools.cache
def _resumed() -> dict[str, str]:
    """What a finished run's folder gives to runs that differ from it in one argument."""
    data, found = toy_interactions([[0, 1, 2, 3, 0]]), {}
    with TemporaryDirectory() as folder:
        pretrain.contrastive(data, checkpoint=folder, **RUN)
        for name, value in OTHERS.items():
            try:
                pretrain.contrastive(data, checkpoint=folder, **RUN | {name: value})
                found[name] = "the first run"
            except ValueError:
                found[name] = "ValueError"
    return found


def _own_slope(kernel: Any) -> float:
    """Largest entry of the compiled gradient of the sum of ``k(x, x)``, which is constant."""
    x = jnp.asarray(np.random.default_rng(13).standard_normal((12, 3)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.diagonal(kernel(x, x)))))
    return float(jnp.abs(gradient(x)).max())


CASES: tuple[Case, ...] = (
    Case(
        "resuming with another optimiser",
        "contrastive(data, optimizer=adam(0.1), checkpoint=folder) after adam(0.001)",
        "the first run",
        "ValueError",
        lambda: _resumed()["optimizer"],
    ),
    Case(
        "resuming with another loss whose functions have the same names",
        "contrastive(data, contrast=weighted(2), checkpoint=folder) after weighted(1)",
        "the first run",
        "ValueError",
        lambda: _resumed()["contrast"],
    ),
    Case(
        "resuming with another initialiser",
        "contrastive(data, encoder=Embed(4, 2, normal(10)), checkpoint=folder) after normal(0.1)",
        "the first run",
        "ValueError",
        lambda: _resumed()["encoder"],
    ),
    Case(
        "compiled gradient of a constant diagonal: arc-cosine, order 0",
        "jit(grad(lambda x: trace(arc_cosine(x, x, order=0))))(x), largest entry",
        3.777,
        0.0,
        lambda: _own_slope(kernels.KERNELS["arc_cosine0"]),
        tolerance=1e-5,
    ),
    Case(
        "compiled gradient of a constant diagonal: Laplace with a lengthscale",
        "jit(grad(lambda x: trace(laplace(x, x, lengthscale=1.5))))(x), largest entry",
        3.736,
        0.0,
        lambda: _own_slope(functools.partial(kernels.laplace, lengthscale=1.5)),
        tolerance=1e-5,
    ),
)

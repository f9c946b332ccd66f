"""Readers of an embedding: by inner products, by coordinates, and what is between.

Each maps ``(z [m, d], codes [m], z_test [t, d], seeds [S])`` to classes, int ``[S, t]``; a
deterministic one gives one row. Embeddings come centred with one common scale, never a scale for
each column, which would itself read coordinates.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens import metrics


def class_mean(z, codes, z_test, seeds) -> np.ndarray:
    """Largest inner product with a class mean, less half the mean's squared norm."""
    means = np.stack([z[codes == c].mean(axis=0) for c in range(codes.max() + 1)])
    return np.argmax(z_test @ means.T - 0.5 * np.sum(means**2, axis=1), axis=1)[None]


def kernel_ridge(z, codes, z_test, seeds, *, ridge: float = 1.0) -> np.ndarray:
    """Ridge on one-hot targets with classes of equal weight, which the Gram matrix determines."""
    weight = 1.0 / np.bincount(codes)[codes]
    weight *= len(codes) / weight.sum()
    z, z_test = (np.pad(x, ((0, 0), (0, 1)), constant_values=1.0) for x in (z, z_test))
    penalty = ridge * np.diag(np.append(np.ones(z.shape[1] - 1), 0.0))
    target = np.eye(codes.max() + 1)[codes]
    given = weight[:, None] * z
    slope = np.linalg.solve(z.T @ given + penalty, given.T @ target)
    return np.argmax(z_test @ slope, axis=1)[None]


def exact_lr(z, codes, z_test, seeds) -> np.ndarray:
    """Logistic regression at the optimum of its convex L2 loss."""
    return fitted_lr(z, codes).predict(z_test)[None]


def fitted_lr(z, codes) -> Any:
    """scikit-learn's logistic regression, C = 1."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=300).fit(z, codes)


def trees(z, codes, z_test, seeds) -> np.ndarray:
    """Gradient-boosted trees, which split on one coordinate at a time."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    made: Any = HistGradientBoostingClassifier
    found = made(max_iter=15, early_stopping=False, random_state=0)
    return found.fit(z, codes).predict(z_test)[None]


def nearest(z, codes, z_test, seeds, *, p: int) -> np.ndarray:
    """Five nearest neighbours in the p-norm."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5, p=p, algorithm="brute").fit(z, codes).predict(z_test)[None]


def trained(z, codes, z_test, seeds, *, optimizer, hidden: int = 0, steps: int = 600) -> np.ndarray:
    """A head trained on batches of 256; a seed fixes the batches and an MLP's initialisation.

    Logistic regression starts at zero, so that plain gradient steps commute with a rotation.
    """
    rows, rows_test = (jnp.asarray(x, jnp.float32) for x in (z, z_test))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to its count
        found = _trained(
            rows, jnp.asarray(codes, jnp.int32), rows_test, jnp.asarray(seeds, jnp.int32),
            optimizer=optimizer, hidden=hidden, steps=steps, classes=int(codes.max()) + 1,
        )  # fmt: skip
    return np.asarray(found)


@functools.partial(jax.jit, static_argnames=("optimizer", "hidden", "steps", "classes"))
def _trained(z, codes, z_test, seeds, *, optimizer, hidden, steps, classes):
    def logits(params, x):
        if hidden:
            x = jax.nn.relu(x @ params["v"] + params["a"])
        return x @ params["w"] + params["b"]

    def loss(params, rows):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits(params, z[rows]), codes[rows]
        )
        return jnp.mean(losses)

    def one(seed):
        first, second, batches = jax.random.split(jax.random.key(seed), 3)
        wide = hidden or z.shape[1]
        params = {"w": jnp.zeros((wide, classes)), "b": jnp.zeros(classes)}
        if hidden:
            params["v"] = jax.random.normal(first, (z.shape[1], hidden)) * (2 / z.shape[1]) ** 0.5
            params["a"] = jnp.zeros(hidden)
            params["w"] = jax.random.normal(second, (hidden, classes)) * (1 / hidden) ** 0.5

        def step(state, key):
            params, opt = state
            rows = jax.random.randint(key, (256,), 0, z.shape[0])
            updates, opt = optimizer.update(jax.grad(loss)(params, rows), opt, params)
            return (optax.apply_updates(params, updates), opt), None

        (params, _), _ = jax.lax.scan(
            step, (params, optimizer.init(params)), jax.random.split(batches, steps)
        )
        return jnp.argmax(logits(params, z_test), axis=-1)

    return jax.lax.map(one, seeds)


READERS = {
    "IP class mean": class_mean,
    "IP ridge": kernel_ridge,
    "LR exact": exact_lr,
    "LR SGD": functools.partial(trained, optimizer=optax.sgd(0.3, momentum=0.9)),
    "LR Adam": functools.partial(trained, optimizer=optax.adam(0.01)),
    "MLP": functools.partial(trained, optimizer=optax.adam(0.01), hidden=32),
}
"""What the variants read by."""

CONTROLS = {
    **READERS,
    "5-NN, L2": functools.partial(nearest, p=2),
    "5-NN, L1": functools.partial(nearest, p=1),
    "trees": trees,
}
"""What reads an embedding and its rotation."""


def scaled(x: np.ndarray) -> np.ndarray:
    """Centred, with mean squared coordinate 1: one scale for all columns."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0)
    return x / np.sqrt(np.mean(x**2))


def rotation(dim: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return q * np.sign(np.diag(r))


def scores(codes: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Macro-F1 and balanced accuracy."""
    classes = int(codes.max()) + 1
    counts = np.zeros((classes, classes))
    np.add.at(counts, (codes, predicted), 1)
    hits = np.diag(counts)
    found = metrics.from_counts(hits, counts.sum(axis=0), counts.sum(axis=1))
    return float(found.macro_f1), float(found.balanced_accuracy)

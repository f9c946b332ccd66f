"""Readers of an embedding: by inner products with class means, and by logistic regression.

Each maps ``(z [m, d], codes [m], z_test [t, d], seeds [S])`` to classes, int ``[S, t]``; a
deterministic one gives one row. Embeddings come centred with one common scale. Both kinds come
with and without the classes' shares, since a reader that mostly answers the largest class changes
few of its answers, whatever it reads. What is between the kinds is whitening: class means ignore
how the rows spread, logistic regression divides by it, and L2 takes that division back.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from threadpoolctl import threadpool_limits

from kernlens import metrics


def class_mean(z, codes, z_test, seeds, *, prior: bool = False) -> np.ndarray:
    """Nearest class mean, by inner products; with the log of the classes' shares if ``prior``.

    It is the rule of Gaussian classes with one common variance in all directions, whose estimate
    sets the scale of distances against that of shares.
    """
    count = np.bincount(codes)
    means = np.stack([z[codes == c].mean(axis=0) for c in range(len(count))])
    logits = z_test @ means.T - 0.5 * np.sum(means**2, axis=1)
    if prior:
        logits = logits / np.mean((z - means[codes]) ** 2) + np.log(count / len(codes))
    return np.argmax(logits, axis=1)[None]


def whitened_mean(z, codes, z_test, seeds) -> np.ndarray:
    """Nearest class mean where the rows within classes are white: inner products all the same.

    The covariance within classes is shrunk as Ledoit and Wolf (2004) do.
    """
    from sklearn.covariance import LedoitWolf

    means = np.stack([z[codes == c].mean(axis=0) for c in range(codes.max() + 1)])
    inner = LedoitWolf(assume_centered=True).fit(z - means[codes]).covariance_
    values, vectors = np.linalg.eigh(inner)
    white = vectors / np.sqrt(values)
    return class_mean(z @ white, codes, z_test @ white, seeds)


def exact_lr(z, codes, z_test, seeds, *, balanced: bool = False, l2: float | None = None):
    """Logistic regression at the optimum of its convex loss.

    Args:
      balanced: whether classes weigh the same, however many rows they have.
      l2: penalty of the mean loss, ``l2 / 2 |w|^2``; by default 1 over the number of rows, as
        scikit-learn has it.
    """
    return fitted_lr(z, codes, balanced=balanced, l2=l2).predict(z_test)[None]


def fitted_lr(z, codes, *, balanced: bool = False, l2: float | None = None) -> Any:
    """scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    c = 1.0 if l2 is None else 1.0 / (l2 * len(codes))
    made = LogisticRegression(C=c, class_weight="balanced" if balanced else None, max_iter=1000)
    with threadpool_limits(1):  # of its products of a few megaflops, threads cost more than they do
        return made.fit(z, codes)


def trained_lr(z, codes, z_test, seeds, *, balanced: bool = False, steps: int = 600) -> np.ndarray:
    """Logistic regression trained from 0 by SGD on batches of 256, which a seed fixes.

    If ``balanced``, rows are drawn such that all classes come as often.
    """
    count = np.bincount(codes)
    weight = 1.0 / count[codes] if balanced else np.ones(len(codes))
    share = np.cumsum(weight) / np.sum(weight)
    found = _trained(
        jnp.asarray(z, jnp.float32), jnp.asarray(codes, jnp.int32),
        jnp.asarray(z_test, jnp.float32), jnp.asarray(seeds, jnp.int32),
        jnp.asarray(share, jnp.float32), steps=steps, classes=len(count),
    )  # fmt: skip
    return np.asarray(found)


@functools.partial(jax.jit, static_argnames=("steps", "classes"))
def _trained(z, codes, z_test, seeds, share, *, steps, classes):
    optimizer = optax.sgd(0.3, momentum=0.9)

    def loss(params: Any, rows):
        logits = z[rows] @ params["w"] + params["b"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, codes[rows])
        return jnp.mean(losses)

    def one(seed):
        params: Any = {"w": jnp.zeros((z.shape[1], classes)), "b": jnp.zeros(classes)}

        def step(state, key):
            params, opt = state
            drawn = jax.random.uniform(key, (256,))
            rows = jnp.minimum(jnp.searchsorted(share, drawn, side="right"), len(z) - 1)
            updates, opt = optimizer.update(jax.grad(loss)(params, rows), opt, params)
            return (optax.apply_updates(params, updates), opt), None

        keys = jax.random.split(jax.random.key(seed), steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return jnp.argmax(z_test @ params["w"] + params["b"], axis=-1)

    return jax.lax.map(one, seeds)


MEANS, MEANS_PRIOR, MEANS_WHITE = "class means", "class means + log prior", "class means, whitened"
LR, LR_BALANCED = "LR", "LR, balanced"
SGD, SGD_BALANCED = "LR by SGD", "LR by SGD, balanced"
PATH = {f"LR, balanced, L2 {l2:g}": l2 for l2 in (0.1, 10.0)}
READERS = {
    MEANS: class_mean,
    MEANS_WHITE: whitened_mean,
    **{name: functools.partial(exact_lr, balanced=True, l2=l2) for name, l2 in PATH.items()},
    LR_BALANCED: functools.partial(exact_lr, balanced=True),
    SGD_BALANCED: functools.partial(trained_lr, balanced=True),
    MEANS_PRIOR: functools.partial(class_mean, prior=True),
    LR: exact_lr,
    SGD: trained_lr,
}
"""What an embedding is read by: first without the classes' shares, then with them."""

ALIKE = {
    "classes of equal weight": (MEANS, LR_BALANCED),
    "classes by their shares": (MEANS_PRIOR, LR),
}
"""Inner products and logistic regression that treat the classes' shares alike, without noise."""


def scaled(x: np.ndarray) -> np.ndarray:
    """Centred, with mean squared coordinate 1: one scale for all columns."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0)
    return x / np.sqrt(np.mean(x**2))


def scores(codes: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Macro-F1 and balanced accuracy."""
    classes = int(codes.max()) + 1
    counts = np.zeros((classes, classes))
    np.add.at(counts, (codes, predicted), 1)
    hits = np.diag(counts)
    found = metrics.from_counts(hits, counts.sum(axis=0), counts.sum(axis=1))
    return float(found.macro_f1), float(found.balanced_accuracy)


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two runs, the mean over pairs of head seeds, ``[S, t]`` each.

    Agreement beyond that of independent readers that answer each class as often; 1 where both
    always answer one and the same class.
    """
    classes = int(max(a.max(), b.max())) + 1
    shares = [np.stack([np.mean(one == c, axis=1) for c in range(classes)]) for one in (a, b)]
    chance = shares[0].T @ shares[1]
    same = np.mean(a[:, None] == b[None], axis=2)
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.where(chance < 1, (same - chance) / (1 - chance), 1.0)))

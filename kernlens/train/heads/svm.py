"""Support vector machines on precomputed Gram matrices."""

import functools
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from kernlens.train.heads.splits import draw, make_task, measure
from kernlens.types import Array, Kernel, Labels, Outcome


def kernel_svm(
    embeddings: Any,
    labels: Labels,
    *,
    kernel: Kernel,
    seeds: int | Sequence[int] = 5,
    test_fraction: float = 0.2,
    C: float = 1.0,
    max_rows: int = 3000,
) -> Outcome:
    """Trains scikit-learn's support vector machine on our Gram matrix, seed after seed.

    The splits and the standardised columns are those of :func:`classify`. The Gram matrix is
    divided by the mean of its diagonal over the rows trained on, so ``C`` means the same at any
    scale of the kernel. Training takes time and memory of the square of the rows: a stratified
    sample of at most ``max_rows`` of a seed's training rows (and at least one of each class) is
    trained on. ``train_metrics`` are nevertheless those of all rows that are not held out.

    Args:
      embeddings: rows to classify, ``[n, d]``, finite where labelled.
      labels: their classes, ``n`` rows; rows labelled ``-1`` are left out.
      kernel: a kernel of standardised rows; bind its lengthscale to suit them (for `kernels.rbf`
        about ``sqrt(d)``).
      seeds: how many (seeds 0, 1, ...), or the seeds themselves.
      test_fraction: share of each class to hold out, in ``(0, 1)``.
      C: penalty of a margin violation, above 0.
      max_rows: most rows to train on, at least 2.

    Returns:
      Metrics on held-out and on training rows, and the classes given, by seed.

    Raises:
      ValueError: as for :func:`classify`; scikit-learn missing; a kernel that is not finite or has
        no positive diagonal.

    References:
      Cortes and Vapnik (1995); Xu and Yang (2023), the protocol of the entity tasks.
    """
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ValueError("kernel_svm needs scikit-learn: pip install 'kernlens[train]'") from error
    start = time.perf_counter()
    task = make_task(embeddings, labels, seeds, test_fraction)
    if not 0.0 < C < math.inf:
        raise ValueError(f"C must be above 0, and finite; got {C}")
    if max_rows < 2:
        raise ValueError(f"max_rows must be at least 2; got {max_rows}")
    predicted = []
    for i, seed in enumerate(task.seeds):
        rows = _sample(seed, np.where(task.held_out[i], -1, task.codes), max_rows)
        z = ((task.x - task.mean[i]) * task.scale[i]).astype(np.float32)
        gram = np.concatenate(list(_gram_blocks(kernel, z[rows], z[rows])))
        unit = np.diagonal(gram).mean()
        if not (np.isfinite(gram).all() and unit > 0):
            raise ValueError(
                f"the kernel of the standardised rows must be finite with a positive diagonal; "
                f"got a mean diagonal of {unit} and {np.sum(~np.isfinite(gram))} values not finite"
            )
        machine = SVC(C=C, kernel="precomputed").fit((gram + gram.T) / (2 * unit), task.codes[rows])
        blocks = [machine.predict(b / unit) for b in _gram_blocks(kernel, z, z[rows])]
        predicted.append(np.concatenate(blocks))
    return measure(task, np.stack(predicted).astype(np.int32), start)


def _sample(seed: int, codes: np.ndarray, max_rows: int) -> np.ndarray:
    """Indices of a stratified sample of the labelled rows, all of them if they are few enough."""
    counts = np.bincount(codes[codes >= 0])
    share = min(1.0, max_rows / counts.sum())
    quota = np.maximum(np.floor(counts * share), np.minimum(counts, 1))
    return np.flatnonzero(draw(np.random.default_rng([seed, 1]), codes, quota))


def _gram_blocks(kernel: Kernel, x1: np.ndarray, x2: np.ndarray, *, block: int = 2048):
    """Gram matrix of ``x1`` and ``x2`` in float64, a block of rows at a time, all of one shape."""
    for first in range(0, len(x1), block):
        part = x1[first : first + block]
        padded = np.pad(part, ((0, min(block, len(x1)) - len(part)), (0, 0)), mode="edge")
        yield np.asarray(_gram(padded, x2, kernel=kernel), np.float64)[: len(part)]


@functools.partial(jax.jit, static_argnames=("kernel",))
def _gram(x1: Array, x2: Array, *, kernel: Kernel) -> Array:
    with jax.default_matmul_precision("highest"):
        return kernel(x1, x2)

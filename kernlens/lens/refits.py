"""Heads that are fitted to the new version: distilled on the old head's classes, or with few labels
on top of the mapped head."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from kernlens.lens.corrections import corrected
from kernlens.probes import curvature as curvatures
from kernlens.probes import softmax
from kernlens.probes.class_means import head_of_means
from kernlens.probes.design import design
from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import FoldHeads, log_softmax

PENALTY = 1.0
"""Penalty of a distilled head, where that of the head is not known."""


def distilled(fitted: FoldHeads, features: np.ndarray, taught: np.ndarray) -> FoldHeads:
    """Heads on the new version that learn the classes which the old heads give; no labels needed.

    Args:
      fitted: heads on the new version, whose features, folds, classes and readout are taken.
      features: features of the labelled items on the new version, ``[n, p]``.
      taught: classes given by the old head of each fold, ``[K, n]``.

    Returns:
      FoldHeads; those without a fold learn from what the old head without that fold says of the
      other items. The head of all rows learns from the last line of ``taught``.
    """
    folds, everyone = fitted.held_out.folds, len(taught) - 1
    learns = [folds != k if k < everyone else folds >= -1 for k in range(len(taught))]
    made = _softmax_heads if fitted.has_probabilities else _mean_heads
    weights, biases = made(fitted, np.asarray(features), taught, learns)
    return fitted._replace(
        weights=weights[:everyone], biases=biases[:everyone],
        whole_weights=weights[everyone], whole_bias=biases[everyone],
    )  # fmt: skip


def _softmax_heads(fitted, features, taught, learns) -> tuple[np.ndarray, np.ndarray]:
    total = len(fitted.whole_bias)
    classes = np.flatnonzero(np.bincount(taught.ravel(), minlength=total))
    codes, size, everyone = np.searchsorted(classes, taught), len(classes), len(taught) - 1
    made = design(
        features, np.ones(len(features), bool), codes[everyone], fitted.folds,
        standardised=fitted.options.get("standardised", True), num_classes=size,
    )  # fmt: skip
    width = made.rows.x.shape[2]
    counts = np.bincount(codes[everyone], minlength=size) + 0.5
    start = np.zeros((size, width), np.float32)
    start[:, -1] = np.log(counts / counts.sum())
    shares = jnp.asarray(counts / counts.sum(), jnp.float32)
    curvature = curvatures.first(made.rows.x, made.rows.codes, shares)
    weights = np.zeros((len(taught), total, features.shape[1]))
    biases = np.full((len(taught), total), -np.inf)
    # The head of all rows first: the others start from it.
    for k in (everyone, *range(everyone)):
        rows = made.rows._replace(codes=made.in_blocks(np.where(learns[k], codes[k], -1)))
        solved = softmax.solve(
            rows, jnp.float32(fitted.penalty or PENALTY),
            made.roughness[0 if k == everyone else 1 + k][None], jnp.asarray(start),
            jnp.zeros((0, size, width), jnp.float32), curvature, num_classes=size,
            by_heart=made.by_heart,
        )  # fmt: skip
        curvature = solved.curvature
        start = np.asarray(solved.whole) if k == everyone else start
        weights[k, classes], biases[k, classes] = made.in_columns(solved.whole)
    return weights, biases


def _mean_heads(fitted, features, taught, learns) -> tuple[np.ndarray, np.ndarray]:
    total, made = len(fitted.whole_bias), []
    for own, kept in zip(taught, learns, strict=True):
        counts = np.bincount(own[kept], minlength=total).astype(np.float64)
        sums = np.zeros((total, features.shape[1]))
        np.add.at(sums, own[kept], np.asarray(features[kept], np.float64))
        made.append(head_of_means(sums, counts, **fitted.options))
    weights, biases = zip(*made, strict=True)
    return np.stack(weights), np.stack(biases)


def few_labels(
    features: np.ndarray,
    offsets: np.ndarray,
    held: HeldOut,
    *,
    number: int,
    standardised: bool,
    seed: int = 0,
) -> tuple[np.ndarray, int]:
    """Scores of the mapped head, corrected by few labels on the new version.

    The correction is a head on the new rows whose logits are added to the mapped head's, its
    weights penalised, so that without labels it is none. Labels are drawn, and the penalty is
    chosen, by :func:`kernlens.lens.corrections.corrected`.

    Args:
      features: features of the labelled items on the new version, ``[n, p]``.
      offsets: scores of the mapped head of each row's fold, ``[n, C]``.
      held: folds and classes.
      number: labels that a head has; at most half of a fold.
      standardised: whether columns are standardised.
      seed: random seed of the draw.

    Returns:
      Scores float32 ``[n, C]``, and the labels that a head had.
    """
    known = np.asarray(np.any(np.isfinite(offsets), axis=0))
    x = np.asarray(features, np.float64)
    spread = x.std(axis=0)
    scale = spread if standardised else np.full(x.shape[1], np.sqrt(np.mean(spread**2)))
    z = (x - x.mean(axis=0)) / np.where(scale > 0, scale, np.inf)
    base = np.where(np.isfinite(offsets), offsets, np.float32(-30.0)).astype(np.float64)

    def answers(learnt: np.ndarray, asked: np.ndarray, penalty: float) -> np.ndarray:
        weights = _correction(z[learnt], base[learnt], held.target[learnt], penalty, known)
        return base[asked] + z[asked] @ weights[:, :-1].T + weights[:, -1]

    def loss(scores: np.ndarray, asked: np.ndarray) -> float:
        logs = log_softmax(scores)
        return -float(np.sum(logs[np.arange(len(logs)), held.target[asked]]))

    found, fewest = corrected(
        base, held.folds, held.groups, answers, loss, number=number, decimals=9, seed=seed
    )
    found = log_softmax(found).astype(np.float32)
    found[:, ~known] = -np.inf
    return found, fewest


def _correction(x, base, codes, penalty, known) -> np.ndarray:
    """Weights and biases ``[C, p + 1]`` that are added, by L-BFGS; the bias is penalised as the
    weights are, since there are few labels to free it."""
    from scipy.optimize import minimize

    size, p = base.shape[1], x.shape[1]
    ones = np.column_stack([x, np.ones(len(x))])
    hot = np.zeros((len(x), size))
    hot[np.arange(len(x)), codes] = 1.0

    moves = np.logical_or(known, np.any(hot > 0, axis=0))

    def value(flat) -> tuple[Any, np.ndarray]:
        weights = flat.reshape(size, p + 1)
        logs = log_softmax(base + ones @ weights.T)
        gradient = (np.exp(logs) - hot).T @ ones + penalty * weights
        loss = -np.sum(logs[np.arange(len(x)), codes]) + 0.5 * penalty * np.sum(weights**2)
        return loss, np.where(moves[:, None], gradient, 0.0).ravel()

    start = np.zeros(size * (p + 1))
    return minimize(value, start, jac=True, method="L-BFGS-B").x.reshape(size, p + 1)

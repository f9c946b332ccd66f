"""Exact leave-one-out of closed-form classifiers, for every row and a path of ridge strengths.

One eigendecomposition serves all rows and strengths: leaving out a row is a rank-one downdate, and
in the eigenbasis a ridge strength only changes a diagonal. Rows are read in chunks, three times
(class sums, scatter, leave-one-out), so memory beyond the features is twice ``n * strengths``
numbers of four bytes and ``p * p`` of eight; with more features than rows, one float64 copy of the
features. All of it runs in float64 on features shifted and scaled to order one, because a small
strength amplifies rounding by its inverse.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.probes.labelled_rows import LabelledRows, chunks

MIN_SLACK = 1e-14
"""Floor on one minus a leverage, which only rounding could reach at the strengths allowed."""


class Path(NamedTuple):
    """Leave-one-out along the ridge strengths.

    Attributes:
      predicted: codes of ``LabelledRows``, int32 ``[num_strengths, n]``.
      errors: mean loss over the rows that count, ``[num_strengths]``.
      standard_errors: of those means under sampling of rows, ``[num_strengths]``.
      losses: of each row, float32 ``[num_strengths, n]``; infinite where a row does not count.
    """

    predicted: np.ndarray
    errors: np.ndarray
    standard_errors: np.ndarray
    losses: np.ndarray


class Summary(NamedTuple):
    """Class counts ``[C]``, mean ``[p]``, class means less it ``[C, p]``, scatters ``[p, p]``."""

    counts: np.ndarray
    mean: np.ndarray
    offsets: np.ndarray
    within: np.ndarray
    total: np.ndarray


def discriminant_path(rows: LabelledRows, strengths: np.ndarray) -> Path:
    """Leave-one-out of discriminant analysis; :func:`kernlens.probes.discriminant` has the formula.

    Args:
      rows: rows of :func:`select_rows`.
      strengths: relative to the mean eigenvalue of the within-class covariance (of at least 1e-12
        of the covariance's), ``[num_strengths]``.

    Returns:
      Path; its losses are log losses in nats, of the rows that are not alone in their class.
    """
    with jax.enable_x64(True):
        fit = _summarise(rows)
        unit = max(np.trace(fit.within), 1e-12 * np.trace(fit.total)) / rows.num_features
        basis, weights = _inverse_path(fit.within, strengths, unit)
        step = partial(
            _discriminant_chunk,
            mean=fit.mean,
            offsets=fit.offsets,
            rotated=fit.offsets @ basis,
            basis=basis,
            counts=fit.counts,
            weights=weights,
        )
        return _leave_one_out(rows, step, len(strengths), fit.counts[rows.codes] > rows.copies)


def ridge_path(rows: LabelledRows, strengths: np.ndarray) -> Path:
    """Leave-one-out of ridge classification; :func:`kernlens.probes.ridge` has the formula.

    Args:
      rows: rows of :func:`select_rows`.
      strengths: relative to the mean eigenvalue of the covariance, ``[num_strengths]``.

    Returns:
      Path; its losses are squared errors, summed over classes.
    """
    with jax.enable_x64(True):
        fit = _summarise(rows)
        unit = np.trace(fit.total) / rows.num_features
        basis, weights = _inverse_path(fit.total, strengths, unit)
        step = partial(
            _ridge_chunk,
            mean=fit.mean,
            cross=(fit.counts[:, None] * fit.offsets) @ basis,
            basis=basis,
            counts=fit.counts,
            weights=weights,
        )
        return _leave_one_out(rows, step, len(strengths), np.ones(len(rows.codes), bool))


def _summarise(rows: LabelledRows) -> Summary:
    num_classes, width = len(rows.classes), rows.features.shape[1]
    counts = np.bincount(rows.codes, minlength=num_classes).astype(np.float64)
    sums = jnp.zeros((num_classes, width))
    for x, codes, _ in chunks(rows):
        sums = _add_sums(sums, x, codes)
    sums = np.asarray(sums)
    mean = np.sum(sums, axis=0) / len(rows.codes)
    offsets = sums / counts[:, None] - mean
    within = jnp.zeros((width, width))
    for x, codes, _ in chunks(rows):
        within = _add_scatter(within, x, codes, mean, offsets)
    within = np.asarray(within)
    total = within + (counts[:, None] * offsets).T @ offsets
    return Summary(counts, mean, offsets, within, total)


def _inverse_path(scatter, strengths, unit) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors ``[p, p]`` and inverse penalised eigenvalues ``[num_strengths, p]``."""
    eigenvalues, basis = (np.asarray(v) for v in jnp.linalg.eigh(jnp.asarray(scatter)))
    penalties = strengths * (unit if unit > 0 else 1.0)
    return basis, 1.0 / (np.maximum(eigenvalues, 0.0) + penalties[:, None])


def _leave_one_out(
    rows: LabelledRows, step: Callable, num_strengths: int, counts: np.ndarray
) -> Path:
    predicted = np.empty((num_strengths, len(rows.codes)), np.int32)
    row_losses = np.empty(predicted.shape, np.float32)
    total, squares, start = np.zeros(num_strengths), np.zeros(num_strengths), 0
    for x, codes, filled in chunks(rows):
        number = np.ones(len(codes))
        number[:filled] = rows.copies[start : start + filled]
        chunk_predicted, losses = step(x, codes, number)
        predicted[:, start : start + filled] = np.asarray(chunk_predicted)[:, :filled]
        row_losses[:, start : start + filled] = np.asarray(losses)[:, :filled]
        total += np.asarray(jnp.sum(losses, axis=1))
        squares += np.asarray(jnp.sum(jnp.square(losses), axis=1))
        start += filled
    row_losses[:, ~counts] = np.inf
    counted = np.count_nonzero(counts)
    errors = total / counted
    variances = np.maximum(squares / counted - np.square(errors), 0.0)
    return Path(predicted, errors, np.sqrt(variances / counted), row_losses)


@jax.jit
def _add_sums(sums, x, codes):
    return sums + jax.ops.segment_sum(x, codes, num_segments=len(sums))


@jax.jit
def _add_scatter(within, x, codes, mean, offsets):
    a = _within_class(x, codes, mean, offsets)
    return within + a.T @ a


def _within_class(x, codes, mean, offsets):
    own = jnp.take(offsets, codes, axis=0, mode="clip")
    return jnp.where((codes < len(offsets))[:, None], x - mean - own, 0.0)


@jax.jit
def _discriminant_chunk(x, codes, copies, *, mean, offsets, rotated, basis, counts, weights):
    num_classes = len(counts)
    # Distances start from the row's own class mean: no large between-class terms cancel.
    a = _within_class(x, codes, mean, offsets) @ basis
    own_count = jnp.take(counts, codes, mode="clip")
    lonely = own_count <= copies
    # The class's mean moves by this share; the scatter loses one direction, however many copies.
    moved = jnp.where(lonely, 1.0, own_count / jnp.where(lonely, 1.0, own_count - copies))
    alpha = copies * moved
    is_own = _one_hot(codes, num_classes)
    total = jnp.sum(counts)
    # Of all rows: one left out would lower the share of its own class, and of no other.
    log_prior = jnp.where(is_own & lonely, -jnp.inf, jnp.log(counts / total)[:, None])
    freedom = total - copies - num_classes + lonely.astype(counts.dtype)
    counted = (codes < num_classes) & ~lonely
    own = jnp.take(rotated, codes, axis=0, mode="clip")
    # Of more classes than rows, products with the rows' own classes are fewer than all pairs.
    pairs = num_classes <= len(codes)

    def at(inputs):
        # spread is a M a, to_class a M m_k and to_own m_c M m_k: all are of size [classes, rows].
        weight, spread, *read = inputs
        weighted = rotated * weight
        if pairs:
            gram = weighted @ rotated.T
            norms, to_own, to_class = jnp.diagonal(gram), _of_own(gram, codes), *read
        else:
            norms = jnp.sum(weighted * rotated, axis=1)
            to_class, to_own = jnp.split(weighted @ jnp.concatenate([a, own]).T, 2, axis=1)
        gap = norms[:, None] + _of_own(norms, codes) - 2.0 * to_own
        lean = jnp.sum(jnp.where(is_own, to_class, 0.0), axis=0) - to_class
        slack = jnp.maximum(1.0 - alpha * spread, MIN_SLACK)
        distance = spread + 2.0 * lean + gap + alpha / slack * jnp.square(spread + lean)
        distance = jnp.where(is_own, jnp.square(moved) * spread / slack, distance)
        scores = log_prior - 0.5 * freedom * distance
        own_score = jnp.sum(jnp.where(is_own & counted, scores, 0.0), axis=0)
        others = jax.nn.logsumexp(jnp.where(is_own, -jnp.inf, scores), axis=0)
        # log(1 + odds) keeps its digits where the loss is tiny; a difference of logs would not.
        losses = jax.nn.softplus(others - own_score)
        return _argmax(scores), jnp.where(counted, losses, 0.0)

    read = (_readers(rotated, weights, a),) if pairs else ()
    return jax.lax.map(at, (weights, weights @ jnp.square(a).T, *read))


@jax.jit
def _ridge_chunk(x, codes, copies, *, mean, cross, basis, counts, weights):
    num_rows = jnp.sum(counts)
    z = (x - mean) @ basis
    target = _one_hot(codes, len(counts)).astype(counts.dtype)
    gap = target - counts[:, None] / num_rows
    valid = codes < len(counts)

    def at(inputs):
        spread, read = inputs
        slack = jnp.maximum(1.0 - copies * (1.0 / num_rows + spread), MIN_SLACK)
        residual = (gap - read) / slack
        losses = jnp.sum(jnp.square(residual), axis=0)
        # The intercept at the shares of all rows, as the priors of the discriminant are.
        return _argmax(target - residual + gap * copies / (num_rows - copies)), jnp.where(
            valid, losses, 0.0
        )

    return jax.lax.map(at, (weights @ jnp.square(z).T, _readers(cross, weights, z)))


def _readers(vectors, weights, rows):
    """``vectors M rows`` for every strength in one product, ``[num_strengths, C, rows]``."""
    return jnp.einsum("scp,rp->scr", weights[:, None, :] * vectors, rows)


def _of_own(table, codes):
    """Columns of ``table [..., C]`` for the class of each row, ``[..., rows]``."""
    return jnp.take(table, codes, axis=-1, mode="clip")


def _one_hot(codes, num_classes):
    return codes == jnp.arange(num_classes, dtype=codes.dtype)[:, None]


def _argmax(scores):
    """First of the largest scores of each row: XLA's argmax is no vector code on a CPU."""
    largest = jax.lax.optimization_barrier(jnp.max(scores, axis=0))
    places = jnp.arange(len(scores), dtype=scores.dtype)[:, None]
    first = jnp.min(jnp.where(scores == largest, places, len(scores) - 1), axis=0)
    return first.astype(jnp.int32)

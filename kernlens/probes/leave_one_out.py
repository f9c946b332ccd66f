"""Exact leave-one-out of closed-form classifiers, for every row and a path of ridge strengths.

One eigendecomposition serves all rows and strengths: leaving out a row is a rank-one downdate, and
in the eigenbasis a ridge strength only changes a diagonal. Rows are read in chunks, three times
(class sums, scatter, leave-one-out), so memory beyond the features is twice ``n * strengths``
numbers of four bytes and ``p * p`` of eight; with more features than rows, one float64 copy of the
features. All of it runs in float64 on features shifted and scaled to order one, because a small
strength amplifies rounding by its inverse.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array, Chunk, Labels, Stream

MIN_SLACK = 1e-14
"""Floor on one minus a leverage, which only rounding could reach at the strengths allowed."""

MAX_CHUNK_BYTES = 2**25
MAX_STREAMED = 4096
"""Rows of a stream looked at together before the sizes of chunks are known."""

CHUNK_STRENGTHS = 16
"""Chunks are sized for the products of rows, classes and this many strengths."""


class Streamed(NamedTuple):
    """Labelled rows that stay in their files.

    Attributes:
      stream: the rows, with and without a label.
      codes: class of each row of the stream, ``[m]``; ``-1`` for none.
      shape: labelled rows and features, ``(n, p)``.
    """

    stream: Stream
    codes: np.ndarray
    shape: tuple[int, int]

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labelled rows, ``size`` at most at a time, and their numbers in the stream."""
        for chunk in self.stream.chunks(rows=size):
            if not isinstance(chunk, Chunk):
                raise ValueError(
                    "chunks of a stream need values and rows, as those of io.open_embeddings have; "
                    f"got {type(chunk).__name__}"
                )
            kept = self.codes[chunk.rows] >= 0
            if kept.any():
                yield chunk.values[kept], chunk.rows[kept]


class LabelledRows(NamedTuple):
    """Labelled rows, their codes renumbered to the classes that occur.

    Attributes:
      features: ``[n, p]``, in memory or streamed, or ``[n, n]`` coordinates of the same rows where
        ``p > n``.
      codes: class of each row, int32 ``[n]``, in ``0..C-1``, each with a row at least.
      classes: the code that each class has in the labels, ``[C]``, rising.
      shift: a row to subtract before all else, float64 ``[p]``.
      scale: what to divide by after that, positive.
      num_features: the ``p`` of the features given.
    """

    features: np.ndarray | Streamed
    codes: np.ndarray
    classes: np.ndarray
    shift: np.ndarray
    scale: float
    num_features: int


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


def select_rows(features: Any, labels: Labels) -> LabelledRows:
    """Labelled rows, checked.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, which is read through once
        here and three times after.
      labels: one label per row, ``[n]``; ``-1`` for none.

    Returns:
      LabelledRows.

    Raises:
      ValueError: shapes that differ, a value that is not finite, a code without a name, fewer than
        two classes, or fewer than two rows more than classes.
    """
    streamed, codes = isinstance(features, Stream), np.asarray(labels.codes)
    features = features if streamed else np.asarray(features)
    if len(features.shape) != 2 or features.shape[1] < 1 or codes.shape != features.shape[:1]:
        raise ValueError(
            "features must be [n, p] with p >= 1 and labels [n]; "
            f"got features {features.shape} and labels {codes.shape}"
        )
    if not jnp.issubdtype(features.dtype, jnp.number) or features.dtype.kind == "c":
        raise ValueError(f"features must be real numbers; got dtype {features.dtype}")
    if codes.size and (codes.min() < -1 or codes.max() >= len(labels.names)):
        raise ValueError(
            f"label codes must lie in -1..{len(labels.names) - 1}, one name a class; "
            f"got {codes.min()}..{codes.max()}"
        )
    if streamed:
        source = Streamed(features, codes, features.shape)
        low, high, labelled, shift = _extremes(source)
        classes, codes = _classes(labels, codes[labelled])
        features = source._replace(shape=(len(labelled), features.shape[1]))
    else:
        labelled = np.flatnonzero(codes >= 0)
        if len(labelled) < len(codes):
            features, codes = features[labelled], codes[labelled]
        classes, codes = _classes(labels, codes)
        # The extremes of a column are finite only where all of it is.
        low, high = (np.asarray(f(features, axis=0), np.float64) for f in (np.min, np.max))
        shift = features[0].astype(np.float64)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        if streamed:  # one of kernlens.io has told of its rows before
            raise ValueError("features must be finite; those of the stream are not")
        bad = np.flatnonzero(~np.all(np.isfinite(features.astype(np.float64)), axis=1))
        raise ValueError(
            f"features must be finite; {bad.size} of {len(features)} labelled rows are not, "
            f"first row {labelled[bad[0]]}"
        )
    with np.errstate(over="ignore"):
        scale = float(np.max(high - low))
    if not np.isfinite(scale):
        raise ValueError("features span more than float64 holds; rescale them")
    scale = scale if scale > 0 else 1.0
    num_features = features.shape[1]
    if num_features > len(codes):
        if streamed:
            features = np.concatenate([x for x, _ in features.blocks(MAX_STREAMED)])
        # Both probes are blind to rotation: the triangular factor has the same rows in n columns.
        centred = (features.astype(np.float64) - shift) / scale
        centred -= np.mean(centred, axis=0)
        features = np.ascontiguousarray(np.transpose(np.linalg.qr(centred.T, mode="r")))
        shift, scale = np.zeros(features.shape[1]), 1.0
    return LabelledRows(features, codes.astype(np.int32), classes, shift, scale, num_features)


def _classes(labels: Labels, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur, and codes renumbered to them; too few of either are a ValueError."""
    classes, codes = np.unique(codes, return_inverse=True)
    if len(classes) < 2:
        found = [labels.names[c] for c in classes]
        raise ValueError(f"a probe needs two classes or more among the rows; got {found}")
    if len(codes) < len(classes) + 2:
        raise ValueError(
            f"a probe needs at least two labelled rows more than classes; got {len(codes)} "
            f"labelled rows of {len(classes)} classes"
        )
    return classes, codes


def discriminant_path(rows: LabelledRows, strengths: np.ndarray) -> Path:
    """Leave-one-out of discriminant analysis; :func:`kernlens.probes.discriminant` has the formula.

    Args:
      rows: of :func:`select_rows`.
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
        return _leave_one_out(rows, step, len(strengths), (fit.counts > 1)[rows.codes])


def ridge_path(rows: LabelledRows, strengths: np.ndarray) -> Path:
    """Leave-one-out of ridge classification; :func:`kernlens.probes.ridge` has the formula.

    Args:
      rows: of :func:`select_rows`.
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


def _chunks(rows: LabelledRows) -> Iterator[tuple[Array, Array, int]]:
    """Float64 chunks of a fixed size, which one compilation serves; padding has code ``C``."""
    n, width = rows.features.shape
    limit = MAX_CHUNK_BYTES // (8 * max(width, CHUNK_STRENGTHS * len(rows.classes)))
    size = min(4096, 1 << (n - 1).bit_length(), max(256, 1 << limit.bit_length() - 1))
    start = 0
    for x in _blocks(rows.features, size):
        filled = len(x)
        padded = np.zeros((size, width))
        padded[:filled] = (x.astype(np.float64) - rows.shift) / rows.scale
        padded_codes = np.full(size, len(rows.classes), np.int32)
        padded_codes[:filled] = rows.codes[start : start + filled]
        start += filled
        yield jnp.asarray(padded), jnp.asarray(padded_codes), filled


def _blocks(features: np.ndarray | Streamed, size: int) -> Iterator[np.ndarray]:
    if isinstance(features, Streamed):
        return (x for x, _ in features.blocks(size))
    return (features[start : start + size] for start in range(0, len(features), size))


def _extremes(source: Streamed) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest of each feature, numbers of the labelled rows, and the first of them."""
    low, high = np.full((2, source.shape[1]), np.inf) * [[1.0], [-1.0]]
    numbers, first = [np.empty(0, np.int64)], np.zeros(source.shape[1])
    for x, rows in source.blocks(MAX_STREAMED):
        x = x.astype(np.float64)
        first = x[0] if len(numbers) == 1 else first
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        numbers.append(rows)
    return low, high, np.concatenate(numbers), first


def _summarise(rows: LabelledRows) -> Summary:
    num_classes, width = len(rows.classes), rows.features.shape[1]
    counts = np.bincount(rows.codes, minlength=num_classes).astype(np.float64)
    sums = jnp.zeros((num_classes, width))
    for x, codes, _ in _chunks(rows):
        sums = _add_sums(sums, x, codes)
    sums = np.asarray(sums)
    mean = np.sum(sums, axis=0) / len(rows.codes)
    offsets = sums / counts[:, None] - mean
    within = jnp.zeros((width, width))
    for x, codes, _ in _chunks(rows):
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
    for x, codes, filled in _chunks(rows):
        chunk_predicted, losses = step(x, codes)
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
def _discriminant_chunk(x, codes, *, mean, offsets, rotated, basis, counts, weights):
    num_classes = len(counts)
    # Distances start from the row's own class mean: no large between-class terms cancel.
    a = _within_class(x, codes, mean, offsets) @ basis
    own_count = jnp.take(counts, codes, mode="clip")
    lonely = own_count == 1
    alpha = jnp.where(lonely, 1.0, own_count / jnp.where(lonely, 1.0, own_count - 1.0))
    is_own = _one_hot(codes, num_classes)
    total = jnp.sum(counts)
    # Of all rows: one left out would lower the share of its own class, and of no other.
    log_prior = jnp.where(is_own & lonely, -jnp.inf, jnp.log(counts / total)[:, None])
    freedom = total - 1.0 - num_classes + lonely.astype(counts.dtype)
    counted = (codes < num_classes) & ~lonely

    def at(inputs):
        # spread is a M a and to_class a M m_k: all that follows is of size [classes, rows].
        weight, spread, to_class = inputs
        gram = (rotated * weight) @ rotated.T
        norms = jnp.diagonal(gram)[:, None]
        gap = norms + _of_own(norms.T, codes) - 2.0 * _of_own(gram, codes)
        lean = jnp.sum(jnp.where(is_own, to_class, 0.0), axis=0) - to_class
        slack = jnp.maximum(1.0 - alpha * spread, MIN_SLACK)
        distance = spread + 2.0 * lean + gap + alpha / slack * jnp.square(spread + lean)
        distance = jnp.where(is_own, jnp.square(alpha) * spread / slack, distance)
        scores = log_prior - 0.5 * freedom * distance
        own_score = jnp.sum(jnp.where(is_own & counted, scores, 0.0), axis=0)
        others = jax.nn.logsumexp(jnp.where(is_own, -jnp.inf, scores), axis=0)
        # log(1 + odds) keeps its digits where the loss is tiny; a difference of logs would not.
        losses = jax.nn.softplus(others - own_score)
        return _argmax(scores), jnp.where(counted, losses, 0.0)

    return jax.lax.map(at, (weights, weights @ jnp.square(a).T, _readers(rotated, weights, a)))


@jax.jit
def _ridge_chunk(x, codes, *, mean, cross, basis, counts, weights):
    num_rows = jnp.sum(counts)
    z = (x - mean) @ basis
    target = _one_hot(codes, len(counts)).astype(counts.dtype)
    gap = target - counts[:, None] / num_rows
    valid = codes < len(counts)

    def at(inputs):
        spread, read = inputs
        slack = jnp.maximum(1.0 - 1.0 / num_rows - spread, MIN_SLACK)
        residual = (gap - read) / slack
        losses = jnp.sum(jnp.square(residual), axis=0)
        # The intercept at the shares of all rows, as the priors of the discriminant are.
        return _argmax(target - residual + gap / (num_rows - 1.0)), jnp.where(valid, losses, 0.0)

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
    return jnp.argmax(scores, axis=0).astype(jnp.int32)

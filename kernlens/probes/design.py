"""Labelled rows as a softmax regression takes them: standardised, in principal axes, in folds."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernlens.arrays.memory import aligned_empty, let_go
from kernlens.probes.blocks import numbered
from kernlens.probes.folds import FOLDS
from kernlens.probes.softmax import Rows
from kernlens.types import Array

BLOCK = 2**17
"""Logits of a block of rows, few enough to stay in a processor's cache."""

BY_HEART = 8
"""Times as many rows as columns, filled up, below which rows can be learnt by heart."""

HELD_ALONE = 0.7
"""Share of the squares along a direction that a fold's rows have, from which on the other folds
hardly know it."""

LOST = 1e-12
"""Part of a column's variance that is lost in rounding where a fold's rows have the rest."""

LOPSIDED = 1e-6
"""Part of a column's variance outside a fold, below which its scale there is lost in float32."""

FEW = 5e-4
"""Such directions to a row, at most, that are left alone: each moves answers to a row or two."""


class Design(NamedTuple):
    """What the solver reads, and the way back to rows in order.

    Attributes:
      rows: blocks of rows.
      roughness: penalty of a head on columns standardised by all rows, and by the rows of each
        fold's training set, float32 ``[1 + K, r, r]``.
      axes: from standardised columns to coordinates, float64 ``[p, r]``, the last of them empty.
      mean: of the columns, float64 ``[p]``.
      scale: their standard deviation; infinite where a column is constant, ``[p]``.
      num_rows: ``n``.
      outlying: share of the columns' variance that the hundredth of the rows farthest out holds.
      by_heart: whether rows can be learnt by heart: they hardly outnumber the columns, or there are
        columns, or combinations of them, that hardly vary outside one fold.
      lopsided: columns that owe all but a millionth of their variance to one fold, though they vary
        outside it: their scale there is lost in float32.
    """

    rows: Rows
    roughness: Array
    axes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    num_rows: int
    outlying: float
    by_heart: bool
    lopsided: int

    def in_order(self, values: Array) -> np.ndarray:
        """Values of the rows ``[n, ...]`` from ``[B, b, ...]``."""
        return np.asarray(values).reshape(-1, *values.shape[2:])[: self.num_rows]

    def in_blocks(self, values: np.ndarray) -> Array:
        """Whole numbers of the rows ``[n]`` as the blocks have them, int32 ``[B, b]``; -1 where
        rows fill up."""
        return _filled(values, self.rows.codes.shape)

    def in_columns(self, theta: Array) -> tuple[np.ndarray, np.ndarray]:
        """Weights ``[..., C, p]`` and biases ``[..., C]`` on the columns as they were given, in
        float64, of a solution ``[..., C, r + 1]``."""
        found = np.asarray(theta, np.float64)
        weights = found[..., :-1] @ (self.axes.T / self.scale)
        return weights, found[..., -1] - weights @ self.mean


def design(
    features: Any,
    kept: np.ndarray,
    codes: np.ndarray,
    folds: np.ndarray,
    *,
    standardised: bool = True,
    num_classes: int | None = None,
    mesh: Mesh | None = None,
) -> Design:
    """Rows standardised and rotated, in float64 on the host; two passes, three where p > n.

    Args:
      features: an array or a stream, of :func:`kernlens.probes.blocks.check_rows`.
      kept: whether a row counts, bool ``[n_all]``.
      codes: class of each row kept, in order, ``[n]``.
      folds: fold of each row kept, ``[n]``.
      standardised: whether each column has a scale of its own; else one is shared by all, which
        makes their mean variance 1 and leaves their inner products in proportion.
      num_classes: number of classes, ``codes.max() + 1`` by default; it sets the size of a block.
      mesh: devices over which the rows of each block are spread; by default one.

    Returns:
      Design.

    Raises:
      ValueError: a value that is not finite.
    """
    n, p = len(codes), int(features.shape[1])
    mean, deviation, ratios, scatter = _standards(features, kept, folds, n, p, scattered=p <= n)
    scale = np.where(deviation > 0, deviation, np.inf)
    if not standardised:
        scale = np.where(deviation > 0, np.sqrt(np.mean(deviation**2)), np.inf)
        ratios = np.ones_like(ratios)
    if scatter is not None:
        axes = _axes_of(scatter / np.outer(scale, scale))
    else:
        axes = _axes_of_few(_standard(features, kept, mean, scale))
    # Filled up with empty coordinates, so that few widths are compiled.
    r = -(-(axes.shape[1] + 1) // 8) * 8 - 1
    axes = np.pad(axes, ((0, 0), (0, r - axes.shape[1])))
    size = _block_rows(n, num_classes or int(codes.max()) + 1)
    if mesh is not None:
        size = -(-size // mesh.size) * mesh.size
    num_blocks = _steps(-(-n // size))
    x = aligned_empty((num_blocks * size, r + 1), np.dtype(np.float32))
    x[:] = 0.0
    for z, places in _standard(features, kept, mean, scale):
        x[places, :r] = z @ axes
    let_go(features)
    norms = np.sort(np.einsum("ij,ij->i", x[:n, :r], x[:n, :r]))
    outlying = float(norms[-max(n // 100, 1) :].sum() / max(norms.sum(), 1e-30))
    x[:n, r] = 1.0
    shape = (num_blocks, size)
    spread = None
    if mesh is not None:
        # One axis, along which the compiler shares out the sums by itself.
        line = Mesh(mesh.devices.ravel(), ("rows",))
        spread = NamedSharding(line, PartitionSpec(None, "rows"))
    # A CPU takes it as it lies, since it is aligned; a copy of a million rows would count twice.
    on_device = jax.device_put(x.reshape(*shape, r + 1), spread, may_alias=True)
    rows = Rows(on_device, _filled(codes, shape, spread), _filled(folds, shape, spread))
    by_heart = _by_heart(x[:n, :r], x.size // (r + 1), folds)
    lopsided = int(np.sum(np.any(ratios < LOPSIDED, axis=0)))
    rough = _roughness(axes, ratios)
    return Design(rows, rough, axes, mean, scale, n, outlying, by_heart, lopsided)


def refolded(made: Design, features: Any, kept: np.ndarray, folds: np.ndarray) -> Design:
    """The same standardised rows in other folds; one pass.

    Args:
      made: of :func:`design`.
      features: as there.
      kept: as there.
      folds: fold of each row kept, ``[n]``.

    Returns:
      Design.
    """
    n, p = made.num_rows, len(made.mean)
    ratios = _standards(features, kept, folds, n, p, scattered=False)[2]
    let_go(features)
    before = made.rows.folds
    rows = made.rows._replace(folds=_filled(folds, before.shape, before.sharding))
    x = made.in_order(made.rows.x)[:, :-1]
    by_heart = made.by_heart or _by_heart(x, before.size, folds)
    return made._replace(rows=rows, roughness=_roughness(made.axes, ratios), by_heart=by_heart)


def _by_heart(x: np.ndarray, filled_up: int, folds: np.ndarray) -> bool:
    """Whether principal coordinates ``[n, r]`` of rows in folds can be learnt by heart.

    A column that one row alone has is known to no other fold: without the row its weight is held by
    nothing but the penalty, and a solver that starts from the optimum of all rows has hardly
    anything to gain by unlearning it.
    """
    n, r = x.shape
    if filled_up <= BY_HEART * (r + 1):
        return True
    if r <= FEW * n:
        return False
    lengths = np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64))
    inverse = np.where(lengths > 0, 1.0 / np.where(lengths > 0, lengths, 1.0), 0.0)
    alone = 0
    for k in range(FOLDS):
        own = x[folds == k]
        shares = np.asarray(own.T @ own, np.float64) * np.outer(inverse, inverse)
        alone += int(np.sum(np.linalg.eigvalsh(shares) > HELD_ALONE))
    return alone > FEW * n


def _roughness(axes: np.ndarray, ratios: np.ndarray) -> Array:
    rough = np.stack([axes.T @ (ratio[:, None] * axes) for ratio in ratios])
    empty = np.arange(axes.shape[1])[~np.any(axes, axis=0)]
    rough[:, empty, empty] = 1.0
    return jnp.asarray(rough, jnp.float32)


def _standards(features, kept, folds, n, p, *, scattered):
    """Means, deviations, squared ratios of a training set's deviations to them, and the scatter,
    None unless asked for; in one pass.

    Sums are of rows less the mean of the first block. With a share ``s`` of the rows in it, the
    mean of all lies within ``1 / sqrt(s)`` deviations of that, so little cancels.
    """
    shift = None
    sums, squares = np.zeros((FOLDS + 1, p)), np.zeros((FOLDS + 1, p))
    scatter = np.zeros((p, p)) if scattered else None
    for values, places in numbered(features, kept):
        if shift is None:
            shift = values.mean(axis=0)
        moved, own = values - shift, folds[places]
        for k in range(-1, FOLDS):
            part = moved[own == k]
            sums[k] += part.sum(axis=0)
            squares[k] += np.einsum("ij,ij->j", part, part)
        if scatter is not None:
            scatter += moved.T @ moved
    left_over = sums.sum(axis=0) / n
    mean = shift + left_over
    if scatter is not None:
        scatter -= n * np.outer(left_over, left_over)
    counts = np.bincount(folds + 1, minlength=FOLDS + 1)[[*range(1, FOLDS + 1), 0]]
    dtype = np.dtype(features.dtype)
    rounding = float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 1e-15
    blur = (8.0 * rounding * np.abs(mean)) ** 2
    variance = squares.sum(axis=0) / n - (sums.sum(axis=0) / n) ** 2
    # A column whose spread is no more than the rounding of its values is constant.
    variance = np.where(variance > blur, variance, 0.0)
    ratios = np.ones((1 + FOLDS, p))
    for k in range(FOLDS):
        m = n - counts[k]
        left = (squares.sum(axis=0) - squares[k]) / m
        left -= ((sums.sum(axis=0) - sums[k]) / m) ** 2
        # Sums of squares without a fold are known to some rounding of those with it.
        varied = (left > np.maximum(blur, LOST * variance)) & (variance > 0)
        ratios[1 + k] = np.where(varied, left / np.where(varied, variance, 1.0), 1.0)
    return mean, np.sqrt(variance), ratios, scatter


def _axes_of(scatter: np.ndarray) -> np.ndarray:
    """Principal axes of standardised rows, orthonormal ``[p, r]``, from their scatter."""
    values, vectors = np.linalg.eigh(scatter)
    return vectors[:, values > 1e-12 * max(values[-1], 1e-300)]


def _axes_of_few(standard: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The same from the rows, where they are fewer than columns."""
    z = np.concatenate([part for part, _ in standard])
    values, vectors = np.linalg.eigh(z @ z.T)
    kept = values > 1e-10 * max(values[-1], 1e-300)
    return z.T @ (vectors[:, kept] / np.sqrt(values[kept]))


def _standard(features, kept, mean, scale):
    for values, places in numbered(features, kept):
        yield (values - mean) / scale, places


def _filled(values: np.ndarray, shape: tuple[int, ...], spread: Any = None) -> Array:
    full = np.full(shape[0] * shape[1], -1, np.int32)
    full[: len(values)] = values
    return jax.device_put(full.reshape(shape), spread)


def _block_rows(n: int, num_classes: int) -> int:
    most = BLOCK // num_classes if jax.default_backend() == "cpu" else 2**22 // num_classes
    size = max(256, 1 << (max(most, 1).bit_length() - 1))
    return min(size, max(64, 1 << (n - 1).bit_length()))


def _steps(blocks: int) -> int:
    """Blocks rounded up to three binary digits, so that few shapes are compiled."""
    unit = 1 << max(blocks.bit_length() - 4, 0)
    return -(-blocks // unit) * unit

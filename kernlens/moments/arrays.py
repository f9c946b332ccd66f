"""Moments of arrays in memory."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kernlens.arrays.device import on_device
from kernlens.moments.batch import IDENTITY, batch_of, of_rows
from kernlens.moments.monoid import update
from kernlens.moments.state import Moments, init
from kernlens.types import Array

CHUNK_BYTES, LARGEST_CHUNK_BYTES = 2**23, 3 * 2**26
"""Size of a chunk, and the most to which a scatter and many class scatters raise it."""

ROWS, ROWS_PER_CLASS = 2**14, 640
"""Minimum rows per chunk, so that merging scatters is cheap, and minimum rows per class, so that
the blocks of its scatter are nearly full."""


def from_arrays(
    x: Array | np.ndarray,
    codes: Array | np.ndarray,
    num_classes: int,
    targets: Array | np.ndarray | None = None,
    weights: Array | np.ndarray | None = None,
    *,
    scatter: bool = True,
    class_scatters: bool = False,
    fourths: bool = False,
    chunk: int | None = None,
) -> Moments:
    """Moments of arrays that are in memory, chunk by chunk in one compiled scan.

    Rows that do not fit in memory come from :func:`from_stream`.

    Args:
      x: features, ``[n, p]``.
      codes: class of each row, integers ``[n]`` in ``0..num_classes-1``; ``-1`` for none.
      num_classes: number of classes ``C``.
      targets: regression targets, ``[n, T]``.
      weights: multiplicity of each row, ``[n]``; 1 by default.
      scatter: whether to keep the scatter, or its diagonal alone, as in :func:`init`.
      class_scatters: whether to keep a scatter for each class, as in :func:`init`.
      fourths: whether to keep fourth moments of pairs of dimensions, as in :func:`init`.
      chunk: rows taken at a time; the working memory is ``[chunk, p]`` and ``[C, p]``. By default
        what a few megabytes hold, more for many class scatters.

    Returns:
      Moments in the dtype of ``x``, float32 for anything narrower.

    Raises:
      ValueError: NumPy codes outside ``-1..num_classes-1``, ``chunk`` below 1, or rows that are
        not finite (unless traced, where there is nothing to look at).
    """
    if isinstance(codes, np.ndarray):
        check_codes(codes, num_classes)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 row; got {chunk}")
    x, codes = on_device(x), jnp.asarray(codes)
    chex.assert_rank([x, codes], [2, 1])
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    n = x.shape[0]
    targets = jnp.zeros((n, 0), dtype) if targets is None else jnp.asarray(targets)
    weights = jnp.ones((n,), dtype) if weights is None else jnp.asarray(weights)
    chex.assert_equal_shape_prefix([x, codes, targets, weights], 1)
    start = init(
        x.shape[1],
        num_classes,
        targets.shape[1],
        scatter=scatter,
        class_scatters=class_scatters,
        fourths=fourths,
        dtype=dtype,
    )
    kept = start.class_scatters.shape[0]
    chunk = chunk or rows_of_chunk(x.shape[1], dtype.itemsize, scatter=scatter, kept=kept)
    found = _accumulate(start, (x, codes, targets, weights), chunk=chunk)
    if not is_finite(found):
        counted = (np.asarray(weights) > 0)[:, None]
        both = [np.asarray(a, np.float64) for a in (x, targets)]
        bad = [np.flatnonzero((counted & ~np.isfinite(a)).any(axis=1)) for a in both]
        rows = np.union1d(*bad)
        raise ValueError(
            f"{len(rows)} of {n} rows hold NaN or infinity; the first is row {rows[0]}, counted "
            "from 0"
            if rows.size
            else f"values are too large to sum in {dtype}; scale them"
        )
    return found


def rows_of_chunk(width: int, itemsize: int, *, scatter: bool, kept: int) -> int:
    """Rows of a chunk by its size, with or without a scatter and for as many class scatters."""
    row = max(width * itemsize, 1)
    wanted = max(CHUNK_BYTES // row, ROWS if scatter else 1, ROWS_PER_CLASS * kept)
    return max(min(wanted, LARGEST_CHUNK_BYTES // row), 1)


def is_finite(moments: Moments) -> bool:
    """Whether no row was NaN or infinite; True under tracing, where that cannot be seen."""
    means = (moments.mean, moments.target_mean)
    if any(isinstance(mean, Tracer) for mean in means):
        return True
    return all(bool(jnp.isfinite(mean).all()) for mean in means)


def check_codes(codes: np.ndarray, num_classes: int) -> None:
    """Refuses a class code outside ``-1..num_classes-1``, and names its row."""
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise ValueError(
            f"class codes must be integers, one a row; got {codes.dtype} of shape {codes.shape}"
        )
    bad = np.flatnonzero((codes < -1) | (codes >= num_classes))
    if bad.size:
        found = f"{codes[bad[0]]} at row {bad[0]}"
        raise ValueError(f"class codes must lie in -1..{num_classes - 1}; got {found}")


@partial(jax.jit, static_argnames="chunk")
def _accumulate(start: Moments, rows: tuple[Array, ...], *, chunk: int) -> Moments:
    n = rows[0].shape[0]
    if 0 < n <= chunk:  # Nothing to merge, which would be most of what there is to compile.
        return of_rows(start, batch_of(start, *rows, features=IDENTITY))
    whole = n - n % chunk
    if whole:
        chunks = tuple(a[:whole].reshape(whole // chunk, chunk, *a.shape[1:]) for a in rows)
        start, _ = jax.lax.scan(lambda m, batch: (update(m, *batch), None), start, chunks)
    if whole < n:
        start = update(start, *(a[whole:] for a in rows))
    return start

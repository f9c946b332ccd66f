"""Edits of stored Moments without a new pass: other dimensions, labels, classes or rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.moments.arrays import check_codes
from kernlens.moments.monoid import remove, update
from kernlens.moments.state import Moments, class_offsets, divide, dot, init
from kernlens.moments.stream import in_chunks
from kernlens.types import Array


def select(moments: Moments, dims: np.ndarray) -> Moments:
    """Moments of some of the features, in the order given.

    Args:
      moments: of all features. Those with ``fourths`` tell the third and fourth moment of any
        subset; those of others are then not known, ``third`` and ``fourth`` are ``[0]``, and a
        score that reads them has to refuse (:func:`kernlens.moments.fourth`).
      dims: numbers of the features in ``0..p-1``, ``[q]``.

    Returns:
      Moments of ``q`` features.

    Raises:
      ValueError: numbers out of range or that are not integers.
    """
    dims = np.asarray(dims)
    dim = moments.mean.shape[0]
    if dims.ndim != 1 or dims.dtype.kind not in "iu" or np.any((dims < 0) | (dims >= dim)):
        raise ValueError(
            f"dimensions must be integers in 0..{dim - 1}, [q]; got {dims.dtype} {dims}"
        )
    square = np.ix_(dims, dims)
    known = moments.thirds.shape[0] == dim
    thirds = moments.thirds[square] if known else moments.thirds
    fourths = moments.fourths[square] if known else moments.fourths
    scatter = moments.scatter[square if moments.scatter.ndim == 2 else dims]
    trace = jnp.diagonal(scatter).sum() if known else jnp.zeros(())
    nothing = jnp.zeros((0,), moments.count.dtype)
    return moments._replace(
        mean=moments.mean[dims],
        mean_low=moments.mean_low[dims],
        scatter=scatter,
        third=divide(thirds.sum(axis=0), trace) if known else nothing,
        fourth=divide(fourths.sum(), trace) if known else nothing,
        thirds=thirds,
        fourths=fourths,
        class_deviations=moments.class_deviations[:, dims],
        class_squares=moments.class_squares[:, dims],
        within=moments.within[square] if moments.within.size else moments.within,
        class_scatters=moments.class_scatters[:, dims[:, None], dims],
        cross=moments.cross[dims],
    )


def relabel(
    moments: Moments,
    x: Array | np.ndarray,
    old_codes: np.ndarray,
    new_codes: np.ndarray,
    weights: Array | np.ndarray | None = None,
) -> Moments:
    """Moments after some rows have changed their class; the cost is that of these rows.

    What names no class is kept to the bit. What a class has left after rows are taken from it has
    the rounding of what it had, as in :func:`remove`.

    Args:
      moments: moments of all rows, with the old labels.
      x: features of the rows that change, ``[m, p]``.
      old_codes: class of each before, integers ``[m]`` in ``0..C-1``; ``-1`` for none.
      new_codes: class of each after, ``[m]``.
      weights: multiplicity of each, ``[m]``, as when they were taken in; 1 by default.

    Returns:
      Moments with the new labels.

    Raises:
      ValueError: codes out of range.
    """
    old_codes, new_codes = np.asarray(old_codes), np.asarray(new_codes)
    for codes in (old_codes, new_codes):
        check_codes(codes, moments.class_counts.shape[0])
    bare = _without_targets(moments)
    empty = jax.tree.map(jnp.zeros_like, bare)
    taken = update(empty, x, jnp.asarray(old_codes), None, weights)
    changed = update(remove(bare, taken), x, jnp.asarray(new_codes), None, weights)
    return _with_classes_of(moments, changed)


def with_labels(
    moments: Moments,
    x: Any,
    codes: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None = None,
    *,
    rows: int = 4096,
) -> Moments:
    r"""Moments under wholly other labels, from a pass that multiplies nothing where all have one.

    Class counts, sums and squares are taken from the rows. The scatter is kept, and where every row
    has a label ``within = scatter - between``, which has the rounding of the scatter: classes that
    stand a thousand times their spread apart are better served by a new pass. Where some rows have
    no label, ``within`` is multiplied out.

    Args:
      moments: of the same rows.
      x: the rows, ``[n, p]``; or their stream, as :func:`kernlens.moments.from_stream` takes it.
      codes: new class of each row, integers ``[n]``; ``-1`` for none.
      num_classes: number of classes ``C``.
      weights: multiplicity of each row, as when they were taken in; 1 by default.
      rows: taken at a time.

    Returns:
      Moments without class scatters: those take the pass that :func:`from_stream` is.

    Raises:
      ValueError: codes out of range or not one a row, or rows that are not those of the moments.
    """
    codes = np.asarray(codes)
    check_codes(codes, num_classes)
    dim, dtype = moments.mean.shape[0], moments.count.dtype
    full = moments.scatter.ndim == 2
    labelled = bool((codes >= 0).all())
    multiplied = full and not labelled
    state = _without_targets(init(dim, num_classes, scatter=multiplied, dtype=dtype))
    for batch in in_chunks(x, codes, num_classes, weights, rows):
        values, own_codes, _, own_weights = batch
        state = update(state, values, own_codes, None, own_weights)
    if not np.isclose(float(state.count), float(moments.count), rtol=1e-5):
        raise ValueError(
            f"got rows of weight {float(state.count):g} and moments of weight "
            f"{float(moments.count):g}; expected the rows that the moments are of"
        )
    if full and labelled:
        between = dot(state.class_deviations.T, class_offsets(state))
        state = state._replace(within=moments.scatter - between)
    return _with_classes_of(moments, state)


def merge_classes(moments: Moments, groups: np.ndarray) -> Moments:
    """Moments with classes taken together.

    Args:
      moments: moments of ``C`` classes.
      groups: new class of each class, integers ``[C]`` from 0.

    Returns:
      Moments of ``max(groups) + 1`` classes.

    Raises:
      ValueError: groups that are not one integer of at least 0 for each class.

    Examples:
      >>> from kernlens import moments
      >>> of_three = moments.from_arrays(np.eye(4), np.array([0, 1, 2, 2]), 3)
      >>> merge_classes(of_three, np.array([0, 0, 1])).class_counts.tolist()
      [2.0, 2.0]
    """
    groups = np.asarray(groups)
    count = moments.class_counts.shape[0]
    if groups.shape != (count,) or groups.dtype.kind not in "iu" or np.any(groups < 0):
        raise ValueError(
            f"groups must be integers of at least 0, one for each of {count} classes; got "
            f"{groups.dtype} {groups}"
        )
    size = int(groups.max(initial=-1)) + 1

    def together(a: Array) -> Array:
        return jax.ops.segment_sum(a, groups, size)

    counts, deviations = together(moments.class_counts), together(moments.class_deviations)
    gaps = class_offsets(moments) - divide(deviations, counts[:, None])[groups]
    weighted = moments.class_counts[:, None] * gaps
    scatters = moments.class_scatters
    if scatters.shape[0]:
        rows = jnp.einsum("cp,cq->cpq", weighted, gaps, precision="highest")
        scatters = together(scatters + rows)
    return moments._replace(
        class_counts=counts,
        class_deviations=deviations,
        class_squares=together(moments.class_squares + weighted * gaps),
        within=moments.within + dot(weighted.T, gaps) if moments.within.size else moments.within,
        class_scatters=scatters,
    )


def concatenate(a: Moments, b: Moments, cross: Array | np.ndarray) -> Moments:
    r"""Moments of two embeddings of the same rows side by side, :math:`[A, B]`.

    ``cross`` comes with the pass over ``A`` when the rows of ``B`` are its targets:

        of_a = moments.from_stream(a, codes, num_classes, targets=b_rows)
        both = moments.concatenate(drop_targets(of_a), of_b, of_a.cross)

    The within-class part of it is ``cross`` less what the class means explain, so every row has to
    have a label, or none; its rounding is that of ``cross``. The scatter of each class and the
    third and fourth moments of the two together are not told by what is stored: ``class_scatters``
    is left out, ``third`` and ``fourth`` are ``[0]`` (:func:`kernlens.moments.fourth`).

    Args:
      a: moments of ``A``, ``p`` features.
      b: moments of ``B``, ``q`` features; same rows, weights and labels.
      cross: :math:`\sum_i w_i z^a_i (z^b_i)^\top`, ``[p, q]``.

    Returns:
      Moments of ``p + q`` features, with the targets of ``a`` where both have them.

    Raises:
      ValueError: counts that differ, a cross scatter of another shape, or labels of some rows only.
    """
    p, q = a.mean.shape[0], b.mean.shape[0]
    cross = jnp.asarray(cross, a.count.dtype)
    if cross.shape != (p, q):
        raise ValueError(f"cross has shape {cross.shape}; expected {(p, q)}")
    if a.class_counts.shape != b.class_counts.shape or not (
        np.isclose(a.count, b.count, rtol=1e-6)
        and np.allclose(a.class_counts, b.class_counts, rtol=1e-6)
    ):
        raise ValueError(
            f"the two are not of the same rows and labels: {float(a.count):g} rows in "
            f"{a.class_counts.shape[0]} classes and {float(b.count):g} in {b.class_counts.shape[0]}"
        )
    labelled = float(a.class_counts.sum())
    if labelled and not np.isclose(labelled, float(a.count), rtol=1e-6):
        raise ValueError(
            f"{labelled:g} of {float(a.count):g} rows have a label; the within-class scatter of "
            "two embeddings side by side follows from stored moments where all have one, or none"
        )
    if a.target_mean.shape != b.target_mean.shape:
        raise ValueError(
            f"{a.target_mean.shape[0]} and {b.target_mean.shape[0]} targets; expected the same: "
            "drop_targets leaves them out"
        )
    between = dot(a.class_deviations.T, class_offsets(b))
    mixed = cross - between if labelled else jnp.zeros_like(cross)
    bare = _without_higher(a)
    return bare._replace(
        mean=jnp.concatenate([a.mean, b.mean]),
        mean_low=jnp.concatenate([a.mean_low, b.mean_low]),
        scatter=jnp.block([[a.scatter, cross], [cross.T, b.scatter]]),
        class_deviations=jnp.concatenate([a.class_deviations, b.class_deviations], axis=1),
        class_squares=jnp.concatenate([a.class_squares, b.class_squares], axis=1),
        within=jnp.block([[a.within, mixed], [mixed.T, b.within]]),
        class_scatters=jnp.zeros((0, p + q, p + q), cross.dtype),
        cross=jnp.concatenate([a.cross, b.cross]),
    )


def drop_targets(moments: Moments) -> Moments:
    """Moments without regression targets."""
    return moments._replace(
        target_mean=moments.target_mean[:0],
        target_mean_low=moments.target_mean_low[:0],
        target_scatter=moments.target_scatter[:0, :0],
        cross=moments.cross[:, :0],
    )


def _without_higher(m: Moments) -> Moments:
    nothing = jnp.zeros((0,), m.count.dtype)
    return m._replace(
        third=nothing, fourth=nothing, thirds=m.thirds[:0, :0], fourths=m.fourths[:0, :0]
    )


def _without_targets(m: Moments) -> Moments:
    return _without_higher(drop_targets(m))


def _with_classes_of(moments: Moments, other: Moments) -> Moments:
    return moments._replace(
        class_counts=other.class_counts,
        class_deviations=other.class_deviations,
        class_squares=other.class_squares,
        within=other.within,
        class_scatters=other.class_scatters,
    )

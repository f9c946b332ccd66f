"""Metrics of a single-label classifier, in their standard definitions.

Everything but :func:`log_loss` and :func:`auc` follows from counts, so metrics of many
classifiers, or of many bootstrap draws, are one batched call with no loop over rows. Functions that
take counts run on NumPy arrays (in float64) and on JAX arrays alike.
"""

from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from kernlens.types import Array, Classification


def confusion(
    target: Array, predicted: Array, num_classes: int, *, weights: Array | None = None
) -> Array:
    r"""Confusion matrix, :math:`N_{ck} = \sum_i w_i 1[y_i = c] 1[\hat y_i = k]`.

    Args:
      target: true classes, integers ``[n]`` in ``0..num_classes-1``; a row with a negative target
        has no label and is left out.
      predicted: classes given, integers ``[n]`` in ``0..num_classes-1``; rows outside are left out.
      num_classes: number of classes, at least 1.
      weights: weight of each row, non-negative ``[n]``; one each by default.

    Returns:
      Counts, rows true and columns predicted, ``[num_classes, num_classes]``; int32 if unweighted.
    """
    target, predicted = jnp.asarray(target), jnp.asarray(predicted)
    chex.assert_rank([target, predicted], 1)
    chex.assert_equal_shape([target, predicted])
    if weights is None:
        weights = jnp.ones(target.shape, jnp.int32)
    else:
        weights = jnp.asarray(weights)
        chex.assert_equal_shape([target, weights])
    target, predicted = target.astype(jnp.int32), predicted.astype(jnp.int32)
    inside = (target >= 0) & (target < num_classes) & (predicted >= 0) & (predicted < num_classes)
    # Negative indices wrap in a scatter, so rows left out go past the end, where they are dropped.
    rows = jnp.where(inside, target, num_classes)
    counts = jnp.zeros((num_classes, num_classes), weights.dtype)
    return counts.at[rows, predicted].add(weights, mode="drop")


def from_counts(hits: Any, predicted: Any, support: Any) -> Classification:
    r"""Metrics from per-class counts, which say the same as a confusion matrix in less space.

    With :math:`t_c` hits, :math:`p_c` rows predicted and :math:`s_c` rows true,

    .. math::
      \text{accuracy} = \text{micro-}F_1 = \frac{\sum_c t_c}{\sum_c s_c}, \quad
      F_{1,c} = \frac{2 t_c}{p_c + s_c}, \quad \text{recall}_c = \frac{t_c}{s_c}.

    Macro-F1 is the plain mean of :math:`F_{1,c}` over the classes that occur, as target or as
    prediction: a class that is only predicted counts 0, a class with neither is absent and does not
    count. Balanced accuracy is the mean recall over the classes that occur as target. Both are what
    scikit-learn computes when it finds the classes itself, with ``zero_division=0``.

    Args:
      hits: rows of the class predicted right, ``[..., C]``.
      predicted: rows predicted as the class, ``[..., C]``.
      support: rows truly of the class, ``[..., C]``.

    Returns:
      Metrics, each ``[...]``; NaN where all counts are zero, since nothing was evaluated.
    """
    chex.assert_equal_shape([hits, predicted, support])
    xp = hits.__array_namespace__()
    hits, predicted, support = (
        xp.astype(v, xp.asarray(0.0).dtype) for v in (hits, predicted, support)
    )

    def ratio(above, below):
        return xp.where(below > 0, above / xp.where(below > 0, below, 1.0), xp.nan)

    def mean_present(values, present):
        kept = xp.where(present, values, xp.zeros_like(values))
        number = xp.astype(present, kept.dtype)
        return ratio(xp.sum(kept, axis=-1), xp.sum(number, axis=-1))

    accuracy = ratio(xp.sum(hits, axis=-1), xp.sum(support, axis=-1))
    either = predicted + support
    return Classification(
        accuracy=accuracy,
        micro_f1=accuracy,
        macro_f1=mean_present(ratio(2.0 * hits, either), either > 0),
        balanced_accuracy=mean_present(ratio(hits, support), support > 0),
    )


def from_confusion(confusion: Any) -> Classification:
    """Metrics from confusion matrices; see :func:`from_counts` for the definitions.

    Args:
      confusion: counts, rows true and columns predicted, ``[..., C, C]``, non-negative.

    Returns:
      Metrics, each ``[...]``; NaN for a matrix of zeros.
    """
    chex.assert_equal(confusion.shape[-1], confusion.shape[-2])
    xp = confusion.__array_namespace__()
    hits = xp.linalg.diagonal(confusion)
    return from_counts(hits, xp.sum(confusion, axis=-2), xp.sum(confusion, axis=-1))


def classification(
    target: Array, predicted: Array, num_classes: int, *, weights: Array | None = None
) -> Classification:
    """Metrics of one classifier: :func:`from_confusion` of :func:`confusion`.

    Args:
      target: true classes, integers ``[n]``; rows below 0 are left out.
      predicted: classes given, integers ``[n]``.
      num_classes: number of classes.
      weights: weight of each row, ``[n]``; one each by default.

    Returns:
      Metrics, scalars.
    """
    return from_confusion(confusion(target, predicted, num_classes, weights=weights))


def auc(scores: Array, target: Array) -> Array:
    r"""Area under the ROC curve, :math:`P(s^+ > s^-) + \tfrac12 P(s^+ = s^-)`.

    Args:
      scores: higher for the positive class, ``[n]``.
      target: true (or nonzero) for positive rows, ``[n]``.

    Returns:
      Area in ``[0, 1]``, a scalar; NaN where a class is missing or a score is NaN.

    References:
      Hanley and McNeil (1982), section III: the area is the Mann-Whitney statistic.
    """
    scores, target = jnp.asarray(scores), jnp.asarray(target)
    chex.assert_rank([scores, target], 1)
    chex.assert_equal_shape([scores, target])
    order = jnp.argsort(scores)
    ranked, positive = scores[order], target.astype(bool)[order]
    # Counts stay integers until they are fractions of the negatives: exact in float32 at any n.
    below = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(~positive, dtype=jnp.int32)])
    less = below[jnp.searchsorted(ranked, ranked, side="left")]
    up_to = below[jnp.searchsorted(ranked, ranked, side="right")]
    num_negative, num_positive = below[-1], jnp.sum(positive, dtype=jnp.int32)
    dtype = jnp.zeros(()).dtype
    share = (less + up_to).astype(dtype) / (2.0 * jnp.maximum(num_negative, 1).astype(dtype))
    area = jnp.sum(jnp.where(positive, share, 0.0)) / jnp.maximum(num_positive, 1).astype(dtype)
    defined = (num_negative > 0) & (num_positive > 0) & ~jnp.any(jnp.isnan(scores))
    return jnp.where(defined, area, jnp.nan)


def counts(
    target: np.ndarray, predicted: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :func:`from_counts` reads, for many predictions of the same rows.

    Args:
      target: true classes, integers ``[n]`` in ``0..num_classes-1``.
      predicted: classes given, ``[m, n]``, likewise.
      num_classes: ``C``.

    Returns:
      Hits, rows predicted and rows true of each class, ``[m, C]`` each.
    """

    def count(codes):
        return np.bincount(codes, minlength=num_classes)

    hits = np.stack([count(target[given == target]) for given in predicted])
    given = np.stack([count(given) for given in predicted])
    return hits, given, np.broadcast_to(count(target), given.shape)


def majority(target: np.ndarray) -> Classification:
    """Metrics of always answering the largest class, which any classifier should beat.

    Args:
      target: class of each row, integers ``[n]``, at least 0.

    Returns:
      Metrics, floats.
    """
    support = np.bincount(target)
    largest = np.arange(len(support)) == np.argmax(support)
    found = from_counts(support * largest, len(target) * largest, support)
    return Classification(*(float(value) for value in found))


def by_chance(target: np.ndarray, predicted: np.ndarray) -> Classification:
    """What guesses reach: the same predictions on rows in random order, or the largest class.

    Every metric is linear in the hits once the counts of both sides are fixed, so that its
    expectation over random orders is exact. Of that and of :func:`majority` the better is taken.

    Args:
      target: true classes, integers from 0, ``[n]``.
      predicted: classes given, ``[n]``.

    Returns:
      Metrics, floats.
    """
    size = int(max(np.max(target), np.max(predicted))) + 1
    support, given = (np.bincount(codes, minlength=size) for codes in (target, predicted))
    guessed = from_counts(support * given / len(target), 1.0 * given, 1.0 * support)
    return Classification(
        *(max(float(a), float(b)) for a, b in zip(guessed, majority(target), strict=True))
    )

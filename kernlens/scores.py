r"""Kernel-target scores: Moments to a number, with what pure noise labels give beside it.

Every score reads the kernel :math:`k(x, x') = \langle\Phi(x), \Phi(x')\rangle` of the features
whose moments it is given and the label kernel :math:`k_Y = 1[y = y']`, over all ordered pairs of
rows, in ``O(C p + p^2)``: no ``n x n`` array exists. An unlabelled row equals no other row and not
itself, as in :func:`kernlens.kernels.label`; pass moments of the labelled rows alone for the usual
values.

``null`` is the expectation of the score under a uniformly random permutation of the labels, given
the features: exact, in closed form. With :math:`P = \sum_c n_c (n_c - 1) / (n (n - 1))` the chance
that two rows share a label, a sum over pairs expects the diagonal plus :math:`P` times the rest.

All scores are invariant to the scale of the features, to row order, to rotation and to the names
of the classes, and differentiable in the features. Where a score is undefined (no rows, one class,
constant features) it is 0, and so is its null.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.features import FeatureMap, identity, unit
from kernlens.moments import Moments, class_spreads
from kernlens.types import Array


class Score(NamedTuple):
    """A score and its null.

    Attributes:
      value: the score, ``[]``.
      null: its expectation under randomly permuted labels, ``[]``.
    """

    value: Array
    null: Array


class Estimator(NamedTuple):
    """A score with what a reader must know of it.

    Attributes:
      fn: ``Moments -> Score``.
      features: the feature map whose moments it is defined on; those of a kernel's features turn
        it into that kernel's score.
      formula: in TeX.
      source: paper and equation.
      range: the values it can take.
      predicts: what it is meant to rank.
      pitfalls: where it misleads.
    """

    fn: Callable[[Moments], Score]
    features: FeatureMap
    formula: str
    source: str
    range: str
    predicts: str
    pitfalls: str


@jax.jit
def published_class_cosine(moments: Moments) -> Score:
    r"""Mean cosine over pairs of the same class, diagonal included, as the published code has it.

    .. math:: \sum_{ij} 1[y_i = y_j] \cos(x_i, x_j) \Big/ \sum_{ij} 1[y_i = y_j]
              = \sum_c \|s_c\|^2 \Big/ \sum_c n_c^2

    with :math:`s_c` the sum of the unit rows of a class. It is not proposition 1: no
    :math:`\sqrt{E[k^2]}`. The published code gives NaN where a row is zero; here its cosine is 0.

    Args:
      moments: of unit rows (:func:`kernlens.features.unit`).

    Returns:
      Value in ``[0, 1]``; its null is that of the module's formula over :math:`\sum_c n_c^2`.

    References:
      Xu and Yang (2023), released code, ``clf_kernel_score``.
    """
    f, same, own, peers = _pairs(moments)
    defined = jnp.sum(f**2) > 0
    norm = jnp.where(defined, jnp.sum(f**2), 1.0)
    return _where(defined, same / norm, (own * f.sum() + _shared(moments) * peers) / norm)


@jax.jit
def proposition1(moments: Moments) -> Score:
    r"""The alignment of proposition 1, :math:`E[k_Y\, k] / \sqrt{E[k^2]}`.

    The expectations are over all ordered pairs of rows, the diagonal included: two independent
    draws from the empirical distribution. The features are not centred, as in the paper, so a
    common mean swamps the score. With the class sums :math:`s_c` and
    :math:`M = \frac1n \sum_i x_i x_i^\top` it is

    .. math:: \frac{1}{n^2} \sum_c \|s_c\|^2 \Big/ \|M\|_F .

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).

    Returns:
      Value in :math:`[0, \sqrt{E[k_Y]}]`; its null is the module's formula over the same norm.

    References:
      Xu and Yang (2023), proposition 1.
    """
    f, same, own, peers = _pairs(moments)
    size = own * jnp.maximum(moments.count, 1.0)
    defined = size > 0
    size = jnp.where(defined, size, 1.0)
    # Divided by the trace before squaring: the squares then stay inside float32 at any scale.
    mean = moments.mean + moments.mean_low
    second = _per_row(moments, moments.scatter) / size + jnp.outer(mean / size, mean)
    norm = jnp.where(defined, _norm(jnp.where(defined, second, 1.0)), 1.0) * size
    return _where(defined, same / norm, (own * f.sum() + _shared(moments) * peers) / norm)


@jax.jit
def centred_alignment(moments: Moments) -> Score:
    r"""Centred kernel-target alignment, linear CKA of the features with the one-hot labels.

    .. math:: \langle HKH, HK_YH\rangle_F \big/ \|HKH\|_F \|HK_YH\|_F
              = \sum_c n_c^2 \|\mu_c - \mu\|^2 \big/ \|S\|_F \|B\|_F

    with :math:`S` the scatter of the features and :math:`B` that of the one-hot labels. Its null,
    :math:`\mathrm{tr} S\, \mathrm{tr} B / ((n - 1) \|S\|_F \|B\|_F)`, grows with the effective
    dimension over the number of rows: subtract it, or use :func:`debiased_alignment`.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).

    Returns:
      Value in ``[0, 1]``, and its null.

    References:
      Cortes, Mohri and Rostamizadeh (2012), definition 4; Kornblith et al. (2019), equation 3.
    """
    c = _centred_terms(moments)
    defined = c.defined & (c.labels_norm > 0)
    norm = jnp.where(defined, c.norm * c.labels_norm, 1.0)
    null = c.labels_trace / jnp.maximum(c.count - 1.0, 1.0)
    return _where(defined, c.shared / norm, null / norm)


@jax.jit
def debiased_alignment(moments: Moments) -> Score:
    r"""Centred alignment from unbiased inner products (debiased CKA): the diagonal plays no part.

    .. math:: U(K, L) / \sqrt{U(K, K)\, U(L, L)}, \quad U(K, L) = \langle K, L\rangle_F
              - \frac{n}{n - 2} \sum_i k_{ii} l_{ii}
              + \frac{\mathrm{tr} K\, \mathrm{tr} L}{(n - 1)(n - 2)}

    for doubly centred :math:`K` and :math:`L`: :math:`n (n - 3)` times the unbiased HSIC. Exact
    from one pass, by the sums of :math:`\|z_i\|^4` and of :math:`\|z_i\|^2` per class.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).

    Returns:
      Value in ``[-1, 1]``; its null is 0, exactly. Needs 4 rows, else it is 0.

    References:
      Song et al. (2012), equation 5; Székely and Rizzo (2014), equation 3.
    """
    c = _centred_terms(moments)
    n = jnp.maximum(c.count, 4.0)
    pairs = (n - 1.0) * (n - 2.0)
    own_labels = (1.0 - 2.0 * c.shares) + c.collision
    unlabelled = _per_row(moments, jnp.maximum(c.count - moments.class_counts.sum(), 0.0))
    spreads = jnp.where(c.defined, class_spreads(moments), 0.0) / c.trace
    rest = jnp.maximum(1.0 - spreads.sum(), 0.0) * jnp.where(unlabelled > 0, 1.0, 0.0)
    both = jnp.sum(spreads * own_labels) + rest * c.collision
    labels_fourth = jnp.sum(c.shares * own_labels**2) + unlabelled * c.collision**2
    fourth = jnp.where(c.defined, moments.fourth, 0.0) / c.trace / c.trace

    shared = c.shared - both / (n - 2.0) + c.labels_trace / pairs
    own = c.norm**2 - n / (n - 2.0) * fourth + 1.0 / pairs
    labels = c.labels_norm**2 - labels_fourth / (n - 2.0) + c.labels_trace**2 / pairs
    # Both are sums of squares, zero only when degenerate; then rounding is all that is left.
    rounding = 32.0 * float(jnp.finfo(moments.count.dtype).eps)
    defined = c.defined & (moments.count > 3.0)
    defined = defined & (own > rounding * c.norm**2) & (labels > rounding * c.labels_norm**2)
    own, labels = jnp.where(defined, own, 1.0), jnp.where(defined, labels, 1.0)
    value = shared / jnp.sqrt(own) / jnp.sqrt(labels)
    return _where(defined, value, jnp.zeros_like(value))


SCORES: dict[str, Estimator] = {
    "published_class_cosine": Estimator(
        published_class_cosine,
        unit,
        r"\sum_{y_i = y_j} \cos(x_i, x_j) / |\{y_i = y_j\}|",
        "Xu and Yang (2023), released code, clf_kernel_score",
        "[0, 1]",
        "meant to rank trained classifiers; kept to compare with the published code",
        "a common direction drives it to 1, whatever the classes; includes the diagonal",
    ),
    "proposition1": Estimator(
        proposition1,
        identity,
        r"E[k_Y k] / \sqrt{E[k^2]}",
        "Xu and Yang (2023), proposition 1",
        "[0, sqrt(E[k_Y])]",
        "meant to bound the accuracy of the mean classifier from below",
        "uncentred, so a common mean swamps it; comparable only for equal labels",
    ),
    "centred_alignment": Estimator(
        centred_alignment,
        identity,
        r"\langle HKH, HK_YH\rangle / \|HKH\| \|HK_YH\|",
        "Cortes, Mohri and Rostamizadeh (2012), definition 4",
        "[0, 1]",
        "ranks linear and shallow classifiers on frozen embeddings",
        "biased upwards when rows are few for the dimension; large-variance directions dominate",
    ),
    "debiased_alignment": Estimator(
        debiased_alignment,
        identity,
        r"U(K, K_Y) / \sqrt{U(K, K)\, U(K_Y, K_Y)}",
        "Song et al. (2012), equation 5",
        "[-1, 1]",
        "as centred_alignment, comparable across dimensions and numbers of rows",
        "noisy below a few dozen rows; 0 where undefined",
    ),
}
"""Scores by name."""


class _Centred(NamedTuple):
    """Terms of the centred scores; features divided by their total spread, labels by n."""

    defined: Array
    count: Array
    trace: Array
    norm: Array
    shared: Array
    shares: Array
    collision: Array
    labels_trace: Array
    labels_norm: Array


def _centred_terms(moments: Moments) -> _Centred:
    trace = jnp.trace(moments.scatter)
    # Rows equal up to rounding are constant features: what scatter they have is rounding.
    rounding = 4.0 * float(jnp.finfo(moments.count.dtype).eps) * jnp.sqrt(moments.count)
    defined = trace > jnp.sum((rounding * moments.mean) ** 2)
    trace = jnp.where(defined, trace, 1.0)
    safe_count = jnp.where(defined, moments.count, 1.0)
    scatter = jnp.where(defined, moments.scatter, 1.0) / trace
    deviations = moments.class_deviations / safe_count
    shares = _per_row(moments, moments.class_counts)
    # n - n_c is exact where 1 - n_c / n would have cancelled.
    others = _per_row(moments, moments.count - moments.class_counts)
    same = jnp.eye(shares.shape[0], dtype=bool)
    labels = jnp.where(same, jnp.outer(shares, others), -jnp.outer(shares, shares))
    return _Centred(
        defined=defined,
        count=moments.count,
        trace=trace,
        norm=_norm(scatter),
        shared=jnp.sum(deviations**2) / trace * safe_count,
        shares=shares,
        collision=jnp.sum(shares**2),
        labels_trace=jnp.sum(shares * others),
        labels_norm=_norm(labels),
    )


def _pairs(moments: Moments) -> tuple[Array, Array, Array, Array]:
    """Class shares, and over n^2: same-class pairs, the diagonal, all other pairs."""
    f = _per_row(moments, moments.class_counts)
    mean = moments.mean + moments.mean_low
    sums = _per_row(moments, moments.class_deviations) + jnp.outer(f, mean)
    spread = _per_row(moments, _per_row(moments, jnp.trace(moments.scatter)))
    own = spread + _per_row(moments, jnp.sum(mean**2))
    return f, jnp.sum(sums**2), own, jnp.sum(mean**2) - own


def _shared(moments: Moments) -> Array:
    """Chance that two different rows share a label."""
    share = jnp.sum(_per_row(moments, moments.class_counts) * (moments.class_counts - 1.0))
    return share / jnp.maximum(moments.count - 1.0, 1.0)


def _per_row(moments: Moments, value: Array) -> Array:
    filled = moments.count > 0
    return jnp.where(filled, value / jnp.where(filled, moments.count, 1.0), 0.0)


def _norm(matrix: Array) -> Array:
    squared = jnp.sum(matrix**2)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def _where(defined: Array, value: Array, null: Array) -> Score:
    return Score(jnp.where(defined, value, 0.0), jnp.where(defined, null, 0.0))

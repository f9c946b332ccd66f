r"""Alignment of a kernel with the labels: kernel-target scores from one pass.

Every score reads the kernel :math:`k(x, x') = \langle\Phi(x), \Phi(x')\rangle` of the features
whose moments it is given and the label kernel :math:`k_Y = 1[y = y']`, over all ordered pairs of
rows, in ``O(C p + p^2)``: no ``n x n`` array exists. An unlabelled row equals no other row and not
itself, as in :func:`kernlens.kernels.label`; pass moments of the labelled rows alone for the usual
values.

``null`` is the expectation of the score under a uniformly random permutation of the labels, given
the features: exact, in closed form. With :math:`P = \sum_c n_c (n_c - 1) / (n (n - 1))` the chance
that two rows share a label, a sum over pairs expects the diagonal plus :math:`P` times the rest.

All are invariant to row order, to rotation and to the names of the classes, all but HSIC to the
scale of the features, and differentiable in the features. Where a score is undefined (no rows, one
class, constant features) it is 0, and so is its null.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.moments import Moments, class_spreads, full_scatter, total_scatter
from kernlens.moments import fourth as fourth_moment
from kernlens.scores.estimator import (
    Estimator,
    Score,
    norm,
    per_row,
    spread,
    where_defined,
)
from kernlens.types import Array


@jax.jit
def published_class_cosine(moments: Moments) -> Score:
    r"""Mean cosine over pairs of the same class, diagonal included, as the published code has it.

    .. math:: \sum_{ij} 1[y_i = y_j] \cos(x_i, x_j) \Big/ \sum_{ij} 1[y_i = y_j]
              = \sum_c \|s_c\|^2 \Big/ \sum_c n_c^2

    with :math:`s_c` the sum of the unit rows of a class. It is not proposition 1: no
    :math:`\sqrt{E[k^2]}`. The published code gives NaN where a row is zero; here its cosine is 0.

    Args:
      moments: moments of unit rows (:func:`kernlens.arrays.rows.unit_rows`).

    Returns:
      Value in ``[0, 1]``; its null is that of the module's formula over :math:`\sum_c n_c^2`.

    References:
      Xu and Yang (2023), released code, ``clf_kernel_score``.
    """
    f, same, own, peers = _pairs(moments)
    defined = jnp.sum(f**2) > 0
    pairs = jnp.where(defined, jnp.sum(f**2), 1.0)
    null = own * f.sum() + _shared(moments) * peers
    return where_defined(defined, same / pairs, null / pairs)


@jax.jit
def proposition1(moments: Moments) -> Score:
    r"""The alignment of proposition 1, :math:`E[k_Y\, k] / \sqrt{E[k^2]}`.

    The expectations are over all ordered pairs of rows, the diagonal included: two independent
    draws from the empirical distribution. The features are not centred, as in the paper, so a
    common mean swamps the score. With the class sums :math:`s_c` and
    :math:`M = \frac1n \sum_i x_i x_i^\top` it is

    .. math:: \frac{1}{n^2} \sum_c \|s_c\|^2 \Big/ \|M\|_F .

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

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
    second = per_row(moments, full_scatter(moments)) / size + jnp.outer(mean / size, mean)
    size = jnp.where(defined, norm(jnp.where(defined, second, 1.0)), 1.0) * size
    null = own * f.sum() + _shared(moments) * peers
    return where_defined(defined, same / size, null / size)


@jax.jit
def centred_alignment(moments: Moments) -> Score:
    r"""Centred kernel-target alignment, linear CKA of the features with the one-hot labels.

    .. math:: \langle HKH, HK_YH\rangle_F \big/ \|HKH\|_F \|HK_YH\|_F
              = \sum_c n_c^2 \|\mu_c - \mu\|^2 \big/ \|S\|_F \|B\|_F

    with :math:`S` the scatter of the features and :math:`B` that of the one-hot labels. Its null,
    :math:`\mathrm{tr} S\, \mathrm{tr} B / ((n - 1) \|S\|_F \|B\|_F)`, grows with the effective
    dimension over the number of rows: subtract it, or use :func:`debiased_alignment`.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[0, 1]``, and its null.

    References:
      Cortes, Mohri and Rostamizadeh (2012), definition 4; Kornblith et al. (2019), equation 3.
    """
    c = _centred_terms(moments)
    defined = c.defined & (c.labels_norm > 0)
    norms = jnp.where(defined, c.norm * c.labels_norm, 1.0)
    null = c.labels_trace / jnp.maximum(c.count - 1.0, 1.0)
    return where_defined(defined, c.shared / norms, null / norms)


@jax.jit
def debiased_alignment(moments: Moments) -> Score:
    r"""Centred alignment from unbiased inner products (debiased CKA): the diagonal plays no part.

    .. math:: U(K, L) / \sqrt{U(K, K)\, U(L, L)}, \quad U(K, L) = \langle K, L\rangle_F
              - \frac{n}{n - 2} \sum_i k_{ii} l_{ii}
              + \frac{\mathrm{tr} K\, \mathrm{tr} L}{(n - 1)(n - 2)}

    for doubly centred :math:`K` and :math:`L`: :math:`n (n - 3)` times the unbiased HSIC. Exact
    from one pass, by the sums of :math:`\|z_i\|^4` and of :math:`\|z_i\|^2` per class.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[-1, 1]``; its null is 0, exactly. Needs 4 rows, else it is 0.

    References:
      Song et al. (2012), equation 5; Székely and Rizzo (2014), equation 3.
    """
    c = _centred_terms(moments)
    shared, own, labels = _unbiased(moments, c)
    # Both are sums of squares, zero only when degenerate; then rounding is all that is left.
    rounding = 32.0 * float(jnp.finfo(moments.count.dtype).eps)
    defined = c.defined & (moments.count > 3.0)
    defined = defined & (own > rounding * c.norm**2) & (labels > rounding * c.labels_norm**2)
    own, labels = jnp.where(defined, own, 1.0), jnp.where(defined, labels, 1.0)
    value = shared / jnp.sqrt(own) / jnp.sqrt(labels)
    return where_defined(defined, value, jnp.zeros_like(value))


@jax.jit
def hsic(moments: Moments) -> Score:
    r"""Hilbert-Schmidt independence criterion, :math:`\mathrm{tr}(K H K_Y H) / (n - 1)^2`.

    .. math:: \frac{1}{(n - 1)^2} \sum_c n_c^2 \|\mu_c - \mu\|^2

    The centred alignment without its norms: it has the squared unit of the features.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value at least 0; its null is :math:`\mathrm{tr} S\, \mathrm{tr} B / (n - 1)^3`.

    References:
      Gretton et al. (2005), equation 9.
    """
    c = _centred_terms(moments)
    rest = jnp.maximum(c.count - 1.0, 1.0)
    unit = c.count / rest * (c.trace / rest)
    return where_defined(c.defined, c.shared * unit, c.labels_trace / rest * unit)


@jax.jit
def debiased_hsic(moments: Moments) -> Score:
    r"""Unbiased estimate of the same, :math:`U(K, K_Y) / (n (n - 3))`.

    :math:`U` is that of :func:`debiased_alignment`.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value of either sign; its null is 0, exactly. Needs 4 rows, else it is 0.

    References:
      Song et al. (2012), equation 5.
    """
    c = _centred_terms(moments)
    shared, _, _ = _unbiased(moments, c)
    value = shared * (c.trace / jnp.maximum(c.count - 3.0, 1.0))
    return where_defined(c.defined & (moments.count > 3.0), value, jnp.zeros_like(value))


ALIGNMENTS: dict[str, Estimator] = {
    "published_class_cosine": Estimator(
        published_class_cosine,
        formula=r"\sum_{y_i = y_j} \cos(x_i, x_j) / |\{y_i = y_j\}|",
        source="Xu and Yang (2023), released code, clf_kernel_score",
        range="[0, 1]",
        null="exact",
        predicts="meant to rank trained classifiers; kept to compare with the published code",
        pitfalls="a common direction drives it to 1, whatever the classes; includes the diagonal",
        features=unit_rows,
        scatter=False,
        smooth=True,
    ),
    "proposition1": Estimator(
        proposition1,
        formula=r"E[k_Y k] / \sqrt{E[k^2]}",
        source="Xu and Yang (2023), proposition 1",
        range="[0, sqrt(E[k_Y])]",
        null="exact",
        predicts="meant to bound the accuracy of the mean classifier from below",
        pitfalls="uncentred, so a common mean swamps it; comparable only for equal labels",
        smooth=True,
    ),
    "centred_alignment": Estimator(
        centred_alignment,
        formula=r"\langle HKH, HK_YH\rangle / \|HKH\| \|HK_YH\|",
        source="Cortes, Mohri and Rostamizadeh (2012), definition 4",
        range="[0, 1]",
        null="exact",
        predicts="ranks linear and shallow classifiers on frozen embeddings",
        pitfalls="biased upwards when rows are few for the dimension; "
        "large-variance directions dominate",
        shift_free=True,
        smooth=True,
    ),
    "debiased_alignment": Estimator(
        debiased_alignment,
        formula=r"U(K, K_Y) / \sqrt{U(K, K)\, U(K_Y, K_Y)}",
        source="Song et al. (2012), equation 5",
        range="[-1, 1]",
        null="0, exact",
        predicts="as centred_alignment, comparable across dimensions and numbers of rows",
        pitfalls="noisy below a few dozen rows; 0 where undefined",
        shift_free=True,
        smooth=True,
    ),
    "hsic": Estimator(
        hsic,
        formula=r"\mathrm{tr}(K H K_Y H) / (n - 1)^2",
        source="Gretton et al. (2005), equation 9",
        range="[0, inf)",
        null="exact",
        predicts="dependence of labels on features, in the squared unit of the features",
        pitfalls="scales with the features: not comparable between embeddings",
        scale_free=False,
        shift_free=True,
        smooth=True,
    ),
    "debiased_hsic": Estimator(
        debiased_hsic,
        formula=r"U(K, K_Y) / (n (n - 3))",
        source="Song et al. (2012), equation 5",
        range="(-inf, inf)",
        null="0, exact",
        predicts="as hsic, without its bias",
        pitfalls="scales with the features: not comparable between embeddings",
        scale_free=False,
        shift_free=True,
        smooth=True,
    ),
}
"""Kernel-target scores by name."""


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
    defined, trace = spread(moments)
    safe_count = jnp.where(defined, moments.count, 1.0)
    scatter = jnp.where(defined, full_scatter(moments), 1.0) / trace
    deviations = moments.class_deviations / safe_count
    shares = per_row(moments, moments.class_counts)
    # n - n_c is exact where 1 - n_c / n would have cancelled.
    others = per_row(moments, moments.count - moments.class_counts)
    same = jnp.eye(shares.shape[0], dtype=bool)
    labels = jnp.where(same, jnp.outer(shares, others), -jnp.outer(shares, shares))
    return _Centred(
        defined=defined,
        count=moments.count,
        trace=trace,
        norm=norm(scatter),
        shared=jnp.sum(deviations**2) / trace * safe_count,
        shares=shares,
        collision=jnp.sum(shares**2),
        labels_trace=jnp.sum(shares * others),
        labels_norm=norm(labels),
    )


def _unbiased(moments: Moments, c: _Centred) -> tuple[Array, Array, Array]:
    """Unbiased inner products: features with labels, features and labels with themselves."""
    n = jnp.maximum(c.count, 4.0)
    pairs = (n - 1.0) * (n - 2.0)
    own_labels = (1.0 - 2.0 * c.shares) + c.collision
    unlabelled = per_row(moments, jnp.maximum(c.count - moments.class_counts.sum(), 0.0))
    spreads = jnp.where(c.defined, class_spreads(moments), 0.0) / c.trace
    rest = jnp.maximum(1.0 - spreads.sum(), 0.0) * jnp.where(unlabelled > 0, 1.0, 0.0)
    both = jnp.sum(spreads * own_labels) + rest * c.collision
    labels_fourth = jnp.sum(c.shares * own_labels**2) + unlabelled * c.collision**2
    fourth = jnp.where(c.defined, fourth_moment(moments), 0.0) / c.trace
    shared = c.shared - both / (n - 2.0) + c.labels_trace / pairs
    own = c.norm**2 - n / (n - 2.0) * fourth + 1.0 / pairs
    labels = c.labels_norm**2 - labels_fourth / (n - 2.0) + c.labels_trace**2 / pairs
    return shared, own, labels


def _pairs(moments: Moments) -> tuple[Array, Array, Array, Array]:
    """Class shares, and over n^2: same-class pairs, the diagonal, all other pairs."""
    f = per_row(moments, moments.class_counts)
    mean = moments.mean + moments.mean_low
    sums = per_row(moments, moments.class_deviations) + jnp.outer(f, mean)
    own = per_row(moments, per_row(moments, total_scatter(moments)))
    own = own + per_row(moments, jnp.sum(mean**2))
    return f, jnp.sum(sums**2), own, jnp.sum(mean**2) - own


def _shared(moments: Moments) -> Array:
    """Chance that two different rows share a label."""
    share = jnp.sum(per_row(moments, moments.class_counts) * (moments.class_counts - 1.0))
    return share / jnp.maximum(moments.count - 1.0, 1.0)

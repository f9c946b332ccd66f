"""Two embeddings by the spans of their columns: eigenspaces and canonical correlations."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments import Moments
from kernlens.scores.basis import column_units, in_units, stretch, whitening
from kernlens.scores.estimator import Estimator, dot, ratio, root
from kernlens.scores.pairs.pair import (
    Pair,
    conditioned,
    equilibrated,
    mean_of,
    scaled_eigh,
    scatters,
    seconds,
    uncentred,
)
from kernlens.types import Array


class Correlations(NamedTuple):
    """Canonical correlations and what weighs them.

    Attributes:
      values: falling, in ``[0, 1]``, ``[min(p, q)]``.
      weights: share of each in ``A``, as projection-weighted CCA has it, of sum 1,
        ``[min(p, q)]``.
    """

    values: Array
    weights: Array


@jax.jit
def eigenspace_overlap(pair: Pair) -> Array:
    r"""Eigenspace overlap, :math:`\|U_a^\top U_b\|_F^2 / \max(p, q)`, uncentred.

    :math:`U` are the left singular vectors: the score compares the spans of the columns alone.

    Args:
      pair: of the features as they are.

    Returns:
      Similarity in ``[0, 1]``, ``[]``.

    References:
      May et al. (2019), definition 1.
    """
    a, b, cross = conditioned(equilibrated(pair))
    widths = pair.first.mean.shape[0], pair.second.mean.shape[0]
    return jnp.sum(dot(whitening(a), dot(cross, whitening(b))) ** 2) / max(widths)


@partial(jax.jit, static_argnames="exponent")
def weighted_eigenspace_overlap(pair: Pair, *, exponent: int = 1) -> Array:
    r"""Share of ``B`` in the span of ``A``.

    .. math:: \mathrm{tr}\big(P_a (B B^\top)^{e}\big) \big/ \mathrm{tr}\big((B B^\top)^{e}\big)

    Args:
      pair: of the features as they are.
      exponent: :math:`e \ge 1`, an integer.

    Returns:
      Share in ``[0, 1]``, ``[]``.

    References:
      Leszczynski et al. (2020), released code, ``eigen_overlap(weighted=True)``.
    """
    if exponent == 1:
        size = jnp.trace(pair.second.scatter)
        size = size + pair.both.count * jnp.sum(mean_of(pair.second) ** 2)
        left = _residual(pair.second, pair.first, scatters(pair)[2].T)
        return jnp.where(size > 0, jnp.clip(1.0 - ratio(left, size), 0.0, 1.0), 0.0)
    # To one size first, where no power leaves the range of the dtype.
    _, b, cross = seconds(pair)
    size = jnp.trace(b)
    b = ratio(b, size)
    own = _power(b, exponent)
    alike = equilibrated(pair)
    seen, _, _ = conditioned(alike)
    turn = ratio(stretch(alike.first), root(size)) / column_units(pair.first)
    inside = dot(whitening(seen), dot(turn, dot(cross, _power_root(b, exponent))))
    return ratio(jnp.sum(inside**2), own)


@partial(jax.jit, static_argnames="exponent")
def eigenspace_instability(
    pair: Pair, anchors: Sequence[Moments] | None = None, *, exponent: int = 1
) -> Array:
    r"""Eigenspace instability, the disagreement of linear regression on ``A`` and on ``B``.

    .. math:: \mathrm{tr}\big((P_a + P_b - 2 P_b P_a)\, \Sigma\big) \big/ \mathrm{tr}\, \Sigma,
              \qquad \Sigma = \sum_e (E_e E_e^\top)^{\alpha}

    with :math:`P` the projectors on the spans of the columns: expected squared difference of the
    predictions, over labels of covariance :math:`\Sigma`.

    Args:
      pair: of the features as they are.
      anchors: moments of :math:`[A, B, E]` for each anchor embedding :math:`E`; by default the
        anchors are ``A`` and ``B`` themselves.
      exponent: :math:`\alpha \ge 1`, an integer.

    Returns:
      Instability in ``[0, 2]``, ``[]``.

    References:
      Leszczynski et al. (2020), definition 2.
    """
    if anchors is None and exponent == 1:
        left = _residual(pair.first, pair.second, scatters(pair)[2])
        left = left + _residual(pair.second, pair.first, scatters(pair)[2].T)
        means = jnp.sum(mean_of(pair.first) ** 2) + jnp.sum(mean_of(pair.second) ** 2)
        return ratio(left, jnp.trace(pair.both.scatter) + pair.both.count * means)
    width_a, width_b = pair.first.mean.shape[0], pair.second.mean.shape[0]
    width = width_a + width_b
    alike = equilibrated(pair)
    a, b, cross = conditioned(alike)
    white_a = dot(whitening(a), stretch(alike.first)) / column_units(pair.first)
    white_b = dot(whitening(b), stretch(alike.second)) / column_units(pair.second)
    overlap = dot(dot(whitening(a), cross), whitening(b).T)
    if anchors is None:
        second = uncentred(pair.both)
        parts = [second[:, :width_a], second[:, width_a:]]
        owns = [second[:width_a, :width_a], second[width_a:, width_a:]]
    else:
        seconds = [uncentred(anchor) for anchor in anchors]
        parts = [second[:width, width:] for second in seconds]
        owns = [second[width:, width:] for second in seconds]
    total = size = jnp.zeros((), pair.both.count.dtype)
    scale = jnp.stack([jnp.trace(own) for own in owns]).sum()
    for part, own in zip(parts, owns, strict=True):
        own, weights = ratio(own, scale), _power_root(ratio(own, scale), exponent)
        on_a = dot(white_a, dot(ratio(part[:width_a], root(scale)), weights))
        on_b = dot(white_b, dot(ratio(part[width_a:], root(scale)), weights))
        total = (
            total + jnp.sum(on_a**2) + jnp.sum(on_b**2) - 2.0 * jnp.sum(on_a * dot(overlap, on_b))
        )
        size = size + _power(own, exponent)
    return jnp.maximum(ratio(total, size), 0.0)


@jax.jit
def canonical_correlations(pair: Pair) -> Correlations:
    r"""Canonical correlations, singular values of
    :math:`\Sigma_a^{-1/2} \Sigma_{ab} \Sigma_b^{-1/2}`.

    Args:
      pair: of the features as they are; centred here.

    Returns:
      Correlations, with the weights of projection-weighted CCA.

    References:
      Hotelling (1936); Morcos et al. (2018), equation 3.
    """
    a, b, cross = scatters(equilibrated(pair))
    white_a, white_b = whitening(a), whitening(b)
    left, values, _ = jnp.linalg.svd(dot(white_a, dot(cross, white_b)), full_matrices=False)
    units = ratio(column_units(pair.first), root(jnp.trace(pair.first.scatter)))
    own = jnp.sum(jnp.abs(dot(left.T, dot(white_a, a))) * units, axis=1)
    return Correlations(jnp.clip(values, 0.0, 1.0), ratio(own, own.sum()))


@jax.jit
def cca(pair: Pair) -> Array:
    """Mean canonical correlation, in ``[0, 1]``, ``[]``; Hotelling (1936)."""
    return jnp.mean(canonical_correlations(pair).values)


@jax.jit
def pwcca(pair: Pair) -> Array:
    """Projection-weighted mean canonical correlation, in ``[0, 1]``; Morcos et al. (2018)."""
    found = canonical_correlations(pair)
    return jnp.sum(found.values * found.weights)


@jax.jit
def svcca(pair: Pair, *, kept: float = 0.99) -> Array:
    r"""Mean canonical correlation of the leading principal components of each.

    Args:
      pair: of the features as they are; centred here.
      kept: share of the variance that the components of each must reach, in ``(0, 1]``.

    Returns:
      Mean over the components of the side that keeps fewer, in ``[0, 1]``, ``[]``.

    References:
      Raghu et al. (2017), section 2.
    """
    a, b, cross = scatters(pair)
    rotated, sizes = [], []
    for matrix in (a, b):
        values, vectors = scaled_eigh(matrix)
        before = jnp.cumsum(values) - values
        leading = before < kept * values.sum() * (1.0 - float(jnp.finfo(values.dtype).eps))
        rotated.append(
            vectors
            * jnp.where(leading & (values > 0), ratio(jnp.ones_like(values), root(values)), 0.0)
        )
        sizes.append(jnp.sum(leading & (values > 0)))
    values = jnp.linalg.svd(dot(rotated[0].T, dot(cross, rotated[1])), compute_uv=False)
    return ratio(jnp.sum(jnp.clip(values, 0.0, 1.0)), jnp.minimum(*sizes).astype(values.dtype))


SUBSPACES: dict[str, Estimator] = {
    "eigenspace_overlap": Estimator(
        eigenspace_overlap,
        formula=r"\|U_a^\top U_b\|_F^2 / \max(p, q)",
        source="May et al. (2019), definition 1",
        range="[0, 1]",
        null="min(p, q) / n",
        predicts="ranks compressed embeddings by downstream accuracy",
        pitfalls="blind to singular values: any invertible map of the columns gives 1",
    ),
    "weighted_eigenspace_overlap": Estimator(
        weighted_eigenspace_overlap,
        formula=r"\mathrm{tr}(P_a (B B^\top)^e) / \mathrm{tr}((B B^\top)^e)",
        source="Leszczynski et al. (2020), released code",
        range="[0, 1]",
        null="p / n",
        predicts="share of B that a linear map of A gives back",
        pitfalls="not symmetric",
    ),
    "eigenspace_instability": Estimator(
        eigenspace_instability,
        formula=r"\mathrm{tr}((P_a + P_b - 2 P_b P_a) \Sigma) / \mathrm{tr} \Sigma",
        source="Leszczynski et al. (2020), definition 2",
        range="[0, 2]",
        null="about 1 for unrelated embeddings that are their own anchors",
        predicts="share of predictions that change between two versions of an embedding",
        pitfalls="depends on the anchors and on the exponent",
        sign=-1,
    ),
    "cca": Estimator(
        cca,
        formula=r"\tfrac1{\min(p, q)} \sum_k \rho_k",
        source="Hotelling (1936)",
        range="[0, 1]",
        null="grows to 1 as dimensions near the number of rows",
        predicts="likeness up to any invertible map",
        pitfalls="noise directions count as much as any",
        shift_free=True,
    ),
    "pwcca": Estimator(
        pwcca,
        formula=r"\sum_k w_k \rho_k",
        source="Morcos et al. (2018), equation 3",
        range="[0, 1]",
        null="grows to 1 as dimensions near the number of rows",
        predicts="as cca, weighted by what A holds",
        pitfalls="not symmetric; its weights see the axes of A",
        shift_free=True,
        rotation_free=False,
    ),
    "svcca": Estimator(
        svcca,
        formula=r"\tfrac1k \sum_k \rho_k of leading components",
        source="Raghu et al. (2017), section 2",
        range="[0, 1]",
        null="grows with the components kept over rows",
        predicts="as cca, without its noise directions",
        pitfalls="depends on the share of variance kept",
        shift_free=True,
    ),
}
"""Comparisons of column spans by name."""


def _residual(of: Moments, on: Moments, cross: Array) -> Array:
    r"""What is left of ``A`` outside the columns of ``B``, :math:`\|(I - P_b) A\|_F^2`, uncentred.

    .. math:: \mathrm{tr}(S_a - S_{ab} S_b^{+} S_{ba})
              + \frac{n \|\mu_a - S_{ab} S_b^{+} \mu_b\|^2}{1 + n \mu_b^\top S_b^{+} \mu_b}

    The ones less what the columns of ``B`` hold of them are one direction, so a common mean joins
    by a term of its own and takes no digits from the spread. Where it lies outside the span of
    :math:`S_b`, the columns hold the ones, and the term is 0.

    Args:
      of: moments of ``A``.
      on: moments of ``B``.
      cross: scatter between the two, ``[p, q]``.

    Returns:
      Sum of squares, ``[]``.
    """
    units = column_units(on)
    on, cross = in_units(on, units), cross / units
    n, mean = on.count, mean_of(on)
    white = whitening(on.scatter)
    seen = dot(cross, white)
    centred = jnp.maximum(jnp.trace(of.scatter) - jnp.sum(seen**2), 0.0)
    along = dot(white, mean)
    outside = mean - dot(on.scatter, dot(white, along))
    rounding = 32.0 * len(mean) * float(jnp.finfo(mean.dtype).eps)
    held = jnp.sum(outside**2) > rounding * jnp.sum(mean**2)
    gap = mean_of(of) - dot(seen, along)
    return centred + jnp.where(held, 0.0, n * jnp.sum(gap**2) / (1.0 + n * jnp.sum(along**2)))


def _power(matrix: Array, exponent: int) -> Array:
    """Trace of the power."""
    return jnp.sum(scaled_eigh(matrix)[0] ** exponent)


def _power_root(matrix: Array, exponent: int) -> Array:
    r"""``M`` with :math:`M M^\top` the power less one; the identity for exponent 1."""
    if exponent == 1:
        return jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    values, vectors = scaled_eigh(matrix)
    return vectors * root(values) ** (exponent - 1)

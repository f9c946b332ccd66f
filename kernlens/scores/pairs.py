r"""Two embeddings :math:`A\,[n, p]` and :math:`B\,[n, q]` of the same rows, from one pass.

A :class:`Pair` holds the moments of each and of the rows side by side, :math:`[A, B]`; like moments
it merges. What is uncentred in its source is uncentred here (PIP loss, eigenspaces, displacement);
the subspaces are found from bases scaled along the mean, so a mean far above the spread costs no
digits.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens import moments as moments_of
from kernlens.features import unit
from kernlens.moments import Moments
from kernlens.scores.basis import eigh, stretch, whitening
from kernlens.scores.estimator import Estimator, dot, ratio, root
from kernlens.types import Array


class Pair(NamedTuple):
    """Moments of two embeddings of the same rows.

    Attributes:
      first: of ``A``, ``p`` features.
      second: of ``B``, ``q`` features.
      both: of ``[A, B]``, ``p + q`` features.
    """

    first: Moments
    second: Moments
    both: Moments


class Correlations(NamedTuple):
    """Canonical correlations and what weighs them.

    Attributes:
      values: falling, in ``[0, 1]``, ``[min(p, q)]``.
      weights: share of each in ``A``, as projection-weighted CCA has it, of sum 1,
        ``[min(p, q)]``.
    """

    values: Array
    weights: Array


def from_arrays(
    a: Array | np.ndarray,
    b: Array | np.ndarray,
    weights: Array | np.ndarray | None = None,
    *,
    chunk: int = 4096,
) -> Pair:
    """Moments of a pair of arrays in memory.

    Args:
      a: first embedding, ``[n, p]``.
      b: second embedding of the same rows, ``[n, q]``, of the same dtype.
      weights: multiplicity of each row, ``[n]``; 1 by default.
      chunk: rows taken at a time.

    Returns:
      Pair.

    Raises:
      ValueError: numbers of rows that differ.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            "two embeddings of the same rows must have as many rows, in the same order; "
            f"got {a.shape[0]} and {b.shape[0]}"
        )
    codes = jnp.full(a.shape[0], -1)
    rows = (a, b, jnp.concatenate([a, b], axis=1))
    return Pair(*(moments_of.from_arrays(x, codes, 0, None, weights, chunk=chunk) for x in rows))


def merge(a: Pair, b: Pair) -> Pair:
    """Pair of the rows of both."""
    return Pair(*(moments_of.merge(x, y) for x, y in zip(a, b, strict=True)))


@jax.jit
def cka(pair: Pair) -> Array:
    r"""Linear centred kernel alignment, :math:`\|S_{ab}\|_F^2 / \|S_a\|_F \|S_b\|_F`.

    Args:
      pair: of the features as they are.

    Returns:
      Similarity in ``[0, 1]``, ``[]``.

    References:
      Kornblith et al. (2019), equation 4.
    """
    a, b, cross = _scatters(pair)
    return ratio(jnp.sum(cross**2), root(jnp.sum(a**2)) * root(jnp.sum(b**2)))


@jax.jit
def debiased_cka(pair: Pair) -> Array:
    r"""The same from unbiased inner products: the diagonals of the Gram matrices play no part.

    :math:`U(K, L) / \sqrt{U(K, K) U(L, L)}` with the :math:`U` of
    :func:`kernlens.scores.debiased_alignment`. The sum :math:`\sum_i \|a_i\|^2 \|b_i\|^2` that it
    needs is half of what the fourth moment of :math:`[A, B]` has above those of its parts. That
    difference loses digits as the square of the ratio of the two sizes: bring embeddings of very
    unlike size to one size first.

    Args:
      pair: of the features as they are.

    Returns:
      Similarity in ``[-1, 1]``, ``[]``; 0 expected for unrelated embeddings. Needs 4 rows.

    References:
      Song et al. (2012), equation 5; Kornblith et al. (2019), released code.
    """
    a, b, cross = _scatters(pair)
    unit_a, unit_b = _spread(pair.first), _spread(pair.second)
    n = jnp.maximum(pair.both.count, 4.0)
    fourth_a = ratio(ratio(pair.first.fourth, unit_a), unit_a)
    fourth_b = ratio(ratio(pair.second.fourth, unit_b), unit_b)
    shared = pair.both.fourth - pair.first.fourth - pair.second.fourth
    shared = 0.5 * ratio(ratio(shared, unit_a), unit_b)
    trace_a, trace_b = jnp.trace(a), jnp.trace(b)

    def unbiased(inner: Array, diagonal: Array, traces: Array) -> Array:
        return inner - n / (n - 2.0) * diagonal + traces / ((n - 1.0) * (n - 2.0))

    value = unbiased(jnp.sum(cross**2), shared, trace_a * trace_b)
    own_a = unbiased(jnp.sum(a**2), fourth_a, trace_a**2)
    own_b = unbiased(jnp.sum(b**2), fourth_b, trace_b**2)
    rounding = 32.0 * float(jnp.finfo(n.dtype).eps)
    defined = (pair.both.count > 3.0) & (own_a > rounding) & (own_b > rounding)
    return jnp.where(defined, ratio(value, root(own_a) * root(own_b)), 0.0)


@jax.jit
def pip_loss(pair: Pair) -> Array:
    r"""Pairwise inner product loss, :math:`\|A A^\top - B B^\top\|_F`.

    Args:
      pair: of the features as they are.

    Returns:
      Loss in the squared unit of the features, at least 0, ``[]``; below the root of the machine
      epsilon times either Gram's norm it is rounding.

    References:
      Yin and Shen (2018), definition 1.
    """
    a, b, cross = _seconds(pair)
    size = jnp.maximum(jnp.trace(a), jnp.trace(b))
    a, b, cross = (ratio(m, size) for m in (a, b, cross))
    squared = jnp.sum(a**2) + jnp.sum(b**2) - 2.0 * jnp.sum(cross**2)
    return root(squared) * size


@jax.jit
def frobenius_distance(pair: Pair) -> Array:
    r"""Distance of the rows as they are, :math:`\|A - B\|_F`, of embeddings of equal width.

    Args:
      pair: of the features as they are, ``p = q``.

    Returns:
      Distance in the unit of the features, ``[]``.

    Raises:
      ValueError: widths that differ.
    """
    _check_widths(pair)
    a, b, cross = _blocks(pair, pair.both.scatter)
    apart = jnp.sum((_mean(pair.first) - _mean(pair.second)) ** 2)
    squared = jnp.trace(a) + jnp.trace(b) - 2.0 * jnp.trace(cross)
    return root(squared + pair.both.count * apart)


@jax.jit
def alignment_loss(pair: Pair) -> Array:
    r"""Mean squared distance of the two rows of an item, :math:`\frac1n \|A - B\|_F^2`.

    Args:
      pair: of unit rows (:func:`kernlens.features.unit`), ``p = q``.

    Returns:
      Loss in ``[0, 4]``, ``[]``.

    Raises:
      ValueError: widths that differ.

    References:
      Wang and Isola (2020), equation 1, with exponent 2.
    """
    return ratio(frobenius_distance(pair) ** 2, pair.both.count)


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
    a, b, cross = _conditioned(pair)
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
    _, b, cross = _seconds(pair)
    own = _power(b, exponent)
    seen, _, _ = _conditioned(pair)
    turn = stretch(pair.first)
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
    width_a, width_b = pair.first.mean.shape[0], pair.second.mean.shape[0]
    width = width_a + width_b
    a, b, cross = _conditioned(pair)
    white_a = dot(whitening(a), stretch(pair.first))
    white_b = dot(whitening(b), stretch(pair.second))
    overlap = dot(dot(whitening(a), cross), whitening(b).T)
    if anchors is None:
        second = _uncentred(pair.both)
        parts = [second[:, :width_a], second[:, width_a:]]
        owns = [second[:width_a, :width_a], second[width_a:, width_a:]]
    else:
        seconds = [_uncentred(anchor) for anchor in anchors]
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
def gulp(pair: Pair, *, ridge: float = 1e-2) -> Array:
    r"""GULP distance: greatest mean squared difference of ridge predictions from ``A`` and ``B``.

    .. math:: \mathrm{tr}\big(\Sigma_a^2 R_a^2\big) + \mathrm{tr}\big(\Sigma_b^2 R_b^2\big)
              - 2\, \mathrm{tr}\big(R_a \Sigma_{ab} R_b \Sigma_{ba}\big), \qquad
              R = (\Sigma + \lambda I)^{-1}

    Args:
      pair: of the features as they are; covariances are centred.
      ridge: :math:`\lambda \ge 0` in the squared unit of the features.

    Returns:
      Squared distance, at least 0, ``[]``.

    References:
      Boix-Adsera et al. (2022), proposition 2.
    """
    a, b, cross = (ratio(m, pair.both.count) for m in _blocks(pair, pair.both.scatter))

    def solved(matrix: Array) -> tuple[Array, Array]:
        values, vectors = _eigh(matrix)
        inverse = ratio(jnp.ones_like(values), values + ridge)
        return jnp.sum((values * inverse) ** 2), dot(vectors * inverse, vectors.T)

    (own_a, inverse_a), (own_b, inverse_b) = solved(a), solved(b)
    shared = jnp.sum(dot(inverse_a, cross) * dot(cross, inverse_b))
    return jnp.maximum(own_a + own_b - 2.0 * shared, 0.0)


@jax.jit
def procrustes(pair: Pair) -> Array:
    r"""Orthogonal Procrustes distance, least over rotations ``Q`` of centred rows.

    .. math:: \min_Q \tfrac1n \|A Q - B\|_F^2 = \mathrm{tr}\Sigma_a + \mathrm{tr}\Sigma_b
              - 2 \|\Sigma_{ab}\|_*

    Args:
      pair: of the features as they are; the narrower is padded with zeros.

    Returns:
      Squared distance a row, in the squared unit of the features, ``[]``.

    References:
      Schönemann (1966); Ding et al. (2021), section 2.
    """
    a, b, cross = (ratio(m, pair.both.count) for m in _blocks(pair, pair.both.scatter))
    size = jnp.trace(a) + jnp.trace(b)
    return jnp.maximum(size - 2.0 * _nuclear(cross, size), 0.0)


@jax.jit
def procrustes_angle(pair: Pair) -> Array:
    r"""Angle left after the best rotation, :math:`\arccos(\|\Sigma_{ab}\|_* / \|A\|\|B\|)`.

    Args:
      pair: of the features as they are; centred here.

    Returns:
      Radians in :math:`[0, \pi/2]`, ``[]``; a metric between embeddings up to rotation and scale.

    References:
      Williams et al. (2021), equation 7.
    """
    _, _, cross = _scatters(pair, rows=True)
    cosine = _nuclear(cross, jnp.ones_like(pair.both.count))
    return jnp.arccos(jnp.clip(cosine, 0.0, 1.0))


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
    a, b, cross = _blocks(pair, pair.both.scatter)
    return _correlations(a, b, cross)


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
    a, b, cross = _blocks(pair, pair.both.scatter)
    rotated, sizes = [], []
    for matrix in (a, b):
        values, vectors = _eigh(matrix)
        before = jnp.cumsum(values) - values
        leading = before < kept * values.sum() * (1.0 - float(jnp.finfo(values.dtype).eps))
        rotated.append(
            vectors
            * jnp.where(leading & (values > 0), ratio(jnp.ones_like(values), root(values)), 0.0)
        )
        sizes.append(jnp.sum(leading & (values > 0)))
    values = jnp.linalg.svd(dot(rotated[0].T, dot(cross, rotated[1])), compute_uv=False)
    return ratio(jnp.sum(jnp.clip(values, 0.0, 1.0)), jnp.minimum(*sizes).astype(values.dtype))


@jax.jit
def rotation(pair: Pair) -> Array:
    r"""The ``Q`` of orthonormal columns or rows that minimises :math:`\|A Q - B\|_F`, uncentred.

    Args:
      pair: of the features as they are.

    Returns:
      ``[p, q]``.

    References:
      Schönemann (1966).
    """
    _, _, cross = _seconds(pair)
    size = jnp.max(jnp.abs(cross))
    left, _, right = jnp.linalg.svd(ratio(cross, size), full_matrices=False)
    return dot(left, right)


PAIRS: dict[str, Estimator] = {
    "cka": Estimator(
        cka,
        formula=r"\|S_{ab}\|_F^2 / \|S_a\|_F \|S_b\|_F",
        source="Kornblith et al. (2019), equation 4",
        range="[0, 1]",
        null="grows with effective dimension over rows",
        predicts="likeness up to rotation and scale",
        pitfalls="biased upwards for few rows; large-variance directions dominate",
        shift_free=True,
    ),
    "debiased_cka": Estimator(
        debiased_cka,
        formula=r"U(K, L) / \sqrt{U(K, K) U(L, L)}",
        source="Song et al. (2012), equation 5",
        range="[-1, 1]",
        null="0",
        predicts="as cka, comparable across dimensions and numbers of rows",
        pitfalls="large-variance directions dominate; bring both to one size in float32",
        shift_free=True,
    ),
    "pip_loss": Estimator(
        pip_loss,
        formula=r"\|A A^\top - B B^\top\|_F",
        source="Yin and Shen (2018), definition 1",
        range="[0, inf)",
        null="root of the sum of the squared Gram norms for orthogonal embeddings",
        predicts="meant to rank compressed embeddings against their original",
        pitfalls="grows with rows and with the fourth power of scale under the root",
        sign=-1,
        scale_free=False,
    ),
    "frobenius_distance": Estimator(
        frobenius_distance,
        formula=r"\|A - B\|_F",
        source="definition",
        range="[0, inf)",
        null="root of the sum of the squared norms for orthogonal embeddings",
        predicts="change of the rows as they are",
        pitfalls="a rotation changes it, which no linear reader sees",
        sign=-1,
        scale_free=False,
        rotation_free=False,
    ),
    "alignment_loss": Estimator(
        alignment_loss,
        formula=r"\tfrac1n \sum_i \|a_i - b_i\|^2",
        source="Wang and Isola (2020), equation 1",
        range="[0, 4]",
        null="2 for unrelated directions about 0",
        predicts="how near two views of an item lie",
        pitfalls="a collapsed embedding has 0; read beside uniformity",
        features=unit,
        sign=-1,
        rotation_free=False,
    ),
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
    "gulp": Estimator(
        gulp,
        formula=r"\mathrm{tr} \Sigma_a^2 R_a^2 + \mathrm{tr} \Sigma_b^2 R_b^2 "
        r"- 2 \mathrm{tr} R_a \Sigma_{ab} R_b \Sigma_{ba}",
        source="Boix-Adsera et al. (2022), proposition 2",
        range="[0, p + q]",
        null="sum of the two effective dimensions",
        predicts="worst-case difference of ridge predictions",
        pitfalls="the ridge is absolute, so scale matters",
        sign=-1,
        scale_free=False,
        shift_free=True,
    ),
    "procrustes": Estimator(
        procrustes,
        formula=r"\mathrm{tr}\Sigma_a + \mathrm{tr}\Sigma_b - 2 \|\Sigma_{ab}\|_*",
        source="Schönemann (1966)",
        range="[0, inf)",
        null="sum of the two variances",
        predicts="change that no rotation undoes",
        pitfalls="in the squared unit of the features",
        sign=-1,
        scale_free=False,
        shift_free=True,
    ),
    "procrustes_angle": Estimator(
        procrustes_angle,
        formula=r"\arccos(\|\Sigma_{ab}\|_* / \|A\| \|B\|)",
        source="Williams et al. (2021), equation 7",
        range="[0, pi / 2]",
        null="pi / 2",
        predicts="as procrustes, up to scale",
        pitfalls="near 0 only to the root of the machine epsilon",
        sign=-1,
        shift_free=True,
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
"""Comparisons of two embeddings of the same rows, ``Pair -> []``, by name."""


def _mean(m: Moments) -> Array:
    return m.mean + m.mean_low


def _uncentred(m: Moments) -> Array:
    return m.scatter + m.count * jnp.outer(_mean(m), _mean(m))


def _blocks(pair: Pair, matrix: Array) -> tuple[Array, Array, Array]:
    width = pair.first.mean.shape[0]
    return matrix[:width, :width], matrix[width:, width:], matrix[:width, width:]


def _seconds(pair: Pair) -> tuple[Array, Array, Array]:
    return _blocks(pair, _uncentred(pair.both))


def _spread(m: Moments) -> Array:
    return root(jnp.sum((m.scatter / _positive(jnp.trace(m.scatter))) ** 2)) * jnp.trace(m.scatter)


def _positive(value: Array) -> Array:
    return jnp.where(value > 0, value, 1.0)


def _scatters(pair: Pair, *, rows: bool = False) -> tuple[Array, Array, Array]:
    """Scatters and cross scatter over the Frobenius norms of the scatters, or of the rows."""
    a, b, cross = _blocks(pair, pair.both.scatter)
    if rows:
        unit_a, unit_b = jnp.trace(a), jnp.trace(b)
    else:
        unit_a, unit_b = _spread(pair.first), _spread(pair.second)
    return ratio(a, unit_a), ratio(b, unit_b), ratio(ratio(cross, root(unit_a)), root(unit_b))


def _conditioned(pair: Pair) -> tuple[Array, Array, Array]:
    """Uncentred second moments after :func:`_stretch` of each: the same column spans."""
    scatter_a, scatter_b, cross = _blocks(pair, pair.both.scatter)
    stretch_a, stretch_b = stretch(pair.first), stretch(pair.second)
    mean_a, mean_b = dot(stretch_a, _mean(pair.first)), dot(stretch_b, _mean(pair.second))
    n = pair.both.count
    return (
        dot(stretch_a, dot(scatter_a, stretch_a)) + n * jnp.outer(mean_a, mean_a),
        dot(stretch_b, dot(scatter_b, stretch_b)) + n * jnp.outer(mean_b, mean_b),
        dot(stretch_a, dot(cross, stretch_b)) + n * jnp.outer(mean_a, mean_b),
    )


def _eigh(matrix: Array) -> tuple[Array, Array]:
    """:func:`eigh` in the matrix's own unit, at any scale."""
    size = _positive(jnp.trace(matrix))
    values, vectors = eigh(matrix / size)
    return values * size, vectors


def _power(matrix: Array, exponent: int) -> Array:
    """Trace of the power."""
    return jnp.sum(_eigh(matrix)[0] ** exponent)


def _power_root(matrix: Array, exponent: int) -> Array:
    r"""``M`` with :math:`M M^\top` the power less one; the identity for exponent 1."""
    if exponent == 1:
        return jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    values, vectors = _eigh(matrix)
    return vectors * root(values) ** (exponent - 1)


def _nuclear(cross: Array, size: Array) -> Array:
    return jnp.sum(jnp.linalg.svd(ratio(cross, size), compute_uv=False)) * size


def _correlations(a: Array, b: Array, cross: Array) -> Correlations:
    white_a, white_b = whitening(a), whitening(b)
    left, values, _ = jnp.linalg.svd(dot(white_a, dot(cross, white_b)), full_matrices=False)
    own = jnp.sum(jnp.abs(dot(left.T, dot(white_a, a))), axis=1)
    return Correlations(jnp.clip(values, 0.0, 1.0), ratio(own, own.sum()))


def _check_widths(pair: Pair) -> None:
    widths = pair.first.mean.shape[0], pair.second.mean.shape[0]
    if widths[0] != widths[1]:
        raise ValueError(
            f"rows of one item can be subtracted only at equal widths; got {widths[0]} and "
            f"{widths[1]}: use procrustes"
        )

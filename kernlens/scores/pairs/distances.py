"""How far apart the rows of two embeddings lie: as they are, after a rotation, or as predictors."""

import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.scores.basis import graded_eigh
from kernlens.scores.estimator import Estimator, dot, in_float64, ratio, root, wide
from kernlens.scores.pairs.pair import Pair, mean_of, scatters, seconds, unit_scatters
from kernlens.types import Array


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
    a, b, cross = scatters(pair)
    apart = jnp.sum((mean_of(pair.first) - mean_of(pair.second)) ** 2)
    squared = jnp.trace(a) + jnp.trace(b) - 2.0 * jnp.trace(cross)
    return root(squared + pair.both.count * apart)


@jax.jit
def alignment_loss(pair: Pair) -> Array:
    r"""Mean squared distance of the two rows of an item, :math:`\frac1n \|A - B\|_F^2`.

    Args:
      pair: of unit rows (:func:`kernlens.arrays.rows.unit_rows`), ``p = q``.

    Returns:
      Loss in ``[0, 4]``, ``[]``.

    Raises:
      ValueError: widths that differ.

    References:
      Wang and Isola (2020), equation 1, with exponent 2.
    """
    return ratio(frobenius_distance(pair) ** 2, pair.both.count)


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
    a, b, cross = (ratio(m, pair.both.count) for m in scatters(pair))
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
    _, _, cross = unit_scatters(pair, rows=True)
    cosine = _nuclear(cross, jnp.ones_like(pair.both.count))
    return jnp.arccos(jnp.clip(cosine, 0.0, 1.0))


@jax.jit
def rotation(pair: Pair) -> Array:
    r"""The ``Q`` of orthonormal columns or rows that minimises :math:`\|A Q - B\|_F`, uncentred.

    Args:
      pair: of the features as they are.

    Returns:
      ``[p, q]``.

    References:
      Schönemann (1966).

    Examples:
      >>> from kernlens.scores import pairs
      >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
      >>> turned = rows @ jnp.array([[0.0, 1.0], [-1.0, 0.0]])
      >>> jnp.abs(jnp.round(rotation(pairs.from_arrays(rows, turned)), 4)).tolist()
      [[0.0, 1.0], [1.0, 0.0]]
    """
    _, _, cross = seconds(pair)
    size = jnp.max(jnp.abs(cross))
    left, _, right = jnp.linalg.svd(ratio(cross, size), full_matrices=False)
    return dot(left, right)


@in_float64
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
    a, b, cross = (ratio(wide(m), wide(pair.both.count)) for m in scatters(pair))
    eps = float(jnp.finfo(pair.both.count.dtype).eps)

    def solved(matrix: Array) -> tuple[Array, Array]:
        values, vectors = graded_eigh(matrix, eps=eps)
        inverse = ratio(jnp.ones_like(values), values + ridge)
        return jnp.sum((values * inverse) ** 2), dot(vectors * inverse, vectors.T)

    (own_a, inverse_a), (own_b, inverse_b) = solved(a), solved(b)
    shared = jnp.sum(dot(inverse_a, cross) * dot(cross, inverse_b))
    return jnp.maximum(own_a + own_b - 2.0 * shared, 0.0)


DISTANCES: dict[str, Estimator] = {
    "frobenius_distance": Estimator(
        frobenius_distance,
        formula=r"\|A - B\|_F",
        source="definition",
        range="[0, inf)",
        null="root of the sum of the squared norms for orthogonal embeddings",
        predicts="change of the rows as they are",
        pitfalls="a rotation changes it, which no linear classifier sees",
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
        pitfalls="a collapsed embedding has 0; read it together with uniformity",
        features=unit_rows,
        sign=-1,
        rotation_free=False,
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
}
"""Distances of rows by name."""


def _nuclear(cross: Array, size: Array) -> Array:
    return jnp.sum(jnp.linalg.svd(ratio(cross, size), compute_uv=False)) * size


def _check_widths(pair: Pair) -> None:
    widths = pair.first.mean.shape[0], pair.second.mean.shape[0]
    if widths[0] != widths[1]:
        raise ValueError(
            f"rows of one item can be subtracted only at equal widths; got {widths[0]} and "
            f"{widths[1]}: use procrustes"
        )

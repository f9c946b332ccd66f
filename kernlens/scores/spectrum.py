r"""The spectrum of an embedding, without labels, from one pass.

``centred`` says whether the eigenvalues are those of the covariance or of the uncentred second
moment :math:`\frac1n X^\top X`, whose square roots over :math:`\sqrt n` are the singular values of
the rows. Ranks by eigenvalue start at 1. All are invariant to scale and rotation; all are 0 where
the features are constant (zero, for those not centred).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.moments import Moments, full_scatter
from kernlens.scores.basis import eigenbasis, uncentred_values
from kernlens.scores.estimator import Estimator, in_float64, ratio, root, spread, wide
from kernlens.types import Array


class PowerLaw(NamedTuple):
    r"""A fit :math:`\log \lambda_k = b - \alpha \log k`.

    Attributes:
      exponent: :math:`\alpha`, ``[]``.
      intercept: :math:`b`, ``[]``.
    """

    exponent: Array
    intercept: Array


@partial(in_float64, static_argnames=("centred",))
def eigenvalues(moments: Moments, *, centred: bool) -> Array:
    """Eigenvalues of the covariance or of the uncentred second moment, falling, ``[p]``.

    Args:
      moments: moments of ``p`` features.
      centred: which of the two.

    Returns:
      Eigenvalues in the squared unit of the features; rounding is set to 0 in the covariance's.

    Examples:
      >>> from kernlens import moments
      >>> rows = jnp.array([[0.0, 1.0], [4.0, 1.0], [0.0, -1.0], [4.0, -1.0]])
      >>> m = moments.from_arrays(rows, jnp.zeros(4, int), 1)
      >>> jnp.round(eigenvalues(m, centred=True), 4).tolist()
      [4.0, 1.0]
    """
    if not centred:
        values, unit_ = uncentred_values(moments)
        return values * ratio(unit_, wide(moments.count))
    basis = eigenbasis(moments)
    return basis.values * ratio(basis.unit, basis.count)


@partial(in_float64, static_argnames=("centred",))
def rankme(moments: Moments, *, centred: bool = False) -> Array:
    r"""RankMe, the exponential of the entropy of the singular values over their sum.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \sigma_k / \sum_j \sigma_j

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      centred: whether the mean is taken off first; not so in the paper.

    Returns:
      Effective rank in ``[1, p]``, ``[]``.

    References:
      Garrido et al. (2023), equation 1; Roy and Vetterli (2007), definition 1.
    """
    sigma = root(_values(moments, centred=centred))
    p = ratio(sigma, sigma.sum())
    entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1.0)))
    return jnp.where(sigma.sum() > 0, jnp.exp(entropy), 0.0)


@partial(in_float64, static_argnames=("start", "stop", "weighted"))
def power_law(
    moments: Moments, *, start: int = 1, stop: int | None = None, weighted: bool = False
) -> PowerLaw:
    r"""Least squares of the logarithm of the covariance's eigenvalues on that of their rank.

    Args:
      moments: moments of ``p`` features.
      start: first rank of the fit, at least 1.
      stop: last rank; ``p`` by default. Eigenvalues that are only rounding are left out.
      weighted: whether rank ``k`` has weight ``1/k``, which weighs the decades evenly.

    Returns:
      The fit; zeros where fewer than two eigenvalues are left.

    Raises:
      ValueError: ``start`` below 1, or ``stop`` not above it or above ``p``.

    References:
      Agrawal et al. (2022), equation 1; Stringer et al. (2019) for the weights.
    """
    dim = moments.mean.shape[0]
    stop = dim if stop is None else stop
    if not 1 <= start <= stop <= dim:
        raise ValueError(
            f"ranks must satisfy 1 <= start <= stop <= {dim}; got start {start} and stop {stop}"
        )
    basis = eigenbasis(moments)
    values = basis.values[start - 1 : stop]
    ranks = jnp.arange(start, stop + 1).astype(values.dtype)
    weights = jnp.where(values > 0, 1.0 / ranks if weighted else jnp.ones_like(ranks), 0.0)
    weights = ratio(weights, weights.sum())
    x = jnp.log(ranks)
    y = jnp.log(jnp.where(values > 0, values, 1.0))
    x_mean, y_mean = jnp.sum(weights * x), jnp.sum(weights * y)
    slope = ratio(
        jnp.sum(weights * (x - x_mean) * (y - y_mean)), jnp.sum(weights * (x - x_mean) ** 2)
    )
    level = ratio(basis.unit, basis.count)
    unit_ = jnp.log(jnp.where(basis.defined & (level > 0), level, 1.0))
    return PowerLaw(-slope, y_mean - slope * x_mean + unit_)


def alpha_req(moments: Moments, *, start: int = 1, stop: int | None = None) -> Array:
    r"""Exponent :math:`\alpha` of the decay :math:`\lambda_k \propto k^{-\alpha}`.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      start: first rank of the fit, at least 1.
      stop: last rank; ``p`` by default.

    Returns:
      Exponent, 0 for a flat spectrum, ``[]``.

    Raises:
      ValueError: ranks out of range.

    References:
      Agrawal et al. (2022), equation 1.
    """
    return power_law(moments, start=start, stop=stop).exponent


@in_float64
def nesum(moments: Moments) -> Array:
    r"""Normalised eigenvalue sum, :math:`\sum_k \lambda_k / \lambda_1` of the covariance.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[1, p]``, ``[]``.

    References:
      He and Ozay (2022), section 4.
    """
    return _over_largest(_values(moments, centred=True))


@in_float64
def stable_rank(moments: Moments) -> Array:
    r"""Stable rank, :math:`\|X\|_F^2 / \|X\|_2^2`, uncentred.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[1, p]``, ``[]``.

    References:
      Rudelson and Vershynin (2007), section 1.
    """
    return _over_largest(_values(moments, centred=False))


@jax.jit
def participation_ratio(moments: Moments) -> Array:
    r"""Participation ratio of the covariance, :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[1, p]``, ``[]``.

    References:
      Gao et al. (2017), equation 5.
    """
    defined, trace = spread(moments)
    scatter = full_scatter(moments) / trace
    return jnp.where(defined, ratio(jnp.trace(scatter) ** 2, jnp.sum(scatter**2)), 0.0)


@in_float64
def effective_dimension(moments: Moments, *, strength: float = 1e-2) -> Array:
    r"""Effective dimension of ridge regression, :math:`\sum_k s_k / (s_k + t)`.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      strength: ridge :math:`t > 0` relative to the mean eigenvalue of the scatter.

    Returns:
      Value in ``[0, p]``, ``[]``.

    References:
      Zhang (2005), section 4; Caponnetto and De Vito (2007), section 1.
    """
    values = eigenbasis(moments).values
    return jnp.sum(values / (values + strength))


@in_float64
def inverse_condition(moments: Moments) -> Array:
    r"""Least over largest singular value, :math:`\sigma_p / \sigma_1`, uncentred.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[0, 1]``, ``[]``.

    References:
      Tsitsulin et al. (2023), section 3.3, as their code has it.
    """
    values = _values(moments, centred=False)
    return root(ratio(values[-1], values[0]))


@jax.jit
def self_clustering(moments: Moments) -> Array:
    r"""Excess squared cosine over that of uniform directions.

    .. math:: \frac{\sum_{ij} \cos^2(x_i, x_j) - e}{n^2 - e}, \qquad e = n + n (n - 1) / p

    Args:
      moments: moments of unit rows (:func:`kernlens.arrays.rows.unit_rows`).

    Returns:
      1 where all rows are collinear, 0 expected for uniform directions, ``[]``.

    References:
      Tsitsulin et al. (2023), definition 3.5.
    """
    n, dim = moments.count, moments.mean.shape[0]
    mean = moments.mean + moments.mean_low
    second = ratio(full_scatter(moments), n) + jnp.outer(mean, mean)
    expected = ratio(1.0 + (n - 1.0) / dim, n)
    return ratio(jnp.sum(second**2) - expected, 1.0 - expected)


SPECTRA: dict[str, Estimator] = {
    "rankme": Estimator(
        rankme,
        formula=r"\exp(-\sum_k p_k \log p_k), p_k = \sigma_k / \sum_j \sigma_j",
        source="Garrido et al. (2023), equation 1",
        range="[1, p]",
        null="p for isotropic rows about 0",
        predicts="meant to rank self-supervised embeddings of one family",
        pitfalls="blind to labels; noise fills the rank; a common mean lowers it",
    ),
    "alpha_req": Estimator(
        alpha_req,
        formula=r"\lambda_k \propto k^{-\alpha}",
        source="Agrawal et al. (2022), equation 1",
        range="[0, inf)",
        null="0 for isotropic rows",
        predicts="meant to be best near 1",
        pitfalls="not monotone in quality; a power law seldom fits all ranks",
        shift_free=True,
        sign=-1,
    ),
    "nesum": Estimator(
        nesum,
        formula=r"\sum_k \lambda_k / \lambda_1",
        source="He and Ozay (2022), section 4",
        range="[1, p]",
        null="p for isotropic rows",
        predicts="meant to rank self-supervised embeddings",
        pitfalls="one large direction decides it",
        shift_free=True,
    ),
    "stable_rank": Estimator(
        stable_rank,
        formula=r"\|X\|_F^2 / \|X\|_2^2",
        source="Rudelson and Vershynin (2007), section 1",
        range="[1, p]",
        null="p for isotropic rows about 0",
        predicts="how far from collapsed to one direction",
        pitfalls="a common mean drives it to 1",
    ),
    "participation_ratio": Estimator(
        participation_ratio,
        formula=r"(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2",
        source="Gao et al. (2017), equation 5",
        range="[1, p]",
        null="p for isotropic rows",
        predicts="dimension in which the variance lies",
        pitfalls="blind to labels and to small directions that may carry them",
        shift_free=True,
    ),
    "effective_dimension": Estimator(
        effective_dimension,
        formula=r"\sum_k s_k / (s_k + t)",
        source="Zhang (2005), section 4",
        range="[0, p]",
        null="p / (1 + t) for isotropic rows",
        predicts="labels that ridge regression needs: many times as many",
        pitfalls="depends on the strength; more is not better",
        shift_free=True,
    ),
    "inverse_condition": Estimator(
        inverse_condition,
        formula=r"\sigma_p / \sigma_1",
        source="Tsitsulin et al. (2023), section 3.3",
        range="[0, 1]",
        null="1 for isotropic rows about 0",
        predicts="whether solves on the embedding are stable",
        pitfalls="one dead feature makes it 0; a common mean lowers it",
    ),
    "self_clustering": Estimator(
        self_clustering,
        formula=r"(\sum_{ij} \cos^2(x_i, x_j) - e) / (n^2 - e)",
        source="Tsitsulin et al. (2023), definition 3.5",
        range="[-1 / (p - 1), 1]",
        null="0 for uniform directions",
        predicts="collapse to few directions",
        pitfalls="blind to labels: tight classes raise it too",
        features=unit_rows,
        sign=-1,
    ),
}
"""Label-free scores, ``Moments -> []``, by name."""


def _values(moments: Moments, *, centred: bool) -> Array:
    """Eigenvalues in a unit of their own, which leaves the range of no dtype."""
    return eigenbasis(moments).values if centred else uncentred_values(moments)[0]


def _over_largest(values: Array) -> Array:
    return ratio(values.sum(), values[0])

"""Between-class over total scatter."""

import jax
import jax.numpy as jnp

from kernlens.moments import Moments, full_scatter
from kernlens.moments import fourth as fourth_moment
from kernlens.scores.basis import (
    cholesky,
    column_units,
    eigenbasis,
    fitted,
    in_units,
    label_scatters,
    rounding,
)
from kernlens.scores.estimator import (
    Estimator,
    Score,
    in_float64,
    norm,
    ratio,
    spread,
    varying,
    where_defined,
    wide,
)
from kernlens.scores.shrinkage import ledoit_wolf
from kernlens.types import Array


@in_float64
def h_score(moments: Moments) -> Score:
    r"""H-score, :math:`\mathrm{tr}(S^{+} B)`, between-class over total scatter.

    The sum of the class indicators' squared multiple correlations, each counted once:
    :math:`\sum_c \frac1{n_c} \sum_i (v_i^\top Z^\top y_c)^2 / s_i` over the directions that vary.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value in ``[0, C - 1]``; its null, :math:`r \sum_c (1 - n_c / n) / (n - 1)` at rank ``r``, is
      exact.

    References:
      Bao et al. (2019), definition 2.
    """
    defined, _ = spread(moments)
    counts, dim = wide(moments.class_counts), moments.mean.shape[0]
    # No map of the columns changes the score, so each is taken in its own unit.
    alike = in_units(moments, column_units(moments))
    scatter = ratio(full_scatter(alike), alike.count)
    # With no eigenvalue under the floor of an eigendecomposition there is no need of one.
    floor = rounding(scatter, norm(scatter))
    eye = jnp.eye(dim, dtype=scatter.dtype)
    regular = jnp.isfinite(cholesky(scatter - floor * eye)).all() & varying(moments).all()

    def by_factor() -> tuple[Array, Array]:
        rows = ratio(alike.class_deviations, jnp.sqrt(alike.count))
        solved = jax.scipy.linalg.solve_triangular(cholesky(scatter), rows.T, lower=True)
        return wide(jnp.sum(solved**2, axis=0)), jnp.asarray(dim, jnp.float64)

    def by_eigenvalues() -> tuple[Array, Array]:
        basis = eigenbasis(alike)
        return fitted(basis).sum(axis=1), basis.rank

    explained, rank = jax.lax.cond(regular, by_factor, by_eigenvalues)
    value = jnp.sum(ratio(explained, counts))
    shares = ratio(wide(label_scatters(moments)), counts).sum()
    # One class that all rows have lies at their mean: its score is 0, not rounding.
    return where_defined(defined & (shares > 0), value, rank * shares / _rest(wide(moments.count)))


@in_float64
def shrunk_h_score(moments: Moments) -> Score:
    r"""H-score under the Ledoit-Wolf covariance, :math:`(1 - a)\,\mathrm{tr}(\Sigma_a^{-1} B')`.

    .. math:: \Sigma_a = (1 - a) \Sigma + a\, \tfrac{\mathrm{tr}\Sigma}{p} I, \qquad
              a = \min\Big(1, \frac{\frac1{n^2} \sum_i \|z_i\|^4 - \frac1n \|\Sigma\|_F^2}
              {\|\Sigma - \tfrac{\mathrm{tr} \Sigma}{p} I\|_F^2}\Big)

    with :math:`\Sigma` of divisor ``n`` and :math:`B'` of divisor ``n - 1``, as published.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value at least 0; its null is exact, given the shrinkage.

    References:
      Ibrahim et al. (2021), equation 6; Ledoit and Wolf (2004), section 3.3.
    """
    basis = eigenbasis(moments)
    n = jnp.maximum(basis.count, 2.0)
    away = jnp.sum((basis.values - basis.values.mean()) ** 2)
    fourth = jnp.where(basis.defined, wide(fourth_moment(moments)), 0.0) / basis.unit
    fourth = fourth * basis.values.sum()
    shrinkage = ledoit_wolf(jnp.sum(basis.values**2), away, n * fourth, n)
    weights = (1.0 - shrinkage) / ((1.0 - shrinkage) * basis.values + shrinkage)
    weights = jnp.where(basis.values > 0, weights, 0.0) * (n / _rest(n))
    value = jnp.sum(ratio(jnp.sum(basis.deviations**2 * weights, axis=1), basis.class_counts))
    shares = ratio(label_scatters(basis), basis.class_counts).sum()
    null = jnp.sum(basis.values * weights) * shares / _rest(n)
    return where_defined(basis.defined & (shares > 0), value, null)


H_SCORES: dict[str, Estimator] = {
    "h_score": Estimator(
        h_score,
        formula=r"\mathrm{tr}(S^{+} B)",
        source="Bao et al. (2019), definition 2",
        range="[0, C - 1]",
        null="exact",
        predicts="ranks linear classifiers; share of label variance that least squares explains",
        pitfalls="reaches its maximum on noise once the dimension nears the number of rows",
        shift_free=True,
    ),
    "shrunk_h_score": Estimator(
        shrunk_h_score,
        formula=r"(1 - a) \mathrm{tr}(\Sigma_a^{-1} B')",
        source="Ibrahim et al. (2021), equation 6",
        range="[0, C - 1]",
        null="exact, given the shrinkage",
        predicts="as h_score, with more features than rows too",
        pitfalls="shrinks towards a sphere, so it sees the scales of single features",
        shift_free=True,
    ),
}
"""H-scores by name."""


def _rest(count: Array) -> Array:
    return jnp.maximum(count - 1.0, 1.0)

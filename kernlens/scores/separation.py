"""Class separation from one pass: H-scores, coding rates and Bhattacharyya overlaps."""

from functools import partial

import jax
import jax.numpy as jnp

from kernlens.features import unit
from kernlens.moments import Moments
from kernlens.scores.basis import eigenbasis, fitted, label_scatters
from kernlens.scores.estimator import Estimator, Score, dot, ratio, spread, where_defined
from kernlens.types import Array


@jax.jit
def h_score(moments: Moments) -> Score:
    r"""H-score, :math:`\mathrm{tr}(S^{+} B)`, between-class over total scatter.

    The sum of the class indicators' squared multiple correlations, each counted once:
    :math:`\sum_c \frac1{n_c} \sum_i (v_i^\top Z^\top y_c)^2 / s_i` over the directions that vary.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).

    Returns:
      Value in ``[0, C - 1]``; its null, :math:`r \sum_c (1 - n_c / n) / (n - 1)` at rank ``r``, is
      exact.

    References:
      Bao et al. (2019), definition 2.
    """
    basis = eigenbasis(moments)
    value = jnp.sum(ratio(fitted(basis).sum(axis=1), basis.class_counts))
    shares = ratio(label_scatters(basis), basis.class_counts).sum()
    rank = jnp.sum(basis.values > 0).astype(value.dtype)
    return where_defined(basis.defined, value, rank * shares / _rest(basis.count))


@jax.jit
def shrunk_h_score(moments: Moments) -> Score:
    r"""H-score under the Ledoit-Wolf covariance, :math:`(1 - a)\,\mathrm{tr}(\Sigma_a^{-1} B')`.

    .. math:: \Sigma_a = (1 - a) \Sigma + a\, \tfrac{\mathrm{tr}\Sigma}{p} I, \qquad
              a = \min\Big(1, \frac{\frac1{n^2} \sum_i \|z_i\|^4 - \frac1n \|\Sigma\|_F^2}
              {\|\Sigma - \tfrac{\mathrm{tr} \Sigma}{p} I\|_F^2}\Big)

    with :math:`\Sigma` of divisor ``n`` and :math:`B'` of divisor ``n - 1``, as published.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).

    Returns:
      Value at least 0; its null is exact, given the shrinkage.

    References:
      Ibrahim et al. (2021), equation 6; Ledoit and Wolf (2004), section 3.3.
    """
    basis = eigenbasis(moments)
    n = jnp.maximum(basis.count, 2.0)
    away = jnp.sum((basis.values - basis.values.mean()) ** 2)
    fourth = jnp.where(basis.defined, moments.fourth, 0.0) / basis.unit / basis.unit
    noise = jnp.maximum(fourth - jnp.sum(basis.values**2) / n, 0.0)
    shrinkage = jnp.where(away > noise, ratio(noise, away), 1.0)
    weights = (1.0 - shrinkage) / ((1.0 - shrinkage) * basis.values + shrinkage)
    weights = jnp.where(basis.values > 0, weights, 0.0) * (n / _rest(n))
    value = jnp.sum(ratio(jnp.sum(basis.deviations**2 * weights, axis=1), basis.class_counts))
    shares = ratio(label_scatters(basis), basis.class_counts).sum()
    null = jnp.sum(basis.values * weights) * shares / _rest(n)
    return where_defined(basis.defined, value, null)


@partial(jax.jit, static_argnames=("weighted", "centred", "relative", "per_rank"))
def coding_rates(
    moments: Moments,
    *,
    epsilon: float,
    weighted: bool,
    centred: bool = True,
    relative: bool = False,
    per_rank: bool = False,
) -> tuple[Array, Array]:
    r"""Coding rate of all rows, and the mean over classes of that of their rows.

    .. math:: R(M) = \tfrac12 \log|I + M / \epsilon|, \qquad
              M = \tfrac1n X^\top X, \quad M_c = \tfrac1{n_c} X_c^\top X_c

    Args:
      moments: of ``p`` features, with the scatter of each class.
      epsilon: distortion :math:`\epsilon > 0` in the squared unit of the features (the
        :math:`\epsilon^2` of some texts).
      weighted: whether classes count by their rows, else each the same.
      centred: whether the mean of all rows is taken off first (class means never are).
      relative: whether :math:`\epsilon` is relative to the trace of ``M``.
      per_rank: whether both are divided by the rank of ``M``.

    Returns:
      :math:`R(M)` and the mean of :math:`R(M_c)`, in nats, each ``[]``.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Ma et al. (2007), equation 7; Huang et al. (2022), equation 3.
    """
    _check_class_scatters(moments)
    counts = moments.class_counts
    mean = moments.mean + moments.mean_low
    offset = jnp.zeros_like(mean) if centred else mean
    total = ratio(jnp.trace(moments.scatter), moments.count) + jnp.sum(offset**2)
    distortion = epsilon * total if relative else jnp.asarray(epsilon, mean.dtype)
    distortion = jnp.where(distortion > 0, distortion, 1.0)

    def rate(group: tuple[Array, Array, Array]) -> Array:
        scatter, gap, count = group
        return 0.5 * _log_determinant_above_one(ratio(scatter, count) / distortion, gap, distortion)

    offsets = ratio(moments.class_deviations, counts[:, None]) + offset
    whole = rate((moments.scatter, offset, moments.count))
    parts = jax.lax.map(rate, (moments.class_scatters, offsets, counts))
    present = counts > 0
    weights = counts if weighted else present.astype(mean.dtype)
    mean_part = ratio(jnp.sum(jnp.where(present, parts, 0.0) * weights), weights.sum())
    if per_rank:
        rank = jnp.maximum(_rank(moments, offset), 1.0)
        whole, mean_part = whole / rank, mean_part / rank
    return whole, mean_part


@jax.jit
def projected_coding_rates(moments: Moments, *, epsilon: float) -> tuple[Array, Array]:
    r"""Coding rates of the authors' projected TransRate.

    As :func:`coding_rates` weighted, relative and per rank, but of the singular values of
    :math:`M \Sigma^{+} B` in the place of those of ``M``: :math:`\Sigma` the covariance, ``B`` the
    between-class covariance, and ``M`` either :math:`\Sigma` or the covariance of a class.

    Args:
      moments: of ``p`` features, with the scatter of each class.
      epsilon: distortion, relative to the sum of the singular values of the whole.

    Returns:
      Rate of the whole and the mean over classes, in nats, each ``[]``.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), released code, ``pre_transrate_low_dim_proj``.
    """
    _check_class_scatters(moments)
    basis = eigenbasis(moments)
    counts, eye = basis.class_counts, jnp.eye(len(basis.values), dtype=basis.values.dtype)
    between = dot(basis.deviations.T, ratio(basis.deviations, counts[:, None]))
    # In the eigenbasis, where the scatter is diagonal, its inverse is a division of rows.
    projection = ratio(between, basis.values[:, None])

    def values(covariance: Array) -> Array:
        return jnp.linalg.svd(dot(covariance, projection), compute_uv=False)

    def of_class(one: tuple[Array, Array]) -> Array:
        scatter, count = one
        turned = dot(basis.vectors.T, dot(scatter / basis.unit, basis.vectors))
        return values(ratio(turned, count))

    whole = values(eye * ratio(basis.values, basis.count))
    parts = jax.lax.map(of_class, (moments.class_scatters, counts))
    distortion = epsilon * whole.sum()
    distortion = jnp.where(distortion > 0, distortion, 1.0)
    floor = len(whole) * float(jnp.finfo(whole.dtype).eps) * whole[0]
    rank = jnp.maximum(jnp.sum(whole > floor), 1).astype(whole.dtype)
    rates = 0.5 * jnp.log1p(parts / distortion).sum(axis=1)
    mean_rate = ratio(jnp.sum(rates * counts), counts.sum())
    return 0.5 * jnp.log1p(whole / distortion).sum() / rank, mean_rate / rank


def transrate(moments: Moments, *, epsilon: float = 1e-4) -> Score:
    r"""TransRate as in the paper's listing: :math:`R(M) - \frac1C \sum_c R(M_c)`, centred.

    Args:
      moments: of the features as they are, with the scatter of each class.
      epsilon: distortion, in the squared unit of the features.

    Returns:
      Value in nats; its null is 0, the limit of many rows.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), listing 1.
    """
    return _transrate(moments, *coding_rates(moments, epsilon=epsilon, weighted=False))


def transrate_weighted(moments: Moments, *, epsilon: float = 1e-4) -> Score:
    r"""TransRate as in the authors' repository: unit rows, classes weighted by their rows.

    .. math:: \frac1r \Big(R(M) - \sum_c \frac{n_c}{n} R(M_c)\Big)

    with :math:`M` of trace 1 and rank ``r``; the rows are not centred after their norms are taken.

    Args:
      moments: of unit rows (:func:`kernlens.features.unit`), with the scatter of each class.
      epsilon: distortion, relative to the trace of ``M``.

    Returns:
      Value in nats per direction; its null is 0, the limit of many rows.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Huang et al. (2022), definition 1, and their repository's ``process_transrate_logs``.
    """
    rates = coding_rates(
        moments, epsilon=epsilon, weighted=True, centred=False, relative=True, per_rank=True
    )
    return _transrate(moments, *rates)


@jax.jit
def gbc_diagonal(moments: Moments, *, floor: float = 1e-6) -> Score:
    r"""Gaussian Bhattacharyya coefficient of the classes, with diagonal covariances.

    .. math:: -\sum_{c \ne c'} e^{-D_{cc'}}, \qquad
              D = \tfrac18 \sum_i \frac{(\mu_{ci} - \mu_{c'i})^2}{\bar\sigma_i}
              + \tfrac12 \sum_i \log \frac{\bar\sigma_i}{\sqrt{\sigma_{ci} \sigma_{c'i}}}

    over ordered pairs, with :math:`\bar\sigma` the mean of the two variances.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).
      floor: least variance, relative to the mean variance of a feature over all rows.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    References:
      Pándy et al. (2022), equation 3.
    """
    return _overlap(moments, _variances(moments, floor), 1.0)


@jax.jit
def gbc_spherical(moments: Moments, *, floor: float = 1e-6) -> Score:
    r"""The same with one variance a class, the mean of its diagonal, as published.

    .. math:: D = \tfrac18 \frac{\|\mu_c - \mu_{c'}\|^2}{\bar\sigma}
              + \tfrac12 \log \frac{\bar\sigma}{\sqrt{\sigma_c \sigma_{c'}}}

    The Gaussian's own distance has ``p`` times the second term; the published code has it once.

    Args:
      moments: of the features as they are (:func:`kernlens.features.identity`).
      floor: least variance, relative to the mean variance of a feature over all rows.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    References:
      Pándy et al. (2022), equation 3, and their released code.
    """
    variances = _variances(moments, floor)
    alike = jnp.broadcast_to(variances.mean(axis=1, keepdims=True), variances.shape)
    return _overlap(moments, alike, 1.0 / variances.shape[1])


@jax.jit
def gbc_full(moments: Moments, *, ridge: float = 1e-3) -> Score:
    r"""The same with a full covariance a class.

    .. math:: D = \tfrac18 \delta^\top \bar\Sigma^{-1} \delta
              + \tfrac12 \log \frac{|\bar\Sigma|}{\sqrt{|\Sigma_c| |\Sigma_{c'}|}}

    Args:
      moments: of the features as they are, with the scatter of each class.
      ridge: added to every covariance, relative to the mean variance of a feature over all rows; a
        class with fewer rows than features has no inverse without it.

    Returns:
      Value in ``[-C (C - 1), 0]``; its null is the lower end, the limit of noise.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Pándy et al. (2022), equation 3.
    """
    _check_class_scatters(moments)
    defined, trace = spread(moments)
    counts, dim = moments.class_counts, moments.mean.shape[0]
    scale = jnp.sqrt(trace / dim / _rows(moments.count))
    means = ratio(moments.class_deviations, counts[:, None]) / scale
    covariances = ratio(moments.class_scatters, counts[:, None, None]) / scale**2
    covariances = covariances + ridge * jnp.eye(dim, dtype=scale.dtype)
    rates = jax.lax.map(_log_determinant, covariances)
    first, second = jnp.triu_indices(counts.shape[0], 1)

    def distance(pair: tuple[Array, Array]) -> Array:
        a, b = pair
        factor = jnp.linalg.cholesky(0.5 * (covariances[a] + covariances[b]))
        delta = jax.scipy.linalg.solve_triangular(factor, means[a] - means[b], lower=True)
        rate = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * (rates[a] + rates[b])
        return 0.125 * jnp.sum(delta**2) + 0.5 * rate

    distances = jax.lax.map(distance, (first, second))
    present = (counts > 0)[first] & (counts > 0)[second]
    value = -2.0 * jnp.sum(jnp.where(present, jnp.exp(-distances), 0.0))
    return where_defined(defined, value, _all_pairs(moments))


SEPARATION: dict[str, Estimator] = {
    "h_score": Estimator(
        h_score,
        formula=r"\mathrm{tr}(S^{+} B)",
        source="Bao et al. (2019), definition 2",
        range="[0, C - 1]",
        null="exact",
        predicts="ranks linear readers; the share of label variance that least squares explains",
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
    "transrate": Estimator(
        transrate,
        formula=r"R(M) - \tfrac1C \sum_c R(M_c), R(M) = \tfrac12 \log|I + M / \epsilon|",
        source="Huang et al. (2022), listing 1",
        range="(-inf, inf)",
        null="0, the limit of many rows",
        predicts="meant to rank fine-tuning, as mutual information of features and labels",
        pitfalls="the distortion is absolute, so it grows with the scale; rises with dimension; "
        "few rows in a class look like separation; unequal classes: see transrate_weighted",
        class_scatters=True,
        scale_free=False,
        shift_free=True,
    ),
    "transrate_weighted": Estimator(
        transrate_weighted,
        formula=r"(R(M) - \sum_c \tfrac{n_c}{n} R(M_c)) / r",
        source="Huang et al. (2022), released code",
        range="(-inf, inf)",
        null="0, the limit of many rows",
        predicts="meant to rank fine-tuning",
        pitfalls="few rows in a class look like separation; a common mean swamps it",
        features=unit,
        class_scatters=True,
    ),
    "gbc_diagonal": Estimator(
        gbc_diagonal,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), equation 3",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks class-mean and linear readers",
        pitfalls="takes features for independent, so it depends on the axes; "
        "grows with the number of classes",
        shift_free=True,
        rotation_free=False,
    ),
    "gbc_spherical": Estimator(
        gbc_spherical,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), released code",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks class-mean readers",
        pitfalls="blind to the shape of classes; published without the p of the volume term; "
        "grows with the number of classes",
        shift_free=True,
    ),
    "gbc_full": Estimator(
        gbc_full,
        formula=r"-\sum_{c \ne c'} e^{-D_{cc'}}",
        source="Pándy et al. (2022), equation 3",
        range="[-C (C - 1), 0]",
        null="-C (C - 1), the limit of noise",
        predicts="ranks linear and quadratic readers",
        pitfalls="needs more rows in each class than features, else the ridge decides",
        class_scatters=True,
        shift_free=True,
    ),
}
"""Scores of class separation by name."""


def _transrate(moments: Moments, whole: Array, parts: Array) -> Score:
    defined = (moments.class_counts > 0).any()
    return where_defined(defined, whole - parts, jnp.zeros_like(whole))


def _variances(moments: Moments, floor: float) -> Array:
    """Variance of each feature in each class, floored, over the mean variance of a feature."""
    _, trace = spread(moments)
    unit = trace / moments.mean.shape[0] / _rows(moments.count)
    variances = ratio(moments.class_squares, moments.class_counts[:, None]) / unit
    return jnp.maximum(variances, floor)


def _overlap(moments: Moments, variances: Array, volume: float) -> Score:
    """From variances ``[C, p]``, relative as :func:`_variances`; the log term times ``volume``."""
    defined, trace = spread(moments)
    dim = variances.shape[1]
    unit = jnp.sqrt(trace / dim / _rows(moments.count))
    means = ratio(moments.class_deviations, moments.class_counts[:, None]) / unit
    logs = jnp.log(variances).sum(axis=1)

    def against(one: tuple[Array, Array, Array]) -> Array:
        mean, variance, log = one
        middle = 0.5 * (variance + variances)
        apart = 0.125 * jnp.sum((mean - means) ** 2 / middle, axis=1)
        return apart + 0.5 * volume * (jnp.log(middle).sum(axis=1) - 0.5 * (log + logs))

    distances = jax.lax.map(against, (means, variances, logs))
    present = moments.class_counts > 0
    counted = present[:, None] & present & ~jnp.eye(len(present), dtype=bool)
    value = -jnp.sum(jnp.where(counted, jnp.exp(-distances), 0.0))
    return where_defined(defined, value, _all_pairs(moments))


def _all_pairs(moments: Moments) -> Array:
    present = jnp.sum(moments.class_counts > 0).astype(moments.count.dtype)
    return -present * (present - 1.0)


def _rank(moments: Moments, offset: Array) -> Array:
    """Rank of the rows less the mean, plus the offset."""
    basis = eigenbasis(moments)
    outside = jnp.where(basis.values > 0, 0.0, dot(offset, basis.vectors) ** 2).sum()
    floor = len(offset) * float(jnp.finfo(offset.dtype).eps) * jnp.sum(offset**2)
    found = jnp.append(basis.values > 0, outside > floor)
    return jnp.sum(found).astype(offset.dtype)


def _log_determinant_above_one(matrix: Array, offset: Array, distortion: Array) -> Array:
    r"""Log determinant of :math:`I + M + m m^\top / \epsilon`, exact for small and large terms.

    The pivots less 1 are summed up from the entries left of them, so that 1 does not swallow a
    small matrix, and the offset joins by the determinant lemma, so that it does not either.
    """
    factor = jnp.linalg.cholesky(jnp.eye(len(matrix), dtype=matrix.dtype) + matrix)
    pivots = jnp.diagonal(matrix) - jnp.sum(jnp.tril(factor, -1) ** 2, axis=1)
    along = jax.scipy.linalg.solve_triangular(factor, offset, lower=True)
    return jnp.log1p(jnp.maximum(pivots, 0.0)).sum() + jnp.log1p(jnp.sum(along**2) / distortion)


def _log_determinant(matrix: Array) -> Array:
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))))


def _rows(count: Array) -> Array:
    return jnp.maximum(count, 1.0)


def _rest(count: Array) -> Array:
    return jnp.maximum(count - 1.0, 1.0)


def _check_class_scatters(moments: Moments) -> None:
    if moments.class_scatters.shape[0] != moments.class_counts.shape[0]:
        raise ValueError(
            f"this score reads the scatter of each of the {moments.class_counts.shape[0]} classes, "
            "which these moments do not hold: build them with class_scatters=True"
        )

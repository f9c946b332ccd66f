r"""Evidence and generalised cross-validation: ridge regression on the labels, from one pass.

All are sums over the eigenbasis of the scatter :math:`S = V \mathrm{diag}(s) V^\top` of the
centred rows :math:`Z`. The targets are the indicators :math:`y_c` of the classes that have a row
and do not have all. Ridge strengths are relative to the mean eigenvalue of the scatter, as in
:mod:`kernlens.probes`, whose leave-one-out needs the rows and gives metrics in value.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments import Moments
from kernlens.scores.basis import eigenbasis, fitted, label_scatters, unexplained
from kernlens.scores.estimator import Estimator, Score, in_float64, ratio, where_defined
from kernlens.types import Array

STRENGTHS = tuple(10.0 ** (0.5 * k) for k in range(-8, 7))
"""Ridge strengths over which generalised cross-validation takes its least, 1e-4 to 1e3."""

LEAST = 1e-60
"""Floor of what is divided by, below any ratio of hyperparameters at scales of 1e-16 to 1e16."""

LEAST_RESIDUAL = 2.0**-46
"""Least share of the targets' scatter that counts as not fitted, the square of float32's rounding:
an exact fit, by as many features as rows, would have no greatest evidence."""

PUBLISHED = {"epsilon": 1e-5, "tolerance": 1e-3, "iterations": 11}
"""The constants of the authors' LogME."""


@in_float64
def evidence(
    moments: Moments,
    *,
    bias: bool | Array,
    relative: bool | Array,
    epsilon: float | Array,
    tolerance: float | Array,
    iterations: int | Array,
    epsilon_in_evidence: bool | Array = False,
) -> Score:
    r"""Log evidence per row of Bayesian ridge regression, at fixed-point hyperparameters.

    .. math:: \mathcal L_c = \tfrac{p}{2}\log\alpha + \tfrac n2\log\beta
              - \tfrac12 \log|\alpha I + \beta X^\top X| - \tfrac\beta2 \|X m - y_c\|^2
              - \tfrac\alpha2 \|m\|^2 - \tfrac n2\log 2\pi, \qquad
              \alpha \leftarrow \gamma / (\|m\|^2 + \epsilon), \quad
              \beta \leftarrow (n - \gamma) / (\|X m - y_c\|^2 + \epsilon)

    with :math:`m` the posterior mean and :math:`\gamma` the effective dimension; the mean of
    :math:`\mathcal L_c / n` over the classes.

    Args:
      moments: moments of ``p`` features.
      bias: whether rows and targets are centred, which is what an unpenalised bias does.
      relative: whether :math:`\alpha/\beta` starts at the mean eigenvalue and :math:`\epsilon` is
        in its unit, which frees the value from the scale of the features; else at 1.
      epsilon: :math:`\epsilon`, at least 0.
      tolerance: relative change of :math:`\alpha / \beta` at which a class is done.
      iterations: the most steps.
      epsilon_in_evidence: whether the two norms in the evidence are raised by :math:`\epsilon` too.

    Returns:
      Value, a log density; its null is the evidence of no features, :math:`\alpha \to \infty`.
    """
    basis = eigenbasis(moments)
    n = jnp.maximum(basis.count, 1.0)
    mean = jnp.where(bias, 0.0, basis.mean)
    frequencies = ratio(basis.class_counts, n)
    offsets = jnp.where(bias, 0.0, frequencies)
    size = jnp.where(bias, label_scatters(basis), basis.class_counts)
    # A class that is all rows has no scatter beyond rounding.
    counted = size > 8.0 * basis.eps * n
    scale = jnp.where(relative, 1.0, basis.unit)
    g = jnp.sign(basis.deviations) * jnp.sqrt(fitted(basis))
    left = unexplained(basis)

    def solve(t: Array) -> tuple[Array, Array, Array]:
        """Effective dimension, squared weights and squared residual at each class's ratio."""
        shrink = 1.0 / (basis.values + t[:, None])
        pull = n * jnp.sum(mean**2 * shrink, axis=1)
        r = (offsets - jnp.sum(mean * basis.deviations * shrink, axis=1)) / (1.0 + pull)
        tilt = n * r[:, None] * mean
        weights = (basis.deviations + tilt) * shrink
        residuals = (g * t[:, None] - jnp.sqrt(basis.values) * tilt) * shrink
        extra = t * n * jnp.sum((mean * shrink) ** 2, axis=1) / (1.0 + pull)
        gamma = jnp.sum(basis.values * shrink, axis=1) + extra
        return gamma, jnp.sum(weights**2, axis=1), left + jnp.sum(residuals**2, axis=1) + n * r**2

    def step(_: int, state: _Fit) -> _Fit:
        gamma, weights, residual = solve(state.ratio)
        residual = jnp.maximum(residual, LEAST_RESIDUAL * size)
        alpha = gamma / jnp.maximum(weights + epsilon * scale, LEAST)
        alpha = jnp.maximum(alpha, LEAST)
        beta = jnp.maximum(n - gamma, LEAST) / jnp.where(counted, residual + epsilon, 1.0)
        after = jnp.clip(alpha / beta, LEAST, 1.0 / LEAST)
        done = jnp.abs(after - state.ratio) <= tolerance * state.ratio
        new = _Fit(alpha, beta, weights, residual, jnp.where(done, state.ratio, after), done)
        return jax.tree.map(lambda old, now: jnp.where(state.done, old, now), state, new)

    ones = jnp.ones_like(size)
    start = _Fit(ones, ones, ones, ones, ones / scale, jnp.zeros_like(size, bool))
    steps = jnp.asarray(iterations).astype(jnp.int32)
    fit = jax.lax.fori_loop(jnp.zeros_like(steps), steps, step, start)
    extra = jnp.where(epsilon_in_evidence, epsilon, 0.0)
    pull = n * jnp.sum(mean**2 / (basis.values + (fit.alpha / fit.beta)[:, None]), axis=1)
    precision = jnp.log1p(basis.values * (fit.beta / fit.alpha)[:, None]).sum(axis=1)
    values = 0.5 * (
        jnp.log(fit.beta)
        - math.log(2.0 * math.pi)
        - (precision + jnp.log1p(pull)) / n
        - (fit.beta * (fit.residual + extra) + fit.alpha * (fit.weights + extra * scale)) / n
    )
    none = 0.5 * (jnp.log(n / jnp.where(counted, size, 1.0)) - 1.0 - math.log(2.0 * math.pi))
    classes = jnp.maximum(counted.sum(), 1)
    value, null = (
        jnp.sum(jnp.where(counted, v, 0.0)) / classes.astype(n.dtype) for v in (values, none)
    )
    return where_defined(jnp.any(counted), value, null)


def logme(moments: Moments) -> Score:
    r"""LogME as its authors compute it: no bias, not centred, their constants.

    The formula is that of :func:`evidence` with :math:`\epsilon = 10^{-5}`, a start at
    :math:`\alpha = \beta = 1`, at most 11 steps and a tolerance of :math:`10^{-3}`; the first two
    tie the value slightly to the scale of the features.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value, a log density per row and class; its null is the evidence without features.

    References:
      You et al. (2021), Ranking and tuning pre-trained models, algorithm 3.
    """
    return evidence(moments, bias=False, relative=False, **PUBLISHED)


def logme_centred(moments: Moments) -> Score:
    r"""LogME with a bias, run to its fixed point, blind to scale and shift.

    The formula is that of :func:`evidence` with rows and targets centred and
    :math:`\epsilon = 0`. The published fixed point has no bias, so it pays for the class
    frequencies and for a common mean with its weights. A fit of every label, by as many independent
    features as rows, has no greatest evidence: it counts as missing :math:`2^{-46}` of their
    scatter.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).

    Returns:
      Value, a log density per row and class; its null is the evidence of the frequencies alone.

    References:
      MacKay (1992), Bayesian interpolation, section 4; You et al. (2021), equation 2.
    """
    return evidence(moments, bias=True, relative=True, epsilon=0.0, tolerance=1e-6, iterations=60)


@in_float64
def gcv(moments: Moments, *, strengths: tuple[float, ...] = STRENGTHS) -> Score:
    r"""Generalised cross-validation error of ridge with a bias, least over the strengths.

    .. math:: \min_t \frac1n \sum_c \frac{\|(I - A_t)\, y_c\|^2}{(\mathrm{tr}(I - A_t) / n)^2},
              \qquad \mathrm{tr}(I - A_t) = n - 1 - \sum_i \frac{s_i}{s_i + t}

    the same number as the kernel alignment risk estimator of the linear kernel. With more features
    than rows both factors go to 0 with the strength; each is a sum of what is left, in float64, and
    their quotient that of dense algebra in float64.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      strengths: ridges :math:`t` relative to the mean eigenvalue of the scatter.

    Returns:
      Squared error of the one-hot labels, summed over classes, less is better; its null is that of
      the class frequencies alone.

    References:
      Golub, Heath and Wahba (1979), equation 1.4; Jacot et al. (2020), KARE, definition 8.
    """
    basis = eigenbasis(moments)
    t = jnp.asarray(strengths, basis.values.dtype)[:, None]
    n = jnp.maximum(basis.count, 2.0)
    kept = t / (basis.values + t)
    residual = unexplained(basis).sum() + jnp.sum(fitted(basis).sum(axis=0) * kept**2, axis=1)
    # Directions outside the rank count whole: n - 1 less a sum near it would keep no digits.
    left = jnp.maximum(n - 1.0 - basis.rank, 0.0)
    left = left + jnp.sum(jnp.where(basis.values > 0, kept, 0.0), axis=1)
    safe = left > 0
    errors = jnp.where(safe, n * residual / jnp.where(safe, left, 1.0) ** 2, jnp.inf)
    total = label_scatters(basis).sum()
    null = n * total / (n - 1.0) ** 2
    value = jnp.where(basis.defined, jnp.minimum(jnp.min(errors), null), null)
    return where_defined(total > 0, value, null)


@in_float64
def arora_complexity(moments: Moments, *, strength: float = 1e-2) -> Score:
    r"""Data-dependent complexity of Arora et al., :math:`\sqrt{2\, y^\top H^{-1} y / n}`.

    .. math:: H = \frac{Z Z^\top}{k} + \delta I, \qquad k = \tfrac1n \mathrm{tr}\, Z Z^\top, \qquad
              y^\top H^{-1} y = \frac1\delta \Big(\|y\|^2 - \sum_i g_i^2\,
              \frac{s_i}{s_i + \delta k}\Big)

    summed over the centred indicators of the classes. The kernel is scaled to a mean diagonal of 1
    and given a nugget :math:`\delta`, without which a kernel of rank below ``n`` has no inverse.

    Args:
      moments: moments of the features as they are (:func:`kernlens.arrays.rows.identity`).
      strength: :math:`\delta > 0`.

    Returns:
      Complexity, at least 0, less is better; its null is the root of the expectation of its square
      under permuted labels, exact.

    References:
      Arora et al. (2019), Fine-grained analysis, theorem 5.1.
    """
    basis = eigenbasis(moments)
    n = jnp.maximum(basis.count, 2.0)
    ridge = strength * basis.values.sum() / n
    ridge = jnp.where(ridge > 0, ridge, 1.0)
    kept = ridge / (basis.values + ridge)
    bound = unexplained(basis).sum() + jnp.sum(fitted(basis) * kept)
    total = label_scatters(basis).sum()
    rest = jnp.maximum(
        (n - 1.0 - basis.rank) + jnp.sum(jnp.where(basis.values > 0, kept, 0.0)), 0.0
    )
    value, null = (jnp.sqrt(2.0 * v / (strength * n)) for v in (bound, total * rest / (n - 1.0)))
    return where_defined(total > 0, value, null)


EVIDENCE: dict[str, Estimator] = {
    "logme": Estimator(
        logme,
        formula=r"\max_{\alpha,\beta} \tfrac1n \log p(y_c | X, \alpha, \beta), mean over classes",
        source="You et al. (2021), algorithm 3",
        range="(-inf, inf)",
        null="evidence without features, the limit of noise",
        predicts="ranks linear classifiers and fine-tuning",
        pitfalls="no bias and not centred, so it pays for a common mean and for class frequencies; "
        "its zero means nothing; constants tie it to the scale",
        scale_free=False,
    ),
    "logme_centred": Estimator(
        logme_centred,
        formula=r"\max_{\alpha,\beta} \tfrac1n \log p(H y_c | H X, \alpha, \beta)",
        source="MacKay (1992), section 4",
        range="(-inf, inf)",
        null="evidence of class frequencies, the limit of noise",
        predicts="ranks linear classifiers; subtract the null for what the features add",
        pitfalls="squared error of one-hot labels, so rare classes count little; arbitrary "
        "where the features fit every label exactly",
        shift_free=True,
    ),
    "gcv": Estimator(
        gcv,
        formula=r"\min_t \tfrac1n \|(I - A_t) Y\|^2 / (\mathrm{tr}(I - A_t) / n)^2",
        source="Golub, Heath and Wahba (1979), equation 1.4",
        range="[0, inf)",
        null="error of the class frequencies",
        predicts="held-out squared error of ridge regression, in value",
        pitfalls="squared error, not accuracy; optimistic where few rows have high leverage",
        sign=-1,
        shift_free=True,
    ),
    "arora_complexity": Estimator(
        arora_complexity,
        formula=r"\sqrt{2 y^\top H^{-1} y / n}",
        source="Arora et al. (2019), theorem 5.1",
        range="[0, inf)",
        null="root of the exact expectation of its square",
        predicts="generalisation bound of a wide network whose kernel is H",
        pitfalls="depends on the nugget wherever the rank is below n; a bound, not an error",
        sign=-1,
        shift_free=True,
    ),
}
"""Scores from ridge regression by name."""


class _Fit(NamedTuple):
    alpha: Array
    beta: Array
    weights: Array
    residual: Array
    ratio: Array
    done: Array

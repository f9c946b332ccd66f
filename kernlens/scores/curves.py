r"""Learning curves of ridge regression from the spectrum and the labels' coefficients on it.

The eigenlearning equations give the test error of kernel ridge regression at any number of labels
from the kernel's eigenvalues :math:`\lambda_i` and the target's coefficients :math:`v_i` on its
eigenfunctions; they are those of Bordelon, Canatar and Pehlevan (there
:math:`\kappa` is ``n`` times this one). Here eigenfunctions are principal components of features.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.moments import Moments
from kernlens.scores import checks
from kernlens.scores.basis import eigenbasis
from kernlens.scores.checks import checked
from kernlens.scores.estimator import Estimator, dot, in_float64, ratio, wide
from kernlens.types import Array

STRENGTHS = tuple(10.0 ** (0.5 * k) for k in range(-10, 5))
"""Ridge strengths over which a learning curve takes its least, 1e-5 to 1e2. They are relative to
the trace of the covariance; those of the probes are relative to its mean eigenvalue."""


class Eigenlearning(NamedTuple):
    r"""What the equations say at one number of labels.

    Attributes:
      kappa: effective regularisation :math:`\kappa`, ``[]``.
      learnabilities: :math:`L_i = \lambda_i / (\lambda_i + \kappa)`, ``[p]``.
      overfitting: :math:`E_0 = n / (n - \sum_i L_i^2)`, ``[]``.
      train_error: mean squared error on the labels given, ``[]``.
      test_error: mean squared error on new rows, noise included, ``[]``.
    """

    kappa: Array
    learnabilities: Array
    overfitting: Array
    train_error: Array
    test_error: Array


class Coefficients(NamedTuple):
    r"""A target on the eigenfunctions of the features, estimated from labelled rows.

    Attributes:
      eigenvalues: of the covariance of all rows, falling, ``[p]``.
      squared: :math:`v_i^2`, debiased, summed over classes; of either sign, ``[p]``.
      noise: variance of the target outside the eigenfunctions, debiased, at least 0, ``[]``.
      variance: variance of the target, summed over classes, ``[]``.
    """

    eigenvalues: Array
    squared: Array
    noise: Array
    variance: Array


class LearningCurve(NamedTuple):
    """Test error of the best ridge at each number of labels.

    Attributes:
      sizes: numbers of labels, ``[m]``.
      errors: mean squared error of the one-hot labels, summed over classes, ``[m]``.
      strengths: ridge that reaches it, relative to the trace of the covariance, ``[m]``.
    """

    sizes: Array
    errors: Array
    strengths: Array


@checked(
    eigenvalues=checks.at_least_0,
    squared=checks.finite,
    n=checks.positive,
    ridge=checks.at_least_0,
    noise=checks.at_least_0,
)
@in_float64
def eigenlearning(
    eigenvalues: Array,
    squared: Array,
    n: float | Array,
    *,
    ridge: float | Array,
    noise: float | Array,
) -> Eigenlearning:
    r"""Train and test error of kernel ridge regression on ``n`` labels.

    .. math:: \sum_i \frac{\lambda_i}{\lambda_i + \kappa} + \frac\delta\kappa = n, \qquad
              \mathrm{test} = E_0 \Big(\sum_i (1 - L_i)^2 v_i^2 + \sigma^2\Big), \qquad
              \mathrm{train} = \Big(\frac{\delta}{n \kappa}\Big)^2 \mathrm{test}

    Args:
      eigenvalues: :math:`\lambda_i \ge 0`, ``[p]``.
      squared: :math:`v_i^2`, ``[p]``.
      n: number of labels, positive.
      ridge: :math:`\delta \ge 0`, added to the Gram matrix.
      noise: :math:`\sigma^2`, variance of the target that no eigenfunction carries.

    Returns:
      What the equations say. Without a ridge and with ``n`` at least the rank, :math:`\kappa` is 0
      and training interpolates in the span.

    Raises:
      ValueError: an argument out of its range or not finite (unless traced).

    References:
      Simon et al. (2023), equations 4 to 9; Bordelon, Canatar and Pehlevan (2020), equation 4.
    """
    eigenvalues, squared, n, ridge, noise = wide((eigenvalues, squared, n, ridge, noise))
    # In a unit of their own, so that no kappa leaves the range of the dtype.
    unit = eigenvalues.sum() + ridge
    unit = jnp.where(unit > 0, unit, 1.0)
    eigenvalues, ridge = eigenvalues / unit, ridge / unit
    high = -jnp.log(jnp.asarray(n, eigenvalues.dtype))
    low = high - 60.0

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        kappa = jnp.exp(middle)
        above = jnp.sum(eigenvalues / (eigenvalues + kappa)) + ridge / kappa > n
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 70, halve, (low, high))
    kappa = jnp.exp(0.5 * (low + high))
    learnabilities = eigenvalues / (eigenvalues + kappa)
    overfitting = n / jnp.maximum(n - jnp.sum(learnabilities**2), jnp.finfo(kappa.dtype).eps * n)
    missed = jnp.sum((1.0 - learnabilities) ** 2 * squared)
    test = overfitting * (missed + noise)
    return Eigenlearning(
        kappa * unit, learnabilities, overfitting, (ridge / (n * kappa)) ** 2 * test, test
    )


@in_float64
def coefficients(moments: Moments) -> Coefficients:
    r"""Debiased squared coefficients of the one-hot labels on the principal components.

    .. math:: \hat v_i^2 = \frac{\big(\sum_j \phi_{ij} \tilde y_j\big)^2
              - \sum_j \phi_{ij}^2 \tilde y_j^2}{m (m - 1)}, \qquad
              \phi_{ij} = v_i^\top z_j / \sqrt{\lambda_i}

    over the ``m`` labelled rows, summed over classes: without its second term, which is what each
    row has with itself, a target of noise would seem to have a signal in every direction. The
    components and eigenvalues are those of all rows, so rows without labels sharpen them.

    Args:
      moments: moments of the features, with the scatter of each class.

    Returns:
      Coefficients.

    Raises:
      ValueError: moments without the scatter of each class.

    References:
      Simon et al. (2023), section 4; Canatar, Bordelon and Pehlevan (2021), methods.
    """
    if moments.class_scatters.shape[0] != moments.class_counts.shape[0]:
        raise ValueError(
            "debiased coefficients read the scatter of each class, which these moments do not "
            "hold: build them with class_scatters=True"
        )
    basis = eigenbasis(moments)
    counts = basis.class_counts
    m = jnp.maximum(counts.sum(), 2.0)
    shares = counts / m
    scaled = ratio(basis.values, basis.count)
    sums = basis.deviations - shares[:, None] * basis.deviations.sum(axis=0)
    within = jnp.einsum(
        "pi,cpq,qi->ci",
        basis.vectors,
        wide(moments.class_scatters) / basis.unit,
        basis.vectors,
        precision="highest",
    )
    own = within + ratio(basis.deviations**2, counts[:, None])
    weights = 1.0 - 2.0 * shares + jnp.sum(shares**2)
    squared = ratio(jnp.sum(sums**2, axis=0) - dot(weights, own), scaled) / (m * (m - 1.0))
    variance = (1.0 - jnp.sum(shares**2)) * m / (m - 1.0)
    variance = jnp.where(counts.sum() > 1, variance, 0.0)
    squared = jnp.where(basis.values > 0, squared, 0.0)
    noise = jnp.maximum(variance - squared.sum(), 0.0)
    return Coefficients(basis.values * ratio(basis.unit, basis.count), squared, noise, variance)


@checked(moments=checks.finite_moments, sizes=checks.sizes, strengths=checks.positive)
@partial(jax.jit, static_argnames="strengths")
def learning_curve(
    moments: Moments, sizes: Array | Sequence[int], *, strengths: tuple[float, ...] = STRENGTHS
) -> LearningCurve:
    r"""Test error of ridge with a bias at any number of labels, the best ridge at each.

    Args:
      moments: of the labelled rows and of as many unlabelled ones as there are, with the scatter of
        each class.
      sizes: numbers of labels, ``[m]``, each at least 2.
      strengths: ridges, relative to the trace of the covariance, that is :math:`\delta` over the
        mean diagonal of the centred Gram matrix.

    Returns:
      Learning curve, never above the variance of the labels.

    Raises:
      ValueError: moments without the scatter of each class, or of a row that is not finite; a
        number of labels below 2, or a strength that is not positive.

    References:
      Simon et al. (2023), equations 4 to 9.
    """
    found = coefficients(moments)
    sizes = jnp.asarray(sizes, found.noise.dtype)
    ridges = jnp.asarray(strengths, found.noise.dtype)
    errors = _errors(found, sizes, ridges)
    best = jnp.argmin(errors, axis=1)
    least = jnp.take_along_axis(errors, best[:, None], axis=1)[:, 0]
    return LearningCurve(sizes, jnp.clip(least, 0.0, found.variance), ridges[best])


@in_float64
def _errors(found: Coefficients, sizes: Array, strengths: Array) -> Array:
    """Test error at each number of labels and strength, ``[m, s]``."""
    found = wide(found)

    def at(n: Array, strength: Array) -> Array:
        ridge = strength * found.eigenvalues.sum()
        return eigenlearning(
            found.eigenvalues, found.squared, n, ridge=ridge, noise=found.noise
        ).test_error

    # One label's worth of the sample goes to the bias.
    return jax.vmap(lambda n: jax.vmap(lambda s: at(n - 1.0, s))(wide(strengths)))(wide(sizes))


CURVES: dict[str, Estimator] = {
    "learning_curve": Estimator(
        learning_curve,
        formula=r"\min_\delta E_0 \big(\sum_i (1 - L_i)^2 \hat v_i^2 + \hat\sigma^2\big)",
        source="Simon et al. (2023), equations 4 to 9; coefficients debiased from labelled rows",
        range="[0, 1 - sum p_c^2]",
        null="the variance of the labels, the upper end",
        predicts="squared error of ridge at any number of labels, in value",
        pitfalls="one forecast from n labels varies by some 10 to 20%; anchor it at the error by "
        "leave-one-out; squared error is not accuracy",
        sign=-1,
        class_scatters=True,
        shift_free=True,
    ),
    "eigenlearning": Estimator(
        eigenlearning,
        formula=r"\sum_i \tfrac{\lambda_i}{\lambda_i + \kappa} + \tfrac\delta\kappa = n",
        source="Simon et al. (2023), equations 4 to 9; Bordelon, Canatar and Pehlevan (2020)",
        range="[0, inf)",
        null="the variance of the target",
        predicts="train and test error of kernel ridge at any number of labels, in value",
        pitfalls="takes the target's coefficients as known; Gaussian universality of the features",
        sign=-1,
        scale_free=False,
    ),
}
"""Forecasts of the error at more labels, by name."""

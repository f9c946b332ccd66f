r"""Mean probability of the true class under Gaussian classes fitted to the same rows.

Both are in sample: with more features than a few hundredths of the rows they are optimistic. For
what a discriminant does on rows held out, see :func:`kernlens.probes.discriminant`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from kernlens import moments as moments_of
from kernlens.moments import Moments
from kernlens.scores import checks
from kernlens.scores.checks import checked
from kernlens.scores.estimator import Estimator, dot, ratio, root
from kernlens.types import Array

POWER_STEPS = 6
"""Products with the within-class covariance for its largest eigenvalue, as published."""


@checked(x=checks.rows, codes=checks.codes)
@partial(jax.jit, static_argnames="num_classes")
def class_mean_probability(x: Array, codes: Array, num_classes: int) -> Array:
    r"""Classification term of ETran, softmax over classes of minus half the squared distance.

    .. math:: \frac1n \sum_i p(y_i | x_i), \qquad
              p(c | x) \propto \frac{n_c}{n} e^{-\|x - \mu_c\|^2 / 2}

    Meant as linear discriminant analysis; :data:`kernlens.scores.PEERS` has why it is this.

    Args:
      x: features, ``[n, d]``.
      codes: class of each row, ``[n]``.
      num_classes: ``C``.

    Returns:
      Probability in ``[0, 1]``, ``[]``.

    Raises:
      ValueError: no row, a row that is not finite, or a code outside ``0..num_classes-1``.

    References:
      Gholami et al. (2023), ETran, released code, ``LDA_Score``.
    """
    moments = _fit(x, codes, num_classes)
    means = _offsets(moments)
    return jnp.mean(_own(_posteriors(_centred(x, moments), moments, means, means), codes))


@checked(x=checks.rows, codes=checks.all_codes)
@partial(jax.jit, static_argnames="num_classes")
def sfda(x: Array, codes: Array, num_classes: int) -> Array:
    r"""Self-challenging Fisher discriminant analysis.

    A discriminant with within-class covariance
    :math:`(1 - a) W + a \tfrac{\mathrm{tr} W}{d} I`,
    :math:`a = \max(e^{-5 \lambda_1(W)}, 10^{-10})`,
    gives the rows posteriors :math:`p`; each row moves to
    :math:`q x + (1 - q)\, \bar\mu_{\ne y}`, with ``q`` the softmax of ``p`` at its class and
    :math:`\bar\mu_{\ne y}` the mean of the other class means; the score is the mean probability of
    the true class under a second discriminant on the moved rows with the same ``a``.

    Args:
      x: features, ``[n, d]``.
      codes: class of each row, ``[n]``.
      num_classes: ``C``, at least 2, each class with a row.

    Returns:
      Probability in ``[0, 1]``, ``[]``. The shrinkage depends on the scale of the features.

    Raises:
      ValueError: no row, a row that is not finite, a code outside ``0..num_classes-1``, fewer than
        two classes, or a class without a row.

    References:
      Shao et al. (2022), SFDA, section 4 and released code.
    """
    moments = _fit(x, codes, num_classes)
    shrinkage = jnp.maximum(jnp.exp(-5.0 * _largest(_within(moments))), 1e-10)
    z, means, coefficients = _discriminant(x, moments, shrinkage)
    kept = _own(jax.nn.softmax(_posteriors(z, moments, means, coefficients), axis=1), codes)[
        :, None
    ]
    others = (means.sum(axis=0) - means) / (num_classes - 1.0)
    moved = kept * z + (1.0 - kept) * others[codes]
    moments = _fit(moved, codes, num_classes)
    z, means, coefficients = _discriminant(moved, moments, shrinkage)
    return jnp.mean(_own(_posteriors(z, moments, means, coefficients), codes))


def _fit(x: Array, codes: Array, num_classes: int) -> Moments:
    chex.assert_rank([x, codes], [2, 1])
    return moments_of.from_arrays(x, codes, num_classes)


def _centred(x: Array, moments: Moments) -> Array:
    return (x - moments.mean) - moments.mean_low


def _offsets(moments: Moments) -> Array:
    return ratio(moments.class_deviations, moments.class_counts[:, None])


def _within(moments: Moments) -> Array:
    return ratio(moments.within, moments.count)


def _discriminant(x: Array, moments: Moments, shrinkage: Array) -> tuple[Array, Array, Array]:
    """Centred rows, class means and coefficients; neither posterior nor mixing sees the shift."""
    within, means = _within(moments), _offsets(moments)
    size = jnp.trace(within) / len(within)
    size = jnp.where(size > 0, size, 1.0)
    # By eigenvectors: beside a singular covariance the least shrinkage is lost to rounding.
    values, vectors = jnp.linalg.eigh(within / size)
    shrunk = (1.0 - shrinkage) * jnp.maximum(values, 0.0) + shrinkage
    coefficients = dot(dot(means, vectors) / shrunk, vectors.T) / size
    return _centred(x, moments), means, coefficients


def _posteriors(z: Array, moments: Moments, means: Array, coefficients: Array) -> Array:
    counts = moments.class_counts
    priors = jnp.log(jnp.where(counts > 0, counts, 1.0))
    logits = dot(z, coefficients.T) - 0.5 * jnp.sum(means * coefficients, axis=1) + priors
    return jax.nn.softmax(jnp.where(counts > 0, logits, -jnp.inf), axis=1)


def _own(posteriors: Array, codes: Array) -> Array:
    return jnp.take_along_axis(posteriors, codes[:, None], axis=1)[:, 0]


def _largest(matrix: Array) -> Array:
    """Largest eigenvalue by power steps from the row sums, as published."""
    size = jnp.trace(matrix)
    matrix = ratio(matrix, size)

    def step(_: int, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        product = dot(matrix, pair[1])
        return pair[1], ratio(product, root(jnp.sum(product**2)))

    start = matrix.sum(axis=1)
    before, last = jax.lax.fori_loop(0, POWER_STEPS, step, (start, start))
    return size * jnp.dot(last, dot(matrix, before))


IN_SAMPLE: dict[str, Estimator] = {
    "class_mean_probability": Estimator(
        class_mean_probability,
        formula=r"\tfrac1n \sum_i p(y_i | x_i), \; p(c | x) \propto n_c e^{-\|x - \mu_c\|^2 / 2}",
        source="Gholami et al. (2023), ETran, released code, LDA_Score",
        range="[0, 1]",
        null="the share of the row's own class on average, where means do not differ",
        predicts="meant to rank fine-tuning, added to `energy`",
        pitfalls="in sample; depends on the scale; nearest class means, whatever the covariance",
        scale_free=False,
        shift_free=True,
    ),
    "sfda": Estimator(
        sfda,
        formula=r"\tfrac1n \sum_i p'(y_i | q_i x_i + (1 - q_i) \bar\mu_{\ne y_i})",
        source="Shao et al. (2022), SFDA, section 4 and released code",
        range="[0, 1]",
        null="none; above the share of the largest class, the more so with fewer rows a feature",
        predicts="meant to rank fine-tuning",
        pitfalls="in sample, so it rises with the number of features; depends on the scale",
        scale_free=False,
        shift_free=True,
    ),
}
"""In-sample discriminants, ``fn(x, codes, num_classes)``, by name."""

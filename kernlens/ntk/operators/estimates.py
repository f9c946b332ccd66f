"""Trace and log-determinant of a kernel that is never built, each with its standard error.

The estimators are those of matfree.
"""

import importlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.operators.operator import Operator, check_square
from kernlens.types import Array


class TraceEstimate(NamedTuple):
    """A stochastic estimate.

    Attributes:
      value: the estimate, a scalar.
      standard_error: of its sampling, from the spread of the samples.
      stopping_error: how far the value may lie off for an iteration that was stopped early; zero
        where there is none.
    """

    value: Array
    standard_error: Array
    stopping_error: Array


def hutchinson(key: Array, operator: Operator, *, num_samples: int = 64) -> TraceEstimate:
    r"""Trace as the mean of :math:`z^\top K z` over random signs :math:`z`.

    The error falls as one over the root of the samples. Where the diagonal is cheap, as it is for
    a kernel function, ``operator.diagonal().sum()`` is the trace itself.

    Args:
      key: a PRNG key.
      operator: square, ``[N, N]``.
      num_samples: products, at least 2.

    Returns:
      An unbiased estimate.

    Raises:
      ValueError: a rectangular operator, or fewer than 2 samples.
      ImportError: matfree is not installed.

    References:
      Hutchinson (1989), section 2.

    Examples:
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-1.0, 1.0, 40)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> found = hutchinson(jax.random.key(0), k, num_samples=256)
      >>> bool(abs(found.value - 40.0) < 4 * found.standard_error)
      True
    """
    _check(operator, num_samples)
    return _hutchinson(key, operator, num_samples=num_samples)


def xtrace(key: Array, operator: Operator, *, num_samples: int = 32) -> TraceEstimate:
    r"""Trace by XTrace: the exact trace on a sketch, plus that of the rest, each sample left out.

    Far more accurate than :func:`hutchinson` for the same products where the spectrum decays. The
    standard error is that of its authors, which counts the left-out estimates as independent: on
    Gaussian kernels of 100 and 300 rows the root mean square error was 1.2 to 1.4 times as large.

    Args:
      key: a PRNG key.
      operator: square, ``[N, N]``.
      num_samples: :math:`m`, in ``2..N``; ``2m`` products and a few arrays ``[N, m]``. From half
        of ``N`` on the trace is exact.

    Returns:
      An unbiased estimate.

    Raises:
      ValueError: a rectangular operator, or samples outside ``2..N``.
      ImportError: matfree is not installed.

    References:
      Epperly, Tropp and Webber (2024), section 2.1 and equation 2.5 for the error.

    Examples:
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-1.0, 1.0, 40)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> found = xtrace(jax.random.key(0), k, num_samples=10)
      >>> bool(abs(found.value - 40.0) < 0.01)
      True
    """
    _check(operator, num_samples, most=operator.shape[0])
    return _xtrace(key, operator, num_samples=num_samples)


def log_determinant(
    key: Array,
    operator: Operator,
    *,
    ridge: float | Array,
    num_samples: int = 16,
    num_steps: int = 32,
) -> TraceEstimate:
    r""":math:`\log\det(K + \lambda I)` by stochastic Lanczos quadrature.

    The mean over random signs of :math:`z^\top \log(K + \lambda I) z`, each by the Gauss rule of
    its Lanczos process, whose nodes are held to :math:`\lambda` or above, where the spectrum lies.
    A Gauss rule of the logarithm comes down to the integral from above as it gains nodes; the
    stopping error is what the second half of the steps still took off.

    Args:
      key: a PRNG key.
      operator: symmetric positive semi-definite, ``[N, N]``.
      ridge: :math:`\lambda > 0`.
      num_samples: random vectors, at least 2.
      num_steps: Lanczos steps of each, in ``2..N``; ``num_samples * num_steps`` products, and as
        many vectors of ``N`` in memory.

    Returns:
      The estimate, its standard error, and its stopping error.

    Raises:
      ValueError: a rectangular operator, samples or steps out of range, or a ridge that is not
        positive.
      ImportError: matfree is not installed.

    References:
      Ubaru, Chen and Saad (2017), algorithm 1.

    Examples:
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-1.0, 1.0, 40)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> found = log_determinant(jax.random.key(0), k, ridge=0.1, num_samples=64, num_steps=20)
      >>> exact = jnp.linalg.slogdet(kernels.rbf(x, x) + 0.1 * jnp.eye(40))[1]
      >>> bool(abs(found.value - exact) < 4 * found.standard_error + found.stopping_error)
      True
    """
    _check(operator, num_samples)
    if not 2 <= num_steps <= operator.shape[0]:
        raise ValueError(f"num_steps must lie in 2..{operator.shape[0]}; got {num_steps}")
    if isinstance(ridge, int | float) and not ridge > 0:
        raise ValueError(f"a log-determinant needs a ridge above 0; got {ridge}")
    return _log_determinant(key, operator, ridge, num_samples=num_samples, num_steps=num_steps)


@partial(jax.jit, static_argnames="num_samples")
def _hutchinson(key: Array, operator: Operator, *, num_samples: int) -> TraceEstimate:
    stochtrace = _matfree("stochtrace")
    estimator = stochtrace.estimator_monte_carlo_mean_and_sem(
        stochtrace.monte_carlo_trace(), _signs(operator, num_samples)
    )
    return _estimate(estimator(operator.matvec, key), num_samples)


@partial(jax.jit, static_argnames="num_samples")
def _xtrace(key: Array, operator: Operator, *, num_samples: int) -> TraceEstimate:
    stochtrace = _matfree("stochtrace")
    like = jnp.zeros(operator.shape[0], operator.dtype)
    estimator = stochtrace.estimator_leave_one_out_mean_and_sem(
        stochtrace.leave_one_out_xtrace(), stochtrace.sampler_normal(like, num=num_samples)
    )
    return _estimate(estimator(operator.matvec, key), num_samples)


@partial(jax.jit, static_argnames=("num_samples", "num_steps"))
def _log_determinant(
    key: Array, operator: Operator, ridge: float | Array, *, num_samples: int, num_steps: int
) -> TraceEstimate:
    stochtrace, decomp = _matfree("stochtrace"), _matfree("decomp")
    ridge = jnp.asarray(ridge, operator.dtype)
    lanczos = decomp.hessenberg(num_steps, reortho="full")

    def integrand(matvec: Any, z: Array) -> tuple[Array, Array]:
        projected = lanczos(lambda v: matvec(v) + ridge * v, z / jnp.linalg.norm(z)).J_small
        # Past an invariant subspace the basis is rounding error, or 0/0 where there is none. The
        # lower half leaves it uncoupled; the upper half, were it averaged in, would not.
        projected = jnp.nan_to_num(projected)
        off = jnp.diag(jnp.diag(projected, -1), -1)
        tridiagonal = jnp.diag(jnp.diag(projected)) + off + off.T
        squared = jnp.sum(z**2)
        kept = jnp.arange(num_steps) < num_steps // 2
        # What is left of it decouples, and the Gauss rule, which starts in the first row, is blind
        # to it.
        filler = tridiagonal[0, 0] * jnp.eye(num_steps, dtype=tridiagonal.dtype)
        shorter = jnp.where(kept[:, None] & kept, tridiagonal, filler)
        both = jnp.stack([tridiagonal, shorter])
        value, early = squared * _log_quadrature(both, ridge)
        return value, early - value

    estimator = stochtrace.estimator_monte_carlo_mean_and_sem(
        integrand, _signs(operator, num_samples)
    )
    (value, gap), (error, _) = estimator(operator.matvec, key)
    return _estimate((value, error), num_samples)._replace(stopping_error=jnp.abs(gap))


def _log_quadrature(tridiagonals: Array, smallest: Array) -> Array:
    """Of each, all in one batch: jax 0.10 can end in a deadlock where a program has two batches of
    factorisations side by side, on as few threads."""
    values, vectors = jnp.linalg.eigh(tridiagonals)
    return jnp.sum(vectors[:, 0] ** 2 * jnp.log(jnp.maximum(values, smallest)), axis=1)


def _signs(operator: Operator, num_samples: int) -> Any:
    like = jnp.zeros(operator.shape[0], operator.dtype)
    return _matfree("stochtrace").sampler_signs(like, num=num_samples)


def _estimate(mean_and_error: tuple[Array, Array], num_samples: int) -> TraceEstimate:
    value, error = mean_and_error
    # matfree divides the squares by the samples; the unbiased variance divides by one less.
    unbiased = error * np.sqrt(num_samples / (num_samples - 1)).astype(error.dtype)
    return TraceEstimate(value, unbiased, jnp.zeros_like(value))


def _check(operator: Operator, num_samples: int, most: int | None = None) -> None:
    _matfree("stochtrace")
    check_square(operator, "an estimate")
    if num_samples < 2 or (most is not None and num_samples > most):
        wanted = "at least 2" if most is None else f"in 2..{most}"
        raise ValueError(f"num_samples must be {wanted}; got {num_samples}")


def _matfree(module: str) -> Any:
    try:
        return importlib.import_module(f"matfree.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(
            "estimates need the package matfree: pip install 'kernlens[ntk]'"
        ) from error

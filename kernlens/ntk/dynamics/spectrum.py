r"""Eigendecomposition of a kernel, and what training does along each eigenvector.

After a time of training, the part of the residual along an eigenvector of eigenvalue :math:`s` has
shrunk to :math:`d(s)`, and the outputs anywhere have moved by the kernel times
:math:`r(s) = (1 - d(s)) / s` of it: the response, ``1/s`` at infinity.
"""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.dynamics.layout import (
    Layout,
    as_matrix,
    float_dtype,
    is_traced,
    refuse_negative,
    refuse_non_finite,
)
from kernlens.types import Array

ROUNDING = 10.0
"""Eigenvalues up to this many machine epsilons of the largest count as unresolved. Null eigenvalues
of float32 Gram matrices of up to 2,048 rows came out at up to 3 epsilons."""


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a training kernel as a matrix; goes where the kernel goes.

    Attributes:
      values: eigenvalues, rising, ``[R]``.
      vectors: eigenvectors, one a column, ``[R, R]``.
    """

    values: Array
    vectors: Array


KernelOrSpectrum: TypeAlias = Array | Spectrum


def spectrum(k_train_train: Array) -> Spectrum:
    r"""Eigendecomposition of a training kernel, :math:`K = U \Lambda U^\top`, to be used again.

    Args:
      k_train_train: symmetric kernel, ``[n, n]`` or with output axes in pairs, ``[n, n, O, O]``.

    Returns:
      The spectrum of the kernel as a matrix.

    Raises:
      ValueError: not square, no rows, a value that is not finite, or not symmetric to half the
        digits of its dtype; of values, where they are known.
    """
    return Spectrum(*jnp.linalg.eigh(check_kernel(k_train_train)))


def check_kernel(k_train_train: Array) -> Array:
    """A training kernel as a matrix, refused as :func:`spectrum` does, ``[R, R]``."""
    kernel = jnp.asarray(k_train_train)
    pairs = kernel.shape[::2] == kernel.shape[1::2]
    if kernel.ndim == 0 or kernel.ndim % 2 or not pairs or not kernel.size:
        raise ValueError(
            "k_train_train must be of shape [n, n], or [n, n, O, O] with output axes in pairs; got "
            f"{kernel.shape}"
        )
    refuse_non_finite("k_train_train", kernel)
    matrix = as_matrix(kernel.astype(float_dtype(kernel)))
    if not is_traced(kernel):
        with jax.ensure_compile_time_eval():
            size, skew = (float(x) for x in _size_and_skew(matrix))
        if skew > _half_precision(matrix) * size:
            raise ValueError(
                f"k_train_train is not symmetric: it differs from its transpose by {skew:.3g}, "
                f"where its largest value is {size:.3g}"
            )
    return matrix


def as_spectrum(
    kernel: KernelOrSpectrum, layout: Layout, diag_reg: float, diag_reg_absolute_scale: bool
) -> tuple[Spectrum, Array]:
    """The spectrum of a training kernel, and its eigenvalues with the ridge added, ``[R]``.

    Raises:
      ValueError: sizes that do not go with the layout, a negative ridge, or a kernel that is not
        positive semi-definite to half the digits of its dtype with the ridge; of values, where
        they are known.
    """
    refuse_negative("diag_reg", diag_reg)
    if not isinstance(kernel, Spectrum):
        layout.square("k_train_train", kernel, layout.shape[0])
        kernel = spectrum(kernel)
    elif kernel.values.shape != (layout.rows,):
        raise ValueError(
            f"a spectrum of {layout.rows} eigenvalues goes with outputs of shape {layout.shape} "
            f"and trace_axes={layout.traced}; got {kernel.values.shape[0]}"
        )
    ridged, low = _ridge(kernel.values, diag_reg, absolute=diag_reg_absolute_scale)
    if not is_traced(low) and float(low) < -_half_precision(ridged):
        raise ValueError(
            "k_train_train is not positive semi-definite: its eigenvalues, with diag_reg, run from "
            f"{np.min(ridged):.3g} to {np.max(ridged):.3g}"
        )
    return kernel, ridged


def in_double_precision(
    kernel: Array, layout: Layout, diag_reg: float, diag_reg_absolute_scale: bool
) -> tuple[Spectrum, Array]:
    """As :func:`as_spectrum` of a kernel that it has taken, in float64."""
    matrix = layout.square("k_train_train", kernel, layout.shape[0]).astype(jnp.float64)
    found = Spectrum(*jnp.linalg.eigh(matrix))
    return found, _ridge(found.values, diag_reg, absolute=diag_reg_absolute_scale)[0]


def max_learning_rate(
    ntk_train_train: KernelOrSpectrum,
    y_train_size: int | None = None,
    momentum: float = 0.0,
    *,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
) -> Array:
    r"""The learning rate from which gradient descent on squared error no longer converges.

    .. math:: \eta_{\max} = 2 (1 + \mu) N / \lambda_{\max}

    for the loss :math:`\frac1{2N}\sum (f - y)^2` over :math:`N` outputs and momentum :math:`\mu`.

    Args:
      ntk_train_train: tangent kernel of the training rows, or its spectrum.
      y_train_size: :math:`N`, the number of training outputs, traced ones included; the rows of
        the kernel as a matrix by default, as with ``trace_axes=()``.
      momentum: :math:`\mu` in ``[0, 1)``, of heavy-ball descent.
      diag_reg: ridge, as in :func:`gradient_descent_mse`.
      diag_reg_absolute_scale: as there.

    Returns:
      The bound, a scalar; infinite for a kernel of zeros.

    Raises:
      ValueError: as :func:`spectrum`, a negative ridge, or a momentum out of range.

    References:
      Polyak (1964), theorem 9, for momentum.
    """
    refuse_negative("diag_reg", diag_reg)
    refuse_momentum(momentum)
    values = (
        ntk_train_train if isinstance(ntk_train_train, Spectrum) else spectrum(ntk_train_train)
    ).values
    size = len(values) if y_train_size is None else y_train_size
    ridged, _ = _ridge(values, diag_reg, absolute=diag_reg_absolute_scale)
    return 2.0 * (1.0 + momentum) * size / ridged[-1]


def refuse_momentum(momentum: Any) -> None:
    """Raises ``ValueError`` where a momentum is not in ``[0, 1)``, if its value is known."""
    if not is_traced(momentum) and not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be in [0, 1); got {momentum}")


@partial(jax.jit, static_argnames="given")
def flow_response(values: Array, duration: Array, *, given: Any = None) -> Array:
    r"""Response to gradient flow, :math:`(1 - e^{-as}) / s`.

    An unresolved eigenvalue may as well be zero, and rounding would then grow with time for ever.
    Its response is first order, :math:`a`, while :math:`a \sqrt{\epsilon}\, s_{\max}` is small and
    rounding with it, and nothing later, as in a pseudo-inverse.

    Args:
      values: eigenvalues :math:`s`, the last the largest, ``[R]``.
      duration: :math:`a \ge 0`, of any shape; may be infinite.
      given: dtype that the kernel was given in, whose rounding decides what is resolved; that of
        the eigenvalues by default.

    Returns:
      Responses, ``[..., R]``.
    """
    resolved, safe, early = _unresolved(values, duration, given)
    return jnp.where(resolved, -jnp.expm1(-duration[..., None] * safe) / safe, early)


@jax.jit
def step_response(values: Array, step_size: Array, steps: Array) -> Array:
    r"""Response to gradient descent, :math:`(1 - (1 - \eta s)^k) / s`.

    Args:
      values: eigenvalues :math:`s`, the last the largest, ``[R]``.
      step_size: :math:`\eta > 0`, a scalar.
      steps: :math:`k \ge 0`, whole numbers as floats, of any shape; may be infinite.

    Returns:
      Responses, ``[..., R]``; unresolved eigenvalues as in :func:`flow_response`.
    """
    resolved, safe, early = _unresolved(values, step_size * steps)
    x, k = step_size * safe, steps[..., None]
    sign = jnp.where((x > 1.0) & (k % 2.0 == 1.0), -1.0, 1.0).astype(values.dtype)
    # Near zero the power loses what is left of 1 after it; log1p does not.
    shrunk = jnp.where(
        x < 0.5,
        -jnp.expm1(jnp.where(k == 0, 0.0, k * jnp.log1p(-jnp.minimum(x, 0.5)))),
        1.0 - sign * jnp.abs(1.0 - x) ** k,
    )
    return jnp.where(resolved, shrunk / safe, early)


@jax.jit
def momentum_response(values: Array, step_size: Array, momentum: Array, steps: Array) -> Array:
    r"""Response to gradient descent with momentum :math:`\mu` from rest, after whole steps.

    With :math:`x = \eta s`, the response is :math:`\eta d_k`, where :math:`d_0 = d_{-1} = 0` and

    .. math:: d_{k+1} = (1 + \mu - x)\, d_k - \mu\, d_{k-1} + 1,

    an affine map that is raised to the power ``k`` by squaring. That of :math:`1 - x d_k`, the part
    of the residual that is left, would lose the digits of a small :math:`x`.

    Args:
      values: eigenvalues :math:`s`, the last the largest, ``[R]``.
      step_size: :math:`\eta > 0`, a scalar.
      momentum: :math:`\mu` in ``[0, 1)``, a scalar.
      steps: :math:`k \ge 0`, whole numbers as floats, of any shape; may be infinite.

    Returns:
      Responses, ``[..., R]``; unresolved eigenvalues as in :func:`flow_response`.

    References:
      Polyak (1964), equation 9.
    """
    endless = jnp.isinf(steps)[..., None]
    whole = jnp.where(jnp.isinf(steps), 0.0, steps).astype(jnp.uint32)[..., None]
    resolved, safe, _ = _unresolved(values, step_size * steps)
    found = step_size * _descended(jnp.where(resolved, step_size * safe, 0.0), momentum, whole)
    floor = ROUNDING * float(jnp.finfo(values.dtype).eps) * values[-1]
    early = found * jnp.exp(-found * jnp.sqrt(floor * values[-1]))
    found = jnp.where(endless, 1.0 / safe, found)
    return jnp.where(resolved, found, jnp.where(endless, 0.0, early))


def _descended(x: Array, momentum: Array, steps: Array) -> Array:
    """``d_k`` of :func:`momentum_response`, for ``x`` ``[R]`` and ``steps`` ``[..., 1]``."""
    x, bits = jnp.broadcast_arrays(x, steps)
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    momentum = jnp.broadcast_to(jnp.asarray(momentum).astype(x.dtype), x.shape)

    def after(second: Any, first: Any) -> Any:
        """One affine map of ``(d_k, d_{k-1})`` after another, as ``(a, b, c, d, e, f)``."""
        a, b, c, d, e, f = second
        p, q, r, s, u, v = first
        linear = a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s
        return *linear, a * u + b * v + e, c * u + d * v + f

    def square(_: Any, state: Any) -> Any:
        total, power, left = state
        odd = left % 2 == 1
        new = after(power, total)
        total = tuple(jnp.where(odd, n, t) for n, t in zip(new, total, strict=True))
        # What is not needed any more may overflow where descent diverges.
        squared = after(power, power)
        power = tuple(jnp.where(left > 1, s, p) for s, p in zip(squared, power, strict=True))
        return total, power, left // 2

    step = (1.0 + momentum - x, -momentum, one, zero, one, zero)
    rest = (one, zero, zero, one, zero, zero)
    return jax.lax.fori_loop(0, 32, square, (rest, step, bits))[0][4]


def product(a: Array, b: Array) -> Array:
    """Matrix product in the full precision of the dtype."""
    return jnp.matmul(a, b, precision="highest")


@partial(jax.jit, static_argnames="layout")
def moved(
    layout: Layout, spectrum: Spectrum, response: Array, residual: Array, cross: Array | None
) -> Array:
    """How far outputs have moved: kernel times response times residual.

    Args:
      layout: of the outputs.
      spectrum: of the training kernel.
      response: ``[..., R]``.
      residual: targets less the outputs at the start, ``[n, O]``.
      cross: kernel of any rows with the training rows, ``[R1, R]``; None for the latter themselves.

    Returns:
      ``[..., n, O]``.
    """
    values, vectors = spectrum
    coefficients = product(vectors.T, layout.flatten(residual))
    basis = vectors * values if cross is None else product(cross, vectors)
    return layout.unflatten(product(basis, response[..., None] * coefficients))


def _unresolved(values: Array, duration: Array, given: Any = None) -> tuple[Array, Array, Array]:
    """Which eigenvalues are resolved, those with 1 for the rest, and the response of the rest."""
    floor = ROUNDING * float(jnp.finfo(given or values.dtype).eps) * values[-1]
    resolved = values > floor
    finite = jnp.where(jnp.isinf(duration), 0.0, duration)[..., None]
    early = finite * jnp.exp(-finite * jnp.sqrt(floor * values[-1]))
    return resolved, jnp.where(resolved, values, 1.0), early


def _half_precision(values: Array) -> float:
    return float(jnp.finfo(values.dtype).eps) ** 0.5


@jax.jit
def _size_and_skew(matrix: Array) -> tuple[Array, Array]:
    return jnp.abs(matrix).max(), jnp.abs(matrix - matrix.T).max()


@partial(jax.jit, static_argnames="absolute")
def _ridge(values: Array, diag_reg: Array | float, *, absolute: bool) -> tuple[Array, Array]:
    """Eigenvalues with the ridge added, and the lowest relative to the largest in magnitude."""
    ridge = jnp.asarray(diag_reg).astype(values.dtype)
    ridged = values + (ridge if absolute else ridge * values.mean())
    size = jnp.abs(ridged).max()
    return ridged, ridged[0] / jnp.where(size > 0, size, 1.0)

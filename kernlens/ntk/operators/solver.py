"""Kernel ridge regression by preconditioned conjugate gradients, with the error it stopped at."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.ntk.operators.operator import Operator, check_square, check_vector
from kernlens.types import Array


class Solve(NamedTuple):
    """How a solve ended, an entry for each right-hand side: ``[m]``, or scalars for one ``[N]``.

    Attributes:
      residual_norms: ``|b - (K + ridge I) x|``, computed from the solution itself and not carried
        along by the iteration, in the unit of ``b``.
      steps: steps taken, int32.
      converged: whether the residual norm is at most ``tolerance |b|``.
    """

    residual_norms: Array
    steps: Array
    converged: Array


class _State(NamedTuple):
    x: Array
    residual: Array
    direction: Array
    rho: Array
    going: Array
    steps: Array
    count: Array


def solve(
    operator: Operator,
    b: Array,
    *,
    ridge: float | Array,
    preconditioner: Callable[[Array], Array] | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 1000,
) -> tuple[Array, Solve]:
    r"""Solves :math:`(K + \lambda I) X = B` by preconditioned conjugate gradients.

    All right-hand sides share the products, each with its own step lengths; one that has converged
    rests. When the iteration believes that it is done, the residual is computed anew, and where
    rounding has led it astray the iteration starts again from there, as long as that halves the
    residual: iterative refinement.

    Args:
      operator: symmetric positive semi-definite, ``[N, N]``.
      b: right-hand sides, ``[N]`` or ``[N, m]``, of the dtype of the operator.
      ridge: :math:`\lambda \ge 0`, in the unit of ``K``.
      preconditioner: :math:`P^{-1}`, symmetric positive definite, on ``[N, m]``;
        of :func:`nystrom` or :func:`pivoted_cholesky`.
      tolerance: norm of the residual at which to stop, over that of ``b``. Single precision
        reaches about its epsilon times :math:`\|K\| \|x\| / \|b\|`.
      max_steps: the most steps, one product each, at least 1.

    Returns:
      The solution, of the shape of ``b``, and how the solve ended.

    Raises:
      ValueError: a rectangular operator, a negative ridge, a tolerance that is not positive, or no
        step allowed.

    References:
      Hestenes and Stiefel (1952), section 3; Golub and Van Loan (2013), algorithm 11.5.1.
    """
    check_square(operator, "solve")
    check_vector(operator, b)
    if isinstance(ridge, int | float) and not ridge >= 0:
        raise ValueError(f"ridge must be at least 0; got {ridge}")
    if isinstance(tolerance, int | float) and not tolerance > 0:
        raise ValueError(f"tolerance must be above 0; got {tolerance}")
    if isinstance(max_steps, int) and max_steps < 1:
        raise ValueError(f"max_steps must be at least 1; got {max_steps}")
    if preconditioner is not None and not isinstance(preconditioner, Partial):
        preconditioner = Partial(preconditioner)
    return _solve(operator, b, ridge, preconditioner, tolerance, max_steps)


def ridge_predict(
    operator: Operator,
    y: Array,
    x_test: Any,
    *,
    ridge: float | Array,
    preconditioner: Callable[[Array], Array] | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 1000,
) -> tuple[Array, Solve]:
    r"""Kernel ridge regression, :math:`\hat y = K_{*X} (K_{XX} + \lambda I)^{-1} y`, no intercept.

    Neither matrix is built. For a network near its initialisation pass ``y - f(params, x)`` and add
    ``f(params, x_test)`` to the predictions.

    Args:
      operator: the kernel on the training rows, of :func:`from_kernel` or :func:`from_function`.
      y: targets, ``[N]`` or ``[N, m]``; for an untraced kernel, outputs flattened in C order.
      x_test: rows to predict, of the structure of the training rows.
      ridge: :math:`\lambda \ge 0`, in the unit of ``K``; not multiplied by ``N``.
      preconditioner: as for :func:`solve`.
      tolerance: as for :func:`solve`.
      max_steps: as for :func:`solve`.

    Returns:
      Predictions, ``[N_test]`` or ``[N_test, m]``, and how the solve ended.

    Raises:
      ValueError: as :func:`solve`, or test rows unlike the training rows.

    References:
      Rasmussen and Williams (2006), equation 2.25.

    Examples:
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-3.0, 3.0, 50)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> found, info = ridge_predict(k, jnp.sin(x[:, 0]), jnp.array([[0.5], [1.0]]), ridge=1e-3)
      >>> bool(jnp.abs(found - jnp.sin(jnp.array([0.5, 1.0]))).max() < 0.01)
      True
    """
    cross = operator.at(x_test)
    weights, info = solve(
        operator,
        y,
        ridge=ridge,
        preconditioner=preconditioner,
        tolerance=tolerance,
        max_steps=max_steps,
    )
    return cross.matvec(weights), info


@jax.jit
def _solve(
    operator: Operator,
    b: Array,
    ridge: float | Array,
    preconditioner: Callable[[Array], Array] | None,
    tolerance: float,
    max_steps: int,
) -> tuple[Array, Solve]:
    columns = b.reshape(b.shape[0], -1)
    ridge = jnp.asarray(ridge, b.dtype)
    target = jnp.asarray(tolerance, b.dtype) * _norms(columns)
    precondition = (lambda v: v) if preconditioner is None else preconditioner

    def apply(v: Array) -> Array:
        return operator.matvec(v) + ridge * v

    def step(state: _State) -> _State:
        product = apply(state.direction)
        curvature = _dot(state.direction, product)
        # Curvature is lost to rounding, or K + ridge I is not positive definite: stop there.
        going = state.going & (curvature > 0)
        length = jnp.where(going, state.rho / jnp.where(going, curvature, 1.0), 0.0)
        x = state.x + length * state.direction
        residual = state.residual - length * product
        ready = precondition(residual)
        rho = _dot(residual, ready)
        turn = rho / jnp.where(going, state.rho, 1.0)
        direction = jnp.where(going, ready + turn * state.direction, state.direction)
        steps = state.steps + going.astype(jnp.int32)
        going = going & (_norms(residual) > target) & (rho > 0)
        return _State(x, residual, direction, rho, going, steps, state.count + 1)

    def run(state: _State) -> _State:
        """Conjugate gradients from the state's solution, then the residual that it truly has."""
        ready = precondition(state.residual)
        rho = _dot(state.residual, ready)
        start = state._replace(direction=ready, rho=rho, going=state.going & (rho > 0))
        end = jax.lax.while_loop(lambda s: s.going.any() & (s.count < max_steps), step, start)
        residual = columns - apply(end.x)
        before, after = _norms(state.residual), _norms(residual)
        # A round that leaves a column worse than it found it is taken back.
        better = after < before
        x = jnp.where(better, end.x, state.x)
        residual = jnp.where(better, residual, state.residual)
        going = state.going & (after > target) & (after < 0.5 * before)
        return end._replace(x=x, residual=residual, going=going)

    zeros = jnp.zeros_like(columns)
    start = _State(
        x=zeros,
        residual=columns,
        direction=zeros,
        rho=jnp.zeros_like(target),
        going=_norms(columns) > target,
        steps=jnp.zeros(target.shape, jnp.int32),
        count=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(lambda s: s.going.any() & (s.count < max_steps), run, start)
    norms = _norms(end.residual)
    info = Solve(norms, end.steps, norms <= target)
    return end.x.reshape(b.shape), jax.tree.map(lambda leaf: leaf.reshape(b.shape[1:]), info)


def _dot(a: Array, b: Array) -> Array:
    chex.assert_equal_shape([a, b])
    return jnp.sum(a * b, axis=0)


def _norms(a: Array) -> Array:
    return jnp.sqrt(_dot(a, a))

r"""Preconditioners of :math:`K + \lambda I` from a low-rank approximation of :math:`K`.

Both replace :math:`K` by :math:`U \Lambda U^\top` with orthonormal :math:`U [N, r]` and apply

.. math:: P^{-1} v = (\ell + \lambda)\, U (\Lambda + \lambda I)^{-1} U^\top v + (I - U U^\top) v,

where :math:`\ell` is the size given to what the approximation misses. The orthonormal form stays
accurate in single precision where Woodbury's, which forms :math:`I + L^\top L / \lambda`, does not.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.ntk.operators.operator import Operator, check_square
from kernlens.types import Array


def nystrom(key: Array, operator: Operator, *, rank: int, ridge: float | Array) -> Partial:
    r"""Nyström preconditioner from a random test matrix.

    :math:`K \approx (K\Omega)(\Omega^\top K \Omega)^{+}(K\Omega)^\top`, and :math:`\ell` is its
    smallest eigenvalue. Where ``rank`` is about twice the effective dimension
    :math:`\mathrm{tr}\, K (K + \lambda I)^{-1}`, the condition number is bounded by a constant.

    Args:
      key: a PRNG key.
      operator: symmetric positive semi-definite, ``[N, N]``.
      rank: columns of the test matrix, in ``1..N``; the cost is one product with as many vectors
        and ``N rank^2`` operations, the memory a few arrays ``[N, rank]``.
      ridge: :math:`\lambda > 0`.

    Returns:
      ``P^{-1}`` as a function of ``v [N]`` or ``[N, m]``, and a pytree.

    Raises:
      ValueError: a rectangular operator, a rank outside ``1..N``, or a ridge that is not positive.

    References:
      Frangella, Tropp and Udell (2021), algorithm 2.1 and equation 1.3; an eigendecomposition in
      the place of their Cholesky factor, which rounding can make fail.

    Examples:
      >>> import jax
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-1.0, 1.0, 200)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> near = nystrom(jax.random.key(0), k, rank=8, ridge=1e-3)
      >>> _, plain = operators.solve(k, jnp.ones(200), ridge=1e-3)
      >>> _, helped = operators.solve(k, jnp.ones(200), ridge=1e-3, preconditioner=near)
      >>> bool(helped.steps < plain.steps)
      True
    """
    _check(operator, rank, ridge)
    return Partial(_deflate, *_nystrom(key, operator, ridge, rank=rank))


def pivoted_cholesky(operator: Operator, *, rank: int, ridge: float | Array) -> Partial:
    r"""Preconditioner from a partial Cholesky factor with pivoting, :math:`K \approx L L^\top`.

    Each step takes the row of the largest remaining diagonal entry. Here :math:`\ell = 0`, so that
    :math:`P = (L L^\top + \lambda I) / \lambda`. When the rest is rounding error, further columns
    are zero.

    Args:
      operator: symmetric positive semi-definite, ``[N, N]``.
      rank: number of pivots, in ``1..N``; the cost is the diagonal, as many columns of ``K`` and
        ``N rank^2`` operations, the memory a few arrays ``[N, rank]``. A column of an operator
        from a function costs a product, so :func:`nystrom` is the cheaper one there.
      ridge: :math:`\lambda > 0`.

    Returns:
      ``P^{-1}`` as a function of ``v [N]`` or ``[N, m]``, and a pytree.

    Raises:
      ValueError: a rectangular operator, a rank outside ``1..N``, or a ridge that is not positive.

    References:
      Harbrecht, Peters and Schneider (2012), algorithm 1.

    Examples:
      >>> from kernlens import kernels
      >>> from kernlens.ntk import operators
      >>> x = jnp.linspace(-1.0, 1.0, 200)[:, None]
      >>> k = operators.from_kernel(kernels.rbf, x)
      >>> near = pivoted_cholesky(k, rank=8, ridge=1e-3)
      >>> _, plain = operators.solve(k, jnp.ones(200), ridge=1e-3)
      >>> _, helped = operators.solve(k, jnp.ones(200), ridge=1e-3, preconditioner=near)
      >>> bool(helped.steps < plain.steps)
      True
    """
    _check(operator, rank, ridge)
    basis, values, _ = jnp.linalg.svd(_cholesky(operator, rank=rank), full_matrices=False)
    return Partial(_deflate, basis, _weights(values**2, jnp.zeros((), values.dtype), ridge))


def _deflate(basis: Array, weights: Array, v: Array) -> Array:
    inside = jnp.matmul(basis.T, v, precision="highest")
    scaled = weights.reshape(-1, *[1] * (v.ndim - 1)) * inside
    return v + jnp.matmul(basis, scaled, precision="highest")


def _weights(values: Array, floor: Array, ridge: float | Array) -> Array:
    ridge = jnp.asarray(ridge, values.dtype)
    return (floor + ridge) / (values + ridge) - 1.0


@partial(jax.jit, static_argnames="rank")
def _nystrom(
    key: Array, operator: Operator, ridge: float | Array, *, rank: int
) -> tuple[Array, Array]:
    n, dtype = operator.shape[0], operator.dtype
    test, _ = jnp.linalg.qr(jax.random.normal(key, (n, rank), dtype))
    sketch = operator.matvec(test)
    # The shift of the reference: the approximation is that of K + shift I, the shift taken off.
    eps = jnp.finfo(dtype).eps
    shift = jnp.sqrt(jnp.asarray(n, dtype)) * eps * jnp.linalg.norm(sketch)
    sketch = sketch + shift * test
    core = jnp.matmul(test.T, sketch, precision="highest")
    values, vectors = jnp.linalg.eigh(0.5 * (core + core.T))
    kept = values > rank * eps * values[-1]
    inverse_root = jnp.where(kept, vectors / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
    basis, singular, _ = jnp.linalg.svd(
        jnp.matmul(sketch, inverse_root, precision="highest"), full_matrices=False
    )
    values = jnp.maximum(singular**2 - shift, 0.0)
    return basis, _weights(values, values[-1], ridge)


@partial(jax.jit, static_argnames="rank")
def _cholesky(operator: Operator, *, rank: int) -> Array:
    n, dtype = operator.shape[0], operator.dtype
    diagonal = operator.diagonal()
    smallest = n * jnp.finfo(dtype).eps * diagonal.max()

    def step(count: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, rest = state
        pivot = jnp.argmax(rest)
        before = jnp.matmul(factor, factor[pivot], precision="highest")
        usable = rest[pivot] > smallest
        root = jnp.sqrt(jnp.where(usable, rest[pivot], 1.0))
        column = jnp.where(usable, (operator.column(pivot) - before) / root, 0.0)
        rest = jnp.maximum(rest - column**2, 0.0).at[pivot].set(0.0)
        return factor.at[:, count].set(column), rest

    start = (jnp.zeros((n, rank), dtype), diagonal)
    return jax.lax.fori_loop(0, rank, step, start)[0]


def _check(operator: Operator, rank: int, ridge: float | Array) -> None:
    check_square(operator, "a preconditioner")
    if not 1 <= rank <= operator.shape[0]:
        raise ValueError(f"rank must lie in 1..{operator.shape[0]}, the size of K; got {rank}")
    if isinstance(ridge, int | float) and not ridge > 0:
        raise ValueError(f"a preconditioner needs a ridge above 0; got {ridge}")

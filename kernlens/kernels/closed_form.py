r"""Closed-form kernels and their algebra.

A kernel is a function ``(x1 [n1, d], x2 [n2, d]) -> K [n1, n2]``: symmetric, positive
semi-definite, and row by row, so the block of two slices is the slice of the block.
Hyperparameters bind with :func:`functools.partial`; sums and products of values,
``rbf(x1, x2) * linear(x1, x2)``, are kernels again.

Euclidean distances are summed from coordinate differences, not from the expansion
:math:`\|x\|^2 - 2\langle x, x'\rangle + \|x'\|^2`: equal rows are then at distance zero exactly,
whichever block they meet in, and near rows keep full relative accuracy, which the cusp of the
Laplace kernel needs. The kernels are compiled, which fuses the sum: no ``[n1, n2, d]`` array
exists.
"""

from functools import partial, reduce

import chex
import jax
import jax.numpy as jnp

from kernlens.arrays.rows import unit_rows
from kernlens.types import Array, Kernel


@jax.jit
def linear(x1: Array, x2: Array) -> Array:
    r"""Linear kernel, :math:`K_{ij} = \langle x_i, x'_j\rangle`.

    Args:
      x1: rows, ``[n1, d]``.
      x2: rows, ``[n2, d]``, of the same dtype.

    Returns:
      Gram block, ``[n1, n2]``.
    """
    _check_rows(x1, x2)
    return _inner(x1, x2)


@jax.jit
def cosine(x1: Array, x2: Array) -> Array:
    r"""Cosine kernel, :math:`K_{ij} = \langle x_i, x'_j\rangle / (\|x_i\| \|x'_j\|)`.

    Args:
      x1: rows, ``[n1, d]``; a zero row gives ``K = 0``, with itself too, and a finite gradient.
      x2: rows, ``[n2, d]``, of the same dtype.

    Returns:
      Gram block in ``[-1, 1]``, ``[n1, n2]``.

    References:
      Xu and Yang (2023), proposition 1, as their experiments evaluate it.
    """
    _check_rows(x1, x2)
    return _inner(unit_rows(x1), unit_rows(x2))


@jax.jit
def rbf(x1: Array, x2: Array, *, lengthscale: float | Array = 1.0) -> Array:
    r"""Gaussian kernel, :math:`K_{ij} = \exp(-\|x_i - x'_j\|^2 / 2\ell^2)`.

    Args:
      x1: rows, ``[n1, d]``.
      x2: rows, ``[n2, d]``, of the same dtype.
      lengthscale: :math:`\ell > 0` in the unit of the rows, a scalar or one per column, ``[d]``.

    Returns:
      Gram block in ``[0, 1]``, ``[n1, n2]``.

    References:
      Rasmussen and Williams (2006), equation 4.9.
    """
    _check_rows(x1, x2)
    return jnp.exp(-0.5 * _squared_distances(x1 / lengthscale, x2 / lengthscale))


@jax.jit
def laplace(x1: Array, x2: Array, *, lengthscale: float | Array = 1.0) -> Array:
    r"""Laplace kernel, :math:`K_{ij} = \exp(-\|x_i - x'_j\| / \ell)`, with the Euclidean norm.

    Args:
      x1: rows, ``[n1, d]``.
      x2: rows, ``[n2, d]``, of the same dtype.
      lengthscale: :math:`\ell > 0` in the unit of the rows, a scalar or one per column, ``[d]``.

    Returns:
      Gram block in ``[0, 1]``, ``[n1, n2]``. At equal rows, where the kernel has a cusp, the
      gradient is the zero subgradient.

    References:
      Rasmussen and Williams (2006), equation 4.18 (Matérn with :math:`\nu = 1/2`).
    """
    _check_rows(x1, x2)
    return jnp.exp(-_distances(x1 / lengthscale, x2 / lengthscale)[1])


@jax.jit
def matern52(x1: Array, x2: Array, *, lengthscale: float | Array = 1.0) -> Array:
    r"""Matérn kernel of order 5/2, :math:`K = (1 + s + s^2/3)\, e^{-s}`.

    Here :math:`s = \sqrt 5\, \|x_i - x'_j\| / \ell`.

    Args:
      x1: rows, ``[n1, d]``.
      x2: rows, ``[n2, d]``, of the same dtype.
      lengthscale: :math:`\ell > 0` in the unit of the rows, a scalar or one per column, ``[d]``.

    Returns:
      Gram block in ``[0, 1]``, ``[n1, n2]``.

    References:
      Rasmussen and Williams (2006), equation 4.17.
    """
    _check_rows(x1, x2)
    squared, distances = _distances(x1 / lengthscale, x2 / lengthscale)
    s = 5.0**0.5 * distances
    return (1.0 + s + 5.0 / 3.0 * squared) * jnp.exp(-s)


@partial(jax.jit, static_argnames="degree")
def polynomial(
    x1: Array,
    x2: Array,
    *,
    degree: int = 2,
    offset: float | Array = 1.0,
    scale: float | Array = 1.0,
) -> Array:
    r"""Polynomial kernel, :math:`K_{ij} = (a \langle x_i, x'_j\rangle + b)^q`.

    Args:
      x1: rows, ``[n1, d]``.
      x2: rows, ``[n2, d]``, of the same dtype.
      degree: :math:`q \ge 1`, an integer.
      offset: :math:`b \ge 0`; a negative one would not be positive semi-definite.
      scale: :math:`a > 0`, in one over the squared unit of the rows.

    Returns:
      Gram block, ``[n1, n2]``.

    Raises:
      ValueError: ``degree`` below 1.

    References:
      Schölkopf and Smola (2002), equation 2.4.
    """
    _check_rows(x1, x2)
    if degree < 1:
        raise ValueError(f"polynomial kernel: degree must be an integer >= 1; got {degree}")
    return (scale * _inner(x1, x2) + offset) ** degree


@partial(jax.jit, static_argnames="order")
def arc_cosine(x1: Array, x2: Array, *, order: int) -> Array:
    r"""Arc-cosine kernel, :math:`K = \frac1\pi \|x\|^q \|x'\|^q J_q(\theta)`.

    :math:`\theta` is the angle between the rows, :math:`J_0 = \pi - \theta` and
    :math:`J_1 = \sin\theta + (\pi - \theta)\cos\theta`. This is Cho and Saul's normalisation,
    with which :math:`K(x, x) = \|x\|^{2q}`: twice the expected product of two step (order 0) or
    rectified linear (order 1) units with standard normal weights.

    The angle is :math:`2\,\mathrm{atan2}(\|u - u'\|, \|u + u'\|)` of the unit rows, accurate near
    0 and :math:`\pi` where the arc cosine of an inner product is not.

    Args:
      x1: rows, ``[n1, d]``. A zero row has no direction and counts as orthogonal to all others:
        ``K = 1/2`` with them and ``1`` with a zero row for order 0, ``K = 0`` for order 1.
      x2: rows, ``[n2, d]``, of the same dtype.
      order: :math:`q`, 0 or 1.

    Returns:
      Gram block, ``[n1, n2]``. At equal and opposite directions, where order 0 has a cusp, the
      gradient is the zero subgradient.

    Raises:
      ValueError: another order.

    References:
      Cho and Saul (2009), equations 3 and 4.
    """
    _check_rows(x1, x2)
    if order not in (0, 1):
        raise ValueError(f"arc-cosine kernel: order must be 0 or 1; got {order}")
    u1, u2 = unit_rows(x1), unit_rows(x2)
    (apart_squared, apart), (across_squared, across) = _distances(u1, u2), _distances(u1, -u2)
    both_zero = (apart == 0) & (across == 0)
    theta = 2.0 * jnp.arctan2(apart, jnp.where(both_zero, 1.0, across))
    if order == 0:
        return 1.0 - theta / jnp.pi
    # sin and cos of the angle from the half-angle formulas, without evaluating either.
    sin, cos = 0.5 * apart * across, 0.25 * (across_squared - apart_squared)
    lengths = _norms(x1)[:, None] * _norms(x2)[None, :]
    return lengths * (sin + (jnp.pi - theta) * cos) / jnp.pi


@jax.jit
def label(codes1: Array, codes2: Array) -> Array:
    r"""Label kernel, :math:`K_{ij} = 1[y_i = y'_j]`, on class codes rather than on embeddings.

    A row without a label (code below 0) equals nothing, itself included, so its row of the Gram
    is zero and the kernel stays positive semi-definite.

    Args:
      codes1: class codes, integers ``[n1]``; ``-1`` for none.
      codes2: class codes, integers ``[n2]``, of the same dtype.

    Returns:
      Gram block of zeros and ones in the default float dtype, ``[n1, n2]``.

    References:
      Xu and Yang (2023), proposition 1.

    Examples:
      >>> label(jnp.array([0, 1, -1]), jnp.array([1, -1])).tolist()
      [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    chex.assert_rank([codes1, codes2], 1)
    chex.assert_type([codes1, codes2], int)
    same = (codes1[:, None] == codes2[None, :]) & (codes1[:, None] >= 0)
    return same.astype(jnp.result_type(float))


def scale(kernel: Kernel, c: float | Array) -> Kernel:
    """The kernel times a constant ``c >= 0``.

    Raises:
      ValueError: ``c`` a negative Python number.
    """
    if isinstance(c, int | float) and c < 0:
        raise ValueError(f"a kernel may only be scaled by a number of at least 0; got {c}")
    return lambda x1, x2: c * kernel(x1, x2)


def add(*kernels: Kernel) -> Kernel:
    """The sum of one or more kernels: their features side by side."""
    _check_any(kernels, "add")
    return lambda x1, x2: reduce(jnp.add, [kernel(x1, x2) for kernel in kernels])


def multiply(*kernels: Kernel) -> Kernel:
    """The elementwise product of one or more kernels: the tensor product of their features."""
    _check_any(kernels, "multiply")
    return lambda x1, x2: reduce(jnp.multiply, [kernel(x1, x2) for kernel in kernels])


def normalise(kernel: Kernel) -> Kernel:
    r"""The kernel with unit diagonal, :math:`k(x, x') / \sqrt{k(x, x)\, k(x', x')}`.

    A row with ``k(x, x) = 0`` keeps ``K = 0``.
    """

    def normalised(x1: Array, x2: Array) -> Array:
        return (
            _inverse_sqrt(diagonal(kernel, x1))[:, None]
            * kernel(x1, x2)
            * _inverse_sqrt(diagonal(kernel, x2))[None, :]
        )

    return normalised


def centre(kernel: Kernel, reference_rows: Array) -> Kernel:
    r"""The kernel of features whose mean over the reference rows :math:`r` is taken off.

    .. math:: k_c(x, x') = k(x, x') - \bar k(x, r) - \bar k(r, x') + \bar k(r, r)

    The reference is fixed, so blocks stay slices. Memory is ``[n1, m]`` and ``[m, m]`` for ``m``
    reference rows, built anew on each call.

    Args:
      kernel: the kernel to centre.
      reference_rows: rows over which the features have mean zero afterwards, ``[m, d]``.

    Returns:
      The centred kernel; its Gram on the reference rows is :func:`centre_gram` of the Gram.

    References:
      Schölkopf, Smola and Müller (1998), appendix B.

    Examples:
      >>> rows = jnp.array([[1.0], [3.0]])
      >>> centre(linear, rows)(rows, rows).tolist()
      [[1.0, -1.0], [-1.0, 1.0]]
    """

    def centred(x1: Array, x2: Array) -> Array:
        rows = kernel(x1, reference_rows).mean(axis=1)
        columns = kernel(reference_rows, x2).mean(axis=0)
        level = kernel(reference_rows, reference_rows).mean()
        return kernel(x1, x2) - rows[:, None] - columns[None, :] + level

    return centred


@jax.jit
def centre_gram(gram: Array) -> Array:
    r"""Doubly centred Gram matrix, :math:`HKH` with :math:`H = I - \mathbf 1 \mathbf 1^\top / n`.

    Args:
      gram: symmetric Gram matrix, ``[n, n]``.

    Returns:
      Matrix with zero row and column means, ``[n, n]``.

    References:
      Cortes, Mohri and Rostamizadeh (2012), lemma 1.

    Examples:
      >>> centre_gram(jnp.array([[4.0, 2.0], [2.0, 2.0]])).tolist()
      [[0.5, -0.5], [-0.5, 0.5]]
    """
    chex.assert_rank(gram, 2)
    chex.assert_equal(gram.shape[0], gram.shape[1])
    gram = gram - gram.mean(axis=0)[None, :]
    return gram - gram.mean(axis=1)[:, None]


def diagonal(kernel: Kernel, x: Array) -> Array:
    """``k(x_i, x_i)`` for each row, ``[n]``, from blocks of one row: no ``[n, n]`` array."""

    def at(row: Array) -> Array:
        block = row[None]
        return kernel(block, block)[0, 0]

    return jax.vmap(at)(x)


KERNELS: dict[str, Kernel] = {
    "linear": linear,
    "cosine": cosine,
    "rbf": rbf,
    "laplace": laplace,
    "matern52": matern52,
    "polynomial": polynomial,
    "arc_cosine0": partial(arc_cosine, order=0),
    "arc_cosine1": partial(arc_cosine, order=1),
}
"""Kernels of embeddings by name, with their default hyperparameters."""


def _check_rows(x1: Array, x2: Array) -> None:
    chex.assert_rank([x1, x2], 2)
    chex.assert_equal_shape_suffix([x1, x2], 1)


def _check_any(kernels: tuple[Kernel, ...], name: str) -> None:
    if not kernels:
        raise ValueError(f"{name} needs at least one kernel; got none")


def _inner(x1: Array, x2: Array) -> Array:
    return jnp.matmul(x1, x2.T, precision="highest")


@jax.custom_jvp
def _squared_distances(x1: Array, x2: Array) -> Array:
    return jnp.sum((x1[:, None, :] - x2[None, :, :]) ** 2, axis=-1)


@_squared_distances.defjvp
def _squared_distances_jvp(primals, tangents):
    # By matrix products: differentiating the sum itself in reverse mode would store [n1, n2, d].
    # The shift leaves the derivative as it is and keeps a large common mean from cancelling.
    (x1, x2), (t1, t2) = primals, tangents
    shift = jax.lax.stop_gradient(x2.mean(axis=0))
    z1, z2 = x1 - shift, x2 - shift
    along1 = jnp.sum(z1 * t1, axis=1)[:, None] - _inner(t1, z2)
    along2 = jnp.sum(z2 * t2, axis=1)[None, :] - _inner(z1, t2)
    return _squared_distances(x1, x2), 2.0 * (along1 + along2)


def _distances(x1: Array, x2: Array) -> tuple[Array, Array]:
    """Squared distances and distances, of gradient zero where rows are equal but for rounding.

    Compiled, a row can lie a last bit from itself: a product may be rounded on one side of the
    difference and not on the other. Its distance would then have the gradient of that noise.
    """
    squared = _squared_distances(x1, x2)
    sizes = jnp.sum(x1**2, axis=1)[:, None] + jnp.sum(x2**2, axis=1)[None, :]
    same = squared <= (4.0 * jnp.finfo(squared.dtype).eps) ** 2 * sizes
    return squared, _sqrt(jnp.where(same, jax.lax.stop_gradient(squared), squared))


def _sqrt(squared: Array) -> Array:
    zero = squared <= 0  # false of NaN, which is handed on
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def _inverse_sqrt(squared: Array) -> Array:
    zero = squared <= 0
    return jnp.where(zero, 0.0, 1.0 / jnp.sqrt(jnp.where(zero, 1.0, squared)))


def _norms(x: Array) -> Array:
    return _sqrt(jnp.sum(x**2, axis=1))

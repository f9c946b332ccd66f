"""A function's linearisation about its parameters, and the kernel's products with vectors."""

from collections.abc import Callable, Sequence
from functools import partial
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from kernlens.ntk import checks
from kernlens.ntk.models import flatten
from kernlens.ntk.precision import HIGHEST
from kernlens.ntk.structured import OutputAxes
from kernlens.types import ApplyFn, Array, Params


def linearize(f: ApplyFn, params: Params) -> ApplyFn:
    r"""First-order expansion, :math:`f_{lin}(\theta, x) = f(\theta_0, x) + J(\theta - \theta_0)`.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``, any pytree.
      params: :math:`\theta_0`, the point of expansion.

    Returns:
      ``f_lin(params, x, **kwargs)``, affine in ``params``, equal to ``f`` with its gradient there.

    Raises:
      ValueError: as :func:`taylor_expand`.

    References:
      Lee et al. (2019), equation 4.
    """
    return taylor_expand(f, params, 1)


def taylor_expand(f: ApplyFn, params: Params, degree: int) -> ApplyFn:
    """Expansion of ``f(params, x)`` in the parameters, to any degree.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``, any pytree.
      params: the point of expansion.
      degree: highest order kept, at least 0.

    Returns:
      ``f_tayl(params, x, **kwargs)``.

    Raises:
      ValueError: a negative degree, or a point of expansion that is not finite; when the expansion
        is called, inputs that are not finite.
    """
    if degree < 0:
        raise ValueError(f"the degree of an expansion must be 0 or more; got {degree}")
    checks.check_params(params)

    def expanded(new: Params, x: Any, **kwargs: Any) -> Any:
        checks.check_inputs(x, "x")
        step = jax.tree.map(jnp.subtract, new, params)

        def derivative(g: Callable[[Params], Any]) -> Callable[[Params], Any]:
            return lambda p: jax.jvp(g, (p,), (step,))[1]

        term: Callable[[Params], Any] = partial(_at, f, x, kwargs)
        total = term(params)
        for order in range(1, degree + 1):
            term = derivative(term)
            share = 1.0 / factorial(order)
            add = partial(_add_share, share)
            total = jax.tree.map(add, total, term(params))
        return total

    return expanded


def _at(f: ApplyFn, x: Any, kwargs: dict[str, Any], params: Params) -> Any:
    return f(params, x, **kwargs)


def _add_share(share: float, total: Array, term: Array) -> Array:
    return total + jnp.asarray(share, term.dtype) * term


def empirical_ntk_vp_fn(
    f: ApplyFn, x1: Any, x2: Any | None, params: Params, **kwargs: Any
) -> Callable[[Any], Any]:
    r"""The kernel times a vector, :math:`v \mapsto J(x_1) J(x_2)^\top v`, without the kernel.

    One backward pass over ``x2`` and one forward-mode pass over ``x1``. The kernel here is the
    full one; nothing is traced, and nothing divided.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``, any pytree.
      x1: inputs of the rows.
      x2: inputs of the columns; None for those of the rows.
      params: parameters.
      **kwargs: passed to ``f``.

    Returns:
      A function from cotangents shaped like ``f(params, x2)`` to values shaped like
      ``f(params, x1)``. Complex parameters and outputs count as their real and imaginary parts.

    Raises:
      ValueError: parameters or inputs that are not finite.

    References:
      Novak, Sohl-Dickstein and Schoenholz (2022), section 3.2.

    Examples:
      >>> rows, slope = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.ones((2, 1))
      >>> product = empirical_ntk_vp_fn(lambda w, x: x @ w, rows, None, slope)
      >>> product(jnp.ones((2, 1))).tolist()  # [[5, 3], [3, 9]] times ones
      [[8.0], [12.0]]
    """
    for x, name in ((x1, "x1"), (x2, "x2")):
        checks.check_inputs(x, name)
    checks.check_params(params)
    columns = x1 if x2 is None else x2
    flat = flatten(params)

    def product(cotangents: Any) -> Any:
        _, pullback = jax.vjp(lambda p: f(flat.restore(p), columns, **kwargs), flat.leaves)
        # The transpose of real and imaginary parts; that of jax is of complex multiplication.
        tangents = pullback(jax.tree.map(jnp.conj, cotangents))
        return jax.jvp(lambda p: f(flat.restore(p), x1, **kwargs), (flat.leaves,), tangents)[1]

    return product


def kernel(
    models: tuple[tuple[ClosedJaxpr, Sequence[Array]], tuple[ClosedJaxpr, Sequence[Array]]],
    selected: Sequence[int],
    axes: OutputAxes,
    x1: Sequence[Array],
    x2: Sequence[Array],
    *,
    block_size: int,
) -> Array:
    """The kernel, column by column, by products with unit vectors.

    Args:
      models: for either side, the jaxpr of one example's output and the parameters.
      selected: leaves that the kernel is about.
      axes: the output's axes.
      x1: flat inputs of ``n1`` examples.
      x2: flat inputs of ``n2`` examples.
      block_size: columns at a time.

    Returns:
      The kernel, ``[n1, n2, *axes.kernel_shape]``.
    """
    (closed1, leaves1), (closed2, leaves2) = models

    def outputs(closed: ClosedJaxpr, leaves: Sequence[Array], chosen: list[Array], x: Any) -> Array:
        args = list(leaves)
        for index, value in zip(selected, chosen, strict=True):
            args[index] = value
        (out,) = jaxpr_as_fun(closed)(*args, *x)
        return out.reshape(-1)

    point1, point2 = ([leaves[i] for i in selected] for leaves in (leaves1, leaves2))
    rows1, rows2 = ([leaf[:, None] for leaf in x] for x in (x1, x2))
    _, push = jax.linearize(
        lambda p: jax.vmap(lambda x: outputs(closed1, leaves1, p, x))(rows1), point1
    )

    def column(x: list[Array]) -> Array:
        out, pullback = jax.vjp(lambda p: outputs(closed2, leaves2, p, x), point2)
        (tangents,) = jax.vmap(pullback)(jnp.eye(out.size, dtype=out.dtype))
        block = jax.vmap(push)(tangents)
        # Outputs of x2 and of x1, each as [traced, diagonal, full].
        pairs = jnp.moveaxis(axes.arrange(block), -1, 0)
        pairs = jnp.moveaxis(axes.arrange(pairs), -1, 0)
        return jnp.einsum("itdftdg->idfg", pairs, precision=HIGHEST)

    values = jax.lax.map(column, rows2, batch_size=min(block_size, x2[0].shape[0]))
    return axes.interleave(values.swapaxes(0, 1)) / axes.size(axes.traced)

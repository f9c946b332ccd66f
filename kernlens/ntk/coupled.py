"""The tangent kernel of a function whose examples see each other, such as batch norm in training.

An output then has a gradient that depends on the whole batch, so there is no kernel of two examples
alone: the entries are those of the batches as they are given.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import checks, memory, models
from kernlens.ntk.axes import Axes, output_axes
from kernlens.ntk.models import PathFilter
from kernlens.ntk.precision import HIGHEST, wide_dtype, widen
from kernlens.types import ApplyFn, Array, Params


def coupled_ntk_fn(
    f: ApplyFn,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    params_filter: PathFilter | None = None,
) -> Callable[..., Any]:
    r"""The kernel :math:`J(x_1) J(x_2)^\top` of Jacobians of whole batches.

    Time and memory are those of the Jacobians, ``n * outputs * parameters`` numbers: for small
    ``n``.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``, a batch axis first on ``x`` and on every output.
      trace_axes: as for :func:`~kernlens.ntk.empirical_ntk_fn`.
      diagonal_axes: likewise.
      params_filter: likewise.

    Returns:
      ``kernel_fn(x1, x2, params, **kwargs)``, with the axes of
      :func:`~kernlens.ntk.empirical_ntk_fn`.

    Raises:
      ValueError: as there, where it holds of such functions; Jacobians that would not fit in
        memory.
    """

    def kernel_fn(x1: Any, x2: Any, params: Params, **kwargs: Any) -> Any:
        checks.check_params(params)
        bound = partial(f, **kwargs)
        flat = models.flatten(params)
        kept = models.select(flat, params_filter)
        for x, name in ((x1, "x1"), (x2, "x2")):
            if x is not None:
                checks.check_inputs(x, name)
                _check(bound, params, x, name, sum(jnp.size(flat.leaves[i]) for i in kept))
        first = _jacobians(bound, flat, kept, x1)
        second = first if x2 is None else _jacobians(bound, flat, kept, x2)
        return jax.tree.map(partial(_product, trace_axes, diagonal_axes), first, second)

    return kernel_fn


def _check(f: ApplyFn, params: Params, x: Any, name: str, size: int) -> None:
    n = checks.count(x, name)
    _, out = checks.outline(f, params, x, name)
    for leaf in jax.tree.leaves(out):
        checks.check_output(leaf, n, name)
        memory.check_fits(
            f"the Jacobian of f({name})",
            (leaf.size, size),
            wide_dtype(leaf.dtype).itemsize,
            "take fewer examples, or a function that is not coupled",
        )


def _jacobians(f: ApplyFn, flat: models.Flat, kept: list[int], x: Any) -> Any:
    """Jacobians ``[n, *outputs, parameters]``, in the structure of the outputs."""

    @jax.jit
    def jacobian(leaves: list[Array]) -> Any:
        def outputs(chosen: list[Array]) -> Any:
            own = list(leaves)
            for index, value in zip(kept, chosen, strict=True):
                own[index] = value
            return jax.tree.map(widen, f(flat.restore(own), x))

        found = jax.jacrev(outputs)([leaves[i] for i in kept])
        shapes = jax.eval_shape(outputs, [leaves[i] for i in kept])

        def joined(shape: Any, parts: list[Array]) -> Array:
            return jnp.concatenate([widen(p).reshape(*shape.shape, -1) for p in parts], axis=-1)

        return jax.tree.map(joined, shapes, found)

    return jacobian([jnp.asarray(leaf) for leaf in flat.leaves])


def _product(trace_axes: Axes, diagonal_axes: Axes, j1: Array, j2: Array) -> Array:
    axes, batch = output_axes(trace_axes, diagonal_axes, j1.shape[1:-1], j2.shape[1:-1])
    # [traced, diagonal, full, n, parameters]
    rows1, rows2 = (
        axes.arrange(jnp.moveaxis(j.reshape(j.shape[0], -1, j.shape[-1]), 0, 1)) for j in (j1, j2)
    )
    scale = axes.size(axes.traced)
    if batch == "pairs":
        k = jnp.einsum("tdfip,tdgjp->ijdfg", rows1, rows2, precision=HIGHEST)
        return axes.interleave(k) / scale
    if j1.shape[0] != j2.shape[0]:
        raise ValueError(
            f"a diagonal over the batch needs n1 = n2; got {j1.shape[0]} and {j2.shape[0]}"
        )
    k = jnp.einsum("tdfip,tdgip->idfg", rows1, rows2, precision=HIGHEST)
    k = axes.interleave(k[None])[0] / scale
    return jnp.mean(k, axis=0) if batch == "mean" else k

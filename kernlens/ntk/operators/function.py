r"""The empirical neural tangent kernel as a linear operator, by products with the Jacobian.

With :math:`J = \partial f(X) / \partial\theta`, :math:`K v = J (J^\top v)` is one vector-Jacobian
and one Jacobian-vector product: no Jacobian and no kernel value exists.
"""

import dataclasses
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from kernlens.ntk import checks, models, trials
from kernlens.ntk.operators.operator import (
    Operator,
    as_rows,
    check_block_size,
    check_square,
    check_vector,
    num_rows,
    tiles,
    zero_tiles,
)
from kernlens.ntk.precision import wide_dtype, widen
from kernlens.types import ApplyFn, Array, Params


def from_function(
    f: ApplyFn,
    params: Params,
    x1: Any,
    x2: Any = None,
    *,
    trace_axes: tuple[int, ...] = (-1,),
    block_size: int = 128,
    vectors_at_once: int = 8,
) -> Operator:
    r"""The empirical NTK of ``f`` as an operator.

    .. math:: K_{(ir)(js)} = \frac1T \sum_{t=1}^T
        \langle \partial_\theta f_{irt}(x_1), \partial_\theta f_{jst}(x_2)\rangle

    with :math:`t` over the traced axes and :math:`r, s` over the other output axes. ``N1`` is
    ``n1`` times the size of the latter, ``v`` the C-order flattening of ``[n, r]``.

    A product of ``m`` vectors takes ``m T`` vector-Jacobian and ``m T`` Jacobian-vector products
    over all rows: the trace does not commute with the square, so each traced output needs its own
    gradient. Those that run side by side share their two forward passes. Untraced, ``T = 1``,
    whatever the number of outputs. Memory is ``vectors_at_once`` times the parameters, and the
    activations of as many times ``block_size`` rows.

    Args:
      f: ``f(params, x) -> [n, ...]`` floats, each row of the output of its own row of ``x``.
      params: pytree of arrays of floats; a complex one counts as its real and imaginary parts.
      x1: rows, a pytree of arrays with a common leading axis.
      x2: rows of the columns; None for the symmetric kernel.
      trace_axes: output axes to trace over, the batch axis 0 not among them; ``()`` for the full
        kernel. The trace is divided by its size.
      block_size: rows of a block, at least 1.
      vectors_at_once: products that run side by side, at least 1.

    Returns:
      An operator of shape ``(N1, N2)``, of the dtype of the outputs, float32 at least; gradients
      are summed over rows in that dtype, but ``f`` computes them in its own.

    Raises:
      ValueError: no rows, a traced axis that is not an output axis, outputs or parameters that are
        not floats, parameters or rows that are not finite, a function without a gradient, or one
        whose outputs depend on other rows of the batch.

    Warns:
      UserWarning: running statistics (``batch_stats``) among the parameters.

    References:
      Jacot, Gabriel and Hongler (2018), section 4; Novak, Sohl-Dickstein and Schoenholz (2022),
      section 3.2, for the products.
    """
    check_block_size(block_size)
    if vectors_at_once < 1:
        raise ValueError(f"vectors_at_once must be at least 1; got {vectors_at_once}")
    x1 = as_rows(x1, "x1")
    x2 = None if x2 is None else as_rows(x2, "x2")
    for x, name in ((x1, "x1"), (x2, "x2")):
        checks.check_inputs(x, name)
    params = _checked_params(params)
    out = _output(f, params, x1)
    axes = _axes(trace_axes, out)
    wide = prod(size for axis, size in enumerate(out.shape) if axis not in (0, *axes))
    shape = (num_rows(x1) * wide, num_rows(x1 if x2 is None else x2) * wide)
    return _FunctionOperator(
        f if isinstance(f, Partial) else Partial(f),
        params,
        x1,
        x2,
        shape=shape,
        dtype=wide_dtype(out.dtype),
        trace_axes=axes,
        traced=prod(out.shape[axis] for axis in axes),
        block_size=block_size,
        vectors_at_once=vectors_at_once,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _FunctionOperator:
    f: Partial
    params: Params
    x1: Any
    x2: Any
    shape: tuple[int, int] = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(metadata={"static": True})
    trace_axes: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    traced: int = dataclasses.field(metadata={"static": True})
    block_size: int = dataclasses.field(metadata={"static": True})
    vectors_at_once: int = dataclasses.field(metadata={"static": True})

    @jax.jit
    def matvec(self, v: Array) -> Array:
        check_vector(self, v)
        x2 = self.x1 if self.x2 is None else self.x2
        vectors = jnp.moveaxis(v.reshape(num_rows(x2), -1, *v.shape[1:]), 1, -1)
        vectors = vectors.reshape(num_rows(x2), -1, vectors.shape[-1]).swapaxes(0, 1)
        # One unit for each vector and traced output, in equal chunks; the padding weighs nothing.
        units = vectors.shape[0] * self.traced
        chunks = -(-units // self.vectors_at_once)
        size = -(-units // chunks)
        vector, output = np.divmod(np.arange(chunks * size), self.traced)
        weights = np.where(vector < vectors.shape[0], 1.0 / self.traced, 0.0)
        vector = np.minimum(vector, vectors.shape[0] - 1)

        def step(total: Array, chunk: tuple[Array, Array, Array]) -> tuple[Array, None]:
            vector, output, weight = chunk
            products = jax.vmap(self._product)(vectors[vector], output)
            return total.at[vector].add(weight[:, None] * products), None

        plan = (jnp.asarray(vector), jnp.asarray(output), jnp.asarray(weights, self.dtype))
        plan = jax.tree.map(lambda leaf: leaf.reshape(chunks, size), plan)
        start = jnp.zeros((vectors.shape[0], self.shape[0]), self.dtype)
        total, _ = jax.lax.scan(step, start, plan)
        return total.T.reshape(-1, *v.shape[1:])

    @jax.jit
    def column(self, index: Array) -> Array:
        one = (jnp.arange(self.shape[1]) == index).astype(self.dtype)
        return self.matvec(one)

    @jax.jit
    def diagonal(self) -> Array:
        check_square(self, "the diagonal")
        n = num_rows(self.x1)
        outputs = self.shape[0] // n * self.traced
        flat = models.flatten(self.params)

        def squared_norm(unit: Array) -> Array:
            row = jax.tree.map(lambda leaf: leaf[unit // outputs][None], self.x1)
            gradient = jax.grad(
                lambda leaves: self._outputs(flat.restore(leaves), row).reshape(-1)[unit % outputs]
            )
            squares = [jnp.sum(widen(leaf) ** 2) for leaf in gradient(flat.leaves)]
            return sum(square.astype(self.dtype) for square in squares)  # pyright: ignore

        units = jnp.arange(n * outputs)
        norms = jax.lax.map(squared_norm, units, batch_size=self.vectors_at_once)
        return norms.reshape(-1, self.traced).mean(axis=1)

    def at(self, x: Any) -> Operator:
        return from_function(
            self.f,
            self.params,
            x,
            self.x1 if self.x2 is None else self.x2,
            trace_axes=self.trace_axes,
            block_size=self.block_size,
            vectors_at_once=self.vectors_at_once,
        )

    def _outputs(self, params: Params, x: Any) -> Array:
        """Outputs with the traced axes as the last one, ``[n, r, t]``."""
        out = self.f(params, x)
        last = range(out.ndim - len(self.trace_axes), out.ndim)
        return jnp.moveaxis(out, self.trace_axes, tuple(last)).reshape(
            out.shape[0], -1, self.traced
        )

    def _product(self, vector: Array, output: Array) -> Array:
        """``J_t (J_t' v)`` for one traced output, from ``vector [n2, r]`` to ``[N1]``."""
        tiles1 = tiles(self.x1, self.block_size)
        tiles2 = tiles1 if self.x2 is None else tiles(self.x2, self.block_size)
        flat = models.flatten(self.params)

        def outputs(leaves: list[Array], x: Any) -> Array:
            return self._outputs(flat.restore(leaves), x)[..., output]

        def pull(gradient: list[Array], block: tuple[Any, Array]) -> tuple[list[Array], None]:
            x, part = block
            out, vjp = jax.vjp(lambda leaves: outputs(leaves, x), flat.leaves)
            (own,) = vjp(part.astype(out.dtype))
            return [total + widen(leaf) for total, leaf in zip(gradient, own, strict=True)], None

        def push(x: Any) -> Array:
            tangents = [g.astype(leaf.dtype) for g, leaf in zip(gradient, flat.leaves, strict=True)]
            return widen(jax.jvp(lambda leaves: outputs(leaves, x), (flat.leaves,), (tangents,))[1])

        start = [jnp.zeros_like(widen(leaf)) for leaf in flat.leaves]
        gradient, _ = jax.lax.scan(pull, start, (tiles2, zero_tiles(vector, self.block_size)))
        return jax.lax.map(push, tiles1).reshape(-1)[: self.shape[0]]


def _checked_params(params: Params) -> Params:
    params = jax.tree.map(jnp.asarray, params)
    for path, leaf in models.named_leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"parameter {'/'.join(path)} is {leaf.dtype}; expected floats: bind what is not "
                "trained with functools.partial"
            )
    checks.check_params(params)
    checks.warn_of_statistics(params, None)
    return params


def _output(f: ApplyFn, params: Params, x: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of the outputs of a batch of which all is well."""
    closed, out = checks.outline(f, params, x, "x1")
    checks.check_output(out, num_rows(x), "x1")
    trials.check_function(f, closed, params, x, "x1")
    return out


def _axes(trace_axes: tuple[int, ...], out: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    rank = len(out.shape)
    axes = tuple(sorted(axis + rank if axis < 0 else axis for axis in trace_axes))
    if len(set(axes)) < len(axes) or any(not 1 <= axis < rank for axis in axes):
        raise ValueError(
            f"trace_axes {trace_axes} must be distinct output axes, 1..{rank - 1} for outputs of "
            f"shape [n, {', '.join(map(str, out.shape[1:]))}]; () traces over none"
        )
    return axes

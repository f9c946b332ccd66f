"""Parts of a tangent kernel: diagonal, trace, norms, layers, the summed outputs, rows by device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernlens.ntk import checks, models
from kernlens.ntk.empirical import empirical_ntk_fn
from kernlens.ntk.methods import MethodName
from kernlens.ntk.models import PathFilter
from kernlens.types import ApplyFn, Array, Params


def diagonal_fn(
    f: ApplyFn, *, method: MethodName = "auto", params_filter: PathFilter | None = None
) -> Callable[..., Array]:
    r"""The kernel's diagonal, :math:`\frac1{|O|}\sum_o \|\nabla f_o(x_i)\|^2`, without the rest.

    Args:
      f: as for :func:`~kernlens.ntk.empirical_ntk_fn`, with at least one output axis.
      method: likewise.
      params_filter: likewise.

    Returns:
      ``(x, params, **kwargs) -> [n]``.
    """
    kernel_fn = empirical_ntk_fn(_flat(f), (-1,), (0,), None, method, params_filter)
    return lambda x, params, **kwargs: kernel_fn(x, None, params, **kwargs)


def trace_fn(
    f: ApplyFn, *, method: MethodName = "auto", params_filter: PathFilter | None = None
) -> Callable[..., Array]:
    """The kernel's trace over examples, outputs averaged, without the kernel.

    Args:
      f: as for :func:`diagonal_fn`.
      method: likewise.
      params_filter: likewise.

    Returns:
      ``(x, params, **kwargs) -> scalar``.

    Examples:
      >>> rows, slope = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.ones((2, 1))
      >>> float(trace_fn(lambda w, x: x @ w)(rows, slope))
      14.0
    """
    diagonal = diagonal_fn(f, method=method, params_filter=params_filter)
    return lambda x, params, **kwargs: jnp.sum(diagonal(x, params, **kwargs))


def gradient_norms_fn(
    f: ApplyFn, *, method: MethodName = "auto", params_filter: PathFilter | None = None
) -> Callable[..., Array]:
    r"""Norm of each example's gradient, :math:`\sqrt{\sum_o \|\nabla f_o(x_i)\|^2}`.

    For a per-example loss ``f(params, (x, y)) -> [n]`` this is what clipping and influence need.

    Args:
      f: as for :func:`diagonal_fn`; outputs ``[n]`` too.
      method: likewise.
      params_filter: likewise.

    Returns:
      ``(x, params, **kwargs) -> [n]``.

    Examples:
      >>> rows, slope = jnp.array([[3.0, 4.0], [0.0, 2.0]]), jnp.ones((2, 1))
      >>> gradient_norms_fn(lambda w, x: x @ w)(rows, slope).tolist()
      [5.0, 2.0]
    """
    diagonal = diagonal_fn(f, method=method, params_filter=params_filter)

    def norms(x: Any, params: Params, **kwargs: Any) -> Array:
        outputs = _num_outputs(f, params, x, kwargs)
        return jnp.sqrt(outputs * diagonal(x, params, **kwargs))

    return norms


def _flat(f: ApplyFn) -> ApplyFn:
    """The function with all its output axes as one."""

    def flat(params: Params, x: Any, **kwargs: Any) -> Array:
        out = f(params, x, **kwargs)
        return out.reshape(out.shape[0], -1)

    return flat


def _num_outputs(f: ApplyFn, params: Params, x: Any, kwargs: dict[str, Any]) -> int:
    return jax.eval_shape(lambda p, rows: _flat(f)(p, rows, **kwargs), params, x).shape[1]


def pntk_fn(
    f: ApplyFn, *, method: MethodName = "auto", params_filter: PathFilter | None = None
) -> Callable[..., Array]:
    r"""The pseudo-NTK: the kernel of the sum of outputs over :math:`\sqrt{|O|}`.

    It is one backward pass an example, whatever the number of outputs, and approaches the traced
    kernel with the width.

    Args:
      f: as for :func:`~kernlens.ntk.empirical_ntk_fn`.
      method: likewise.
      params_filter: likewise.

    Returns:
      ``(x1, x2, params, **kwargs) -> [n1, n2]``.

    References:
      Mohamadi, Bae and Sutherland (2023), equation 3 (arXiv 2206.12543).

    Examples:
      >>> rows, weights = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.ones((2, 3))
      >>> pntk_fn(lambda w, x: x @ w)(rows, rows, weights).tolist()
      [[5.0, 3.0], [3.0, 9.0]]
    """

    def summed(params: Params, x: Any, **kwargs: Any) -> Array:
        return jnp.sum(_flat(f)(params, x, **kwargs), axis=-1)

    kernel_fn = empirical_ntk_fn(summed, (), (), None, method, params_filter)

    def mean(x1: Any, x2: Any, params: Params, **kwargs: Any) -> Array:
        return kernel_fn(x1, x2, params, **kwargs) / _num_outputs(f, params, x1, kwargs)

    return mean


def layer_ntk_fns(
    f: ApplyFn,
    params: Params,
    *,
    layer: Callable[[tuple[str, ...]], Any] = lambda path: path[:-1],
    **options: Any,
) -> dict[Any, Callable[..., Any]]:
    """One tangent kernel for each layer; they sum to the whole.

    Args:
      f: as for :func:`~kernlens.ntk.empirical_ntk_fn`.
      params: parameters, for their paths.
      layer: which layer a leaf belongs to, by its path; by default all but the last key, which
        puts a weight and its bias together.
      **options: other arguments of :func:`~kernlens.ntk.empirical_ntk_fn`.

    Returns:
      ``kernel_fn(x1, x2, params)`` by layer, in the order of the parameters.

    Examples:
      >>> params = {"first": {"w": jnp.ones((2, 1))}, "last": {"w": jnp.ones((1, 1))}}
      >>> def f(params, x):
      ...     return x @ params["first"]["w"] @ params["last"]["w"]
      >>> rows = jnp.array([[1.0, 2.0]])
      >>> {name: fn(rows, None, params).item() for name, fn in layer_ntk_fns(f, params).items()}
      {('first',): 5.0, ('last',): 9.0}
    """
    flat = models.flatten(params)
    names = dict.fromkeys(layer(flat.owners[i]) for i in models.select(flat, None))
    return {
        name: empirical_ntk_fn(
            f, params_filter=lambda path, name=name: layer(path) == name, **options
        )
        for name in names
    }


def as_matrix(kernel: Array) -> Array:
    """A kernel with interleaved output axes as a matrix, for solvers.

    Args:
      kernel: ``[n1, n2, a, a', b, b', ...]``.

    Returns:
      ``[n1 * a * b ..., n2 * a' * b' ...]``: row ``i * O + o`` is output ``o`` of example ``i``.

    Raises:
      ValueError: an odd number of axes.

    Examples:
      >>> as_matrix(jnp.arange(4.0).reshape(1, 1, 2, 2)).tolist()  # one example, two outputs
      [[0.0, 1.0], [2.0, 3.0]]
    """
    if kernel.ndim % 2:
        raise ValueError(f"a kernel has its axes in pairs; got shape {kernel.shape}")
    rows = range(0, kernel.ndim, 2)
    flat = kernel.transpose([*rows, *(axis + 1 for axis in rows)])
    size = 1
    for axis in rows:
        size *= kernel.shape[axis]
    return flat.reshape(size, -1)


def sharded(kernel_fn: Callable[..., Array], mesh: Mesh, axis: str) -> Callable[..., Array]:
    """A kernel whose rows lie on different devices.

    Each device holds and computes its rows against all columns; inputs and parameters are
    replicated. Numbers of rows that the devices do not divide are padded and cut.

    Args:
      kernel_fn: ``kernel_fn(x1, x2, params)`` with rows and columns as its first two axes.
      mesh: devices.
      axis: name of the mesh axis over which the rows are split.

    Returns:
      ``(x1, x2, params) -> kernel``, with the same numbers, sharded along its first axis.

    Raises:
      ValueError: an axis that the mesh lacks; when the kernel is called, parameters or inputs that
        are not finite.
    """
    if axis not in mesh.shape:
        raise ValueError(f"the mesh has axes {tuple(mesh.shape)}; got {axis!r}")
    # Axes of automatic sharding, so that a cut of padded rows may be laid out freely.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    split, whole = PartitionSpec(axis), PartitionSpec()
    run = jax.jit(
        jax.shard_map(
            kernel_fn, mesh=mesh, in_specs=(split, whole, whole), out_specs=split, check_vma=False
        )
    )

    def rows(x1: Any, x2: Any, params: Params) -> Array:
        n = checks.count(x1, "x1")
        # Here, since the kernel itself sees no values: it is traced.
        for x, name in ((x1, "x1"), (x2, "x2")):
            checks.check_inputs(x, name)
        checks.check_params(params)
        columns = x1 if x2 is None else x2
        padded = -(-n // mesh.shape[axis]) * mesh.shape[axis]
        taken = jnp.minimum(jnp.arange(padded), n - 1)
        x1 = jax.device_put(jax.tree.map(lambda leaf: leaf[taken], x1), NamedSharding(mesh, split))
        columns, params = jax.device_put((columns, params), NamedSharding(mesh, whole))
        out = run(x1, columns, params)
        return out if padded == n else out[:n]

    return rows

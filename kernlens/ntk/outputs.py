"""Kernels of the outputs themselves, the two kernels together, and their averages over draws."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from kernlens.ntk import checks
from kernlens.ntk.axes import Axes, output_axes
from kernlens.ntk.batching import batch
from kernlens.ntk.empirical import empirical_ntk_fn
from kernlens.ntk.methods import MethodName
from kernlens.ntk.models import PathFilter
from kernlens.ntk.precision import HIGHEST, widen
from kernlens.types import ApplyFn, Array, Params

Get: TypeAlias = Literal["nngp", "ntk"] | Sequence[Literal["nngp", "ntk"]] | None
"""Which kernels: a name gives an array, several names (None: both) a :class:`Kernels`."""


class Kernels(NamedTuple):
    """Both kernels of a function; one that was not asked for is None.

    Attributes:
      nngp: inner products of outputs.
      ntk: inner products of gradients.
    """

    nngp: Any = None
    ntk: Any = None


def empirical_nngp_fn(
    f: ApplyFn, trace_axes: Axes = (-1,), diagonal_axes: Axes = ()
) -> Callable[..., Any]:
    r"""The kernel of a function's outputs, :math:`K_{ij,oo'} = f_o(x_i) f_{o'}(x_j)`.

    Args:
      f: ``f(params, x, **kwargs) -> outputs``, a batch axis first; a pytree of outputs gives a
        pytree of kernels.
      trace_axes: as for :func:`empirical_ntk_fn`.
      diagonal_axes: likewise.

    Returns:
      ``kernel_fn(x1, x2, params, **kwargs)``, shaped like the tangent kernel.

    Raises:
      ValueError: when the kernel is called: parameters or inputs that are not finite.

    References:
      Lee et al. (2018), equation 1, with one draw in place of the mean.
    """

    def one(out1: Array, out2: Array) -> Array:
        axes, batch = output_axes(trace_axes, diagonal_axes, out1.shape[1:], out2.shape[1:])
        # [n, traced, diagonal, full]
        rows1, rows2 = (
            jnp.moveaxis(axes.arrange(widen(out).reshape(out.shape[0], -1).T), -1, 0)
            for out in (out1, out2)
        )
        scale = axes.size(axes.traced)
        if batch == "pairs":
            k = jnp.einsum("itdf,jtdg->ijdfg", rows1, rows2, precision=HIGHEST)
            return axes.interleave(k) / scale
        k = jnp.einsum("itdf,itdg->idfg", rows1, rows2, precision=HIGHEST)
        k = axes.interleave(k[None])[0] / scale
        return jnp.mean(k, axis=0) if batch == "mean" else k

    def kernel_fn(x1: Any, x2: Any, params: Params, **kwargs: Any) -> Any:
        checks.count(x1, "x1")
        for x, name in ((x1, "x1"), (x2, "x2")):
            checks.check_inputs(x, name)
        checks.check_params(params)
        out1 = f(params, x1, **kwargs)
        out2 = out1 if x2 is None else f(params, x2, **kwargs)
        return jax.tree.map(one, out1, out2)

    return kernel_fn


def empirical_kernel_fn(
    f: ApplyFn,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    method: MethodName = "auto",
    params_filter: PathFilter | None = None,
    *,
    coupled: bool = False,
    implementation: MethodName | None = None,
) -> Callable[..., Any]:
    """Both kernels of a function under one roof.

    Args:
      f: as for :func:`empirical_ntk_fn`, and so the arguments that follow.
      trace_axes: likewise.
      diagonal_axes: likewise.
      vmap_axes: of the tangent kernel.
      method: of the tangent kernel.
      params_filter: of the tangent kernel.
      coupled: of the tangent kernel.
      implementation: neural-tangents' name for ``method``.

    Returns:
      ``kernel_fn(x1, x2, get, params, **kwargs)``; ``get`` as :data:`Get` says.

    Raises:
      ValueError: a name in ``get`` that is neither "nngp" nor "ntk".
    """
    makers = {
        "nngp": empirical_nngp_fn(f, trace_axes, diagonal_axes),
        "ntk": empirical_ntk_fn(
            f,
            trace_axes,
            diagonal_axes,
            vmap_axes,
            method,
            params_filter,
            coupled=coupled,
            implementation=implementation,
        ),
    }

    def kernel_fn(x1: Any, x2: Any, get: Get, params: Params, **kwargs: Any) -> Any:
        names = ("nngp", "ntk") if get is None else (get,) if isinstance(get, str) else get
        unknown = [name for name in names if name not in makers]
        if unknown:
            raise ValueError(f"get={get!r}: expected 'nngp', 'ntk', a tuple of them, or None")
        found = {name: makers[name](x1, x2, params, **kwargs) for name in names}
        return found[get] if isinstance(get, str) else Kernels(**found)

    return kernel_fn


def monte_carlo_kernel_fn(
    init_fn: Callable[..., Any],
    apply_fn: ApplyFn,
    key: Array,
    n_samples: int | Iterable[int],
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
    trace_axes: Axes = (-1,),
    diagonal_axes: Axes = (),
    vmap_axes: Any = None,
    method: MethodName = "auto",
    params_filter: PathFilter | None = None,
    *,
    implementation: MethodName | None = None,
) -> Callable[..., Any]:
    """Kernels averaged over initialisations: an unbiased estimate of their expectation.

    Args:
      init_fn: ``init_fn(key, x) -> params`` (a Flax module's ``init``), or
        ``init_fn(key, shape) -> (output_shape, params)`` as in stax.
      apply_fn: as ``f`` of :func:`empirical_ntk_fn`, and so the arguments that follow.
      key: a PRNG key; draw ``i`` of any number of draws is the same.
      n_samples: number of draws, at least 1, or several such numbers.
      batch_size: as for :func:`~kernlens.ntk.batch`; 0 leaves the blocks to each kernel.
      device_count: as there.
      store_on_device: as there.
      trace_axes: likewise.
      diagonal_axes: likewise.
      vmap_axes: likewise.
      method: likewise.
      params_filter: likewise.
      implementation: neural-tangents' name for ``method``.

    Returns:
      ``kernel_fn(x1, x2=None, get=None, **kwargs)``: the average, or, for several numbers, an
      iterator over the averages of the first so many draws.

    Raises:
      ValueError: a number of draws below 1.

    Examples:
      >>> from kernlens.ntk import infinite
      >>> net = infinite.serial(infinite.dense(256), infinite.relu(), infinite.dense(1))
      >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8]])
      >>> module = net.module
      >>> sampled = monte_carlo_kernel_fn(module.init, module.apply, jax.random.key(0), 16)
      >>> bool(jnp.allclose(sampled(x).ntk, net.kernel_fn(x).ntk, rtol=0.1))
      True
    """
    several = not isinstance(n_samples, int)
    asked = sorted(set(n_samples)) if not isinstance(n_samples, int) else [n_samples]
    if not asked or asked[0] < 1:
        raise ValueError(f"n_samples must be 1 or more; got {n_samples}")
    kernel_fn = empirical_kernel_fn(
        apply_fn,
        trace_axes,
        diagonal_axes,
        vmap_axes,
        method,
        params_filter,
        implementation=implementation,
    )

    one = batch(kernel_fn, batch_size, device_count, store_on_device)

    def averages(x1: Any, x2: Any, get: Get, kwargs: dict[str, Any]) -> Iterator[Any]:
        total: Any = None
        for draw in range(asked[-1]):
            params = _initial(init_fn, jax.random.fold_in(key, draw), x1)
            k = one(x1, x2, get, params, **kwargs)
            total = k if total is None else jax.tree.map(operator.add, total, k)
            if draw + 1 in asked:
                yield jax.tree.map(lambda leaf, count=draw + 1: leaf / count, total)

    def sampled(x1: Any, x2: Any = None, get: Get = None, **kwargs: Any) -> Any:
        found = averages(x1, x2, get, kwargs)
        return found if several else next(found)

    return sampled


def _initial(init_fn: Callable[..., Any], key: Array, x: Any) -> Params:
    one = jax.tree.map(lambda leaf: leaf[:1], x)
    try:
        made = init_fn(key, one)
    except (TypeError, AttributeError, IndexError, ValueError):
        # A stax init takes the shape of its input.
        made = init_fn(key, jax.tree.map(jnp.shape, one))
    stax = isinstance(made, tuple) and len(made) == 2 and _is_shape(made[0])
    return made[1] if stax else made


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(v, int) for v in value)

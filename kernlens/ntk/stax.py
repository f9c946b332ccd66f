"""The names of neural-tangents' ``stax``, with its arguments: layers of ``kernlens.ntk.infinite``.

    from kernlens.ntk import stax

    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(512), stax.Relu(), stax.Dense(1))

What a name returns is a :class:`~kernlens.ntk.infinite.Layer`, which unpacks into the three
functions. New code has the lower-case functions of :mod:`kernlens.ntk.infinite`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import infinite
from kernlens.ntk.infinite import Layer
from kernlens.ntk.infinite.pairs import Pair
from kernlens.types import Array


@dataclass(frozen=True)
class Branching:
    """A mark between the layers of :func:`serial`: where a signal parts, or branches meet."""

    name: str
    count: int = 0
    branches: tuple[Layer, ...] = ()


def serial(*layers: Layer | Branching) -> Layer:
    """One layer after another; ``FanOut(n), parallel(...), FanInSum()`` in a row is a sum.

    Raises:
      ValueError: no layer, or these three in another order.
    """
    made: list[Layer] = []
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, Layer):
            made.append(layer)
            continue
        following = rest[:2]
        names = [layer.name, *(b.name for b in following if isinstance(b, Branching))]
        if names != ["FanOut", "parallel", "FanInSum"]:
            raise ValueError(
                "branches are FanOut(n), parallel(...), FanInSum(), in a row inside of serial; got "
                f"{', '.join(names)}"
            )
        branches = rest[0].branches  # pyright: ignore[reportAttributeAccessIssue]
        if len(branches) != layer.count:
            raise ValueError(f"FanOut({layer.count}) leads to {len(branches)} branches")
        made.append(infinite.add(*branches))
        del rest[:2]
    return infinite.serial(*made)


def repeat(layer: Layer, n: int) -> Layer:
    """The same kind of layer ``n`` times in a row, each with weights of its own.

    Raises:
      ValueError: ``n`` below 1.
    """
    return infinite.serial(*[layer] * n)


def parallel(*layers: Layer) -> Branching:
    """Branches, between ``FanOut`` and ``FanInSum``."""
    return Branching("parallel", branches=layers)


def FanOut(num: int) -> Branching:
    """The same signal to each of ``num`` branches."""
    return Branching("FanOut", count=num)


def FanInSum() -> Branching:
    """The sum of branches."""
    return Branching("FanInSum")


def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: Any = "ntk",
) -> Layer:
    """:func:`~kernlens.ntk.infinite.dense`."""
    _check_axes("Dense", batch_axis, channel_axis)
    return infinite.dense(out_dim, W_std, b_std, parameterization=parameterization)


def Conv(
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: Any = None,
    parameterization: Any = "ntk",
) -> Layer:
    """:func:`~kernlens.ntk.infinite.conv`."""
    if dimension_numbers not in (None, ("NHWC", "HWIO", "NHWC")):
        raise ValueError(
            "Conv reads images [n, height, width, channels]; transpose the inputs first. Got "
            f"dimension_numbers={dimension_numbers}"
        )
    return infinite.conv(
        out_chan,
        filter_shape,
        strides,
        _padding(padding),
        W_std,
        b_std,
        parameterization=parameterization,
    )


def AvgPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    normalize_edges: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Layer:
    """:func:`~kernlens.ntk.infinite.avg_pool`; zeros beyond the edges count in the mean."""
    _check_axes("AvgPool", batch_axis, channel_axis)
    if normalize_edges and _padding(padding) == "SAME":
        raise ValueError("AvgPool counts the zeros beyond the edges: normalize_edges=False")
    return infinite.avg_pool(window_shape, strides, _padding(padding))


def GlobalAvgPool(batch_axis: int = 0, channel_axis: int = -1) -> Layer:
    """:func:`~kernlens.ntk.infinite.global_avg_pool`."""
    _check_axes("GlobalAvgPool", batch_axis, channel_axis)
    return infinite.global_avg_pool()


def Flatten(batch_axis: int = 0) -> Layer:
    """:func:`~kernlens.ntk.infinite.flatten`."""
    _check_axes("Flatten", batch_axis, -1)
    return infinite.flatten()


def LayerNorm(
    axis: int | Sequence[int] = -1, eps: float = 1e-12, batch_axis: int = 0, channel_axis: int = -1
) -> Layer:
    """:func:`~kernlens.ntk.infinite.layer_norm`, over channels."""
    _check_axes("LayerNorm", batch_axis, channel_axis)
    if axis not in (-1, (-1,), [-1]):
        raise ValueError(f"LayerNorm is over the channels, axis=-1; got axis={axis}")
    return infinite.layer_norm(eps)


def Relu(do_stabilize: bool = False) -> Layer:
    """:func:`~kernlens.ntk.infinite.relu`, which needs no stabilising."""
    del do_stabilize
    return infinite.relu()


def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Layer:
    """:func:`~kernlens.ntk.infinite.leaky_relu`."""
    del do_stabilize
    return infinite.leaky_relu(alpha)


def Gelu(approximate: bool = False) -> Layer:
    """:func:`~kernlens.ntk.infinite.gelu`."""
    if approximate:
        raise ValueError("Gelu has a closed form without the tanh: approximate=False")
    return infinite.gelu()


def Abs(do_stabilize: bool = False) -> Layer:
    """The absolute value, :func:`~kernlens.ntk.infinite.leaky_relu` of slope -1."""
    del do_stabilize
    return infinite.leaky_relu(-1.0)


def Elementwise(
    fn: Callable[[Any], Any],
    nngp_fn: Callable[[Any, Any, Any], Any],
    d_nngp_fn: Callable[[Any, Any, Any], Any] | None = None,
) -> Layer:
    """:func:`~kernlens.ntk.infinite.elementwise`, by ``nngp_fn(cov12, var1, var2)`` of numbers.

    ``d_nngp_fn`` is its derivative by ``cov12``, found by automatic differentiation where None.
    """
    slope_fn = jax.grad(nngp_fn) if d_nngp_fn is None else d_nngp_fn
    of_numbers = [jnp.vectorize(function) for function in (nngp_fn, slope_fn)]

    def expectations(pair: Pair) -> tuple[Array, Array]:
        kappa0, kappa1 = (function(pair.nngp, pair.var1, pair.var2) for function in of_numbers)
        return kappa0, kappa1

    return infinite.elementwise(fn, expectations)


def Erf() -> Layer:
    """:func:`~kernlens.ntk.infinite.erf`."""
    return infinite.erf()


def Sin() -> Layer:
    """:func:`~kernlens.ntk.infinite.sin`."""
    return infinite.sin()


def Cos() -> Layer:
    """:func:`~kernlens.ntk.infinite.cos`."""
    return infinite.cos()


def Identity() -> Layer:
    """:func:`~kernlens.ntk.infinite.identity`."""
    return infinite.identity()


NAMES: dict[str, Callable[..., Any]] = {
    "Abs": infinite.leaky_relu,
    "AvgPool": infinite.avg_pool,
    "Conv": infinite.conv,
    "Cos": infinite.cos,
    "Dense": infinite.dense,
    "Elementwise": infinite.elementwise,
    "Erf": infinite.erf,
    "FanInSum": infinite.add,
    "Flatten": infinite.flatten,
    "Gelu": infinite.gelu,
    "GlobalAvgPool": infinite.global_avg_pool,
    "Identity": infinite.identity,
    "LayerNorm": infinite.layer_norm,
    "LeakyRelu": infinite.leaky_relu,
    "Relu": infinite.relu,
    "Sin": infinite.sin,
    "repeat": infinite.serial,
    "serial": infinite.serial,
}
"""The name of neural-tangents, and the function that new code calls."""

NO_CLOSED_FORM = "nt.monte_carlo_kernel_fn(init_fn, apply_fn, ...) averages any Flax module's"

ABSENT: dict[str, str] = {
    **dict.fromkeys(
        (
            "ElementwiseNumerical", "Exp", "ExpNormalized", "Gabor", "Gaussian", "Hermite",
            "Monomial", "Polynomial", "Rbf", "RectifiedMonomial", "Sigmoid_like", "Sign",
        ),
        "Elementwise takes an activation with its nngp_fn",
    ),
    **dict.fromkeys(
        (
            "Aggregate", "ConvLocal", "ConvTranspose", "DotGeneral", "Dropout",
            "GlobalSelfAttention", "ImageResize", "Index", "Slice", "FanInConcat",
        ),
        NO_CLOSED_FORM,
    ),
    **dict.fromkeys(
        ("AggregateImplementation", "AttentionMechanism", "PositionalEmbedding"),
        "it sets layers that are not here",
    ),
    **dict.fromkeys(
        ("MaskedArray", "supports_masking", "unmask_fn"),
        "a mask is a keyword argument of an empirical kernel's function",
    ),
    **dict.fromkeys(
        ("Bool", "Diagonal", "layer", "requires"),
        "kernlens.ntk.infinite.Layer is a module and what it does to kernels",
    ),
    "Padding": "its members are words here, Conv(8, (3, 3), padding='SAME')",
    "ABRelu": "LeakyRelu(a / b) is the same up to the factor b, which the next layer's W_std takes",
    "FanInProd": "kernlens.ntk.infinite.two_tower is a product of two towers",
    "GlobalSumPool": "GlobalAvgPool is the same up to the number of positions",
    "SumPool": "AvgPool is the same up to the number of positions",
}  # fmt: skip
"""Names of neural-tangents that are not here, and what there is instead."""


def __getattr__(name: str) -> Any:
    if name in ABSENT:
        raise AttributeError(f"kernlens.ntk.stax has no {name}: {ABSENT[name]}")
    known = ", ".join(sorted([*NAMES, "FanOut", "parallel"]))
    raise AttributeError(f"kernlens.ntk.stax has no {name}; it has {known}")


def _padding(padding: Any) -> Any:
    """The word of a padding; an enumeration of neural-tangents' has it as its name."""
    return str(getattr(padding, "name", padding)).upper()


def _check_axes(name: str, batch_axis: int, channel_axis: int) -> None:
    if batch_axis != 0 or channel_axis != -1:
        raise ValueError(
            f"{name} reads examples first and channels last; got {batch_axis=}, {channel_axis=}: "
            "transpose the inputs first"
        )

"""Layers: each one definition of a Flax module of finite width and of its kernels at infinity."""

from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from kernlens.ntk import checks
from kernlens.ntk.infinite.pairs import (
    Inputs,
    Pair,
    Signal,
    gaps,
    grid,
    own,
    pair,
    pointwise,
    scaled,
    sqrt,
    sum_of,
)
from kernlens.types import Array

KERNELS = ("nngp", "ntk")


@dataclass(frozen=True)
class Layer:
    """A layer, or a network of layers, at finite and at infinite width.

    Attributes:
      build: makes the Flax module, anew each time, so a layer used twice has two sets of weights.
      propagate: what the layer does to two examples at infinite width.
      pools: whether it needs the kernels at all pairs of positions of two images.

    A layer unpacks into ``init_fn, apply_fn, kernel_fn``, as neural-tangents' ``stax`` has it:
    ``init_fn(key, input_shape)`` gives ``(output_shape, params)``, and -1 stands for any number of
    examples.
    """

    build: Callable[[], nn.Module]
    propagate: Callable[[Signal], Pair]
    pools: bool = False

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        module = self.module

        def init_fn(key: Array, input_shape: Any) -> tuple[Any, Any]:
            dtype = jnp.result_type(float)
            x = jnp.zeros([1 if size < 0 else size for size in input_shape], dtype)
            out, params = module.init_with_output(key, x)
            return (*input_shape[:1], *out.shape[1:]), params

        return iter((init_fn, module.apply, self.kernel_fn))

    @property
    def module(self) -> nn.Module:
        """The finite network: ``module.init(key, x)``, ``module.apply(params, x)``."""
        return self.build()

    def kernel_fn(
        self, x1: Any, x2: Any = None, get: str | tuple[str, ...] | None = None
    ) -> Array | Any:
        """Kernels of one output channel at infinite width, compiled once for each network object.

        Args:
          x1: inputs as the module takes them: rows ``[n1, d]``, ids ``[n1]``, or a tuple.
          x2: inputs of the same kind with leading axis ``n2``; ``x1`` where None.
          get: ``"nngp"``, ``"ntk"``, or a tuple of them; None for both.

        Returns:
          The kernel, ``[n1, n2]``; for a tuple a named tuple of kernels in its order. Any block
          of rows and columns is computed as it would be alone.

        Raises:
          ValueError: another name in ``get``; inputs of different structure, or not finite; layers
            in an order that has no closed form (an activation of what is not normal, a sum of
            dependent branches), or a network that ends at positions. All before anything is
            computed.
        """
        names = _names(get)
        x2 = x1 if x2 is None else x2
        if jax.tree.structure(x1) != jax.tree.structure(x2):
            raise ValueError(
                "x1 and x2 must be inputs of one kind; got "
                f"{jax.tree.structure(x1)} and {jax.tree.structure(x2)}"
            )
        for x, name in ((x1, "x1"), (x2, "x2")):
            chex.assert_equal_shape_prefix(jax.tree.leaves(x), 1)
            checks.check_inputs(x, name)
        return _named(get, names, _kernels(self.propagate, names, x1, x2))

    def kernel_of_products(
        self,
        products: Any,
        squares1: Any,
        squares2: Any,
        width: int,
        get: str | tuple[str, ...] | None = None,
    ) -> Array | Any:
        """The kernels of rows from their inner products alone: of sparse rows, or of many columns.

        Angles between rows below the root of a few machine epsilons count as zero; rows themselves,
        :meth:`kernel_fn`, resolve all.

        Args:
          products: inner products of the rows, real, ``[n1, n2]``.
          squares1: squared norms of the first rows, ``[n1]``.
          squares2: squared norms of the second rows, ``[n2]``.
          width: columns of the rows, by which a network scales them.
          get: as :meth:`kernel_fn`.

        Returns:
          As :meth:`kernel_fn`.

        Raises:
          ValueError: as :meth:`kernel_fn`, or shapes that do not fit together.
        """
        names = _names(get)
        given = [jnp.asarray(a, float) for a in (products, squares1, squares2)]
        shapes = [a.shape for a in given]
        if len(shapes[0]) != 2 or shapes[1:] != [shapes[0][:1], shapes[0][1:]] or width < 1:
            raise ValueError(
                "expected products [n1, n2], squares [n1] and [n2], and a width of at least 1; got "
                f"{', '.join(map(str, shapes))} and {width}"
            )
        for a, name in zip(given, ("products", "squares1", "squares2"), strict=True):
            checks.check_inputs(a, name)
        return _named(get, names, _of_products(self.propagate, names, width, *given))


def _names(get: str | tuple[str, ...] | None) -> tuple[str, ...]:
    get = KERNELS if get is None else get
    names = (get,) if isinstance(get, str) else tuple(get)
    if not names or not set(names) <= set(KERNELS):
        raise ValueError(f"get must be 'nngp', 'ntk' or a tuple of them; got {get!r}")
    return names


def _named(get: Any, names: tuple[str, ...], values: list[Array]) -> Any:
    return values[0] if isinstance(get, str) else namedtuple("Kernels", names)(*values)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _of_products(propagate, names, width, products, squares1, squares2):
    def at(product: Array, square1: Array, square2: Array) -> list[Array]:
        var1, var2, nngp = square1 / width, square2 / width, product / width
        sides = gaps(nngp, var1, var2, noise=4.0, below=jnp.zeros_like(nngp))
        start = Pair(
            var1=var1,
            var2=var2,
            apart=sides["apart"],
            across=sides["across"],
            ntk=jnp.zeros_like(nngp),
            width=width,
            normal=False,
            fresh=False,
        )
        after = propagate(start)
        return [getattr(after, name) for name in names]

    return jax.vmap(jax.vmap(at, (0, None, 0)), (0, 0, None))(products, squares1, squares2)


@partial(jax.jit, static_argnums=(0, 1))
def _kernels(propagate, names, x1, x2):
    def at(inputs: Inputs) -> list[Array]:
        after = propagate(inputs)
        if after.apart.ndim:
            raise ValueError(
                "the network ends with an output at each position: end it with flatten() or "
                "global_avg_pool(), and a dense layer"
            )
        return [getattr(after, name) for name in names]

    return grid(at, x1, x2)


def serial(*layers: Layer) -> Layer:
    """One layer after another.

    Raises:
      ValueError: no layer.
    """
    if not layers:
        raise ValueError("serial needs at least one layer; got none")
    pools = any(layer.pools for layer in layers)

    def propagate(signal: Signal) -> Pair:
        return pair(reduce(lambda s, layer: layer.propagate(s), layers, _asked(signal, pools)))

    return Layer(lambda: nn.Sequential([layer.build() for layer in layers]), propagate, pools=pools)


def _asked(signal: Signal, pools: bool) -> Signal:
    """Raw inputs that know whether a pool follows."""
    return signal._replace(full=signal.full or pools) if isinstance(signal, Inputs) else signal


class Elementwise(nn.Module):
    """A function of each entry, without parameters."""

    fn: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        """Applies the function to ``[..., d]``."""
        return self.fn(x)


def elementwise(
    fn: Callable[[Array], Array],
    expectations: Callable[[Pair], tuple[Array, Array]],
    apart: Callable[[Pair], Array] | None = None,
) -> Layer:
    r"""An activation :math:`\phi`, by its expectations over a normal pair :math:`(X, Y)`.

    Args:
      fn: :math:`\phi` on arrays.
      expectations: gives :math:`\kappa_0 = E\,\phi(X)\phi(Y)` and
        :math:`\kappa_1 = E\,\phi'(X)\phi'(Y)`.
      apart: gives the root of :math:`\sqrt{E\phi(X)^2 E\phi(Y)^2} - \kappa_0`, free of
        cancellation. By subtraction where None, down to rounding, and below that to first order,
        :math:`\kappa_1 E(X - Y)^2 / 2`: a rectifier further up then sees angles to the square
        root of the machine epsilon, and equal inputs at angle zero.

    References:
      Jacot, Gabriel and Hongler (2018), theorem 1.
    """

    @pointwise
    def propagate(signal: Signal) -> Pair:
        before = _normal(signal, "an activation")
        kappa0, kappa1 = expectations(before)
        var1, var2 = (expectations(same)[0] for same in own(before))
        first_order = kappa1 * (before.apart**2 + before.spread)
        after = gaps(kappa0, var1, var2, noise=32.0, below=first_order)
        if apart is not None:
            gap = apart(before)
            after = {"apart": gap, "across": sqrt(2.0 * kappa0 + gap**2)}
        return replace(
            before,
            var1=var1,
            var2=var2,
            ntk=kappa1 * before.ntk,
            normal=False,
            fresh=False,
            **after,
        )

    return Layer(lambda: Elementwise(fn), propagate)


def identity() -> Layer:
    """The layer that changes nothing."""
    return Layer(lambda: Elementwise(lambda x: x), pair)


class Sum(nn.Module):
    """The sum of branches that read the same input."""

    branches: tuple[nn.Module, ...]

    def __call__(self, x: Any) -> Array:
        """Sums the branches' outputs."""
        return reduce(jnp.add, [branch(x) for branch in self.branches])


def add(*branches: Layer) -> Layer:
    """The sum of branches that read the same input: kernels add.

    Raises:
      ValueError: no branch; on use, branches of different widths, or more than one that does not
        end in weights of its own: their outputs would be correlated.
    """
    if not branches:
        raise ValueError("add needs at least one branch; got none")

    pools = any(branch.pools for branch in branches)

    def propagate(signal: Signal) -> Pair:
        signal = _asked(signal, pools)
        inner = replace(signal, fresh=False) if isinstance(signal, Pair) else signal
        terms = [pair(branch.propagate(inner)) for branch in branches]
        widths = [term.width for term in terms]
        if len(set(widths)) > 1:
            raise ValueError(f"the branches of a sum must have one width; got {widths}")
        if sum(not term.fresh for term in terms) > 1:
            raise ValueError(
                "all branches of a sum but one must end in weights of their own (dense, lookup); "
                f"of {len(terms)} these do not: {[i for i, t in enumerate(terms) if not t.fresh]}"
            )
        normal = all(term.normal for term in terms)
        kept = isinstance(signal, Pair) and signal.fresh and normal
        fresh = kept or all(term.fresh for term in terms)
        return replace(reduce(sum_of, terms), normal=normal, fresh=fresh)

    return Layer(lambda: Sum(tuple(branch.build() for branch in branches)), propagate, pools=pools)


def residual(branch: Layer) -> Layer:
    """The sum ``x + branch(x)``; the branch must end in weights of its own.

    Raises:
      ValueError: on use, another width than that of ``x``, or a branch that does not.

    Examples:
      >>> from kernlens.ntk import infinite
      >>> branch = infinite.serial(infinite.relu(), infinite.dense(3))
      >>> net = infinite.serial(infinite.dense(3), residual(branch))
      >>> x = jnp.array([[1.0, 2.0, 2.0]])
      >>> jnp.round(net.kernel_fn(x, get="nngp"), 4).tolist()
      [[4.5]]
    """
    return add(identity(), branch)


class LayerNorm(nn.Module):
    """Rows less their mean, over their standard deviation; without parameters."""

    eps: float

    def __call__(self, x: Array) -> Array:
        """Normalises the last axis of ``[..., d]``."""
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + self.eps)


def layer_norm(eps: float = 1e-12) -> Layer:
    r"""Layer normalisation, :math:`n \to n / \sqrt{(q_1 + \epsilon)(q_2 + \epsilon)}`.

    Args:
      eps: :math:`\epsilon > 0`, added to variances.

    References:
      Ba, Kiros and Hinton (2016), equation 3, without gain and bias.

    Examples:
      >>> from kernlens.ntk.infinite import dense
      >>> x = jnp.array([[3.0, 4.0], [0.3, 0.4]])
      >>> net = serial(dense(64), layer_norm(), dense(1))
      >>> jnp.round(net.kernel_fn(x, get="nngp"), 4).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """

    @pointwise
    def propagate(signal: Signal) -> Pair:
        before = _normal(signal, "layer_norm")
        root = ((before.var1 + eps) * (before.var2 + eps)) ** -0.25
        after = scaled(before, root)
        return replace(
            after, var1=before.var1 / (before.var1 + eps), var2=before.var2 / (before.var2 + eps)
        )

    return Layer(lambda: LayerNorm(eps), propagate)


def _normal(signal: Signal, name: str) -> Pair:
    before = pair(signal)
    if not before.normal:
        raise ValueError(
            f"{name} has a closed form for normal signals only: put a dense layer (or a lookup) "
            "between it and the inputs, or the activation, before it"
        )
    return before

"""Layers that read raw inputs: item ids, masked sequences, and the two sides of a pair."""

from dataclasses import replace
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from kernlens.ntk.infinite.affine import split_scale
from kernlens.ntk.infinite.layers import Layer
from kernlens.ntk.infinite.pairs import Inputs, Pair, Signal, gaps, pair, product_of, scaled
from kernlens.types import Array


class NormalTable(nn.Module):
    """Rows of a table of normal entries. See :func:`lookup`."""

    num_items: int
    width: int
    W_std: float
    parameterization: str
    trainable: bool
    dtype: Any

    @nn.compact
    def __call__(self, items: Array) -> Array:
        """Embeds ids of any shape, ``[*items.shape, width]``; ids outside are clipped."""
        start, scale = split_scale(self.W_std, self.parameterization)
        table = self.param(
            "table",
            nn.initializers.normal(start),
            (self.num_items, self.width),
            self.dtype or jnp.result_type(float),
        )
        table = table if self.trainable else jax.lax.stop_gradient(table)
        return scale * table.at[items].get(mode="clip")


def lookup(
    num_items: int,
    width: int,
    W_std: float = 1.0,
    *,
    parameterization: Literal["ntk", "standard"] = "ntk",
    trainable: bool = True,
    dtype: Any = None,
) -> Layer:
    r"""An embedding table, :math:`n_{ij} = \sigma_w^2\, 1[i = j]` on item ids.

    The tangent kernel is the same; :math:`1[i = j]` in the standard parameterisation, and zero
    where the table stays as it starts.

    Args:
      num_items: rows of the table, at least 1; ids are ``0..num_items-1``, others are clipped.
      width: columns of the finite table, at least 1.
      W_std: :math:`\sigma_w \ge 0`, the standard deviation of an entry.
      parameterization: as in :func:`dense`.
      trainable: whether the table is trained.
      dtype: dtype of the table and of the kernels; the default float where None.

    Raises:
      ValueError: a value out of range.
    """
    slope = split_scale(W_std, parameterization)[1] ** 2 if trainable else 0.0
    if num_items < 1 or width < 1 or W_std < 0:
        raise ValueError(
            f"lookup needs num_items and width >= 1 and W_std >= 0; got {num_items=}, {width=}, "
            f"{W_std=}"
        )

    def propagate(signal: Signal) -> Pair:
        ids = _raw(signal, "lookup")
        chex.assert_rank(list(ids), 0)
        chex.assert_type(list(ids), int)
        id1, id2 = (jnp.clip(i, 0, num_items - 1) for i in ids)
        same = (id1 == id2).astype(dtype or jnp.result_type(float))
        one = jnp.ones_like(same)
        unit = Pair(
            var1=one,
            var2=one,
            apart=1.0 - same,
            across=jnp.sqrt(1.0 + same),
            ntk=same,
            width=width,
            normal=True,
            fresh=True,
        )
        return replace(scaled(unit, W_std), ntk=slope * same)

    return Layer(
        lambda: NormalTable(num_items, width, W_std, parameterization, trainable, dtype), propagate
    )


class MeanPool(nn.Module):
    """Mean of an encoder's outputs over the positions of a masked sequence."""

    encoder: nn.Module

    def __call__(self, inputs: tuple[Array, Array]) -> Array:
        """Maps values ``[n, length, ...]`` and mask ``[n, length]`` to ``[n, width]``."""
        values, mask = inputs
        encoded = self.encoder(values)
        return jnp.sum(_weights(mask, encoded.dtype)[..., None] * encoded, axis=-2)


def mean_pool(encoder: Layer) -> Layer:
    r"""Mean over a masked sequence of what an encoder makes of each position: a bag of items.

    The kernels are means over all pairs of positions, :math:`\sum_{pq} w_p w'_q K_{pq}`; time is
    that of the encoder's kernel on all pairs of positions, memory that of one pair.

    The input is a pair ``(values [n, length, ...], mask [n, length])``, with a mask of ones or
    True where a position counts. A sequence without any is zero.

    Args:
      encoder: the network that reads one position, such as a :func:`lookup` of its item.

    Examples:
      >>> bags = jnp.array([[0, 1], [1, 2], [2, 0]])
      >>> mask = jnp.array([[1, 1], [1, 1], [1, 0]])
      >>> jnp.round(mean_pool(lookup(3, 16)).kernel_fn((bags, mask), get="nngp"), 4).tolist()
      [[0.5, 0.25, 0.0], [0.25, 0.5, 0.5], [0.0, 0.5, 1.0]]
    """

    def propagate(signal: Signal) -> Pair:
        (values1, mask1), (values2, mask2) = _raw(signal, "mean_pool")
        chex.assert_rank([mask1, mask2], 1)
        like = _position(encoder, values1, values2)
        dtype = like.nngp.dtype
        first, second = (values1, _weights(mask1, dtype)), (values2, _weights(mask2, dtype))
        nngp, ntk = _mean(encoder, first, second)
        var1, var2 = _mean(encoder, first, first)[0], _mean(encoder, second, second)[0]
        # Bags of the same items are summed in different orders: what is left of them is rounding.
        noise = 4.0 * (len(mask1) + len(mask2))
        return replace(
            like,
            var1=var1,
            var2=var2,
            ntk=ntk,
            **gaps(nngp, var1, var2, noise=noise, below=jnp.zeros_like(nngp)),
        )

    return Layer(lambda: MeanPool(encoder.build()), propagate)


class TwoTower(nn.Module):
    """Inner product of two encodings over the square root of their width."""

    left: nn.Module
    right: nn.Module

    def __call__(self, inputs: tuple[Any, Any]) -> Array:
        """Scores pairs: inputs of each tower, with a leading axis ``n``, to ``[n, 1]``."""
        u, v = self.left(inputs[0]), self.right(inputs[1])
        return jnp.sum(u * v, axis=-1, keepdims=True) / u.shape[-1] ** 0.5


def two_tower(left: Layer, right: Layer) -> Layer:
    r"""Inner-product two-tower, :math:`\langle u(x), v(z)\rangle / \sqrt{D}` on inputs ``(x, z)``.

    .. math:: K = K_u K_v, \qquad \Theta = \Theta_u K_v + K_u \Theta_v

    Args:
      left: the tower :math:`u`, ending in weights of its own (dense, lookup, means of them).
      right: the tower :math:`v`, likewise, of the same width :math:`D`.

    Raises:
      ValueError: on use, towers of different widths or without closing weights.
    """

    def propagate(signal: Signal) -> Pair:
        (x1, z1), (x2, z2) = _raw(signal, "two_tower")
        u, v = pair(left.propagate(Inputs(x1, x2))), pair(right.propagate(Inputs(z1, z2)))
        if u.width != v.width:
            raise ValueError(f"the towers must have one width; got {u.width} and {v.width}")
        if not (u.fresh and u.normal and v.fresh and v.normal):
            raise ValueError("each tower must end in weights of its own (dense, lookup)")
        return replace(product_of(u, v), width=1, normal=False, fresh=True)

    return Layer(lambda: TwoTower(left.build(), right.build()), propagate)


def _raw(signal: Signal, name: str) -> tuple[Any, Any]:
    if isinstance(signal, Pair):
        raise ValueError(f"{name} reads raw inputs: it must come first in a network")
    return signal.x1, signal.x2


def _weights(mask: Array, dtype: Any) -> Array:
    counts = mask.astype(bool).astype(dtype)
    return counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1.0)


def _position(encoder: Layer, values1: Any, values2: Any) -> Pair:
    first = jax.tree.map(lambda v: v[0], (values1, values2))
    return pair(encoder.propagate(Inputs(*first)))


def _mean(encoder: Layer, first: tuple, second: tuple) -> tuple[Array, Array]:
    """NNGP and tangent kernel over all pairs of positions, weighted, one pair at a time.

    Under :func:`grid` the sums are arrays ``[n1, n2]``, whatever the lengths; a reduction over
    two more axes would neither vectorise on CPU nor fuse with every encoder.
    """
    like = _position(encoder, first[0], second[0])
    zero = (jnp.zeros_like(like.nngp), jnp.zeros_like(like.ntk))

    def row(total, left):
        def cell(part, right):
            p = pair(encoder.propagate(Inputs(left[0], right[0])))
            return (part[0] + right[1] * p.nngp, part[1] + right[1] * p.ntk), None

        part, _ = jax.lax.scan(cell, zero, second)
        return (total[0] + left[1] * part[0], total[1] + left[1] * part[1]), None

    return jax.lax.scan(row, zero, first)[0]

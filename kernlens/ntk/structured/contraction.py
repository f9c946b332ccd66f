"""The kernel of two blocks of examples, from their factors."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk import walk
from kernlens.ntk.precision import HIGHEST
from kernlens.ntk.structured import lookups
from kernlens.ntk.structured.cotangents import Factors
from kernlens.ntk.structured.gradients import gradients, left_factor, outer
from kernlens.ntk.structured.plans import Contraction, Plan, Share
from kernlens.types import Array

GRADIENT_BYTES = 16 * 2**20
"""Bytes of gradients that a block builds at a time."""


def contract(plan: Plan, one: Factors, two: Factors) -> Array:
    """The kernel of two blocks of examples.

    Args:
      plan: the plan.
      one: factors of ``n1`` examples of side 1.
      two: factors of ``n2`` examples of side 2; the same object as ``one`` on the diagonal of a
        symmetric kernel, where what is built is built once.

    Returns:
      The block, ``[n1, n2, *plan.axes.kernel_shape]``.
    """
    total: Any = None
    same = two is one
    parts = iter(zip(one.parts, two.parts, strict=True))
    flat = iter(zip(one.gradients, two.gradients, strict=True))
    for share in plan.shares:
        own: Any = next(flat) if share.flat else next(parts)
        if total is not None:
            # One share after the other: what one builds is gone before the next is built.
            total, own = jax.lax.optimization_barrier((total, own[:1] if same else own))
            own = own * 2 if same else own
        block = _flat_product(*own) if share.flat else _by_groups(share, *own)
        total = block if total is None else total + block
    scale = plan.axes.size(plan.axes.traced)
    return plan.axes.interleave(total) / scale


def _by_groups(share: Share, one: Any, two: Any) -> Array:
    """The sum over the slices of a leaf that do not meet each other."""
    gradient = share.contraction is Contraction.GRADIENT
    products = partial(_gradient_products if gradient else _gram_products, share)
    groups = share.parts[0][0].groups
    if groups == 1:
        first = jax.tree.map(lambda x: x[:, 0], one)
        return products(first, first if two is one else jax.tree.map(lambda x: x[:, 0], two))
    # The same object twice where both sides are one.
    sides = (one,) if two is one else (one, two)
    slices = jax.tree.map(lambda x: x.swapaxes(0, 1), sides)
    first, rest = (jax.tree.map(lambda x, s=s: x[s], slices) for s in (0, slice(1, None)))

    def add(total: Array, own: Any) -> tuple[Array, None]:
        return total + products(own[0], own[-1]), None

    return jax.lax.scan(add, products(first[0], first[-1]), rest)[0]


def _flat_product(one: Array, two: Array) -> Array:
    """``[i, d, f, z], [j, d, g, z] -> [i, j, d, f, g]``."""
    if one.shape[1] == one.shape[2] == 1:
        return jnp.matmul(one[:, 0, 0], two[:, 0, 0].T, precision=HIGHEST)[..., None, None, None]
    return jnp.einsum("idfz,jdgz->ijdfg", one, two, precision=HIGHEST)


def _gradient_products(
    share: Share, one: Sequence[tuple[Any, Array]], two: Sequence[tuple[Any, Array]]
) -> Array:
    """Gradients of a leaf (and its bias) times gradients, some left columns at a time."""
    if len(share.parts[0]) + len(share.parts[1]) > 2:
        return _flat_product(gradients(share, one, 0), gradients(share, two, 1))
    own = [
        (left_factor(share, share.parts[0][0], left, right.dtype), right)
        for ((left, right),) in ((one,) if two is one else (one, two))
    ]
    width = own[0][0].shape[-1]
    size = max(right.size * width // right.shape[1] for _, right in own)
    chunks = min(width, -(-size * own[0][1].dtype.itemsize // GRADIENT_BYTES))
    rights = [right for _, right in own]

    def products(lefts: Sequence[Array]) -> Array:
        built = [outer(left, right) for left, right in zip(lefts, rights, strict=True)]
        flat = [z.reshape(*z.shape[:3], -1) for z in built]
        return _flat_product(flat[0], flat[-1])

    if chunks == 1:
        return products([left for left, _ in own])
    lefts = [_columns(left, chunks) for left, _ in own]
    first, rest = [z[0] for z in lefts], [z[1:] for z in lefts]
    # A loop, which keeps one chunk at a time: a compiler may run what merely follows at once.
    return jax.lax.scan(lambda k, z: (k + products(z), None), products(first), rest)[0]


def _columns(left: Array, chunks: int) -> Array:
    """The last axis in equal parts, filled up with zeros, the parts first."""
    width = -(-left.shape[-1] // chunks)
    chunks = -(-left.shape[-1] // width)
    left = jnp.pad(left, ((0, 0), (0, 0), (0, chunks * width - left.shape[-1])))
    return jnp.moveaxis(left.reshape(*left.shape[:2], chunks, width), 2, 0)


def _gram_products(
    share: Share, one: Sequence[tuple[Any, Array]], two: Sequence[tuple[Any, Array]]
) -> Array:
    total: Any = None
    for part1, (left1, right1) in zip(share.parts[0], one, strict=True):
        for part2, (left2, right2) in zip(share.parts[1], two, strict=True):
            if part1.flipped == part2.flipped:
                block = _straight(share.bias is not None, left1, right1, left2, right2)
            else:
                block = _crossed(left1, right1, left2, right2)
            total = block if total is None else total + block
    return total


def _straight(ones: bool, left1: Any, right1: Array, left2: Any, right2: Array) -> Array:
    r"""``sum_pq <a_p, a_q> <delta_p, delta_q>``, as ``[i, j, d, f, g]``."""
    right1, right2 = (right.reshape(*right.shape[:4], -1) for right in (right1, right2))
    dense = partial(_dense, ones)
    if not (isinstance(left1, walk.WeightedIds) and isinstance(left2, walk.WeightedIds)):
        return dense(left1, right1, left2, right2)
    pairs = left1.ids.size * left2.ids.size
    kept = prod(right1.shape[2:4]) * right2.shape[3]
    # For one position and output there is nothing to gain over a product of matrices.
    single = left1.ids.shape[1] == left2.ids.shape[1] == kept == 1
    if single or pairs < lookups.LEAST_PAIRS:
        return dense(left1, right1, left2, right2)
    return lookups.products(left1, right1, left2, right2, dense)


def _dense(ones: bool, left1: Any, right1: Array, left2: Any, right2: Array) -> Array:
    inner = _left_gram(left1, left2)
    if ones:
        inner = inner + 1.0
    i, p, d, f, z = right1.shape
    j, q = right2.shape[:2]
    if d == f == 1:
        outer = jnp.matmul(right1.reshape(-1, z), right2.reshape(-1, z).T, precision=HIGHEST)
        product = inner.astype(outer.dtype) * outer.reshape(i, p, j, q)
        product = product.reshape(i, j) if p == q == 1 else product.sum((1, 3))
        return product[..., None, None, None]
    inner = inner.astype(right1.dtype)
    if p == q == 1:
        outer = jnp.einsum("idfz,jdgz->ijdfg", right1[:, 0], right2[:, 0], precision=HIGHEST)
        return inner.reshape(i, j)[..., None, None, None] * outer

    def position(own: tuple[Array, Array]) -> Array:
        """What position p of the first side adds."""
        first, weights = own
        outer = jnp.einsum("idfz,jqdgz->idfjqg", first, right2, precision=HIGHEST)
        return jnp.sum(outer * weights[:, None, None, :, :, None], axis=4)

    first = (right1.swapaxes(0, 1), inner.swapaxes(0, 1))
    start = position(jax.tree.map(lambda z: z[0], first))
    rest = jax.tree.map(lambda z: z[1:], first)
    total, _ = jax.lax.scan(lambda k, own: (k + position(own), None), start, rest)
    return total.transpose(0, 3, 1, 2, 4)


def _left_gram(left1: Any, left2: Any) -> Array:
    """``[i, p, j, q]``."""
    if isinstance(left1, walk.WeightedIds) and isinstance(left2, walk.WeightedIds):
        return lookups.gram(left1, left2)
    if isinstance(left1, walk.WeightedIds):
        return lookups.read_rows(left2, left1).transpose(2, 3, 0, 1)
    if isinstance(left2, walk.WeightedIds):
        return lookups.read_rows(left1, left2)
    i, p, a = left1.shape
    j, q, _ = left2.shape
    gram = jnp.matmul(left1.reshape(-1, a), left2.reshape(-1, a).T, precision=HIGHEST)
    return gram.reshape(i, p, j, q)


def _crossed(left1: Any, right1: Array, left2: Any, right2: Array) -> Array:
    """Two parts, the left factor of each on the axes of the other's right factor."""
    first = _left_by_right(left1, right2)
    second = _left_by_right(left2, right1)
    return jnp.einsum("ipjqdgt,jqipdft->ijdfg", first, second, precision=HIGHEST)


def _left_by_right(left: Any, right: Array) -> Array:
    """``[i, p, a] or lookup, [j, q, d, f, t, a] -> [i, p, j, q, d, f, t]``."""
    if not isinstance(left, walk.WeightedIds):
        return jnp.einsum("ipa,jqdfta->ipjqdft", left, right, precision=HIGHEST)
    read = right[..., jnp.maximum(left.ids, 0)]
    weights = jnp.where(left.ids >= 0, left.weights, 0).astype(right.dtype)
    return jnp.moveaxis(jnp.sum(read * weights, axis=-1), (-2, -1), (0, 1))

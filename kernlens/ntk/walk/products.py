"""Rules for products with leaves, their multiples and their biases."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.flow import (
    CONSTANTS,
    Bent,
    Spread,
    TableRows,
    Tapped,
    Walk,
    bind,
    dims_of,
    number_of,
    plain,
    scaled,
)
from kernlens.ntk.walk.lookups import pool
from kernlens.ntk.walk.sites import Kind, Read, Site
from kernlens.ntk.walk.views import Block, View, sliced_all, transposed
from kernlens.types import Array


class Roles(NamedTuple):
    """What each dimension of a view is in a product, by dimension of what it meets.

    Attributes:
      contract: ``(dimension of the view, of the other factor)`` that are summed over.
      free: ``(dimension of the view, of the tap)`` that are written.
      batch: ``(dimension of the view, of the other factor, of the tap)`` that go along.
    """

    contract: tuple[tuple[int, int], ...]
    free: tuple[tuple[int, int], ...]
    batch: tuple[tuple[int, int, int], ...]


def product_sites(
    view: View, roles: Roles, other: Array, shape: Sequence[int], dtype: Any
) -> list[tuple[Site, Read]] | None:
    """The sites of a product of a view with another factor, one for each block.

    Args:
      view: the view.
      roles: its dimensions; those of ``other`` that are not among them are positions, in the
        order in which the tap has them.
      other: the other factor.
      shape: shape of the tap.
      dtype: its dtype.

    Returns:
      Sites with what they read; None where entries of a leaf repeat.
    """
    if view.repeats(d for d, _ in (*roles.contract, *roles.free)):
        return None
    found = []
    for block in view.blocks:
        cuts: list[tuple[int, int, int]] = []
        read = other
        for d, place in [*roles.contract, *((d, place) for d, place, _ in roles.batch)]:
            if block.sizes[d] < view.value.shape[d]:
                stop = block.starts[d] + block.sizes[d]
                read = jax.lax.slice_in_dim(read, block.starts[d], stop, axis=place)
        for d, place in [*roles.free, *((d, place) for d, _, place in roles.batch)]:
            if block.sizes[d] < view.value.shape[d]:
                cuts.append((place, block.starts[d], block.sizes[d]))
        along = [own for own in roles.batch if block.axes[own[0]] is not None]
        group = [place for _, place, _ in along]
        left = [place for _, place in roles.contract]
        rest = [d for d in range(read.ndim) if d not in (*group, *left)]
        groups = prod(block.sizes[d] for d, _, _ in along)
        width = prod(block.sizes[d] for d, _ in roles.contract)
        read = read.transpose([*group, *rest, *left]).reshape(groups, -1, width)
        site = Site(
            leaf=block.leaf,
            region=block.region,
            kind=Kind.MATMUL,
            split=(
                block.named(d for d, _ in roles.contract),
                block.named(d for d, _ in roles.free),
                block.named(d for d, _, _ in along),
            ),
            positions=read.shape[1],
            left=width,
            right=prod(block.sizes[d] for d, _ in roles.free),
            groups=groups,
            shape=tuple(shape),
            group_dims=tuple(place for _, _, place in along),
            right_dims=tuple(place for _, place in roles.free),
            cuts=tuple(cuts),
            loops=block.loops,
            bag=1,
            bias=None,
            bias_region=(),
            dtype=dtype,
        )
        found.append((site, Read(scaled(read, block.scale))))
    return found


def matmul(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A product of a leaf with anything."""
    contracts, batches = eqn.params["dimension_numbers"]
    views = [i for i, value in enumerate(values) if isinstance(value, View)]
    if sum(isinstance(value, TableRows) for value in values) == 1 and not views:
        return pool(walk, eqn, values)
    if not views:
        return None
    # Of two leaves the smaller one is differentiated exactly, or one that was added to data.
    index = max(views, key=lambda i: (not values[i].mixed, values[i].num_entries))
    view, other = values[index], values[1 - index]
    own_contract, own_batch = contracts[index], batches[index]
    read_dims, read_batch = contracts[1 - index], batches[1 - index]
    if view.repeats([d for d in range(view.value.ndim) if d not in own_batch]):
        return None
    tap = other.tap if isinstance(other, Tapped | Bent) else None
    if tap is not None:
        # An exit, if this turns out to be all that reads it.
        site = walk.only_site(tap)
        same = (
            site is not None
            and tuple(dims_of(other)[d] for d in read_dims) == site.right_dims
            and prod(jnp.shape(other.value)[d] for d in read_dims) == jnp.size(other.value)
            and not read_batch
            and len(view.blocks) == 1
        )
        walk.exits.setdefault(tap, []).append(len(walk.shapes) if same else None)
        tap = tap if same else None
    other = plain(other) if isinstance(other, Tapped | Bent) else walk.settle(other)
    value = bind(eqn, [view.value if i == index else other for i in range(2)])[0]
    free = [d for d in range(jnp.ndim(other)) if d not in (*read_dims, *read_batch)]
    own_free = [d for d in range(view.value.ndim) if d not in (*own_contract, *own_batch)]
    first_right = len(own_batch) + (len(free) if index == 1 else 0)
    # The other factor in the order of the tap: what goes along, positions, what is summed over.
    read = other.transpose([*read_batch, *free, *read_dims])
    along, before = len(own_batch), len(own_batch) + len(free)
    roles = Roles(
        tuple((d, before + i) for i, d in enumerate(own_contract)),
        tuple((d, first_right + i) for i, d in enumerate(own_free)),
        tuple((d, i, i) for i, d in enumerate(own_batch[:along])),
    )
    found = product_sites(view, roles, read, value.shape, value.dtype)
    if found is None:
        return None
    if len(found) == 1 and found[0][0].groups == 1 and not own_batch:
        weights = view.value.transpose([*own_contract, *own_free])
        weights = weights.reshape(prod(weights.shape[: len(own_contract)]), -1)
        site, own = found[0]
        activation = other if tap is not None else None
        found = [(site, own._replace(weights=weights, activation=activation))]
    return [walk.add(value, found)]


def multiply(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf times one number, or rows times a number each; the same of quotients."""
    first, second = values
    divide = eqn.primitive.name == "div"
    if not divide and isinstance(second, View | TableRows):
        first, second = second, first
    if isinstance(second, View | TableRows) or not isinstance(first, View | TableRows):
        return None
    narrow = second.narrow if isinstance(second, Spread) else None
    if isinstance(first, View) and np.size(plain(second)) != 1 and number_of(second) is None:
        return None
    factor = walk.settle(second)
    value = bind(eqn, [first.value if v is first else factor for v in values])[0]
    if value.shape != first.value.shape:
        return None
    if isinstance(first, View):
        number = number_of(second)
        factor = jnp.reshape(jnp.asarray(factor if number is None else number), ())
        scales = [jnp.asarray(block.scale, factor.dtype) for block in first.blocks]
        blocks = [
            block._replace(scale=scale / factor if divide else scale * factor)
            for block, scale in zip(first.blocks, scales, strict=True)
        ]
        return [View(value, tuple(blocks), first.mixed)]
    number = factor if narrow is None else narrow
    if np.shape(number) and np.shape(number)[-1] != 1:
        return None

    def times(weights: Array) -> Array:
        factors = jnp.broadcast_to(jnp.asarray(number), weights.shape)
        return weights / factors if divide else weights * factors

    return [first.change(value, lambda ids: ids, times)]


def negate(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """Minus a leaf."""
    (view,) = values
    if not isinstance(view, View):
        return None
    return [View(bind(eqn, [view.value])[0], _negative(view.blocks), view.mixed)]


def _negative(blocks: Sequence[Block]) -> tuple[Block, ...]:
    return tuple(block._replace(scale=-block.scale) for block in blocks)


def add(walk: Walk, eqn: Any, values: list[Any]) -> list[Any] | None:
    """A leaf that is added to what a site wrote as its bias, or anything added to a leaf."""
    first, second = values
    minus = eqn.primitive.name == "sub"
    if isinstance(second, Tapped) and not minus:
        first, second = second, first
    if isinstance(first, Tapped) and isinstance(second, View) and not minus:
        found = _biased(walk, first, second)
        if found is not None:
            for index, block in found.items():
                site = walk.sites[index]
                walk.sites[index] = site._replace(bias=block.leaf, bias_region=block.region)
                walk.biases.setdefault(block.leaf, []).append(index)
            value = bind(eqn, [first.value if v is first else second.value for v in values])[0]
            return [Bent(value, first.tap, True, dims_of(first))]
    shape = eqn.outvars[0].aval.shape
    if any(isinstance(value, TableRows) for value in values) or not any(
        isinstance(value, View) and value.value.shape == shape for value in values
    ):
        return None
    blocks: tuple[Block, ...] = ()
    for value, negative in zip(values, (False, minus), strict=True):
        if isinstance(value, View) and value.value.shape == shape:
            blocks += _negative(value.blocks) if negative else value.blocks
    taken = [
        v.value if isinstance(v, View) and v.value.shape == shape else walk.settle(v)
        for v in values
    ]
    mixed = any(
        value.mixed if isinstance(value, View) else not isinstance(value, CONSTANTS)
        for value in values
    )
    return [View(bind(eqn, taken)[0], blocks, mixed)]


def _biased(walk: Walk, tapped: Tapped, bias: View) -> dict[int, Block] | None:
    """For sites of a tap, the part of a view that is added to what each wrote and no other."""
    sites = {i: walk.sites[i] for i in walk.sites_of(tapped.tap)}
    shape = bias.value.shape
    if tapped.order is not None:
        # The bias as it would be added to what was written before it was transposed.
        back = [tapped.order.index(d) for d in range(len(shape))]
        shape = tuple(shape[d] for d in back)
        blocks = tuple(transposed(block, back) for block in bias.blocks)
        bias = View(jax.ShapeDtypeStruct(shape, tapped.value.dtype), blocks)
    if any(len(shape) != len(site.shape) or site.kind is Kind.LOOKUP for site in sites.values()):
        return None
    found: dict[int, Block] = {}
    written = set()
    for index, site in sites.items():
        own = {dim: (start, size) for dim, start, size in site.cuts}
        dims = (*site.group_dims, *site.right_dims)
        place = tuple((d, *own.get(d, (0, site.shape[d]))) for d in sorted({*dims, *own}))
        if place in written:
            continue
        written.add(place)
        block = _block_at(bias, site, place)
        if block is None or site.bias is not None:
            return None
        found[index] = block
    total = sum(prod(block.sizes) for block in bias.blocks)
    return found if total == sum(prod(block.sizes) for block in found.values()) else None


def _block_at(bias: View, site: Site, place: Sequence[tuple[int, int, int]]) -> Block | None:
    """The part of a bias at some places of the tap, if it is one and goes as the site goes."""
    dims = (*site.group_dims, *site.right_dims)
    cuts = [(d, start, start + size, 1) for d, start, size in place]
    blocks = sliced_all(bias.blocks, cuts)
    if len(blocks) != 1 or not isinstance(blocks[0].scale, float) or blocks[0].scale != 1.0:
        return None
    (block,) = blocks
    wanted = list(bias.value.shape)
    for d, _, size in place:
        wanted[d] = size
    sizes = list(block.sizes) == wanted
    named = block.named(dims)
    full = all(block.axes[d] is not None for d in dims if block.sizes[d] > 1)
    elsewhere = block.named(d for d in range(len(block.axes)) if d not in dims)
    plain_axes = all(isinstance(axis, int) for axis in named)
    loops = [loop[:1] + loop[2:] + (loop.axis is None,) for loop in block.loops]
    same = loops == [loop[:1] + loop[2:] + (loop.axis is None,) for loop in site.loops]
    ordered = plain_axes and list(named) == sorted(named)
    return block if sizes and full and ordered and same and not elsewhere else None

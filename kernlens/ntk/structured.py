r"""Tangent kernels from layer inputs and output cotangents, without per-example gradients.

Where a leaf enters linearly (:mod:`kernlens.ntk.walk`), its gradient at example :math:`i`, output
:math:`o`, is :math:`\sum_p a_{ip} \otimes \delta_{iop}`, and its share of the kernel

.. math:: \sum_{p,q} \langle a_{ip}, a_{jq}\rangle \langle \delta_{iop}, \delta_{jo'q}\rangle.

Three contractions give it: the products of *Grams* over positions (one Hadamard product where a
leaf is used once), *gradients* built from the factors and multiplied, and, for a leaf that enters
in any other way, its exact *Jacobian*. The plan
takes the cheapest for each leaf, from shapes alone.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from kernlens.ntk import lookups, walk
from kernlens.types import Array

HIGHEST = jax.lax.Precision.HIGHEST

ELEMENTWISE_COST = 60.0
"""Multiply-adds of a matrix product in the time of one elementwise operation, about."""

GRADIENT_BYTES = 16 * 2**20
"""Bytes of gradients that a block builds at a time."""


class Contraction(Enum):
    """How a leaf's share of the kernel is computed."""

    GRAM = "Grams of factors"
    GRADIENT = "gradients from factors"
    JACOBIAN = "exact Jacobian"


class Axes(NamedTuple):
    """What becomes of each axis of one example's output.

    Attributes:
      shape: the output's shape, without the batch axis.
      traced: axes summed over pairs, and divided by their size.
      diagonal: axes of which only equal pairs are kept.
      full: axes of which all pairs are kept.
    """

    shape: tuple[int, ...]
    traced: tuple[int, ...]
    diagonal: tuple[int, ...]
    full: tuple[int, ...]

    def size(self, axes: Sequence[int]) -> int:
        """Number of outputs along some axes."""
        return prod(self.shape[axis] for axis in axes)

    def arrange(self, x: Array) -> Array:
        """Brings ``[prod(shape), ...]`` to ``[traced, diagonal, full, ...]``."""
        rest = x.shape[1:]
        x = x.reshape(*self.shape, *rest)
        order = [*self.traced, *self.diagonal, *self.full]
        x = x.transpose([*order, *range(len(order), x.ndim)])
        sizes = (self.size(axes) for axes in (self.traced, self.diagonal, self.full))
        return x.reshape(*sizes, *rest)

    def interleave(self, k: Array) -> Array:
        """Brings ``[i, j, diagonal, full, full]`` to the axes that the kernel is to have."""
        lead = k.shape[:2]
        diagonal = [self.shape[axis] for axis in self.diagonal]
        full = [self.shape[axis] for axis in self.full]
        k = k.reshape(*lead, *diagonal, *full, *full)
        order = [0, 1]
        for axis in range(len(self.shape)):
            if axis in self.diagonal:
                order.append(2 + self.diagonal.index(axis))
            elif axis in self.full:
                first = 2 + len(diagonal) + self.full.index(axis)
                order += [first, first + len(full)]
        return k.transpose(order)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the kernel of one pair of examples."""
        sizes: list[int] = []
        for axis, size in enumerate(self.shape):
            if axis in self.diagonal:
                sizes.append(size)
            elif axis in self.full:
                sizes += [size, size]
        return tuple(sizes)


class Side(NamedTuple):
    """One model: a function of one example, and what the walk found in it.

    Attributes:
      closed: jaxpr of ``(*leaves, *x) -> outputs``.
      num_leaves: number of parameter leaves; those that the two models share come first.
      tracked: leaves whose sites are tapped, and the biases joined to them.
      sites: these sites.
      last: those that wrote the output.
      next_to_last: those that reach the output by an elementwise function and a last site.
    """

    closed: ClosedJaxpr
    num_leaves: int
    tracked: frozenset[int]
    sites: tuple[walk.Site, ...]
    last: frozenset[int]
    next_to_last: dict[int, int]


class Part(NamedTuple):
    """Sites of one leaf whose factors share coordinates; their positions are joined.

    Attributes:
      sites: indices of the sites.
      kind: what the left factor is.
      flipped: whether its left factor lies on the axes that are right for the first part.
      positions: number of positions of all sites together.
      left: width of the left factor.
      right: width of the right factor.
      bag: rows that a lookup sums at each position.
      folded: whether the sum over traced outputs is folded into the right factor, so that it
        counts once: the cotangents of a last site are unit vectors, those of a site next to last
        a constant matrix times slopes.
    """

    sites: tuple[int, ...]
    kind: walk.Kind
    flipped: bool
    positions: int
    left: int
    right: int
    bag: int
    folded: bool


class Share(NamedTuple):
    """What one leaf adds to the kernel, and how.

    Attributes:
      leaf: index of the leaf.
      size: number of its entries.
      bias: leaf whose share is computed along with it, or None.
      parts: parts of each side, ``(parts1, parts2)``; empty for an exact Jacobian.
      contraction: the way chosen.
      operations: multiply-adds a pair of examples costs, elementwise ones weighted.
      pair_bytes: bytes that each pair of examples of a block needs while it is contracted.
    """

    leaf: int
    size: int
    bias: int | None
    parts: tuple[tuple[Part, ...], tuple[Part, ...]]
    contraction: Contraction
    operations: float
    pair_bytes: int


class Plan(NamedTuple):
    """How a kernel is computed.

    Attributes:
      sides: the two models; the same object twice where they are the same.
      axes: the output's axes.
      shares: one entry a leaf (or a leaf with its bias).
    """

    sides: tuple[Side, Side]
    axes: Axes
    shares: tuple[Share, ...]

    @property
    def operations(self) -> float:
        """Multiply-adds of one pair of examples."""
        return sum(share.operations for share in self.shares)


def sides(
    models: Sequence[tuple[ClosedJaxpr, int]], selected: frozenset[int], structured: bool
) -> tuple[tuple[Side, ...], frozenset[int]]:
    """Decides for each leaf whether its sites, in all models, can stand for it.

    Args:
      models: each a jaxpr of a function of one example and its number of parameter leaves; leaf
        ``i`` of one model is leaf ``i`` of the others.
      selected: leaves that the kernel is about.
      structured: False to differentiate all of them exactly.

    Returns:
      A side for each model, and the selected leaves that enter all of them at all.
    """
    found = [walk.find(closed, num_leaves, selected) for closed, num_leaves in models]
    used = selected.intersection(*(_used(one) for one in found))
    tracked = used if structured else frozenset()
    while True:
        found = [walk.find(closed, num_leaves, tracked) for closed, num_leaves in models]
        kept = tracked.intersection(_kept(found))
        if kept == tracked:
            return tuple(
                Side(closed, num_leaves, tracked, one.sites, one.last, one.next_to_last)
                for (closed, num_leaves), one in zip(models, found, strict=True)
            ), used
        tracked = kept


def _used(found: walk.Sites) -> set[int]:
    return {site.leaf for site in found.sites} | found.opaque | set(found.biases)


def _kept(found: Sequence[walk.Sites]) -> set[int]:
    """Leaves that enter every model by coordinated sites alone, and biases joined to them."""
    splits: dict[int, set[walk.Split]] = {}
    for one in found:
        for site in one.sites:
            splits.setdefault(site.leaf, set()).add(site.split)
    opaque = frozenset().union(*(one.opaque for one in found))
    kept = {leaf for leaf, own in splits.items() if leaf not in opaque and _coordinated(own)}
    kept &= set.intersection(*({site.leaf for site in one.sites} for one in found))
    for bias in found[0].biases:
        owners = {_owner(one, bias) for one in found}
        if None not in owners and len(owners) == 1 and bias not in opaque and owners <= kept:
            kept.add(bias)
    return kept


def _coordinated(splits: set[walk.Split]) -> bool:
    """Whether all splits are one, or one and its mirror."""
    first = min(splits, key=repr)
    return all(split in (first, first[::-1]) for split in splits)


def _owner(found: walk.Sites, bias: int) -> int | None:
    """The leaf with all of whose uses a bias goes, if it goes with nothing else."""
    sites = set(found.biases.get(bias, ()))
    leaves = {found.sites[i].leaf for i in sites}
    if len(leaves) != 1:
        return None
    (leaf,) = leaves
    uses = {i for i, site in enumerate(found.sites) if site.leaf == leaf}
    return leaf if uses == sites and len({found.sites[i].split for i in uses}) == 1 else None


def parts_of(side: Side, leaf: int, first: walk.Split, fold: bool) -> tuple[Part, ...]:
    """Groups the sites of a leaf; ``first`` is the split that counts as not flipped."""
    groups: dict[tuple[bool, bool], list[int]] = {}
    own = [i for i, site in enumerate(side.sites) if site.leaf == leaf]
    for i in own:
        site = side.sites[i]
        kind = site.kind is walk.Kind.LOOKUP
        groups.setdefault((site.split != first, kind), []).append(i)
    parts = []
    for (flipped, _), indices in groups.items():
        sites = [side.sites[i] for i in indices]
        parts.append(
            Part(
                tuple(indices),
                sites[0].kind,
                flipped,
                sum(site.positions for site in sites),
                sites[0].left,
                sites[0].right,
                max(site.bag for site in sites),
                fold and len(indices) == len(own) == 1 and _foldable(side, indices[0]),
            )
        )
    return tuple(parts)


def _foldable(side: Side, index: int) -> bool:
    return side.sites[index].positions == 1 and (index in side.last or index in side.next_to_last)


def plan(
    both: tuple[Side, Side],
    axes: Axes,
    sizes: dict[int, int],
    itemsize: int,
    *,
    same_params: bool,
    contraction: Contraction | None = None,
) -> Plan:
    """Chooses a contraction for each leaf.

    Args:
      both: the two models.
      axes: the output's axes.
      sizes: number of entries of each leaf that the kernel is about.
      itemsize: bytes of a number.
      same_params: whether both sides have the same parameters.
      contraction: one way for all leaves that allow it, in place of the cheapest.

    Returns:
      The plan.
    """
    biases = {
        site.leaf: site.bias
        for site in both[0].sites
        if site.bias is not None and site.bias in both[0].tracked
    }
    fold = same_params and axes.size(axes.diagonal) == axes.size(axes.full) == 1
    shares = []
    for leaf, size in sizes.items():
        if leaf in biases.values():
            continue
        parts: tuple[tuple[Part, ...], tuple[Part, ...]] = ((), ())
        if leaf in both[0].tracked:
            first = next(site.split for site in both[0].sites if site.leaf == leaf)
            parts = (
                parts_of(both[0], leaf, first, fold),
                parts_of(both[1], leaf, first, fold),
            )
        shares.append(_share(leaf, size, biases.get(leaf), parts, axes, itemsize, contraction))
    return Plan(both, axes, tuple(shares))


def _share(
    leaf: int,
    size: int,
    bias: int | None,
    parts: tuple[tuple[Part, ...], tuple[Part, ...]],
    axes: Axes,
    itemsize: int,
    wanted: Contraction | None,
) -> Share:
    t, d, f = (axes.size(a) for a in (axes.traced, axes.diagonal, axes.full))
    outs = d * f * f
    costs: dict[Contraction, tuple[float, int]] = {}
    dense = size * t * outs
    if not parts[0]:
        costs[Contraction.JACOBIAN] = (dense, outs * itemsize)
    elif any(part.folded for part in parts[0]):
        ((part,), _) = parts
        operations = _left_operations(part, part) + part.right + 0.4 * ELEMENTWISE_COST
        costs[Contraction.GRAM] = (operations, outs * itemsize)
    else:
        gram, room = 0.0, 0
        for one in parts[0]:
            for two in parts[1]:
                meets = one.positions * two.positions
                left = _left_operations(one, two)
                right = t * outs * one.right
                if one.flipped != two.flipped:
                    left, right = t * outs * one.left, one.right * t * outs
                elementwise = ELEMENTWISE_COST * (1 + outs) * (1.0 if meets > 1 else 0.2)
                gram += meets * (left + right + elementwise)
                # Kept outputs are summed one position of the first side after the other.
                held = meets if outs == 1 else two.positions
                room = max(room, (meets + held * outs) * itemsize)
        costs[Contraction.GRAM] = (gram, room)
        costs[Contraction.GRADIENT] = (dense, outs * itemsize)
    # A tie goes to the Grams: nothing is built.
    order = sorted(costs, key=lambda way: (costs[way][0], way is not Contraction.GRAM))
    way = wanted if wanted in costs else order[0]
    return Share(leaf, size, bias, parts, way, *costs[way])


def _left_operations(one: Part, two: Part) -> float:
    if one.kind is not walk.Kind.LOOKUP and two.kind is not walk.Kind.LOOKUP:
        return one.left
    return ELEMENTWISE_COST * one.bag * two.bag


class Factors(NamedTuple):
    """What each example brings to the contraction, with leading axes ``[n]``.

    Attributes:
      parts: for each share that is not exact, for each of its parts, ``(left, right)``: left
        ``[positions, left]`` or a lookup, right ``[positions, diagonal, full, traced, right]``.
      jacobians: for each exact share, ``[diagonal, full, traced * size]``.
    """

    parts: tuple[tuple[tuple[Any, Array], ...], ...]
    jacobians: tuple[Array, ...]


def factors(plan: Plan, which: int, leaves: Sequence[Array], x: Sequence[Array]) -> Factors:
    """Factors of one example.

    Args:
      plan: the plan.
      which: 0 or 1, the side.
      leaves: the model's parameters.
      x: flat inputs of one example, with a leading axis of 1.

    Returns:
      The factors, without the batch axis.
    """
    side, axes = plan.sides[which], plan.axes
    shares = [share for share in plan.shares if share.contraction is Contraction.JACOBIAN]
    wanted = [share.leaf for share in shares]

    folded = [
        part.sites[0]
        for share in plan.shares
        for part in share.parts[which]
        if part.folded and part.sites[0] in side.next_to_last
    ]

    def run(taps: list[Array], exact: list[Array]) -> tuple[tuple[Array, list[Any]], Any]:
        args = list(leaves)
        for leaf, value in zip(wanted, exact, strict=True):
            args[leaf] = value
        (out,), read = walk.evaluate(side.closed, side.num_leaves, side.tracked, taps, [*args, *x])
        activations = [read[side.next_to_last[i]].activation for i in folded]
        return (out.reshape(-1), activations), read

    taps = [jnp.zeros(site.shape, site.dtype) for site in side.sites]
    (out, activations), pullback, read = jax.vjp(
        run, taps, [leaves[leaf] for leaf in wanted], has_aux=True
    )
    silent = [jnp.zeros_like(activation) for activation in activations]
    cotangents, gradients = jax.vmap(lambda unit: pullback((unit, silent)))(
        jnp.eye(out.size, dtype=out.dtype)
    )
    slopes = {}
    for place, index in enumerate(folded):
        ones = [jnp.ones_like(a) if i == place else silent[i] for i, a in enumerate(activations)]
        slopes[index] = pullback((jnp.zeros_like(out), ones))[0][index]
    parts = []
    for share in plan.shares:
        if share.contraction is not Contraction.JACOBIAN:
            parts.append(
                tuple(
                    (read[part.sites[0]].left, _folded(side, part, out, slopes, read))
                    if part.folded
                    else _join(side, axes, part, cotangents, read)
                    for part in share.parts[which]
                )
            )
    jacobians = []
    for gradient in gradients:
        flat = axes.arrange(gradient.reshape(out.size, -1))
        jacobians.append(jnp.moveaxis(flat, 0, 2).reshape(*flat.shape[1:3], -1))
    return Factors(tuple(parts), tuple(jacobians))


def _folded(
    side: Side, part: Part, out: Array, slopes: dict[int, Array], read: Sequence[walk.Read]
) -> Array:
    r"""Right factor ``[1, 1, 1, 1, b]`` whose inner products are summed over all outputs.

    The cotangents of a site next to last are :math:`C_{ok} s_k`, with the weights that follow as
    :math:`C`, so their inner products sum to :math:`\sum_k s_k s'_k \sum_o C_{ok}^2`.
    """
    (index,) = part.sites
    if index in side.last:
        return jnp.sqrt(jnp.full((1, 1, 1, 1, 1), out.size, out.dtype))
    weights = read[side.next_to_last[index]].weights
    squares = jnp.sum(weights**2, axis=1)
    # A root that has a gradient at zero too, where a layer starts.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return walk.right_factor(side.sites[index], slopes[index])[:, None, None, None] * norms


def _join(
    side: Side, axes: Axes, part: Part, cotangents: Sequence[Array], read: Sequence[walk.Read]
) -> tuple[Any, Array]:
    rights = [
        jnp.moveaxis(axes.arrange(walk.right_factor(side.sites[i], cotangents[i])), (3, 0), (0, 3))
        for i in part.sites
    ]
    right = rights[0] if len(rights) == 1 else jnp.concatenate(rights)
    lefts = [read[i].left for i in part.sites]
    if part.kind is not walk.Kind.LOOKUP:
        return (lefts[0] if len(lefts) == 1 else jnp.concatenate(lefts)), right

    def widen(x: Array, fill: float) -> Array:
        return jnp.pad(x, ((0, 0), (0, part.bag - x.shape[1])), constant_values=fill)

    ids = jnp.concatenate([widen(left.ids, -1) for left in lefts])
    weights = jnp.concatenate([widen(left.weights, 0) for left in lefts])
    return walk.Lookup(ids, weights), right


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
    jacobians = iter(zip(one.jacobians, two.jacobians, strict=True))
    for share in plan.shares:
        exact = share.contraction is Contraction.JACOBIAN
        own: Any = next(jacobians) if exact else next(parts)
        if total is not None:
            # One share after the other: what one builds is gone before the next is built.
            total, own = jax.lax.optimization_barrier((total, own[:1] if same else own))
            own = own * 2 if same else own
        if exact:
            block = _flat_product(*own)
        elif share.contraction is Contraction.GRADIENT:
            block = _gradient_products(share, *own)
        else:
            block = _gram_products(share, *own)
        total = block if total is None else total + block
    scale = plan.axes.size(plan.axes.traced)
    return plan.axes.interleave(total) / scale


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
        return _flat_product(_gradients(share, one, 0), _gradients(share, two, 1))
    own = [
        (
            _one_hot(left, share.parts[0][0].left, right.dtype)
            if isinstance(left, walk.Lookup)
            else _with_ones(left, share.bias is not None),
            right,
        )
        for ((left, right),) in ((one,) if two is one else (one, two))
    ]
    width = own[0][0].shape[-1]
    size = max(right.size * width // right.shape[1] for _, right in own)
    chunks = min(width, -(-size * own[0][1].dtype.itemsize // GRADIENT_BYTES))
    rights = [right for _, right in own]

    def products(lefts: Sequence[Array]) -> Array:
        built = [_outer(left, right) for left, right in zip(lefts, rights, strict=True)]
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


def _with_ones(left: Array, bias: bool) -> Array:
    return jnp.concatenate([left, jnp.ones_like(left[..., :1])], axis=-1) if bias else left


def _outer(left: Array, right: Array) -> Array:
    """Gradients ``[n, d, f, t, b, a]``: batch, then right, then left, as a product gives them."""
    return jnp.einsum("npdftb,npa->ndftba", right, left, precision=HIGHEST)


def _gradients(share: Share, parts: Sequence[tuple[Any, Array]], which: int) -> Array:
    """Gradients of a leaf with several parts, ``[i, d, f, traced * size]``."""
    total: Any = None
    for part, (left, right) in zip(share.parts[which], parts, strict=True):
        if isinstance(left, walk.Lookup):
            left = _one_hot(left, part.left, right.dtype)
        block = _outer(_with_ones(left, share.bias is not None), right)
        block = block.swapaxes(-1, -2) if part.flipped else block
        total = block if total is None else total + block
    return total.reshape(*total.shape[:3], -1)


def _one_hot(left: walk.Lookup, num_rows: int, dtype: Any) -> Array:
    hot = jax.nn.one_hot(left.ids, num_rows, dtype=dtype)
    return jnp.einsum("npsv,nps->npv", hot, left.weights.astype(dtype), precision=HIGHEST)


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
    if not (isinstance(left1, walk.Lookup) and isinstance(left2, walk.Lookup)):
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
    if isinstance(left1, walk.Lookup) and isinstance(left2, walk.Lookup):
        return lookups.gram(left1, left2)
    if isinstance(left1, walk.Lookup):
        return lookups.read_rows(left2, left1).transpose(2, 3, 0, 1)
    if isinstance(left2, walk.Lookup):
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
    if not isinstance(left, walk.Lookup):
        return jnp.einsum("ipa,jqdfta->ipjqdft", left, right, precision=HIGHEST)
    read = right[..., jnp.maximum(left.ids, 0)]
    weights = jnp.where(left.ids >= 0, left.weights, 0).astype(right.dtype)
    return jnp.moveaxis(jnp.sum(read * weights, axis=-1), (-2, -1), (0, 1))


def batched(
    plan: Plan, which: int, block: int
) -> Callable[[Sequence[Array], Sequence[Array]], Factors]:
    """Factors of many examples: ``(leaves, x with a batch axis) -> Factors``, some at a time."""

    def run(leaves: Sequence[Array], x: Sequence[Array]) -> Factors:
        one = partial(factors, plan, which, leaves)
        rows = [leaf[:, None] for leaf in x]
        if rows[0].shape[0] <= block:
            return jax.vmap(one)(rows)
        return jax.lax.map(one, rows, batch_size=block)

    return run

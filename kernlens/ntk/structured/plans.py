"""What each parameter leaf adds to a kernel, and the cheapest way to compute it, from shapes."""

from collections.abc import Sequence
from enum import Enum
from math import prod
from typing import NamedTuple

from kernlens.ntk import walk
from kernlens.ntk.structured.sides import Side
from kernlens.types import Array

ELEMENTWISE_COST = 60.0
"""Multiply-adds of a matrix product in the time of one elementwise operation, about."""


class Contraction(Enum):
    """How a leaf's share of the kernel is computed."""

    GRAM = "Grams of factors"
    GRADIENT = "gradients from factors"
    JACOBIAN = "exact Jacobian"


class OutputAxes(NamedTuple):
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


class Part(NamedTuple):
    """Sites of a leaf's entries whose factors share coordinates; their positions are joined.

    Attributes:
      sites: indices of the sites.
      kind: what the left factor is.
      flipped: whether its left factor lies on the axes that are right for the first part.
      positions: number of positions of all sites together.
      left: width of the left factor.
      right: width of the right factor.
      groups: number of slices of the leaf that do not meet each other.
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
    groups: int
    bag: int
    folded: bool


class Share(NamedTuple):
    """What a leaf, or a part of it that is used apart, adds to the kernel, and how.

    Attributes:
      leaf: index of the leaf.
      piece: number of the part among those of the leaf.
      size: number of its entries.
      bias: leaf whose share is computed along with it, or None.
      parts: parts of each side, ``(parts1, parts2)``; empty for an exact Jacobian.
      contraction: the way chosen.
      built: whether gradients are built along with the factors and kept in their place, since
        they are smaller.
      operations: multiply-adds a pair of examples costs, elementwise ones weighted.
      pair_bytes: bytes that each pair of examples of a block needs while it is contracted.
      passing: numbers that each example needs while its factors are computed.
    """

    leaf: int
    piece: int
    size: int
    bias: int | None
    parts: tuple[tuple[Part, ...], tuple[Part, ...]]
    contraction: Contraction
    built: bool
    operations: float
    pair_bytes: int
    passing: int

    @property
    def flat(self) -> bool:
        """Whether each example brings its gradient, not the factors of it."""
        return self.built or self.contraction is Contraction.JACOBIAN


class Plan(NamedTuple):
    """How a kernel is computed.

    Attributes:
      sides: the two models; the same object twice where they are the same.
      axes: the output's axes.
      shares: one entry a leaf (or a leaf with its bias).
    """

    sides: tuple[Side, Side]
    axes: OutputAxes
    shares: tuple[Share, ...]

    @property
    def operations(self) -> float:
        """Multiply-adds of one pair of examples."""
        return sum(share.operations for share in self.shares)


def parts_of(
    side: Side, piece: tuple[int, walk.Region], first: walk.Split, fold: bool
) -> tuple[Part, ...]:
    """Groups the sites of a piece; ``first`` is the split that counts as not flipped."""
    groups: dict[tuple[bool, bool], list[int]] = {}
    own = [i for i, site in enumerate(side.sites) if site.piece == piece]
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
                sites[0].groups,
                max(site.bag for site in sites),
                fold and len(indices) == len(own) == 1 and _foldable(side, indices[0]),
            )
        )
    return tuple(parts)


def _foldable(side: Side, index: int) -> bool:
    return index in side.last or index in side.next_to_last


def plan(
    both: tuple[Side, Side],
    axes: OutputAxes,
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
        site.piece: site.bias
        for site in both[0].sites
        if site.bias is not None and site.bias in both[0].tracked
    }
    fold = same_params and axes.size(axes.diagonal) == axes.size(axes.full) == 1
    shares = []
    for leaf, size in sizes.items():
        if leaf in biases.values():
            continue
        if leaf not in both[0].tracked:
            exact: tuple[tuple[Part, ...], tuple[Part, ...]] = ((), ())
            shares.append(_share(leaf, 0, size, None, exact, axes, itemsize, contraction))
            continue
        # A part that one model alone uses adds nothing.
        pieces = [{s.piece: s for s in reversed(side.sites) if s.leaf == leaf} for side in both]
        known = [piece for piece in pieces[0] if piece in pieces[1]]
        for place, piece in enumerate(sorted(known, key=repr)):
            site = pieces[0][piece]
            parts = (
                parts_of(both[0], piece, site.split, fold),
                parts_of(both[1], piece, site.split, fold),
            )
            bias = biases.get(piece)
            shares.append(_share(leaf, place, site.size, bias, parts, axes, itemsize, contraction))
    return Plan(both, axes, tuple(shares))


def _share(
    leaf: int,
    piece: int,
    size: int,
    bias: int | None,
    parts: tuple[tuple[Part, ...], tuple[Part, ...]],
    axes: OutputAxes,
    itemsize: int,
    wanted: Contraction | None,
) -> Share:
    t, d, f = (axes.size(a) for a in (axes.traced, axes.diagonal, axes.full))
    folded = any(part.folded for part in parts[0])
    t = 1 if folded else t
    outs = d * f * f
    costs: dict[Contraction, tuple[float, int]] = {}
    dense = size * t * outs
    if not parts[0]:
        costs[Contraction.JACOBIAN] = (dense, outs * itemsize)
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
                gram += one.groups * meets * (left + right + elementwise)
                # Kept outputs are summed one position of the first side after the other.
                held = meets if outs == 1 else two.positions
                room = max(room, (meets + held * outs) * itemsize)
        costs[Contraction.GRAM] = (gram, room)
        # Of a last site the right factor is one number.
        if not (folded and parts[0][0].positions == 1):
            costs[Contraction.GRADIENT] = (dense, outs * itemsize)
    # A tie goes to the Grams: nothing is built.
    order = sorted(costs, key=lambda way: (costs[way][0], way is not Contraction.GRAM))
    way = wanted if wanted in costs else order[0]
    gradient = size * t * d * f
    factors = sum(_numbers(part, t * d * f) for part in parts[0]) if parts[0] else gradient
    built = way is Contraction.GRADIENT and gradient <= factors
    return Share(leaf, piece, size, bias, parts, way, built, *costs[way], factors)


def _numbers(part: Part, outputs: int) -> int:
    """Numbers in the factors of an example."""
    left = 2 * part.bag if part.kind is walk.Kind.LOOKUP else part.left
    return part.groups * part.positions * (left + outputs * part.right)


def _left_operations(one: Part, two: Part) -> float:
    if one.kind is not walk.Kind.LOOKUP and two.kind is not walk.Kind.LOOKUP:
        return one.left
    return ELEMENTWISE_COST * one.bag * two.bag

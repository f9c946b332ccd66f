"""Leaves on their way to a use: sliced, joined, reordered, and which entries stand where."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

from kernlens.ntk.walk.sites import Region


class Derived(NamedTuple):
    """An axis that a reshape made: one of ``sizes``, from axes with their sizes, ``source``."""

    source: tuple[tuple[Any, int], ...]
    sizes: tuple[int, ...]
    place: int


class Loop(NamedTuple):
    """A loop over slices of a leaf, on the way to its body.

    Attributes:
      depth: how many loops there are up to and with it.
      axis: the leaf's axis that it slices; None where one step alone reads the block.
      start: the first step that reads the block.
      size: number of steps that do.
    """

    depth: int
    axis: Any
    start: int
    size: int


class Block(NamedTuple):
    """The part of a view that one leaf fills.

    Attributes:
      leaf: index of the leaf.
      axes: the leaf's axis behind each dimension; None where its size is 1, or where the entries
        repeat.
      starts: where the block begins along each dimension of the view.
      sizes: how far it goes.
      region: which entries of the leaf these are.
      loops: loops whose steps each see a slice, outermost first.
      scale: what the leaf is multiplied by.
    """

    leaf: int
    axes: tuple[Any, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    region: Region
    loops: tuple[Loop, ...]
    scale: Any

    def named(self, dims: Iterable[int]) -> tuple[Any, ...]:
        """The leaf's axes behind some dimensions, in order."""
        return tuple(self.axes[d] for d in dims if self.axes[d] is not None)

    def repeats(self, dims: Iterable[int]) -> bool:
        """Whether entries of the leaf stand more than once along some dimensions."""
        return any(self.axes[d] is None and self.sizes[d] > 1 for d in dims)


class View(NamedTuple):
    """An array that is linear in leaves, each entry of which enters it by itself.

    ``value`` is the array; ``mixed`` says that it holds other values too, added or between blocks.
    """

    value: Any
    blocks: tuple[Block, ...]
    mixed: bool = False

    @property
    def num_entries(self) -> int:
        """Number of entries that leaves fill."""
        return sum(prod(block.sizes) for block in self.blocks)

    def repeats(self, dims: Iterable[int] | None = None) -> bool:
        """Whether entries of a leaf stand in it more than once (along some dimensions)."""
        dims = range(len(self.value.shape)) if dims is None else list(dims)
        return any(block.repeats(dims) for block in self.blocks)


Cut: TypeAlias = tuple[int, int, int, int]
"""A dimension, where a slice of it starts and ends, and its step."""


def leaf_view(leaf: int, value: Any) -> View:
    """A whole leaf."""
    shape = tuple(value.shape)
    axes = tuple(axis if size > 1 else None for axis, size in enumerate(shape))
    return View(value, (Block(leaf, axes, (0,) * len(shape), shape, (), (), 1.0),))


def sliced(block: Block, cuts: Iterable[Cut]) -> Block | None:
    """What a slice of the view keeps of a block; None for nothing."""
    axes, starts, sizes = list(block.axes), list(block.starts), list(block.sizes)
    region = {axis: own for axis, *own in block.region}
    for dim, start, stop, step in cuts:
        first, size = starts[dim], sizes[dim]
        low = max(0, -((start - first) // step))
        high = min(-(-(stop - start) // step), -((start - first - size) // step))
        if high <= low:
            return None
        offset = start + low * step - first
        if axes[dim] is not None and (offset, high - low, step) != (0, size, 1):
            before, _, stride = region.get(axes[dim], (0, size, 1))
            region[axes[dim]] = [before + offset * stride, high - low, step * stride]
            axes[dim] = axes[dim] if high - low > 1 else None
        starts[dim], sizes[dim] = low, high - low
    return block._replace(
        axes=tuple(axes),
        starts=tuple(starts),
        sizes=tuple(sizes),
        region=tuple(sorted(((a, *own) for a, own in region.items()), key=repr)),
    )


def sliced_all(blocks: Iterable[Block], cuts: Sequence[Cut]) -> tuple[Block, ...]:
    """What a slice of the view keeps of its blocks."""
    return tuple(own for block in blocks if (own := sliced(block, cuts)) is not None)


def shifted(block: Block, by: dict[int, int]) -> Block:
    """A block in a larger view, further along some dimensions."""
    return block._replace(starts=tuple(s + by.get(d, 0) for d, s in enumerate(block.starts)))


def without(block: Block, dim: int) -> Block:
    """A block without one of its dimensions."""
    return block._replace(
        **{
            name: value[:dim] + value[dim + 1 :]
            for name in ("axes", "starts", "sizes")
            for value in (getattr(block, name),)
        }
    )


def transposed(block: Block, order: Sequence[int]) -> Block:
    """A block of a transposed view."""
    return block._replace(
        **{
            name: tuple(getattr(block, name)[d] for d in order)
            for name in ("axes", "starts", "sizes")
        }
    )


def broadcast(block: Block, old: Sequence[int], new: Sequence[int], places: Sequence[int]) -> Block:
    """A block of a view that is repeated along new dimensions, and along those of size 1."""
    axes: list[Any] = [None] * len(new)
    starts, sizes = [0] * len(new), list(new)
    for source, target in enumerate(places):
        if old[source] == new[target]:
            axes[target] = block.axes[source]
            starts[target], sizes[target] = block.starts[source], block.sizes[source]
    return block._replace(axes=tuple(axes), starts=tuple(starts), sizes=tuple(sizes))


def reshaped(block: Block, old: Sequence[int], new: Sequence[int]) -> Block | None:
    """A block of a reshaped view; None where it is no block any more."""
    axes: list[Any] = []
    starts: list[int] = []
    sizes: list[int] = []
    for first, second in _together(old, new):
        own = _regrouped(block, [d for d in first if old[d] > 1], old, [new[d] for d in second])
        if own is None:
            return None
        for into, values in zip((axes, starts, sizes), own, strict=True):
            into += values
    return block._replace(axes=tuple(axes), starts=tuple(starts), sizes=tuple(sizes))


def _together(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Runs of dimensions before and after a reshape that hold the same entries."""
    runs, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        a, b, one, two = i, j, 1, 1
        if i < len(old):
            one, i = old[i], i + 1
        if j < len(new):
            two, j = new[j], j + 1
        while one != two:
            if one < two:
                one, i = one * old[i], i + 1
            else:
                two, j = two * new[j], j + 1
        runs.append((range(a, i), range(b, j)))
    return runs


def _regrouped(
    block: Block, dims: Sequence[int], old: Sequence[int], new: Sequence[int]
) -> tuple[list[Any], list[int], list[int]] | None:
    """Axes, starts and sizes of a block along one run of new dimensions."""
    partial = [d for d in dims if block.sizes[d] != old[d]]
    pivot = partial[-1] if partial else -1
    if any(block.sizes[d] > 1 for d in dims if d < pivot):
        return None  # not one stretch of entries
    start, size = 0, prod(block.sizes[d] for d in dims)
    for d in dims:
        start = start * old[d] + block.starts[d]
    starts, sizes, rest = [0] * len(new), [1] * len(new), size
    for d in reversed(range(len(new))):
        if rest % new[d] == 0 and start % new[d] == 0:
            sizes[d], rest, start = new[d], rest // new[d], start // new[d]
            continue
        starts[d], sizes[d] = start % new[d], rest
        if starts[d] + rest > new[d]:
            return None
        start, rest = start // new[d], 1
    content = [(block.axes[d], block.sizes[d]) for d in dims if block.sizes[d] > 1]
    wide = [n for n in sizes if n > 1]
    if [n for _, n in content] == wide:
        names = [axis for axis, _ in content]
    elif any(axis is None for axis, _ in content):
        return None
    else:
        names = _renamed(content, wide)
    rest_of = iter(names)
    return [next(rest_of) if n > 1 else None for n in sizes], starts, sizes


def _renamed(content: Sequence[tuple[Any, int]], sizes: Sequence[int]) -> list[Any]:
    first = content[0][0]
    if isinstance(first, Derived):
        again = [(Derived(*first[:2], i), n) for i, n in enumerate(first.sizes)]
        if again == list(content) and [n for _, n in first.source] == list(sizes):
            return [axis for axis, _ in first.source]
    return [Derived(tuple(content), tuple(sizes), i) for i in range(len(sizes))]


def disjoint(one: Region, two: Region) -> bool:
    """Whether two regions of a leaf have no entry in common, as far as can be told."""
    other = {axis: own for axis, *own in two}
    for axis, first, size, step in one:
        if axis not in other:
            continue
        first2, size2, step2 = other[axis]
        apart = first + (size - 1) * step < first2 or first2 + (size2 - 1) * step2 < first
        if apart or (step == step2 and (first - first2) % step):
            return True
    return False

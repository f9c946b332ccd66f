"""Where a leaf enters a function linearly, and what was read there."""

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import jax

from kernlens.types import Array

Split: TypeAlias = tuple[Any, Any, Any]
"""Which axes of a leaf a site reads from (left), writes to (right), and goes along (groups)."""

Region: TypeAlias = tuple[tuple[Any, int, int, int], ...]
"""Which entries of a leaf: for each axis that is not whole, its first index, size and step."""


class Kind(Enum):
    """What a site's left factor is."""

    MATMUL = "matrix product"
    CONVOLUTION = "convolution"
    LOOKUP = "lookup"


class WeightedIds(NamedTuple):
    """Left factor of a lookup: weighted one-hot rows.

    Attributes:
      ids: rows read, int ``[..., positions, bag]``; -1 where nothing was read.
      weights: what each is multiplied by, of the same shape.
    """

    ids: Array
    weights: Array


class Site(NamedTuple):
    """One use of a leaf, or of a region of it, that is linear in it.

    Attributes:
      leaf: index of the leaf.
      region: the entries that are used; sites of other entries do not meet it.
      kind: what the left factor is.
      split: left, right and group axes, equal for uses whose factors share coordinates.
      positions: number of positions P at which the leaf is used.
      left: width of the left factor; for a lookup the number of rows of the table.
      right: width of the right factor.
      groups: number of slices of the leaf that are used apart from each other: the layers of a
        loop, the experts of a batched product. 1 for most.
      shape: shape of the tap.
      group_dims: dimensions of the tap that are the groups, in order.
      right_dims: dimensions of the tap that make up the right factor, in order.
      cuts: dimensions of the tap of which the site has a part: ``(dim, start, size)``.
      loops: loops around the site that slice the leaf.
      bag: rows that a lookup sums at each position; 1 for the other kinds.
      bias: leaf added to what the site wrote, or None.
      bias_region: its entries.
      dtype: dtype of the tap.
      tap: index of the tap; several sites may have parts of one.
    """

    leaf: int
    region: Region
    kind: Kind
    split: Split
    positions: int
    left: int
    right: int
    groups: int
    shape: tuple[int, ...]
    group_dims: tuple[int, ...]
    right_dims: tuple[int, ...]
    cuts: tuple[tuple[int, int, int], ...]
    loops: tuple[Any, ...]
    bag: int
    bias: int | None
    bias_region: Region
    dtype: Any
    tap: int = -1

    @property
    def piece(self) -> tuple[int, Region]:
        """The leaf and its entries."""
        return self.leaf, self.region

    @property
    def size(self) -> int:
        """Number of these entries."""
        return self.groups * self.left * self.right


class Sites(NamedTuple):
    """What a walk found.

    Attributes:
      sites: the linear uses, in the order of evaluation.
      taps: shapes of the taps, in the order of evaluation.
      opaque: leaves that enter in any other way.
      biases: leaves added to what sites wrote, each with the indices of these sites.
      last: sites that wrote the output itself, so that their cotangents are unit vectors.
      next_to_last: sites whose writing reaches the output through an elementwise function, a
        pool over positions or none, and then one site of ``last`` alone, by that site: their
        cotangents are a constant matrix times one slope for each entry.
    """

    sites: tuple[Site, ...]
    taps: tuple[jax.ShapeDtypeStruct, ...]
    opaque: frozenset[int]
    biases: dict[int, tuple[int, ...]]
    last: frozenset[int]
    next_to_last: dict[int, int]


class Read(NamedTuple):
    """What one site met during an evaluation.

    Attributes:
      left: left factor: an array ``[groups, positions, left]``, or a :class:`WeightedIds` of
        ``[groups, positions, bag]``.
      weights: what a matrix product multiplied with, ``[left, right]``; None for other kinds.
      activation: what it multiplied, a number for each that an earlier site wrote at one
        position; None elsewhere.
    """

    left: Any
    weights: Any = None
    activation: Any = None


def right_factor(site: Site, cotangent: Array) -> Array:
    """Brings a tap's cotangent ``[..., *site.shape]`` to ``[..., groups, positions, right]``."""
    lead = cotangent.ndim - len(site.shape)
    for dim, start, size in site.cuts:
        cotangent = jax.lax.slice_in_dim(cotangent, start, start + size, axis=lead + dim)
    group = [lead + dim for dim in site.group_dims]
    right = [lead + dim for dim in site.right_dims]
    rest = [dim for dim in range(lead, cotangent.ndim) if dim not in (*group, *right)]
    order = [*range(lead), *group, *rest, *right]
    sizes = (site.groups, site.positions, site.right)
    return cotangent.transpose(order).reshape(*cotangent.shape[:lead], *sizes)

"""Where a leaf enters a function linearly, and what was read there."""

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from kernlens.types import Array

Split: TypeAlias = tuple[Any, Any]
"""Which axes of a leaf a site reads from (left) and writes to (right)."""


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
    """One use of a leaf that is linear in it.

    Attributes:
      leaf: index of the leaf.
      kind: what the left factor is.
      split: left and right axes, equal for uses whose factors share coordinates.
      positions: number of positions P at which the leaf is used.
      left: width of the left factor; for a lookup the number of rows of the table.
      right: width of the right factor.
      shape: shape of the tap.
      right_dims: dimensions of the tap that make up the right factor, in order.
      bag: rows that a lookup sums at each position; 1 for the other kinds.
      bias: leaf added to what the site wrote, or None.
      dtype: dtype of the tap.
    """

    leaf: int
    kind: Kind
    split: Split
    positions: int
    left: int
    right: int
    shape: tuple[int, ...]
    right_dims: tuple[int, ...]
    bag: int
    bias: int | None
    dtype: Any


class Sites(NamedTuple):
    """What a walk found.

    Attributes:
      sites: the linear uses, in the order of evaluation.
      opaque: leaves that enter in any other way.
      biases: leaves added to what sites wrote, each with the indices of these sites.
      last: sites that wrote the output itself, so that their cotangents are unit vectors.
      next_to_last: sites whose writing reaches the output through an elementwise function and
        then one site of ``last`` alone, by that site: their cotangents are a constant matrix
        times one slope for each entry.
    """

    sites: tuple[Site, ...]
    opaque: frozenset[int]
    biases: dict[int, tuple[int, ...]]
    last: frozenset[int]
    next_to_last: dict[int, int]


class Read(NamedTuple):
    """What one site met during an evaluation.

    Attributes:
      left: left factor: an array ``[positions, left]`` or a :class:`WeightedIds`.
      weights: what a matrix product multiplied with, ``[left, right]``; None for other kinds.
      activation: what it multiplied, of the shape that an earlier site wrote; None elsewhere.
    """

    left: Any
    weights: Any = None
    activation: Any = None


def right_factor(site: Site, cotangent: Array) -> Array:
    """Brings a tap's cotangent ``[..., *site.shape]`` to ``[..., positions, right]``."""
    lead = cotangent.ndim - len(site.shape)
    right = [lead + dim for dim in site.right_dims]
    rest = [dim for dim in range(lead, cotangent.ndim) if dim not in right]
    order = [*range(lead), *rest, *right]
    return cotangent.transpose(order).reshape(*cotangent.shape[:lead], site.positions, site.right)

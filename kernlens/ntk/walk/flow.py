"""What flows through a walk, and what the walk keeps of it."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.sites import Kind, Read, Site, Split, WeightedIds
from kernlens.types import Array


class View(NamedTuple):
    """A leaf, or a reordering or multiple of it: ``value`` and how it came from the leaf.

    ``axes`` gives the leaf's axis behind each dimension (None where its size is 1 or it was
    broadcast), or is None where a reshape mixed axes; ``history`` tells such reshapes apart.
    """

    leaf: int
    value: Any
    axes: tuple[int | None, ...] | None
    history: tuple[Any, ...]
    scale: Any


class Tapped(NamedTuple):
    """What a site wrote, as long as nothing else has read it."""

    value: Any
    site: int


class Bent(NamedTuple):
    """An elementwise function of what a site wrote (and its bias); ``same`` while it is that."""

    value: Any
    site: int
    same: bool


class TableRows(NamedTuple):
    """Rows of a table on their way to a site: a lookup, weighted and summed.

    ``ids`` and ``weights`` are ``[*value.shape without width, bag]``; the width is the last axis.
    """

    leaf: int
    value: Any
    ids: Any
    weights: Any
    split: Split
    num_rows: int


class Spread(NamedTuple):
    """A value that is constant along its last axis: ``narrow`` has size 1 there."""

    value: Any
    narrow: Any


class Walk:
    """State of one evaluation: the sites met so far and what they read."""

    def __init__(self, taps: Sequence[Array] | None) -> None:
        self.taps = taps
        self.sites: list[Site] = []
        self.read: list[Read | None] = []
        self.exits: dict[int, list[int | None]] = {}
        self.opaque: set[int] = set()
        self.biases: dict[int, list[int]] = {}

    def add(self, site: Site, value: Array, read: Read) -> Tapped:
        """Notes a site, and adds its tap to what it wrote."""
        index = len(self.sites)
        self.sites.append(site)
        self.read.append(read)
        if self.taps is not None:
            value = value + self.taps[index]
        return Tapped(value, index)

    def settle(self, value: Any) -> Any:
        """The plain value of anything that flows; a view that ends here makes its leaf opaque."""
        if isinstance(value, View):
            self.opaque.add(value.leaf)
            return value.value
        if isinstance(value, TableRows):
            return settle_rows(self, value).value
        if isinstance(value, Tapped | Bent):
            self.exits.setdefault(value.site, []).append(None)
            return value.value
        return value.value if isinstance(value, Spread) else value


OUTPUT = -1
"""Where a site's writing goes when it is the output."""


CONSTANTS = (np.ndarray, np.generic, float, int)
"""Values that are known before anything is computed."""


def plain(value: Any) -> Any:
    """What flows without what is known of it."""
    return value.value if isinstance(value, View | Tapped | Bent | TableRows | Spread) else value


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Applies the primitive of an equation to plain values."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # jax 0.9 and before hand back (functions, params).
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outs = eqn.primitive.bind(*functions, *values, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def tiled(view: View) -> bool:
    """Whether a leaf's entries stand in the view more than once, so that it is no reordering."""
    if view.axes is None:
        return False
    return any(a is None and s > 1 for a, s in zip(view.axes, view.value.shape, strict=True))


def split_of(view: View, left: Sequence[int], right: Sequence[int]) -> Split:
    """The axes of the leaf behind those of a view that are read from and written to."""
    if view.axes is None:
        return (view.history, tuple(left)), (view.history, tuple(right))
    axes = view.axes
    return (
        tuple(axes[d] for d in left if axes[d] is not None),
        tuple(axes[d] for d in right if axes[d] is not None),
    )


def scaled(read: Array, scale: Any) -> Array:
    """What was read, times the multiple of the leaf that read it."""
    return read if isinstance(scale, float) else read * jnp.asarray(scale, read.dtype)


def lookup_site(
    leaf: int, value: Any, ids: Any, split: Split, num_rows: int, right_dims: Sequence[int]
) -> Site:
    """A lookup of rows ``[..., positions, bag]`` of a table."""
    return Site(
        leaf=leaf,
        kind=Kind.LOOKUP,
        split=split,
        positions=prod(ids.shape[:-1]),
        left=num_rows,
        right=prod(value.shape[d] for d in right_dims),
        shape=value.shape,
        right_dims=tuple(right_dims),
        bag=ids.shape[-1],
        bias=None,
        dtype=value.dtype,
    )


def settle_rows(walk: Walk, rows: TableRows) -> Tapped:
    """Makes a site of rows that are read by something else."""
    site = lookup_site(
        rows.leaf, rows.value, rows.ids, rows.split, rows.num_rows, (rows.value.ndim - 1,)
    )
    bag = rows.ids.shape[-1]
    read = WeightedIds(rows.ids.reshape(-1, bag), rows.weights.reshape(-1, bag))
    return walk.add(site, rows.value, Read(read))

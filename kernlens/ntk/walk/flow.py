"""What flows through a walk, and what the walk keeps of it."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.ntk.walk.sites import Kind, Read, Site, WeightedIds
from kernlens.ntk.walk.views import Block, View
from kernlens.types import Array


class Tapped(NamedTuple):
    """What an operation with a tap wrote, as long as nothing else has read it.

    ``order`` says which dimension of the tap stands where, once it was transposed.
    """

    value: Any
    tap: int
    order: tuple[int, ...] | None = None


class Bent(NamedTuple):
    """A function of what was tapped (and its bias) that treats each entry of one dimension alone.

    ``same`` while it is only what was tapped. ``dims`` says which dimension of the tap stands
    where, None in place of one along which entries were mixed.
    """

    value: Any
    tap: int
    same: bool
    dims: tuple[int | None, ...]


class Rows(NamedTuple):
    """Rows of one block of a table: ``ids`` and ``weights`` as in :class:`TableRows`.

    ``start`` and ``width`` say which columns of the value the block fills; ids are counted from
    the block's first row, and -1 where a row is not of this block.
    """

    block: Block
    row: int
    start: int
    width: int
    ids: Any
    weights: Any


class TableRows(NamedTuple):
    """Rows of a table on their way to a site: a lookup, weighted and summed.

    The ``ids`` and ``weights`` of ``parts`` are ``[*value.shape without width, bag]``; the width
    is the last axis.
    """

    value: Any
    parts: tuple[Rows, ...]

    def change(self, value: Any, ids: Callable[[Any], Any], weights: Any = None) -> "TableRows":
        """The rows with another value, and other ids and weights (None: changed as the ids)."""
        parts = tuple(
            part._replace(ids=ids(part.ids), weights=(weights or ids)(part.weights))
            for part in self.parts
        )
        return TableRows(value, parts)


class Spread(NamedTuple):
    """A value that is constant along its last axis: ``narrow`` has size 1 there.

    ``number`` is its only number where it is constant altogether, else None.
    """

    value: Any
    narrow: Any
    number: Any = None


class Stopped(NamedTuple):
    """A view through which no gradient passes; ``source`` is the view's own value."""

    value: Any
    source: Any


class Walk:
    """State of one evaluation: the taps and sites met so far, and what the sites read.

    ``run(walk, jaxpr, consts, args)`` walks over an inner jaxpr; ``depth`` counts the loops around.
    """

    def __init__(self, taps: Sequence[Array] | None, run: Callable[..., Any], depth: int) -> None:
        self.taps = taps
        self.run = run
        self.depth = depth
        self.taken: Any = None
        self.shapes: list[jax.ShapeDtypeStruct] = []
        self.sites: list[Site] = []
        self.read: list[Read | None] = []
        self.exits: dict[int, list[int | None]] = {}
        self.opaque: set[int] = set()
        self.biases: dict[int, list[int]] = {}

    def branch(self, taken: Array) -> "Walk":
        """A walk over a branch inside this one's, whose taps are silent where it is not taken."""
        inner = self.inner(None if self.taps is None else self.taps[len(self.shapes) :])
        inner.taken = taken if self.taken is None else self.taken & taken
        return inner

    def inner(self, taps: Sequence[Array] | None, loops: int = 0) -> "Walk":
        """A walk over a jaxpr inside this one's."""
        return Walk(taps, self.run, self.depth + loops)

    def note(self, shape: Sequence[int], dtype: Any, found: Sequence[tuple[Site, Any]]) -> Any:
        """Notes a tap with its sites and what they read; the tap itself, where there is one."""
        index = len(self.shapes)
        self.shapes.append(jax.ShapeDtypeStruct(tuple(shape), dtype))
        for site, read in found:
            self.sites.append(site._replace(tap=index))
            self.read.append(read)
        if self.taps is None:
            return None
        tap = self.taps[index]
        return tap if self.taken is None else jnp.where(self.taken, tap, jnp.zeros_like(tap))

    def add(self, value: Array, found: Sequence[tuple[Site, Read]]) -> Tapped:
        """Notes sites that wrote one value, and adds their tap to it."""
        tap = self.note(value.shape, value.dtype, found)
        return Tapped(value if tap is None else value + tap, len(self.shapes) - 1)

    def sites_of(self, tap: int) -> list[int]:
        """Indices of the sites of a tap."""
        return [i for i, site in enumerate(self.sites) if site.tap == tap]

    def only_site(self, tap: int) -> Site | None:
        """The site that alone stands behind a tap, a product or convolution with a whole leaf."""
        sites = [self.sites[i] for i in self.sites_of(tap)]
        whole = len(sites) == 1 and not sites[0].cuts and sites[0].groups == 1
        return sites[0] if whole and sites[0].kind is not Kind.LOOKUP else None

    def settle(self, value: Any) -> Any:
        """The plain value of anything that flows; a view that ends here makes its leaf opaque."""
        if isinstance(value, View):
            self.opaque.update(block.leaf for block in value.blocks)
            return value.value
        if isinstance(value, TableRows):
            return settle_rows(self, value).value
        if isinstance(value, Tapped | Bent):
            self.exits.setdefault(value.tap, []).append(None)
            return value.value
        return value.value if isinstance(value, Spread | Stopped) else value


OUTPUT = -1
"""Where a site's writing goes when it is the output."""


CONSTANTS = (np.ndarray, np.generic, float, int)
"""Values that are known before anything is computed."""


def plain(value: Any) -> Any:
    """What flows without what is known of it."""
    known = View | Tapped | Bent | TableRows | Spread | Stopped
    return value.value if isinstance(value, known) else value


def dims_of(value: Tapped | Bent) -> tuple[int | None, ...]:
    """Which dimension of the tap stands where."""
    if isinstance(value, Bent):
        return value.dims
    return value.order or tuple(range(jnp.ndim(value.value)))


def number_of(value: Any) -> Any:
    """The only number of an array that was spread from it, or None."""
    return value.number if isinstance(value, Spread) else None


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Applies the primitive of an equation to plain values."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # jax 0.9 and before hand back (functions, params).
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outs = eqn.primitive.bind(*functions, *values, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def scaled(read: Array, scale: Any) -> Array:
    """What was read, times the multiple of the leaf that read it."""
    if isinstance(scale, float):
        return read if scale == 1.0 else read * jnp.asarray(scale, read.dtype)
    return read * jnp.asarray(scale, read.dtype)


def lookup_site(
    block: Block, value: Any, row: int, ids: Any, cuts: Sequence[Any], right_dims: Sequence[int]
) -> Site:
    """A lookup of rows ``[..., positions, bag]`` of a block whose dimension ``row`` they are."""
    rest = [d for d in range(len(block.sizes)) if d != row]
    return Site(
        leaf=block.leaf,
        region=block.region,
        kind=Kind.LOOKUP,
        split=(block.named([row]), block.named(rest), ()),
        positions=prod(ids.shape[:-1]),
        left=block.sizes[row],
        right=prod(block.sizes[d] for d in rest),
        groups=1,
        shape=value.shape,
        group_dims=(),
        right_dims=tuple(right_dims),
        cuts=tuple(cuts),
        loops=block.loops,
        bag=ids.shape[-1],
        bias=None,
        bias_region=(),
        dtype=value.dtype,
    )


def settle_rows(walk: Walk, rows: TableRows) -> Tapped:
    """Makes sites of rows that are read by something else."""
    last = rows.value.ndim - 1
    found = []
    for part in rows.parts:
        whole = part.width == rows.value.shape[-1]
        cuts = () if whole else ((last, part.start, part.width),)
        site = lookup_site(part.block, rows.value, part.row, part.ids, cuts, (last,))
        bag = part.ids.shape[-1]
        read = WeightedIds(part.ids.reshape(1, -1, bag), part.weights.reshape(1, -1, bag))
        found.append((site, Read(read)))
    return walk.add(rows.value, found)

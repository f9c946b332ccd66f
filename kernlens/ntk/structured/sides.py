"""The models of a kernel, and which of their leaves sites can stand for."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import jax
from jax.extend.core import ClosedJaxpr

from kernlens.ntk import walk


class Side(NamedTuple):
    """One model: a function of one example, and what the walk found in it.

    Attributes:
      closed: jaxpr of ``(*leaves, *x) -> outputs``.
      num_leaves: number of parameter leaves; those that the two models share come first.
      tracked: leaves whose sites are tapped, and the biases joined to them.
      sites: these sites.
      taps: shapes of what is added to what they wrote.
      last: those that wrote the output, at one position.
      next_to_last: those that reach the output by an elementwise function, a pool over their
        positions and a last site.
    """

    closed: ClosedJaxpr
    num_leaves: int
    tracked: frozenset[int]
    sites: tuple[walk.Site, ...]
    taps: tuple[jax.ShapeDtypeStruct, ...]
    last: frozenset[int]
    next_to_last: dict[int, int]


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
                Side(closed, num_leaves, tracked, one.sites, one.taps, one.last, one.next_to_last)
                for (closed, num_leaves), one in zip(models, found, strict=True)
            ), used
        tracked = kept


def _used(found: walk.Sites) -> set[int]:
    return {site.leaf for site in found.sites} | found.opaque | set(found.biases)


def _kept(found: Sequence[walk.Sites]) -> set[int]:
    """Leaves that enter every model by coordinated sites alone, and biases joined to them."""
    splits: dict[int, dict[walk.Region, set[walk.Split]]] = {}
    for one in found:
        for site in one.sites:
            splits.setdefault(site.leaf, {}).setdefault(site.region, set()).add(site.split)
    opaque = frozenset().union(*(one.opaque for one in found))
    kept = {
        leaf
        for leaf, regions in splits.items()
        if leaf not in opaque
        and all(_coordinated(own) for own in regions.values())
        and all(walk.disjoint(a, b) for a, b in combinations(regions, 2))
    }
    kept &= set.intersection(*({site.leaf for site in one.sites} for one in found))
    for bias in found[0].biases:
        owners = [_owners(one, bias) for one in found]
        if bias in opaque or owners[0] is None or any(own != owners[0] for own in owners):
            continue
        if {leaf for leaf, _ in owners[0].values()} <= kept:
            kept.add(bias)
    return kept


def _coordinated(splits: set[walk.Split]) -> bool:
    """Whether all splits are one, or one and its mirror."""
    left, right, groups = min(splits, key=repr)
    return all(split in ((left, right, groups), (right, left, groups)) for split in splits)


def _owners(found: walk.Sites, bias: int) -> dict[walk.Region, tuple[int, walk.Region]] | None:
    """For each part of a bias the piece with all of whose uses it goes, if all are such."""
    sites: dict[walk.Region, set[int]] = {}
    for i in found.biases.get(bias, ()):
        sites.setdefault(found.sites[i].bias_region, set()).add(i)
    owners: dict[walk.Region, tuple[int, walk.Region]] = {}
    for region, own in sites.items():
        pieces = {found.sites[i].piece for i in own}
        if len(pieces) != 1:
            return None
        (piece,) = pieces
        uses = {i for i, site in enumerate(found.sites) if site.piece == piece}
        if uses != own or len({found.sites[i].split for i in uses}) != 1:
            return None
        owners[region] = piece
    apart = all(walk.disjoint(a, b) for a, b in combinations(owners, 2))
    return owners if owners and apart else None

"""Rows spread over the devices of a mesh, of one process or of many."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from kernlens.moments.monoid import all_merge, update
from kernlens.moments.state import Moments
from kernlens.types import Array

AXIS = "rows"


class Devices(NamedTuple):
    """Where rows go.

    Attributes:
      every: all devices, on one axis; None for the default device of each process.
      local: those of this process.
      process: place of this process among those of the mesh.
      processes: how many those are.
    """

    every: Mesh | None
    local: Mesh | None
    process: int
    processes: int

    def whole(self, rows: int) -> int:
        """The next number of rows that divides among the devices of this process."""
        count = 1 if self.local is None else self.local.size
        return -(-rows // count) * count


def over_devices(mesh: Mesh | None) -> Devices:
    """The devices of a mesh, all its axes taken together.

    Raises:
      ValueError: none of them belongs to this process, or processes hold different numbers.
    """
    if mesh is None:
        return Devices(None, None, 0, 1)
    devices = mesh.devices.ravel()
    owners = np.array([device.process_index for device in devices])
    own = jax.process_index()
    processes, counts = np.unique(owners, return_counts=True)
    if own not in processes or len(set(counts.tolist())) > 1:
        raise ValueError(
            f"the mesh has {dict(zip(processes.tolist(), counts.tolist(), strict=True))} devices "
            f"by process and this is process {own}; expected as many devices of every process"
        )
    place = int(np.searchsorted(processes, own))
    local = Mesh(devices[owners == own], (AXIS,))
    return Devices(Mesh(devices, (AXIS,)), local, place, len(processes))


def start_on(start: Moments, devices: Devices) -> Moments:
    """Moments of no rows for each device of this process, ``[devices, ...]``."""
    if devices.local is None:
        return start
    count, sharding = devices.local.size, NamedSharding(devices.local, PartitionSpec(AXIS))
    return jax.tree.map(
        lambda a: jax.device_put(np.zeros((count, *a.shape), a.dtype), sharding), start
    )


@partial(jax.jit, static_argnames="local", donate_argnames="state")
def step(
    state: Moments, batch: tuple[Array, ...], map_fn: Partial, *, local: Mesh | None
) -> tuple[Moments, Array]:
    """Takes in a chunk, each device its rows; the old state is given up.

    Args:
      state: of each device, from :func:`start_on`.
      batch: rows, codes, targets, weights.
      map_fn: feature map.
      local: devices of this process.

    Returns:
      State, and a value that is there once the chunk is done with.
    """

    def own(state: Moments, x: Array, *rest: Array) -> Moments:
        return update(state, x, *rest, map_fn)

    if local is None:
        state = own(state, *batch)
        return state, state.count + 0

    spec = PartitionSpec(AXIS)

    # Nothing is the same on all devices, so there is nothing to check.
    @partial(jax.shard_map, mesh=local, in_specs=spec, out_specs=spec, check_vma=False)
    def each(state: Moments, *batch: Array) -> Moments:
        state = own(jax.tree.map(lambda a: a[0], state), *batch)
        return jax.tree.map(lambda a: a[None], state)

    state = each(state, *batch)
    return state, state.count + 0


def reduced(state: Moments, devices: Devices) -> Moments:
    """Moments of the rows of all devices and processes, in one reduction."""
    if devices.every is None:
        return state
    sharding = NamedSharding(devices.every, PartitionSpec(AXIS))

    def everywhere(a: Array) -> Array:
        shape = (sharding.mesh.size, *a.shape[1:])
        shards = [shard.data for shard in a.addressable_shards]
        return jax.make_array_from_single_device_arrays(shape, sharding, shards)

    merged = _reduce(jax.tree.map(everywhere, state), every=devices.every)
    return jax.tree.map(lambda a: a.addressable_data(0), merged)


@partial(jax.jit, static_argnames="every")
def _reduce(state: Moments, *, every: Mesh) -> Moments:
    @partial(jax.shard_map, mesh=every, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec())
    def merged(state: Moments) -> Moments:
        return all_merge(jax.tree.map(lambda a: a[0], state), AXIS)

    return merged(state)

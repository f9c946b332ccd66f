"""Inner products of lookups: of the rows that two blocks of examples read, few are the same."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kernlens.ntk.precision import HIGHEST
from kernlens.ntk.walk import WeightedIds
from kernlens.types import Array

MATCHES = 512
"""Pairs of entries with one id that are multiplied at a time."""

SPARSE = 32
"""Least number of pairs of entries for each with one id where these alone are multiplied."""

LEAST_PAIRS = 2**14
"""Pairs of entries below which it is not looked for those with one id."""


def gram(one: WeightedIds, two: WeightedIds) -> Array:
    """Inner products of weighted one-hot rows, ``[i, p, j, q]``."""
    i, p, s = one.ids.shape
    j, q, u = two.ids.shape
    if s * u <= 4:
        same = one.ids[:, :, :, None, None, None] == two.ids[None, None, None]
        same = same & (one.ids >= 0)[:, :, :, None, None, None]
        weights = one.weights[:, :, :, None, None, None] * two.weights[None, None, None]
        return jnp.sum(jnp.where(same, weights, 0), axis=(2, 5))
    # Counts over the ids that the first block holds: equal ids share the first place that a
    # sorted list of them gives.
    known = jnp.sort(one.ids.reshape(-1))

    def counts(lookup: WeightedIds) -> Array:
        rows = lookup.ids.reshape(-1, lookup.ids.shape[-1])
        place = jnp.searchsorted(known, rows)
        place = jnp.minimum(place, known.size - 1)
        held = (known[place] == rows) & (rows >= 0)
        weights = jnp.where(held, lookup.weights.reshape(rows.shape), 0)
        zeros = jnp.zeros((rows.shape[0], known.size), weights.dtype)
        return zeros.at[jnp.arange(rows.shape[0])[:, None], place].add(weights)

    return jnp.matmul(counts(one), counts(two).T, precision=HIGHEST).reshape(i, p, j, q)


def read_rows(dense: Array, lookup: WeightedIds) -> Array:
    """Inner products of rows ``[i, p, v]`` with a lookup's one-hot rows, ``[i, p, j, q]``."""
    read = dense[:, :, jnp.maximum(lookup.ids, 0)]
    weights = jnp.where(lookup.ids >= 0, lookup.weights, 0)
    return jnp.sum(read * weights.astype(dense.dtype), axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def products(one: WeightedIds, right1: Array, two: WeightedIds, right2: Array, dense: Any) -> Array:
    r"""``sum_pq <a_p, a_q> <delta_p, delta_q>``, from the pairs that read the same row.

    Args:
      one: lookups of ``i`` examples at ``p`` positions.
      right1: their right factors, ``[i, p, d, f, z]``.
      two: lookups of ``j`` examples at ``q`` positions.
      right2: their right factors, ``[j, q, d, g, z]``.
      dense: ``dense(one, right1, two, right2)``, the same from all pairs: for ids that are mostly
        the same, and for derivatives.

    Returns:
      ``[i, j, d, f, g]``.
    """
    order, starts, ends = _matches(one.ids, two.ids)
    return jax.lax.cond(
        ends[-1] < one.ids.size * two.ids.size // SPARSE,
        lambda: _from_matches(one, right1, two, right2, order, starts, ends),
        lambda: dense(one, right1, two, right2),
    )


@products.defjvp
def _(dense: Any, primals: Any, tangents: Any) -> Any:
    (one, _, two, _), (moved1, right1, moved2, right2) = primals, tangents

    def plain(weights1: Array, right1: Array, weights2: Array, right2: Array) -> Array:
        return dense(one._replace(weights=weights1), right1, two._replace(weights=weights2), right2)

    values = (one.weights, primals[1], two.weights, primals[3])
    return jax.jvp(plain, values, (moved1.weights, right1, moved2.weights, right2))


def _matches(ids1: Array, ids2: Array) -> tuple[Array, Array, Array]:
    """Entries of the second in order of their ids; for each entry of the first, where those of
    its id start there, and how many pairs there are up to and with it."""
    ids1, ids2 = ids1.reshape(-1), ids2.reshape(-1)
    order = jnp.argsort(ids2)
    known = ids2[order]
    starts = jnp.searchsorted(known, ids1, side="left")
    counts = jnp.searchsorted(known, ids1, side="right") - starts
    return order, starts, jnp.cumsum(jnp.where(ids1 >= 0, counts, 0))


def _from_matches(
    one: WeightedIds,
    right1: Array,
    two: WeightedIds,
    right2: Array,
    order: Array,
    starts: Array,
    ends: Array,
) -> Array:
    i, p, s = one.ids.shape
    j, q, u = two.ids.shape
    right1, right2 = (x.reshape(-1, *x.shape[2:]) for x in (right1, right2))
    shape = (i, j, right1.shape[1], right1.shape[2], right2.shape[2])

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        done, k = state
        pair = done + jnp.arange(MATCHES, dtype=done.dtype)
        first = jnp.searchsorted(ends, pair, side="right")
        held = first < ends.size
        first = jnp.minimum(first, ends.size - 1)
        before = jnp.where(first > 0, ends[first - 1], 0)
        second = order[jnp.minimum(starts[first] + pair - before, order.size - 1)]
        weights = one.weights.reshape(-1)[first] * two.weights.reshape(-1)[second]
        weights = jnp.where(held, weights, 0).astype(right1.dtype)
        own = right1[first // s] * weights[:, None, None, None]
        values = jnp.einsum("mdfz,mdgz->mdfg", own, right2[second // u], precision=HIGHEST)
        return done + MATCHES, k.at[first // (p * s), second // (q * u)].add(values)

    start = (jnp.zeros((), ends.dtype), jnp.zeros(shape, right1.dtype))
    return jax.lax.while_loop(lambda state: state[0] < ends[-1], step, start)[1]

"""What each example brings to a kernel: layer inputs and output cotangents."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernlens.ntk import walk
from kernlens.ntk.precision import widen
from kernlens.ntk.structured.gradients import gradients
from kernlens.ntk.structured.plans import Contraction, OutputAxes, Part, Plan
from kernlens.ntk.structured.sides import Side
from kernlens.types import Array


class Factors(NamedTuple):
    """What each example brings to the contraction, with leading axes ``[n]``.

    Attributes:
      parts: for each share that is not flat, for each of its parts, ``(left, right)``: left
        ``[groups, positions, left]`` or a lookup, right ``[groups, positions, diagonal, full,
        traced, right]``.
      gradients: for each flat share, ``[diagonal, full, traced * size]``.
    """

    parts: tuple[tuple[tuple[Any, Array], ...], ...]
    gradients: tuple[Array, ...]


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

    taps = [jnp.zeros(tap.shape, tap.dtype) for tap in side.taps]
    (out, activations), pullback, read = jax.vjp(
        run, taps, [leaves[leaf] for leaf in wanted], has_aux=True
    )
    silent = [jnp.zeros_like(activation) for activation in activations]
    cotangents, jacobians = jax.vmap(lambda unit: pullback((unit, silent)))(
        jnp.eye(out.size, dtype=out.dtype)
    )
    slopes = {}
    for place, index in enumerate(folded):
        ones = [jnp.ones_like(a) if i == place else silent[i] for i, a in enumerate(activations)]
        slopes[index] = pullback((jnp.zeros_like(out), ones))[0][side.sites[index].tap]
    parts, flat, exact = [], [], iter(jacobians)
    for share in plan.shares:
        if share.contraction is Contraction.JACOBIAN:
            jacobian = axes.arrange(next(exact).reshape(out.size, -1))
            flat.append(widen(jnp.moveaxis(jacobian, 0, 2)))
            continue
        own = tuple(
            (read[part.sites[0]].left, _folded(side, part, out, slopes, read))
            if part.folded
            else _join(side, axes, part, cotangents, read)
            for part in share.parts[which]
        )
        # What is summed over outputs, positions and parameters is summed in float32 at least.
        own = jax.tree.map(widen, own)
        if share.built:
            flat.append(jnp.moveaxis(gradients(share, own, which), 0, 2))
        else:
            parts.append(own)
    return Factors(tuple(parts), tuple(z.reshape(*z.shape[:2], -1) for z in flat))


def _folded(
    side: Side, part: Part, out: Array, slopes: dict[int, Array], read: Sequence[walk.Read]
) -> Array:
    r"""Right factor ``[1, 1, 1, 1, 1, b]`` whose inner products are summed over all outputs.

    The cotangents of a site next to last are :math:`C_{ok} s_k`, with the weights that follow as
    :math:`C`, so their inner products sum to :math:`\sum_k s_k s'_k \sum_o C_{ok}^2`.
    """
    (index,) = part.sites
    if index in side.last:
        return jnp.sqrt(jnp.full((1, 1, 1, 1, 1, 1), out.size, out.dtype))
    weights = read[side.next_to_last[index]].weights
    squares = jnp.sum(weights**2, axis=1)
    # A root that has a gradient at zero too, where a layer starts.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return walk.right_factor(side.sites[index], slopes[index])[:, :, None, None, None] * norms


def _join(
    side: Side, axes: OutputAxes, part: Part, cotangents: Sequence[Array], read: Sequence[walk.Read]
) -> tuple[Any, Array]:
    rights = []
    for site in (side.sites[i] for i in part.sites):
        right = axes.arrange(walk.right_factor(site, cotangents[site.tap]))
        rights.append(right.transpose(3, 4, 1, 2, 0, 5))
    right = rights[0] if len(rights) == 1 else jnp.concatenate(rights, axis=1)
    lefts = [read[i].left for i in part.sites]
    if part.kind is not walk.Kind.LOOKUP:
        return (lefts[0] if len(lefts) == 1 else jnp.concatenate(lefts, axis=1)), right

    def widen(x: Array, fill: float) -> Array:
        room = ((0, 0), (0, 0), (0, part.bag - x.shape[-1]))
        return jnp.pad(x, room, constant_values=fill)

    ids = jnp.concatenate([widen(left.ids, -1) for left in lefts], axis=1)
    weights = jnp.concatenate([widen(left.weights, 0) for left in lefts], axis=1)
    return walk.WeightedIds(ids, weights), right


def batched(
    one: Callable[[Sequence[Array], Sequence[Array]], Factors],
    leaves: Sequence[Array],
    x: Sequence[Array],
    block: int,
) -> Factors:
    """Factors of many examples, ``block`` at a time, by those of one."""
    rows = [leaf[:, None] for leaf in x]
    own = partial(one, list(leaves))
    if rows[0].shape[0] <= block:
        return jax.vmap(own)(rows)
    return jax.lax.map(own, rows, batch_size=block)

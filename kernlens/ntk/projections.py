"""Random projections of gradients: from factors, or by products with tangents."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernlens.ntk import models, signs, structured
from kernlens.ntk.methods import Method
from kernlens.ntk.precision import HIGHEST, wide_dtype, widen
from kernlens.types import ApplyFn, Array

DRAWS = 2
"""Draws of features made at a time."""


BLOCK_BYTES = 32 * 2**20
"""Bytes of factors, of projections and of tangents that a block holds at a time, each."""


class Task(NamedTuple):
    """A sketch with all that its shapes decide."""

    flat: models.Flat
    plan: structured.Plan
    used: list[int]
    operations: dict[Method, float]

    @property
    def axes(self) -> structured.OutputAxes:
        """What becomes of the output's axes."""
        return self.plan.axes


def by_products(task: Task, f: ApplyFn, key: Array, num_features: int, x: Any) -> Array:
    """Features ``[n, untraced, p]``, not yet scaled, by Jacobian-vector products."""
    flat, axes = task.flat, task.axes

    def outputs(chosen: list[Array]) -> Array:
        leaves = list(flat.leaves)
        for index, value in zip(task.used, chosen, strict=True):
            leaves[index] = value
        return f(flat.restore(leaves), x)

    point = [jnp.asarray(flat.leaves[i]) for i in task.used]
    out, push = jax.linearize(outputs, point)

    def feature(index: Array) -> Array:
        keys = signs.keys(jax.random.fold_in(key, index), len(flat.leaves) + 1)
        tangents = [
            signs.array(keys[i], leaf.shape, leaf.dtype)
            for i, leaf in zip(task.used, point, strict=True)
        ]
        pushed = axes.arrange(widen(push(tangents)).reshape(out.shape[0], -1).T)
        turned = signs.array(keys[-1], pushed.shape[:1], pushed.dtype)
        return jnp.einsum("t,tfn->nf", turned, pushed[:, 0], precision=HIGHEST)

    size = sum(leaf.size * leaf.dtype.itemsize for leaf in point)
    at_once = min(max(1, BLOCK_BYTES // size), 8)
    return jnp.moveaxis(_map(feature, num_features, at_once), 0, -1)[..., :num_features]


def _map(make: Callable[[Array], Array], count: int, at_once: int) -> Array:
    """``make`` of the indices up to ``count`` and as many more as fill the last step."""
    at_once = min(count, at_once)
    return jax.lax.map(make, signs.numbers(-(-count // at_once) * at_once), batch_size=at_once)


def factor_bytes(task: Task, x: Any) -> int:
    """Bytes of one example's factors, and of what they are brought to for some features."""
    one = [leaf[:1] for leaf in jax.tree.leaves(x)]
    row = jax.eval_shape(partial(structured.factors, task.plan, 0), task.flat.leaves, one)
    leaves = jax.tree.leaves(row)
    positions = [
        part.groups * part.positions * (part.bag + prod(task.axes.shape))
        for share in task.plan.shares
        for part in share.parts[0]
    ]
    made = DRAWS * signs.DRAW * leaves[0].dtype.itemsize * max(positions, default=1)
    return sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves) + made


def by_factors(task: Task, key: Array, num_features: int, x: Any) -> Array:
    """Features ``[n, untraced, p]``, not yet scaled, by projections of factors."""
    rows = [leaf[:, None] for leaf in jax.tree.leaves(x)]
    factors = jax.vmap(partial(structured.factors, task.plan, 0, task.flat.leaves))(rows)
    dtype = wide_dtype(task.plan.sides[0].closed.out_avals[0].dtype)

    def draw(number: Array) -> Array:
        """The features of one draw of signs, ``[n, untraced, DRAW]``."""
        keys = signs.keys(jax.random.fold_in(key, number), 2 * len(task.flat.leaves)).reshape(-1, 2)
        parts, gradients = iter(factors.parts), iter(factors.gradients)
        total: Any = 0
        for share in task.plan.shares:
            if share.contraction is structured.Contraction.JACOBIAN:
                jacobian = next(gradients)[:, 0]
                index = signs.numbers(jacobian.shape[-1])
                block = signs.dot(jacobian, signs.rows(keys[share.leaf, 0], index, dtype))
            else:
                block = sum(
                    _project_groups(_keys_of(keys, share), share, part, *own)
                    for part, own in zip(share.parts[0], next(parts), strict=True)
                )
            total = total + jnp.asarray(block, dtype)
        return total

    made = jnp.moveaxis(_map(draw, -(-num_features // signs.DRAW), DRAWS), 0, -2)
    return made.reshape(*made.shape[:2], -1)[..., :num_features]


def _keys_of(keys: Array, share: structured.Share) -> Array:
    """The two keys of a leaf, or of one of several parts of it."""
    own = keys[share.leaf]
    return own if share.piece == 0 else jax.vmap(jax.random.fold_in, (0, None))(own, share.piece)


def _project_groups(
    keys: Array, share: structured.Share, part: structured.Part, left: Any, right: Array
) -> Array:
    """What the sites of one part add to a draw of features, each group by keys of its own."""
    bias = share.bias is not None
    if part.groups == 1:
        left, right = jax.tree.map(lambda x: x[:, 0], (left, right))
        return _project_part(keys, bias, part, left, right)

    def one(own: tuple[Array, Any, Array]) -> Array:
        number, left, right = own
        folded = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return _project_part(folded, bias, part, left, right)

    rows = jax.tree.map(lambda x: x.swapaxes(0, 1), (left, right))
    return jnp.sum(jax.lax.map(one, (signs.numbers(part.groups), *rows)), axis=0)


def _project_part(keys: Array, bias: bool, part: structured.Part, left: Any, right: Array) -> Array:
    """What the sites of one part add to a draw of features, ``[n, untraced, DRAW]``."""
    key_u, key_w = keys
    right = right[:, :, 0]
    n, positions, full, traced, width = right.shape
    if part.flipped:
        # This part's left factor lies on the axes of ``w``, which has one vector an output.
        read = signs.read(key_w, left, signs.numbers(traced) * jnp.uint32(part.left), right.dtype)
        written = signs.dot(right, signs.rows(key_u, signs.numbers(width), right.dtype))
        return jnp.einsum("nqtk,nqftk->nfk", read, written, precision=HIGHEST)
    if bias:
        left = jnp.concatenate([left, jnp.ones_like(left[..., :1])], axis=-1)
    read = signs.read(key_u, left, signs.numbers(1), right.dtype)[:, :, 0]
    written = signs.dot(
        right.reshape(n, positions, full, -1),
        signs.rows(key_w, signs.numbers(traced * width), right.dtype),
    )
    return jnp.einsum("nqk,nqfk->nfk", read, written, precision=HIGHEST)

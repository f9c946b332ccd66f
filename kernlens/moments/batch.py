"""Moments of one batch of rows, walked twice in tiles that stay in the cache."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.arrays.rows import identity
from kernlens.moments.class_products import ClassProducts, add_class_products
from kernlens.moments.state import Moments, divide, dot
from kernlens.moments.symmetric import Strips, added, no_strips, strips_of, whole
from kernlens.types import Array

State = TypeVar("State")

IDENTITY = Partial(identity)
"""The map of rows that are features already, as a value that compiled functions take."""

TILE_BYTES = 2**21
"""Rows that are worked on together: what is made of them stays in the cache."""

GROUPS = 64
"""Parts in which the rows of a class are summed, so that rounding does not add up."""


class Batch(NamedTuple):
    """Rows as they come, or a tile of them.

    Attributes:
      x: rows, ``[B, d]``.
      codes: class of each row, ``C`` for none, ``[B]``.
      targets: ``[B, T]``.
      weights: multiplicity of each row, in the dtype of the sums; rows of weight 0 are not looked
        at, ``[B]``.
      features: what each walk makes of the rows it looks at, ``[B, p]``.
    """

    x: Array
    codes: Array
    targets: Array
    weights: Array
    features: Partial


class Means(NamedTuple):
    r"""What the first walk finds.

    Attributes:
      near: mean of a few of the rows, from which all are measured: where a common mean is far above
        the spread, what is left has the digits of the spread, ``[p]``.
      target_near: the same of the targets, ``[T]``.
      counts: weight of each class, the rows without one last, ``[C + 1]``.
      offsets: mean of each class less ``near``, ``[C + 1, p]``.
      low: mean of all rows less ``near``, ``[p]``.
      target_low: mean of the targets less ``target_near``, ``[T]``.
    """

    near: Array
    target_near: Array
    counts: Array
    offsets: Array
    low: Array
    target_low: Array


def of_rows(like: Moments, batch: Batch) -> Moments:
    """Moments of one batch, in the dtype of ``like`` and with what it keeps."""
    bare = like._replace(class_scatters=like.class_scatters[:0])
    means = means_of(bare, batch)
    if not like.class_scatters.shape[0]:
        return moments_of(bare, batch, means)
    nothing = jnp.zeros_like(like.class_counts), jnp.zeros_like(like.class_deviations)
    products = class_products(jnp.zeros_like(like.class_scatters), batch, means, *nothing)
    return moments_of(bare, batch, means, products)._replace(class_scatters=products.scatters)


def batch_of(
    like: Moments,
    x: Array,
    codes: Array,
    targets: Array,
    weights: Array,
    features: Partial,
) -> Batch:
    """Rows as the walks take them; codes outside the classes count as no label.

    A feature map without arrays of its own is cheap: each walk applies it to rows that are in the
    cache. A map with arrays multiplies by them, and is applied here, once.
    """
    num_classes = like.class_counts.shape[0]
    codes = jnp.where((codes >= 0) & (codes < num_classes), codes, num_classes)
    if jax.tree.leaves(features):
        x, features = features(x), IDENTITY
    return Batch(x, codes, targets, jnp.asarray(weights).astype(like.count.dtype), features)


def means_of(like: Moments, batch: Batch) -> Means:
    """Means of a batch and of its classes: the first walk."""
    num_classes, dtype = like.class_counts.shape[0], like.count.dtype
    near, target_near = _near(batch)
    zeros = jnp.zeros((num_classes + 1, near.shape[0]), dtype)

    def add(sums: tuple[Array, ...], tile: Batch) -> tuple[Array, ...]:
        z, t = _measured(tile, near, target_near)
        found = (
            _class_sums(tile.weights[:, None], tile.codes, num_classes)[:, 0],
            _class_sums(tile.weights[:, None] * z, tile.codes, num_classes),
            dot(tile.weights, t),
        )
        return jax.tree.map(jnp.add, sums, found)

    counts, sums, target_sum = _over_tiles(batch, add, (zeros[:, 0], zeros, target_near * 0))
    count = counts.sum()
    low, target_low = divide(sums.sum(axis=0), count), divide(target_sum, count)
    # A class that is all rows has their mean, to the bit.
    offsets = jnp.where((counts == count)[:, None], low, divide(sums, counts[:, None]))
    return Means(near, target_near, counts, offsets, low, target_low)


def head_of(like: Moments, means: Means) -> Moments:
    """Moments of a batch of which the means are known; the other sums are 0."""
    mean, mean_low = _two_words(means.near, means.low)
    target_mean, target_mean_low = _two_words(means.target_near, means.target_low)
    deviations = means.counts[:, None] * (means.offsets - means.low)
    return jax.tree.map(jnp.zeros_like, like)._replace(
        count=means.counts.sum(),
        mean=mean,
        mean_low=mean_low,
        class_counts=means.counts[:-1],
        class_deviations=deviations[:-1],
        target_mean=target_mean,
        target_mean_low=target_mean_low,
    )


def class_products(
    scatters: Array, batch: Batch, means: Means, gap_weights: Array, gaps: Array
) -> ClassProducts:
    """Adds the scatter of each class of a batch, as :func:`add_class_products`."""
    both = jnp.stack([jnp.broadcast_to(means.near, means.offsets.shape), means.offsets])
    return add_class_products(
        scatters, batch.x, batch.features, batch.weights, batch.codes, both, gap_weights, gaps
    )


def moments_of(
    like: Moments, batch: Batch, means: Means, products: ClassProducts | None = None
) -> Moments:
    """Moments of a batch: the second walk.

    Args:
      like: what is kept, and how many classes there are; ``class_scatters`` is ``[0, p, p]``.
      batch: the rows.
      means: of the first walk.
      products: what is known where the scatter of each class was multiplied out.

    Returns:
      Moments of the batch, without the scatter of each class.
    """
    num_classes, (dim,) = like.class_counts.shape[0], means.near.shape
    dtype = like.count.dtype
    pairs = like.scatter.ndim == 2

    def residuals(z: Array, tile: Batch) -> Array:
        return z - means.offsets[tile.codes]

    def add(
        sums: tuple[Strips, Array, Array, Moments], tile: Batch
    ) -> tuple[Strips, Array, Array, Moments]:
        strips, squares, spread, higher = sums
        z, t = _measured(tile, means.near, means.target_near)
        if products is None:
            rows = residuals(z, tile)
            # The scatter of rows without a label is multiplied out apart from the others.
            named = jnp.where(tile.codes < max(num_classes, 1), tile.weights, 0.0)
            weighted = (named if pairs else tile.weights)[:, None] * rows
            squares = squares + _class_sums(weighted * rows, tile.codes, num_classes)
            if pairs:
                strips = added(strips, strips_of(rows, weighted))
        higher = _add_higher(higher, spread, z - means.low, t - means.target_low, tile)
        return strips, squares, *higher

    def add_rest(strips: Strips, tile: Batch) -> Strips:
        rows = residuals(_measured(tile, means.near, means.target_near)[0], tile)
        chosen = jnp.where(tile.codes == num_classes, tile.weights, 0.0)
        return added(strips, strips_of(rows, chosen[:, None] * rows))

    none = no_strips(dim, dtype) if pairs else ()
    start = none, jnp.zeros_like(means.offsets), jnp.zeros((), dtype), head_of(like, means)
    strips, squares, _, found = _over_tiles(batch, add, start)
    offsets = means.offsets - means.low
    between = means.counts[:, None] * offsets
    if products is not None:
        squares = jnp.zeros_like(squares).at[:-1].set(products.squares)
    found = found._replace(class_squares=squares[:-1])
    if not pairs:
        return found._replace(scatter=jnp.sum(squares + between * offsets, axis=0))
    within = whole(strips) if products is None else products.pooled
    rest = like.within * 0.0
    if num_classes:
        # Nothing wide goes through the branch but the sum.
        walked = jax.lax.cond(
            means.counts[-1] > 0, lambda: _over_tiles(batch, add_rest, none), lambda: none
        )
        rest = whole(walked)
    else:
        within, rest = rest, within
    # A sum of squares: no digits are lost, as they would be in ``scatter - between``.
    scatter = within + rest + dot(offsets.T, between)
    return found._replace(scatter=scatter, within=within)


def _add_higher(
    sums: Moments, spread: Array, z: Array, t: Array, tile: Batch
) -> tuple[Array, Moments]:
    """Adds what is about the mean and no second moment of the features.

    ``spread`` is the sum of the squared norms so far, which third and fourth moments are over.
    """
    weights = tile.weights
    column = weights[:, None]
    squares = z**2
    norms = squares.sum(axis=1)
    found = {}
    if not sums.fourth.ndim:
        total = spread + jnp.sum(weights * norms)
        shares = divide(weights * norms, total)
        kept = divide(spread, total)
        sums = sums._replace(third=kept * sums.third, fourth=kept * sums.fourth)
        found["fourth"] = dot(shares, norms)
        if sums.third.size:
            found["third"] = dot(shares, z)
        spread = total
    if sums.thirds.size:
        found["thirds"] = dot(squares.T, column * z)
        found["fourths"] = dot(squares.T, column * squares)
    if t.shape[1]:
        found["target_scatter"] = dot(t.T, column * t)
        found["cross"] = dot(z.T, column * t)
    return spread, sums._replace(**{name: getattr(sums, name) + a for name, a in found.items()})


def _over_tiles(batch: Batch, add: Callable[[State, Batch], State], state: State) -> State:
    """Takes in the rows tile by tile."""
    n, size = batch.x.shape[0], _rows_of_tile(batch)
    if size == n:
        return add(state, batch)

    def step(at: Array, state: State) -> State:
        first = jnp.minimum(at * size, n - size)
        tile = _tile(batch, first, size)
        # The last tile laps over the one before it.
        new = first + jnp.arange(size) >= at * size
        return add(state, tile._replace(weights=jnp.where(new, tile.weights, 0.0)))

    return jax.lax.fori_loop(0, -(-n // size), step, state)


def _tile(batch: Batch, first: Array | int, size: int) -> Batch:
    """Rows of a batch from the first on."""
    rows = (jax.lax.dynamic_slice_in_dim(a, first, size) for a in batch[:-1])
    return Batch(*rows, features=batch.features)


def _rows_of_tile(batch: Batch) -> int:
    n, dim = batch.x.shape
    most = max(TILE_BYTES // max(dim * batch.weights.dtype.itemsize, 1), 1)
    tiles = max(-(-n // most), 1)
    return -(-n // tiles)  # tiles of one size: the last hardly laps over the one before it


def _near(batch: Batch) -> tuple[Array, Array]:
    """Means of a few of the rows that count, from the first of them on; 0 where there is none."""
    n, size = batch.x.shape[0], _rows_of_tile(batch)
    first = jnp.minimum(jnp.argmax(batch.weights > 0), n - size) if n else 0
    tile = _tile(batch, first, size)
    zero = jnp.zeros((), batch.weights.dtype)
    z, t = _measured(tile, zero, zero)
    near, target_near = (rounded(divide(dot(tile.weights, a), tile.weights.sum())) for a in (z, t))
    return near, target_near


def _measured(tile: Batch, near: Array, target_near: Array) -> tuple[Array, Array]:
    """Features and targets from what they are near to; 0 in rows of weight 0."""
    present = (tile.weights > 0)[:, None]
    made = tile.features(tile.x), tile.targets
    x, targets = (a.astype(tile.weights.dtype) for a in made)
    return jnp.where(present, x - near, 0.0), jnp.where(present, targets - target_near, 0.0)


def _two_words(near: Array, low: Array) -> tuple[Array, Array]:
    """Their sum, rounded, and what rounding took off."""
    mean = rounded(near + low)
    return mean, (near - mean) + low


def _class_sums(values: Array, codes: Array, num_classes: int) -> Array:
    """Sum of the rows of each class, rows without one last, ``[C + 1, ...]``."""
    batch, segments = values.shape[0], num_classes + 1
    if not num_classes:
        return dot(jnp.ones((1, batch), values.dtype), values)
    groups = min(max(batch // (4 * segments), 1), GROUPS)
    if groups == 1:
        return jax.ops.segment_sum(values, codes, segments)
    part = jnp.arange(batch) * groups // batch
    sums = jax.ops.segment_sum(
        values, part.astype(codes.dtype) * segments + codes, groups * segments
    )
    # As a product: XLA's own sum over the first axis walks the others one by one on a CPU.
    total = dot(jnp.ones(groups, values.dtype), sums.reshape(groups, -1))
    return total.reshape(segments, -1)


def rounded(mean: Array) -> Array:
    """The first word of a mean.

    One bit less than the dtype has keeps a compiler from fusing the division that made it into a
    subtraction, where it would stay unrounded and differ from the mean that is stored.
    """
    info = jnp.finfo(mean.dtype)
    return jax.lax.reduce_precision(mean, info.nexp, info.nmant - 1)

"""Rows into Moments, Moments into Moments."""

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from kernlens.moments.batch import (
    IDENTITY,
    batch_of,
    class_products,
    head_of,
    means_of,
    moments_of,
    rounded,
)
from kernlens.moments.derived import total_scatter
from kernlens.moments.state import Moments, class_offsets, divide, dot
from kernlens.types import Array


@jax.jit
def update(
    moments: Moments,
    x: Array,
    codes: Array,
    targets: Array | None = None,
    weights: Array | None = None,
    features: Partial = IDENTITY,
) -> Moments:
    """Takes in a batch of rows; memory is ``[B, p]`` and ``[C, p]`` for a batch of ``B``.

    Args:
      moments: what came before.
      x: rows, ``[B, d]``.
      codes: class of each row, integers ``[B]`` in ``0..C-1``; other values count as no label.
      targets: regression targets, ``[B, T]``; may be left out where ``T`` is 0.
      weights: multiplicity of each row, ``[B]``, at least 0; 1 by default. The content of a row of
        weight 0 is not looked at.
      features: map of the rows to ``[B, p]``, a :class:`jax.tree_util.Partial`; cast to the dtype
        of the moments. One without arrays is applied tile by tile, and nothing of the size of the
        batch is made.

    Returns:
      Moments of all rows so far.
    """
    dtype = moments.count.dtype
    chex.assert_rank([x, codes], [2, 1])
    batch = x.shape[0]
    targets = jnp.zeros((batch, 0), dtype) if targets is None else targets
    weights = jnp.ones((batch,), dtype) if weights is None else weights
    made = jax.eval_shape(features, x)
    chex.assert_shape(made, (batch, moments.mean.shape[0]))
    chex.assert_shape([codes, weights], (batch,))
    chex.assert_shape(targets, (batch, moments.target_mean.shape[0]))
    bare = moments._replace(class_scatters=moments.class_scatters[:0])
    rows = batch_of(bare, x, jnp.asarray(codes), targets, weights, features)
    means = means_of(bare, rows)
    if not moments.class_scatters.shape[0]:
        return _joined(bare, moments_of(bare, rows, means))
    gaps = _class_gaps(bare, head_of(bare, means))
    products = class_products(moments.class_scatters, rows, means, *gaps)
    joined = _joined(bare, moments_of(bare, rows, means, products))
    return joined._replace(class_scatters=products.scatters)


@jax.jit
def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both; commutative and associative up to rounding.

    Args:
      a: moments of some rows.
      b: moments of other rows, of the same features, classes and targets.

    Returns:
      Moments of the rows together.

    References:
      Chan, Golub and LeVeque (1983), equation 2.1, and its analogues for higher moments (Pébay
      2008, section 3).
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    return _joined(a, b)


@jax.jit
def remove(moments: Moments, taken: Moments) -> Moments:
    """Moments without some of their rows: what :func:`merge` undoes.

    What is left has the rounding of what was there, so its digits are as good as its share of each
    sum: take away few of many, and rebuild from the rows where little is to stay.

    Args:
      moments: moments of all rows.
      taken: of rows that are among them, with the same labels and weights.

    Returns:
      Moments of the rest; a class, or all, without rows left are exactly those of no rows.

    References:
      Chan, Golub and LeVeque (1983), equation 2.1, solved for one side.
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(moments, taken)
    # A row of weight -1 undoes one of weight 1; means keep their sign, weighted ones too.
    means = ("mean", "mean_low", "target_mean", "target_mean_low", "third", "fourth")
    minus = {name: -a for name, a in taken._asdict().items() if name not in means}
    rest = _joined(moments, taken._replace(**minus))
    left = rest.class_counts > 0
    rest = rest._replace(
        class_deviations=jnp.where(left[:, None], rest.class_deviations, 0.0),
        class_squares=jnp.where(left[:, None], jnp.maximum(rest.class_squares, 0.0), 0.0),
        class_scatters=jnp.where(
            left[: rest.class_scatters.shape[0], None, None], rest.class_scatters, 0.0
        ),
        within=jnp.where(left.any(), rest.within, 0.0),
    )
    return jax.tree.map(lambda a: jnp.where(rest.count > 0, a, 0.0), rest)


def all_merge(moments: Moments, axis_name: str | tuple[str, ...]) -> Moments:
    """Moments of the rows of all, in one reduction by ``psum``.

    Args:
      moments: of the rows of each place on the axis, under ``jax.shard_map`` or ``jax.vmap``.
      axis_name: the mapped axis.

    Returns:
      Moments of the rows together, the same on each place.

    References:
      Chan, Golub and LeVeque (1983), equation 2.1, for any number of parts.
    """

    def total(a: Array) -> Array:
        # Compiling the sum of nothing over processes ends them under jax 0.11.2 on a CPU.
        return jax.lax.psum(a, axis_name) if a.size else jnp.zeros(a.shape, a.dtype)

    count = total(moments.count)

    def joint(high: Array, low: Array) -> tuple[Array, Array, Array]:
        mean = rounded(divide(total(moments.count * high), count))
        rest = divide(total(moments.count * ((high - mean) + low)), count)
        return mean, rest, (high - mean) + (low - rest)

    mean, mean_low, shift = joint(moments.mean, moments.mean_low)
    target_mean, target_mean_low, target_shift = joint(moments.target_mean, moments.target_mean_low)
    spread = total(_spread_about(moments, shift))
    centred = _recentred(moments, shift, target_shift, spread)
    class_counts, class_deviations = total(centred.class_counts), total(centred.class_deviations)
    gap = class_offsets(centred) - divide(class_deviations, class_counts[:, None])
    centred = _with_gaps(centred, centred.class_counts, gap)
    return jax.tree.map(total, centred)._replace(
        count=count,
        mean=mean,
        mean_low=mean_low,
        class_counts=class_counts,
        class_deviations=class_deviations,
        target_mean=target_mean,
        target_mean_low=target_mean_low,
    )


def _joined(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    share = divide(b.count, count)
    mean, mean_low, gap = _joint_mean(a, b, "mean", share)
    target_mean, target_mean_low, target_gap = _joint_mean(a, b, "target_mean", share)
    shift_a, shift_b = -share * gap, (1.0 - share) * gap
    spread = _spread_about(a, shift_a) + _spread_about(b, shift_b)
    moved_a = _recentred(a, shift_a, -share * target_gap, spread)
    moved_b = _recentred(b, shift_b, (1.0 - share) * target_gap, spread)
    both = jax.tree.map(jnp.add, moved_a, moved_b)
    both = both._replace(
        count=count,
        mean=mean,
        mean_low=mean_low,
        target_mean=target_mean,
        target_mean_low=target_mean_low,
    )
    return _with_gaps(both, *_class_gaps(a, b))


def _spread_about(m: Moments, shift: Array) -> Array:
    """Sum of the squared distances of the rows to ``mean - shift``."""
    return total_scatter(m) + m.count * jnp.sum(shift**2)


def _recentred(m: Moments, shift: Array, target_shift: Array, spread: Array) -> Moments:
    """What is about the mean, about ``mean - shift`` instead.

    Third and fourth moments come out over ``spread``, that of all the parts that are to be added.
    """
    return m._replace(
        **_higher(m, shift, spread),
        scatter=m.scatter + m.count * _outer(m.scatter, shift),
        class_deviations=m.class_deviations + jnp.outer(m.class_counts, shift),
        target_scatter=m.target_scatter + m.count * jnp.outer(target_shift, target_shift),
        cross=m.cross + m.count * jnp.outer(shift, target_shift),
    )


def _higher(m: Moments, shift: Array, spread: Array) -> dict[str, Array]:
    """Third and fourth moments about ``mean - shift`` instead of the mean, over ``spread``."""
    found = {}
    if m.third.size:
        squared = jnp.sum(shift**2)
        kept, moved = divide(total_scatter(m), spread), divide(m.count * squared, spread)
        # The quotient of each term first: their products leave the range of the dtype.
        along = dot(divide(m.scatter, spread), shift)
        found["third"] = kept * (m.third + shift) + 2.0 * along + moved * shift
        found["fourth"] = (
            kept * (m.fourth + 4.0 * dot(shift, m.third) + 2.0 * squared)
            + 4.0 * dot(shift, along)
            + moved * squared
        )
    if m.thirds.size:
        variances, square = jnp.diag(m.scatter), shift**2
        found["thirds"] = (
            m.thirds
            + jnp.outer(variances, shift)
            + 2.0 * shift[:, None] * m.scatter
            + m.count * jnp.outer(square, shift)
        )
        either = 2.0 * m.thirds * shift + jnp.outer(variances, square)
        found["fourths"] = (
            m.fourths
            + (either + either.T)
            + 4.0 * jnp.outer(shift, shift) * m.scatter
            + m.count * jnp.outer(square, square)
        )
    return found


def _class_gaps(a: Moments, b: Moments) -> tuple[Array, Array]:
    """For each class, weight and direction of the row that joining adds to its scatter."""
    counts = a.class_counts + b.class_counts
    harmonic = a.class_counts * divide(b.class_counts, counts)
    gap = class_offsets(b) - class_offsets(a) + _mean_gap(a, b, "mean")
    return harmonic, jnp.where((harmonic != 0)[:, None], gap, 0.0)


def _with_gaps(m: Moments, weights: Array, gaps: Array) -> Moments:
    """Adds a row for each class, about the mean of the class."""
    kept = m.class_scatters.shape[0]
    weighted = weights[:, None] * gaps
    return m._replace(
        class_squares=m.class_squares + weighted * gaps,
        within=m.within + dot(gaps.T, weighted) if m.within.size else m.within,
        class_scatters=m.class_scatters
        + jnp.einsum("cp,cq->cpq", weighted[:kept], gaps[:kept], precision="highest"),
    )


def _outer(like: Array, shift: Array) -> Array:
    return jnp.outer(shift, shift) if like.ndim == 2 else shift**2


def _mean_gap(a: Moments, b: Moments, name: str) -> Array:
    """By how much the mean of ``b`` exceeds that of ``a``; 0 where either has no rows."""
    high = getattr(b, name) - getattr(a, name)
    gap = high + (getattr(b, f"{name}_low") - getattr(a, f"{name}_low"))
    return jnp.where((a.count != 0) & (b.count != 0), gap, 0.0)


def _joint_mean(a: Moments, b: Moments, name: str, share: Array) -> tuple[Array, Array, Array]:
    """Mean of both in two words, and by how much the mean of ``b`` exceeds that of ``a``."""
    high_a, low_a = getattr(a, name), getattr(a, f"{name}_low")
    high_b, low_b = getattr(b, name), getattr(b, f"{name}_low")
    gap = _mean_gap(a, b, name)
    step = low_a + share * gap
    high = high_a + step
    low = step - (high - high_a)
    # A side without rows changes nothing, to the bit.
    for only, kept_high, kept_low in ((b.count == 0, high_a, low_a), (a.count == 0, high_b, low_b)):
        high, low = jnp.where(only, kept_high, high), jnp.where(only, kept_low, low)
    return high, low, gap

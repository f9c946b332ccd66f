r"""Penalised softmax regression at its optimum, of all rows and without each fold in turn.

With rows :math:`x_i` (a 1 appended), logits :math:`\theta x_i`, weights :math:`w_i` of 0 or 1 and
a penalty :math:`\tfrac\lambda2 \mathrm{tr}(\theta R\, \theta^\top)`, each optimum is found by
Newton steps. A step solves

.. math:: \sum_i w_i\, J_i\, d\, x_i x_i^\top + \lambda\, d R = -g, \qquad
          J_i = \mathrm{diag}(p_i) - p_i p_i^\top,

by conjugate gradients, so that the exact Hessian is applied and never built: one product costs as
much as one gradient, whatever the number of classes. Its part within each class preconditions:
inverted whole where columns are few, and made again only where solving takes long; else its
diagonal, which in principal axes is most of it. What it gives all classes alike is taken out: only
the penalty sees that, and a weak one would leave as many bad directions as there are columns. A
fold starts from the optimum of all rows, moved as the fold was moved at the penalty before; one or
two steps are left.

References:
  Nocedal and Wright (2006), chapter 7, Newton steps by conjugate gradients.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernlens.probes import curvature as curvatures
from kernlens.types import Array

GAP = 1e-7
"""Nats per training row by which a solution may miss the least loss; up to a hundred times as many
where there are over ``MANY`` rows, whose parameters are known the better, and thirty times as many
per parameter, where there are many: each is known to about half a nat."""

MANY = 1e4

MAX_STEPS = 60
MAX_PRODUCTS = 60
"""Products of the Hessian within a step."""

RESIDUAL = 0.1
"""Residual of a step's linear system, relative; the next step repairs what is left."""

OVERSHOT = 0.25
"""Slope at the end of a step, relative to that at its start and against it, that is accepted."""

MAX_CUTS = 12

MANY_PRODUCTS = 3
"""Products of a step, at least, from which on the blocks are made again; or a tenth of the
columns, since making them costs as much as a third as many products as there are columns."""

PATIENCE = 2
"""Times as many products that a fold takes before that: its blocks, those of all rows at the same
penalty, are nearly its own."""

BY_HEART_GAP = 1e-3
"""Part of the gap that solutions are allowed whose rows can be learnt by heart."""

LAST = 100.0
"""A step that gains less than this many times the gap allowed leaves less than the gap."""

RELATIVE = 1e-5
"""Part of the loss that the gap may be: where rows are told apart without a mistake there is little
loss, and a fold's answers hang on the last of it."""


class Rows(NamedTuple):
    """Rows in blocks, of which the last is filled up.

    Attributes:
      x: principal coordinates and a 1, float32 ``[B, b, r + 1]``.
      codes: class of each row, int32 ``[B, b]``; ``-1`` of rows that fill up.
      folds: fold that holds the row out, int32 ``[B, b]``; ``-1`` for none.
    """

    x: Array
    codes: Array
    folds: Array


class Solutions(NamedTuple):
    """Optima at one penalty, and what the folds' say of the rows that they hold out.

    Attributes:
      whole: of all rows, ``[C, r + 1]``.
      folds: without each fold, ``[K, C, r + 1]``.
      predicted: class given by the fold's own solution, int32 ``[B, b]``; a wrong one where no fold
        holds the row out.
      losses: its log loss, float32 ``[B, b]``, 87 at most.
      curvature: Hessian of the loss within each class, ``[C, r + 1, r + 1]``, or its diagonal,
        ``[C, r + 1]``, of all rows or nearly so, to precondition what comes next.
      products: of the Hessian, by all rows and by each fold, int32 ``[1 + K]``.
      converged: whether every solution is within ``GAP``.
    """

    whole: Array
    folds: Array
    predicted: Array
    losses: Array
    curvature: Array
    products: Array
    converged: Array


class _Point(NamedTuple):
    theta: Array  # [C, r]
    probabilities: Array  # [B, C, b]
    gradient: Array  # [C, r]
    loss: Array  # with the penalty, or somewhat less


class _Known(NamedTuple):
    curvature: Array
    inverse: Array  # of it and the penalty


class _State(NamedTuple):
    steps: Array
    point: _Point
    known: _Known
    recent: Array  # products of the last step
    products: Array
    done: Array


@partial(jax.jit, static_argnames=("num_classes", "by_heart"))
def solve(
    rows: Rows,
    penalty: Array,
    roughness: Array,
    whole: Array,
    moved: Array,
    curvature: Array,
    *,
    num_classes: int,
    by_heart: bool = False,
    gap: float | Array = GAP,
) -> Solutions:
    """The optimum of all rows, and without each fold.

    Args:
      rows: blocks.
      penalty: :math:`\\lambda > 0`, a scalar.
      roughness: :math:`R` of all rows and of each fold's training rows, ``[1 + K, r, r]``; the
        appended column is free.
      whole: where to start, ``[C, r + 1]``.
      moved: the folds' solutions less that of all rows, ``[K, C, r + 1]``, as at a penalty nearby.
      curvature: as at a penalty nearby; of :func:`kernlens.probes.curvature.first` at first.
      num_classes: ``C``.
      by_heart: whether rows can be learnt by heart, so that a solution is held to more digits: what
        a fold then says of the rows that it holds out hangs on digits that are lost in the loss of
        all rows, from where it starts.
      gap: nats per row by which to miss the optimum at most.

    Returns:
      Solutions.
    """
    valid = rows.codes >= 0
    is_own = rows.codes[:, None] == jnp.arange(num_classes, dtype=jnp.int32)[:, None]

    def one(state, given):
        """All rows first, as if a fold without rows, then the folds."""
        centre, known, predicted, losses = state
        k, rough, offset = given
        weights = (valid & ((rows.folds != k) | (k < 0))).astype(rows.x.dtype)
        patience = jnp.where(k < 0, 1, PATIENCE)
        found = _newton(
            rows, weights, penalty, rough, centre + offset, known, patience, num_classes, by_heart,
            gap,
        )  # fmt: skip
        point = found.point
        # The only row of its class has, without it, no class to go to: it is a mistake.
        answers = jnp.where(is_own & (k < 0), 0.0, point.probabilities)
        own = jnp.sum(jnp.where(is_own, point.probabilities, 0.0), axis=1)
        loss = -jnp.log(jnp.maximum(own, jnp.finfo(own.dtype).tiny))
        held = (rows.folds == k) | (k < 0)
        predicted = jnp.where(held, jnp.argmax(answers, axis=1).astype(jnp.int32), predicted)
        losses = jnp.where(held, loss, losses)
        centre = jnp.where(k < 0, point.theta, centre)
        state = (centre, found.known, predicted, losses)
        return state, (point.theta, found.products, found.done)

    with jax.default_matmul_precision("highest"):
        nothing = jnp.zeros_like(rows.codes), jnp.zeros(rows.codes.shape, rows.x.dtype)
        known = _Known(curvature, curvatures.inverse(curvature, _padded(penalty, roughness[0])))
        start = (whole, known, *nothing)
        numbers = jnp.arange(-1, moved.shape[0], dtype=jnp.int32)
        offsets = jnp.concatenate([jnp.zeros_like(whole)[None], moved])
        (centre, known, predicted, losses), (thetas, products, done) = jax.lax.scan(
            one, start, (numbers, roughness, offsets)
        )
    return Solutions(
        centre, thetas[1:], predicted, losses, known.curvature, products, jnp.all(done)
    )  # fmt: skip


@jax.jit
def log_probabilities(rows: Rows, folds: Array) -> Array:
    """Log probabilities of the fold that holds a row out, float32 ``[B, C, b]``; the first fold's
    where none does."""
    with jax.default_matmul_precision("highest"):

        def block(given):
            x, own = given
            found = jnp.zeros((folds.shape[1], x.shape[0]), x.dtype)
            for k in range(folds.shape[0]):
                found = jnp.where(jnp.maximum(own, 0) == k, folds[k] @ x.T, found)
            return jax.nn.log_softmax(found, axis=0)

        return jax.lax.map(block, (rows.x, rows.folds))


def _newton(
    rows, weights, penalty, rough, theta, known, patience, num_classes, by_heart, gap
) -> _State:
    size, width = jnp.sum(weights), theta.shape[1]
    floor = 0.0 if by_heart else 30.0 * theta.size
    limit = gap * jnp.maximum(size * jnp.clip(size / MANY, 1.0, 100.0), floor)
    limit = limit * (BY_HEART_GAP if by_heart else 1.0)
    rough = _padded(penalty, rough)
    blocked = known.curvature.ndim == 3
    cost = width // (10 * curvatures.stride(rows.codes.size, width))
    many = max(MANY_PRODUCTS, cost) if blocked else 0

    def at(theta):
        def block(total, given):
            x, codes, w = given
            p = jax.nn.softmax(theta @ x.T, axis=0)
            is_own = codes == jnp.arange(num_classes, dtype=codes.dtype)[:, None]
            # What other classes are given, at most the log loss and nearly that where it is small.
            others = jnp.sum(jnp.where(is_own, 0.0, p), axis=0)
            gradient = total[0] + (w * (p - is_own.astype(p.dtype))) @ x
            return (gradient, total[1] + jnp.sum(w * others)), p

        pull = theta @ rough
        start = pull, 0.5 * _dot(pull, theta)
        (gradient, loss), p = jax.lax.scan(block, start, (rows.x, rows.codes, weights))
        return _Point(theta, p, gradient, loss)

    def allowed(point):
        return jnp.minimum(limit, RELATIVE * point.loss)

    def product(p, v):
        def block(total, given):
            x, p, w = given
            u = p * (v @ x.T)
            u = w * (u - p * jnp.sum(u, axis=0, keepdims=True))
            return total + u @ x, None

        return jax.lax.scan(block, v @ rough, (rows.x, p, weights))[0]

    def direction(point, inverse):
        def body(state):
            i, d, r, v, rho, _ = state
            hv = product(point.probabilities, v)
            curvature = _dot(v, hv)
            # Where all rows are learnt by heart it may be lost in rounding: what is solved stands.
            is_known = curvature > 0.0
            step = jnp.where(is_known, rho / jnp.where(is_known, curvature, 1.0), 0.0)
            d, r = d + step * v, r - step * hv
            s = curvatures.preconditioned(inverse, r)
            new = jnp.where(is_known, _dot(r, s), 0.0)
            return i + 1, d, r, s + new / rho * v, new, step * new

        r = -point.gradient
        s = curvatures.preconditioned(inverse, r)
        rho = _dot(r, s)

        def unsolved(state):
            # What is left is measured by the Hessian of this point, to which that of the
            # preconditioner may have no likeness: the step tells their ratio.
            i, *_, new, left = state
            far = (new > RESIDUAL**2 * rho) & (left > 0.05 * allowed(point))
            return (i < MAX_PRODUCTS) & (far | (i == 0)) & (rho > 0.0)

        state = (jnp.int32(0), jnp.zeros_like(r), r, s, rho, rho)
        return jax.lax.while_loop(unsolved, body, state)[:2]

    def cut(point, d):
        """Where along the step the loss is near its least: the end, unless that overshoots."""
        slope = _dot(point.gradient, d)

        def between(state):
            i, low, high, t, found = state
            # The slope rises along the step, so that its zero is bracketed. The first overshoot
            # tells little of a loss that is steep there: far back, and then halves.
            end = _dot(found.gradient, d)
            low, high = jnp.where(end < 0, t, low), jnp.where(end < 0, high, t)
            next_t = jnp.where(low > 0, 0.5 * (low + high), 0.25 * high)
            t = jnp.where(i == 0, 1.0, next_t)
            low = jnp.where(i == 0, 0.0, low)
            high = jnp.where(i == 0, 1.0, high)
            return i + 1, low, high, t, at(point.theta + t * d)

        def off(state):
            i, _, _, t, found = state
            end = _dot(found.gradient, d)
            early = (end < 0.5 * slope) & (t < 1.0)
            return (i == 0) | ((i < MAX_CUTS) & (early | ~(end <= -OVERSHOT * slope)))

        one = jnp.ones_like(slope)
        return jax.lax.while_loop(off, between, (jnp.int32(0), one, one, one, point))[-1]

    def again(state):
        found = curvatures.within_classes(
            rows.x, state.point.probabilities, weights, known.curvature
        )
        return _Known(found, curvatures.inverse(found, rough))

    def body(state):
        known = jax.lax.cond(
            state.recent >= patience * many, again, lambda state: state.known, state
        )
        products, d = direction(state.point, known.inverse)
        # What a step leaves is of higher order than what it gains.
        last = -0.5 * _dot(state.point.gradient, d) <= LAST * allowed(state.point)
        point = cut(state.point, d)
        return _State(state.steps + 1, point, known, products, state.products + products, last)

    def unfinished(state):
        return (state.steps < MAX_STEPS) & ~state.done

    zero = jnp.int32(0)
    start = _State(zero, at(theta), known, zero, zero, jnp.bool_(False))
    return jax.lax.while_loop(unfinished, body, start)


def _padded(penalty: Array, rough: Array) -> Array:
    """The penalty's own product: none of the appended column."""
    return penalty * jnp.pad(rough, ((0, 1), (0, 1)))


def _dot(a, b):
    return jnp.sum(a * b)

r"""Kernels learnt by the gradient of their leave-one-out error.

Any features that JAX can differentiate have a leave-one-out error that it can differentiate too, in
closed form: no classifier is trained inside the loop. What to learn is up to the features: weights
of several embeddings of the same items (:func:`weighted`), a lengthscale, a projection.

    parts = (behaviour, text)                         # [n, d1] and [n, d2]
    learnt = learn(weighted, weights_of(parts), parts, labels)
    joint = weighted(learnt.params, parts)            # [n, d1 + d2]: any classifier, probe or score
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernlens.probes.leave_one_out import MIN_SLACK
from kernlens.types import Array, Labels, Params

TOLERANCE = 1e-5
"""Relative gain over :data:`PATIENCE` steps below which learning is done."""

PATIENCE = 5


class Learnt(NamedTuple):
    """What :func:`learn` found.

    Attributes:
      params: parameters of the features, as they were given, float64 leaves.
      strength: strength of the ridge, relative to the mean eigenvalue of the features' covariance.
      errors: of each step, the first at the parameters given, float64 ``[steps + 1]``.
    """

    params: Params
    strength: float
    errors: np.ndarray


def leave_one_out_error(
    features: Array, codes: Array, *, num_classes: int, strength: float | Array
) -> Array:
    r"""Mean leave-one-out squared error of ridge regression on one-hot targets, unpenalised bias.

    .. math:: \frac1n \sum_i \left\| \frac{y_i - f_i}{1 - h_i} \right\|^2, \qquad
        h_i = \tfrac1n + z_i^\top (T + \lambda I)^{-1} z_i, \qquad T = \sum_j z_j z_j^\top,

    :math:`z` the centred rows and :math:`f` the fit to all of them: the ``error`` of
    :func:`kernlens.probes.ridge`, as a function to differentiate in the features and the strength.
    It costs one product of ``n p^2`` beside the scatter. Rows in float64 keep small strengths
    exact.

    Args:
      features: ``[n, p]``, floating.
      codes: class of each row, integers ``[n]`` in ``0..num_classes - 1``.
      num_classes: number of classes.
      strength: :math:`\lambda` relative to the mean eigenvalue of the scatter, positive.

    Returns:
      The error, from 0; that of the class shares of the other rows is near
      :math:`1 - \sum_c \pi_c^2`.

    References:
      Allen (1974), PRESS; Hastie, Tibshirani and Friedman (2009), equation 7.64.
    """
    chex.assert_rank([features, codes], [2, 1])
    chex.assert_equal_shape_prefix([features, codes], 1)
    n, p = features.shape
    z = features - jnp.mean(features, axis=0)
    target = jax.nn.one_hot(codes, num_classes, dtype=z.dtype)
    target = target - jnp.mean(target, axis=0)
    scatter = jnp.matmul(z.T, z, precision="highest")
    unit = jnp.trace(scatter) / p
    # Features that are all one row have no scatter: any positive penalty gives the class shares.
    penalty = strength * jnp.where(unit > 0, unit, 1.0)
    factor = jax.scipy.linalg.cholesky(scatter + penalty * jnp.eye(p, dtype=z.dtype), lower=True)
    white = jax.scipy.linalg.solve_triangular(factor, z.T, lower=True)
    fit = jnp.matmul(white.T, jnp.matmul(white, target, precision="highest"), precision="highest")
    slack = 1.0 - 1.0 / n - jnp.sum(jnp.square(white), axis=0)
    residual = (target - fit) / jnp.maximum(slack, MIN_SLACK)[:, None]
    return jnp.mean(jnp.sum(jnp.square(residual), axis=1))


def weighted(log_weights: Array | np.ndarray, parts: Sequence[Array | np.ndarray]) -> Array:
    r"""Features of the weighted sum of kernels, :math:`\sum_b e^{w_b} \langle z_b, z'_b\rangle`.

    Args:
      log_weights: :math:`w`, ``[B]``.
      parts: features of each kernel for the same rows, ``B`` arrays ``[n, p_b]``.

    Returns:
      ``[n, p_1 + ... + p_B]``.
    """
    chex.assert_shape(log_weights, (len(parts),))
    scales = jnp.exp(0.5 * jnp.asarray(log_weights))
    arrays = [jnp.asarray(part) for part in parts]
    return jnp.concatenate([s.astype(z.dtype) * z for s, z in zip(scales, arrays, strict=True)], 1)


def weights_of(parts: Sequence[Array | np.ndarray]) -> np.ndarray:
    """Log weights under which all kernels have the same total variance over the rows: a start.

    Args:
      parts: as :func:`weighted`; at least one, each of rows that are not all the same.

    Returns:
      Float64 ``[B]``; the weighted variances are 1.

    Raises:
      ValueError: no part, parts of different numbers of rows, values that are not finite, or a
        part whose rows are all the same.
    """
    if not parts:
        raise ValueError("parts must hold the features of one kernel at least; got none")
    found = []
    for index, part in enumerate(parts):
        part = np.asarray(part)
        if part.ndim != 2 or len(part) != len(parts[0]):
            raise ValueError(
                f"parts must be [n, p] for the same n rows; part {index} is {part.shape}, "
                f"part 0 has {len(parts[0])} rows"
            )
        variance = float(np.sum(np.var(part, axis=0, dtype=np.float64)))
        if not (np.isfinite(variance) and variance > 0):
            raise ValueError(
                f"part {index} must be finite and vary over its rows; its variance is {variance}"
            )
        found.append(-np.log(variance))
    return np.array(found)


def learn(
    feature_fn: Callable[[Params, Any], Array],
    params: Params,
    rows: Any,
    labels: Labels,
    *,
    strength: float = 1e-2,
    steps: int = 100,
) -> Learnt:
    """Minimises the leave-one-out error of features over their parameters, and the ridge strength.

    By L-BFGS on the exact gradient, in float64; stops early where nothing more is gained. The error
    at the learnt parameters is no longer that of rows that took no part: judge them on other rows.

    Args:
      feature_fn: ``feature_fn(params, rows) -> [n, p]``, differentiable in ``params``.
      params: where to start, any pytree of floating arrays.
      rows: what the features are of: any pytree of arrays ``[n, ...]``.
      labels: one label a row, ``[n]``; rows without one are left out.
      strength: where the ridge strength starts, positive.
      steps: most steps, at least 1.

    Returns:
      Learnt.

    Raises:
      ValueError: fewer than two classes among the rows, rows and labels of different lengths,
        ``steps`` or ``strength`` not positive, or features that are not finite.
    """
    if steps < 1 or not 0 < strength < np.inf:
        raise ValueError(f"steps and strength must be positive; got {steps} and {strength}")
    codes = np.asarray(labels.codes)
    lengths = {len(leaf) for leaf in jax.tree.leaves(rows)}
    if lengths != {len(codes)}:
        raise ValueError(f"rows must have one label each; got {lengths} rows, {len(codes)} labels")
    kept = np.flatnonzero(codes >= 0)
    classes, codes = np.unique(codes[kept], return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"learning needs two classes or more among the rows; got {len(classes)}")
    # optax's L-BFGS mixes the widths of integers once float64 is on.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        given = jax.tree.map(lambda leaf: _wide(np.asarray(leaf)[kept]), rows)
        start = (jax.tree.map(_wide, params), jnp.log(jnp.asarray(strength, jnp.float64)))
        run = _Descent(feature_fn, len(classes))
        (found, log_strength), errors = _minimise(run, (given, jnp.asarray(codes)), start, steps)
        return Learnt(jax.tree.map(np.asarray, found), float(np.exp(log_strength)), errors)


def _wide(leaf: Any) -> Array:
    """Floating leaves in float64, others as they are."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@dataclass(frozen=True)
class _Descent:
    """A step of L-BFGS, compiled once for a feature function and the shapes of the rows."""

    feature_fn: Callable[[Params, Any], Array]
    num_classes: int

    def error(self, variables: Any, given: Any) -> Array:
        """The error at parameters and the log of the strength, of rows and their codes."""
        (params, log_strength), (rows, codes) = variables, given
        return leave_one_out_error(
            self.feature_fn(params, rows), codes, num_classes=self.num_classes,
            strength=jnp.exp(log_strength),
        )  # fmt: skip

    @partial(jax.jit, static_argnums=0)
    def step(self, variables: Any, state: Any, given: Any) -> tuple[Any, Any, Any]:
        """Variables and state after a step, and the error before it."""
        value_fn = partial(self.error, given=given)
        value, grad = optax.value_and_grad_from_state(value_fn)(variables, state=state)
        updates, state = _LBFGS.update(
            grad, state, variables, value=value, grad=grad, value_fn=value_fn
        )
        return optax.apply_updates(variables, updates), state, value


_LBFGS = optax.lbfgs()


def _minimise(run: _Descent, given: Any, start: Any, steps: int) -> tuple[Any, np.ndarray]:
    """The best of the variables met, and the errors of all."""
    # optax starts from weak types that a step makes strong: kept, they cost a second compilation.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), _LBFGS.init(start))
    variables, errors = start, []
    best = start
    for _ in range(steps + 1):
        after, state, value = run.step(variables, state, given)
        errors.append(float(value))
        if not np.isfinite(errors[-1]):
            if len(errors) == 1:
                raise ValueError("features must be finite at the parameters given")
            break
        if errors[-1] <= min(errors):
            best = variables
        if len(errors) > PATIENCE:
            before = min(errors[:-PATIENCE])
            if before - min(errors) <= TOLERANCE * before:
                break
        variables = after
    return best, np.array(errors)

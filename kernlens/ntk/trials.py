"""The trial before a kernel's first call: a function that couples its batch, or has no gradient."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from kernlens.ntk import jaxprs
from kernlens.ntk.checks import count
from kernlens.ntk.models import Flat, concrete, flatten, select
from kernlens.types import ApplyFn, Array, Params

TRIAL_ROWS = 256
"""Examples at which a derivative is looked for."""

TRIAL_BYTES = 64 * 2**20
"""Bytes of a function's own values that the search holds at a time, about."""


class Trial(NamedTuple):
    """What the search for coupled batches and for a derivative costs, once for a kernel.

    Attributes:
      rows: examples at a time.
      steps: how often.
      bytes: about what the function's own values need at a time.
    """

    rows: int
    steps: int
    bytes: int


def trial_of(closed: ClosedJaxpr, n: int, most: int | None) -> Trial:
    """The trial of a function, from the sizes of all that its jaxpr computes for a batch.

    Args:
      closed: jaxpr of a batch's outputs.
      n: examples of the batch.
      most: rows of a block, where the user set it.
    """
    step = -(-n // TRIAL_ROWS)
    rows = -(-n // step)
    # A value and its derivative.
    each = max(1, 2 * jaxprs.written_bytes(closed) // n)
    at_once = max(1, min(rows, TRIAL_BYTES // each, most or rows))
    return Trial(at_once, -(-rows // at_once), max(at_once, min(3, n)) * each)


def check_function(
    f: ApplyFn,
    closed: ClosedJaxpr,
    params: Params,
    x: Any,
    name: str,
    block_size: int | None = None,
) -> None:
    """Refuses a function that couples its batch, or that has no gradient.

    The outputs of three examples together are compared with theirs one by one, and their
    derivative is looked at, at parameters moved a little so that layers that start at zero speak.
    Nothing is looked at where a value is being traced, one that the function closes over included.

    Args:
      f: the function.
      closed: its jaxpr, of :func:`kernlens.ntk.checks.outline`.
      params: parameters.
      x: inputs.
      name: what the inputs are called.
      block_size: most rows that the derivative is looked at for at a time.

    Raises:
      ValueError: outputs that depend on the other examples, or a derivative that is zero.
    """
    if not concrete((params, x, closed.consts)):
        return
    with jax.ensure_compile_time_eval():
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:3], x)
        n = count(x, name)
        step = -(-n // TRIAL_ROWS)
        trial = trial_of(closed, n, block_size)
        places = np.minimum(np.arange(trial.steps * trial.rows) * step, n - 1)
        places = places.reshape(trial.steps, trial.rows)
        # Rows of NumPy's are picked there, so that all of them are not copied for some.
        spread = jax.tree.map(
            lambda leaf: jnp.asarray(
                (leaf if isinstance(leaf, np.ndarray) else jnp.asarray(leaf))[places]
            ),
            x,
        )
        flat = flatten(params)
        try:
            together, single, slope = _trial(f, flat, rows, spread)
        except TypeError:  # no forward mode (a custom_vjp): values alone
            together, single, slope = _trial(f, flat, rows, None)
    tolerance = 1e-3 if together.dtype.itemsize > 2 else 5e-2
    together, single = (np.asarray(out, np.float64) for out in (together, single))
    scale = np.nanmax(np.abs(single), initial=0.0)
    if not np.allclose(together, single, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        coupled = f"the output for one example of {name} changes with the others"
        if jaxprs.draws_random(closed):
            raise ValueError(
                f"f draws random numbers for its batch: {coupled} (dropout in training mode?); the "
                "kernel is per example. Turn dropout off (deterministic=True, or model.eval())"
            )
        raise ValueError(
            f"f is coupled over its batch: {coupled} (batch norm in training mode, or a mean over "
            "the batch?); the kernel is per example. Use running statistics (train=False)"
        )
    if slope is not None and not np.any(np.asarray(slope, np.float64) != 0):
        raise ValueError(
            f"f has no gradient at {name}: its derivative with respect to the parameters is zero "
            "(rounding, arg-max, comparisons, stop_gradient, or parameters that are not used)"
        )


def _trial(f: ApplyFn, flat: Flat, rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
    """Outputs of rows together, one by one, and a derivative at other rows (None: without).

    The other rows come in parts, ``[steps, rows, ...]``, one after the other.
    """
    chosen = select(flat, None)

    @jax.jit
    def trial(leaves: list[Any], rows: Any, spread: Any) -> tuple[Array, Array, Array | None]:
        leaves = [_moved(leaf) for leaf in leaves]
        moved = flat.restore(leaves)
        single = [
            f(moved, jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], rows))[0]
            for i in range(count(rows, "x"))
        ]
        together = f(moved, rows)
        if spread is None:
            return together, jnp.stack(single), None

        def at(values: list[Array], part: Any) -> Array:
            own = list(leaves)
            for i, value in zip(chosen, values, strict=True):
                own[i] = value
            return f(flat.restore(own), part)

        values = [leaves[i] for i in chosen]
        directions = [_direction(value) for value in values]

        def slope(part: Any) -> Array:
            return jax.jvp(lambda own: at(own, part), (values,), (directions,))[1]

        # One part needs no loop, which would be another program to compile.
        alone = jax.tree.leaves(spread)[0].shape[0] == 1
        first = jax.tree.map(lambda leaf: leaf[0], spread)
        return together, jnp.stack(single), slope(first) if alone else jax.lax.map(slope, spread)

    return trial(flat.leaves, rows, spread)


def _direction(leaf: Array) -> Array:
    if leaf.size > 2**20:
        return jnp.ones_like(leaf)
    return (
        jnp.sin(1.0 + jnp.arange(leaf.size, dtype=jnp.float32))
        .reshape(leaf.shape)
        .astype(leaf.dtype)
    )


def _moved(leaf: Any) -> Any:
    dtype = jnp.result_type(leaf)
    # A large table is not copied for this, and does not start at zero.
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.size(leaf) > 2**20:
        return leaf
    return leaf + jnp.asarray(0.03, dtype)

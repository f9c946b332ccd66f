"""Laws for kernels, decoders and scores of your own: one line in a test.

    from kernlens import testing

    def test_my_kernel():
        testing.check_kernel(my_kernel)

Each function raises AssertionError with what was broken and where. The tests of kernlens hold its
own kernels, decoders and scores to the same laws.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens import moments
from kernlens.kernels import features
from kernlens.kernels.of_decoder import of_decoder
from kernlens.kernels.readout import DecoderKernel
from kernlens.scores.estimator import Estimator, Score
from kernlens.types import Decoder, FeatureMap, Kernel

SEEDS = 12
"""Number of draws of noise, and of separated classes, on which a score is judged."""


def check_kernel(
    kernel: Kernel, *, dim: int = 4, n: int = 12, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Holds a kernel to the laws that everything built on kernels relies on.

    The block of two sets of rows has one entry a pair; the Gram matrix is symmetric and positive
    semi-definite; the block of two slices is the slice of the block; ``jit`` changes nothing; the
    gradient is the difference quotient, and is finite at a row of zeros too.

    Args:
      kernel: ``(x1 [n1, d], x2 [n2, d]) -> K [n1, n2]``.
      dim: width of the rows.
      n: number of rows, at least 6.
      seed: seed of the rows.
      tolerance: relative to the largest entry; raise it for a kernel that is itself an estimate.

    Raises:
      AssertionError: a law that is broken.
    """
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.standard_normal((n, dim)), jnp.float32)
    gram = np.asarray(kernel(x, x), np.float64)
    assert gram.shape == (n, n), f"kernel of {n} and {n} rows gave shape {gram.shape}"
    assert np.all(np.isfinite(gram)), "the Gram matrix holds values that are not finite"
    slack = tolerance * max(float(np.max(np.abs(gram))), 1e-30)
    gap = np.abs(gram - gram.T)
    assert np.max(gap) <= slack, f"not symmetric: entries differ by {np.max(gap):.3g}"
    least = float(np.linalg.eigvalsh(0.5 * (gram + gram.T))[0])
    assert least >= -n * slack, f"not positive semi-definite: eigenvalue {least:.3g}"
    block = np.asarray(kernel(x[1:4], x[2:]), np.float64)
    assert block.shape == (3, n - 2), f"kernel of 3 and {n - 2} rows gave shape {block.shape}"
    gap = np.abs(block - gram[1:4, 2:])
    assert np.max(gap) <= slack, f"a block is not the slice of the Gram: off by {np.max(gap):.3g}"
    gap = np.abs(np.asarray(jax.jit(kernel)(x, x)) - gram)
    assert np.max(gap) <= slack, f"jit changes the kernel by {np.max(gap):.3g}"
    _check_gradient(kernel, np.asarray(x, np.float64), rng)


def _check_gradient(kernel: Kernel, x: np.ndarray, rng: np.random.Generator) -> None:
    # Parameters of a kernel may be float32; standard promotion lets them meet rows of float64.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        weights, step = jnp.asarray(rng.standard_normal((len(x), len(x)))), 1e-5
        direction = jnp.asarray(rng.standard_normal(x.shape))

        def total(t: Any, rows: jax.Array) -> jax.Array:
            moved = rows + t * direction
            return jnp.sum(weights * kernel(moved, moved))

        value_and_slope = jax.jit(jax.value_and_grad(total))
        slope = float(value_and_slope(0.0, x)[1])
        assert np.isfinite(slope), "the gradient is not finite"
        above, below = (float(value_and_slope(t, x)[0]) for t in (step, -step))
        quotient = (above - below) / (2.0 * step)
        scale = max(abs(quotient), abs(above), 1e-30)
        assert abs(slope - quotient) <= 1e-3 * scale, (
            f"the gradient {slope:.6g} is not the difference quotient {quotient:.6g}"
        )
        x = np.concatenate([np.zeros((1, x.shape[1])), x[1:]])
        assert np.isfinite(value_and_slope(0.0, x)[1]), "the gradient at a zero row is not finite"


def check_decoder(decoder: Decoder, *, dim: int = 5, num_outputs: int = 3, seed: int = 0) -> None:
    """Holds a decoder to what a prediction under it relies on.

    Its kernel keeps the laws of :func:`check_kernel`. It gives one feature vector a row, which does
    not depend on the other rows of the batch. Equal seeds give equal features.

    Args:
      decoder: a Flax module, or a pair ``(init_fn, apply_fn)``.
      dim: width of the rows.
      num_outputs: outputs of the head.
      seed: seed of the rows and of the parameters.

    Raises:
      AssertionError: a law that is broken.
      ValueError: the decoder does not take such rows.
    """
    made = of_decoder(decoder, dim=dim, num_outputs=num_outputs, seed=seed)
    check_kernel(made.kernel, dim=dim, seed=seed)
    x = jnp.asarray(np.random.default_rng(seed).standard_normal((9, dim)), jnp.float32)
    again = of_decoder(decoder, dim=dim, num_outputs=num_outputs, seed=seed)
    first, second = (_map_of(one, x) for one in (made, again))
    phi, other = np.asarray(first(x)), np.asarray(second(x))
    assert phi.ndim == 2, f"features of 9 rows have shape {phi.shape}"
    assert len(phi) == 9, f"features of 9 rows have shape {phi.shape}"
    scale = max(float(np.max(np.abs(phi))), 1e-30)
    assert np.max(np.abs(phi - other)) <= 1e-5 * scale, "equal seeds give other features"
    part = np.asarray(first(x[3:7]))
    gap = np.max(np.abs(part - phi[3:7]))
    assert gap <= 1e-3 * scale, f"features depend on the other rows: off by {gap:.3g}"


def _map_of(made: DecoderKernel, x: jax.Array) -> FeatureMap:
    if made.feature_map is not None:
        return made.feature_map
    return features.exact(made.kernel, x) if made.sketch is None else made.sketch(16)


def check_score(row: Estimator, *, seed: int = 0) -> None:
    """Holds a score to its own row: its null, its sign, and what it says it is blind to.

    Laws are of :data:`SEEDS` draws, in units of the spread of the score over them, so that a score
    of any range is judged by the same rule. Over noise, the mean distance from the null is within
    four standard errors of zero; a null that holds only in the limit of many rows may miss by more,
    if four times the rows at least halve the distance. Separated classes score above noise, in the
    score's sign, by four standard deviations. The order of rows and the names of classes do not
    matter, nor do scale, shift and rotation where the row says so. Where the row says that the
    score is smooth, its gradient is the difference quotient.

    Args:
      row: a row of a table of scores, with ``fn(Moments) -> Score``.
      seed: seed of the first draw.

    Raises:
      AssertionError: a law that is broken.
    """
    few, many = _noise(row, seed, n=300), _noise(row, seed, n=1200)
    bias, misses = few.values - few.nulls, many.values - many.nulls
    error = float(np.std(misses, ddof=1)) / SEEDS**0.5
    rounding = 1e-5 * max(float(np.max(np.abs(many.nulls))), 1e-3)
    assert abs(misses.mean()) <= 0.5 * abs(bias.mean()) + 4.0 * error + rounding, (
        f"noise scores {many.values.mean():.4g}, not its null {many.nulls.mean():.4g}"
    )
    apart = np.mean([_value(row, *_classes(seed + i, separation=5.0))[0] for i in range(SEEDS)])
    gain = row.sign * (apart - few.values.mean())
    assert gain > 4.0 * np.std(few.values, ddof=1), (
        f"separated classes score {apart:.4g} where noise scores {few.values.mean():.4g}"
    )
    x, codes = _classes(seed, separation=2.0)
    _check_blind(row, x, codes)
    if row.smooth:
        _check_score_gradient(row, x[:30], codes[:30])


class _Noise(NamedTuple):
    """Scores of labels that carry nothing, and their nulls, ``[SEEDS]``."""

    values: np.ndarray
    nulls: np.ndarray


def _noise(row: Estimator, seed: int, *, n: int) -> _Noise:
    draws = [_value(row, *_classes(seed + i, separation=0.0, n=n)) for i in range(SEEDS)]
    return _Noise(*np.transpose(draws))


def _check_score_gradient(row: Estimator, x: np.ndarray, codes: np.ndarray) -> None:
    with jax.enable_x64(True):
        rows, step = jnp.asarray(x, jnp.float64), 1e-5
        direction = jnp.asarray(np.random.default_rng(len(x)).standard_normal(x.shape))

        def value(t: Any) -> jax.Array:
            return _score(row, rows + t * direction, codes).value

        slope = float(jax.grad(value)(0.0))
        quotient = float(value(step) - value(-step)) / (2.0 * step)
        assert abs(slope - quotient) <= 1e-4 * max(abs(quotient), abs(float(value(0.0)))), (
            f"the gradient {slope:.6g} is not the difference quotient {quotient:.6g}"
        )


def _check_blind(row: Estimator, x: np.ndarray, codes: np.ndarray) -> None:
    rng = np.random.default_rng(len(x))
    base = _value(row, x, codes)[0]
    order, rename = rng.permutation(len(x)), np.array([2, 0, 1])
    changed = {
        "the order of rows": (x[order], codes[order]),
        "the names of classes": (x, rename[codes]),
    }
    if row.scale_free:
        changed["scale"] = (16.0 * x, codes)
    if row.shift_free:
        changed["a common mean"] = (x + 3.0, codes)
    if row.rotation_free:
        rotation = np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0]
        changed["rotation"] = (x @ rotation.astype(np.float32), codes)
    for what, given in changed.items():
        value = _value(row, *given)[0]
        assert abs(value - base) <= 1e-3 * max(abs(base), 1e-3), (
            f"the score depends on {what}: {value:.6g} and {base:.6g}"
        )


def _classes(seed: int, *, separation: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    centres = separation * np.linalg.qr(rng.standard_normal((4, 4)))[0][:3]
    return (centres[codes] + rng.standard_normal((n, 4))).astype(np.float32), codes


def _value(row: Estimator, x: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    value, null = _score(row, jnp.asarray(x), codes)
    return float(value), float(null)


def _score(row: Estimator, x: jax.Array, codes: np.ndarray) -> Score:
    made = moments.from_arrays(
        row.features(x), jnp.asarray(codes), 3,
        scatter=row.scatter, class_scatters=row.class_scatters,
    )  # fmt: skip
    return row.fn(made)

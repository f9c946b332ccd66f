"""Laws for what is written outside kernlens: one line in a test of your own.

    from kernlens import testing

    def test_my_kernel():
        testing.check_kernel(my_kernel)

Each function raises AssertionError with what was broken and where. The tests of kernlens hold its
own kernels, decoders and scores to the same laws.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernlens import moments
from kernlens.kernels import features
from kernlens.kernels.features import FeatureMap
from kernlens.kernels.of_decoder import of_decoder
from kernlens.kernels.readout import DecoderKernel
from kernlens.scores import Estimator
from kernlens.types import Decoder, Kernel

SEEDS = 12
"""Draws over which a score is judged, of noise and of separated classes."""


def check_kernel(
    kernel: Kernel, *, dim: int = 4, n: int = 12, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Holds a kernel to the laws that everything built on kernels relies on.

    The block of two sets of rows has one entry a pair; the Gram matrix is symmetric and positive
    semi-definite; the block of two slices is the slice of the block; ``jit`` changes nothing; the
    gradient is finite and is the difference quotient.

    Args:
      kernel: ``(x1 [n1, d], x2 [n2, d]) -> K [n1, n2]``.
      dim: width of the rows tried.
      n: number of rows tried, at least 6.
      seed: of the rows.
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
    _check_gradient(kernel, x, rng)


def _check_gradient(kernel: Kernel, x: jax.Array, rng: np.random.Generator) -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(x, jnp.float64)
        weights, step = jnp.asarray(rng.standard_normal((len(x), len(x)))), 1e-5
        direction = jnp.asarray(rng.standard_normal(x.shape))

        def total(t: Any) -> jax.Array:
            moved = x + t * direction
            return jnp.sum(weights * kernel(moved, moved))

        slope = float(jax.grad(total)(jnp.zeros(())))
        assert np.isfinite(slope), "the gradient is not finite"
        quotient = float(total(step) - total(-step)) / (2.0 * step)
        scale = max(abs(quotient), float(jnp.max(jnp.abs(kernel(x, x)))), 1e-30)
        assert abs(slope - quotient) <= 1e-3 * scale, (
            f"the gradient {slope:.6g} is not the difference quotient {quotient:.6g}"
        )


def check_decoder(decoder: Decoder, *, dim: int = 5, num_outputs: int = 3, seed: int = 0) -> None:
    """Holds a decoder to what a prediction under it relies on.

    It has a kernel, and that keeps the laws of :func:`check_kernel`; features of its own are one
    row each, the same whatever rows stand beside; equal seeds give equal features.

    Args:
      decoder: a Flax module, or a pair ``(init_fn, apply_fn)``.
      dim: width of the rows tried.
      num_outputs: outputs of the head.
      seed: of the rows and of its parameters.

    Raises:
      AssertionError: a law that is broken.
      ValueError: what is not a decoder of such rows.
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
    assert gap <= 1e-3 * scale, f"features depend on the rows beside: off by {gap:.3g}"


def _map_of(made: DecoderKernel, x: jax.Array) -> FeatureMap:
    if made.feature_map is not None:
        return made.feature_map
    return features.exact(made.kernel, x) if made.sketch is None else made.sketch(16)


def check_score(row: Estimator, *, seed: int = 0) -> None:
    """Holds a score to its own row: its null, its sign, and what it says it is blind to.

    Over :data:`SEEDS` draws, the mean over noise is its null within four standard errors of that
    mean, and separated classes score above noise, in its sign, by four standard deviations of
    noise. Then order of rows and names of classes must not matter, nor scale, shift and rotation
    where the row says so.

    Args:
      row: of a table of scores: ``fn(Moments) -> Score``.
      seed: of the first draw.

    Raises:
      AssertionError: a law that is broken.
    """
    noise, nulls, apart = [], [], []
    for i in range(SEEDS):
        codes, x = _classes(seed + i, separation=0.0)
        value, null = _value(row, x, codes)
        noise.append(value)
        nulls.append(null)
        apart.append(_value(row, *reversed(_classes(seed + i, separation=5.0)))[0])
    spread = max(float(np.std(noise, ddof=1)), 1e-6)
    bias = float(np.mean(np.subtract(noise, nulls)))
    assert abs(bias) <= 4.0 * spread / SEEDS**0.5 + 0.01 * abs(float(np.mean(nulls))), (
        f"noise scores {np.mean(noise):.4g}, not its null {np.mean(nulls):.4g}"
    )
    gain = row.sign * float(np.mean(apart) - np.mean(noise))
    assert gain > 4.0 * spread, (
        f"separated classes score {np.mean(apart):.4g} where noise scores {np.mean(noise):.4g}"
    )
    _check_blind(row, *_classes(seed, separation=2.0))


def _check_blind(row: Estimator, codes: np.ndarray, x: np.ndarray) -> None:
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
    return codes, (centres[codes] + rng.standard_normal((n, 4))).astype(np.float32)


def _value(row: Estimator, x: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    made = moments.from_arrays(
        row.features(jnp.asarray(x)), jnp.asarray(codes), 3,
        scatter=row.scatter, class_scatters=row.class_scatters,
    )  # fmt: skip
    value, null = row.fn(made)
    return float(value), float(null)

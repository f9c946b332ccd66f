"""How an embedding is read: the features of a kernel or a decoder, and the readout on top."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.arrays.rows import identity
from kernlens.kernels import features as feature_maps
from kernlens.kernels.mapped import mapped, sampled, standard_of
from kernlens.kernels.readout import DecoderKernel, Readout
from kernlens.types import Array, Decoder, FeatureMap, Kernel, Stream

MAX_EXACT = feature_maps.MAX_EXACT_ROWS
"""Most rows whose kernel matrix is factored; with more, landmarks or a sketch stand in."""

LANDMARKS = 1024
"""Landmarks of a kernel of more rows."""

LANDMARK_ROWS = 20_000
"""Rows among which landmarks are chosen."""

SKETCHED = 512
"""Features of a tangent kernel of more rows."""

CHECKED = 256
"""Rows on which the error of an approximation is measured."""

WRONG = 0.05
"""Error of exact features from which on what was given is no kernel."""

ALIKE = 0.1
"""Value of a kernel between a row and the nearest other, in those of the rows themselves, from
which on it sees a likeness."""

FEATURE_ROWS = 65_536
"""Rows whose features are made at a time."""

IN_MEMORY = 2**29
"""Bytes of features that are held; more are made again at each pass."""


class Reading(NamedTuple):
    """Rows as a probe takes them.

    Attributes:
      features: ``[n, p]``, an array or a stream.
      features_fn: gives the features ``[m, p]`` of other rows ``[m, d]``, NumPy arrays both.
      readout: what the probe on top has to be.
      notes: how a kernel became features.
      of_kernel: whether the scales of the features are those of a kernel.
      penalty: penalty of the weights on top, or None where it is chosen.
      options: keyword arguments of that probe.
    """

    features: Any
    features_fn: Callable[[np.ndarray], np.ndarray]
    readout: Readout
    notes: tuple[str, ...] = ()
    of_kernel: bool = False
    penalty: float | None = None
    options: Mapping[str, Any] = MappingProxyType({})


def read(
    rows: np.ndarray | Array | Stream,
    *,
    decoder: Decoder | None = None,
    kernel: Kernel | None = None,
    num_outputs: int = 1,
    layers: bool = False,
    seed: int = 0,
) -> Reading:
    """The features through which a decoder, or a kernel, sees an embedding.

    Up to :data:`MAX_EXACT` rows a kernel's features are exact; with more rows they come from
    landmarks (Nyström), or from a sketch of a tangent kernel, and a note tells how far their inner
    products are from the kernel.

    Args:
      rows: ``[n, d]``, finite.
      decoder: whose features; None for the rows as they are.
      kernel: whose features, in place of a decoder's.
      num_outputs: outputs of the decoder.
      layers: whether hidden layers that are trained are left to a probe that trains them, which
        reads the rows as they are; else their random features are read.
      seed: random seed of landmarks, random features and initial parameters.

    Returns:
      Reading; the rows themselves, untouched, for a linear kernel or decoder, or neither.

    Raises:
      ValueError: both a decoder and a kernel; what is neither; a kernel that gives another shape,
        or values that are not finite.
    """
    if decoder is not None and kernel is not None:
        raise ValueError("give a decoder or a kernel, not both: a decoder has its own kernel")
    if decoder is not None:
        # Here, since Flax takes half a second to load and most calls need none of it.
        from kernlens.kernels.of_decoder import layers_of, of_decoder

        options = layers_of(decoder) if layers else None
        if options is not None:
            return Reading(rows, np.asarray, Readout.LAYERS, options=options)
        made = of_decoder(decoder, dim=int(rows.shape[1]), num_outputs=num_outputs, seed=seed)
    elif kernel is not None:
        made = DecoderKernel(_checked(kernel, int(rows.shape[1])))
    else:
        return Reading(rows, np.asarray, Readout.LINEAR)
    if made.feature_map is identity and not made.standardised:
        return Reading(rows, np.asarray, made.readout, options=made.options)
    standard = standard_of(rows) if made.standardised else None
    if made.feature_map is not None:
        map_fn = made.feature_map
        return Reading(
            _held(mapped(rows, map_fn, standard=standard)),
            partial(_features, map_fn=map_fn, standard=standard),
            made.readout, penalty=made.penalty, options=made.options,
        )  # fmt: skip
    n = int(rows.shape[0])
    if n <= MAX_EXACT:
        x = _prepared(sampled(rows, n), standard)
        map_fn = feature_maps.exact(made.kernel, x, max_rows=MAX_EXACT)
        phi = np.asarray(map_fn(x))
        _check_finite(phi)
        error = _error(made.kernel, map_fn, x[:CHECKED])
        if error > WRONG:
            raise ValueError(
                "a kernel must be symmetric and positive semi-definite; the inner products of this "
                f"one's features are off by {error:.0%} (kernlens.testing.check_kernel says where)"
            )
        used = np.any(phi != 0, axis=0)
        phi = phi[:, used]
        notes = (f"kernel read by its {phi.shape[1]:,} exact features on these {n:,} rows",)
        notes += _apart(made.kernel, x[:CHECKED])
        features_fn = partial(_features, map_fn=map_fn, standard=standard, used=used)
        return Reading(phi, features_fn, made.readout, notes, of_kernel=True)
    if made.sketch is not None:
        map_fn, how = made.sketch(SKETCHED), f"a sketch of {SKETCHED} random features"
    else:
        pool = _prepared(sampled(rows, LANDMARK_ROWS, seed=seed), standard)
        landmarks = feature_maps.kmeans_landmarks(jax.random.key(seed), pool, LANDMARKS)
        map_fn, how = feature_maps.nystrom(made.kernel, landmarks), f"{LANDMARKS:,} landmarks"
    tried = _prepared(sampled(rows, CHECKED, seed=seed + 1), standard)
    error = _error(made.kernel, map_fn, tried)
    notes = (f"kernel read by {how}: off by {error:.1%} on {len(tried)} rows (Frobenius norm)",)
    notes += _apart(made.kernel, tried)
    phi = _held(mapped(rows, map_fn, standard=standard))
    features_fn = partial(_features, map_fn=map_fn, standard=standard)
    return Reading(phi, features_fn, made.readout, notes, of_kernel=True)


def _features(
    rows: np.ndarray, *, map_fn: FeatureMap, standard: Any, used: np.ndarray | None = None
) -> np.ndarray:
    """Features of rows, some at a time."""
    chunks = mapped(rows, map_fn, standard=standard).chunks(rows=FEATURE_ROWS)
    found = np.concatenate([chunk.values for chunk in chunks])
    return found if used is None else found[:, used]


def _prepared(rows: np.ndarray, standard: Any) -> Array:
    return jnp.asarray(rows if standard is None else standard(rows), jnp.float32)


def _held(stream: Any) -> Any:
    """The features in memory where they fit, else the stream."""
    n, p = stream.shape
    if 4 * n * p > IN_MEMORY:
        return stream
    return np.concatenate([chunk.values for chunk in stream.chunks(rows=FEATURE_ROWS)])


def _error(kernel: Kernel, map_fn: FeatureMap, x: Array) -> float:
    gram, phi = kernel(x, x), map_fn(x)
    _check_finite(np.asarray(gram))
    return float(jnp.linalg.norm(gram - phi @ phi.T) / jnp.linalg.norm(gram))


def _apart(kernel: Kernel, x: Array) -> tuple[str, ...]:
    """A note where a kernel finds hardly any row alike to another, and so says little of either."""
    gram = np.abs(np.asarray(kernel(x, x), np.float64))
    own = np.sqrt(np.maximum(np.diagonal(gram), np.finfo(np.float64).tiny))
    alike = gram / np.outer(own, own)
    np.fill_diagonal(alike, 0.0)
    nearest = float(np.median(alike.max(axis=1, initial=0.0)))
    if nearest >= ALIKE:
        return ()
    rows = np.asarray(x, np.float64)
    square = np.sum(rows**2, axis=1)
    squared = square[:, None] + square - 2.0 * rows @ rows.T
    apart = float(np.sqrt(np.median(np.maximum(squared[np.triu_indices(len(rows), 1)], 0.0))))
    return (
        f"of {len(rows)} rows most are unlike all others to this kernel (at most {nearest:.1g} of "
        "their value with themselves), so that it tells little; where it has a lengthscale, take "
        f"one near the {apart:.2g} that rows are apart: functools.partial(kernels.rbf, lengthscale="
        f"{apart:.2g}), at the command line as module:name",
    )


def _check_finite(values: np.ndarray) -> None:
    if not np.all(np.isfinite(values)):
        raise ValueError("the kernel gives values that are not finite on these rows")


def _checked(kernel: Any, dim: int) -> Any:
    if not callable(kernel):
        raise ValueError(f"a kernel is a function (x1, x2) -> K [n1, n2]; got {kernel!r}")
    blocks = [jax.ShapeDtypeStruct((size, dim), jnp.float32) for size in (2, 3)]
    try:
        shape = getattr(jax.eval_shape(kernel, *blocks), "shape", None)
    except Exception as error:  # whatever a user's function raises
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"the kernel fails on rows [2, {dim}] and [3, {dim}], where it must give [2, 3] by "
            f"functions of jax.numpy: {said[0][:200]}"
        ) from error
    if shape != (2, 3):
        raise ValueError(
            f"a kernel of rows [2, {dim}] and [3, {dim}] must give [2, 3]; got {shape}"
        )
    return kernel

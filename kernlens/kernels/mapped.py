"""Features of rows, made some rows at a time: a stream of the features of another stream."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernlens.types import FeatureMap, Stream


class Standard(NamedTuple):
    """Columns shifted and scaled, so that those of the rows have mean 0 and deviation 1.

    Attributes:
      mean: float64 ``[d]``.
      deviation: float64 ``[d]``; 1 where a column is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The rows in these units, float64 ``[b, d]``."""
        return (np.asarray(rows, np.float64) - self.mean) / self.deviation


class Block(NamedTuple):
    """Some rows of a stream: values ``[b, p]``, and their numbers ``[b]``."""

    values: np.ndarray
    rows: np.ndarray


class Mapped(NamedTuple):
    """A stream of features ``[n, p]``; the rows stay where they are and are mapped at each pass.

    Attributes:
      source: rows, an array ``[n, d]`` or a stream.
      map_fn: of float32 rows.
      standard: what the rows go through first, or None.
      num_features: ``p``.
    """

    source: Any
    map_fn: FeatureMap
    standard: Standard | None
    num_features: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return int(self.source.shape[0]), self.num_features

    @property
    def dtype(self) -> np.dtype:
        """Float32."""
        return np.dtype(np.float32)

    def chunks(self, *, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Features of the rows ``start..stop``, at most ``rows`` rows at a time."""
        apply = jax.jit(self.map_fn)
        for values, numbers in walk(self.source, rows, start=start, stop=stop):
            made = values if self.standard is None else self.standard(values)
            yield Block(np.asarray(apply(jnp.asarray(made, jnp.float32))), numbers)


def mapped(source: Any, map_fn: FeatureMap, *, standard: Standard | None = None) -> Mapped:
    """Features of rows as a stream; the map is tried on no rows to learn how many it gives."""
    row = jax.ShapeDtypeStruct((2, int(source.shape[1])), jnp.float32)
    return Mapped(source, map_fn, standard, int(jax.eval_shape(map_fn, row).shape[1]))


def walk(
    source: Any, rows: int, *, start: int = 0, stop: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and their numbers, ``rows`` at a time at most, from an array or a stream."""
    if isinstance(source, Stream):
        for chunk in source.chunks(rows=rows, start=start, stop=stop):
            yield chunk.values, np.asarray(chunk.rows)
        return
    stop = len(source) if stop is None else stop
    for first in range(start, stop, rows):
        part = np.asarray(source[first : min(first + rows, stop)])
        yield part, np.arange(first, first + len(part))


def standard_of(source: Any, *, rows: int = 65_536) -> Standard:
    """Means and standard deviations of the columns, in float64, from two passes."""
    n, d = source.shape
    total, squares = np.zeros(d), np.zeros(d)
    for values, _ in walk(source, rows):
        total += np.sum(values, axis=0, dtype=np.float64)
    mean = total / n
    for values, _ in walk(source, rows):
        squares += np.sum((values.astype(np.float64) - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / n)
    return Standard(mean, np.where(deviation > 0, deviation, 1.0))


def sampled(source: Any, size: int, *, seed: int = 0, rows: int = 65_536) -> np.ndarray:
    """Rows drawn without replacement, in order, ``[min(size, n), d]``, from one pass."""
    n = int(source.shape[0])
    chosen = np.zeros(n, bool)
    chosen[np.random.default_rng(seed).choice(n, min(size, n), replace=False)] = True
    return np.concatenate([values[chosen[numbers]] for values, numbers in walk(source, rows)])

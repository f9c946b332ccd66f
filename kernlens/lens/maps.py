r"""Maps from a new version of an embedding into the old one, for a head that stays as it is.

A map is affine, :math:`x \mapsto x W + b`, and needs no labels: only items that both versions have.
Each is a function of their joint moments, so that maps without each fold, and the share of the old
rows' variance that they explain on the fold, come from one pass.

>>> rng = np.random.default_rng(0)
>>> old = rng.normal(size=(500, 3))
>>> new = old @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]) + 5.0  # columns moved, and an offset
>>> fitted = fit("rotation", joint(new, old))
>>> bool(np.allclose(fitted(new), old))
True

References:
  Schönemann (1966) for the orthogonal map; Artetxe, Labaka and Agirre (2018) for whitening, mapping
  and colouring again.
"""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files

RAW, ROTATION, RIDGE, WHITENED = "raw", "rotation", "ridge map", "whiten-rotate-colour"

STRENGTHS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths that are tried, relative to the mean variance of the new columns."""

FLOOR = 1e-9
"""Least variance of a direction that is whitened, relative to the largest."""


class Joint(NamedTuple):
    """Joint moments of the rows of two versions.

    Attributes:
      count: number of rows.
      new_mean: ``[d2]``.
      old_mean: ``[d1]``.
      new: centred sums of products of the new rows, ``[d2, d2]``.
      cross: cross moments of new and old rows, ``[d2, d1]``.
      old: of the old rows, ``[d1, d1]``.
    """

    count: int
    new_mean: np.ndarray
    old_mean: np.ndarray
    new: np.ndarray
    cross: np.ndarray
    old: np.ndarray

    def without(self, other: "Joint") -> "Joint":
        """The moments of the rows that are not those of ``other``."""
        return _combined(self, other, -1)


class Map(NamedTuple):
    """An affine map of rows of the new version into the old one; a function, saved and served.

    Attributes:
      name: a key of :data:`MAPS`.
      weights: float64 ``[d2, d1]``.
      bias: float64 ``[d1]``.
    """

    name: str
    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, rows: Any) -> Any:
        """Rows ``[m, d2]`` in the old version's place, ``[m, d1]``: float64 of NumPy's arrays, of
        JAX's their own dtype."""
        if isinstance(rows, np.ndarray):
            return rows.astype(np.float64) @ self.weights + self.bias
        return rows @ self.weights.astype(rows.dtype) + self.bias.astype(rows.dtype)

    def save(self, path: str | Path) -> None:
        """Writes a ``.safetensors`` file with the tensors ``weights`` and ``bias``.

        Raises:
          ValueError: a path that does not end in ``.safetensors``, or the package is missing.
        """
        files.optional("safetensors", extra="text")
        from safetensors.numpy import save

        if Path(path).suffix != ".safetensors":
            raise ValueError(f"a map is saved as .safetensors; got {path}")
        told = {"kernlens": version("kernlens"), "map": self.name}
        tensors = {"weights": np.ascontiguousarray(self.weights), "bias": self.bias}
        files.write_atomically(path, save(tensors, metadata=told))


def load(path: str | Path) -> Map:
    """A map that :meth:`Map.save` wrote.

    Raises:
      ValueError: a damaged file, or one that holds no map.
    """
    package: Any = files.optional("safetensors", extra="text")
    try:
        with package.safe_open(str(path), framework="np") as file:
            name = (file.metadata() or {}).get("map", "")
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except package.SafetensorError as error:
        raise ValueError(f"{path}: truncated or damaged .safetensors file: {error}") from error
    weights, bias = found.get("weights"), found.get("bias")
    if weights is None or bias is None or weights.shape[1:] != bias.shape:
        shapes = {key: value.shape for key, value in found.items()}
        raise ValueError(
            f"{path}: expected the tensors weights [d2, d1] and bias [d1] of a map; got {shapes}"
        )
    return Map(name, weights, bias)


def joint(new: np.ndarray, old: np.ndarray, *, rows: int = 65_536) -> Joint:
    """Joint moments of rows of the same items, in float64.

    Args:
      new: ``[n, d2]``.
      old: ``[n, d1]``.
      rows: how many are taken at a time.
    """
    found = None
    for start in range(0, len(new), rows):
        a, b = (np.asarray(x[start : start + rows], np.float64) for x in (new, old))
        means = a.mean(axis=0), b.mean(axis=0)
        a, b = a - means[0], b - means[1]
        part = Joint(len(a), *means, a.T @ a, a.T @ b, b.T @ b)
        found = part if found is None else _combined(found, part, 1)
    if found is None:
        raise ValueError("a map needs rows that both versions have; got none")
    return found


def _combined(a: Joint, b: Joint, sign: int) -> Joint:
    count = a.count + sign * b.count
    new_gap, old_gap = b.new_mean - a.new_mean, b.old_mean - a.old_mean
    share = sign * b.count / count
    # The sum of two scatters, or their difference, and that of their means.
    between = sign * a.count * b.count / count

    def scatter(x, y, left, right):
        return x + sign * y + between * np.outer(left, right)

    return Joint(
        count,
        a.new_mean + share * new_gap,
        a.old_mean + share * old_gap,
        scatter(a.new, b.new, new_gap, new_gap),
        scatter(a.cross, b.cross, new_gap, old_gap),
        scatter(a.old, b.old, old_gap, old_gap),
    )


def fit(name: str, moments: Joint, *, strength: float = STRENGTHS[0]) -> Map:
    """A map by name.

    Args:
      name: a key of :data:`MAPS`.
      moments: moments of the rows to fit.
      strength: strength of the ridge map, relative to the mean variance of the new columns.

    Raises:
      ValueError: another name, or ``raw`` between versions of unequal width.
    """
    if name not in MAPS:
        raise ValueError(f"maps must be among {tuple(MAPS)}; got {name!r}")
    if name == RAW:
        if moments.new.shape != moments.old.shape:
            raise ValueError(
                f"raw serves new rows as they are: versions of {len(moments.new_mean)} and "
                f"{len(moments.old_mean)} columns need a map"
            )
        return Map(name, np.eye(len(moments.old_mean)), np.zeros(len(moments.old_mean)))
    weights = MAPS[name](moments, strength)
    return Map(name, weights, moments.old_mean - moments.new_mean @ weights)


def explained(fitted: Map, moments: Joint) -> tuple[float, float]:
    """Squared error of a map, and the scatter of the old rows about their mean, on some rows."""
    w = fitted.weights
    scatter = float(np.trace(moments.old))
    offset = moments.new_mean @ w + fitted.bias - moments.old_mean
    error = scatter - 2.0 * float(np.sum(w * moments.cross))
    error += float(np.sum(w * (moments.new @ w))) + moments.count * float(offset @ offset)
    return error, scatter


class Fitted(NamedTuple):
    """A map of all rows, and without each fold.

    Attributes:
      whole: of all common items, as it would be served.
      folds: without each fold.
      r2: share of the variance of the old rows that the folds' maps explain on their own folds.
    """

    whole: Map
    folds: tuple[Map, ...]
    r2: float

    def mapped(self, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Rows ``[n, d2]``, each by the map of its own fold; -1 has the first fold's."""
        found = np.empty((len(rows), len(self.whole.bias)))
        for k, own in enumerate(self.folds):
            at = np.maximum(folds, 0) == k
            found[at] = own(np.asarray(rows[at]))
        return found


def fit_folds(name: str, whole: Joint, folds: list[Joint]) -> Fitted:
    """A map by name, of all rows and without each fold; the ridge map's strength is that of the
    least error on the folds.

    Args:
      name: a key of :data:`MAPS`.
      whole: moments of all rows.
      folds: moments of the rows of each fold.
    """
    rest = [whole.without(own) for own in folds]
    best = None
    for strength in STRENGTHS if name == RIDGE else STRENGTHS[:1]:
        made = tuple(fit(name, own, strength=strength) for own in rest)
        sums = np.sum([explained(m, own) for m, own in zip(made, folds, strict=True)], axis=0)
        r2 = 1.0 - sums[0] / sums[1] if sums[1] > 0 else np.nan
        if best is None or r2 > best.r2:
            best = Fitted(fit(name, whole, strength=strength), made, float(r2))
    assert best is not None
    return best


def _raw(moments: Joint, strength: float) -> np.ndarray:
    del strength
    return np.eye(len(moments.old_mean))


def _rotation(moments: Joint, strength: float) -> np.ndarray:
    """The orthogonal map of least squared error, [d2, d1]; of unequal widths it drops directions,
    or leaves some of the old ones empty."""
    del strength
    u, _, vt = np.linalg.svd(moments.cross, full_matrices=False)
    return u @ vt


def _ridge(moments: Joint, strength: float) -> np.ndarray:
    d = len(moments.new_mean)
    unit = np.trace(moments.new) / d
    return np.linalg.solve(moments.new + (strength * unit or 1.0) * np.eye(d), moments.cross)


def _whiten_rotate_colour(moments: Joint, strength: float) -> np.ndarray:
    del strength
    whiten_new, _ = _roots(moments.new / moments.count)
    whiten_old, colour = _roots(moments.old / moments.count)
    u, _, vt = np.linalg.svd(
        whiten_new @ (moments.cross / moments.count) @ whiten_old, full_matrices=False
    )
    return whiten_new @ (u @ vt) @ colour


def _roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse square root of a covariance on the directions that vary, and its square root."""
    values, vectors = np.linalg.eigh(covariance)
    varied = values > FLOOR * max(values[-1], 0.0)
    root = np.sqrt(np.where(varied, values, 0.0))
    inverse = np.where(varied, 1.0 / np.where(varied, root, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T, (vectors * root) @ vectors.T


MAPS: dict[str, Callable[[Joint, float], np.ndarray]] = {
    RAW: _raw,
    ROTATION: _rotation,
    RIDGE: _ridge,
    WHITENED: _whiten_rotate_colour,
}
"""Weights ``[d2, d1]`` from joint moments and a ridge strength; cheapest to serve first."""

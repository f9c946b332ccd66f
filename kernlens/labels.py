"""Labels from raw values: coding, thinning, row selection."""

from collections.abc import Sequence

import numpy as np

from kernlens.types import Labels


def encode(values: Sequence | np.ndarray, *, names: Sequence[str] | None = None) -> Labels:
    """Codes for raw label values.

    Args:
      values: one value per row, ``[n]``: strings, integers, or objects; None, NaN and the empty
        string mean "no label". With ``names``, integer codes, ``-1`` for none.
      names: class names by code; without it they are the distinct values, sorted.

    Returns:
      Labels with int32 codes.

    Raises:
      ValueError: values not one-dimensional, or codes outside ``-1..len(names)-1``.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"labels must be one value per row, [n]; got shape {values.shape}")
    if names is not None:
        codes = values.astype(np.int32)
        if codes.size and (codes.min() < -1 or codes.max() >= len(names)):
            raise ValueError(
                f"label codes must lie in -1..{len(names) - 1}; got {codes.min()}..{codes.max()}"
            )
        return Labels(codes, tuple(str(name) for name in names))
    missing = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if np.all(values[~missing] == np.floor(values[~missing])):
            values = np.where(missing, 0, values).astype(np.int64)
    elif values.dtype.kind == "O":
        missing = np.array([v is None or v != v or v == "" for v in values], bool)
        values = np.array(["" if m else str(v) for v, m in zip(values, missing, strict=True)])
    elif values.dtype.kind in "US":
        missing = values == ""
    found, inverse = np.unique(values[~missing], return_inverse=True)
    codes = np.full(values.shape, -1, np.int32)
    codes[~missing] = inverse
    return Labels(codes, tuple(str(name) for name in found))


def drop_rare(labels: Labels, min_count: int) -> Labels:
    """Unlabels the rows of classes with fewer than ``min_count`` rows and renumbers the rest."""
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    kept = np.flatnonzero(counts >= min_count)
    table = np.full(len(labels.names) + 1, -1, np.int32)
    table[kept] = np.arange(len(kept), dtype=np.int32)
    return Labels(table[labels.codes], tuple(labels.names[i] for i in kept))


def labelled_rows(labels: Labels) -> np.ndarray:
    """Indices of the rows that have a label."""
    return np.flatnonzero(labels.codes >= 0)

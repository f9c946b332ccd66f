"""Remedies of a table: ``remedy(embeddings) -> embeddings``, without labels.

Each is fitted to the table that it is given. To serve new rows, apply it to the table together
with them, or store what it fitted.
"""

import numpy as np

from kernlens.lens.causes.evidence import clipped, standardised


def clip_lengths(rows: np.ndarray) -> np.ndarray:
    """Rows longer than the bound of :func:`outlier rows <kernlens.lens.causes.rows.outlier_rows>`,
    made as long as it, ``[n, d]``."""
    return clipped(np.asarray(rows, np.float64))


def standardise(rows: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; constant ones are 0, ``[n, d]``."""
    return standardised(np.asarray(rows, np.float64))


def centre(rows: np.ndarray) -> np.ndarray:
    """Columns less their means, ``[n, d]``."""
    rows = np.asarray(rows, np.float64)
    return rows - rows.mean(axis=0)


def unit_lengths(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay, ``[n, d]``."""
    rows = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def whiten(rows: np.ndarray, *, floor: float = 1e-6) -> np.ndarray:
    """Principal components of equal variance, those below the floor left out, ``[n, r]``.

    Args:
      rows: ``[n, d]``.
      floor: least eigenvalue kept, relative to the largest, of standardised columns.
    """
    z = standardise(rows)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    kept = values > floor * max(values[-1], 1e-300)
    return z @ (vectors[:, kept] / np.sqrt(values[kept]))


def without_columns(rows: np.ndarray, columns: tuple[int, ...]) -> np.ndarray:
    """The table without some columns, ``[n, d - k]``."""
    return np.delete(np.asarray(rows), columns, axis=1)


def without_popularity(rows: np.ndarray, log_counts: np.ndarray) -> np.ndarray:
    """Rows over the length that their count alone foretells, ``[n, d]``.

    Args:
      rows: ``[n, d]``.
      log_counts: of the same rows, ``[n]``.
    """
    rows = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    known = lengths > 0
    slope = np.polyfit(log_counts[known], np.log(lengths[known]), 1)[0]
    return rows * np.exp(-slope * (log_counts - log_counts.mean()))[:, None]


def shrunk_by_counts(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rows drawn to the mean, the more the rarer: half way at the median count, ``[n, d]``.

    Args:
      rows: ``[n, d]``.
      counts: of the same rows, ``[n]``.
    """
    rows = np.asarray(rows, np.float64)
    weights = counts / (counts + max(float(np.median(counts)), 1.0))
    mean = np.average(rows, axis=0, weights=np.maximum(weights, 1e-12))
    return mean + weights[:, None] * (rows - mean)

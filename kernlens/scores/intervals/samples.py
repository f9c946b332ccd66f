"""Resampling of what needs the rows themselves: scores of pairs, of neighbours, of posteriors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernlens.scores.intervals.hashes import MAX_ROW
from kernlens.scores.intervals.replicates import Replicates
from kernlens.scores.intervals.state import Jackknife
from kernlens.types import Array


def sample_replicates(
    fn: Callable[..., Any],
    *rows: Array | np.ndarray,
    method: Jackknife = Jackknife(),  # noqa: B008
) -> Replicates:
    """A function of rows on all of them, and without each block of them in turn.

    A row left out takes its pairs along, so what is a mean over pairs or over nearest neighbours is
    resampled as what it is of: rows. Blocks are as even as can be, of one or two sizes, so that a
    compiled ``fn`` is compiled three times at most; it runs ``blocks + 1`` times.

    Args:
      fn: arrays with some of the rows, in the order given, to a number: a row of ``scores.ROWS``,
        what stands in ``scores.rows``, ``scores.source`` or ``scores.discriminant``, or any other.
      rows: arrays with a row for each of the same ``n`` items, ``[n, ...]``: features, codes,
        posteriors, a second embedding.
      method: how many blocks, at most ``n``, and their seed; embeddings of as many rows meet in the
        same blocks, so their :func:`kernlens.scores.intervals.difference` is paired.

    Returns:
      Replicates.

    Raises:
      ValueError: arrays of other lengths or none, fewer than 2 blocks, more blocks than rows, a
        seed outside ``0..2^32 - 1``, or a value that is not finite.

    References:
      Quenouille (1956); Arvesen (1969) for statistics of pairs.
    """
    lengths = [len(part) for part in rows]
    n = lengths[0] if lengths else 0
    if not n or set(lengths) != {n}:
        raise ValueError(f"resampling needs arrays with the same rows, at least one; got {lengths}")
    if not 2 <= method.blocks <= n or not 0 <= method.seed <= MAX_ROW:
        raise ValueError(
            f"resampling needs 2 to {n} blocks of the {n} rows and a seed >= 0; got {method}"
        )
    block = np.random.default_rng(method.seed).permutation(n) % method.blocks

    def without(left_out: int) -> float:
        kept = np.flatnonzero(block != left_out)
        return float(fn(*(part[kept] for part in rows)))

    value = float(fn(*rows))
    values = np.array([without(b) for b in range(method.blocks)])
    bad = np.count_nonzero(~np.isfinite([value, *values]))
    if bad:
        raise ValueError(f"the score is not finite on {bad} of {method.blocks + 1} resamples")
    shares = np.bincount(block, minlength=method.blocks) / n
    return Replicates(value, values, shares, (method.blocks, method.seed, n))

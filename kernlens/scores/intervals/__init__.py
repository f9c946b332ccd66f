r"""Intervals of scores: resampled moments, kept in the pass that fills the moments themselves.

Two ways to ask how a score would vary with other rows:

- :class:`Jackknife`: every row goes to one of ``G`` blocks, whose moments are kept apart; the score
  of all blocks but one, for each, comes from merges. The pass costs what one pass over the rows
  costs, and memory is ``G`` Moments.
- :class:`Bootstrap`: every row counts a Poisson number of times in each of ``B`` Moments. The pass
  costs ``B + 1`` times as much, and memory is ``B + 1`` Moments.

Scores that need the rows themselves (``scores.ROWS``, LEEP, neighbours of two embeddings) are
computed without each block of a sample in turn: :func:`sample_replicates`.

Means over queries have intervals over users: :func:`mean_with_interval`.

Block and multiplicities are functions of the seed and the number of the row alone. So neither the
order of rows nor chunks, devices and processes matter, parts merge, and two embeddings of the same
rows, each read in its own pass, meet in the same blocks and draws: their difference is paired.

What an interval is for is the expected score of ``n`` such rows. A score that depends on the number
of rows (``h_score`` with few rows a dimension, ``pip_loss`` with its sum over pairs) has another
value at infinitely many, which an interval at ``n`` does not promise to hold. The bootstrap of such
a score is displaced besides: a draw repeats rows, so it has fewer of them to tell apart. Its draws
are moved to the score of the rows as they are.
"""

from kernlens.scores.intervals.ends import (
    bounds_of,
    difference,
    interval,
    sentence,
    standard_error,
)
from kernlens.scores.intervals.hashes import MAX_ROW, POISSON, block_of, bootstrap_weights
from kernlens.scores.intervals.means import (
    mean_by_target,
    mean_difference,
    mean_with_interval,
    resampled,
)
from kernlens.scores.intervals.replicates import Replicates, replicate
from kernlens.scores.intervals.samples import sample_replicates
from kernlens.scores.intervals.state import (
    Blocks,
    Bootstrap,
    Draws,
    Jackknife,
    from_arrays,
    from_stream,
    init,
    merge,
    update,
)
from kernlens.scores.intervals.tables import rows_of, statistic, table_replicates

__all__ = [
    "MAX_ROW",
    "POISSON",
    "Blocks",
    "Bootstrap",
    "Draws",
    "Jackknife",
    "Replicates",
    "block_of",
    "bootstrap_weights",
    "bounds_of",
    "difference",
    "from_arrays",
    "from_stream",
    "init",
    "interval",
    "mean_by_target",
    "mean_difference",
    "mean_with_interval",
    "merge",
    "replicate",
    "resampled",
    "rows_of",
    "sample_replicates",
    "sentence",
    "standard_error",
    "statistic",
    "table_replicates",
    "update",
]

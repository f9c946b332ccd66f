"""All scores of a table at once, resampled together."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernlens.scores import Estimator, Pair, Score
from kernlens.scores.intervals.replicates import Replicates, replicate
from kernlens.scores.intervals.state import (
    Bootstrap,
    Features,
    Jackknife,
    as_array,
    from_arrays,
    from_stream,
)
from kernlens.types import Array, Stream


def rows_of(table: Mapping[str, Estimator]) -> Callable[[Any], Features]:
    """What the estimators of a table read: ``features`` for :func:`from_stream`.

    Args:
      table: estimators by name.

    Returns:
      Function of rows ``[m, p]``, or of a tuple of two embeddings' rows for a table of pairs, to a
      tree of features, one entry a feature map.
    """
    maps = _maps(tuple(table.values()))

    def rows(x: Any) -> Features:
        if not isinstance(x, tuple):
            return tuple(phi(as_array(x)) for phi in maps)
        made = [[phi(as_array(side)) for side in x] for phi in maps]
        return tuple(Pair(a, b, jnp.concatenate([a, b], axis=1)) for a, b in made)  # pyright: ignore[reportArgumentType]

    return rows


def statistic(table: Mapping[str, Estimator]) -> Callable[[Any], dict[str, Array]]:
    """All scores of a table: ``fn`` for :func:`replicate`, the same object for the same table."""
    return _statistic(tuple(table.items()))


def table_replicates(
    table: Mapping[str, Estimator],
    x: Any,
    codes: Array | np.ndarray,
    num_classes: int,
    *,
    method: Jackknife | Bootstrap = Jackknife(),  # noqa: B008
) -> dict[str, Replicates]:
    """Replicates of all scores of a table, from one pass over arrays.

    Args:
      table: estimators by name, such as ``SCORES``, ``SPECTRA`` or ``PAIRS``.
      x: features, ``[n, p]``, or a stream of them; for ``PAIRS`` a tuple of two embeddings.
      codes: class of each row, integers ``[n]``; ``-1`` for none.
      num_classes: number of classes ``C``.
      method: how to resample.

    Returns:
      Replicates by name, with the null of those that have one.

    Raises:
      ValueError: as :func:`from_arrays` and :func:`replicate`.
    """
    scatters = any(row.class_scatters for row in table.values())
    if isinstance(x, Stream):
        state = from_stream(
            x,
            np.asarray(codes),
            num_classes,
            features=rows_of(table),
            method=method,
            class_scatters=scatters,
        )
    else:
        state = from_arrays(
            rows_of(table)(x), codes, num_classes, method=method, class_scatters=scatters
        )
    found = replicate(_scored(tuple(table.items())), state)
    return {name: _with_null(own) for name, own in found.items()}


def _with_null(found: Any) -> Replicates:
    """Replicates of a score, with its null on the rows as they are."""
    if isinstance(found, Replicates):
        return found
    return found.value._replace(null=found.null.value)


def _maps(estimators: tuple[Estimator, ...]) -> tuple[Callable, ...]:
    return tuple(dict.fromkeys(row.features for row in estimators))


@cache
def _scored(rows: tuple[tuple[str, Estimator], ...]) -> Callable[[Any], dict[str, Any]]:
    maps = _maps(tuple(row for _, row in rows))

    def scores(state: Any) -> dict[str, Any]:
        return {name: row.fn(state[maps.index(row.features)]) for name, row in rows}

    return scores


@cache
def _statistic(rows: tuple[tuple[str, Estimator], ...]) -> Callable[[Any], dict[str, Array]]:
    scores = _scored(rows)

    def values(state: Any) -> dict[str, Array]:
        return {
            name: found.value if isinstance(found, Score) else found
            for name, found in scores(state).items()
        }

    return values

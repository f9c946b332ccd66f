"""The rows that are asked about: those with a target, held in memory, and what they are called."""

from typing import Any

import numpy as np

from kernlens.kernels.mapped import sampled
from kernlens.targets import labelled_rows, num_rows, take
from kernlens.types import Stream, Target


def known_places(target: Target) -> tuple[np.ndarray, Target]:
    """Numbers of the rows with a target, and their targets.

    Raises:
      ValueError: no row has one.
    """
    places = labelled_rows(target)
    if not len(places):
        raise ValueError("target: no row has a label or a number, so there is nothing to predict")
    return places, take(target, places)


def held_rows(rows: Any) -> np.ndarray:
    """Rows in memory, ``[n, d]``; a stream is read."""
    return np.asarray(sampled(rows, int(rows.shape[0])) if isinstance(rows, Stream) else rows)


def check_ids(ids: Any, target: Target) -> None:
    """Refuses names that are not one for each row of the target.

    Raises:
      ValueError: how many there are and are expected.
    """
    if ids is not None and len(ids) != num_rows(target):
        raise ValueError(
            f"ids must have one name a row; got {len(ids):,} for {num_rows(target):,} rows"
        )

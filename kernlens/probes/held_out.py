"""What a probe by folds keeps of each row: the answer of a classifier that did not see it."""

from typing import NamedTuple

import numpy as np


class HeldOut(NamedTuple):
    """Answers to rows that were held out, fold by fold.

    Attributes:
      log_probabilities: of the classes of ``names``, float32 ``[n, C]``; None of a probe that
        gives classes alone.
      predicted: class given, int32 ``[n]``.
      target: true class, int32 ``[n]``.
      folds: the fold that held the row out, int32 ``[n]``; ``-1`` for a row that none held out, as
        the only one of its class: its entries above are then no held-out answers.
      names: class names, by code.
      groups: equal for rows that are copies of one another, int32 ``[n]``; they share a fold.
    """

    log_probabilities: np.ndarray | None
    predicted: np.ndarray
    target: np.ndarray
    folds: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray

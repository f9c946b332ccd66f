"""An MLP head as logistic regression on the rows and random features of its hidden layers."""

import numpy as np

from kernlens.kernels.hidden import MLP_PENALTY, hidden_features
from kernlens.kernels.mapped import mapped, standard_of
from kernlens.probes import copies
from kernlens.probes.blocks import check_rows
from kernlens.probes.logistic import logistic
from kernlens.probes.prediction import MACRO_F1, Prediction
from kernlens.types import Array, Labels, Stream


def mlp(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    hidden: int | tuple[int, ...] = 32,
    penalty: float = MLP_PENALTY,
    metric: str = MACRO_F1,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    """What an MLP head reaches: :func:`logistic` on rows and random features of its layers.

    Args:
      features: as :func:`logistic`.
      labels: as :func:`logistic`.
      hidden: width of the hidden layer; of several in turn, a tuple.
      penalty: of all weights; the default is that of the recipe that trains MLPs.
      metric: as :func:`logistic`.
      draws: as :func:`logistic`.
      level: as :func:`logistic`.
      seed: as :func:`logistic`, and of the random features.

    Returns:
      Prediction.

    Raises:
      ValueError: as :func:`logistic`, or a width below 1.

    References:
      Rahimi and Recht (2008).
    """
    widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    if not widths or min(widths) < 1:
        raise ValueError(f"hidden widths must be at least 1; got {hidden}")
    codes = np.asarray(labels.codes)
    rows = check_rows(features, len(codes))
    map_fn = hidden_features(int(rows.shape[1]), widths, seed=seed)
    return logistic(
        mapped(rows, map_fn, standard=standard_of(rows)), labels, penalties=penalty, metric=metric,
        groups=copies.groups(rows, codes), draws=draws, level=level, seed=seed,
    )  # fmt: skip

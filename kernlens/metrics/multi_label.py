"""Metrics of multi-label classification, where a row has any number of labels."""

import numpy as np


def micro_f1(target: np.ndarray, predicted: np.ndarray) -> float:
    r"""F1 of all row and label pairs together, :math:`2\,TP / (P + S)`.

    Args:
      target: true labels, bool ``[n, C]``.
      predicted: labels given, bool ``[n, C]``.

    Returns:
      In ``[0, 1]``; 0 where there is neither a label nor a prediction.
    """
    either = np.sum(target) + np.sum(predicted)
    return float(2.0 * np.sum(target & predicted) / max(either, 1))


def macro_f1(target: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the F1 of each label, both bool ``[n, C]``; 0 for a label never met or given."""
    either = np.sum(target, axis=0) + np.sum(predicted, axis=0)
    return float(np.mean(2.0 * np.sum(target & predicted, axis=0) / np.maximum(either, 1)))


def average_precision(target: np.ndarray, scores: np.ndarray) -> float:
    r"""Mean over labels of :math:`\frac1P \sum_{i: y_i = 1} k_i / r_i`, which needs no threshold.

    :math:`r_i` is the number of rows scored at least as high as row ``i``, and :math:`k_i` how many
    of them have the label, as scikit-learn counts ties.

    Args:
      target: true labels, bool ``[n, C]``.
      scores: higher for more likely, ``[n, C]``.

    Returns:
      In ``[0, 1]``, over labels that some row has; NaN where none has any.
    """
    found = [
        float(np.mean(precisions(own, given)[own]))
        for own, given in zip(target.T, scores.T, strict=True)
        if np.any(own)
    ]
    return float(np.mean(found)) if found else np.nan


def precisions(target: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Precision among the rows scored at least as high as each row, ``[n]``, for one label."""
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    last = np.searchsorted(ranked, ranked, side="right")
    made = np.empty(len(scores))
    made[order] = np.cumsum(target[order])[last - 1] / last
    return made

"""The inner-product head: a row goes to the class whose mean has the largest inner product."""

import numpy as np

from kernlens import metrics
from kernlens.probes import paths, spread
from kernlens.probes.blocks import blocks, check_rows
from kernlens.probes.prediction import ERROR_RATE, MACRO_F1, Prediction, check_draws
from kernlens.types import Array, Labels, Stream


def class_means(
    features: np.ndarray | Array | Stream,
    labels: Labels,
    *,
    priors: bool = False,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Prediction:
    r"""Leave-one-out of the classifier by inner products with class means.

    A row goes to the class with the largest :math:`\langle x, m_k\rangle`, plus
    :math:`\log \pi_k` with ``priors``. Without row :math:`i` of class :math:`c` the mean is
    :math:`(n_c m_c - x_i) / (n_c - 1)`, so that leaving out costs nothing. A class of one row has
    no mean without it: its row is a mistake.

    Args:
      features: one row per item, real, ``[n, p]``; or a stream of them, read twice. The result
        does not depend on a common positive scale, without ``priors``; it does on a shift.
      labels: one label per row, ``[n]``; rows without one are left out.
      priors: whether the log of the class's share is added. The head that Xu and Yang train has
        none.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``; see :mod:`kernlens.probes.spread`.
      seed: of the draws.

    Returns:
      Prediction; its loss is the error rate.

    Raises:
      ValueError: shapes that differ, a value that is not finite, fewer than two classes, or an
        argument out of its range.

    References:
      Xu and Yang (2023), theorem 1: the class-mean classifier of contrastive pretraining.
    """
    check_draws(draws, level)
    codes = np.asarray(labels.codes)
    features = check_rows(features, len(codes))
    kept = codes >= 0
    classes, own = np.unique(codes[kept], return_inverse=True)
    if len(classes) < 2:
        found = [labels.names[c] for c in classes]
        raise ValueError(f"a probe needs two classes or more among the rows; got {found}")
    places = np.full(len(codes), -1)
    places[kept] = own
    counts = np.bincount(own).astype(np.float64)
    sums = np.zeros((len(classes), features.shape[1]))
    for values, rows in blocks(features, kept):
        np.add.at(sums, places[rows], values)
    means = sums / counts[:, None]
    log_prior = np.log(counts / counts.sum()) if priors else np.zeros(len(classes))
    predicted = np.empty(len(codes), np.int64)
    for values, rows in blocks(features, kept):
        scores = values @ means.T + log_prior
        mine = places[rows]
        at = np.arange(len(rows))
        others = counts[mine] - 1.0
        without = counts[mine] * (scores[at, mine] - log_prior[mine]) - np.sum(values**2, axis=1)
        left_out = without / np.maximum(others, 1.0) + log_prior[mine]
        scores[at, mine] = np.where(others > 0, left_out, -np.inf)
        predicted[rows] = np.argmax(scores, axis=1)
    predicted = predicted[kept]
    wrong = (predicted != own).astype(np.float32)
    held = paths.each_row_left_out(classes[predicted], classes[own], labels.names)
    size = len(classes)
    points = metrics.from_counts(*(c[0] for c in metrics.counts(own, predicted[None], size)))
    values = {name: float(value) for name, value in points._asdict().items()}
    values[ERROR_RATE] = float(np.mean(wrong))
    null = 1.0 - float(np.max(counts) / counts.sum())
    kinds = spread.of_answers(
        held,
        wrong,
        ERROR_RATE,
        values=values,
        null=null,
        most=1.0,
        draws=draws,
        level=level,
        seed=seed,
    )
    return Prediction(
        metrics=kinds.metrics,
        means=kinds.means,
        samples=kinds.samples,
        metric=MACRO_F1,
        loss=ERROR_RATE,
        predicted=held.predicted,
        target=held.target,
        losses=wrong,
        names=labels.names,
        notes=spread.too_few(held, labels.names),
        held_out=held,
    )  # fmt: skip

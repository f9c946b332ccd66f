"""The heads behind a prediction: what the verbs ask about other rows of the same items."""

import numpy as np

from kernlens.kernels.readout import Readout
from kernlens.lens.reading import read
from kernlens.probes import PENALTIES
from kernlens.probes.partitions import PARTITIONS
from kernlens.probes.prediction import MACRO_F1
from kernlens.probes.serving import FoldHeads, fold_heads, shared_groups
from kernlens.types import Decoder, Kernel, Labels


def heads(
    rows: np.ndarray,
    labels: Labels,
    *,
    decoder: Decoder | None = None,
    kernel: Kernel | None = None,
    penalty: float | None = None,
    metric: str | None = None,
    groups: np.ndarray | None = None,
    repeats: int = PARTITIONS,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> FoldHeads:
    """The heads that :func:`kernlens.predict` predicts with, kept to answer other rows.

    Args:
      rows: rows of the embedding, finite where labelled, ``[n, d]``.
      labels: one label per row, ``[n]``.
      decoder: as for :func:`kernlens.predict`.
      kernel: in place of a decoder.
      penalty: penalty of the weights; that of the decoder, or chosen along the path, by default.
      metric: what a penalty is chosen by, and is shown first; macro-F1 by default.
      groups: equal for copies, ``[n]``; those of the rows by default. Tables of the same items
        share their folds where they are given the same groups.
      repeats: as :func:`kernlens.probes.serving.fold_heads`.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds, draws, landmarks and random features.

    Returns:
      FoldHeads.

    Raises:
      ValueError: as :func:`kernlens.predict`, or k nearest neighbours.
    """
    known = np.flatnonzero(np.asarray(labels.codes) >= 0)
    rows, labels = np.asarray(rows)[known], labels._replace(codes=np.asarray(labels.codes)[known])
    groups = shared_groups([rows], labels) if groups is None else np.asarray(groups)[known]
    reading = read(rows, decoder=decoder, kernel=kernel, num_outputs=len(labels.names), seed=seed)
    options = dict(reading.options)
    if reading.readout is Readout.LINEAR:
        options["standardised"] = not reading.of_kernel
        fixed = reading.penalty if penalty is None else penalty
        options["penalties"] = PENALTIES if fixed is None else fixed
    found = fold_heads(
        reading.features, labels, features_fn=reading.features_fn, readout=reading.readout,
        options=options, metric=metric or MACRO_F1, groups=groups, repeats=repeats,
        draws=draws, level=level, seed=seed,
    )  # fmt: skip
    prediction = found.prediction
    notes = (*prediction.notes, *reading.notes)
    return found._replace(prediction=prediction._replace(notes=notes), rows=known[found.rows])

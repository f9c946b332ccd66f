"""What will this embedding reach under my model?"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, overload

import numpy as np

from kernlens import arrays
from kernlens.arrays.device import calm_threads
from kernlens.arrays.embeddings import as_rows
from kernlens.kernels.readout import Readout
from kernlens.lens.next_items import NextItemsPrediction, predict_next_items
from kernlens.lens.reading import Reading, read
from kernlens.probes import (
    PENALTIES,
    TUNED,
    Prediction,
    class_means,
    copies,
    logistic,
    mlp,
    neighbours,
)
from kernlens.probes.learning_curve import learning_curve
from kernlens.probes.numbers import many_labels, numbers
from kernlens.probes.prediction import ACCURACY, LOG_LOSS, MACRO_F1, check_metric
from kernlens.targets import as_target, labelled_rows, num_rows, take
from kernlens.targets.next_items import NextItems
from kernlens.types import Decoder, Kernel, Labels, MultiLabels, Stream

Probe = Callable[..., Prediction]
"""``(features, target, *, draws, level, seed) -> Prediction``."""

READOUTS: dict[Readout, Probe] = {
    Readout.LINEAR: logistic,
    Readout.CLASS_MEANS: class_means,
    Readout.NEIGHBOURS: neighbours,
    Readout.LAYERS: mlp,
}
"""The probe of classes by readout of the decoder."""


@overload
def predict(
    embeddings: Any, target: NextItems, *, decoder: Decoder | None = ...,
    kernel: Kernel | None = ..., probe: Probe | None = ..., metric: str | None = ...,
    draws: int = ..., level: float = ..., seed: int = ..., curve: bool = ...,
) -> NextItemsPrediction: ...  # fmt: skip
@overload
def predict(
    embeddings: Any, target: Any, *, decoder: Decoder | None = ...,
    kernel: Kernel | None = ..., probe: Probe | None = ..., metric: str | None = ...,
    groups: np.ndarray | None = ..., draws: int = ..., level: float = ..., seed: int = ...,
    curve: bool = ...,
) -> Prediction: ...  # fmt: skip
def predict(
    embeddings: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    kernel: Kernel | None = None,
    probe: Probe | None = None,
    metric: str | None = None,
    groups: np.ndarray | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
    curve: bool = False,
) -> Prediction | NextItemsPrediction:
    """What a trained head will reach on held-out rows, from one look at them.

    Linear heads, kernels and neighbours are answered without training; an MLP's hidden layers are
    no kernel, and it is trained on five folds together (:func:`kernlens.probes.mlp`).

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 4))
    >>> found = predict(rows, np.where(rows[:, 0] > 0, "up", "down"))
    >>> found.metrics["accuracy"].value > 0.9
    True

    Args:
      embeddings: one row per item, real and finite, ``[n, d]``, in any unit: an array of NumPy, JAX
        or torch, a frame, a list of lists, a column of vectors; or a stream, as
        :func:`kernlens.io.open_embeddings` opens, which is read several times.
      target: what is to be predicted of each row, ``[n]``: classes (``Labels``, text, integers),
        numbers with fractions (regression), or several labels each; None, NaN and "" mean none.
        :func:`kernlens.targets.as_target` says what it is taken for. Or the next items of users,
        of :func:`kernlens.targets.next_items`, which :mod:`kernlens.lens.next_items` answers.
      decoder: the head that will be trained: ``decoders.Linear()``, ``InnerProduct()``,
        ``Cosine()``, ``Mlp(32)``, ``Neighbours(10)``, any other Flax module, or
        ``(init_fn, apply_fn)``. Default: a linear head. Trees and boosting have no kernel and are
        not predicted.
      kernel: any kernel ``(x1, x2) -> K``, in place of a decoder.
      probe: another probe than the one that goes with the target and the decoder, such as
        ``probes.ridge``; other options are bound with ``functools.partial``.
      metric: the metric shown first and compared by. Default: macro-F1 of classes and labels, R² of
        numbers.
      groups: equal for rows that are held out together, such as variants of one product, integers
        ``[n]``; of classes alone. Default: copies of a row. Tables of the same rows share their
        folds where they are given the same groups.
      draws: test sets that are drawn for the intervals, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the draws, of landmarks and of random features.
      curve: whether to add what other numbers of labels would bring, for classes: two to four times
        the work. :func:`kernlens.probes.learning_curve` says how.

    Returns:
      Prediction: a mapping of metrics to intervals, which prints itself. Of next items, a
      :class:`~kernlens.lens.NextItemsPrediction`.

    Raises:
      ValueError: shapes that differ, a value that is not finite, an ambiguous target, pandas
        indexes of the same keys in another order, fewer than two classes, too few rows, a decoder
        that does not fit, or an argument out of its range.
    """
    if isinstance(target, NextItems):
        refuse_probe(probe)
        refuse_curve(curve)
        return predict_next_items(
            embeddings, target, decoder=decoder, kernel=kernel, metric=metric, draws=draws,
            level=level, seed=seed,
        )  # fmt: skip
    arrays.check_same_order(embeddings, target, names=("embeddings", "target"))
    asked = as_target(target)
    found = predict_rows(
        as_rows(embeddings), asked, decoder=decoder, kernel=kernel, probe=probe, metric=metric,
        groups=groups, draws=draws, level=level, seed=seed, curve=curve,
    )  # fmt: skip
    n, known = num_rows(asked), len(labelled_rows(asked))
    if known == n:
        return found
    left = f"{n - known:,} of {n:,} rows have no label and are left out"
    return found._replace(notes=(left, *found.notes))


def predict_rows(
    rows: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    kernel: Kernel | None = None,
    probe: Probe | None = None,
    metric: str | None = None,
    groups: np.ndarray | None = None,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
    curve: bool = False,
) -> Prediction:
    """What :func:`predict` does with rows and a target that are read.

    Args:
      rows: an array or a stream, ``[n, d]``.
      target: Labels, MultiLabels or Values, ``n`` rows.
      decoder: as :func:`predict`.
      kernel: as :func:`predict`.
      probe: as :func:`predict`.
      metric: as :func:`predict`.
      groups: of classes, equal for rows that share a fold, ``[n]``, -1 where there is no label. By
        default those of :func:`kernlens.probes.copies.groups`. Several embeddings of the same rows
        have the same folds where they are given the same groups.
      draws: as :func:`predict`.
      level: as :func:`predict`.
      seed: as :func:`predict`.
      curve: as :func:`predict`.

    Returns:
      Prediction.

    Raises:
      ValueError: as :func:`predict`.
    """
    _check_sizes(rows, target)
    if groups is not None:
        groups = _checked_groups(groups, target)
    if (decoder is not None or kernel is not None) and not isinstance(rows, Stream):
        known = labelled_rows(target)
        groups = None if groups is None else groups[known]
        rows, target = np.asarray(rows)[known], take(target, known)
        _check_rows(rows)
    outputs = len(target.names) if isinstance(target, Labels | MultiLabels) else 1
    layers = probe is None and isinstance(target, Labels)
    reading = read(
        rows, decoder=decoder, kernel=kernel, num_outputs=outputs, layers=layers, seed=seed
    )
    own = probe or probe_of(target, reading.readout)
    found = _options(own, reading, metric, asked=probe is None)
    if isinstance(target, Labels) and "groups" in _taken(own):
        if groups is not None:
            found["groups"] = groups
        elif reading.features is not rows:
            # Features of equal rows may differ in their last digits.
            found["groups"] = copies.groups(rows, target.codes)
    together = {"groups": found.pop("groups")} if "groups" in found else {}
    chosen = partial(own, **found)
    n, width = (int(size) for size in reading.features.shape[:2])
    with calm_threads(n * width**2):
        found = chosen(reading.features, target, **together, draws=draws, level=level, seed=seed)
    if metric is not None:
        check_metric(found, metric)
        found = found._replace(metric=metric)
    if curve:
        refuse_curve(not isinstance(target, Labels))
        assert isinstance(target, Labels)
        made = learning_curve(
            reading.features, target, probe=chosen, metric=_of_curve(found), level=level, seed=seed,
            whole=found, **together,
        )  # fmt: skip
        found = found._replace(curve=made, notes=(*found.notes, *made.notes))
    return found._replace(notes=(*found.notes, *reading.notes))


def _of_curve(found: Prediction) -> str:
    """The metric whose curve is shown: micro-F1 is accuracy."""
    return found.metric if found.metric in (MACRO_F1, LOG_LOSS) else ACCURACY


def refuse_curve(curve: bool) -> None:
    """Refuses a learning curve of a target without classes."""
    if curve:
        raise ValueError("a learning curve is made for a target of classes; got curve=True")


def refuse_probe(probe: Probe | None) -> None:
    """Refuses a probe of rows where next items are asked."""
    if probe is not None:
        raise ValueError(
            "next items are ranked by probes.ridge_ranking; a probe reads rows of a table, so "
            f"expected probe=None; got {probe!r}"
        )


def probe_of(target: Any, readout: Readout) -> Probe:
    """The probe that goes with a target and a readout.

    Raises:
      ValueError: class means, or neighbours, of a target without classes.
    """
    if isinstance(target, Labels):
        return READOUTS[readout]
    if readout is not Readout.LINEAR:
        raise ValueError(
            "an inner-product or cosine head reads classes by their means, k-NN by votes, and this "
            "target has none; expected a linear head, an MLP or a kernel"
        )
    return many_labels if isinstance(target, MultiLabels) else numbers


def _options(own: Probe, reading: Reading, metric: str | None, *, asked: bool) -> dict[str, Any]:
    """What a probe is told: the metric to tune by, and of the features what they are."""
    found: dict[str, Any] = {"metric": metric} if own in TUNED and metric is not None else {}
    if asked:
        found |= reading.options
    if "standardised" in _taken(own):
        found["standardised"] = not reading.of_kernel
    if own is logistic and asked:
        found["penalties"] = PENALTIES if reading.penalty is None else reading.penalty
    return found


def _taken(probe: Probe) -> set[str]:
    """Names of the arguments that a probe takes and that are not bound yet."""
    return set(inspect.signature(probe).parameters) - set(getattr(probe, "keywords", ()))


def _checked_groups(groups: Any, target: Any) -> np.ndarray:
    groups = np.asarray(groups)
    if not isinstance(target, Labels):
        raise ValueError("groups hold classes out together; this target has none")
    if groups.shape != target.codes.shape or groups.dtype.kind not in "iu":
        raise ValueError(
            f"groups must be integers, one a row, [{len(target.codes):,}]; got {groups.dtype} of "
            f"shape {groups.shape}"
        )
    return groups


def _check_sizes(rows: Any, target: Any) -> None:
    if len(rows.shape) == 2 and rows.shape[0] != num_rows(target):
        raise ValueError(
            "the embeddings and the target need the same rows; got embeddings "
            f"{tuple(rows.shape)} and a target of {num_rows(target):,} rows"
        )


def _check_rows(rows: np.ndarray) -> None:
    bad = np.flatnonzero(~np.all(np.isfinite(rows.astype(np.float64)), axis=1))
    if bad.size:
        raise ValueError(
            f"embeddings must be finite; {bad.size} of {len(rows)} rows with a target are not, "
            f"the first of them number {bad[0]}"
        )

"""Why does it fail, and what would help: the embedding, the labels, more of them, or the head?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernlens import arrays
from kernlens.arrays.embeddings import as_rows
from kernlens.lens.causes import CAUSES, Cause, Evidence, Measure
from kernlens.lens.causes.evidence import negated
from kernlens.lens.compare import decoder_name
from kernlens.lens.diagnosis import Diagnosis, Finding, place, verdict
from kernlens.lens.predict import predict
from kernlens.probes import Prediction, copies
from kernlens.probes.folds import share_out
from kernlens.probes.learning_curve import LEAST_ROWS
from kernlens.show import steps
from kernlens.targets import as_target, labelled_rows, num_rows, take
from kernlens.targets.next_items import NextItems
from kernlens.types import Decoder, Interactions, Interval, Labels, MultiLabels, Stream, Target

MAX_ROWS = 50_000
"""Most rows that heads are predicted on; facts are of all rows."""

MORE_LABELS = 4.0
"""Times the labels whose gain is told."""

TEXT_DIM = 64
"""Dimension of the rows made of texts."""


def diagnose(
    embeddings: Any,
    target: Any,
    *,
    decoder: Decoder | None = None,
    interactions: Interactions | Any | None = None,
    reference: Any | None = None,
    text: Any | None = None,
    ids: Any | None = None,
    causes: Mapping[str, Cause] | None = None,
    metric: str | None = None,
    curve: bool = True,
    max_rows: int | None = MAX_ROWS,
    draws: int = 200,
    level: float = 0.9,
    seed: int = 0,
) -> Diagnosis:
    """What is wrong with an embedding under a head, what each remedy would gain, and what to do.

    Facts with numbers come first; none is called a fault by itself. For each fact with a remedy the
    named head is predicted again on the remedied table, with the same folds, and the paired gain
    decides: a fault is what gains 0.01 or more with an interval that leaves out 0, or what makes
    the predicted value mean something else. What one table cannot settle is asked.

    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(300, 8)) + 1.5 * np.eye(8)[np.arange(300) % 4]
    >>> rows[::50] *= 1000.0
    >>> found = diagnose(rows, np.arange(300) % 4)
    >>> sorted(found["outlier rows"].worst().tolist())
    [0, 50, 100, 150, 200, 250]

    Args:
      embeddings: as for :func:`kernlens.lens.predict`; a stream is read into memory.
      target: as for :func:`kernlens.lens.predict`, but for next items. Causes that read classes are
        left out of other targets.
      decoder: the head that is, or will be, trained. Default: a linear head.
      interactions: how often each row was met, ``[n]``, or ``Interactions`` whose items are the
        rows, for the causes that read popularity.
      reference: an older or another version of the same rows, ``[n, p]``. It separates wrong
        labels, wrong joins and overlap, and shows drift.
      text: a text for each row, ``[n]``, or rows made of texts, ``[n, q]``; it separates wrong
        labels from wrong rows.
      ids: name of each row, ``[n]``. Default: row numbers.
      causes: by name, rows of :data:`kernlens.lens.causes.CAUSES` by default.
      metric: the metric that decides. Default: macro-F1 of classes and labels, R² of numbers.
      curve: whether to forecast what four times the labels would gain, of classes; it takes as
        long as two to four predictions.
      max_rows: most rows that heads are predicted on, a stratified sample of more; None for all.
      draws: bootstrap draws, at least 1.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: random seed of folds, draws, the sample and permutations.

    Returns:
      Diagnosis, which prints itself.

    Raises:
      ValueError: next items, row counts that differ (of the interactions, the reference, the text
        and the ids too), and what :func:`kernlens.lens.predict` raises.

    References:
      Xu and Yang (2023), whose question this answers; Steck, Ekanadham and Kallus (2024), of
      cosines that hang on a gauge.
    """
    if isinstance(target, NextItems):
        raise ValueError(
            "diagnose reads a target of rows: classes, numbers or several labels; next items have "
            "none. Diagnose a label of the items, such as their category, or compare embeddings "
            "for next items with kernlens.compare"
        )
    arrays.check_same_order(embeddings, target, names=("embeddings", "target"))
    target = as_target(target)
    rows = _matrix(embeddings, "embeddings", num_rows(target))
    known = labelled_rows(target)
    _check_finite(rows, known, "embeddings")
    names = _names(ids, len(rows))
    causes = CAUSES if causes is None else causes
    parts = steps.steps(["this head", *causes])
    next(parts)
    evidence = _evidence(
        rows[known], take(target, known), decoder=decoder,
        counts=_of_known(_counts(interactions, len(rows)), known),
        reference=_witness(reference, "reference", len(rows), known),
        text=_witness(_text_rows(text), "text", len(rows), known),
        metric=metric, curve=curve, max_rows=max_rows, draws=draws, level=level, seed=seed,
    )  # fmt: skip
    findings = []
    for (name, cause), _ in zip(causes.items(), parts, strict=False):
        measure = cause.measure(evidence)
        if measure is not None:
            findings.append(_finding(name, cause, measure, evidence, known, names))
    findings.sort(
        key=lambda own: place(
            own.verdict, own.cause.group, None if own.gain is None else own.gain.value, own.severity
        )
    )
    return Diagnosis(
        tuple(findings), evidence.answer,
        "Linear" if decoder is None else decoder_name(decoder), _more_labels(evidence),
        len(known),
    )  # fmt: skip


def _finding(
    name: str,
    cause: Cause,
    measure: Measure,
    evidence: Evidence,
    known: np.ndarray,
    ids: np.ndarray,
) -> Finding:
    found, gain = cause.found(measure.score), measure.gain
    if found and gain is None and measure.remedy is not None:
        gain = evidence.gain(evidence.predict(measure.remedy(evidence.rows), evidence.decoder))
    rows = None
    if measure.rows is not None:
        rows = np.full(len(ids), np.nan)
        rows[known] = measure.rows
    said = verdict(cause.group, found, gain, measure.invalid)
    return Finding(name, cause, measure._replace(rows=rows), gain, said, ids)


def _evidence(
    rows: np.ndarray, target: Target, *, decoder, counts, reference, text, metric, curve, max_rows,
    draws, level, seed,
) -> Evidence:  # fmt: skip
    groups = copies.groups(rows, _kinds(target))
    sample = _sample(target, groups, max_rows, seed)
    kept, own = take(target, sample), groups[sample]

    def predicted(
        table: np.ndarray, head: Decoder | None, *, apart: bool = False, curve: bool = False
    ) -> Prediction:
        together = np.arange(len(own)) if apart else own
        return predict(
            table[sample], kept, decoder=head, metric=metric,
            groups=together if isinstance(kept, Labels) else None,
            draws=draws, level=level, seed=seed, curve=curve,
        )  # fmt: skip

    curve = curve and isinstance(kept, Labels) and int(np.sum(kept.codes >= 0)) >= 2 * LEAST_ROWS
    answer = predicted(rows, decoder, curve=curve)
    return Evidence(
        rows, target, answer, predicted, decoder, groups, sample, counts, reference, text,
        answer.metric, level, seed,
    )  # fmt: skip


def _more_labels(evidence: Evidence) -> Interval | None:
    """What four times the labels would gain: the curve's error, without that of the sample."""
    curve = evidence.answer.curve
    if curve is None or evidence.metric not in curve.forecasts:
        return None
    forecast = curve.forecasts[evidence.metric]._replace(sample=0.0)
    now, more = forecast.at(1.0).value, forecast.at(MORE_LABELS)
    found = Interval(more.value - now, more.low - now, more.high - now, more.level)
    return negated(found) if forecast.is_loss else found


def _kinds(target: Target) -> np.ndarray:
    """Numbers that are equal where targets are."""
    if isinstance(target, Labels):
        return target.codes
    values = target.membership if isinstance(target, MultiLabels) else np.asarray(target)
    return np.unique(values, axis=0, return_inverse=True)[1].ravel()


def _sample(target: Target, groups: np.ndarray, max_rows: int | None, seed: int) -> np.ndarray:
    """Rows that heads are predicted on: copies together, of each class its share."""
    n = len(groups)
    if max_rows is None or n <= max_rows:
        return np.arange(n)
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, or None; got {max_rows}")
    codes = target.codes if isinstance(target, Labels) else np.zeros(n, np.int32)
    parts = -(-n // max_rows)
    return np.flatnonzero(share_out(codes, groups, folds=parts, seed=seed) <= 0)


def _matrix(given: Any, name: str, n: int) -> np.ndarray:
    """Rows as float64 ``[n, d]``."""
    rows = as_rows(given)
    if isinstance(rows, Stream):
        rows = np.concatenate([np.asarray(chunk.values) for chunk in rows.chunks(rows=65_536)])
    rows = np.asarray(rows).astype(np.float64)
    if rows.ndim != 2 or len(rows) != n:
        raise ValueError(
            f"{name} and the target need the same rows; got {name} of shape {rows.shape} and a "
            f"target of {n:,} rows"
        )
    return rows


def _check_finite(rows: np.ndarray, known: np.ndarray, name: str) -> None:
    bad = known[~np.all(np.isfinite(rows[known]), axis=1)]
    if bad.size:
        raise ValueError(
            f"{name} must be finite; {bad.size} of {len(known)} rows with a target are not, the "
            f"first of them number {bad[0]}"
        )


def _witness(given: Any, name: str, n: int, known: np.ndarray) -> np.ndarray | None:
    if given is None:
        return None
    rows = _matrix(given, name, n)
    _check_finite(rows, known, name)
    return rows[known]


def _text_rows(text: Any) -> Any:
    """Rows of texts by TF-IDF; what is an embedding already stays."""
    if text is None:
        return None
    values = arrays.listed(text, expected="a text per row, or rows of numbers")
    if not all(isinstance(value, str) for value in values):
        return text
    # Here, since it loads scikit-learn.
    from kernlens.models.text import tfidf_svd

    try:
        return tfidf_svd(values, dim=TEXT_DIM).embeddings
    except ValueError as error:
        raise ValueError(f"text: {error}") from error


def _counts(interactions: Any, n: int) -> np.ndarray | None:
    if interactions is None:
        return None
    if isinstance(interactions, Interactions):
        counts = interactions.counts
    else:
        counts = np.asarray(interactions)
    if counts.shape != (n,) or counts.dtype.kind not in "iuf" or not np.all(counts >= 0):
        raise ValueError(
            f"interactions must be counts of at least 0, one a row, [{n:,}], or Interactions of so "
            f"many items; got {counts.dtype} of shape {counts.shape}"
        )
    return counts.astype(np.float64)


def _of_known(counts: np.ndarray | None, known: np.ndarray) -> np.ndarray | None:
    return None if counts is None else counts[known]


def _names(ids: Any, n: int) -> np.ndarray:
    if ids is None:
        return np.arange(n)
    names = np.asarray(ids)
    if names.shape != (n,):
        raise ValueError(f"ids must name each row, [{n:,}]; got shape {names.shape}")
    return names

"""Causes that lie in the labels: no signal, too few, or labels that the rows contradict."""

from typing import NamedTuple

import numpy as np

from kernlens.lens.causes.cause import Measure, blame, share
from kernlens.lens.causes.evidence import Evidence, standardised
from kernlens.probes import HeldOut, Prediction
from kernlens.targets import take
from kernlens.types import Labels, MultiLabels

PERMUTATIONS = 50
"""Shuffles of the labels that the signal is compared with."""

MOST_SHUFFLED = 50_000
"""Most rows whose labels are shuffled."""

LEAST_ROWS = 21
"""Rows below which a class is learnt and judged by a handful: 4 or fewer in each fold."""

TEMPERATURES = tuple(np.linspace(-1.5, 1.5, 31).tolist())
"""Logarithms of the inverse temperatures that are tried."""

RATES = np.linspace(0.0, 0.6, 121)
"""Shares of labels drawn at random that are tried."""

LIKELY = 0.1
"""Probability of the own class from which another source of rows confirms the label."""

MAPPED = 0.3
"""Share of the rows' variance that another source must explain to judge whether rows moved."""


def no_signal(evidence: Evidence) -> Measure | None:
    """Standard deviations by which the rows follow the labels more than shuffled ones."""
    z, rng = evidence.standard, np.random.default_rng(evidence.seed)
    target = evidence.target
    if isinstance(target, MultiLabels):
        return None
    if len(z) > MOST_SHUFFLED:
        # What so many rows do not show by five standard deviations is none.
        some = np.sort(rng.permutation(len(z))[:MOST_SHUFFLED])
        z, target = z[some], take(target, some)
    codes = target.codes if isinstance(target, Labels) else None
    values = np.zeros(len(z)) if codes is not None else np.asarray(target, np.float64)
    values = values - np.mean(values)

    def strength(order: np.ndarray) -> float:
        if codes is None:
            return float(np.sum((z[order].T @ values) ** 2))
        own = codes[order]
        counts = np.bincount(own)
        sums = np.stack([np.bincount(own, column, len(counts)) for column in z.T])
        return float(np.sum(sums**2 / np.maximum(counts, 1)))

    n = len(z)
    drawn = np.array([strength(rng.permutation(n)) for _ in range(PERMUTATIONS)])
    spread = float(drawn.std(ddof=1))
    score = (strength(np.arange(n)) - float(drawn.mean())) / spread if spread > 0 else 0.0
    said = f"rows follow the labels {score:,.1f} standard deviations beyond shuffled ones"
    invalid = "no relation of these rows to the labels is seen" if score < 5.0 else ""
    return Measure(score, 0.0, said, invalid=invalid)


def few_labels(evidence: Evidence) -> Measure | None:
    """Share of classes of fewer than 21 rows."""
    codes = evidence.codes
    if codes is None:
        return None
    counts = np.bincount(codes)
    sizes = counts[counts > 0]
    few, lost = int(np.sum(sizes < LEAST_ROWS)), int(np.sum(sizes == 1))
    said = f"{share(few, len(sizes), 'classes')} have fewer than {LEAST_ROWS} rows"
    if lost:
        said += f"; {lost} have one row and are judged by no fold"
    said += f"; {len(codes) / evidence.rows.shape[1]:,.0f} rows a dimension"
    return Measure(few / len(sizes), 0.0, said, blame(LEAST_ROWS / (counts[codes] + 0.5)))


class Doubt(NamedTuple):
    """What held-out answers say of the labels.

    Attributes:
      rate: share of labels that seem drawn at random.
      random: probability that each row's label is, float64 ``[n]``; NaN of rows held out never.
      own: probability of each row's own class if it is not, likewise.
    """

    rate: float
    random: np.ndarray
    own: np.ndarray


def doubt(prediction: Prediction) -> Doubt | None:
    r"""Labels as a mixture of honest ones and of draws from the shares of the classes.

    .. math:: p(y_i) = (1 - \eta)\, \mathrm{softmax}(f_i / \tau)_{y_i} + \eta\, \pi_{y_i}

    with held-out logits :math:`f` and the shares :math:`\pi`; temperature and rate are those of the
    greatest likelihood. A head is honest about classes that overlap, so overlap alone gives
    :math:`\eta` near 0.

    Args:
      prediction: of a head of classes.

    Returns:
      Doubt; None of a prediction without held-out probabilities.

    References:
      Natarajan et al. (2013) and Patrini et al. (2017), losses corrected for noise.
    """
    held = prediction.held_out
    if held is None or held.log_probabilities is None:
        return None
    logs = np.where(np.isfinite(held.log_probabilities), held.log_probabilities, -60.0)
    logs, tested = logs.astype(np.float64), held.folds >= 0
    places = np.arange(len(logs)), held.target
    shares = np.bincount(held.target, minlength=logs.shape[1]) / len(logs)
    base = shares[held.target]

    def honest(log_factor: float) -> np.ndarray:
        scaled = logs * np.exp(log_factor)
        scaled -= scaled.max(axis=1, keepdims=True)
        return np.exp(scaled[places]) / np.sum(np.exp(scaled), axis=1)

    best = (-np.inf, 0.0, np.ones(len(logs)))
    for log_factor in TEMPERATURES:
        own = honest(log_factor)
        mixed = np.outer(1.0 - RATES, own[tested]) + np.outer(RATES, base[tested])
        fits = np.mean(np.log(np.maximum(mixed, 1e-30)), axis=1)
        at = int(np.argmax(fits))
        if fits[at] > best[0]:
            best = (float(fits[at]), float(RATES[at]), own)
    _, rate, own = best
    random = rate * base / np.maximum((1.0 - rate) * own + rate * base, 1e-30)
    nan = np.where(tested, 0.0, np.nan)
    return Doubt(rate, random + nan, own + nan)


def suspects(evidence: Evidence) -> Measure | None:
    """Share of labels that seem drawn at random, by held-out answers of a linear head."""
    found = doubt(evidence.linear) if isinstance(evidence.target, Labels) else None
    if found is None or len(found.own) != len(evidence.sample):
        return None
    if found.rate >= RATES[-1]:
        return Measure(0.0, 0.0, "a linear head reads too little here to doubt labels")
    doubted = np.flatnonzero(found.random > 0.5)
    rows = np.full(len(evidence.rows), np.nan)
    rows[evidence.sample] = found.random
    said = (
        f"{found.rate:.0%} of labels seem random to a linear head; "
        f"{share(len(doubted), len(found.own))} more likely so than not"
    )
    if len(doubted):
        for name, witness in (("reference", evidence.reference), ("text", evidence.text)):
            if witness is not None:
                said += f"; by the {name}: {_told_apart(evidence, doubted, witness)}"
    return Measure(found.rate, 0.0, said, rows)


def _told_apart(evidence: Evidence, doubted: np.ndarray, witness: np.ndarray) -> str:
    """Doubted rows by what another source of rows says of them.

    Where it contradicts the label too, the label is wrong, or its class overlaps another in both.
    Where it confirms the label, the row is at fault: it has moved away from where the source puts
    it (a broken join), or it has not, and these embeddings do not separate its class (overlap).
    """
    other = doubt(evidence.predict(witness, None))
    if other is None:
        return "no answer"
    labels = other.own[doubted] < LIKELY
    moved, explained = _moved(evidence.rows, witness)
    join = moved[evidence.sample[doubted]] & ~labels
    parts = [f"{np.sum(labels):,} wrong labels"]
    if explained >= MAPPED:
        parts += [f"{np.sum(join):,} rows joined wrongly", f"{np.sum(~labels & ~join):,} overlap"]
    else:
        parts.append(f"{np.sum(~labels):,} wrong rows or overlap")
    return ", ".join(parts)


def _moved(rows: np.ndarray, witness: np.ndarray) -> tuple[np.ndarray, float]:
    """Whether a row is far from where a linear map of the witness puts it; variance explained."""
    z, w = standardised(rows), standardised(witness)
    design = w.T @ w + 1e-3 * len(w) * np.eye(w.shape[1])
    gaps = np.sum((z - w @ np.linalg.solve(design, w.T @ z)) ** 2, axis=1)
    middle = float(np.median(gaps))
    deviation = max(float(np.median(np.abs(gaps - middle))), 1e-12)
    explained = 1.0 - float(np.sum(gaps)) / max(float(np.sum(z**2)), 1e-12)
    return gaps > middle + 3.0 * 1.4826 * deviation, explained


def held_accuracy(held: HeldOut, rows: np.ndarray) -> float:
    """Accuracy beyond chance (Cohen's kappa) of held-out answers to some rows."""
    target, predicted = held.target[rows], held.predicted[rows]
    size = len(held.names)
    chance = (
        float(np.dot(np.bincount(target, minlength=size), np.bincount(predicted, minlength=size)))
        / max(len(rows), 1) ** 2
    )
    return (float(np.mean(target == predicted)) - chance) / max(1.0 - chance, 1e-12)

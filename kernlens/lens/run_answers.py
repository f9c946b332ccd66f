"""What heads answer on each of several runs: predicted on the same folds, or trained on them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kernlens.lens.predict import predict_rows
from kernlens.lens.seed_noise import has_seed_noise, noise_of
from kernlens.lens.served import answered_by
from kernlens.metrics import disagreement
from kernlens.metrics.disagreement import Disagreement
from kernlens.probes import Prediction
from kernlens.probes.folds import FOLDS, share_out
from kernlens.probes.held_out import HeldOut
from kernlens.probes.prediction import MACRO_F1
from kernlens.probes.serving import prediction_of
from kernlens.show import steps
from kernlens.types import Decoder, Labels

TRAINED = "heads that start at random were trained, fold by fold, not predicted: that is quicker"


class Answers(NamedTuple):
    """Answers of one decoder to the same rows on every run.

    Attributes:
      predictions: by run.
      noise: kappa and churn that the head's own seed makes in each run, ``[R, 2]``; None of a head
        whose training has one optimum, or that is not trained here.
      trained: whether the answers are of trained heads, each run's of a seed of its own.
    """

    predictions: dict[str, Prediction]
    noise: np.ndarray | None
    trained: bool


def answers_of(
    named: Mapping[str, np.ndarray],
    target: Any,
    title: str,
    *,
    decoder: Decoder | None,
    groups: np.ndarray | None,
    train: bool | None,
    metric: str | None,
    level: float,
    seed: int,
    **asked: Any,
) -> Answers:
    """Answers of one decoder; arguments as :func:`kernlens.stability`, with its name as title.

    Raises:
      ValueError: as :func:`kernlens.stability`, with the names of the run and the decoder.
    """
    dim = min(int(rows.shape[1]) for rows in named.values())
    plain = isinstance(target, Labels) and not any(asked.values())
    noisy = plain and has_seed_noise(decoder, dim)
    if noisy and train is not False:
        return trained(named, target, decoder, groups=groups, metric=metric, level=level, seed=seed)
    given = {"metric": metric, "groups": groups, "level": level, "seed": seed, **asked}
    found = {}
    for name, rows in steps.steps(named.items(), lambda own: own[0]):
        try:
            found[name] = predict_rows(rows, target, decoder=decoder, draws=1, **given)
        except ValueError as error:
            raise ValueError(
                f"{name} · {title}: {error}" if title else f"{name}: {error}"
            ) from error
    sizes = {name: len(own.target) for name, own in found.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"runs of so many rows are predicted on samples that differ with their width: {sizes}; "
            "give runs of one width, or fewer rows"
        )
    noise = None
    if noisy and decoder is not None:
        noise = noise_of(list(named.values()), target, decoder)
    return Answers(found, noise, trained=False)


def trained(
    named: Mapping[str, np.ndarray],
    labels: Labels,
    decoder: Any,
    *,
    groups: np.ndarray | None,
    metric: str | None,
    level: float,
    seed: int,
) -> Answers:
    """Answers of heads that are trained without each fold, two of them with seeds of their own.

    The first heads of all runs have seeds that differ, as those that will be served; what they and
    the second heads of a run differ in is the seed's.

    Args:
      named: rows of each run, ``[n, d]``.
      labels: a class of each row.
      decoder: a Flax head.
      groups: equal for copies, ``[n]``.
      metric: shown first; macro-F1 by default.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      seed: of the folds; heads have the seeds that follow.
    """
    from kernlens.train.heads import train as train_heads

    codes = np.asarray(labels.codes)
    groups = np.arange(len(codes)) if groups is None else groups
    folds = share_out(codes, groups, seed=seed)
    masks = np.stack([folds == k for k in range(FOLDS)])
    held = HeldOut(None, codes, codes, folds, labels.names, groups.astype(np.int32))
    counted = folds >= 0
    found, noise = {}, []
    for r, (name, rows) in enumerate(steps.steps(named.items(), lambda own: own[0])):
        own = (seed + 2 * r, seed + 2 * r + 1)
        try:
            made = train_heads(
                rows, labels, decoder=decoder, held_out=np.concatenate([masks, masks]),
                seeds=np.repeat(own, FOLDS).tolist(),
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        scores = made.scores(rows)
        twice = []
        for part in np.split(scores, 2):
            given = np.zeros(part.shape[1:], np.float32)
            for k in range(FOLDS):
                given[folds == k] = part[k, folds == k]
            twice.append(answered_by(given, held, has_probabilities=True))
        found[name] = prediction_of(
            twice[0], metric=metric or MACRO_F1, draws=1, level=level, seed=seed
        )
        told = disagreement.of_classes(*(one.predicted[counted] for one in twice))
        noise.append((told.kappa, told.churn))
    first = next(iter(found))
    found[first] = found[first]._replace(notes=(*found[first].notes, TRAINED))
    return Answers(found, np.array(noise), trained=True)


def counted_rows(prediction: Prediction) -> np.ndarray:
    """Whether a row was held out, and its answer counts, bool ``[n]``."""
    if prediction.held_out is None:
        return np.ones(len(prediction.target), bool)
    return prediction.held_out.folds >= 0


def compared_by(
    prediction: Prediction, counted: np.ndarray
) -> tuple[Callable[[np.ndarray, np.ndarray], Disagreement], float]:
    """How two runs' answers are compared, and the most that they can differ."""
    target = prediction.target[counted]
    if target.ndim == 2:
        return disagreement.of_labels, 1.0
    if prediction.names:
        return disagreement.of_classes, 1.0
    return lambda a, b: disagreement.of_numbers(a, b, target), np.inf

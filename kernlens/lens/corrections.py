"""Few labels of the new version on top of a mapped head: who learns from them, and how much."""

from collections.abc import Callable

import numpy as np

from kernlens.probes.folds import halves, in_order

CORRECTIONS = (1e3, 1e2, 1e1, 1.0)
"""Penalties of a correction by few labels that are tried; the first leaves the mapped head as it
is, nearly."""

PARTS = 4
"""Parts of the few labels, each held out once, by which their penalty is chosen."""

AnswersFn = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""``(learnt, asked, penalty) -> answers``: what a head with the labels of some rows says of others,
both given by their places."""

LossFn = Callable[[np.ndarray, np.ndarray], float]
"""``(answers, asked) -> loss`` of answers to those rows, summed."""


def corrected(
    start: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    answers_fn: AnswersFn,
    loss_fn: LossFn,
    *,
    number: int,
    decimals: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, int]:
    """Answers of heads that have few labels of the new version.

    Labels are drawn from the items that the mapped head did not learn from, in two halves of each
    fold, copies in one: each answers the other. The penalty is chosen once, on parts of the first
    labels.

    Args:
      start: answers without labels, ``[n, ...]``; they stay where no label was drawn.
      folds: fold of each row, from 0; negative where it is in none, ``[n]``.
      groups: equal for copies, ``[n]``.
      answers_fn: answers by labels, as :data:`AnswersFn`.
      loss_fn: loss of answers, as :data:`LossFn`.
      number: labels that a head has; at most half of a fold.
      decimals: to which losses are rounded before they are compared; as they are by default.
      seed: random seed of the draw.

    Returns:
      Answers ``[n, ...]``, and the labels that a head had at least.
    """
    rng = np.random.default_rng([seed, 7])
    found, fewest, penalty = start.copy(), number, None
    for k in range(int(folds.max()) + 1):
        parts = halves(rng.permutation(np.flatnonzero(folds == k)), groups)
        for drawn, asked in (parts, parts[::-1]):
            learnt = drawn[:number]
            fewest = min(fewest, len(learnt))
            if not len(learnt):
                continue
            if penalty is None:
                same = in_order(groups[learnt])
                penalty = chosen(learnt, same, answers_fn, loss_fn, decimals=decimals)
            found[asked] = answers_fn(learnt, asked, penalty)
    return found, fewest


def chosen(
    learnt: np.ndarray,
    groups: np.ndarray,
    answers_fn: AnswersFn,
    loss_fn: LossFn,
    *,
    decimals: int | None = None,
) -> float:
    """The penalty of the least loss on parts that are held out, the larger of equals.

    Args:
      learnt: places of the rows with a label, ``[m]``.
      groups: equal for copies, from 0 in the order of the rows, ``[m]``.
      answers_fn, loss_fn, decimals: as for :func:`corrected`.
    """
    part = groups % PARTS
    losses = []
    for penalty in CORRECTIONS:
        loss = 0.0
        for k in range(PARTS):
            out = learnt[part == k]
            loss += loss_fn(answers_fn(learnt[part != k], out, penalty), out)
        losses.append(loss)
    compared = losses if decimals is None else np.round(losses, decimals)
    return CORRECTIONS[int(np.argmin(compared))]

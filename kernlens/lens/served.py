"""Heads as they are served: a trained one that the user gives, and ones trained fold by fold."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kernlens.probes.held_out import HeldOut
from kernlens.probes.serving import log_softmax
from kernlens.types import Decoder, Labels

if TYPE_CHECKING:  # Flax and what trains by it take most of a second to load.
    from kernlens.train.heads import Trained

SHOWN = 3


class Head(Protocol):
    """What answers rows: heads of folds, a given head, and heads trained fold by fold."""

    @property
    def has_probabilities(self) -> bool:
        """Whether the softmax of the scores is a probability."""
        ...

    def scores(self, rows: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """Scores ``[n, C]`` of rows, by the head of each row's fold; -1 for that of all rows."""
        ...


def answers(head: Head, rows: np.ndarray, held: HeldOut) -> HeldOut:
    """Answers of a head to rows of the labelled items, ``[n, d]``, each by its own fold's."""
    return answered_by(head.scores(rows, np.maximum(held.folds, 0)), held, head.has_probabilities)


def answered_by(scores: np.ndarray, held: HeldOut, has_probabilities: bool) -> HeldOut:
    """Answers from scores ``[n, C]``."""
    return held._replace(
        log_probabilities=log_softmax(scores) if has_probabilities else None,
        predicted=np.argmax(scores, axis=1).astype(np.int32),
    )


class GivenHead(NamedTuple):
    """A trained head of the user's, the same for every fold.

    Attributes:
      score_fn: rows ``[n, d]`` to scores of its own classes ``[n, K]``.
      classes: code of each of them in the labels, ``[K]``.
      num_classes: of the labels, ``C``.
      has_probabilities: whether the softmax of the scores is a probability.
    """

    score_fn: Callable[[np.ndarray], np.ndarray]
    classes: np.ndarray
    num_classes: int
    has_probabilities: bool

    def scores(self, rows: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """Scores ``[n, C]``; minus infinity of a class that the head does not know.

        Raises:
          ValueError: the head fails on these rows, or gives something else than scores.
        """
        del folds
        try:
            made = np.asarray(self.score_fn(rows))
        except Exception as error:
            raise ValueError(
                f"head: failed on rows {tuple(rows.shape)}: {type(error).__name__}: {error}"
            ) from error
        if made.shape != (len(rows), len(self.classes)):
            raise ValueError(
                f"head: expected scores {(len(rows), len(self.classes))}, one for each class; "
                f"got {made.shape}"
            )
        if np.any(np.isnan(made)):
            row = int(np.argmax(np.any(np.isnan(made), axis=1)))
            raise ValueError(f"head: gives NaN, first for row {row}, counted from 0")
        found = np.full((len(rows), self.num_classes), -np.inf, np.float32)
        found[:, self.classes] = made
        return found


def given_head(head: Any, labels: Labels) -> GivenHead:
    """A trained head of the user's as the verbs ask it.

    Args:
      head: a fitted estimator of scikit-learn, or a pipeline, with ``classes_``; or a function
        ``apply_fn(rows [n, d]) -> logits [n, C]``, one for each class of ``labels`` in their order.
      labels: labels of the target.

    Returns:
      GivenHead.

    Raises:
      ValueError: something else, an estimator that is not fitted, or one of other classes.
    """
    names, everyone = labels.names, np.arange(len(labels.names))
    if hasattr(head, "predict") and hasattr(head, "fit"):
        if not hasattr(head, "classes_"):
            raise ValueError(
                f"head: {type(head).__name__} has no classes_; expected a fitted classifier"
            )
        codes = _codes(head.classes_, names)
        kind, fn = _estimator(head)
        return GivenHead(fn, codes, len(names), kind)
    if hasattr(head, "init") and hasattr(head, "apply"):
        raise ValueError(
            "head: a Flax module has no trained parameters; expected a function of rows, such as "
            "functools.partial(module.apply, params)"
        )
    if not callable(head):
        raise ValueError(
            "head: expected a fitted scikit-learn classifier, or a function of rows [n, d] that "
            f"gives logits [n, C]; got {type(head).__name__}"
        )
    score_fn: Callable[[np.ndarray], Any] = head
    return GivenHead(score_fn, everyone, len(names), True)


def _estimator(head: Any) -> tuple[bool, Callable[[np.ndarray], np.ndarray]]:
    """Whether it has probabilities, and its scores."""
    classes = list(head.classes_)
    if hasattr(head, "predict_proba"):

        def log_probabilities(rows):
            with np.errstate(divide="ignore"):
                return np.log(head.predict_proba(rows))

        return True, log_probabilities
    if hasattr(head, "decision_function") and len(classes) > 2:
        return False, head.decision_function

    def chosen(rows):
        places = {name: i for i, name in enumerate(classes)}
        found = np.zeros((len(rows), len(classes)))
        given = [places[name] for name in head.predict(rows).tolist()]
        found[np.arange(len(rows)), given] = 1.0
        return found

    return False, chosen


def _codes(classes: Any, names: tuple[str, ...]) -> np.ndarray:
    """The code of each of an estimator's classes, given by name or as a code."""
    known = {name: i for i, name in enumerate(names)}
    texts = [str(name) for name in np.asarray(classes).tolist()]
    if all(text in known for text in texts):
        return np.array([known[text] for text in texts])
    whole = all(type(c) is int for c in np.asarray(classes).tolist())
    if whole and all(0 <= int(text) < len(names) for text in texts):
        return np.array([int(text) for text in texts])
    other = [text for text in texts if text not in known]
    more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
    raise ValueError(
        f"head: has {len(other)} classes that the target does not have, "
        f"{', '.join(map(repr, other[:SHOWN]))}{more}; the target has "
        f"{', '.join(map(repr, names[:SHOWN]))}{', ...' if len(names) > SHOWN else ''}"
    )


class TrainedFolds(NamedTuple):
    """Heads that were trained on all folds but one each, and one on all rows last.

    Attributes:
      trained: the heads.
    """

    trained: "Trained"
    has_probabilities: bool = True

    def scores(self, rows: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """Logits ``[n, C]`` by the head of each row's fold; -1, and None, for that of all rows."""
        last = len(self.trained.task.seeds) - 1
        folds = np.full(len(rows), -1) if folds is None else np.asarray(folds)
        found = np.empty((len(rows), self.trained.task.num_classes), np.float32)
        for k in np.unique(folds).tolist():
            at = np.flatnonzero(folds == k)
            found[at] = self.trained.only(last if k < 0 else k).scores(rows[at])[0]
        return found


def train_folds(
    rows: np.ndarray, labels: Labels, held: HeldOut, *, decoder: Decoder, seed: int = 0
) -> TrainedFolds:
    """Trains the decoder without each fold, and on all rows.

    Args:
      rows: labelled rows, ``[n, d]``.
      labels: their classes.
      held: its folds are those of the rows.
      decoder: a Flax head.
      seed: random seed of initial values and batches, the same for every fold.
    """
    from kernlens.train.heads import train

    num_folds = int(held.folds.max()) + 1
    masks = [held.folds == k for k in range(num_folds)] + [np.zeros(len(rows), bool)]
    seeds = [seed] * len(masks)
    return TrainedFolds(train(rows, labels, decoder=decoder, held_out=np.stack(masks), seeds=seeds))

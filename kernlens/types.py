"""The values that flow along the road, and the aliases every module shares."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
"""A device array."""

Params: TypeAlias = Any
"""A pytree of arrays."""

Kernel: TypeAlias = Callable[[Array, Array], Array]
"""``kernel(x1 [n1, d], x2 [n2, d]) -> [n1, n2]``."""

ApplyFn: TypeAlias = Callable[[Params, Any], Array]
"""``apply_fn(params, x) -> outputs``, with a leading batch axis on both."""


class Labels(NamedTuple):
    """One label per row.

    Attributes:
      codes: class of each row, int32 ``[n]``, in ``0..len(names)-1``; ``-1`` where a row has none.
      names: class names, by code.
    """

    codes: np.ndarray
    names: tuple[str, ...]


class MultiLabels(NamedTuple):
    """Any number of labels per row.

    Attributes:
      membership: whether a row has a label, bool ``[n, C]``; all False where nothing is known.
      labelled: whether the labels of a row are known, bool ``[n]``. A row that is known to have
        none of the labels is labelled.
      names: label names, by column.
    """

    membership: np.ndarray
    labelled: np.ndarray
    names: tuple[str, ...]


class Values(np.ndarray):
    """One number per row, the target of a regression: float64 ``[n]``, NaN where a row has none.

    An array like any other. The type says that its numbers are amounts: without it, whole numbers
    could be taken for the codes of classes.
    """


class EmbeddingStream(Protocol):
    """Rows in files, read as often as asked: ``io.open_embeddings`` opens one."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of the values read."""
        ...

    def chunks(self, *, rows: int) -> Iterator[Any]:
        """Chunks of ``rows`` rows with ``values [b, p]`` and ``rows [b]``, their numbers."""
        ...


class Interactions(NamedTuple):
    """Who met which item, when: ragged sequences of item ids.

    Item ids are ``0..num_items-1`` by falling frequency, ties by rising key, so an id is a
    popularity rank. Sessions (baskets, visits; for a source without them, whole histories) are
    stored user after user, in time order for each user; session ``s`` holds
    ``items[offsets[s]:offsets[s + 1]]``.

    Attributes:
      items: item ids, session after session, int32 ``[num_interactions]``.
      offsets: where each session starts, int64 ``[num_sessions + 1]``.
      users: user of each session, int32 ``[num_sessions]``, rising.
      times: seconds since 1970 of each interaction, int64 ``[num_interactions]``, or None.
      item_keys: the source's own id of each item, ``[num_items]``.
      user_keys: the source's own id of each user, ``[num_users]``.
      labels: item labels by name, each of ``num_items`` rows.
      user_labels: user labels by name, each of ``num_users`` rows.
      text: a text for each item, str ``[num_items]``, or None.
      session_attributes: columns with a value for each session (week, store), by name.
      notes: what the loader counted (rows read, rows dropped and why), by name.
      ordered: whether the order of interactions of one session at one time was observed, as that of
        a cart in which items were put one by one; otherwise it means nothing.
    """

    items: np.ndarray
    offsets: np.ndarray
    users: np.ndarray
    times: np.ndarray | None
    item_keys: np.ndarray
    user_keys: np.ndarray
    labels: dict[str, Labels]
    user_labels: dict[str, Labels]
    text: np.ndarray | None
    session_attributes: dict[str, np.ndarray]
    notes: dict[str, int]
    ordered: bool = False

    @property
    def num_items(self) -> int:
        """Number of distinct items."""
        return len(self.item_keys)

    @property
    def num_users(self) -> int:
        """Number of distinct users."""
        return len(self.user_keys)

    @property
    def num_sessions(self) -> int:
        """Number of sessions."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """How often each item occurs, int64 ``[num_items]``."""
        return np.bincount(self.items, minlength=self.num_items)


class Classification(NamedTuple):
    """Metrics of a single-label classifier, each in ``[0, 1]``, of any common shape."""

    accuracy: Any
    micro_f1: Any
    macro_f1: Any
    balanced_accuracy: Any


class Prediction(NamedTuple):
    """What a closed-form probe says a trained reader will reach on held-out rows.

    Attributes:
      metrics: leave-one-out point values, floats.
      low: lower ends of the bootstrap intervals over rows.
      high: upper ends.
      level: nominal coverage of the intervals, in ``(0, 1)``.
      loss: which loss, ``"log_loss"`` in nats (discriminant analysis) or ``"squared_error"`` summed
        over classes (ridge).
      error: mean leave-one-out loss at the chosen strength.
      error_low: lower end of its normal interval over rows, at least 0.
      error_high: upper end.
      strength: the chosen ridge strength, relative to the mean eigenvalue of the (within-class)
        covariance.
      strengths: the path, ``[num_strengths]``.
      path_errors: leave-one-out loss along the path, ``[num_strengths]``.
      path_metrics: metrics along the path, each ``[num_strengths]``.
      losses: leave-one-out loss of each labelled row, float32 ``[n]``; infinite, and not part of
        ``error``, where discriminant analysis leaves out the only row of a class.
      predicted: leave-one-out class of each labelled row, int32 ``[n]``.
      target: its true class, int32 ``[n]``.
      class_names: names by code.
    """

    metrics: Classification
    low: Classification
    high: Classification
    level: float
    loss: str
    error: float
    error_low: float
    error_high: float
    strength: float
    strengths: np.ndarray
    path_errors: np.ndarray
    path_metrics: Classification
    losses: np.ndarray
    predicted: np.ndarray
    target: np.ndarray
    class_names: tuple[str, ...]


class Outcome(NamedTuple):
    """What a trained reader reached, one entry a seed (its own split and initialisation).

    Attributes:
      metrics: on the held-out rows, each ``[seeds]``.
      train_metrics: on the training rows, each ``[seeds]``.
      predicted: class given to each labelled row by each seed's reader, int32 ``[seeds, n]``.
      held_out: True where a row was held out, bool ``[seeds, n]``.
      seconds: wall time of training and evaluation, all seeds together, compilation included.
    """

    metrics: Classification
    train_metrics: Classification
    predicted: np.ndarray
    held_out: np.ndarray
    seconds: float

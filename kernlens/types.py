"""The values that flow along the road, and the aliases every module shares."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

Params: TypeAlias = Any
"""A pytree of arrays."""

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = jax.Array
    """A device array."""

    Kernel: TypeAlias = Callable[[Array, Array], Array]
    """``kernel(x1 [n1, d], x2 [n2, d]) -> [n1, n2]``."""

    FeatureMap: TypeAlias = Callable[[Array], Array]
    """``feature_map(rows [n, d]) -> features [n, p]``; a row that is not finite has features that
    are not, so that whoever takes them in sees it."""

    ApplyFn: TypeAlias = Callable[[Params, Any], Array]
    """``apply_fn(params, x) -> outputs``, with a leading batch axis on both."""
else:

    def __getattr__(name: str) -> Any:
        """The types of what JAX holds; files are read, and refused, without importing it."""
        if name not in ("Array", "Kernel", "FeatureMap", "ApplyFn"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from jax import Array

        made = {"Array": Array, "Kernel": Callable[[Array, Array], Array],
                "FeatureMap": Callable[[Array], Array],
                "ApplyFn": Callable[[Params, Any], Array]}  # fmt: skip
        globals().update(made)
        return made[name]


Decoder: TypeAlias = Any
"""A Flax module, or a pair ``(init_fn(key, x) -> params, apply_fn(params, x) -> outputs)``."""


class Interval(NamedTuple):
    """An estimate with its interval: the one shape of predictions, scores and differences.

    ``str`` gives ``0.31 [0.29, 0.33]``; a format, as in ``f"{interval:+.3f}"``, is applied to all
    three numbers.

    >>> gap = Interval(0.05, 0.01, 0.09, level=0.9)
    >>> str(gap), gap.separated, float(gap)
    ('0.05 [0.01, 0.09]', True, 0.05)

    Attributes:
      value: the estimate; NaN where it is undefined.
      low: lower end.
      high: upper end.
      level: nominal coverage, in ``(0, 1)``.
      null: what chance alone would give, or None; of a difference it is 0.
    """

    value: float
    low: float
    high: float
    level: float
    null: float | None = None

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out the null: 0 where there is none."""
        null = 0.0 if self.null is None else self.null
        return bool(self.low > null or self.high < null)

    def __float__(self) -> float:
        return float(self.value)

    def __format__(self, spec: str) -> str:
        return "{} [{}, {}]".format(*(format(float(v), spec or ".2f") for v in self[:3]))

    def __str__(self) -> str:
        return format(self)


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


Target: TypeAlias = Labels | MultiLabels | Values
"""What is predicted of each row: a class, several labels or a number."""


@runtime_checkable
class Chunk(Protocol):
    """Some rows of a stream."""

    @property
    def values(self) -> Any:
        """The rows, ``[b, p]``; a tuple of such arrays for several embeddings of the same rows."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """Row numbers in the stream, ``[b]``: the place of a row in codes, targets and weights."""
        ...


@runtime_checkable
class Stream(Protocol):
    """Rows that can be read again and are never all held: ``io.open_embeddings`` opens one.

    What belongs to a row (class code, target, weight) is an array that is looked up by row number.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the values."""
        ...

    def chunks(self, *, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """The rows ``start..stop`` in order, at most ``rows`` at a time."""
        ...


@runtime_checkable
class CheckedStream(Stream, Protocol):
    """A stream that refuses rows that are not finite, and can be told that its user does."""

    def unchecked(self) -> Stream:
        """The same rows without that check."""
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


class Outcome(NamedTuple):
    """What a trained classifier reached, one entry a seed (its own split and initialisation).

    Attributes:
      metrics: on the held-out rows, each ``[seeds]``.
      train_metrics: on the training rows, each ``[seeds]``.
      predicted: class that the classifier of each seed gives to each labelled row, int32
        ``[seeds, n]``.
      held_out: True where a row was held out, bool ``[seeds, n]``.
      seconds: wall time of training and evaluation, all seeds together, compilation included.
      losses: log loss of each labelled row under the classifier of each seed, in nats, float32
        ``[seeds, n]``; None for a classifier without probabilities.
    """

    metrics: Classification
    train_metrics: Classification
    predicted: np.ndarray
    held_out: np.ndarray
    seconds: float
    losses: np.ndarray | None = None

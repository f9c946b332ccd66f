"""Next-item examples for training: checked, without cold items, some of them held out."""

import numpy as np

from kernlens.targets.sequences import Histories, take


def check(train: Histories, num_items: int) -> None:
    """Refuses examples that cannot be trained on.

    Args:
      train: any.
      num_items: rows of the embeddings.

    Raises:
      ValueError: no example, an empty history, lengths that do not fit, or an id out of range.
    """
    if len(train.target) == 0:
        raise ValueError("there is no example to train on")
    empty = train.items[:, -1] < 0
    if empty.any():
        raise ValueError(
            "histories must hold an item, the latest in the last column; row "
            f"{int(np.argmax(empty))} does not"
        )
    # Batches cut a history at its length, so a wrong one would lose items.
    found = train.items.shape[1] - np.argmax(train.items >= 0, axis=1)
    wrong = found != train.lengths
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"lengths must count from the first item of a row to its end; got {train.lengths[row]} "
            f"in row {row}, whose items begin {found[row]} from the end"
        )
    check_ids("history", train.items, -1, num_items)
    check_ids("target", train.target, 0, num_items)


def check_ids(name: str, ids: np.ndarray, low: int, num_items: int) -> None:
    """Raises ``ValueError`` where an id is not in ``low..num_items-1``."""
    wrong = (ids < low) | (ids >= num_items)
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(
            f"{name} ids must be in 0..{num_items - 1}, as the embeddings have rows; got "
            f"{ids[wrong][0]} in row {row}"
        )


def without(histories: Histories, cold: np.ndarray) -> Histories:
    """Histories from which some items are taken out; what is left moves up to the last column.

    Args:
      histories: any; targets stay as they are.
      cold: which items are taken out, a mask ``[num_items]``.

    Returns:
      Histories of the same rows, empty where nothing is left.
    """
    items = np.where((histories.items >= 0) & ~cold[histories.items], histories.items, -1)
    order = np.argsort(items >= 0, axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1)
    return histories._replace(items=items, lengths=np.sum(items >= 0, axis=1, dtype=np.int32))


def trainable(train: Histories, cold: np.ndarray) -> tuple[Histories, dict[str, int]]:
    """The examples that are left where cold items count as absent, and what was left out.

    Args:
      train: of `check`.
      cold: which items have no embedding, a mask ``[num_items]``.

    Returns:
      Examples with a target and a history, and counts: ``cold_items``; ``cold_in_histories``,
      places in histories that held one; ``examples_left_out``, whose target or whole history was.

    Raises:
      ValueError: nothing is left.
    """
    warm = without(train, cold) if cold.any() else train
    kept = (warm.lengths > 0) & ~cold[train.target]
    notes = {
        "cold_items": np.sum(cold),
        "cold_in_histories": np.sum(train.mask & cold[train.items]),
        "examples_left_out": np.sum(~kept),
    }
    if not kept.any():
        raise ValueError(
            f"no example is left to train on: {notes['cold_items']} of {len(cold)} items have no "
            "embedding, and every target or whole history is of them"
        )
    return take(warm, kept), {name: int(value) for name, value in notes.items()}


def held_out(train: Histories, share: float) -> tuple[Histories, Histories]:
    """Splits off the examples of some users, drawn at random, always the same ones.

    Args:
      train: examples of at least two users.
      share: of the examples that are held out, in ``(0, 1)``; at least those of one user are, and
        those of one are not.

    Returns:
      Examples to train on, and those held out.

    Raises:
      ValueError: a single user.
    """
    users, owner, counts = np.unique(train.user, return_inverse=True, return_counts=True)
    if len(users) < 2:
        raise ValueError(
            "stopping by validation holds out users, and needs two at least; got one: give "
            "held_out=0 and a number of epochs"
        )
    order = np.random.default_rng(0).permutation(len(users))
    total = np.cumsum(counts[order])
    taken = np.clip(np.searchsorted(total, share * total[-1]), 1, len(users) - 1)
    out = np.isin(owner, order[:taken])
    return take(train, ~out), take(train, out)

"""Rows of embedding and label files brought together."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernlens.io.embeddings import Embeddings
from kernlens.io.labels import LabelFile, check_classes
from kernlens.types import Labels


class Joined(NamedTuple):
    """The rows that all files have.

    Attributes:
      values: embeddings by name, ``[n, d]`` each, in the row order of the first.
      labels: class of each row, ``[n]``; -1 where the label is missing.
      unjoined: by name, how many rows of the embedding are not among the joined.
      unjoined_labels: how many rows of the label file are not.
    """

    values: dict[str, np.ndarray]
    labels: Labels
    unjoined: dict[str, int]
    unjoined_labels: int


def join(embeddings: Mapping[str, Embeddings], labels: LabelFile) -> Joined:
    """Rows that every embedding and the labels have.

    With ids on both sides, rows join by id. To embeddings without ids, label ids are row numbers,
    and one that is none is an error, for then they are ids of something else. Labels without ids go
    row by row, so every embedding needs as many rows, and those with ids the same ids in order.

    Args:
      embeddings: by name, at least one.
      labels: of the same items.

    Returns:
      Joined; values are not copied where all rows of a file stay in place.

    Raises:
      ValueError: no row in common, with examples of both sides; lengths that differ without ids;
        label ids that are no row numbers; one class left.
    """
    if not embeddings:
        raise ValueError("join needs at least one embedding; got none")
    match = _match_by_row if labels.ids is None else _match_by_id
    # For each row of the label file, its row in each embedding, or -1.
    places = match(list(embeddings.values()), labels)
    rows = np.flatnonzero(np.all(places >= 0, axis=0))
    rows = rows[np.argsort(places[0, rows], kind="stable")]
    if not rows.size:
        raise ValueError("no row is in all files: " + _examples([*embeddings.values(), labels]))
    values, unjoined = {}, {}
    for (name, given), place in zip(embeddings.items(), places[:, rows], strict=True):
        whole = np.array_equal(place, np.arange(len(given.values)))
        values[name] = given.values if whole else given.values[place]
        unjoined[name] = len(given.values) - len(rows)
    codes = labels.labels.codes[rows]
    found = [labels.labels.names[code] for code in np.unique(codes[codes >= 0])]
    check_classes(f"{labels.source}, the {len(rows)} rows joined", found)
    return Joined(
        values,
        Labels(codes, labels.labels.names),
        unjoined,
        unjoined_labels=len(labels.labels.codes) - len(rows),
    )


def _match_by_row(embeddings: list[Embeddings], labels: LabelFile) -> np.ndarray:
    rows = len(labels.labels.codes)
    first = next((given for given in embeddings if given.ids is not None), None)
    for given in embeddings:
        if len(given.values) != rows:
            raise ValueError(
                f"{labels.source} has no ids and {rows} rows, {given.source} {len(given.values)}; "
                "expected as many, or ids to join by"
            )
        if first is not None and given.ids is not None and np.any(given.ids != first.ids):
            raise ValueError(
                f"{labels.source} has no ids, and rows of {first.source} and {given.source} differ "
                "in order; expected ids to join by"
            )
    return np.broadcast_to(np.arange(rows), (len(embeddings), rows))


def _match_by_id(embeddings: list[Embeddings], labels: LabelFile) -> np.ndarray:
    assert labels.ids is not None
    places = np.empty((len(embeddings), len(labels.ids)), np.int64)
    for i, given in enumerate(embeddings):
        rows = len(given.values)
        ids = map(str, range(rows)) if given.ids is None else given.ids.tolist()
        found = dict(zip(ids, range(rows), strict=True))
        places[i] = [found.get(id_, -1) for id_ in labels.ids.tolist()]
        if given.ids is None and np.any(places[i] < 0):
            wrong = labels.ids[places[i] < 0]
            raise ValueError(
                f"{given.source} has no ids, so label ids must be its row numbers 0..{rows - 1}; "
                f"{labels.source} has {len(wrong)} others: {_some(wrong)}; "
                "save the embeddings with their ids, as Parquet"
            )
        if np.all(places[i] < 0):
            raise ValueError("no id in common: " + _examples([given, labels]))
    return places


def _examples(sides: list[Embeddings | LabelFile]) -> str:
    return "; ".join(
        f"{side.source} has {'row numbers' if side.ids is None else _some(side.ids)}"
        for side in sides
    )


def _some(ids: np.ndarray) -> str:
    return ", ".join(repr(str(id_)) for id_ in ids[:3]) + (", ..." if len(ids) > 3 else "")

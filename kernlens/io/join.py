"""Rows of embedding and label files brought together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from kernlens import targets
from kernlens.io.labels import LabelFile, check_classes
from kernlens.io.stream import Chunk, EmbeddingFiles, Embeddings, regroup
from kernlens.types import Labels, Target

_Side: TypeAlias = Embeddings | EmbeddingFiles

_ID_BLOCK = 2**16
_LISTED = 5


class Unjoined(NamedTuple):
    """Rows of one side that the other side does not have.

    Attributes:
      rows: their numbers, rising, int64 ``[count]``.
      names: ids of all rows of the side, ``[n]``; None for row numbers.
    """

    rows: np.ndarray
    names: np.ndarray | None

    @property
    def count(self) -> int:
        """How many."""
        return len(self.rows)

    @property
    def ids(self) -> np.ndarray:
        """Their ids, or row numbers, as text, ``[count]``."""
        return self.rows.astype(str) if self.names is None else self.names[self.rows]

    @property
    def examples(self) -> tuple[str, ...]:
        """The first few of :attr:`ids`."""
        return tuple(Unjoined(self.rows[:_LISTED], self.names).ids.tolist())


class Joined(NamedTuple):
    """The rows that all files have.

    Attributes:
      values: embeddings by name, ``[n, d]`` each, in the row order of the first.
      labels: target of each row, ``[n]``.
      unjoined: by name, the rows of the embedding that are not among the joined.
      unjoined_labels: the rows of the label file that are not.
      by_row: whether rows met by their numbers, since a file has no ids.
      ids: ids of the rows, or their numbers where no file has ids, as text ``[n]``.
    """

    values: dict[str, np.ndarray]
    labels: Target
    unjoined: dict[str, Unjoined]
    unjoined_labels: Unjoined
    ids: np.ndarray
    by_row: bool = False


class JoinedStream(NamedTuple):
    """The rows of a stream that have a label, or all; a stream whose values stay in the files.

    Attributes:
      stream: embeddings.
      labels: target of each row of the stream, ``[n]``.
      kept: the rows that :meth:`chunks` gives, bool ``[n]``.
      unjoined: the rows that the label file does not have.
      unjoined_labels: the rows of the label file that the stream does not have.
    """

    stream: EmbeddingFiles
    labels: Target
    kept: np.ndarray
    unjoined: Unjoined
    unjoined_labels: Unjoined

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions in the files, those that are not kept included."""
        return self.stream.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the values."""
        return self.stream.dtype

    def chunks(
        self, *, rows: int = 4096, start: int = 0, stop: int | None = None
    ) -> Iterator[Chunk]:
        """Reads the rows that are kept, in order; each call reads the files again.

        Args:
          rows: in a chunk; the last one may be shorter.
          start: first row of the stream.
          stop: row of the stream after the last; ``n`` by default.

        Yields:
          Chunks; ``labels.codes[chunk.rows]`` has their class codes.

        Raises:
          ValueError: as :meth:`EmbeddingFiles.chunks`.
        """
        chunks = self.stream.chunks(rows=rows, start=start, stop=stop)
        ids = self.stream.ids
        for values, numbers in regroup(map(self._kept, chunks), rows):
            yield Chunk(values, numbers, None if ids is None else ids[numbers])

    def _kept(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
        kept = self.kept[chunk.rows]
        return chunk[:2] if kept.all() else (chunk.values[kept], chunk.rows[kept])


def join(
    embeddings: Mapping[str, Embeddings],
    labels: LabelFile,
    *,
    max_unjoined: float = 1.0,
    max_unjoined_labels: float = 1.0,
) -> Joined:
    """Rows that every embedding and the labels have.

    With ids on both sides, rows join by id. To embeddings without ids, label ids are row numbers,
    and one that is none is an error, for then they are ids of something else. Labels without ids go
    row by row, so no embedding may have ids, and each needs as many rows.

    Args:
      embeddings: by name, at least one.
      labels: of the same items.
      max_unjoined: largest share of an embedding's rows that may not be in all other files, in
        ``[0, 1]``.
      max_unjoined_labels: the same of the label rows.

    Returns:
      Joined; values are not copied where all rows of a file stay in place.

    Raises:
      ValueError: no row in common, with examples of both sides; ids on one side alone; lengths that
        differ without ids;
        label ids that are no row numbers; one class left; shares out of range, or exceeded, with
        examples.
    """
    _check_shares(max_unjoined, max_unjoined_labels)
    if not embeddings:
        raise ValueError("join needs at least one embedding; got none")
    # For each row of the label file, its row in each embedding, or -1.
    places = _places(list(embeddings.values()), labels)
    rows = np.flatnonzero(np.all(places >= 0, axis=0))
    rows = rows[np.argsort(places[0, rows], kind="stable")]
    if not rows.size:
        raise ValueError("no row is in all files: " + _examples([*embeddings.values(), labels]))
    values, unjoined = {}, {}
    for (name, given), place in zip(embeddings.items(), places[:, rows], strict=True):
        whole = np.array_equal(place, np.arange(given.shape[0]))
        values[name] = given.values if whole else given.values[place]
        without = np.ones(given.shape[0], bool)
        without[place] = False
        unjoined[name] = _unjoined(
            given.source, without, given.ids, max_unjoined, "all other files", "--max-unjoined"
        )
    without = np.ones(targets.num_rows(labels.labels), bool)
    without[rows] = False
    share = max_unjoined_labels, "all other files", "--max-unjoined-labels"
    unjoined_labels = _unjoined(labels.source, without, labels.ids, *share)
    target = targets.take(labels.labels, rows)
    _check_joined(labels, target)
    by_row = any(given.ids is None or _is_numbered(given) for given in embeddings.values())
    ids = _ids(embeddings, labels, places, rows)
    return Joined(values, target, unjoined, unjoined_labels, ids, by_row)


def join_stream(
    stream: EmbeddingFiles,
    labels: LabelFile,
    *,
    keep_unjoined: bool = False,
    max_unjoined: float = 1.0,
    max_unjoined_labels: float = 1.0,
) -> JoinedStream:
    """Labels for the rows of a stream, joined as :func:`join` does; no value is read.

    Memory is that of the labels and of one number a row.

    Args:
      stream: embeddings.
      labels: of the same items.
      keep_unjoined: whether rows that the label file does not have are kept, without a label.
      max_unjoined: largest share of the stream's rows that may be without a row of labels, in
        ``[0, 1]``.
      max_unjoined_labels: largest share of the label rows that may be without a row of the stream.

    Returns:
      JoinedStream.

    Raises:
      ValueError: as :func:`join`; shares out of range, or exceeded, with examples.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from kernlens import io
      >>> folder = Path(tempfile.mkdtemp())
      >>> np.save(folder / "items.npy", np.eye(4, dtype=np.float32))
      >>> _ = (folder / "labels.csv").write_text("id,label\\n0,tea\\n2,tea\\n3,oil\\n")
      >>> stream = io.open_embeddings(folder / "items.npy")
      >>> joined = join_stream(stream, io.read_labels(folder / "labels.csv"))
      >>> joined.unjoined.count, [chunk.rows.tolist() for chunk in joined.chunks(rows=2)]
      (1, [[0, 2], [3]])
    """
    _check_shares(max_unjoined, max_unjoined_labels)
    (places,) = _places([stream], labels)
    found = places >= 0
    row_of = np.full(stream.shape[0], -1)
    row_of[places[found]] = np.flatnonzero(found)
    joined = row_of >= 0
    share = max_unjoined, "the other file", "--max-unjoined"
    unjoined = _unjoined(stream.source, ~joined, stream.ids, *share)
    share = max_unjoined_labels, "the other file", "--max-unjoined-labels"
    unjoined_labels = _unjoined(labels.source, ~found, labels.ids, *share)
    target = targets.take(labels.labels, row_of)
    _check_joined(labels, targets.take(target, np.flatnonzero(joined)))
    kept = np.ones_like(joined) if keep_unjoined else joined
    return JoinedStream(stream, target, kept, unjoined, unjoined_labels)


def _ids(
    embeddings: Mapping[str, Embeddings], labels: LabelFile, places: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Names of the joined rows: ids of the labels, or of an embedding, or row numbers."""
    if labels.ids is not None:
        return np.asarray(labels.ids)[rows].astype(str)
    for given, place in zip(embeddings.values(), places, strict=True):
        if given.ids is not None:
            return np.asarray(given.ids)[place[rows]].astype(str)
    return rows.astype(str)


def _check_shares(max_unjoined: float, max_unjoined_labels: float) -> None:
    for name, share in (("unjoined", max_unjoined), ("unjoined_labels", max_unjoined_labels)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"max_{name} must be in [0, 1]; got {share}")


def _unjoined(
    source: str, without: np.ndarray, ids: np.ndarray | None, most: float, where: str, flag: str
) -> Unjoined:
    found = Unjoined(np.flatnonzero(without), ids)
    if found.count > most * len(without):
        raise ValueError(
            f"{source}: {found.count} of {len(without)} ids are not in {where}: "
            f"{some(found.examples, found.count)}; expected at most a share of {most}; other ids "
            f"may be meant (--id-column), or raise {flag}"
        )
    return found


def _check_joined(labels: LabelFile, joined: Target) -> None:
    if isinstance(joined, Labels):
        found = [joined.names[code] for code in np.unique(joined.codes[joined.codes >= 0])]
        check_classes(f"{labels.source}, the {len(joined.codes)} rows joined", found)


def _places(sides: Sequence[_Side], labels: LabelFile) -> np.ndarray:
    """For each row of the label file, its row on each side, or -1; int64 ``[sides, m]``."""
    wanted = labels.ids
    if wanted is None:
        _check_row_by_row(sides, labels)
        wanted = np.arange(targets.num_rows(labels.labels)).astype(str)
    return np.stack([_rows_of(side, labels, wanted) for side in sides])


def _is_numbered(given: _Side) -> bool:
    return isinstance(given, Embeddings) and given.numbered


def _check_row_by_row(sides: Sequence[_Side], labels: LabelFile) -> None:
    rows = targets.num_rows(labels.labels)
    for given in sides:
        if given.ids is not None and not _is_numbered(given):
            raise ValueError(
                f"{labels.source} has no ids, and {given.source} has, such as "
                f"{some(given.ids, len(given.ids))}; add a column of ids to the labels "
                "(--id-column names it), or join by row number with --by-row"
            )
        count = given.shape[0] + (given.dropped if isinstance(given, Embeddings) else 0)
        if count != rows:
            raise ValueError(
                f"{labels.source} has no ids and {rows} rows, {given.source} {count}; "
                "expected as many, or ids to join by"
            )


def _rows_of(given: _Side, labels: LabelFile, wanted: np.ndarray) -> np.ndarray:
    rows = given.shape[0]
    # The labels are looked up in, not the rows, of which there can be many more.
    entries = {id_: entry for entry, id_ in enumerate(wanted.tolist())}
    places = np.full(len(wanted), -1, np.int64)
    for start in range(0, rows, _ID_BLOCK):
        stop = min(start + _ID_BLOCK, rows)
        ids = map(str, range(start, stop)) if given.ids is None else given.ids[start:stop].tolist()
        for row, id_ in enumerate(ids, start):
            entry = entries.get(id_)
            if entry is not None:
                places[entry] = row
    if given.ids is None and np.any(places < 0):
        wrong = wanted[places < 0]
        raise ValueError(
            f"{given.source} has no ids, so label ids must be its row numbers 0..{rows - 1}; "
            f"{labels.source} has {len(wrong)} others: {some(wrong, len(wrong))}; "
            "save the embeddings with their ids, as Parquet, or join by row number with --by-row"
        )
    if np.all(places < 0):
        raise ValueError(
            f"no id in common: {_examples([given, labels])}; name other columns with --id-column "
            "(of one file, as in FILE::id=COLUMN)"
        )
    return places


def _examples(sides: Sequence[_Side | LabelFile]) -> str:
    return "; ".join(
        f"{side.source} has {'row numbers' if side.ids is None else some(side.ids, len(side.ids))}"
        for side in sides
    )


def some(ids: Sequence[str] | np.ndarray, count: int) -> str:
    """The first three of ``count`` ids, for a reader."""
    shown = (text if len(text) <= 40 else text[:37] + "..." for text in map(str, ids[:3]))
    return ", ".join(map(repr, shown)) + (", ..." if count > 3 else "")

"""Labels from CSV and Parquet files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files, targets
from kernlens.datasets import raw
from kernlens.io.columns import (
    ID_NAMES,
    first_named,
    open_parquet,
    plain,
    read_ids,
    read_table,
)
from kernlens.io.stored import choose_reader
from kernlens.types import Labels, Target

_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


class LabelFile(NamedTuple):
    """Rows of a label file.

    Attributes:
      labels: what is predicted of each row: classes, numbers or several labels, ``[m]``.
      ids: id of each row as text, each once, ``[m]``; None for row numbers.
      source: what to call the file in an error.
      notes: what a reader should look at, such as a last line that may have been cut.
    """

    labels: Target
    ids: np.ndarray | None = None
    source: str = "labels"
    notes: tuple[str, ...] = ()


def read_labels(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    target: Callable[[Any], Target] = targets.as_target,
) -> LabelFile:
    """Labels from a file.

    Args:
      path: ``.csv`` (with a header line, comma-separated, UTF-8) or ``.parquet``. A file of one
        column has labels and no ids.
      id_column: name of the id column; without it, found as the module's docstring says.
      label_column: name of the label column, likewise. A missing or empty label, and NaN or the
        text ``nan``, is no label. In CSV, text is numbers where each of them is written as one.
      target: what the column is made into. The default finds out from the values, and refuses a
        column that may ask two things; :func:`kernlens.targets.labels`, ``values`` and
        ``multi_labels`` are told.

    Returns:
      LabelFile, with the classes found in sorted order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty or damaged file, a missing column, more columns than
        can be told apart, an ambiguous target, fewer than two classes, a missing or repeated id.
      ImportError: pyarrow is not installed; names the extra.
    """
    path = files.existing(path)
    read = choose_reader(path, {".csv": _read_csv, ".parquet": _read_label_columns})
    raw, ids, column = read(path, id_column, label_column)
    where = f"{path}, column {column!r}"
    try:
        labels = target(raw)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if isinstance(labels, Labels):
        check_classes(where, labels.names)
    notes = _notes(path, labels, raw) if path.suffix.lower() == ".csv" else ()
    return LabelFile(labels, ids, str(path), notes)


def check_classes(where: str, names: Sequence[str]) -> None:
    """Refuses fewer than two classes; names where they were looked for."""
    if len(names) < 2:
        raise ValueError(f"{where}: found classes {list(names)}; expected two or more")


def _read_label_columns(
    path: Path, id_column: str | None, label_column: str | None
) -> tuple[Any, np.ndarray | None, str]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        id_column, label_column = _label_columns(path, names, id_column, label_column)
        table = read_table(path, file, [*([id_column] if id_column else []), label_column])
    ids = None if id_column is None else read_ids(path, id_column, table.column(id_column))
    column = table.column(label_column)
    raw = plain(column)[0]
    return column.to_pylist() if raw is None else raw, ids, label_column


def _read_csv(
    path: Path, id_column: str | None, label_column: str | None
) -> tuple[np.ndarray, np.ndarray | None, str]:
    names = raw.header(path, ",", True, "utf-8")
    id_column, label_column = _label_columns(path, names, id_column, label_column)
    wanted = {label_column: "string?"}
    if id_column is not None:
        wanted[id_column] = "string"
    columns = raw.read_csv(path, wanted, unique=id_column)
    ids = None if id_column is None else raw.plain(columns[id_column])
    return numbers_of_text(raw.plain(columns[label_column])), ids, label_column


def numbers_of_text(values: np.ndarray) -> np.ndarray:
    """Text as Parquet would hold it: no ``nan``, and integers or floats where all of it is.

    Numbers with zeros in front, such as ``007``, are codes, and stay text.
    """
    known = ~np.isin(np.char.lower(values), ["", "nan"])
    texts = values[known].tolist()
    if texts and all(map(_WHOLE.fullmatch, texts)):
        numbers = [int(text.partition(".")[0]) for text in texts]
        exact = max(map(abs, numbers)) < 2**63
    else:
        exact = all(map(_NUMBER.fullmatch, texts))
        numbers = [float(text) for text in texts] if exact else []
    if not exact or not texts:
        return np.where(known, values, "")
    if known.all():
        return np.array(numbers)
    found = np.full(len(values), None, object)
    found[known] = numbers
    return found


def _notes(path: Path, labels: Target, raw: Any) -> tuple[str, ...]:
    """Tells of a last line without an end whose label stands nowhere else: it may have been cut."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        ended = file.read() in b"\r\n"
    if not isinstance(labels, Labels):
        if ended:
            return ()
        return (f"{path}: the last line, {str(raw[-1])!r}, has no end; was the file cut?",)
    last = int(labels.codes[-1])
    if ended or last < 0 or np.count_nonzero(labels.codes == last) > 1:
        return ()
    return (
        f"{path}: the last line has no end, and its label {labels.names[last]!r} stands on no "
        "other line; was the file cut?",
    )


def _label_columns(
    path: Path, names: list[str], id_column: str | None, label_column: str | None
) -> tuple[str | None, str]:
    """Id column, or None, and label column."""
    given = [name for name in (id_column, label_column) if name is not None]
    files.check_columns(path, names, given)
    if len(set(given)) < len(given):
        raise ValueError(
            f"{path}: id and label are both column {id_column!r}; expected two columns"
        )
    label_column = label_column or first_named([n for n in names if n != id_column], ("label",))
    id_column = id_column or first_named([n for n in names if n != label_column], ID_NAMES)
    free = [name for name in names if name not in (id_column, label_column)]
    if label_column is None and id_column is None and len(free) == 2:
        id_column, label_column = free
    elif label_column is None and len(free) == 1:
        (label_column,) = free
    elif label_column is not None and id_column is None and len(free) == 1:
        (id_column,) = free
    elif label_column is None or (id_column is None and free):
        what = "label" if label_column is None else "id"
        raise ValueError(
            f"{path}: which column is the {what}? found {names}; name it with "
            f"{what}_column (--{what}-column)"
        )
    return id_column, label_column

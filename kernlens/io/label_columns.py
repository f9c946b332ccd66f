"""The column of labels in a delimited text or Parquet file, and the ids of its rows."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files
from kernlens.io import roles, sheets
from kernlens.io.columns import (
    check_ids,
    open_parquet,
    pandas_index,
    plain,
    read_ids,
    read_table,
    whole_numbers,
)
from kernlens.io.limits import LIMITS, Limits
from kernlens.io.stored import choose_reader

SWAPPED = "are the two files swapped? The embedding comes first, and --labels names the labels"
"""What is asked where the file of labels looks like an embedding."""

_MANY = 8
"""Columns of numbers from which on a file without a label looks like an embedding."""

_LOOKED_AT = 100
"""Rows that are looked at for it."""


class LabelColumn(NamedTuple):
    """A column of a label file, before anything is made of it.

    Attributes:
      values: values of each row, text, numbers or lists, None where there is none, ``[m]``.
      ids: as those of :class:`kernlens.io.labels.LabelFile`.
      name: name of the column.
      notes: what a reader should look at.
      told: what was taken for ids and label.
      typed: whether the file says that text is text; where it does not, text may be numbers.
    """

    values: list[Any]
    ids: np.ndarray | None
    name: str
    notes: tuple[str, ...]
    told: str
    typed: bool


def read_label_column(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    by_row: bool = False,
    limits: Limits = LIMITS,
) -> LabelColumn:
    """The column of a label file and its ids, as they stand there.

    Args:
      path: as that of :func:`kernlens.io.labels.read_labels`.
      id_column: as there.
      label_column: as there.
      by_row: as there.
      limits: as there.

    Returns:
      LabelColumn.

    Raises:
      FileNotFoundError, ValueError, ImportError: as there.
    """
    path = files.existing(path)
    text = dict.fromkeys((".csv", ".csv.gz", ".tsv", ".tsv.gz"), _read_text)
    read = choose_reader(path, {**text, ".parquet": _read_parquet})
    return read(path, id_column, label_column, by_row, limits)


def _read_parquet(
    path: Path, id_column: str | None, label_column: str | None, by_row: bool, limits: Limits
) -> LabelColumn:
    with open_parquet(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        names = schema.names
        if not rows:
            raise ValueError(f"{path}: no rows; found columns {roles.some(names)}")
        limits.check_shape(path, (rows,), np.dtype(np.int8))
        index, numbers = pandas_index(schema)
        if numbers is not None and (len(numbers) != rows or (not index and numbers == range(rows))):
            index, numbers = None, None

        def values(name: str, most: int | None = None) -> list[Any]:
            return read_table(path, file, [name]).column(name).slice(0, most).to_pylist()

        wanted = (None if numbers is not None and id_column == index else id_column), label_column
        id_column, label_column = _label_columns(path, names, *wanted, by_row, values, index)
        columns = [*([id_column] if id_column in names else []), label_column]
        table = read_table(path, file, columns)
    ids, from_index = None, None
    if by_row:
        id_column = None
    elif id_column is not None and id_column in names:
        ids = read_ids(path, id_column, table.column(id_column), limits)
    elif numbers is not None:
        ids, from_index = np.array(numbers).astype(str), index or "pandas index"
    column = table.column(label_column)
    found, _ = plain(column)
    cells = column.to_pylist() if found is None else found.tolist()
    return LabelColumn(
        cells, ids, label_column, (), _told(from_index or id_column, label_column), True
    )


def _read_text(
    path: Path, id_column: str | None, label_column: str | None, by_row: bool, limits: Limits
) -> LabelColumn:
    known = [name for name in (id_column, label_column) if name]
    sheet = sheets.sniff(path, limits, known=known)
    names, notes = sheet.names, []
    if not sheet.sample:
        raise ValueError(f"{path}: no rows after the header; found columns {roles.some(names)}")
    if not sheet.header:
        notes.append(
            f"no header line: the first line {sheet.sample[0][:4]} counts as a row, and columns "
            "are called 'column 1' and so on"
        )
    if sheet.delimiter not in (",", "\t"):
        notes.append(f"values are separated by a {sheets.DELIMITERS[sheet.delimiter]}")

    def values(name: str, most: int | None = None) -> list[str]:
        place = names.index(name)
        return [row[place] for _, row in itertools.islice(sheets.rows(sheet, limits), most)]

    id_column, label_column = _label_columns(
        path, names, id_column, label_column, by_row, values, None
    )
    files.check_columns(path, names, [label_column, *([id_column] if id_column else [])])
    place, at = names.index(label_column), None if id_column is None else names.index(id_column)
    labels, ids, lines = [], [], []
    for number, row in sheets.rows(sheet, limits):
        labels.append(row[place])
        if at is not None:
            ids.append(row[at])
            lines.append(number)
    found = None
    if at is not None:
        assert id_column is not None
        _check_lines(path, id_column, ids, lines)
        if any("." in text for text in ids):
            ids = whole_numbers(ids) or ids
        found = check_ids(path, id_column, np.array(ids, object), limits)
    told = _told(id_column, label_column)
    return LabelColumn(labels, found, label_column, tuple(notes), told, False)


def _told(ids: str | None, label: str) -> str:
    return f"label {label} ({'by row number' if ids is None else f'id {ids}'})"


def _check_lines(path: Path, column: str, ids: list[str], lines: list[int]) -> None:
    """Refuses a missing id and one that occurs twice, with their lines."""
    seen: dict[str, int] = {}
    for id_, line in zip(ids, lines, strict=True):
        if not id_:
            raise ValueError(f"{path}, line {line}: no id in column {column!r}; expected one")
        other = seen.setdefault(id_, line)
        if other != line:
            raise ValueError(
                f"{path}: {column} {id_[:60]!r} occurs {ids.count(id_)} times, on lines {other}, "
                f"{line}{', ...' if ids.count(id_) > 2 else ''}; expected each id once; is another "
                "column the id? Name it with --id-column"
            )


def _label_columns(
    path: Path,
    names: list[str],
    id_column: str | None,
    label_column: str | None,
    by_row: bool,
    values: Any,
    index: str | None,
) -> tuple[str | None, str]:
    """Id column, or None, and label column."""
    given = [name for name in (id_column, label_column) if name is not None]
    files.check_columns(path, names, given)
    if len(set(given)) < len(given):
        raise ValueError(
            f"{path}: id and label are both column {id_column!r}; expected two columns"
        )
    free = [n for n in names if n not in given and not roles.UNNAMED_INDEX.fullmatch(n)]
    unnamed = next((n for n in names if roles.UNNAMED_INDEX.fullmatch(n)), None)
    exact = [name for name in free if name.lower() in ("id", "ids")]
    by_name = exact[:1] or [name for name in free if roles.is_id_name(name)]
    if id_column is None and len(by_name) == 1 and len(free) + len(given) > 1:
        id_column = by_name[0]
    elif id_column is None and not by_name and (unnamed or index):
        id_column = unnamed or (index if index in names else None)
    if label_column is None:
        label_column = _label_among(path, [n for n in free if n != id_column], id_column, values)
    free = [name for name in free if name not in (id_column, label_column)]
    if id_column is None and index is None and not by_row:
        if len(free) == 1 and len(by_name) == 0:
            (id_column,) = free
        elif free:
            raise _which(path, "id", by_name or free)
    return (None if by_row else id_column), label_column


def _label_among(path: Path, free: list[str], id_column: str | None, values: Any) -> str:
    exact = [name for name in free if name.lower() == "label"]
    if len(exact) == 1:
        return exact[0]
    if len(free) == 1 and (id_column is not None or free[0].lower() not in ("id", "ids")):
        return free[0]
    if id_column is None and len(free) == 2:
        # An id has no value twice, and a label has.
        repeats = [len(set(map(str, found))) < len(found) for found in map(values, free)]
        if repeats[0] != repeats[1]:
            return free[repeats.index(True)]
        if repeats == [False, False]:
            return free[1]
    labels = [name for name in free if roles.is_label_name(name)]
    if id_column is not None and len(labels) == 1 and len(free) == len(labels):
        return labels[0]
    error = _which(path, "label", free)
    raise ValueError(f"{error}; {SWAPPED}") if _are_dimensions(free, values) else error


def _are_dimensions(names: list[str], values: Any) -> bool:
    """Whether columns are those of an embedding: many, none named as a label, all of fractions."""
    if len(names) < _MANY or any(map(roles.is_label_name, names)):
        return False
    # The first may be an id without a name.
    return all(has_fractions(values(name, _LOOKED_AT)) for name in names[1:])


def has_fractions(values: Sequence[Any]) -> bool:
    """Whether values are numbers, as such or as text, and not all of them whole."""
    known = [value for value in values if value not in (None, "")]
    if not all(isinstance(v, int | float) or sheets.is_number(str(v)) for v in known):
        return False
    numbers = np.array(known, np.float64)
    return bool(np.any(numbers[np.isfinite(numbers)] % 1 != 0))


def _which(path: Path, what: str, names: list[str]) -> ValueError:
    return ValueError(
        f"{path}: which column is the {what}? found {roles.some(names)}; name it with "
        f"--{what}-column{', or join by row number with --by-row' if what == 'id' else ''}"
    )

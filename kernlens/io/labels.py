"""Labels from delimited text and Parquet files."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files, targets
from kernlens.io import roles, sheets
from kernlens.io.columns import (
    as_text,
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
from kernlens.types import Labels, Target

_NUMBER = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

MISSING = (
    "", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "null", "NULL", "None",
)  # fmt: skip
"""Texts that other programs write where there is no label."""

_ALL_DIFFERENT = 20
"""Labels of which none occurs twice that are taken for ids."""


class LabelFile(NamedTuple):
    """Rows of a label file.

    Attributes:
      labels: what is predicted of each row: classes, numbers or several labels, ``[m]``.
      ids: id of each row as text, each once, ``[m]``; None for row numbers.
      source: what to call the file in an error.
      notes: what a reader should look at, such as a last line that may have been cut.
      told: what was taken for ids and label.
    """

    labels: Target
    ids: np.ndarray | None = None
    source: str = "labels"
    notes: tuple[str, ...] = ()
    told: str = ""


class LabelColumn(NamedTuple):
    """A column of a label file, before anything is made of it.

    Attributes:
      values: of each row, text, numbers or lists, None where there is none, ``[m]``.
      ids: as those of :class:`LabelFile`.
      name: of the column.
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


def read_labels(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    target: Callable[[Any], Target] = targets.as_target,
    by_row: bool = False,
    missing: Collection[str] | None = None,
    min_class_count: int = 1,
    limits: Limits = LIMITS,
) -> LabelFile:
    """Labels from a file.

    A label is the text that stands there, without blanks around it. In delimited text, labels are
    numbers where each of them is written as one, and ``7.0`` is 7.

    Args:
      path: ``.csv`` or ``.tsv``, also ``.gz`` (UTF-8; separator and header line are found), or
        ``.parquet``. A file of one column has labels and no ids.
      id_column: name of the id column; without it, found as the module's docstring says.
      label_column: name of the label column, likewise.
      target: what the column is made into. The default finds out from the values, and refuses a
        column that may ask two things; :func:`kernlens.targets.labels`, ``values`` and
        ``multi_labels`` are told.
      by_row: pass over ids, so that rows are joined by their number.
      missing: texts that mean that there is no label, besides an empty cell; ``MISSING`` by
        default. Those that occur are told.
      min_class_count: rows of classes with fewer rows lose their label. More than 1 is refused
        where labels are no classes.
      limits: bounds on the longest label and on what a packed file may become.

    Returns:
      LabelFile, with the classes found in sorted order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty or damaged file, a missing column, more columns than
        can be told apart, an ambiguous target, fewer than two classes, a missing or repeated id.
      ImportError: pyarrow is not installed; names the extra.
    """
    path = Path(path)
    found = read_label_column(
        path, id_column=id_column, label_column=label_column, by_row=by_row, limits=limits
    )
    where = f"{path}, column {found.name!r}"
    values, notes = _cells(where, found, MISSING if missing is None else missing, limits)
    try:
        labels = target(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if isinstance(labels, Labels):
        labels, more = _classes(where, labels, min_class_count)
        notes += more
    elif min_class_count > 1:
        raise ValueError(
            f"{where}: --min-class-count {min_class_count} counts rows of classes, and this column "
            "holds none; leave it out, or say --target classes"
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        notes += _cut(path, labels, found.values[-1])
    noted = tuple(f"{path}: {note}" for note in (*found.notes, *notes))
    return LabelFile(labels, found.ids, str(path), noted, found.told)


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
      path: as that of :func:`read_labels`.
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


def check_classes(where: str, names: Sequence[str]) -> None:
    """Refuses fewer than two classes; names where they were looked for."""
    if len(names) < 2:
        raise ValueError(
            f"{where}: found classes {list(names)}; expected two or more; is another column the "
            "label? Name it with --label-column"
        )


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

        def values(name: str) -> list[Any]:
            return read_table(path, file, [name]).column(name).to_pylist()

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

    def values(name: str) -> list[str]:
        place = names.index(name)
        return [row[place] for _, row in sheets.rows(sheet, limits)]

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


def _cells(
    where: str, column: LabelColumn, missing: Collection[str], limits: Limits
) -> tuple[list[Any], list[str]]:
    """Values of a column as a target is made of them, and what counts as no label."""
    values = [value.strip() if isinstance(value, str) else value for value in column.values]
    none: Counter[str] = Counter()
    for row, value in enumerate(values):
        text = _text_of(value)
        if text is not None and (text in missing or text == ""):
            values[row] = None
            none[text] += 1
    known = sorted({value for value in values if isinstance(value, str)})
    as_text(where, known, limits)
    if not column.typed:
        _refuse_unbounded(where, known)
        values = numbers_of_text(values)
    return values, [
        f"{count:,} labels {text!r} count as no label (--missing says which do)"
        for text, count in none.items()
        if text
    ]


def _text_of(value: Any) -> str | None:
    """A label as it is written, "" for NaN; None of what is not one text or number."""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def numbers_of_text(values: Sequence[str | None]) -> list[Any]:
    """Text as Parquet would hold it: integers or floats where all of it is.

    Whole numbers of any length keep their digits. Numbers with zeros in front, such as ``007``,
    are codes, and stay text.

    Args:
      values: text, None where missing, ``[m]``.

    Returns:
      The same values, all of them numbers or all of them text.
    """
    texts = list({value for value in values if value is not None})
    whole = whole_numbers(texts)
    if whole is not None:
        small = all(abs(int(text)) < 2**63 for text in whole)
        made: list[Any] = list(map(int, whole)) if small else list(whole)
    elif all(map(_NUMBER.fullmatch, texts)):
        made = list(map(float, texts))
    else:
        return list(values)
    number_of = dict(zip(texts, made, strict=True))
    return [None if value is None else number_of[value] for value in values]


def _refuse_unbounded(where: str, known: list[str]) -> None:
    """Refuses a text such as ``inf`` among numbers."""
    odd = [t for t in known if not sheets.is_number(t) or not math.isfinite(float(t))]
    if len(odd) == 1 and len(known) > 1 and sheets.is_number(odd[0]):
        raise ValueError(
            f"{where}: {odd[0]!r} stands among labels that are numbers; expected numbers or "
            f"classes; --missing {odd[0]} makes it no label"
        )


def _classes(where: str, labels: Labels, min_class_count: int) -> tuple[Labels, list[str]]:
    """Classes of enough rows, and what a reader should know of them."""
    notes = []
    if labels.names[:1] == ("-1",) and len(labels.names) > 2 and whole_numbers(labels.names):
        notes.append("-1 counts as a class; --missing -1 makes it no label")
    if min_class_count > 1:
        kept = targets.drop_rare(labels, min_class_count)
        rare = len(labels.names) - len(kept.names)
        lost = np.count_nonzero(labels.codes >= 0) - np.count_nonzero(kept.codes >= 0)
        if rare:
            few = f"{rare:,} classes of fewer than {min_class_count} rows"
            notes.append(f"{few} are left out, {lost:,} rows in all")
        labels = kept
    check_classes(where, labels.names)
    counts = np.bincount(labels.codes[labels.codes >= 0])
    if len(counts) >= _ALL_DIFFERENT and counts.max() == 1:
        raise ValueError(
            f"{where}: {len(counts):,} rows hold {len(counts):,} different labels; is it the id? "
            "Name the label with --label-column"
        )
    return labels, notes


def _cut(path: Path, labels: Target, last: Any) -> list[str]:
    """Tells of a last line without an end whose label stands nowhere else: it may have been cut."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        ended = file.read() in b"\r\n"
    if ended:
        return []
    if not isinstance(labels, Labels):
        return [f"the last line, {last!r}, has no end; was the file cut?"]
    code = int(labels.codes[-1])
    if code < 0 or np.count_nonzero(labels.codes == code) > 1:
        return []
    return [
        f"the last line has no end, and its label {labels.names[code]!r} stands on no other line; "
        "was the file cut?"
    ]


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
    raise _which(path, "label", free)


def _which(path: Path, what: str, names: list[str]) -> ValueError:
    return ValueError(
        f"{path}: which column is the {what}? found {roles.some(names)}; name it with "
        f"--{what}-column{', or join by row number with --by-row' if what == 'id' else ''}"
    )

"""Columns of a log of events: Parquet, delimited text or JSON lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files
from kernlens.io import packed, roles, sheets
from kernlens.io.columns import open_parquet, read_table, reading, text_column
from kernlens.io.limits import LIMITS
from kernlens.io.stored import suffix_of

_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz")
SUFFIXES = (".parquet", *_TEXT, *_LINES)
NAMES = {
    "user": ("user_id", "userid", "user", "customer_id", "visitor_id", "visitorid", "household_id"),
    "item": ("item_id", "itemid", "item", "product_id", "productid", "movieid", "sku",
             "parent_asin", "asin", "article_id", "track_id"),
    "time": ("timestamp", "time", "event_time", "datetime", "date", "t_dat", "created_at", "ts"),
    "session": ("session_id", "sessionid", "session", "basket_id", "order_id", "visit_id"),
}  # fmt: skip
"""Names of columns that are known without being told, in any case; the first found counts."""

_INTEGERS, _FLOATS, _STRINGS = "int64", "float64", "string"


class Column(NamedTuple):
    """A column of events.

    Attributes:
      values: integers, floats, dates or text, ``[n]``; unspecified where missing.
      missing: which rows have none, bool ``[n]``.
    """

    values: np.ndarray
    missing: np.ndarray


def chosen(
    path: Path, role: str, name: str | None, found: Sequence[str], *, needed: bool = False
) -> str | None:
    """The column of a role, as named or by a usual name.

    Args:
      path: file, for the errors.
      role: a key of ``NAMES``.
      name: as the user named it, or None to find it.
      found: names of the columns.
      needed: whether one that is not found is refused; those of users and items always are.

    Returns:
      Its name, or None.

    Raises:
      ValueError: a name that is not there, or a needed column that is not found.
    """
    if name is not None:
        files.check_columns(path, found, [name])
        return name
    lower = {own.lower(): own for own in reversed(found)}
    usual = next((lower[own] for own in NAMES[role] if own in lower), None)
    if usual is None and (needed or role in ("user", "item")):
        raise ValueError(
            f"{path}: which column holds the {role}s? found {list(found)[:12]}; name it with "
            f"{role}= (--{role})"
        )
    return usual


def names_of(path: Path) -> list[str]:
    """Names of the columns of a file, of its first record in JSON lines."""
    kind = suffix_of(path)
    if kind == ".parquet":
        with open_parquet(path) as file:
            return list(file.schema_arrow.names)
    if kind in _TEXT:
        return sheets.sniff(path).names
    for _, record in _records(path):
        return list(record)
    raise ValueError(f"{path}: empty file; expected a JSON object on each line")


def read(
    paths: Sequence[Path], names: Sequence[str], *, texts: Sequence[str] = ()
) -> dict[str, Column]:
    """Columns of a log in one file or several.

    Args:
      paths: files of one format, ``SUFFIXES``.
      names: of the columns.
      texts: those that delimited text gives as text whatever they hold, such as ids with zeros in
        front.

    Returns:
      Columns by name; integers where all rows allow it, dates as milliseconds.

    Raises:
      ValueError: a missing column, a damaged or malformed file, values that are no text, number or
        date.
    """
    names = list(names)
    parts = [_read(path, names, texts) for path in paths]
    return {name: _joined([part[name] for part in parts]) for name in names}


def _joined(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    kinds = {part.values.dtype.kind for part in parts}
    values = [part.values.astype(str) if kinds & {"U", "O"} else part.values for part in parts]
    return Column(np.concatenate(values), np.concatenate([part.missing for part in parts]))


def _read(path: Path, names: list[str], texts: Sequence[str]) -> dict[str, Column]:
    kind = suffix_of(path)
    if kind == ".parquet":
        with open_parquet(path) as file:
            LIMITS.check_shape(path, (file.metadata.num_rows,), np.dtype(np.int8))
            found = read_table(path, file, names)
        return {name: _of_arrow(path, name, found.column(name)) for name in names}
    if kind in _TEXT:
        return read_text(path, names, texts=texts)
    records = [record for _, record in _records(path)]
    return {name: _of_list(path, name, [one.get(name) for one in records]) for name in names}


def read_text(path: Path, names: Sequence[str], *, texts: Sequence[str] = ()) -> dict[str, Column]:
    """Columns of delimited text, packed or not: integers, floats or text, as all rows allow.

    Args:
      path: file.
      names: of the columns.
      texts: those that stay text whatever they hold.

    Returns:
      Columns by name.

    Raises:
      ValueError: a missing column, a malformed line, damaged packing.
    """
    names = list(names)
    arrow, reader = files.optional("pyarrow"), files.optional("pyarrow.csv")
    sheet = sheets.sniff(path, known=names)
    files.check_columns(path, sheet.names, names)
    types = {name: roles.TEXT if name in texts else sheet.kind(name) for name in names}
    wanted = {name: {"integer": _INTEGERS, "float": _FLOATS}.get(types[name], _STRINGS)
              for name in names}  # fmt: skip
    for kinds in (wanted, dict.fromkeys(names, _STRINGS)):
        with reading(path, "text"), packed.open_bytes(path) as source:
            try:
                found = reader.read_csv(
                    arrow.PythonFile(source, mode="r"),
                    read_options=reader.ReadOptions(skip_rows=sheet.skip, column_names=sheet.names),
                    parse_options=reader.ParseOptions(
                        delimiter=sheet.delimiter, newlines_in_values=True
                    ),
                    convert_options=reader.ConvertOptions(
                        include_columns=names,
                        column_types={name: getattr(arrow, kinds[name])() for name in names},
                        null_values=["", "NaN", "nan", "NULL", "null"],
                        strings_can_be_null=True,
                    ),
                )
            except arrow.ArrowInvalid as error:
                # The first rows looked like numbers, and a later one is none.
                if kinds is wanted and "conversion error" in str(error):
                    continue
                raise
        return {name: _of_arrow(path, name, found.column(name)) for name in names}
    raise AssertionError("text can be read as text")


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(packed.lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: found {line[:60]!r}; expected one JSON object a line: "
                f"{error}"
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: found {line[:60]!r}; expected a JSON object")
        yield number, record


def _of_arrow(path: Path, name: str, column: Any) -> Column:
    """A column as NumPy values; times as milliseconds since 1970."""
    arrow, compute = files.optional("pyarrow"), files.optional("pyarrow.compute")
    kinds = arrow.types
    with reading(path, "table"):
        column = text_column(column)
        if kinds.is_timestamp(column.type) or kinds.is_date(column.type):
            column = column.cast(arrow.timestamp("ms"), safe=False)
        missing = np.asarray(column.is_null(nan_is_null=True))
        if kinds.is_large_string(column.type):
            column = compute.fill_null(column, "")
            missing |= np.asarray(compute.equal(compute.utf8_trim_whitespace(column), ""))
            values = column.to_numpy()
        elif kinds.is_timestamp(column.type):
            values = column.to_numpy().astype("datetime64[ms]")
        elif kinds.is_integer(column.type):
            values = compute.fill_null(column, 0).to_numpy()
        elif kinds.is_floating(column.type):
            values = compute.fill_null(column, np.nan).to_numpy()
        elif kinds.is_boolean(column.type):
            values = compute.fill_null(column, False).to_numpy().astype(np.int64)
        else:
            raise ValueError(f"{path}: column {name!r} is {column.type}; expected text or numbers")
    return _whole(values, missing)


def _of_list(path: Path, name: str, values: list[Any]) -> Column:
    types = {type(value) for value in values if value is not None}
    if types & {list, dict}:
        raise ValueError(f"{path}: field {name!r} holds lists or objects; expected text or numbers")
    missing = np.array([value is None or value == "" for value in values], bool)
    if types <= {int}:
        return Column(np.array([value or 0 for value in values], np.int64), missing)
    if types <= {int, float}:
        numbers = np.array([np.nan if value is None else value for value in values], np.float64)
        return _whole(numbers, missing | np.isnan(numbers))
    return Column(
        np.array(["" if value is None else str(value) for value in values], object), missing
    )


def _whole(values: np.ndarray, missing: np.ndarray) -> Column:
    """Integers that gaps made floats of are integers again."""
    if values.dtype.kind != "f":
        return Column(values, missing)
    known = values[~missing]
    if not np.all((known == np.round(known)) & (np.abs(known) <= 2.0**53)):
        return Column(values, missing)
    return Column(np.where(missing, 0, values).astype(np.int64), missing)

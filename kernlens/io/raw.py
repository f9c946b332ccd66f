"""Reading raw files: where they are, what they hold, and one clear error when that is not so.

Column types are written ``"int32"``, ``"int64"``, ``"float64"``, ``"string"`` and
``"timestamp"``, which becomes seconds since 1970. A question mark after the type ("float64?") lets
a value be missing.
"""

import csv
import datetime
import functools
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files

_SEPARATOR = "\x1f"  # stands in for separators of two characters, which Arrow does not split at


def read_csv(
    path: str | Path,
    columns: Mapping[str, str],
    *,
    names: Sequence[str] | None = None,
    delimiter: str = ",",
    quoted: bool = True,
    encoding: str = "utf-8",
    unique: str | None = None,
) -> dict[str, Any]:
    """Columns of a delimited text file.

    Args:
      path: file.
      columns: type of each column to read, by name.
      names: all column names, for a file without a header line.
      delimiter: between two values of a line; ``"::"`` is understood.
      quoted: whether values may stand in double quotes.
      encoding: of the text.
      unique: a column that may hold each value only once.

    Returns:
      Arrow columns by name, ``[rows]`` each; a missing string is the empty string.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an empty file, a missing column, a malformed line, or a repeated id.
    """
    path = files.existing(path)
    arrow, arrow_csv = files.optional("pyarrow"), files.optional("pyarrow.csv")
    found = list(names) if names is not None else header(path, delimiter, quoted, encoding)
    files.check_columns(path, found, list(columns))
    types = {
        name: arrow.timestamp("s") if kind == "timestamp" else getattr(arrow, kind.rstrip("?"))()
        for name, kind in columns.items()
    }
    fault = functools.partial(
        _fault, path, columns, found, names is None, delimiter, quoted, encoding
    )
    data: Any = str(path)
    if len(delimiter) > 1:
        data = path.read_bytes().replace(delimiter.encode(), _SEPARATOR.encode())
        data = arrow.BufferReader(data)
    try:
        table = arrow_csv.read_csv(
            data,
            read_options=arrow_csv.ReadOptions(
                column_names=found, skip_rows=int(names is None), encoding=encoding
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter if len(delimiter) == 1 else _SEPARATOR,
                quote_char='"' if quoted else False,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns), column_types=types, null_values=[""]
            ),
        )
    except (arrow.ArrowException, UnicodeError) as error:
        if path.stat().st_size == 0 or "Empty CSV" in str(error):
            raise ValueError(f"{path}: empty file; expected lines of {found}") from None
        raise fault(error) from error
    if table.num_rows == 0:
        raise ValueError(f"{path}: no rows after the header; expected lines of {found}")
    result = {name: table.column(name) for name in columns}
    for name, kind in columns.items():
        if kind == "timestamp":
            result[name] = result[name].cast(arrow.int64())
    if any(_missing(result[name], kind) for name, kind in columns.items() if kind[-1] != "?"):
        raise fault("a value is missing")
    if unique is not None:
        lines = functools.partial(_lines, path, names is None, delimiter, quoted, encoding)
        files.check_unique(path, plain(result[unique]), unique, lines)
    return result


def header(path: Path, delimiter: str, quoted: bool, encoding: str) -> list[str]:
    """Column names on the first line of a delimited text file; an empty file is a ValueError."""
    for _, fields in _records(path, delimiter, quoted, encoding):
        return fields
    raise ValueError(f"{path}: empty file; expected a header line")


def read_parquet(path: str | Path, columns: Mapping[str, str]) -> dict[str, Any]:
    """Columns of a Parquet file; no other column is read.

    Args:
      path: file.
      columns: type of each column to read, by name.

    Returns:
      Arrow columns by name, ``[rows]`` each; timestamps as int64 seconds since 1970.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a whole Parquet file, no rows, a missing column, one of another type, or a
        missing value where one is required.
    """
    path = files.existing(path)
    arrow, parquet = files.optional("pyarrow"), files.optional("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            files.check_columns(path, file.schema_arrow.names, list(columns))
            table = file.read(columns=list(columns))
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: not a whole Parquet file (truncated or damaged?): {error}"
        ) from error
    if table.num_rows == 0:
        raise ValueError(f"{path}: no rows; expected columns {list(columns)}")
    result = {}
    for name, kind in columns.items():
        column, wanted = table.column(name), kind.rstrip("?")
        if kind[-1] != "?" and column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise ValueError(f"{path}, row {row}: no {name}; expected {wanted}")
        result[name] = _cast(path, name, column, wanted)
    return result


def _cast(path: Path, name: str, column: Any, wanted: str) -> Any:
    """A Parquet column as the wanted type, or an error that names both."""
    arrow = files.optional("pyarrow")
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    allowed = {
        "string": (kinds.is_string, kinds.is_large_string),
        "timestamp": (kinds.is_timestamp, kinds.is_date),
        "int64": (kinds.is_integer,),
        "int32": (kinds.is_integer,),
        "float64": (kinds.is_floating, kinds.is_integer),
    }[wanted]
    if not any(check(column.type) for check in allowed):
        raise ValueError(f"{path}: column {name!r} is {column.type}; expected {wanted}")
    if wanted == "timestamp":
        return column.cast(arrow.timestamp("s"), safe=False).cast(arrow.int64())
    return column.cast(getattr(arrow, wanted)())


def plain(column: Any) -> np.ndarray:
    """An Arrow column as a NumPy array: numbers as they are, strings as ``str`` of fixed width."""
    if "string" in str(column.type):  # Arrow would import pandas, which takes half a second
        return np.array(["" if value is None else value for value in column.to_pylist()], str)
    return column.to_numpy()


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text file, gzip-packed where its name ends in ``.gz``.

    Args:
      path: file.

    Yields:
      Line number from 1 and the line; blank lines are passed over.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a truncated or damaged gzip file, or a line that is not UTF-8.
    """
    path = files.existing(path)
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8").strip()
                if line:
                    yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: truncated or damaged gzip file after line {number}: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: {error}; expected UTF-8 text") from error


def _missing(column: Any, kind: str) -> bool:
    """Whether a required column lacks a value."""
    if column.null_count:
        return True
    if kind == "float64":
        return not bool(np.isfinite(column.to_numpy()).all())
    if kind == "string":
        compute = files.optional("pyarrow.compute")
        return bool(compute.any(compute.equal(compute.binary_length(column), 0)).as_py())
    return False


def _records(
    path: Path, delimiter: str, quoted: bool, encoding: str
) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of each line that is not blank."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: {error}; expected {encoding} text"
                ) from error
            line = line.rstrip("\r\n")
            if not line:
                continue
            if not quoted or '"' not in line:
                yield number, line.split(delimiter)
                continue
            try:
                fields = next(csv.reader([line], delimiter=delimiter))
            except csv.Error as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            yield number, fields


def _lines(
    path: Path, has_header: bool, delimiter: str, quoted: bool, encoding: str
) -> Iterator[int]:
    """Line number of each row."""
    records = _records(path, delimiter, quoted, encoding)
    if has_header:
        next(records, None)
    return (number for number, _ in records)


def _fault(
    path: Path,
    columns: Mapping[str, str],
    found: Sequence[str],
    has_header: bool,
    delimiter: str,
    quoted: bool,
    encoding: str,
    cause: object,
) -> ValueError:
    """The error for the first malformed line, found by a second, slow reading of the file."""
    try:
        for number, fields in _records(path, delimiter, quoted, encoding):
            if has_header:
                has_header = False
                continue
            if len(fields) != len(found):
                return ValueError(
                    f"{path}, line {number}: found {len(fields)} values {fields[:8]}, expected "
                    f"{len(found)}: {list(found)}"
                )
            for name, kind in columns.items():
                value = fields[found.index(name)]
                if not _readable(value, kind):
                    return ValueError(
                        f"{path}, line {number}, column {name!r}: found {value!r}, expected "
                        f"{kind.rstrip('?')}"
                    )
    except ValueError as error:
        return error
    return ValueError(f"{path}: {cause}")


def _readable(value: str, kind: str) -> bool:
    """Whether a value of a text file is one of the given type."""
    if value == "":
        return kind[-1] == "?"
    kind = kind.rstrip("?")
    if kind == "string":
        return True
    try:
        if kind == "timestamp":
            return bool(datetime.datetime.fromisoformat(value))
        if kind == "float64":
            return math.isfinite(float(value))
        return abs(int(value)) < 2 ** (31 if kind == "int32" else 63)
    except ValueError:
        return False

"""What both kinds of file share: Parquet columns as NumPy arrays, and ids."""

from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files

ID_NAMES = ("id", "__index_level_0__")
"""Columns that are ids without being told; the second is pandas' saved index."""


def first_named(names: Any, wanted: tuple[str, ...]) -> str | None:
    """The first column with one of the wanted names, in any case."""
    return next((name for name in names if name.lower() in wanted), None)


def open_parquet(path: Path, *, buffer_size: int = 0) -> Any:
    """The file as a context manager; a damaged one is a ValueError.

    Args:
      path: file.
      buffer_size: bytes of a column held at a time, for reading in batches; 0 for whole row groups.
    """
    arrow, parquet = files.optional("pyarrow"), files.optional("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path, buffer_size=buffer_size, pre_buffer=not buffer_size)
    except (arrow.ArrowException, OSError) as error:
        raise damaged(path, error) from error


def read_table(path: Path, file: Any, columns: list[str]) -> Any:
    """Columns of an open Parquet file; a missing or damaged one, or no rows, is a ValueError."""
    arrow = files.optional("pyarrow")
    files.check_columns(path, file.schema_arrow.names, columns)
    try:
        table = file.read(columns=columns)
    except (arrow.ArrowException, OSError) as error:
        raise damaged(path, error) from error
    if table.num_rows == 0:
        raise ValueError(f"{path}: no rows; found columns {file.schema_arrow.names}")
    return table


def plain(column: Any) -> tuple[np.ndarray | None, bool]:
    """An Arrow column as NumPy values.

    Args:
      column: text, numbers or truth values, dictionary-coded or not.

    Returns:
      Values ``[n]`` with None or NaN where missing, or None for a column of another type; and
      whether all of its numbers are integers.
    """
    arrow = files.optional("pyarrow")
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return column.to_numpy(), True
    if kinds.is_floating(kind):
        values = column.to_numpy().astype(np.float64)
        return values, _whole(values)
    if kinds.is_boolean(kind) or kinds.is_integer(kind):
        if not column.null_count:
            return column.to_numpy(), True
        return np.array(column.to_pylist(), object), True
    return None, True


def read_ids(path: Path, name: str, column: Any) -> np.ndarray:
    """Ids as text.

    Args:
      path: file, for the error.
      name: of the column, for the error.
      column: Arrow column of text, integers, or floats that are whole.

    Returns:
      Ids, str ``[n]``.

    Raises:
      ValueError: another type, a missing id, or an id that occurs twice, with its rows.
    """
    values, whole = plain(column)
    if values is None or not whole or values.dtype.kind == "b":
        raise ValueError(f"{path}: id column {name!r} is {column.type}; expected text or integers")
    return check_ids(path, name, values)


def array_ids(path: Path, name: str, values: np.ndarray, rows: int) -> np.ndarray:
    """Ids as text, out of a NumPy array.

    Args:
      path: file, for the error.
      name: of the array, for the error.
      values: text (str or UTF-8), integers, or floats that are whole, ``[n]``.
      rows: how many there have to be.

    Returns:
      Ids, str ``[n]``.

    Raises:
      ValueError: another shape or type, a missing id, or an id that occurs twice, with its rows.
    """
    if values.shape != (rows,):
        raise ValueError(f"{path}: ids {name!r} have shape {values.shape}; expected ({rows},)")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    kind = values.dtype.kind
    if kind not in "OUiuf" or (kind == "f" and not _whole(values)):
        raise ValueError(f"{path}: ids {name!r} are {values.dtype}; expected text or integers")
    return check_ids(path, name, values)


def check_ids(path: Path | str, name: str, values: np.ndarray) -> np.ndarray:
    """Ids as text; a missing id, or one that occurs twice, is a ValueError with its rows."""
    if values.dtype.kind in "OU":
        missing = np.array([value is None or value == "" for value in values.tolist()], bool)
    else:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    if missing.any():
        raise ValueError(f"{path}, row {np.argmax(missing)}: no id in column {name!r}")
    if values.dtype.kind == "f":
        values = values.astype(np.int64)
    ids = values.astype(str)
    ordered = np.sort(ids)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        rows = np.flatnonzero(ids == repeated[0])
        raise ValueError(
            f"{path}: {name} {str(repeated[0])!r} occurs {len(rows)} times, in rows "
            f"{', '.join(map(str, rows[:5]))}; expected each id once"
        )
    return ids


def _whole(values: np.ndarray) -> bool:
    """Whether all numbers that are there are integers.

    Beyond 2^53 not every integer has a float, so the text of one would be a guess.
    """
    known = values[~np.isnan(values)]
    return bool(np.all((known == np.round(known)) & (np.abs(known) <= 2.0**53)))


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that Arrow cannot read."""
    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
    return ValueError(f"{path}: not a whole {kind} file (truncated or damaged?): {error}")

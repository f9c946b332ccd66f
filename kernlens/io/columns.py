"""What both kinds of file share: Arrow columns as NumPy arrays, and ids as text."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io.limits import LIMITS, Limits

_POINT = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?", re.ASCII)
_WIDE_BYTES = 2**26


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns what a library raises over a damaged file into a ValueError that names the file."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if str(path) in str(error):
            raise
        raise damaged(path, kind, error) from error
    except MemoryError as error:
        raise ValueError(f"{path}: needs more memory than there is: {error}") from error
    except (EOFError, KeyError, OSError, OverflowError, RuntimeError, TypeError) as error:
        raise damaged(path, kind, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "pyarrow":
            raise
        raise damaged(path, kind, error) from error


def damaged(path: Path, kind: str, error: BaseException) -> ValueError:
    """The error for a file that its library cannot read."""
    told = str(error) or type(error).__name__
    return ValueError(f"{path}: not a whole {kind} file (truncated or damaged?): {told}")


def open_parquet(path: Path, *, buffer_size: int = 0) -> Any:
    """The file as a context manager; a damaged one is a ValueError.

    Args:
      path: file.
      buffer_size: bytes of a column held at a time, for reading in batches; 0 for whole row groups.
    """
    parquet = files.optional("pyarrow.parquet")
    with reading(path, "Parquet"):
        return parquet.ParquetFile(path, buffer_size=buffer_size, pre_buffer=not buffer_size)


def read_table(path: Path, file: Any, columns: list[str]) -> Any:
    """Columns of an open Parquet file; a missing or damaged one is a ValueError."""
    files.check_columns(path, file.schema_arrow.names, columns)
    with reading(path, "Parquet"):
        table = file.read(columns=columns)
        table.validate(full=True)
    return table


def pandas_index(schema: Any) -> tuple[str | None, range | None]:
    """The index that pandas saved with a table.

    Args:
      schema: Arrow schema with its metadata.

    Returns:
      Its name, and its values where they stand in the metadata alone; the name is ``""`` where it
      has none, and None where there is no single index.
    """
    try:
        found = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        (index,) = found
        if isinstance(index, str):
            return (index, None) if index in schema.names else (None, None)
        values = range(int(index["start"]), int(index["stop"]), int(index["step"]))
        return str(index["name"] or ""), values
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None, None


def text_column(column: Any) -> Any:
    """An Arrow column without dictionary, views or bytes: text where it is that."""
    arrow = files.optional("pyarrow")
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        chunks = column.chunks if isinstance(column, arrow.ChunkedArray) else [column]
        # By hand, for Arrow does not unpack a dictionary of views.
        decoded = [text_column(chunk.dictionary).take(chunk.indices) for chunk in chunks]
        column = arrow.chunked_array(decoded, None if decoded else column.type.value_type)
    if is_text(column.type) or kinds.is_binary(column.type) or kinds.is_large_binary(column.type):
        return column.cast(arrow.large_string())
    return column


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text; a dictionary of text too."""
    kinds = files.optional("pyarrow").types
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def plain(column: Any) -> tuple[np.ndarray | None, bool]:
    """An Arrow column as NumPy values.

    Args:
      column: text, numbers or truth values, dictionary-coded or not.

    Returns:
      Values ``[n]`` with None or NaN where missing, or None for a column of another type; and
      whether all of its numbers are integers.
    """
    kinds = files.optional("pyarrow").types
    column = text_column(column)
    kind = column.type
    if kinds.is_large_string(kind):
        return column.to_numpy(), True
    if kinds.is_floating(kind):
        values = column.to_numpy().astype(np.float64)
        return values, _whole(values)
    if kinds.is_boolean(kind) or kinds.is_integer(kind):
        if not column.null_count:
            return column.to_numpy(), True
        return np.array(column.to_pylist(), object), True
    return None, True


def read_ids(path: Path, name: str, column: Any, limits: Limits = LIMITS) -> np.ndarray:
    """Ids as text.

    Args:
      path: file, for the error.
      name: name of the column, for the error.
      column: Arrow column of text, integers, or floats that are whole.
      limits: bounds the longest.

    Returns:
      Ids, str ``[n]``.

    Raises:
      ValueError: another type, a missing id, or an id that occurs twice, with its rows.
    """
    with reading(path, "table"):
        values, whole = plain(column)
    if values is None or not whole or values.dtype.kind == "b":
        raise ValueError(
            f"{path}: id column {name!r} is {column.type}{'' if whole else ' with fractions'}; "
            "expected text or integers; name another with --id-column"
        )
    return check_ids(path, name, values, limits)


def array_ids(
    path: Path, name: str, values: np.ndarray, rows: int, limits: Limits = LIMITS
) -> np.ndarray:
    """Ids as text, out of a NumPy array.

    Args:
      path: file, for the error.
      name: name of the array, for the error.
      values: text (str or UTF-8), integers, or floats that are whole, ``[n]``.
      rows: how many there have to be.
      limits: bounds the longest.

    Returns:
      Ids, str ``[n]``.

    Raises:
      ValueError: another shape or type, a missing id, or an id that occurs twice, with its rows.
    """
    if values.shape != (rows,):
        raise ValueError(f"{path}: ids {name!r} have shape {values.shape}; expected ({rows},)")
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: ids {name!r}: {error}; expected UTF-8") from error
    kind = values.dtype.kind
    if kind not in "OUiuf" or (kind == "f" and not _whole(values)):
        raise ValueError(f"{path}: ids {name!r} are {values.dtype}; expected text or integers")
    return check_ids(path, name, values, limits)


def check_ids(
    path: Path | str, name: str, values: np.ndarray, limits: Limits = LIMITS
) -> np.ndarray:
    """Ids as text; a missing id, or one that occurs twice, is a ValueError with its rows."""
    if values.dtype.kind in "OU":
        known = values.tolist()
        missing = np.array([value is None or value == "" for value in known], bool)
    else:
        known, missing = None, np.isnan(values) if values.dtype.kind == "f" else None
    if missing is not None and missing.any():
        raise ValueError(
            f"{path}, row {np.argmax(missing)}: no id in column {name!r}; fill it, or name another "
            "with --id-column"
        )
    if values.dtype.kind == "f":
        values = values.astype(np.int64)
    ids = values.astype(str) if known is None else as_text(f"{path}, id {name!r}", known, limits)
    ordered = np.sort(ids)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        rows = np.flatnonzero(ids == repeated[0])
        raise ValueError(
            f"{path}: {name} {str(repeated[0])!r} occurs {len(rows)} times, in rows "
            f"{', '.join(map(str, rows[:5]))}; expected each id once; is another column the id? "
            "Name it with --id-column"
        )
    return ids


def as_text(where: str, values: Sequence[Any], limits: Limits = LIMITS) -> np.ndarray:
    """Text in an array; of fixed width, unless that would cost far more than the text itself.

    Raises:
      ValueError: a text that is too long, or that holds the character 0, which NumPy drops.
    """
    texts = [str(value) for value in values]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    longest = int(lengths.max(initial=0))
    limits.check_text(where, longest)
    bad = next((row for row, text in enumerate(texts) if "\0" in text), None)
    if bad is not None:
        raise ValueError(f"{where}, row {bad}: {texts[bad]!r} holds the character 0; expected text")
    if 4 * longest * len(texts) > _WIDE_BYTES + 16 * int(lengths.sum()):
        found = np.empty(len(texts), object)
        found[:] = texts
        return found
    return np.array(texts, str)


def whole_numbers(texts: Sequence[str]) -> list[str] | None:
    """Texts of whole numbers without a point, ``100.0`` as ``100``; None where one is no such text.

    The digits are kept as they are written: beyond 2^53 not every integer has a float.
    """
    if not all(map(_POINT.fullmatch, texts)):
        return None
    found = [text.partition(".")[0].removeprefix("+") for text in texts]
    return ["0" if text == "-0" else text for text in found]


def _whole(values: np.ndarray) -> bool:
    """Whether all numbers that are there are integers.

    Beyond 2^53 not every integer has a float, so the text of one would be a guess.
    """
    known = values[~np.isnan(values)]
    return bool(np.all((known == np.round(known)) & (np.abs(known) <= 2.0**53)))

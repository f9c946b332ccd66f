"""Cells: the values of a column in one NumPy array, the missing ones marked."""

import datetime
import itertools
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from kernlens.arrays.libraries import array, columns, is_array, is_column, listed, values_of

BOOL, NUMBER, TEXT, TIME = "bool", "numbers", "text", "dates or times"
ROWS, MIXED = "collections", "objects"
"""Kinds of cells. ``MIXED`` are of several kinds, or of none of the others: their text counts."""

_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


class Cells(NamedTuple):
    """A column.

    Attributes:
      values: bool, integers, floats or text, dates or objects, ``[n]``; unspecified where missing.
      missing: whether a row holds None, NaN, NA, NaT or the empty string, bool ``[n]``.
      kind: kind of all values that are not missing, such as ``NUMBER``.
    """

    values: np.ndarray
    missing: np.ndarray
    kind: str

    @property
    def present(self) -> np.ndarray:
        """The values that are not missing."""
        return self.values[~self.missing] if self.missing.any() else self.values

    @property
    def is_whole(self) -> bool:
        """Whether no value is a number with a fraction."""
        present = self.present
        return present.dtype.kind != "f" or bool(np.all(present == np.floor(present)))

    def __str__(self) -> str:
        present = self.present
        return f"{self.kind}, such as {present[0]!s}" if present.size else "no value"


class Table(NamedTuple):
    """Columns of one length.

    Attributes:
      names: of the columns; their numbers where they have none.
      columns: cells ``[n]`` each.
    """

    names: tuple[str, ...]
    columns: tuple[Cells, ...]


class RaggedCells(NamedTuple):
    """Collections of values, one per row.

    Attributes:
      lengths: number of values of each row, ``[n]``; 0 where missing.
      cells: the values, row after row.
      missing: whether a row has no collection, bool ``[n]``.
    """

    lengths: np.ndarray
    cells: Cells
    missing: np.ndarray

    @property
    def row_numbers(self) -> np.ndarray:
        """Row of each value."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def read(x: Any) -> Cells | Table | RaggedCells:
    """Reads one value, or one collection of them, per row.

    Args:
      x: an array or tensor ``[n]`` or ``[n, C]``, a list, a Series or DataFrame of pandas or
        polars, an array or table of pyarrow. Lists of numbers, all of one length, are a matrix.

    Returns:
      Cells for one column, Table for a matrix or table, RaggedCells for other collections.

    Raises:
      ValueError: anything else; numbers that are infinite or complex; values that do not go
        together; collections of collections.
    """
    table = columns(x)
    if table is not None:
        return Table(
            tuple(column.name for column in table),
            tuple(cells_of(values_of(column.values)) for column in table),
        )
    if isinstance(x, np.ma.MaskedArray):
        x = np.array(x.tolist(), object).reshape(x.shape)  # None where masked
    if is_column(x):
        x = values_of(x)
    elif is_array(x):
        x = np.asarray(array(x))
    if not isinstance(x, np.ndarray):
        x = listed(x, expected="one value per row")
    elif x.ndim == 2:
        return _table([cells_of(column) for column in x.T])
    elif x.ndim != 1:
        raise ValueError(f"expected one value per row, [n]; got shape {x.shape}")
    cells = cells_of(x)
    return _rows(cells) if cells.kind == ROWS else cells


def cells_of(x: np.ndarray | Sequence) -> Cells:
    """Cells of an array ``[n]`` or of a list; raises what :func:`read` does."""
    if not isinstance(x, np.ndarray) or x.dtype.kind in "OST":
        return _cells_of_objects(x.tolist() if isinstance(x, np.ndarray) else list(x))
    present = np.zeros(x.shape, bool)
    if x.dtype.kind == "b":
        return Cells(x, present, BOOL)
    if x.dtype.kind == "U":
        return Cells(x, x == "", TEXT)
    if x.dtype.kind in "Mm":
        return Cells(x, np.isnat(x), TIME)
    if _is_number(x.dtype, "int"):
        return Cells(x if x.dtype.kind in "iu" else x.astype(np.int64), present, NUMBER)
    if _is_number(x.dtype, "float"):
        return numeric(x if x.dtype.kind == "f" else x.astype(np.float32))
    raise ValueError(f"expected text, numbers or bool; got dtype {x.dtype}")


def _is_number(dtype: np.dtype, kind: str) -> bool:
    """Whether a dtype holds ``int`` or ``float`` numbers, those of JAX such as bfloat16 too."""
    return dtype.kind in {"int": "iu", "float": "f"}[kind] or (
        dtype.kind == "V" and kind in dtype.name
    )


def numeric(x: np.ndarray) -> Cells:
    """Cells of floats, NaN where missing; an infinite one is a ValueError."""
    infinite = np.isinf(x)
    if infinite.any():
        row = first(infinite)
        raise ValueError(
            f"numbers must be finite or missing; got {x[row]} in row {row}, counted from 0"
        )
    return Cells(x, np.isnan(x), NUMBER)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NA, NaT, masked, or the empty string."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, str | bytes):
        return len(value) == 0
    if type(value).__name__ == "NAType":  # pandas.NA, whose comparisons are neither true nor false
        return True
    unequal = value != value
    return isinstance(unequal, bool | np.bool_) and bool(unequal)


def first(flags: Any) -> int:
    """Number of the first row that a flag marks."""
    return int(np.argmax(flags))


def _table(found: Sequence[Cells]) -> Table:
    return Table(tuple(str(i) for i in range(len(found))), tuple(found))


def _cells_of_objects(items: list) -> Cells:
    if any(hasattr(t, "ndim") and not issubclass(t, np.generic) for t in set(map(type, items))):
        items = [_scalar(item) for item in items]
    missing = np.fromiter(map(is_missing, items), bool, len(items))
    rows: dict[type, int] = {}  # the first row of each type
    for row in np.flatnonzero(~missing).tolist():
        rows.setdefault(type(items[row]), row)
    kinds: dict[str, int] = {}
    for type_, row in rows.items():
        kinds.setdefault(_kind(type_, row), row)
    if not kinds:
        return Cells(np.full(len(items), ""), missing, TEXT)
    if len(kinds) > 1 and (ROWS in kinds or {BOOL, NUMBER} <= set(kinds)):
        raise ValueError(
            "values do not go together: "
            + " and ".join(f"{kind} in row {row}, {items[row]!r}" for kind, row in kinds.items())
        )
    kind = next(iter(kinds)) if len(kinds) == 1 else MIXED
    filler = {BOOL: False, NUMBER: 0}.get(kind, "")
    filled = [filler if m else item for item, m in zip(items, missing, strict=True)]
    if kind == BOOL:
        return Cells(np.array(filled, bool), missing, kind)
    if kind == NUMBER and all(issubclass(type_, numbers.Integral) for type_ in rows):
        fit = max(abs(int(item)) for item in filled) < 2**63
        return Cells(np.array(filled, np.int64 if fit else object), missing, kind)
    if kind == NUMBER:
        found = np.array([float(item) for item in filled])
        found[missing] = np.nan
        return numeric(found)
    if kind == ROWS:
        values = np.empty(len(items), object)
        values[:] = items
        return Cells(values, missing, kind)
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in filled]
    if kind == MIXED:
        _check_texts_differ(items, texts, missing)
    return Cells(np.array(texts), missing, kind)


def _scalar(item: Any) -> Any:
    """What an array of no dimensions holds, as JAX and torch have for scalars."""
    return item.item() if getattr(item, "ndim", None) == 0 and item is not np.ma.masked else item


def _kind(type_: type, row: int) -> str:
    """Kind of the values of a type, the first of them in ``row``."""
    if issubclass(type_, bool | np.bool_):
        return BOOL
    if issubclass(type_, str | bytes):
        return TEXT
    if issubclass(type_, _TIMES):
        return TIME
    if issubclass(type_, numbers.Real | Decimal):
        return NUMBER
    if issubclass(type_, np.generic) and _is_number(np.dtype(type_), "float"):
        return NUMBER
    if issubclass(type_, Mapping | numbers.Complex):
        raise ValueError(f"expected text, numbers or bool; got {type_.__name__} in row {row}")
    return ROWS if issubclass(type_, Iterable) else MIXED


def _check_texts_differ(items: list, texts: list[str], missing: np.ndarray) -> None:
    """Refuses different values of one text, which would become one class."""
    rows: dict[str, int] = {}
    for row in np.flatnonzero(~missing).tolist():
        other = rows.setdefault(texts[row], row)
        if items[other] != items[row]:
            raise ValueError(
                f"values do not go together: {items[other]!r} in row {other} and {items[row]!r} in "
                f"row {row} have the same text"
            )


def _rows(cells: Cells) -> RaggedCells | Table:
    """Collections in cells; a table where they are the rows of a matrix of numbers."""
    given = [[] if m else _listed(x) for x, m in zip(cells.values, cells.missing, strict=True)]
    flat = cells_of(list(itertools.chain.from_iterable(given)))
    found = RaggedCells(np.array([len(row) for row in given]), flat, cells.missing)
    if flat.kind == ROWS:
        row = found.row_numbers[first(~flat.missing)]
        raise ValueError(
            f"expected a value or a collection of values per row; got more in row {row}"
        )
    widths = set(found.lengths[~cells.missing].tolist())
    is_set = any(isinstance(x, Set) for x in cells.values)
    if is_set or len(widths) > 1 or flat.kind not in (BOOL, NUMBER):
        return found
    shape = len(given), widths.pop()
    values, missing = np.zeros(shape, flat.values.dtype), np.ones(shape, bool)
    values[~cells.missing] = flat.values.reshape(-1, shape[1])
    missing[~cells.missing] = flat.missing.reshape(-1, shape[1])
    return _table([Cells(*pair, flat.kind) for pair in zip(values.T, missing.T, strict=True)])


def _listed(row: Any) -> list:
    if is_column(row):
        return list(values_of(row))
    return np.asarray(array(row)).tolist() if is_array(row) else list(row)

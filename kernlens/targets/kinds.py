"""The three kinds of targets, made of values that are told to be one."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernlens import arrays
from kernlens.arrays import BOOL, MIXED, NUMBER, TEXT, TIME, Cells, RaggedCells, Table
from kernlens.types import Labels, MultiLabels, Values


def labels(values: Any, *, names: Sequence[str] | None = None) -> Labels:
    """Classes, one to each distinct value.

    Args:
      values: one value per row, ``[n]``, in any container that
        :func:`~kernlens.targets.as_target` takes: text, bool, numbers, dates or other objects, by
        their text. With ``names``, integer codes, where ``-1`` too means "no label".
      names: class names by code. Default: the distinct values, numbers sorted by value and all else
        by text.

    Returns:
      Labels with int32 codes.

    Raises:
      ValueError: values not one-dimensional; infinite or complex numbers; values of several kinds
        of which two have the same text, such as 1 and "1"; codes that are no whole numbers or lie
        outside ``-1..len(names)-1``.

    Examples:
      >>> labels([10, 2, None, 2])
      Labels(codes=array([ 1,  0, -1,  0], dtype=int32), names=('2', '10'))
    """
    if isinstance(values, Labels):
        return values
    cells = _one_column(values, "labels")
    if names is None:
        return classes_of(cells)
    if (cells.kind not in (BOOL, NUMBER) and not cells.missing.all()) or not cells.is_whole:
        raise ValueError(f"with names, labels must be integer codes; got {cells}")
    codes = np.full(cells.values.shape, -1, np.int64)
    codes[~cells.missing] = cells.present
    if codes.size and (codes.min() < -1 or codes.max() >= len(names)):
        raise ValueError(
            f"label codes must lie in -1..{len(names) - 1}; got {codes.min()}..{codes.max()}"
        )
    return Labels(codes.astype(np.int32), tuple(str(name) for name in names))


def values(values: Any) -> Values:
    """Amounts, for regression.

    Args:
      values: one number per row, ``[n]``, in any container that
        :func:`~kernlens.targets.as_target` takes. Text is read as a number; False and True are 0
        and 1.

    Returns:
      Values, float64 ``[n]``, NaN where a row has none.

    Raises:
      ValueError: values not one-dimensional, infinite, or no numbers; tells of the first row.

    Examples:
      >>> values([3, None, 1])
      Values([ 3., nan,  1.])
    """
    return values if isinstance(values, Values) else amounts_of(_one_column(values, "values"))


def multi_labels(values: Any, *, separator: str | None = None) -> MultiLabels:
    """Any number of labels per row.

    Args:
      values: one collection of labels per row, a list, tuple or set (missing where nothing is
        known, empty where a row has none of them); or a matrix or table ``[n, C]`` of bool or of 0
        and 1 (all of a row missing where nothing is known); or, with ``separator``, text ``[n]``.
      separator: text between two labels. Blanks around a label are dropped. An empty text is
        missing, not a row without labels; that is an empty list.

    Returns:
      MultiLabels: labels sorted as :func:`labels` does; columns of a table under their own names,
      of a matrix under their numbers.

    Raises:
      ValueError: text without a separator, or with one that no row holds; a separator for anything
        but text; a matrix of other numbers; a row of which a part is missing.

    Examples:
      >>> multi_labels(["Action|Comedy", "", "Comedy"], separator="|").membership
      array([[ True,  True],
             [False, False],
             [False,  True]])
    """
    if isinstance(values, MultiLabels):
        return values
    if separator is not None:
        return tags_of(_split(_one_column(values, "text with a separator"), separator))
    read = arrays.read(values)
    if isinstance(read, Table):
        return membership_of(read)
    if isinstance(read, Cells):
        raise ValueError(
            f"multi-labels need a collection of labels per row; got {read}; several labels "
            "in one text need separator, such as '|' (--separator '|')"
        )
    return tags_of(read)


def _one_column(x: Any, what: str) -> Cells:
    read = arrays.read(x)
    if isinstance(read, Table) and len(read.columns) == 1:
        return read.columns[0]
    if isinstance(read, Table):
        told = f"{len(read.columns)} columns, {some(read.names)}"
    elif isinstance(read, RaggedCells):
        told = f"a collection in row {arrays.first(~read.missing)}"
    else:
        return read
    raise ValueError(f"{what} must be one value per row, [n]; got {told}")


def _split(cells: Cells, separator: str) -> RaggedCells:
    if cells.kind != TEXT or not separator:
        raise ValueError(f"separator={separator!r} splits text; got {cells}")
    texts = cells.values.tolist()
    if not any(separator in text for text in texts) and not cells.missing.all():
        raise ValueError(
            f"no row holds separator={separator!r}; got for example {str(cells.present[0])!r}"
        )
    given = [[part.strip() for part in text.split(separator) if part.strip()] for text in texts]
    lengths = np.array([len(row) for row in given], int)
    return RaggedCells(
        lengths, arrays.cells_of(list(itertools.chain.from_iterable(given))), lengths == 0
    )


def classes_of(cells: Cells) -> Labels:
    """A class to each distinct value, numbers by value and all else by text."""
    present = cells.present
    if present.dtype.kind == "f" and cells.is_whole and np.all(np.abs(present) < 2.0**63):
        present = present.astype(np.int64)
    elif cells.kind == TIME:
        present = present.astype(str)
    found, inverse = np.unique(present, return_inverse=True)
    codes = np.full(cells.values.shape, -1, np.int32)
    codes[~cells.missing] = inverse
    return Labels(codes, tuple(str(name) for name in found))


def amounts_of(cells: Cells) -> Values:
    """Numbers, also of text; a ValueError names the first that is none."""
    found = np.full(cells.values.shape, np.nan)
    present = cells.present
    if present.size and cells.kind not in (BOOL, NUMBER, TEXT):
        raise ValueError(f"values must be numbers; got {cells}")
    try:
        found[~cells.missing] = present.astype(np.float64)
    except ValueError:
        for row in np.flatnonzero(~cells.missing).tolist():
            _number(cells.values[row], row)
        raise
    return arrays.numeric(found).values.view(Values)


def _number(text: str, row: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"values must be numbers; got {str(text)!r} in row {row}") from None


def membership_of(table: Table) -> MultiLabels:
    """Labels of a table of bool or of 0 and 1, one a column."""
    columns = zip(table.names, table.columns, strict=True)
    other = [name for name, cells in columns if not _is_zero_one(cells)]
    if other or not table.columns:
        raise ValueError(
            f"a target of {len(table.columns)} columns, {some(table.names)}, must be multi-label, "
            f"bool or 0 and 1; {some(other)} hold other values: give the one column "
            "that is meant, or labels that are numbers as sets"
        )
    missing = np.stack([cells.missing for cells in table.columns], axis=1)
    unknown = np.all(missing, axis=1)
    partly = np.any(missing, axis=1) & ~unknown
    if partly.any():
        row = arrays.first(partly)
        raise ValueError(
            f"a row of multi-labels must be known or missing as a whole; row {row} misses column "
            f"{some([table.names[i] for i in np.flatnonzero(missing[row])])}"
        )
    member = np.stack([cells.values == 1 for cells in table.columns], axis=1) & ~missing
    return MultiLabels(member, np.logical_not(unknown), table.names)


def _is_zero_one(cells: Cells) -> bool:
    present = cells.present
    return not present.size or (
        cells.kind in (BOOL, NUMBER) and bool(np.all((present == 0) | (present == 1)))
    )


def tags_of(rows: RaggedCells) -> MultiLabels:
    """Labels of collections, one a row."""
    if rows.cells.kind not in (TEXT, MIXED, NUMBER) or not rows.cells.is_whole:
        row = rows.row_numbers[arrays.first(~rows.cells.missing)]
        raise ValueError(
            f"labels of a row must be text or whole numbers; got {rows.cells}, as in row {row}"
        )
    found = classes_of(rows.cells)
    of_row = rows.row_numbers[found.codes >= 0]
    member = np.zeros((len(rows.lengths), len(found.names)), bool)
    member[of_row, found.codes[found.codes >= 0]] = True
    # An empty collection says that a row has no label; one of missing labels says nothing.
    known = ~rows.missing & ((rows.lengths == 0) | member.any(axis=1))
    return MultiLabels(member, known, found.names)


def some(names: Sequence[str]) -> str:
    """The first of some names."""
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")

"""What a target asks: a class, an amount or several labels for each row.

:func:`as_target` finds out from the values; :func:`labels`, :func:`values` and :func:`multi_labels`
are told. Row ``i`` of a target belongs to row ``i`` of the embeddings: the index of a pandas Series
is not read. None, NaN, NA, NaT and the empty string are missing, and such a row has no label.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernlens import containers
from kernlens.containers import BOOL, MIXED, NUMBER, TEXT, TIME, Cells, RaggedCells, Table
from kernlens.types import Labels, MultiLabels, Target, Values

SEPARATORS = ("|", ";", ",")
"""Separators that several labels in one text may have."""

WRITTEN_MISSING = ("nan", "NaN", "None", "NaT", "<NA>")
"""Text that NumPy and pandas make of a missing value."""

MANY = 20
"""Number of distinct whole numbers above which each has to be there ten times to be a class."""


def as_target(target: Any) -> Target:
    """Finds out what a target asks; refuses one that may ask two things.

    ===============================================  ===========================================
    text, bool                                       classes
    whole numbers (int or float), few and repeated   classes
    other whole numbers; ``-1`` among codes          refused: what does a number stand for?
    numbers with fractions                           regression
    ``"Action|Comedy"``; often ``"tea, milk"``       refused: one class, or several labels?
    text such as ``"0.5"`` or ``"nan"``              refused: a class, an amount, or none?
    dates, times                                     refused: which part of it?
    lists or sets of text; sets of whole numbers     multi-label
    a matrix or table of bool or of 0 and 1          multi-label; refused where each row has one 1
    a matrix or table of one column                  what the column asks
    another matrix or table                          refused: which column?
    ===============================================  ===========================================

    Whole numbers are classes if there are two rows to a value on average, and they are
    consecutive from 0 or 1, or at most ``MANY`` different ones, or have ten rows to a value.
    Lists of numbers, all of one length, are a matrix.

    Args:
      target: one entry per row, ``[n]`` or ``[n, C]``, in an array of NumPy, JAX or torch, a list,
        a Series or DataFrame of pandas or polars, or an array or table of pyarrow; or ``Labels``,
        ``MultiLabels`` or ``Values``, which come back as they are.

    Returns:
      Labels with the classes sorted, numbers by value and all else by text; MultiLabels; or Values,
      for regression.

    Raises:
      ValueError: a target that is refused, with what to call instead; infinite or complex numbers;
        values that do not go together.

    Examples:
      >>> as_target(["tea", None, "salt"])
      Labels(codes=array([ 1, -1,  0], dtype=int32), names=('salt', 'tea'))
      >>> as_target([0.5, None, 2])
      Values([0.5, nan, 2. ])
      >>> as_target([["Action", "Comedy"], ["Drama"]]).names
      ('Action', 'Comedy', 'Drama')
    """
    if isinstance(target, Labels | MultiLabels | Values):
        return target
    cells = containers.read(target)
    if isinstance(cells, Table) and len(cells.columns) == 1:
        (cells,) = cells.columns
    if isinstance(cells, Table):
        found = _membership(cells)
        _check_not_one_hot(found)
        return found
    if isinstance(cells, RaggedCells):
        return _tags(cells)
    if cells.kind == TIME:
        raise ValueError(
            f"the target holds {TIME}, as in row {containers.first(~cells.missing)}; expected "
            "targets.labels(part) of a part such as the year, for classes, or targets.values(span) "
            "of a number such as days, for amounts"
        )
    if cells.kind == NUMBER and not cells.is_whole:
        return _amounts(cells)
    if cells.kind == NUMBER:
        _check_codes(cells.present)
    if cells.kind in (TEXT, MIXED):
        _check_text(cells.present)
    return _classes(cells)


def labels(values: Any, *, names: Sequence[str] | None = None) -> Labels:
    """Classes, one to each distinct value.

    Args:
      values: one value per row, ``[n]``, in any container that :func:`as_target` takes: text, bool,
        numbers, dates or other objects, by their text. With ``names``, integer codes, where ``-1``
        too means "no label".
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
        return _classes(cells)
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
      values: one number per row, ``[n]``, in any container that :func:`as_target` takes. Text is
        read as a number; False and True are 0 and 1.

    Returns:
      Values, float64 ``[n]``, NaN where a row has none.

    Raises:
      ValueError: values not one-dimensional, infinite, or no numbers; tells of the first row.

    Examples:
      >>> values([3, None, 1])
      Values([ 3., nan,  1.])
    """
    return values if isinstance(values, Values) else _amounts(_one_column(values, "values"))


def multi_labels(values: Any, *, separator: str | None = None) -> MultiLabels:
    """Any number of labels per row.

    Args:
      values: one collection of labels per row, a list, tuple or set (missing where nothing is
        known, empty where a row has none of them); or a matrix or table ``[n, C]`` of bool or of 0
        and 1 (all of a row missing where nothing is known); or, with ``separator``, text ``[n]``.
      separator: text between two labels. Blanks around a label are dropped.

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
        return _tags(_split(_one_column(values, "text with a separator"), separator))
    read = containers.read(values)
    if isinstance(read, Table):
        return _membership(read)
    if isinstance(read, Cells):
        raise ValueError(
            f"multi-labels need a collection of labels per row; got {read}; several labels "
            "in one text need separator, such as '|' (--separator '|')"
        )
    return _tags(read)


def held_out_of(counts: np.ndarray, fraction: float = 0.2) -> np.ndarray:
    """How many rows of each class a split holds out.

    Args:
      counts: rows of each class, ``[C]``.
      fraction: share to hold out, in ``(0, 1)``.

    Returns:
      ``round(m * fraction)`` of a class of ``m`` rows, but at least one and at most ``m - 1``,
      int64 ``[C]``; none of a class of one row.
    """
    counts = np.asarray(counts)
    wanted = np.maximum(np.rint(counts * fraction), 1)
    return np.minimum(wanted, np.maximum(counts - 1, 0)).astype(np.int64)


def drop_rare(labels: Labels, min_count: int) -> Labels:
    """Unlabels the rows of classes with fewer than ``min_count`` rows and renumbers the rest."""
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    kept = np.flatnonzero(counts >= min_count)
    table = np.full(len(labels.names) + 1, -1, np.int32)
    table[kept] = np.arange(len(kept), dtype=np.int32)
    return Labels(table[labels.codes], tuple(labels.names[i] for i in kept))


def labelled_rows(target: Target) -> np.ndarray:
    """Indices of the rows that have a label, or a number."""
    if isinstance(target, Labels):
        return np.flatnonzero(target.codes >= 0)
    if isinstance(target, MultiLabels):
        return np.flatnonzero(target.labelled)
    return np.flatnonzero(~np.isnan(target))


def num_rows(target: Target) -> int:
    """Number of rows, those without a label too."""
    if isinstance(target, Labels):
        return len(target.codes)
    return len(target.labelled) if isinstance(target, MultiLabels) else len(target)


def take(target: Target, rows: np.ndarray) -> Target:
    """The target of some rows.

    Args:
      target: labels or numbers, ``[n]``.
      rows: row numbers in any order, integers ``[m]``; ``-1`` gives a row without a label.

    Returns:
      A target of the same kind with ``m`` rows; classes keep their codes and names.

    Examples:
      >>> take(labels(["tea", "salt"]), np.array([1, -1, 1])).codes
      array([ 0, -1,  0], dtype=int32)
    """
    rows = np.asarray(rows)
    if isinstance(target, Labels):
        return target._replace(codes=np.append(target.codes, np.int32(-1))[rows])
    if isinstance(target, MultiLabels):
        none = np.zeros((1, len(target.names)), bool)
        return target._replace(
            membership=np.concatenate([target.membership, none])[rows],
            labelled=np.append(target.labelled, False)[rows],
        )
    return np.append(target, np.nan)[rows].view(Values)


# From cells to targets.


def _one_column(x: Any, what: str) -> Cells:
    read = containers.read(x)
    if isinstance(read, Table) and len(read.columns) == 1:
        return read.columns[0]
    if isinstance(read, Table):
        told = f"{len(read.columns)} columns, {_some(read.names)}"
    elif isinstance(read, RaggedCells):
        told = f"a collection in row {containers.first(~read.missing)}"
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
        lengths, containers.cells_of(list(itertools.chain.from_iterable(given))), lengths == 0
    )


def _classes(cells: Cells) -> Labels:
    present = cells.present
    if present.dtype.kind == "f" and cells.is_whole and np.all(np.abs(present) < 2.0**63):
        present = present.astype(np.int64)
    elif cells.kind == TIME:
        present = present.astype(str)
    found, inverse = np.unique(present, return_inverse=True)
    codes = np.full(cells.values.shape, -1, np.int32)
    codes[~cells.missing] = inverse
    return Labels(codes, tuple(str(name) for name in found))


def _amounts(cells: Cells) -> Values:
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
    return containers.numeric(found).values.view(Values)


def _number(text: str, row: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"values must be numbers; got {str(text)!r} in row {row}") from None


def _membership(table: Table) -> MultiLabels:
    columns = zip(table.names, table.columns, strict=True)
    other = [name for name, cells in columns if not _is_zero_one(cells)]
    if other or not table.columns:
        raise ValueError(
            f"a target of {len(table.columns)} columns, {_some(table.names)}, must be multi-label, "
            f"bool or 0 and 1; {_some(other)} hold other values: give the one column "
            "that is meant, or labels that are numbers as sets"
        )
    missing = np.stack([cells.missing for cells in table.columns], axis=1)
    unknown = np.all(missing, axis=1)
    partly = np.any(missing, axis=1) & ~unknown
    if partly.any():
        row = containers.first(partly)
        raise ValueError(
            f"a row of multi-labels must be known or missing as a whole; row {row} misses column "
            f"{_some([table.names[i] for i in np.flatnonzero(missing[row])])}"
        )
    member = np.stack([cells.values == 1 for cells in table.columns], axis=1) & ~missing
    return MultiLabels(member, np.logical_not(unknown), table.names)


def _is_zero_one(cells: Cells) -> bool:
    present = cells.present
    return not present.size or (
        cells.kind in (BOOL, NUMBER) and bool(np.all((present == 0) | (present == 1)))
    )


def _check_not_one_hot(found: MultiLabels) -> None:
    if found.labelled.any() and np.all(found.membership[found.labelled].sum(axis=1) == 1):
        raise ValueError(
            f"each row has exactly one of the {len(found.names)} columns {_some(found.names)}; "
            "expected targets.labels(values.argmax(axis=1), names=...) if they are classes, or "
            "targets.multi_labels(values) if a row may have several labels"
        )


def _tags(rows: RaggedCells) -> MultiLabels:
    if rows.cells.kind not in (TEXT, MIXED, NUMBER) or not rows.cells.is_whole:
        row = rows.row_numbers[containers.first(~rows.cells.missing)]
        raise ValueError(
            f"labels of a row must be text or whole numbers; got {rows.cells}, as in row {row}"
        )
    found = _classes(rows.cells)
    of_row = rows.row_numbers[found.codes >= 0]
    member = np.zeros((len(rows.lengths), len(found.names)), bool)
    member[of_row, found.codes[found.codes >= 0]] = True
    # An empty collection says that a row has no label; one of missing labels says nothing.
    known = ~rows.missing & ((rows.lengths == 0) | member.any(axis=1))
    return MultiLabels(member, known, found.names)


# What may mean two things.


def _check_codes(present: np.ndarray) -> None:
    """Refuses whole numbers that may be amounts, or codes with -1 for no label."""
    found = np.unique(present)
    if not found.size:
        return
    low, high, n, k = int(found[0]), int(found[-1]), len(present), len(found)
    consecutive = high - low == k - 1
    if consecutive and low == -1 and k > 2:
        raise ValueError(
            f"whole numbers from -1 to {high}: expected targets.labels(values) (--target classes) "
            f"if -1 is a class, or targets.labels(values, names=[{k - 1} names]) if it means no "
            "label (in a file: an empty cell)"
        )
    if n < 2 * k or not ((consecutive and low in (0, 1)) or k <= MANY or n >= 10 * k):
        raise ValueError(
            f"whole numbers, {k} different ones in {n} rows, from {low} to {high}: expected "
            "targets.labels(values) (--target classes) if each is a class, or "
            "targets.values(values) (--target numbers) if they are amounts"
        )


def _check_text(present: np.ndarray) -> None:
    """Refuses text that may be several labels, amounts, or a missing value."""
    found, counts = np.unique(present, return_counts=True)
    found = found.tolist()
    written = [(text, n) for text, n in zip(found, counts, strict=True) if text in WRITTEN_MISSING]
    if written:
        text, n = written[0]
        raise ValueError(
            f"{n} of {len(present)} labels are the text {text!r}, which missing values become when "
            "an array is turned into text: expected None instead (in a file: an empty cell) if "
            "they are missing, or targets.labels(values) (--target classes) if it is a class"
        )
    fraction = _fraction(found)
    if fraction is not None:
        raise ValueError(
            f"text that reads as numbers with fractions, such as {fraction!r}: expected "
            "targets.values(values) (--target numbers) if they are amounts, or "
            "targets.labels(values) (--target classes) if each is a class"
        )
    for separator in SEPARATORS:
        joined = [separator in text for text in found]
        rows = int(counts[joined].sum())
        if rows and (separator == "|" or (20 * rows >= len(present) and _recur(found, separator))):
            raise ValueError(
                f"{rows} of {len(present)} labels hold {separator!r}, such as "
                f"{found[joined.index(True)]!r}: expected targets.multi_labels(values, "
                f"separator={separator!r}) (--separator {separator!r}) if it stands between "
                "labels, or targets.labels(values) (--target classes) if each text is one class"
            )


def _fraction(found: list[str]) -> str | None:
    """The first text with a fraction, where all read as numbers."""
    try:
        parsed = [float(text) for text in found]
    except ValueError:
        return None
    return next((t for t, x in zip(found, parsed, strict=True) if not x.is_integer()), None)


def _recur(found: list[str], separator: str) -> bool:
    """Whether half of the parts of the texts that hold the separator stand in several texts."""
    parts = [{part.strip() for part in text.split(separator)} - {""} for text in found]
    texts: dict[str, int] = {}
    for part in itertools.chain.from_iterable(parts):
        texts[part] = texts.get(part, 0) + 1
    joined = [
        part for own, text in zip(parts, found, strict=True) if separator in text for part in own
    ]
    return 2 * sum(texts[part] > 1 for part in joined) >= len(joined) > 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")

"""What a target asks, found out from its values; one that may ask two things is refused."""

import itertools
from typing import Any

import numpy as np

from kernlens import arrays
from kernlens.arrays import MIXED, NUMBER, TEXT, TIME, RaggedCells, Table
from kernlens.targets.kinds import amounts_of, classes_of, membership_of, some, tags_of
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
    cells = arrays.read(target)
    if isinstance(cells, Table) and len(cells.columns) == 1:
        (cells,) = cells.columns
    if isinstance(cells, Table):
        found = membership_of(cells)
        _check_not_one_hot(found)
        return found
    if isinstance(cells, RaggedCells):
        return tags_of(cells)
    if cells.kind == TIME:
        raise ValueError(
            f"the target holds {TIME}, as in row {arrays.first(~cells.missing)}; expected "
            "targets.labels(part) of a part such as the year, for classes, or targets.values(span) "
            "of a number such as days, for amounts"
        )
    if cells.kind == NUMBER and not cells.is_whole:
        return amounts_of(cells)
    if cells.kind == NUMBER:
        _check_codes(cells.present)
    if cells.kind in (TEXT, MIXED):
        _check_text(cells.present)
    return classes_of(cells)


def _check_not_one_hot(found: MultiLabels) -> None:
    if found.labelled.any() and np.all(found.membership[found.labelled].sum(axis=1) == 1):
        raise ValueError(
            f"each row has exactly one of the {len(found.names)} columns {some(found.names)}; "
            "expected targets.labels(values.argmax(axis=1), names=...) if they are classes, or "
            "targets.multi_labels(values) if a row may have several labels"
        )


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
            "label (in a file: --missing -1)"
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
            "an array is turned into text: expected None instead (in a file: --missing) if "
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

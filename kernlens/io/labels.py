"""Targets from the label columns of files."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import targets
from kernlens.io import sheets
from kernlens.io.columns import as_text, whole_numbers
from kernlens.io.label_columns import SWAPPED, LabelColumn, has_fractions, read_label_column
from kernlens.io.limits import LIMITS, Limits
from kernlens.types import Labels, MultiLabels, Target

_NUMBER = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

MISSING = (
    "", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "null", "NULL", "None",
)  # fmt: skip
"""Texts that other programs write where there is no label."""

SUSPECTED = frozenset({
    "unknown", "unk", "other", "others", "misc", "miscellaneous", "none", "null", "nan", "na",
    "n.a.", "n/a", "n.d.", "missing", "not available", "not applicable", "not set", "undefined",
    "unspecified", "unlabelled", "unlabeled", "uncategorised", "uncategorized", "unclassified",
    "tbd", "?", "-", "--",
})  # fmt: skip
"""Texts, in small letters, that may mean that there is no label; they count as classes, with a
note."""

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
      ValueError: an unknown suffix, an empty or damaged file, a missing column, several columns
        that may be meant, an ambiguous target, fewer than two classes, a missing or repeated id.
      ImportError: pyarrow is not installed; names the extra.
    """
    path = Path(path)
    found = read_label_column(
        path, id_column=id_column, label_column=label_column, by_row=by_row, limits=limits
    )
    where = f"{path}, column {found.name!r}"
    values, none = _cells(where, found, MISSING if missing is None else missing, limits)
    notes = [
        f"{count:,} labels {text!r} count as no label (--missing says which do)"
        for text, count in none.items()
    ]
    try:
        labels = target(values)
    except ValueError as error:
        swapped = f"; {SWAPPED}" if _are_vectors(values) else ""
        raise ValueError(f"{where}: {error}{swapped}") from error
    if isinstance(labels, MultiLabels):
        notes += _empty(labels, values, sum(none.values()))
    if isinstance(labels, Labels):
        labels, more = _classes(where, labels, min_class_count)
        notes += [*more, *_suspected(labels, values, none)]
        if target is targets.as_target:
            notes += _ordered(labels, values)
    elif min_class_count > 1:
        raise ValueError(
            f"{where}: --min-class-count {min_class_count} counts rows of classes, and this column "
            "holds none; leave it out, or say --target classes"
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        notes += _cut(path, labels, found.values[-1])
    noted = tuple(f"{path}: {note}" for note in (*found.notes, *notes))
    return LabelFile(labels, found.ids, str(path), noted, found.told)


def check_classes(where: str, names: Sequence[str]) -> None:
    """Refuses fewer than two classes; names where they were looked for."""
    if len(names) < 2:
        raise ValueError(
            f"{where}: found classes {list(names)}; expected two or more; is another column the "
            "label? Name it with --label-column"
        )


def _cells(
    where: str, column: LabelColumn, missing: Collection[str], limits: Limits
) -> tuple[list[Any], dict[str, int]]:
    """Values of a column as a target is made of them, and how often which text is no label."""
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
    return values, {text: count for text, count in none.items() if text}


def _are_vectors(values: Sequence[Any]) -> bool:
    """Whether cells are lists of fractions, as in a column of an embedding."""
    first = next((value for value in values if value is not None), None)
    return isinstance(first, list | np.ndarray) and has_fractions(list(first))


def _empty(labels: MultiLabels, values: Sequence[Any], told: int) -> list[str]:
    """Counts the texts that hold no label, of which ``told`` have a note of their own."""
    is_text = all(value is None or isinstance(value, str) for value in values)
    count = int(np.count_nonzero(~labels.labelled)) - told
    if not is_text or not count:
        return []
    return [
        f"{count:,} empty cells: an empty cell is no label; an item that is known to have none of "
        "the labels needs a column of lists, with [] (.parquet)"
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


def _suspected(labels: Labels, values: Sequence[Any], none: Mapping[str, int]) -> list[str]:
    """Tells of classes whose names say that there is no label."""
    found = [name for name in labels.names if name.lower() in SUSPECTED]
    if not found or len(labels.names) - len(found) < 2:
        return []
    counts = Counter(value for value in values if isinstance(value, str))
    listed = ", ".join(f"{counts[name]:,} labels {name!r}" for name in found)
    option = shlex.join(["--missing", *none, *found])
    return [f"{listed} count as classes; {option} makes them no label"]


def _ordered(labels: Labels, values: Sequence[Any]) -> list[str]:
    """Tells that whole numbers are read as classes, which may be amounts such as stars."""
    known = [value for value in values if value is not None]
    if len(labels.names) < 3 or not all(type(value) in (int, float) for value in known):
        return []
    low, high = int(min(known)), int(max(known))
    return [
        f"whole numbers from {low} to {high} are read as {len(labels.names)} classes; --target "
        "numbers reads them as numbers, such as ratings (--target classes: no note)"
    ]


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

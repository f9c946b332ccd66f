"""How a delimited text file is laid out: its separator, its header line, its columns.

The first lines are looked at; what they leave open is refused in a sentence that says which option
settles it.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kernlens.io import cells, packed, roles
from kernlens.io.limits import LIMITS, Limits

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_SAMPLE = 50
_RECBOLE = {"token": roles.TEXT, "float": roles.FLOAT, "float_seq": roles.CELL, "token_seq": ""}


class Sheet(NamedTuple):
    """How a file is laid out.

    Attributes:
      path: the file.
      delimiter: between the values of a line.
      names: of the columns; ``column 1``, ... where the file has no header line.
      skip: lines before the first row: blank ones and the header.
      header: whether there is a header line.
      sample: values of the first rows.
      kinds: kind of each column that its name declares, as RecBole's do; none elsewhere.
    """

    path: Path
    delimiter: str
    names: list[str]
    skip: int
    header: bool
    sample: list[list[str]]
    kinds: dict[str, str]

    def kind(self, name: str) -> str:
        """What a column holds, by its name or its first values."""
        if name in self.kinds:
            return self.kinds[name] or roles.OTHER
        place = self.names.index(name)
        known = [row[place] for row in self.sample if len(row) > place and row[place] != ""]
        if known and all(map(is_number, known)):
            whole = all(text.lstrip("+-").isdigit() for text in known)
            return roles.INTEGER if whole else roles.FLOAT
        return roles.CELL if cells.form_of(known) else roles.TEXT


def sniff(path: Path, limits: Limits = LIMITS, *, known: Sequence[str] = ()) -> Sheet:
    """Finds out how a file is laid out.

    Args:
      path: file, packed where its name ends in ``.gz``.
      limits: bounds on lines and columns.
      known: names that the user gave, so that they stand in the header.

    Returns:
      Sheet.

    Raises:
      ValueError: no lines, or text that is not UTF-8.
    """
    first, blank = [], 0
    for number, line in _texts(path, limits):
        if line.strip():
            first.append((number, line))
        elif not first:
            blank += 1
        if len(first) > _SAMPLE:
            break
    if not first:
        raise ValueError(f"{path}: empty file; expected a header line and rows")
    delimiter = _delimiter(path, [line for _, line in first])
    records = list(islice(_split((line for _, line in first), delimiter, path), len(first)))
    records = [[field.strip() for field in record] for record in records]
    if len(records[0]) > limits.columns:
        raise ValueError(
            f"{path}: {len(records[0]):,} columns; expected at most {limits.columns:,}"
        )
    kinds: dict[str, str] = {}
    if path.name.lower().endswith((".item", ".user", ".inter")):
        declared = [field.rpartition(":") for field in records[0]]
        kinds = {name: _RECBOLE[kind] for name, _, kind in declared if kind in _RECBOLE}
        records[0] = [name or kind for name, _, kind in declared]
    header = bool(kinds) or _is_header(records, known)
    names = records[0] if header else [f"column {i + 1}" for i in range(len(records[0]))]
    skip = first[0][0] if header else first[0][0] - 1
    return Sheet(path, delimiter, names, skip, header, records[header:], kinds)


def rows(sheet: Sheet, limits: Limits = LIMITS) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of each row, blanks around them dropped.

    Raises:
      ValueError: a line with more or fewer values than the file has columns, a quote that is never
        closed, text that is not UTF-8.
    """
    width = len(sheet.names)
    reader = _split(
        (line for _, line in islice(_texts(sheet.path, limits), sheet.skip, None)),
        sheet.delimiter,
        sheet.path,
    )
    found, before = iter(reader), 0
    for record in found:
        number, before = sheet.skip + before + 1, reader.line_num
        if not record or (len(record) < width and not any(map(str.strip, record))):
            continue
        if len(record) != width:
            raise ValueError(
                f"{sheet.path}, line {number}: found {len(record)} values "
                f"{[field[:40] for field in record[:8]]}, expected {width}: "
                f"{roles.some(sheet.names)}"
            )
        yield number, [field.strip() for field in record]


class _Records:
    """``csv.reader`` whose errors name the file and the line."""

    def __init__(self, lines: Iterator[str], delimiter: str, path: Path):
        self._reader = csv.reader(lines, delimiter=delimiter)
        self._path = path

    @property
    def line_num(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self._reader)
        except csv.Error as error:
            raise ValueError(
                f"{self._path}, about line {self._reader.line_num}: {error}; is a quote open?"
            ) from error


def _split(lines: Iterator[str], delimiter: str, path: Path) -> _Records:
    return _Records(lines, delimiter, path)


def _texts(path: Path, limits: Limits) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(packed.lines(path, limits), start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: {error}; expected UTF-8 text: save the file again as UTF-8"
            ) from error


def _delimiter(path: Path, lines: list[str]) -> str:
    """What stands equally often in all of the first lines, the suffix and commas first."""
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    order = list(DELIMITERS)
    if stem.suffix.lower() in (".tsv", ".item"):
        order = ["\t", *(one for one in order if one != "\t")]
    for delimiter in order:
        # A quoted value may span the lines, so the last record may be a part of one.
        widths = {len(record) for record in _split(iter(lines), delimiter, path) if record}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    head = lines[0]
    return max(order, key=lambda one: (one in head) * head.count(one))


def _is_header(records: list[list[str]], known: Sequence[str]) -> bool:
    """Whether the first line names columns."""
    head, body = records[0], records[1:]
    named = [n for n in head if n in known or roles.is_id_name(n) or roles.is_label_name(n)]
    if named or not body:
        return True
    columns = [[row[i] for row in body if len(row) > i] for i in range(len(head))]
    for name, values in zip(head, columns, strict=True):
        if name and is_number(name) and values and all(v == "" or is_number(v) for v in values):
            # 0, 1, 2, ... are the names that pandas gives to the columns of an array.
            if [n for n in head if is_number(n)] != _numbering(head):
                return False
        elif name and name in values:
            return False
    return True


def _numbering(head: list[str]) -> list[str]:
    count = sum(map(is_number, head))
    return [str(i) for i in range(count)] if count > 1 else []


def is_number(text: str) -> bool:
    """Whether a text is a number as other programs write them; ``1_0`` is none."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text

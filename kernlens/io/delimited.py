"""Embeddings from delimited text: ``.csv``, ``.tsv`` and RecBole's ``.item``, packed or not."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io import cells, packed, roles, sheets
from kernlens.io.columns import check_ids, reading, whole_numbers
from kernlens.io.limits import Asked, Limits
from kernlens.io.roles import Roles
from kernlens.io.sheets import Sheet
from kernlens.io.stored import EmptyError, Stored, matrix_shape

_BLOCK_BYTES = 2**24


def open_delimited(path: Path, asked: Asked) -> Stored:
    """A text file with a column a dimension, or a column of lists, and a header line."""
    named = [name for name in (asked.id_column, *asked.columns) if name]
    sheet = sheets.sniff(path, asked.limits, known=named)
    fields = {name: sheet.kind(name) for name in sheet.names}
    if len(fields) < len(sheet.names):
        raise ValueError(f"{path}: two columns have one name; found {roles.some(sheet.names)}")
    if not sheet.sample:
        raise EmptyError(f"{path}: no rows; found columns {roles.some(sheet.names)}")

    if not sheet.header and not named:
        asked = _headless(path, sheet, fields, asked)

    def column(name: str) -> list[str]:
        place = sheet.names.index(name)
        return [row[place] for _, row in sheets.rows(sheet, asked.limits)]

    def distinct(name: str) -> bool:
        found = column(name)
        return len(set(found)) == len(found) and "" not in found

    chosen = roles.choose_columns(path, fields, asked, distinct)
    ids, scale = None, None
    if chosen.ids is not None:
        ids = check_ids(path, chosen.ids, np.array(_ids(column(chosen.ids)), object), asked.limits)
    if chosen.scale is not None:
        scale = np.array([float(text) for text in column(chosen.scale)])[:, None]
    dim, form = len(chosen.vectors), None
    if chosen.kind == roles.CELL:
        place = sheet.names.index(chosen.vectors[0])
        known = [row[place] for row in sheet.sample if row[place]]
        form = cells.form_of(known)
        dim = cells.values(f"{path}, column {chosen.vectors[0]!r}", known[:1], form).shape[1]
    count = len(ids) if ids is not None else sum(1 for _ in sheets.rows(sheet, asked.limits))
    shape = matrix_shape(path, (count, dim))
    blocks = partial(_blocks, sheet, chosen, dim, form, asked.limits)
    numbers = range(count) if chosen.ids is None or _is_index(chosen.ids, ids) else None
    told = chosen._replace(ids=None) if numbers is not None else chosen
    stored = Stored(shape, np.dtype(np.float32), blocks, ids, scale, told=told.told(dim))
    return stored._replace(index=None if asked.by_row else numbers)


def _is_index(name: str, ids: np.ndarray | None) -> bool:
    """Whether ids are the row numbers that pandas writes where a table has no other index."""
    unnamed = roles.UNNAMED_INDEX.fullmatch(name) is not None
    return unnamed and ids is not None and np.array_equal(ids, np.arange(len(ids)).astype(str))


def _headless(path: Path, sheet: Sheet, fields: dict[str, str], asked: Asked) -> Asked:
    """Roles of columns without names: all floats, or a text before them."""
    first, *rest = sheet.names
    if all(fields[name] == roles.FLOAT for name in sheet.names):
        return asked._replace(columns=tuple(sheet.names))
    numbers = rest and all(fields[name] == roles.FLOAT for name in rest)
    if numbers and fields[first] == roles.TEXT:
        return asked._replace(id_column=first, columns=tuple(rest))
    raise ValueError(
        f"{path}: no header line: the first is {sheet.sample[0][:6]}, and columns hold "
        f"{roles.some(list(dict.fromkeys(fields.values())))}; add a header line, or name the id, "
        f"as in --id-column '{first}' --columns '{rest[0] if rest else first}'"
    )


def _ids(texts: list[str]) -> list[str]:
    """Ids as the same integers would have them: ``100.0`` means 100 where all are numbers."""
    return whole_numbers(texts) or texts if any("." in text for text in texts) else texts


def _blocks(
    sheet: Sheet,
    chosen: Roles,
    dim: int,
    form: str | None,
    limits: Limits,
    start: int,
    stop: int,
    rows: int,
) -> Iterator[np.ndarray]:
    if chosen.kind == roles.CELL:
        place = sheet.names.index(chosen.vectors[0])
        where = f"{sheet.path}, column {chosen.vectors[0]!r}"
        found = islice(sheets.rows(sheet, limits), start, stop)
        for first in range(start, stop, rows):
            texts = [row[place] for _, row in islice(found, rows)]
            yield cells.values(where, texts, form, dim=dim, first=first)
        return
    at = 0
    for batch in _batches(sheet, chosen.vectors, limits):
        skip = max(0, start - at)
        own = batch.slice(skip, max(0, stop - at - skip))
        at += batch.num_rows
        for part in range(0, own.num_rows, rows):
            piece = own.slice(part, rows)
            columns = [column.to_numpy(zero_copy_only=False) for column in piece.columns]
            yield np.stack(columns, axis=1)
        if at >= stop:
            return


def _batches(sheet: Sheet, names: list[str], limits: Limits) -> Iterator[Any]:
    """Record batches of float32; a value that is no number is named."""
    arrow, reader = files.optional("pyarrow"), files.optional("pyarrow.csv")
    with reading(sheet.path, "text"), packed.open_bytes(sheet.path, limits) as source:
        try:
            found = reader.open_csv(
                arrow.PythonFile(source, mode="r"),
                read_options=reader.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    skip_rows=sheet.skip,
                    column_names=sheet.names,
                ),
                parse_options=reader.ParseOptions(delimiter=sheet.delimiter),
                convert_options=reader.ConvertOptions(
                    include_columns=names,
                    column_types=dict.fromkeys(names, arrow.float32()),
                    null_values=["", "NaN", "nan", "null", "NULL", "NA", "N/A"],
                ),
            )
            for batch in found:
                yield batch.select(names)
        except (arrow.ArrowInvalid, arrow.ArrowKeyError) as error:
            raise _fault(sheet, names, limits) or error from error


def _fault(sheet: Sheet, names: list[str], limits: Limits) -> ValueError | None:
    """The first value that is no number, found by a second, slow reading."""
    places = [(name, sheet.names.index(name)) for name in names]
    for number, row in sheets.rows(sheet, limits):
        for name, place in places:
            if row[place] and not sheets.is_number(row[place]):
                return ValueError(
                    f"{sheet.path}, line {number}, column {name!r}: found {row[place][:60]!r}, "
                    "expected a number"
                )
    return None

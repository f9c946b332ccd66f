"""Embeddings from columns: Parquet files and Arrow's own (Feather) files."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernlens import files
from kernlens.io import cells, roles
from kernlens.io.columns import (
    is_text,
    open_parquet,
    pandas_index,
    plain,
    read_ids,
    read_table,
    reading,
    text_column,
)
from kernlens.io.limits import Asked
from kernlens.io.roles import Roles
from kernlens.io.stored import EmptyError, Stored, matrix_shape

_BUFFER_BYTES = 2**16
_STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SAMPLE = 20


def open_vectors(path: Path, asked: Asked) -> Stored:
    """A ``.parquet`` file, read in batches of rows."""
    with open_parquet(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        asked.limits.check_shape(path, (rows,), np.dtype(np.int8))
        _check_columns(path, schema, rows, asked)

        def column(name: str) -> Any:
            return read_table(path, file, [name]).column(name)

        batches = partial(_parquet_batches, path)
        return _stored(path, schema, rows, column, batches, asked)


def open_arrow(path: Path, asked: Asked) -> Stored:
    """An ``.arrow``, ``.feather`` or ``.ipc`` file, of the file or the stream format, mapped."""
    arrow = files.optional("pyarrow")
    with _arrow_file(path) as source:
        schema, _ = _record_batches(path, source, None)
    # Reading no column at all would leave the number of rows unknown.
    first = [0] if schema.names else None
    rows = sum(batch.num_rows for _, batch in _arrow_batches(path, [], 0, 0, fields=first))
    _check_columns(path, schema, rows, asked)

    def column(name: str) -> Any:
        fields = [schema.names.index(name)]
        read = [batch for _, batch in _arrow_batches(path, [name], 0, 0, fields=fields)]
        return arrow.Table.from_batches(read).column(name)

    return _stored(path, schema, rows, column, partial(_arrow_batches, path), asked)


def _check_columns(path: Path, schema: Any, rows: int, asked: Asked) -> None:
    if len(schema.names) > asked.limits.columns:
        raise ValueError(
            f"{path}: {len(schema.names):,} columns; expected at most {asked.limits.columns:,}, "
            "or a column of lists"
        )
    if not rows:
        raise EmptyError(f"{path}: no rows; found columns {roles.some(schema.names)}")


def _kind(path: Path, name: str, kind: Any, batches: Callable) -> str:
    """What a column may be, by its type; text is looked into."""
    kinds = files.optional("pyarrow").types
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    value = _list_value(kind)
    if value is not None:
        if kinds.is_floating(value):
            return roles.LIST
        return roles.CODES if kinds.is_integer(value) else f"lists of {value}"
    for test, found in (
        (kinds.is_floating, roles.FLOAT),
        (kinds.is_integer, roles.INTEGER),
        (kinds.is_boolean, roles.BOOL),
    ):
        if test(kind):
            return found
    if is_text(kind) or kinds.is_binary(kind) or kinds.is_large_binary(kind):
        for _, batch in batches([name], 0, _SAMPLE):
            with reading(path, "table"):
                some = text_column(batch.column(0).slice(0, _SAMPLE)).drop_null().to_pylist()
            if some:
                return roles.CELL if cells.form_of(some) else roles.TEXT
        return roles.TEXT
    return str(kind)


def _list_value(kind: Any) -> Any:
    """Type of the values of a list column; None for another."""
    kinds = files.optional("pyarrow").types
    kind = getattr(kind, "storage_type", kind)
    tests = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)
    views = (kinds.is_list_view, kinds.is_large_list_view)
    return kind.value_type if any(test(kind) for test in (*tests, *views)) else None


def _stored(
    path: Path, schema: Any, rows: int, column: Callable, batches: Callable, asked: Asked
) -> Stored:
    """What both formats share; ``batches(columns, start, rows)`` gives row and record batch."""
    if len(set(schema.names)) < len(schema.names):
        raise ValueError(f"{path}: two columns have one name; found {roles.some(schema.names)}")
    fields = {field.name: _kind(path, field.name, field.type, batches) for field in schema}
    index, values = pandas_index(schema)
    if values is not None and (len(values) != rows or (index == "" and values == range(rows))):
        index, values = None, values if len(values) == rows else None

    def distinct(name: str) -> bool:
        found = files.optional("pyarrow.compute").count_distinct(column(name), mode="all")
        return found.as_py() == rows

    chosen = roles.choose_columns(path, fields, asked, distinct, index=index)
    if chosen.ids is None:
        ids = None
    elif chosen.ids in fields:
        ids = read_ids(path, chosen.ids, column(chosen.ids), asked.limits)
    else:
        assert values is not None
        ids = np.array(values).astype(str)
    scale = None
    if chosen.scale is not None:
        scale, _ = plain(column(chosen.scale))
        if scale is None or scale.dtype.kind not in "iuf":
            raise ValueError(
                f"{path}: column {chosen.scale!r} is {fields[chosen.scale]}; expected numbers"
            )
        scale = scale[:, None]
    dim, dtype, form = len(chosen.vectors), np.dtype(np.float32), None
    kinds = [schema.field(name).type for name in chosen.vectors]
    if chosen.kind == roles.CELL:
        dim, form = _cell_form(path, chosen.vectors[0], batches)
    elif chosen.lists:
        dim = _list_width(path, chosen.vectors[0], kinds[0], batches)
        dtype = np.dtype(_list_value(kinds[0]).to_pandas_dtype())
    else:
        dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in kinds))
    shape = matrix_shape(path, (rows, dim), dtype, asked)
    blocks = partial(_blocks, path, chosen, dim, form, batches)
    unnamed = chosen.ids is not None and roles.UNNAMED_INDEX.fullmatch(chosen.ids)
    told = chosen._replace(ids="pandas index" if unnamed else chosen.ids).told(dim)
    # Row numbers alone: whether they are ids is known once all files of a folder are.
    numbers = values if chosen.ids in (None, "") and not asked.by_row else None
    return Stored(shape, dtype, blocks, ids, scale, told=told, index=numbers)


def _cell_form(path: Path, name: str, batches: Callable) -> tuple[int, str | None]:
    """Numbers in each cell of text, and how they are written."""
    for _, batch in batches([name], 0, _SAMPLE):
        with reading(path, "table"):
            some = text_column(batch.column(0).slice(0, _SAMPLE)).drop_null().to_pylist()
        form = cells.form_of(some)
        if form is not None:
            known = [text for text in some if text]
            return cells.values(f"{path}, column {name!r}", known[:1], form).shape[1], form
    raise ValueError(f"{path}, column {name!r}: no vector in its first rows; expected numbers")


def _list_width(path: Path, name: str, kind: Any, batches: Any) -> int:
    kind = getattr(kind, "storage_type", kind)
    if files.optional("pyarrow").types.is_fixed_size_list(kind):
        return kind.list_size
    for _, batch in batches([name], 0, 1):
        known = batch.column(0).drop_null()
        if len(known):
            return len(known[0])
    raise ValueError(f"{path}, column {name!r}: no vector in any row; expected numbers")


def _blocks(
    path: Path,
    layout: Roles,
    dim: int,
    form: str | None,
    batches: Callable,
    start: int,
    stop: int,
    rows: int,
) -> Iterator[np.ndarray]:
    # Missing values come out as NaN, and are treated as those.
    for first, batch in batches(layout.vectors, start, rows):
        if first >= stop:
            return
        skip = max(0, start - first)
        batch = batch.slice(skip, stop - first - skip)
        for part in range(0, batch.num_rows, rows):
            own = batch.slice(part, rows)
            if layout.kind == roles.CELL:
                where, before = f"{path}, column {layout.vectors[0]!r}", first + skip + part
                with reading(path, "table"):
                    texts = text_column(own.column(0)).to_pylist()
                yield cells.values(where, texts, form, dim=dim, first=before)
            elif layout.lists:
                yield _stack_lists(path, layout.vectors[0], first + skip + part, dim, own.column(0))
            else:
                yield np.stack([_numbers(column) for column in own.columns], axis=1)


def _numbers(column: Any) -> np.ndarray:
    arrow = files.optional("pyarrow")
    if arrow.types.is_boolean(column.type):
        column = column.cast(arrow.uint8())
    return column.to_numpy(zero_copy_only=False)


def _stack_lists(path: Path, name: str, first: int, dim: int, column: Any) -> np.ndarray:
    arrow, compute = files.optional("pyarrow"), files.optional("pyarrow.compute")
    column = getattr(column, "storage", column)
    if not isinstance(column, arrow.ListArray | arrow.LargeListArray | arrow.FixedSizeListArray):
        column = column.cast(arrow.large_list(column.type.value_type))  # a view
    there = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    uneven = np.flatnonzero(there & (lengths != dim))
    if uneven.size:
        raise ValueError(
            f"{path}, row {first + uneven[0]}, column {name!r}: found {lengths[uneven[0]]:.0f} "
            f"values, expected {dim} as in the rows before"
        )
    flat = compute.list_flatten(column).to_numpy(zero_copy_only=False)
    if there.all():
        return flat.reshape(len(column), dim)
    # A row without a vector is one of missing values.
    values = np.full((len(column), dim), np.nan, np.result_type(flat.dtype, np.float32))
    values[there] = flat.reshape(-1, dim)
    return values


def _parquet_batches(
    path: Path, columns: list[str], start: int, rows: int
) -> Iterator[tuple[int, Any]]:
    with open_parquet(path, buffer_size=_BUFFER_BYTES) as file:
        first, groups = 0, list(range(file.metadata.num_row_groups))
        while groups and first + file.metadata.row_group(groups[0]).num_rows <= start:
            first += file.metadata.row_group(groups.pop(0)).num_rows
        batches = file.iter_batches(batch_size=rows, row_groups=groups, columns=columns)
        yield from _checked(path, "Parquet", batches, columns, first)


def _arrow_batches(
    path: Path, columns: list[str], start: int, rows: int, *, fields: list[int] | None = None
) -> Iterator[tuple[int, Any]]:
    del start, rows  # batches are as they were written, and cost little to pass over
    with _arrow_file(path) as source:
        _, batches = _record_batches(path, source, fields)
        yield from _checked(path, "Arrow", batches, columns, 0)


def _checked(
    path: Path, kind: str, batches: Iterator[Any], columns: list[str], first: int
) -> Iterator[tuple[int, Any]]:
    """First row and record batch; a damaged one is refused before a value of it is touched."""
    while True:
        with reading(path, kind):
            batch = next(batches, None)
            if batch is not None:
                # An offset out of range would otherwise read memory that is not the file's.
                batch.validate(full=True)
                batch = batch.select(columns)
        if batch is None:
            return
        yield first, batch
        first += batch.num_rows


def _arrow_file(path: Path) -> Any:
    with reading(path, "Arrow"):
        return files.optional("pyarrow").memory_map(str(path))


def _record_batches(path: Path, source: Any, fields: list[int] | None) -> tuple[Any, Iterator[Any]]:
    """Schema and record batches of a mapped file of either format.

    ``fields`` are the only ones unpacked, but they are copied; without it, what is not packed is
    not copied either.
    """
    arrow = files.optional("pyarrow")
    options = arrow.ipc.IpcReadOptions(included_fields=fields)
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(max(0, path.stat().st_size - len(_STREAM_END)))
        end = file.read()
    with reading(path, "Arrow"):
        if magic == b"ARROW1":
            reader = arrow.ipc.open_file(source, options=options)
            return reader.schema, map(reader.get_batch, range(reader.num_record_batches))
        if magic[:4] == b"FEA1":
            raise ValueError(f"{path}: Feather version 1; save it as version 2")
        reader = arrow.ipc.open_stream(source, options=options)
        # The format lets a stream end anywhere between two batches, so one that was cut there
        # reads as a shorter one.
        if end != _STREAM_END:
            raise EOFError("no end-of-stream mark")
        return reader.schema, iter(reader)

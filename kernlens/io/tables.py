"""Embeddings from columns: Parquet files and Arrow's own (Feather) files."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens import files
from kernlens.io.columns import (
    ID_NAMES,
    damaged,
    first_named,
    open_parquet,
    plain,
    read_ids,
    read_table,
)
from kernlens.io.stored import Stored, matrix_shape

_BUFFER_BYTES = 2**16
_STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class _Layout(NamedTuple):
    """Which columns hold what: vectors are one column of lists, or a column a dimension."""

    ids: str | None
    scale: str | None
    vectors: list[str]
    lists: bool


def open_vectors(path: Path, id_column: str | None, key: str | None) -> Stored:
    """A ``.parquet`` file, read in batches of rows."""
    del key
    with open_parquet(path) as file:
        layout = _layout(path, file.schema_arrow, id_column)
        rows = file.metadata.num_rows
        beside = [name for name in (layout.ids, layout.scale) if name is not None]
        table = read_table(path, file, beside or layout.vectors[:0])
    return _stored(path, layout, file.schema_arrow, rows, table, partial(_parquet_batches, path))


def open_arrow(path: Path, id_column: str | None, key: str | None) -> Stored:
    """An ``.arrow`` or ``.feather`` file, of the file or the stream format, mapped."""
    del key
    arrow = files.optional("pyarrow")
    with _arrow_file(path) as source:
        schema, _ = _record_batches(path, source, None)
    layout = _layout(path, schema, id_column)
    beside = [name for name in (layout.ids, layout.scale) if name is not None]
    rows, read = 0, []
    fields = [schema.names.index(name) for name in beside] or None
    for _, batch in _arrow_batches(path, beside, 0, 0, fields=fields):
        rows += batch.num_rows
        read.append(batch)
    if not rows:
        raise ValueError(f"{path}: no rows; found columns {schema.names}")
    table = arrow.Table.from_batches(read)
    return _stored(path, layout, schema, rows, table, partial(_arrow_batches, path))


def _layout(path: Path, schema: Any, id_column: str | None) -> _Layout:
    kinds = files.optional("pyarrow").types
    types = {field.name: field.type for field in schema}
    if id_column is not None:
        files.check_columns(path, schema.names, [id_column])
    lists = [
        n
        for n, t in types.items()
        if n != id_column
        and (kinds.is_list(t) or kinds.is_large_list(t) or kinds.is_fixed_size_list(t))
    ]
    if len(lists) > 1:
        raise ValueError(f"{path}: found list columns {lists}; expected one, the vectors")
    id_column = id_column or first_named(types, ID_NAMES)
    others = [name for name in types if name != id_column]
    if lists:
        kind = types[lists[0]].value_type
        if not (kinds.is_floating(kind) or kinds.is_integer(kind)):
            raise ValueError(f"{path}: column {lists[0]!r} holds lists of {kind}; expected numbers")
        scale = first_named(others, ("scale",)) if kinds.is_integer(kind) else None
        spare = [name for name in others if name not in (*lists, scale)]
        if id_column is None and len(spare) > 1:
            raise ValueError(f"{path}: which column is the id? found {spare}; name it")
        return _Layout(id_column or next(iter(spare), None), scale, lists, lists=True)
    if id_column is None:
        id_column = _odd_column(types, kinds)
    vectors = [name for name in types if name != id_column]
    for name in vectors:
        if not (kinds.is_floating(types[name]) or kinds.is_integer(types[name])):
            raise ValueError(
                f"{path}: column {name!r} is {types[name]}; expected a number a dimension "
                "in every column but the id"
            )
    if not vectors:
        raise ValueError(f"{path}: no vectors; found columns {list(types)}")
    return _Layout(id_column, None, vectors, lists=False)


def _odd_column(types: Mapping[str, Any], kinds: Any) -> str | None:
    """The only column of text, or the only one of integers where all others hold floats."""
    text = [n for n, t in types.items() if kinds.is_string(t) or kinds.is_large_string(t)]
    if text:
        return text[0] if len(text) == 1 else None
    whole = [n for n, t in types.items() if kinds.is_integer(t)]
    floats = [n for n, t in types.items() if kinds.is_floating(t)]
    return whole[0] if len(whole) == 1 and floats else None


def _stored(
    path: Path, layout: _Layout, schema: Any, rows: int, beside: Any, batches: Any
) -> Stored:
    """What both formats share; ``batches(columns, start, rows)`` gives row and record batch."""
    ids = None if layout.ids is None else read_ids(path, layout.ids, beside.column(layout.ids))
    scale = None
    if layout.scale is not None:
        scale, _ = plain(beside.column(layout.scale))
        if scale is None or scale.dtype.kind not in "iuf":
            kind = beside.column(layout.scale).type
            raise ValueError(f"{path}: column {layout.scale!r} is {kind}; expected numbers")
        scale = scale[:, None]
    kinds = [schema.field(name).type for name in layout.vectors]
    dim = len(kinds)
    if layout.lists:
        dim = _list_width(path, layout.vectors[0], kinds[0], batches)
        kinds = [kinds[0].value_type]
    dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in kinds))
    shape = matrix_shape(path, (rows, dim))
    return Stored(shape, dtype, partial(_blocks, path, layout, dim, batches), ids, scale)


def _list_width(path: Path, name: str, kind: Any, batches: Any) -> int:
    if files.optional("pyarrow").types.is_fixed_size_list(kind):
        return kind.list_size
    for _, batch in batches([name], 0, 1):
        known = batch.column(0).drop_null()
        if len(known):
            return len(known[0])
    raise ValueError(f"{path}, column {name!r}: no vector in any row; expected numbers")


def _blocks(
    path: Path, layout: _Layout, dim: int, batches: Any, start: int, stop: int, rows: int
) -> Iterator[np.ndarray]:
    # Missing values come out as NaN, and are treated as those.
    for first, batch in batches(layout.vectors, start, rows):
        if first >= stop:
            return
        skip = max(0, start - first)
        batch = batch.slice(skip, stop - first - skip)
        for part in range(0, batch.num_rows, rows):
            own = batch.slice(part, rows)
            if layout.lists:
                yield _stack_lists(path, layout.vectors[0], first + skip + part, dim, own.column(0))
            else:
                columns = [column.to_numpy(zero_copy_only=False) for column in own.columns]
                yield np.stack(columns, axis=1)


def _stack_lists(path: Path, name: str, first: int, dim: int, column: Any) -> np.ndarray:
    compute = files.optional("pyarrow.compute")
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
    arrow = files.optional("pyarrow")
    with open_parquet(path, buffer_size=_BUFFER_BYTES) as file:
        first, groups = 0, list(range(file.metadata.num_row_groups))
        while groups and first + file.metadata.row_group(groups[0]).num_rows <= start:
            first += file.metadata.row_group(groups.pop(0)).num_rows
        batches = file.iter_batches(batch_size=rows, row_groups=groups, columns=columns)
        while True:
            try:
                batch = next(batches, None)
            except (arrow.ArrowException, OSError) as error:
                raise damaged(path, error) from error
            if batch is None:
                return
            yield first, batch
            first += batch.num_rows


def _arrow_batches(
    path: Path, columns: list[str], start: int, rows: int, *, fields: list[int] | None = None
) -> Iterator[tuple[int, Any]]:
    del start, rows  # batches are as they were written, and cost little to pass over
    arrow = files.optional("pyarrow")
    first = 0
    with _arrow_file(path) as source:
        _, batches = _record_batches(path, source, fields)
        while True:
            try:
                batch = next(batches, None)
            except (arrow.ArrowException, OSError) as error:
                raise damaged(path, error) from error
            if batch is None:
                return
            yield first, batch.select(columns)
            first += batch.num_rows


def _arrow_file(path: Path) -> Any:
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
    try:
        if magic == b"ARROW1":
            reader = arrow.ipc.open_file(source, options=options)
            return reader.schema, map(reader.get_batch, range(reader.num_record_batches))
        if magic[:4] == b"FEA1":
            raise ValueError(f"{path}: Feather version 1; save it as version 2")
        reader = arrow.ipc.open_stream(source, options=options)
    except (arrow.ArrowException, OSError) as error:
        raise damaged(path, error) from error
    # The format lets a stream end anywhere between two batches, so one that was cut there reads
    # as a shorter one.
    if end != _STREAM_END:
        raise damaged(path, EOFError("no end-of-stream mark"))
    return reader.schema, iter(reader)

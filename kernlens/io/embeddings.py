"""Embeddings from NumPy and Parquet files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens.datasets import files
from kernlens.io.columns import (
    ID_NAMES,
    choose_reader,
    first_named,
    open_parquet,
    read_ids,
    read_table,
)

_CHUNK_VALUES = 2**24


class Embeddings(NamedTuple):
    """Rows of an embedding file.

    Attributes:
      values: real and finite, ``[n, d]``; a read-only memory map of the file where it can be.
      ids: id of each row as text, each once, ``[n]``; None for row numbers.
      source: what to call the file in an error.
    """

    values: np.ndarray
    ids: np.ndarray | None = None
    source: str = "embeddings"


def read_embeddings(path: str | Path, *, id_column: str | None = None) -> Embeddings:
    """Embeddings from a file.

    Args:
      path: ``.npy`` (numbers, ``[n, d]``, no ids) or ``.parquet``: an id column, which may be
        lacking, beside one column of lists of equal length or one numeric column a dimension.
      id_column: name of the id column; without it, found as the module's docstring says. A ``.npy``
        file has none, and passes over it.

    Returns:
      Embeddings; integers become float32, other floats keep their width.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown suffix, an empty, truncated or pickled file, another rank than 2,
        values that are not numbers or not finite, rows of unequal length, a missing column, a
        repeated id.
      ImportError: a Parquet file without pyarrow installed; names the extra.
    """
    path = files.existing(path)
    read = choose_reader(path, {".npy": _read_npy, ".parquet": _read_vectors})
    values, ids = read(path, id_column)
    if values.ndim != 2:
        raise ValueError(f"{path}: found an array of shape {values.shape}; expected [rows, dims]")
    if 0 in values.shape:
        raise ValueError(f"{path}: empty, shape {values.shape}; expected rows of numbers")
    values = _as_floats(path, values)
    _check_finite(path, values)
    return Embeddings(values, ids, str(path))


def _read_npy(path: Path, id_column: str | None) -> tuple[np.ndarray, None]:
    del id_column
    with path.open("rb") as file:
        start = file.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise ValueError(f"{path}: not a .npy file: starts with {start!r}; save it with numpy.save")
    try:
        with np.errstate(over="raise"):
            return np.load(path, mmap_mode="r", allow_pickle=False), None
    except (ValueError, EOFError, ArithmeticError) as error:
        if "Python objects" in str(error):
            raise ValueError(
                f"{path}: holds pickled Python objects, which are never loaded; expected numbers, "
                "[rows, dims]"
            ) from error
        raise ValueError(f"{path}: truncated or damaged .npy file: {error}") from error


def _read_vectors(path: Path, id_column: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    kinds = files.optional("pyarrow").types
    with open_parquet(path) as file:
        schema = file.schema_arrow
        if id_column is not None:
            files.check_columns(path, schema.names, [id_column])
        types = {field.name: field.type for field in schema}
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
            spare = [name for name in others if name not in lists]
            if id_column is None and len(spare) > 1:
                raise ValueError(f"{path}: which column is the id? found {spare}; name it")
            id_column = id_column or next(iter(spare), None)
            vectors = lists
        else:
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
        table = read_table(path, file, [*([id_column] if id_column else []), *vectors])
    ids = None
    if id_column is not None:
        ids = read_ids(path, id_column, table.column(id_column))
    if lists:
        return _stack_lists(path, lists[0], table.column(lists[0])), ids
    columns = [table.column(name) for name in vectors]
    for name, column in zip(vectors, columns, strict=True):
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise ValueError(f"{path}, row {row}, column {name!r}: no value; expected a number")
    return np.stack([column.to_numpy() for column in columns], axis=1), ids


def _odd_column(types: Mapping[str, Any], kinds: Any) -> str | None:
    """The only column of text, or the only one of integers where all others hold floats."""
    text = [n for n, t in types.items() if kinds.is_string(t) or kinds.is_large_string(t)]
    if text:
        return text[0] if len(text) == 1 else None
    whole = [n for n, t in types.items() if kinds.is_integer(t)]
    floats = [n for n, t in types.items() if kinds.is_floating(t)]
    return whole[0] if len(whole) == 1 and floats else None


def _stack_lists(path: Path, name: str, column: Any) -> np.ndarray:
    arrow, compute = files.optional("pyarrow"), files.optional("pyarrow.compute")
    kind = column.type.value_type
    if not (arrow.types.is_floating(kind) or arrow.types.is_integer(kind)):
        raise ValueError(f"{path}: column {name!r} holds lists of {kind}; expected numbers")
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise ValueError(f"{path}, row {row}, column {name!r}: no vector; expected numbers")
    lengths = compute.list_value_length(column).to_numpy()
    uneven = np.flatnonzero(lengths != lengths[0])
    if uneven.size:
        raise ValueError(
            f"{path}, row {uneven[0]}, column {name!r}: found {lengths[uneven[0]]} values, "
            f"expected {lengths[0]} as in row 0; {uneven.size} of {len(lengths)} rows differ"
        )
    # Missing values inside a vector come out as NaN and are counted with those.
    return compute.list_flatten(column).to_numpy().reshape(len(lengths), -1)


def _as_floats(path: Path, values: np.ndarray) -> np.ndarray:
    kind = values.dtype
    if kind.kind in "iu":
        return values.astype(np.float32)
    if kind.kind != "f":
        hint = " (bfloat16? save it as float32)" if kind == np.dtype("V2") else ""
        raise ValueError(f"{path}: values are {kind}{hint}; expected real numbers")
    wanted = kind.newbyteorder("=") if kind.itemsize <= 8 else np.dtype(np.float64)
    return values if wanted == kind else values.astype(wanted)


def _check_finite(path: Path, values: np.ndarray) -> None:
    chunk = max(1, _CHUNK_VALUES // values.shape[1])
    bad = [
        start + np.flatnonzero(~np.all(np.isfinite(values[start : start + chunk]), axis=1))
        for start in range(0, len(values), chunk)
    ]
    rows = np.concatenate(bad)
    if rows.size:
        raise ValueError(
            f"{path}: {rows.size} of {len(values)} rows hold NaN, infinity or no value, "
            f"first row {rows[0]}; expected finite numbers"
        )

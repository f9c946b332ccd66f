"""Embeddings in: rows ``[n, d]`` from whatever holds them, and several of them by name.

Rows keep their order and their dtype, and are not copied where their memory can be shared. Whether
they are finite is asked by those that read them.
"""

import numbers
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernlens.arrays import cells, libraries
from kernlens.types import Array, Stream

EXPECTED = "an embedding, one row of numbers per item, [n, d]"

ID_COLUMN = re.compile("(.*_)?id|unnamed: 0|__index_level_0__", re.IGNORECASE)
"""Names of columns that number rows and are no feature; the last two are pandas' saved index."""


def as_rows(x: Any) -> np.ndarray | Array | Stream:
    """Rows of an embedding.

    Args:
      x: an array of NumPy or JAX, or a torch tensor (bfloat16 and ones that require a gradient
        too); a DataFrame of pandas or polars or a table of pyarrow with numbers alone; a Series or
        column of vectors; a list of vectors; or a stream, which has a method ``chunks``.

    Returns:
      A stream as it is; else an array ``[n, d]`` of NumPy, or of JAX where ``x`` is one or NumPy
      has no such dtype. Floats and integers keep their dtype (columns of several, NumPy's common
      one), bool is read as uint8, 0 and 1, and a missing number of a table is NaN.

    Raises:
      ValueError: anything else, with where it was found: text or dates (the column, or the row),
        ids (a column called ``id`` or ``..._id``), rows of several lengths (the first that
        differs), complex numbers, masked values, an array that is not ``[n, d]``.

    Examples:
      >>> as_rows([[0.5, 1], [2, 0.25]])
      array([[0.5 , 1.  ],
             [2.  , 0.25]])
    """
    if isinstance(x, Stream):
        return x
    columns = libraries.columns(x)
    if columns is not None:
        return _table_rows(x, columns)
    if libraries.is_column(x):
        return _column_rows(x)
    if libraries.is_array(x):
        return _array_rows(libraries.array(x), libraries.kind_of(x))
    return _vectors(libraries.listed(x, expected=EXPECTED))


def as_named(embeddings: Any) -> dict[str, np.ndarray | Array | Stream]:
    """Several embeddings by name.

    Args:
      embeddings: what :func:`as_rows` takes, by name; or a list or tuple of them, which get their
        positions for names, ``"0"``, ``"1"`` and so on.

    Returns:
      Rows by name, in the order given.

    Raises:
      ValueError: no embedding; two of one name; one embedding alone, without a name; what
        :func:`as_rows` raises, with the name.

    Examples:
      >>> list(as_named([np.eye(3), np.ones((3, 2))]))
      ['0', '1']
    """
    hint = ""
    if isinstance(embeddings, Mapping):
        pairs = embeddings.items()
    elif isinstance(embeddings, list | tuple) and not hasattr(embeddings, "_fields"):
        pairs, hint = enumerate(embeddings), "; one embedding alone goes by name, {name: rows}"
    else:
        raise ValueError(
            "expected embeddings by name, {name: rows}, or a list of them; "
            f"got one {libraries.kind_of(embeddings)}"
        )
    found: dict[str, np.ndarray | Array | Stream] = {}
    for name, given in pairs:
        if str(name) in found:
            raise ValueError(f"two embeddings have the name {str(name)!r}; expected one each")
        try:
            found[str(name)] = as_rows(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}{hint}") from error
    if not found:
        raise ValueError("expected at least one embedding, {name: rows}; got none")
    return found


def _array_rows(x: np.ndarray | Array, kind: str) -> np.ndarray | Array:
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        row = cells.first(np.ma.getmaskarray(x).reshape(len(x), -1).any(axis=1))
        raise ValueError(f"expected {EXPECTED}; got a masked value in row {row}, counted from 0")
    x = np.asarray(x) if isinstance(x, np.ndarray) else x  # a plain array of a matrix or subclass
    if x.dtype == object and x.ndim in (1, 2):
        return _vectors(x.tolist() if x.ndim == 2 else list(x))
    if x.dtype.names is not None or not _is_real(x.dtype):
        raise ValueError(f"expected {EXPECTED}; got {kind} of dtype {x.dtype}, {x.shape}")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"expected {EXPECTED}; got {kind} of shape {x.shape}")
    if x.dtype == bool:
        return x.view(np.uint8) if isinstance(x, np.ndarray) else x.astype(np.uint8)
    return x


def _is_real(dtype: Any) -> bool:
    return dtype == np.bool_ or (
        jnp.issubdtype(dtype, np.number) and not jnp.issubdtype(dtype, np.complexfloating)
    )


def _table_rows(x: Any, columns: list[libraries.Column]) -> np.ndarray | Array:
    arrays = [libraries.numbers_of(column.values) for column in columns]
    numeric = [found for found in arrays if found is not None]
    if len(columns) == 1 and not numeric:
        return _column_rows(columns[0].values)
    pairs = zip(columns, arrays, strict=True)
    other = [column.name for column, found in pairs if found is None]
    ids = [column.name for column in columns if ID_COLUMN.fullmatch(column.name)]
    if other or not columns:
        raise ValueError(
            f"expected columns of numbers; {_some(other) if other else 'there is none'}: choose "
            "the features, or give a column of vectors by itself"
        )
    if ids and len(columns) > 1:
        raise ValueError(
            f"expected features; column {_some(ids)} is an id by its name: drop it, or rename it"
        )
    if len({found.dtype for found in numeric}) == 1 and hasattr(x, "iloc"):
        whole = x.to_numpy()  # pandas often has such columns in one piece
        if whole.dtype == numeric[0].dtype:
            return _array_rows(whole, libraries.kind_of(x))
    plain = [found.view(np.uint8) if found.dtype == bool else found for found in numeric]
    return np.stack(plain, axis=1).astype(np.result_type(*plain), copy=False)


def _column_rows(x: Any) -> np.ndarray | Array:
    """Rows of a column of vectors."""
    if libraries.numbers_of(x) is not None:
        raise ValueError(
            f"expected {EXPECTED}; got {libraries.kind_of(x)} of one number per row, a table of "
            "which is an embedding of one column"
        )
    if str(getattr(x, "type", "")).startswith(("list", "large_list", "fixed_size_list")):
        found = _arrow_rows(x)
        if found is not None:
            return found
    values = x.to_numpy() if str(getattr(x, "dtype", "")).startswith("Array") else None  # polars
    if values is not None and values.ndim == 2 and values.dtype != object:
        return _array_rows(values, libraries.kind_of(x))
    return _vectors(list(libraries.values_of(x)))


def _arrow_rows(x: Any) -> np.ndarray | Array | None:
    """Rows of a list column of pyarrow, in its memory; None where one is missing or differs."""
    if hasattr(x, "combine_chunks"):
        x = x.combine_chunks()
    lengths = np.asarray(x.value_lengths()) if x.null_count == 0 and len(x) else np.zeros(0)
    values = libraries.numbers_of(x.flatten()) if len(set(lengths.tolist())) == 1 else None
    return None if values is None else _array_rows(values.reshape(len(x), -1), "pyarrow")


def _vectors(rows: Sequence) -> np.ndarray | Array:
    """Rows of a sequence of vectors."""
    if rows and not isinstance(rows[0], list):
        rows = [
            np.asarray(libraries.array(row)) if libraries.is_array(row) else row for row in rows
        ]
    try:
        found = np.asarray(rows)
    except ValueError:  # of several lengths
        found = None
    if found is None or found.ndim < 2 or found.dtype.kind not in "bfiuV":
        for i, row in enumerate(rows):
            told = _trouble(row, rows[0])
            if told is not None:
                raise ValueError(f"expected {EXPECTED}; row {i} {told}")
    if found is None or found.dtype == object:  # numbers that NumPy has no dtype for
        found = np.asarray([list(map(float, row)) for row in rows])
    return _array_rows(found, libraries.kind_of(rows))


def _trouble(row: Any, first: Any) -> str | None:
    """What is wrong with a row of an embedding, if anything."""
    if isinstance(row, str):
        return f"is the text {row[:20]!r}: read it as numbers first, for example by json.loads"
    if cells.is_missing(row):
        return f"is missing, {row!r}"
    if not isinstance(row, Sequence | np.ndarray) or np.ndim(row) == 0:
        return f"is no vector, {row!r}"
    if len(row) != len(first):
        return f"has length {len(row)}, and row 0 has {len(first)}"
    for value in row:
        if isinstance(value, str):
            return f"holds the text {value[:20]!r}"
        if not isinstance(value, numbers.Real | Decimal | np.generic | Sequence):
            return f"holds {value!r}"
    return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")

"""Tensors, columns and tables of other libraries, read without importing them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax

UNREADABLE = (BufferError, RuntimeError, TypeError, ValueError)
"""What libraries raise for memory that they cannot hand over."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      name: its name, as text.
      values: its values, in the container of its library.
    """

    name: str
    values: Any


def columns(x: Any) -> list[Column] | None:
    """Columns of a table.

    Args:
      x: a DataFrame of pandas or polars, a Table or RecordBatch of pyarrow, or anything else.

    Returns:
      Its columns in order, or None where ``x`` is no table.
    """
    if hasattr(x, "iloc") and hasattr(x, "columns"):  # pandas
        return [Column(str(name), x.iloc[:, i]) for i, name in enumerate(x.columns)]
    if hasattr(x, "get_columns"):  # polars
        return [Column(column.name, column) for column in x.get_columns()]
    if hasattr(x, "column_names") and isinstance(getattr(x, "columns", None), list):  # pyarrow
        return [Column(*pair) for pair in zip(x.column_names, x.columns, strict=True)]
    return None


def is_column(x: Any) -> bool:
    """Whether ``x`` is one column: a Series or Index, or an array of pyarrow."""
    return hasattr(x, "to_pylist") or (
        hasattr(x, "to_numpy") and hasattr(x, "dtype") and columns(x) is None
    )


def values_of(x: Any) -> np.ndarray | list:
    """Values of a column that keeps its missing ones apart from the rest.

    Args:
      x: a column, for which :func:`is_column` holds.

    Returns:
      An array of numbers or of objects, or a list, ``[n]``. Integers with missing values stay
      integers, which an array of floats would round above 2**53.
    """
    if hasattr(x, "to_pylist"):  # pyarrow
        plain = x.null_count == 0 and str(x.type) in _ARROW_NUMBERS
        return x.to_numpy() if plain else x.to_pylist()
    if hasattr(x, "null_count"):  # polars
        plain = x.dtype.is_numeric() and not x.dtype.is_decimal() and x.null_count() == 0
        return x.to_numpy() if plain else x.to_list()
    return x.to_numpy() if isinstance(x.dtype, np.dtype) else x.to_numpy(dtype=object)


def numbers_of(x: Any) -> np.ndarray | None:
    """Values of a column of numbers or bool.

    Args:
      x: a column, for which :func:`is_column` holds.

    Returns:
      Array ``[n]`` in the memory of the column where that can be, NaN where a number is missing;
      None for a column of anything else.
    """
    if hasattr(x, "to_pylist"):  # pyarrow
        if str(x.type) not in (*_ARROW_NUMBERS, "bool"):
            return None
        found = x.to_numpy(zero_copy_only=False)
    elif hasattr(x, "null_count"):  # polars
        if not x.dtype.is_numeric() and str(x.dtype) != "Boolean":
            return None
        found = x.to_numpy()
    elif x.dtype.kind not in "bfiu":
        return None
    elif isinstance(x.dtype, np.dtype):
        found = x.to_numpy()
    else:
        missing = np.asarray(x.isna())
        kept = getattr(x.dtype, "numpy_dtype", np.dtype(np.float64))
        kept = np.result_type(kept, np.float16) if missing.any() else kept
        found = x.to_numpy(dtype=kept, na_value=np.nan) if missing.any() else x.to_numpy(kept)
    return found.astype(np.float64) if found.dtype == object else found  # bool with missing ones


def array(x: Any) -> "np.ndarray | jax.Array":
    """An array or tensor of any library; its memory is shared where that library allows it.

    Args:
      x: an array of NumPy or JAX, or an object with ``__dlpack__`` or ``__array__``, such as a
        torch tensor. The gradient that a tensor records is left behind.

    Returns:
      ``x`` itself if it is an array of NumPy or JAX; else NumPy's view of its memory; else, for
      memory or a dtype that NumPy does not take (bfloat16), an array of JAX.

    Raises:
      ValueError: neither can read it.
    """
    if isinstance(x, np.ndarray):
        return x
    import jax

    if isinstance(x, jax.Array):
        return x
    given, x = x, x.detach() if hasattr(x, "detach") else x  # torch, which refuses otherwise
    readers = [np.from_dlpack, jax.numpy.from_dlpack] if hasattr(x, "__dlpack__") else []
    if hasattr(x, "contiguous"):  # torch: JAX takes no strides
        readers.append(lambda x: jax.numpy.from_dlpack(x.contiguous()))
    if hasattr(x, "__array__"):
        readers.append(np.asarray)
    reasons = []
    for read in readers:
        try:
            return read(x)
        except UNREADABLE as error:
            reasons.append(str(error).split("\n", 1)[0])
    reason = reasons[0] if reasons else "it is none"
    raise ValueError(
        f"{kind_of(given)} cannot be read as an array: {reason}; expected a dense array in the "
        "memory of the host, or of a device that JAX has"
    )


def is_array(x: Any) -> bool:
    """Whether :func:`array` may read ``x``."""
    return hasattr(x, "__dlpack__") or hasattr(x, "__array__")


def listed(x: Any, *, expected: str) -> Sequence:
    """The elements of a list, tuple, range or other ordered iterable.

    Args:
      x: anything else than an array, a column or a table.
      expected: what it should hold, for the error.

    Returns:
      A list or tuple.

    Raises:
      ValueError: a text, a mapping, a set or a value that holds no others.
    """
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return x
    hints = (
        (hasattr(x, "_fields"), "give one of its fields"),
        (isinstance(x, str | bytes | PurePath), "open a file with kernlens.io first"),
        (isinstance(x, Mapping), "give its values in the order of the rows, list(x.values())"),
        (isinstance(x, Set), "a set has no order"),
        (hasattr(x, "collect"), "collect() it first"),
        (hasattr(x, "toarray"), "make it dense with toarray()"),
    )
    for met, hint in hints:
        if met:
            raise ValueError(f"expected {expected}; got {kind_of(x)}: {hint}")
    if not isinstance(x, Iterable):
        raise ValueError(f"expected {expected}; got {kind_of(x)}")
    return list(x)


def check_same_order(a: Any, b: Any, *, names: tuple[str, str]) -> None:
    """Refuses two pandas containers whose indexes hold the same keys in another order.

    Rows go together by position, so that these would be put together wrongly. Indexes of other
    keys say nothing: one of the two may be just row numbers.

    Args:
      a: a container, of pandas or not.
      b: another.
      names: what to call them in the error.

    Raises:
      ValueError: the same keys in another order; tells of the first row that differs.
    """
    one: Any = getattr(a, "index", None)
    two: Any = getattr(b, "index", None)
    if not all(hasattr(index, "equals") for index in (one, two)) or len(one) != len(two):
        return
    if one.equals(two) or Counter(one) != Counter(two):
        return
    row = next(i for i, (left, right) in enumerate(zip(one, two, strict=True)) if left != right)
    raise ValueError(
        f"{names[0]} and {names[1]} have the same index in another order, from row {row} on "
        f"({one[row]!r} and {two[row]!r}); rows go together by position: reorder one by "
        ".loc[other.index], or drop its index by .reset_index(drop=True)"
    )


def kind_of(x: Any) -> str:
    """The type of a value, for a reader: ``torch.Tensor``, ``list``."""
    module = type(x).__module__.split(".", 1)[0]
    return type(x).__name__ if module == "builtins" else f"{module}.{type(x).__name__}"


_ARROW_NUMBERS = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float", "double", "halffloat",
)  # fmt: skip

"""Word vectors that gensim saved (``KeyedVectors.save``), read as data.

The file is a pickle, which is a program. It is not run: :func:`_state` follows only those of its
instructions that build text, numbers, lists and dicts, and keeps every call as a record of what
would be called. Large arrays lie in ``.npy`` files next to it.
"""

import io
import pickletools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernlens.io import numpy_files, roles
from kernlens.io.columns import check_ids
from kernlens.io.limits import Asked
from kernlens.io.stored import Stored, matrix_shape, real_dtype

_VALUES = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINBYTES", "BINBYTES",
    "BINBYTES8", "SHORT_BINSTRING", "BINSTRING", "STRING", "BININT", "BININT1", "BININT2", "INT",
    "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_KEYS = "index_to_key"
_DTYPES = ("f2", "f4", "f8")


class _Record:
    """An object that the pickle would make: what it calls, and the state that it sets."""

    def __init__(self, made_by: Any, args: Any):
        self.made_by, self.args, self.state = made_by, args, None


class _Name(NamedTuple):
    """Something that the pickle would import."""

    module: str
    name: str


_MARK = object()


def open_keyed_vectors(path: Path, asked: Asked) -> Stored:
    """A ``.kv`` file and the ``.kv.vectors.npy`` next to it; keys are ids."""
    state = _state(path)
    keys = state[_KEYS]
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise _damaged(path, f"{_KEYS} is no list of text")
    beside = path.with_name(f"{path.name}.vectors.npy")
    if "vectors" in state:
        values = _array(path, state["vectors"])
        shape = matrix_shape(path, values.shape)
        found = Stored(shape, real_dtype(path, values.dtype), partial(_blocks, values))
    elif beside.is_file():
        found = numpy_files.open_npy(beside, asked)
    else:
        raise ValueError(f"{path}: its vectors lie in {beside.name}, which is not there")
    if len(keys) != found.shape[0]:
        raise _damaged(path, f"{len(keys)} keys and {found.shape[0]} vectors")
    ids = None
    if not asked.by_row:
        ids = check_ids(path, "key", np.array(list(map(str, keys)), object), asked.limits)
    told = roles.told(None if asked.by_row else "key", found.shape[1], "")
    return found._replace(ids=ids, told=told, whole=None)


def _blocks(values: np.ndarray, start: int, stop: int, rows: int) -> Iterator[np.ndarray]:
    for first in range(start, stop, rows):
        yield values[first : min(first + rows, stop)]


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path}: not what gensim's KeyedVectors.save writes ({why}); save it by "
        "save_word2vec_format(..., binary=True) as .bin"
    )


def _array(path: Path, found: Any) -> np.ndarray:
    """The array of a record of NumPy's own pickling: version, shape, dtype, order and bytes."""
    try:
        _, shape, dtype, by_column, data = found.state
        kind = dtype.args[0]
        if kind not in _DTYPES or dtype.state[1] == ">":
            raise ValueError(f"values are {kind!r}")
        return np.frombuffer(data, f"<{kind}").reshape(shape, order="F" if by_column else "C")
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise _damaged(path, f"its vectors are no array: {error}") from error


def _state(path: Path) -> dict[Any, Any]:
    """The attributes of the pickled object."""
    try:
        found = _followed(path.read_bytes())
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    state = getattr(found, "state", None)
    if not isinstance(state, dict) or _KEYS not in state:
        raise _damaged(path, f"no {_KEYS}")
    return state


def _followed(content: bytes) -> Any:
    """What stands on the stack at the end; nothing is imported or called."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        at = len(stack) - 1 - stack[::-1].index(_MARK)
        found = stack[at + 1 :]
        del stack[at:]
        return found

    for opcode, arg, _ in pickletools.genops(io.BytesIO(content)):
        name = opcode.name
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            found = since_mark()
            stack.append(found if name == "LIST" else tuple(found))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            found = [stack.pop()] if name == "APPEND" else since_mark()
            stack[-1].extend(found)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            found = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
            if name == "DICT":
                stack.append({})
            stack[-1].update(zip(found[::2], found[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "GLOBAL":
                stack.append(_Name(*str(arg).split(" ", 1)))
            else:
                stack[-2:] = [_Name(*stack[-2:])]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [_Record(*stack[-2:])]
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if arg is None else arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[arg])
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name}")
    raise ValueError("no end")

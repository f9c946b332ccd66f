"""What a caller was given: optional packages, folders and files, and the columns of a table."""

import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def optional(module: str, *, extra: str = "data") -> Any:
    """Imports an optional package.

    Args:
      module: dotted module name.
      extra: the extra of kernlens that installs it.

    Returns:
      The module.

    Raises:
      ImportError: the package is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"this needs the package {package}: pip install 'kernlens[{extra}]'"
        ) from error


def folder(source: str, root: str | Path | None, expected: Sequence[str]) -> Path:
    """The folder that holds a source's files.

    Args:
      source: name of the source, for the error.
      root: folder given by the user.
      expected: names of the files that should be in it, for the error.

    Returns:
      The folder.

    Raises:
      ValueError: no folder given.
      FileNotFoundError: no such folder.
    """
    if root is None:
        raise ValueError(f"{source} needs root=, the folder that holds {', '.join(expected)}")
    path = Path(root)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "no such folder"
        raise FileNotFoundError(f"{path}: {what}; expected one that holds {', '.join(expected)}")
    return path


def existing(path: str | Path, expected: Sequence[str] = ()) -> Path:
    """The path itself where it is a file.

    Args:
      path: file.
      expected: names of all files the source needs, for the error.

    Returns:
      The path.

    Raises:
      IsADirectoryError: the path is a folder.
      FileNotFoundError: no such file; names the path and what was expected beside it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; expected a file")
    if not path.is_file():
        needed = f"; expected {', '.join(expected)} in {path.parent}" if expected else ""
        raise FileNotFoundError(f"{path}: no such file{needed}")
    return path


def check_columns(where: str | Path, found: Sequence[str], expected: Sequence[str]) -> None:
    """Refuses a table that lacks a column.

    Args:
      where: file, for the error.
      found: names of its columns.
      expected: names that have to be among them.

    Raises:
      ValueError: a column is missing or occurs twice; lists the columns found, and says which of
        them is spelled most like the one expected.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        near = [difflib.get_close_matches(name, found, 1)[:1] for name in missing]
        meant = ", ".join(repr(name) for names in near for name in names)
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; found {list(found)}"
            + (f"; did you mean {meant}?" if meant else "")
        )
    twice = [name for name in expected if list(found).count(name) > 1]
    if twice:
        raise ValueError(f"{where}: column {twice[0]!r} occurs twice; found {list(found)}")


def check_unique(
    where: str | Path,
    values: np.ndarray,
    column: str,
    lines: Callable[[], Iterator[int]],
) -> None:
    """Refuses a catalogue that lists one id twice.

    Args:
      where: file, for the error.
      values: the ids, ``[n]``.
      column: name of their column, for the error.
      lines: gives the line of each id in turn; called only for the error.

    Raises:
      ValueError: an id occurs twice; names it and its lines.
    """
    ordered = np.sort(values)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        at = [line for line, value in zip(lines(), values, strict=False) if value == repeated[0]]
        raise ValueError(
            f"{where}: {column} {str(repeated[0])!r} occurs {len(at)} times, on lines "
            f"{', '.join(map(str, at[:5]))}; expected each id once"
        )

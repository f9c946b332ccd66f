"""Files and folders: optional packages, checks before use, files written whole, and the cache.

A file is written aside and renamed, so that a reader finds the old one or all of the new one.
"""

import importlib
import os
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
      FileNotFoundError: no such file; names the path and what was expected beside it.
    """
    path = Path(path)
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
      ValueError: a column is missing or occurs twice; lists the columns found and expected.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; "
            f"found {list(found)}, expected {list(expected)}"
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


def check_writable(path: str | Path) -> None:
    """Refuses a path where no file can be written, so that a long run fails before it starts.

    Args:
      path: file to write later.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, for {path.name}")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file aside and moves it into place: a reader finds the old file or all of the new.

    Args:
      path: file to write; its folder has to exist. A device or pipe is written to as it is.
      content: text, written as UTF-8, or bytes.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the path is a folder.
    """
    check_writable(path)
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # Through a link, what it points to is replaced, not the link.
    path = path.resolve()
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """Where compiled programs are kept.

    Returns:
      ``KERNLENS_CACHE`` where that is set, else ``kernlens`` under ``XDG_CACHE_HOME`` or
      ``~/.cache``; None where ``KERNLENS_CACHE`` is ``off``, or there is no home folder.
    """
    chosen = os.environ.get("KERNLENS_CACHE", "")
    if chosen.lower() == "off":
        return None
    try:
        if chosen:
            return Path(chosen).expanduser()
        home = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG base directory specification has relative paths ignored.
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no home folder can be found
        return None
    return base / "kernlens"


def use_compilation_cache() -> Path | None:
    """Keeps what JAX compiles on disk for later processes; call it before the first compilation.

    Small programs are kept too: most of a short run is compiling them. A folder that the user gave
    JAX itself (``JAX_COMPILATION_CACHE_DIR``) is left in place. A folder that cannot be written
    turns the cache off without a word, for nothing but time is lost.

    Returns:
      The folder in use, or None where the cache is off.
    """
    folder = cache_folder()
    if folder is None:
        return None
    import jax

    given = getattr(jax.config, "jax_compilation_cache_dir", None)
    folder = Path(given) if given else folder
    if not given:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError):
            return None
        if not os.access(folder, os.W_OK | os.X_OK):
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder

"""Files written whole: aside, then on the disk, then renamed; and what a killed process left.

While a file is written aside, its process holds a lock on it. A file aside that nobody holds is
left over from a process that was killed.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from kernlens.files.locks import locked

_NUMBERS = itertools.count()
_ASIDE = re.compile(r"\.(.+)\.\d+\.\d+\.part", re.DOTALL)
_LONGEST = 200
"""Bytes of a name that the name of the file aside repeats; file systems take 255."""


def check_writable(path: str | Path) -> None:
    """Refuses a path where no file can be written, so that a long run fails before it starts.

    Writes an empty file aside and removes it, with what killed processes left there.

    Args:
      path: file to write later.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the path is a folder.
      OSError: no file can be made there; says why.
    """
    path = Path(path)
    _check_place(path)
    if path.exists() and not path.is_file():
        return
    _check_folder_takes_files(path.resolve().parent, path)
    clean(path.resolve().parent, path.name)


def check_apart(outputs: Mapping[str, Path | None], inputs: Iterable[str | Path]) -> None:
    """Refuses outputs that would replace a file that is read, or one another.

    Args:
      outputs: path by the option that names it; None or ``-`` is no file.
      inputs: files that are read, each with ``::`` and what is read of it or without.

    Raises:
      ValueError: names the option, the path and what else it is.
    """
    taken = {Path(str(path).split("::")[0]).resolve(): "a file that is read" for path in inputs}
    for flag, path in outputs.items():
        if path is None or path == Path("-"):
            continue
        if path.resolve() in taken:
            raise ValueError(f"{flag} {path}: would replace {taken[path.resolve()]}")
        taken[path.resolve()] = f"what {flag} writes"


def check_folder(flag: str, path: Path) -> None:
    """Refuses a folder in which no file can be written, before it is needed; makes none.

    Args:
      flag: option or argument that names it, for the error.
      path: a folder, or one to make later.

    Raises:
      ValueError: a file stands in its place, or in that of a folder above it.
      OSError: no file can be made there; says why.
    """
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise ValueError(f"{flag} must be a folder; {part} is a file")
            _check_folder_takes_files(part, path)
            return


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file aside and moves it into place: a reader finds the old file or all of the new.

    What is moved is on the disk by then, so that a machine that stops leaves one of the two as
    well. Files aside that killed processes left are removed.

    Args:
      path: file to write; its folder has to exist. A device or pipe is written to as it is.
      content: text, written as UTF-8, or bytes. What no text should hold, such as the bytes of a
        file name in another encoding, is written as ``\\udcff``, which JSON reads back.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: the path is a folder.
      OSError: a full disk, or a folder that cannot be written; names the path.
    """
    path = Path(path)
    _check_place(path)
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # Through a link, what it points to is replaced, not the link.
    path = path.resolve()
    with _naming(path):
        aside, file = _open_aside(path)
        try:
            with file:
                file.write(data)
                synced(file)
                if os.name == "posix":  # while it is locked, so that nobody takes it for left over
                    os.replace(aside, path)
            if os.name != "posix":
                os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    _sync_folder(path.parent)
    clean(path.parent, path.name)


def synced(file: IO[bytes]) -> None:
    """Has an open file on the disk, not only on its way there."""
    file.flush()
    os.fsync(file.fileno())


def clean(folder: Path, name: str | None = None) -> int:
    """Removes files aside that killed processes left in a folder.

    Args:
      folder: where they lie; those of folders in it are left.
      name: name of the file that they were to become; of any by default.

    Returns:
      How many were removed.
    """
    count = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            found = _ASIDE.fullmatch(path.name)
            if found is not None and (name is None or found[1] == _stem(name)):
                count += _removed(path)
    return count


def _removed(path: Path) -> bool:
    """Removes a file aside that no process holds."""
    with contextlib.suppress(OSError), path.open("rb+") as file:
        if locked(file, wait=False) and _is_at(file, path):
            path.unlink()
            return True
    return False


def _open_aside(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file next to the path, locked."""
    while True:
        aside = path.with_name(f".{_stem(path.name)}.{os.getpid()}.{next(_NUMBERS)}.part")
        try:
            file = aside.open("xb")
        except FileExistsError:  # of a process of that number, on another machine or long ago
            continue
        locked(file, wait=True)
        if _is_at(file, aside):
            return aside, file
        file.close()  # taken for left over before it was locked


def _stem(name: str) -> str:
    """As much of a name as the name of its file aside has room for."""
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, for {path.name}")


def _check_folder_takes_files(folder: Path, path: Path) -> None:
    with _naming(path):
        aside, file = _open_aside(folder / path.name)
        file.close()
        aside.unlink()


def _sync_folder(folder: Path) -> None:
    """Has the new name on the disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system name the path, and no file aside."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(f"{path}: cannot be written: {reason}; what it held is kept") from error

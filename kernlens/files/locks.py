"""Locks of files and folders: one process at a time, until it ends, however it ends."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None

LOCK = ".lock"
"""Name of the file whose lock is that of its folder."""


def locked(file: IO[bytes], *, wait: bool) -> bool:
    """Locks an open file until it is closed or its process ends.

    Args:
      file: an open file.
      wait: whether to wait for another process that holds it.

    Returns:
      Whether it is locked now; False too where the system, or the file's, has no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def held(flag: str, folder: Path) -> Iterator[None]:
    """Holds a folder for this process: another that wants to write there is refused.

    A process that is killed holds it no longer. Where the file system has no locks, nothing is
    held.

    Args:
      flag: option or argument that names the folder, for the error.
      folder: an existing folder.

    Raises:
      ValueError: another process holds it; names the process.
      OSError: the folder cannot be written.
    """
    path = folder / LOCK
    file = _taken(flag, folder, path)
    try:
        yield
    finally:
        # Removed before it is let go: who waits for it sees that it is no longer there.
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


def _taken(flag: str, folder: Path, path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab+", buffering=0)
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(100).decode(errors="replace").strip() or "that has just begun"
            file.close()
            raise ValueError(
                f"{flag} {folder}: another run, process {holder}, is writing there; wait for it, "
                f"or give another folder with {flag}"
            ) from None
        except OSError:  # the file system has no locks
            return file
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        except FileNotFoundError:
            pass
        file.close()  # the one that held it has just removed it
    with contextlib.suppress(OSError):  # on a full disk the lock holds, without a name
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n".encode())
    return file

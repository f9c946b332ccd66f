"""Files out, whole or not at all."""

import os
from pathlib import Path


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

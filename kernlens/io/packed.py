"""Bytes and lines of a file, unpacked where its name ends in ``.gz``, within bounds."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kernlens.io.limits import LIMITS, Limits


def open_bytes(path: Path, limits: Limits = LIMITS) -> IO[bytes]:
    """The file for reading; a packed one is unpacked, and refused once it is too large.

    Args:
      path: file, packed where its suffix is ``.gz``.
      limits: bounds how much a byte of the file may unpack to.

    Returns:
      A buffered file of bytes. Reading raises a ValueError for a damaged or outsized one.
    """
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path, limits), 2**16)


def lines(path: Path, limits: Limits = LIMITS) -> Iterator[bytes]:
    """Lines with their ends, as long as they may be; a longer one is a ValueError."""
    with open_bytes(path, limits) as file:
        number = 0
        while line := file.readline(limits.line + 1):
            number += 1
            if len(line) > limits.line:
                raise ValueError(
                    f"{path}, line {number}: more than {limits.line:,} bytes; expected lines of "
                    "text (Limits.line)"
                )
            yield line


class _Unpacked(io.RawIOBase):
    """A gzip file that counts what it gives."""

    def __init__(self, path: Path, limits: Limits):
        super().__init__()
        self._path, self._left = path, limits.bytes_of(path)
        self._file = gzip.GzipFile(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            found = self._file.read(len(buffer))
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{self._path}: truncated or damaged gzip file: {error}") from error
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(
                f"{self._path}: unpacks to far more than its {self._path.stat().st_size:,} bytes; "
                "a bomb? Raise --max-expansion (Limits.expansion) if it is right"
            )
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()

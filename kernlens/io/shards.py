"""Which files are meant by a path: one, those of a folder, or those of a pattern."""

import glob
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from kernlens import files
from kernlens.io.stored import suffix_of

_PASSED_OVER = re.compile(r"readme.*|licen[cs]e.*|changelog.*|[._].*", re.IGNORECASE)
_HIVE = re.compile(r"[^=/]+=[^/]*")
_BESIDE = (".json", ".md", ".crc", ".yaml", ".yml", ".log", ".pdf", ".html", "")


def parse(path: str | Path) -> tuple[Path, dict[str, str]]:
    """A path and what stands behind it: ``file.parquet::v1::id=sku``.

    Args:
      path: a path, then ``::`` before the name of a column or array, or ``::id=`` before the name
        of the ids, in any order.

    Returns:
      The path, and ``columns`` and ``id`` where they are given.

    Raises:
      ValueError: two names of one kind.
    """
    text = str(path)
    if "::" not in text or Path(text).exists():
        return Path(path), {}
    first, *parts = text.split("::")
    found: dict[str, str] = {}
    for part in parts:
        kind, name = ("id", part[3:]) if part.startswith("id=") else ("columns", part)
        if kind in found or not name:
            raise ValueError(f"{text}: expected FILE::COLUMN or FILE::id=COLUMN, each once")
        found[kind] = name
    return Path(first), found


def members(path: Path, suffixes: Collection[str]) -> list[Path]:
    """The files that are meant, in natural order: part-2 before part-10.

    In a folder, hidden and underscored names are skipped, and files that no reader takes next to
    those that one does (README, json, checksums). Folders ``key=value``, as Hive and Spark write,
    are entered.

    Raises:
      FileNotFoundError: no file.
      ValueError: several formats, a format that cannot be read, or another folder inside.
    """
    if path.is_dir():
        found = _among(path, path.iterdir(), suffixes)
    elif not path.exists() and glob.has_magic(str(path)):
        found = _among(path, map(Path, glob.glob(str(path))), suffixes)
    else:
        return [files.existing(path)]
    if not found:
        raise FileNotFoundError(
            f"{path}: no files there that can be read; expected one of {', '.join(suffixes)}"
        )
    formats = sorted({suffix_of(own) for own in found})
    if len(formats) > 1:
        raise ValueError(
            f"{path}: found files of several formats, {formats}; expected one: give a pattern such "
            f"as '{path}/*{formats[0]}'"
        )
    return sorted(found, key=_natural)


def _among(where: Path, paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    found: list[Path] = []
    for own in paths:
        if _PASSED_OVER.fullmatch(own.name):
            continue
        if own.is_dir():
            if not _HIVE.fullmatch(own.name):
                raise ValueError(
                    f"{where}: holds the folder {own.name!r}; expected files alone, or folders "
                    "key=value"
                )
            found += _among(where, own.iterdir(), suffixes)
        elif suffix_of(own) in suffixes or suffix_of(own) not in _BESIDE:
            found.append(own)
    return found


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Text by its letters, and the numbers in it by their value."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(p)) if p.isdecimal() and len(p) < 300 else (0, p) for p in parts]

"""Files and folders: optional packages, checks before use, files written whole, locks, the cache.

A file is written aside and renamed, so that a reader finds the old one or all of the new one.
"""

from kernlens.files.compiled import cache_folder, use_compilation_cache
from kernlens.files.given import check_columns, check_unique, existing, folder, optional
from kernlens.files.locks import held
from kernlens.files.writing import (
    check_apart,
    check_folder,
    check_writable,
    clean,
    synced,
    write_atomically,
)

__all__ = [
    "cache_folder",
    "check_apart",
    "check_columns",
    "check_folder",
    "check_unique",
    "check_writable",
    "clean",
    "existing",
    "folder",
    "held",
    "optional",
    "synced",
    "use_compilation_cache",
    "write_atomically",
]

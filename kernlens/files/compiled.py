"""Compiled programs, kept on disk for later processes."""

import contextlib
import functools
import glob
import math
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

_FAULT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']+)'")
_WRITING = 10.0  # seconds that a program of another process may take to be written


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
    turns the cache off without a word, for nothing but time is lost; so does one that is full. A
    damaged program is compiled and kept again, which is told once; one that another process writes
    at this moment is compiled, and left to it.

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
    _mend(folder)
    return folder


@functools.cache
def _mend(folder: Path) -> None:
    """Has damaged programs of a folder replaced.

    JAX warns of each at every run, compiles it, and keeps the damaged file, for there is one. Its
    warning comes before it looks whether there is, and names the program. JAX writes in place, so
    a program that another process has only begun to write reads as damaged too: it is young.
    """
    shown, told = warnings.showwarning, []

    def removed(path: Path, youngest: float) -> bool:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= youngest:
                path.unlink()
                return True
        return False

    def show(message: Any, *where: Any, **options: Any) -> None:
        fault = _FAULT.match(str(message))
        if fault is None:
            return shown(message, *where, **options)
        writing = fault[1] == "writing"
        kept = folder.glob(f"{glob.escape(fault[2])}-*")
        gone = [removed(path, -math.inf if writing else _WRITING) for path in kept]
        if writing:
            import jax

            jax.config.update("jax_enable_compilation_cache", False)
        elif any(gone) and not told:
            told.append(fault[2])
            print(
                f"note: compiled programs in {folder} were damaged; they are made again",
                file=sys.stderr,
            )
        return None

    warnings.showwarning = show

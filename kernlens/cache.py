"""A compilation cache on disk, so that a second run starts warm."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Where compiled programs are kept.

    Returns:
      ``KERNLENS_CACHE`` where that is set, else ``kernlens`` under ``XDG_CACHE_HOME`` or
      ``~/.cache``; None where ``KERNLENS_CACHE`` is ``off``.
    """
    chosen = os.environ.get("KERNLENS_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
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
        except OSError:
            return None
        if not os.access(folder, os.W_OK | os.X_OK):
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder

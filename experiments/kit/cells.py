"""Finished pieces of a run, kept in files, so that an interrupted run goes on where it stopped."""

import hashlib
import io
import json
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from kernlens.files import check_folder, clean, write_atomically
from kernlens.show import report

_SECONDS = "seconds it took"


class Cells:
    """Finished pieces of a run, each a file: a second call with the same name reads it back.

    A damaged file is made anew, and what a killed process was writing is removed.

    Args:
      folder: where they are kept; one folder a configuration.
      console: where progress is told.
      fresh: whether what is kept there is forgotten first.

    Raises:
      ValueError: the folder, or one above it, is a file.
      OSError: no file can be written there.
    """

    def __init__(self, folder: Path, console: Console, *, fresh: bool = False):
        check_folder("--cells", folder)
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        if fresh:
            for path in [*folder.glob("*.json"), *folder.glob("*.npz")]:
                path.unlink()
        self.folder = folder
        self.console = console
        self.fresh = fresh
        self.start = time.perf_counter()
        self._read: dict[Path, float] = {}
        self._made: set[Path] = set()
        self._beside: dict[Path, Cells] = {}

    @property
    def earlier(self) -> float:
        """Seconds that earlier runs spent on the pieces that this one read back."""
        return sum(self._read.values()) + sum(cells.earlier for cells in self._beside.values())

    def beside(self, folder: Path) -> "Cells":
        """Pieces that other experiments share, kept elsewhere; what they cost is this run's too."""
        if folder not in self._beside:
            self._beside[folder] = Cells(folder, self.console, fresh=self.fresh)
        return self._beside[folder]

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """The value of ``make()`` in JSON's types, computed once."""

        def write(path: Path, value: Any, seconds: float) -> None:
            report.write_json(path, {"name": name, "value": value, "seconds": seconds})

        def read(path: Path) -> tuple[Any, float]:
            kept = json.loads(path.read_text())
            return kept["value"], kept["seconds"]

        return self._once(name, ".json", lambda: report.to_json(make()), write, read)

    def arrays(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of ``make()``, computed once; for what is too large for JSON."""

        def write(path: Path, value: dict[str, np.ndarray], seconds: float) -> None:
            made = io.BytesIO()
            np.savez(made, allow_pickle=False, **value, **{_SECONDS: np.asarray(seconds)})
            write_atomically(path, made.getvalue())

        def read(path: Path) -> tuple[dict[str, np.ndarray], float]:
            # Opened here, since NumPy leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                value = {key: kept[key] for key in kept.files}
            return value, float(value.pop(_SECONDS))

        return self._once(name, ".npz", make, write, read)

    def seconds(self, name: str) -> float:
        """What a piece that is an array took, by whichever run made it."""
        with np.load(self._path(name, ".npz"), allow_pickle=False) as kept:
            return float(kept[_SECONDS])

    def tell(self, text: str) -> None:
        """Says how far a long cell is."""
        self.console.print(f"[dim]{self._clock()}  {text}[/dim]")

    def _once(
        self,
        name: str,
        suffix: str,
        make: Callable[[], Any],
        write: Callable[[Path, Any, float], None],
        read: Callable[[Path], tuple[Any, float]],
    ) -> Any:
        path = self._path(name, suffix)
        if path.exists():
            try:
                value, seconds = read(path)
            except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
                self.tell(f"{name}: what an earlier run kept is damaged; made anew")
            else:
                if path not in self._read and path not in self._made:
                    self._read[path] = seconds
                    self.tell(f"{name}: kept from an earlier run")
                return value
        start, before = time.perf_counter(), self.earlier
        value = make()
        took = time.perf_counter() - start
        # What a piece read back from an earlier run was spent on this one too.
        write(path, value, took + self.earlier - before)
        self._made.add(path)
        self.console.print(f"{self._clock()}  {name}: {took:.1f} s")
        return read(path)[0]

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / (hashlib.sha256(name.encode()).hexdigest()[:16] + suffix)

    def _clock(self) -> str:
        return f"{time.perf_counter() - self.start:7.1f} s"

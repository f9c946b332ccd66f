"""The runner all experiments share: command line, resumable cells, results file, figure.

An experiment is a module with a frozen dataclass ``Config``, an instance ``TINY`` of it, and

    run(config, cells) -> rows
    summarise(config, rows) -> summary
    tables(results) -> list of tables                what the terminal and the pages show
    draw(results) -> matplotlib Figure               from the results file alone

and, where values can be wrong, ``check(config)``, which raises ValueError before anything runs.
"""

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments.shown import footer
from kernlens.files import use_compilation_cache, write_atomically
from kernlens.show import report

RESULTS = Path(__file__).parent / "results"
_SECONDS = "seconds it took"
PACKAGES = ("kernlens", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, whatever is run."""

    tiny: bool = False
    """Run the few-second version that the tests run."""
    out: Path | None = None
    """Folder for results.json and figure.png; default experiments/results/<experiment>, and
    runs/<experiment>-tiny for --tiny."""
    cells: Path = Path("runs")
    """Folder that keeps finished cells, so that an interrupted run goes on where it stopped."""
    fresh: bool = False
    """Forget finished cells of this configuration first."""


class Cells:
    """Finished pieces of a run, each a file: a second call with the same name reads it back.

    A damaged file is made anew.

    Args:
      folder: where they are kept; one folder a configuration.
      console: where progress is told.
      fresh: whether what is kept there is forgotten first.

    Raises:
      ValueError: the folder, or one above it, is a file.
    """

    def __init__(self, folder: Path, console: Console, *, fresh: bool = False):
        check_folder("--cells", folder)
        folder.mkdir(parents=True, exist_ok=True)
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


def check_folder(flag: str, folder: Path) -> None:
    """Refuses a folder that is a file, or lies in one, before it is needed."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{flag} must be a folder; {part} is a file")


def at_least(config: Any, **lows: float) -> None:
    """Refuses a field of a configuration, or an entry of one, below its least value.

    Args:
      config: a configuration.
      **lows: the least value by field; a tuple must not be empty.

    Raises:
      ValueError: names the option, what was got and what is expected.
    """
    for name, low in lows.items():
        value = getattr(config, name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, tuple) and not value:
            raise ValueError(f"{flag} must name one value at least; got none")
        for one in value if isinstance(value, tuple) else (value,):
            if not one >= low:
                raise ValueError(f"{flag} must be at least {low:g}; got {one}")


def fingerprint(config: Any, fields: Sequence[str] | None = None) -> str:
    """A short name of a configuration, or of some fields; paths count as where they lead."""
    names = [f.name for f in dataclasses.fields(config)] if fields is None else fields
    values = {name: getattr(config, name) for name in names}
    known = {
        name: str(value.resolve()) if isinstance(value, Path) else report.to_json(value)
        for name, value in values.items()
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def environment() -> dict[str, Any]:
    """Versions and device, for the results file."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": device.platform,
        "device": device.device_kind,
        "machine": platform.machine(),
        "cpus": cpus(),
    }


def cpus() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def command(experiment: ModuleType, name: str, config: Any) -> str:
    """The command line that runs this configuration; a path is named by its last part."""
    words = [f"python -m experiments.{name}"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(experiment.Config(), field.name):
            flag = field.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
                continue
            text = report.to_json(value)
            parts = text if isinstance(text, list) else [text]
            words.append(" ".join([f"--{flag}", *map(str, parts)]))
    return " ".join(words)


def results(experiment: ModuleType, config: Any, options: Options, console: Console) -> Any:
    """Runs the experiment and writes ``results.json`` and ``figure.png``.

    Raises:
      ValueError: a folder that is a file, or a configuration that the experiment refuses; before
        anything runs.
    """
    name = Path(str(experiment.__file__)).stem
    out = options.out or (Path("runs") / f"{name}-tiny" if options.tiny else RESULTS / name)
    check_folder("--out", out)
    if hasattr(experiment, "check"):
        experiment.check(config)
    folder = options.cells / name / fingerprint(config)
    cells = Cells(folder, console, fresh=options.fresh)
    start = time.perf_counter()
    rows = experiment.run(config, cells)
    found = report.to_json(
        {
            "command": command(experiment, name, config),
            "config": config,
            "environment": environment(),
            # Of all runs that made a part of it, however often they were broken off.
            "seconds": time.perf_counter() - start + cells.earlier,
            "summary": experiment.summarise(config, rows),
            "rows": rows,
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(out / "results.json", found)
    kept = json.loads((out / "results.json").read_text())
    for table in experiment.tables(kept):
        console.print(table.rich(console.width))
    console.print(footer(kept))
    report.write_figure(out / "figure.png", experiment.draw(kept))
    console.print(f"wrote {out / 'results.json'} and {out / 'figure.png'}")
    return kept


def main(experiment: ModuleType, args: Sequence[str] | None = None) -> int:
    """Command line of an experiment: its ``Config`` fields and the runner's options.

    With ``--tiny``, fields that are not given are the tiny version's.
    """
    args = sys.argv[1:] if args is None else args
    default = experiment.TINY if "--tiny" in args else experiment.Config()

    def run(config: Any = default, options: Options = Options()) -> None:
        use_compilation_cache()
        results(experiment, config, options, report.console())

    run.__annotations__ = {"config": experiment.Config, "options": Options}
    try:
        tyro.cli(
            run, args=args, description=experiment.__doc__, config=(tyro.conf.OmitArgPrefixes,)
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept; run again to go on", file=sys.stderr)
        return 130
    return 0

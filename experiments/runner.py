"""The runner all experiments share: command line, resumable cells, results file, figure.

An experiment is a module with a frozen dataclass ``Config``, an instance ``TINY`` of it, and

    run(config, cells) -> rows
    summarise(config, rows) -> summary
    show(results) -> list of rich renderables        what the terminal prints
    draw(results) -> matplotlib Figure               from the results file alone
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

from kernlens import report
from kernlens.cache import use_compilation_cache

RESULTS = Path(__file__).parent / "results"
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
    """Finished pieces of a run, each a JSON file: a second call with the same name reads it back.

    Args:
      folder: where they are kept; one folder a configuration.
      console: where progress is told.
    """

    def __init__(self, folder: Path, console: Console):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.console = console
        self.start = time.perf_counter()

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """The value of ``make()`` in JSON's types, computed once."""
        path = self.folder / (hashlib.sha256(name.encode()).hexdigest()[:16] + ".json")
        if path.exists():
            kept = json.loads(path.read_text())
            self.tell(f"{name}: kept from an earlier run")
            return kept["value"]
        start = time.perf_counter()
        value = report.to_json(make())
        report.write_json(path, {"name": name, "value": value})
        self.console.print(f"{self._clock()}  {name}: {time.perf_counter() - start:.1f} s")
        return value

    def arrays(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of ``make()``, computed once; for what is too large for JSON."""
        path = self.folder / (hashlib.sha256(name.encode()).hexdigest()[:16] + ".npz")
        if not path.exists():
            start = time.perf_counter()
            value = make()
            aside = path.with_suffix(".part")
            with aside.open("wb") as file:
                np.savez(file, allow_pickle=False, **value)
            aside.replace(path)
            self.console.print(f"{self._clock()}  {name}: {time.perf_counter() - start:.1f} s")
        with np.load(path, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}

    def tell(self, text: str) -> None:
        """Says how far a long cell is."""
        self.console.print(f"[dim]{self._clock()}  {text}[/dim]")

    def _clock(self) -> str:
        return f"{time.perf_counter() - self.start:7.1f} s"


def environment() -> dict[str, Any]:
    """Versions and device, for the results file."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": device.platform,
        "device": device.device_kind,
        "machine": platform.machine(),
    }


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
    """Runs the experiment and writes ``results.json`` and ``figure.png``."""
    name = Path(str(experiment.__file__)).stem
    out = options.out or (Path("runs") / f"{name}-tiny" if options.tiny else RESULTS / name)
    text = json.dumps(report.to_json(config), sort_keys=True)
    folder = options.cells / name / hashlib.sha256(text.encode()).hexdigest()[:12]
    if options.fresh and folder.exists():
        for path in [*folder.glob("*.json"), *folder.glob("*.npz")]:
            path.unlink()
    start = time.perf_counter()
    rows = experiment.run(config, Cells(folder, console))
    found = report.to_json(
        {
            "command": command(experiment, name, config),
            "config": config,
            "environment": environment(),
            "seconds": time.perf_counter() - start,
            "summary": experiment.summarise(config, rows),
            "rows": rows,
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(out / "results.json", found)
    kept = json.loads((out / "results.json").read_text())
    for shown in experiment.show(kept):
        console.print(shown)
    report.write_figure(out / "figure.png", experiment.draw(kept))
    console.print(f"wrote {out / 'results.json'} and {out / 'figure.png'}")
    return kept


def main(experiment: ModuleType, args: Sequence[str] | None = None) -> int:
    """Command line of an experiment: its ``Config`` fields and the runner's options."""

    def run(config: Any, options: Options) -> None:
        use_compilation_cache()
        results(experiment, experiment.TINY if options.tiny else config, options, report.console())

    run.__annotations__ = {"config": experiment.Config, "options": Options}
    try:
        tyro.cli(
            run, args=args, description=experiment.__doc__, config=(tyro.conf.OmitArgPrefixes,)
        )
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept; run again to go on", file=sys.stderr)
        return 130
    return 0

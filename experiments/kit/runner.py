"""The runner that all experiments share: command line, resumable cells, results file, figure.

An experiment is a folder whose ``experiment.py`` has a frozen dataclass ``Config``, an instance
``TINY`` of it, and

    run(config, cells) -> rows
    summarise(config, rows) -> summary
    tables(results) -> list of tables                what the terminal and the pages show
    draw(results) -> matplotlib Figure               from the results file alone

and, where it tests a claim, ``claims(results) -> list of claims``, and, where values can be wrong,
``check(config)``, which raises ValueError before anything runs.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import tyro
from rich.console import Console

from experiments.kit import committed
from experiments.kit.cells import Cells
from experiments.kit.shown import footer
from kernlens import files
from kernlens.cli import interrupts
from kernlens.show import report, terminal

INTERRUPTED = "interrupted: finished cells are kept; run again to go on"
PACKAGES = ("kernlens", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, whatever is run."""

    tiny: bool = False
    """Run the few-second version that the tests run."""
    out: Path | None = None
    """Folder for results.json and figure.png; default experiments/<experiment>/results, and
    runs/<experiment>-tiny for --tiny."""
    cells: Path = Path("runs")
    """Folder that keeps finished cells, so that an interrupted run goes on where it stopped."""
    fresh: bool = False
    """Forget finished cells of this configuration first."""


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
    """A short name of a configuration, or of some fields; paths count as where they lead, and files
    by their size and time of change too. A field that came later, in whose metadata stands
    ``later``, counts where it has a value."""
    every = {f.name: f for f in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in (every if fields is None else fields)}
    known = {
        name: _place(value) if isinstance(value, Path) else report.to_json(value)
        for name, value in values.items()
        if value != every[name].default or not every[name].metadata.get("later")
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def _place(path: Path) -> str | list[str | int]:
    if not path.is_file():
        return str(path.resolve())
    return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]


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
            words.append(" ".join([f"--{flag}", *(shlex.quote(str(part)) for part in parts)]))
    return " ".join(words)


def results(experiment: ModuleType, config: Any, options: Options, console: Console) -> Any:
    """Runs the experiment and writes ``results.json`` and ``figure.png``.

    Raises:
      ValueError: a folder that is a file or that another run writes to, or a configuration that the
        experiment refuses; before anything runs.
      OSError: a folder where nothing can be written, also before; or a disk that fills up.
      ImportError: figures cannot be drawn; before anything runs.
    """
    name = committed.name_in_command(experiment)
    default = Path("runs") / f"{name}-tiny" if options.tiny else committed.home_of(name)
    out = options.out or default
    files.check_folder("--out", out)
    files.optional("matplotlib", extra="report")
    if hasattr(experiment, "check"):
        experiment.check(config)
    folder = options.cells / name / fingerprint(config)
    files.check_folder("--cells", folder)
    with _held({"--out": out, "--cells": folder}):
        return _made(experiment, name, config, Cells(folder, console, fresh=options.fresh), out)


@contextlib.contextmanager
def _held(folders: Mapping[str, Path]) -> Iterator[None]:
    """Makes folders, and holds each for this run."""
    with contextlib.ExitStack() as stack:
        seen = set()
        for flag, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            if folder.resolve() not in seen:
                stack.enter_context(files.held(flag, folder))
                files.clean(folder)
            seen.add(folder.resolve())
        yield


def _made(experiment: ModuleType, name: str, config: Any, cells: Cells, out: Path) -> Any:
    """Runs, writes and shows."""
    start, console = time.perf_counter(), cells.console
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
        files.use_compilation_cache()
        results(experiment, config, options, report.console())

    run.__annotations__ = {"config": experiment.Config, "options": Options}
    terminal.any_text()
    try:
        with interrupts.prompt(INTERRUPTED):
            tyro.cli(
                run, args=args, description=experiment.__doc__, config=(tyro.conf.OmitArgPrefixes,)
            )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return interrupts.EXIT
    return 0

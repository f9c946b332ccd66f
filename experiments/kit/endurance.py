"""Experiments that are killed and interrupted at random moments: what is left, and what they say.

    python -m experiments.kit.endurance

Kills a tiny experiment twenty times, resumes it, and compares its files with those of a run that
nobody stopped. Then sends Ctrl-C's signal to the tiny version of every experiment and to the demo.
Writes what it found to ``docs/interrupts.md``.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit import committed
from kernlens import files
from kernlens.show.table import Column, Table

PAGE = committed.HOME.parent / "docs" / "interrupts.md"
EXPERIMENT, KILLS = "prop1_bound", 20
LIMIT = 2.0
"""Seconds from the signal to the end of the process."""

DEMO = ("-m", "kernlens", "demo", "--data", "synthetic", "--label", "class", "--short")


class Kill(NamedTuple):
    """A run that was killed.

    Attributes:
      moment: seconds from its start.
      cells: pieces that were finished by then, of all runs so far.
      aside: files that it was writing, which the next run removes.
    """

    moment: float
    cells: int
    aside: int


class Interrupt(NamedTuple):
    """A run that was sent SIGINT.

    Attributes:
      what: experiment or command.
      moment: seconds from its start to the signal.
      code: exit code; that of a whole run where it ended before the signal.
      took: seconds from the signal to its end.
      error: what it printed as an error.
    """

    what: str
    moment: float
    code: int
    took: float
    error: str


def command_of(name: str, folder: Path) -> list[str]:
    """The command of an experiment's tiny version, its files in a folder."""
    words = ["-m", f"experiments.{name}", "--tiny", "--out", str(folder / "out")]
    return [sys.executable, *words, "--cells", str(folder / "cells")]


def kill_and_resume(
    command: Sequence[str], folder: Path, kills: int, longest: float, rng: np.random.Generator
) -> Iterator[Kill]:
    """Kills runs of a command at random moments, then lets one end.

    A run that ends before its moment starts again from nothing.

    Args:
      command: writes to ``out`` and ``cells`` in the folder.
      folder: where it writes.
      kills: how many.
      longest: latest moment of a kill, in seconds.
      rng: draws the moments.

    Yields:
      Each kill.

    Raises:
      ValueError: a run that nobody killed has failed.
    """
    count = 0
    while count < kills:
        moment = float(rng.uniform(0.0, longest))
        run = _start(command)
        try:
            _, error = run.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            count += 1
            kept = [path.name for path in folder.rglob("*") if path.is_file()]
            aside = sum(name.endswith(".part") for name in kept)
            done = [name for name in kept if re.fullmatch(r"[0-9a-f]{16}\.(json|npz)", name)]
            yield Kill(moment, len(done), aside)
        else:
            _check(run, error)
            shutil.rmtree(folder)
    run = _start(command)
    _check(run, run.communicate()[1])


def interrupt(what: str, command: Sequence[str], moment: float) -> Interrupt:
    """Sends SIGINT to a command after some seconds."""
    run = _start(command)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(moment)
    run.send_signal(signal.SIGINT)  # does nothing to one that has ended
    start = time.monotonic()
    try:
        _, error = run.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        run.kill()
        _, error = run.communicate()
    return Interrupt(what, moment, run.returncode, time.monotonic() - start, error)


def content(out: Path) -> dict[str, bytes]:
    """The files of a run, without the seconds that it took."""
    return {
        path.name: re.sub(rb'^ "seconds": .*$', b"", path.read_bytes(), flags=re.MULTILINE)
        for path in sorted(out.iterdir())
    }


def slowness() -> float:
    """How many times longer than on an idle machine a small process takes, at least 1."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", "pass"], check=True)
    return max(1.0, (time.monotonic() - start) / 0.1)


def _start(command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=committed.HOME.parent, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def _check(run: "subprocess.Popen[str]", error: str) -> None:
    if run.returncode:
        raise ValueError(f"a run that nobody stopped ended with {run.returncode}: {error[-500:]}")


def _killed(folder: Path) -> tuple[Table, str]:
    whole = folder / "whole"
    start = time.monotonic()
    subprocess.run(
        command_of(EXPERIMENT, whole), check=True, stdout=subprocess.DEVNULL,
        cwd=committed.HOME.parent,
    )  # fmt: skip
    longest = time.monotonic() - start
    killed = folder / "killed"
    rng = np.random.default_rng(0)
    rows = []
    for kill in kill_and_resume(command_of(EXPERIMENT, killed), killed, KILLS, longest, rng):
        rows.append({"kill": len(rows) + 1, **kill._asdict()})
        print(rows[-1], flush=True)
    same = content(whole / "out") == content(killed / "out")
    left = sum(path.name.endswith(".part") for path in killed.rglob("*"))
    columns = [
        Column("kill"), Column("moment", "seconds after its start", ".2f"),
        Column("cells", "finished cells kept"), Column("aside", "files half written"),
    ]  # fmt: skip
    names = " and ".join(content(whole / "out"))
    line = (
        f"After {KILLS} kills the resumed run of `{EXPERIMENT}` wrote "
        f"{'the same bytes' if same else 'OTHER BYTES'} as a run of {longest:.0f} s that nobody "
        f"stopped, in {names}, but for the seconds told in results.json. Files half written that "
        f"were left: {left}."
    )
    return Table(rows, columns), line


def _interrupted(folder: Path) -> tuple[Table, str]:
    rng = np.random.default_rng(1)
    rows: list[dict[str, object]] = []
    found = sorted(committed.HOME.rglob("experiment.py"))
    names = [".".join(path.parent.relative_to(committed.HOME).parts) for path in found]
    commands = {name: command_of(name, folder / name) for name in names}
    commands["kernlens demo"] = [sys.executable, *DEMO, "--out", str(folder / "demo")]
    for what, command in commands.items():
        one = interrupt(what, command, float(rng.uniform(0.5, 15.0)))
        rows.append({**one._asdict(), "error": one.error.strip().rpartition("\n")[2]})
        print(rows[-1], flush=True)
    columns = [
        Column("what", "command"), Column("moment", "signal after, s", ".2f"),
        Column("code", "exit code"), Column("took", "ended after, s", ".2f"),
        Column("error", "said"),
    ]  # fmt: skip
    stopped = [row for row in rows if row["code"] == 130]
    slowest = max((float(str(row["took"])) for row in stopped), default=0.0)
    others = ", the others had ended by then" if len(stopped) < len(rows) else ""
    line = (
        f"{len(stopped)} of {len(rows)} commands were interrupted{others}; the slowest ended "
        f"{slowest:.2f} s after the signal."
    )
    return Table(rows, columns), line


def main() -> int:
    """Command line; writes the page."""
    blocks = {}
    with tempfile.TemporaryDirectory() as made:
        for name, part in (("killed", _killed), ("interrupted", _interrupted)):
            table, line = part(Path(made) / name)
            blocks[name] = f"{line}\n\n{table.markdown()}"
    text = PAGE.read_text()
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, b=block: f"{m[1]}\n{b}\n\n{m[2]}", text, flags=re.DOTALL)
    files.write_atomically(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

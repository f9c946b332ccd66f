"""How far a command is, on a terminal: one line on standard error, gone when it is done."""

import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from kernlens.show import steps
from kernlens.show.table import printable

LONGEST = 40
"""Characters of the name of a step."""


@contextlib.contextmanager
def shown(what: str, needs: object = "", *, console: Console | None = None) -> Iterator[None]:
    """Shows what is done inside, the step that is taken, and the time that is left.

    Args:
      what: is done, such as ``reading``.
      needs: what it takes of memory, shown until steps are.
      console: where it is shown; standard error by default. No terminal, nothing shown.
    """
    # Colour that is forced on makes no terminal of a file.
    console = console or Console(file=sys.stderr, force_terminal=sys.stderr.isatty())
    fitted = Column(no_wrap=True, overflow="ellipsis")
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False, table_column=fitted),
        BarColumn(20), _Times(),
        console=console, transient=True, disable=not console.is_terminal, refresh_per_second=4,
    )  # fmt: skip
    with bar:
        task = bar.add_task(f"{what} ({needs})" if str(needs) else what, total=None)

        def listen(open_steps: tuple[steps.Step, ...]) -> None:
            names = [printable(step.name)[:LONGEST] for step in open_steps if step.name]
            done = steps.fraction(open_steps)
            said = ": ".join([what, *names])
            bar.update(task, description=said, total=1.0, completed=done, refresh=True)

        with steps.listening(listen):
            yield


class _Times(ProgressColumn):
    """The time since the start, and what is left at this rate."""

    def render(self, task: Task) -> Text:
        passed = task.elapsed or 0.0
        told = _clock(passed)
        if task.total and 0.0 < task.completed < task.total:  # what comes after has no steps
            told += f", about {_clock(passed * (task.total / task.completed - 1.0))} left"
        return Text(told, style="progress.elapsed")


def _clock(seconds: float) -> str:
    """Seconds as ``0:01:10``."""
    return str(timedelta(seconds=round(seconds)))

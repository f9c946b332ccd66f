"""``kernlens demo``: predicts a small grid of embeddings, then trains on them."""

from kernlens.cli import progress
from kernlens.cli.demo.run import run
from kernlens.cli.options.demo import Demo, Task


def demo(config: Demo, task: Task) -> None:
    """Runs the demo and writes its report.

    Args:
      config: the command line.
      task: its data.

    Raises:
      ValueError, OSError: the folder cannot be used.
    """
    with progress.shown("running the demo"):
        run(config, task)

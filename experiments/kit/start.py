"""The command of an experiment: what `__main__` of its folder runs."""

import importlib

from kernlens.cli import interrupts


def experiment(package: str | None) -> None:
    """Runs an experiment's command line and leaves the process with its exit code.

    It is imported here, so that Ctrl-C ends that too.

    Args:
      package: of the experiment, such as ``experiments.prop1_bound``.
    """

    def run() -> int:
        runner = importlib.import_module("experiments.kit.runner")
        return runner.main(importlib.import_module(f"{package}.experiment"))

    interrupts.leave(run)

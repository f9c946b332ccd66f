"""The command."""

from kernlens.cli import interrupts


def run() -> int:
    """Imports here, so that Ctrl-C ends that too."""
    from experiments.map_reduce import example

    example.main()
    return 0


if __name__ == "__main__":
    interrupts.leave(run)

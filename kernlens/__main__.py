"""The command ``kernlens``, also ``python -m kernlens``."""

from kernlens.cli import interrupts


def main() -> None:
    """Runs the command and leaves the process with its exit code."""

    def run() -> int:
        from kernlens.cli import command

        return command.main()

    interrupts.leave(run)


if __name__ == "__main__":
    main()

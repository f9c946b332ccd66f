"""The command ``kernlens``, also ``python -m kernlens``."""

from kernlens import interrupts


def main() -> None:
    """Runs the command and leaves the process with its exit code."""

    def run() -> int:
        from kernlens import cli

        return cli.main()

    interrupts.leave(run)


if __name__ == "__main__":
    main()

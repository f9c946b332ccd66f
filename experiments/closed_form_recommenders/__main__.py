"""The command."""

from experiments.kit import start

if __name__ == "__main__":
    start.experiment(__package__)

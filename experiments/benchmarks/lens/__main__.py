"""The command."""

import sys

from experiments.benchmarks.lens import experiment
from experiments.kit import runner

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

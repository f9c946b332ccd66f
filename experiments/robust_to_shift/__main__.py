"""The command."""

import sys

from experiments.kit import runner
from experiments.robust_to_shift import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

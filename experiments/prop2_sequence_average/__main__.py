"""The command."""

import sys

from experiments.kit import runner
from experiments.prop2_sequence_average import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

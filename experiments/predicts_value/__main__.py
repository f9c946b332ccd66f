"""The command."""

import sys

from experiments.kit import runner
from experiments.predicts_value import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

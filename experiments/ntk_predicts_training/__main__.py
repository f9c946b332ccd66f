"""The command."""

import sys

from experiments.kit import runner
from experiments.ntk_predicts_training import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

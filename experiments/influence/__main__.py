"""The command."""

import sys

from experiments.influence import experiment
from experiments.kit import runner

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

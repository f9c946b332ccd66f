"""The command."""

import sys

from experiments.kit import runner
from experiments.prop1_entity_score import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

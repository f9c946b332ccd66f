"""The command."""

import sys

from experiments.closed_form_recommenders import experiment
from experiments.kit import runner

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

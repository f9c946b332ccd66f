"""The command."""

import sys

from experiments.joint_embeddings import experiment
from experiments.kit import runner

if __name__ == "__main__":
    sys.exit(runner.main(experiment))
